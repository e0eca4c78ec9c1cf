# SPDX-License-Identifier: MIT
"""What the sample applications share: the pages are the same, whatever framework makes them."""

import asyncio
import hashlib
import os
import pathlib

FOLDER = pathlib.Path(__file__).parent / "public"
PIECES = [f"piece {number}\n" for number in range(20)]
EVENTS = [f"id: {number}\ndata: event {number}\n\n" for number in range(5)]


class Happenings:
    """What has happened in the process that no response tells.

    Attributes:
        started: the application's start has run.
        done: what background tasks have left.
        gone: the endless stream has ended with its client.
    """

    def __init__(self):
        self.started = False
        self.done = []
        self.gone = asyncio.Event()

    def start(self):
        if os.environ.get("FAILS_TO_START"):
            raise RuntimeError("no database")
        self.started = True
        print("started", flush=True)

    def end(self):
        print("ended", flush=True)

    async def work(self, text):
        """A background task."""
        await asyncio.sleep(0)
        self.done.append(text)

    def tell(self):
        return {"started": self.started, "done": self.done}


async def pieces():
    for piece in PIECES:
        yield piece.encode()
        await asyncio.sleep(0)


async def events():
    for event in EVENTS:
        yield event.encode()
        await asyncio.sleep(0)


async def endless(happenings):
    try:
        while True:
            yield b"x" * 10_000
            await asyncio.sleep(0)
    finally:
        happenings.gone.set()


def item(number, words):
    return {"id": number, "words": words}


class Count:
    """The size and the digest of what comes in pieces."""

    def __init__(self):
        self._bytes = 0
        self._digest = hashlib.sha256()

    def add(self, piece):
        self._bytes += len(piece)
        self._digest.update(piece)

    def __str__(self):
        return f"{self._bytes} {self._digest.hexdigest()}"


def count_of_file(file):
    """Of an open file."""
    count = Count()
    while piece := file.read(1 << 20):
        count.add(piece)
    return str(count)
