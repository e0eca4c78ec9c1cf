# SPDX-License-Identifier: MIT
"""environ["wsgi.input"]: a request's body, read by a thread while it comes in on the loop."""

import asyncio
from collections.abc import Iterator

from .application import Receive, Scope


class BodyReader:
    """The input stream of PEP 3333. Ends with the body, whatever its framing.

    Only what is read is asked for: a client that sends faster than the application reads is slowed down by TCP.

    Args:
        receive: ASGI's, awaited on the loop.
        loop: the loop.
    """

    def __init__(self, receive: Receive, loop: asyncio.AbstractEventLoop) -> None:
        self._receive = receive
        self._loop = loop
        self._buffer = bytearray()
        self._is_whole = False  # True exactly when nothing comes after the buffer

    async def prefetch(self, scope: Scope) -> None:
        """On the loop, before the thread begins: take what has come with the request's head, so that no thread asks for it."""
        if any(name in (b"content-length", b"transfer-encoding") for name, _ in scope["headers"]):
            await self._take()
        else:
            self._is_whole = True

    def read(self, size: int | None = -1) -> bytes:
        """Read at most `size` bytes, fewer only at the end; all of them without a size.

        Raises:
            OSError: the client has gone before the end of the body.
        """
        wanted = None if size is None or size < 0 else size
        while not self._is_whole and (wanted is None or len(self._buffer) < wanted):
            self._fill()
        return self._cut(len(self._buffer) if wanted is None else wanted)

    def readline(self, size: int | None = -1) -> bytes:
        """Read a line with its end, or at most `size` bytes of it.

        Raises:
            OSError: the client has gone before the end of the body.
        """
        wanted = None if size is None or size < 0 else size
        searched = 0
        while (end := self._buffer.find(b"\n", searched) + 1) == 0:
            searched = len(self._buffer)
            if self._is_whole or (wanted is not None and searched >= wanted):
                end = searched
                break
            self._fill()
        return self._cut(end if wanted is None else min(end, wanted))

    def readlines(self, hint: int | None = -1) -> list[bytes]:
        """Read lines until they are `hint` bytes together, all of them without a hint.

        Raises:
            OSError: the client has gone before the end of the body.
        """
        lines = []
        count = 0
        for line in self:
            lines.append(line)
            count += len(line)
            if hint is not None and 0 < hint <= count:
                break
        return lines

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")

    def _cut(self, size: int) -> bytes:
        cut = bytes(self._buffer[:size])
        del self._buffer[:size]
        return cut

    def _fill(self) -> None:
        asyncio.run_coroutine_threadsafe(self._take(), self._loop).result()

    async def _take(self) -> None:
        message = await self._receive()
        if message["type"] != "http.request":
            raise ConnectionResetError("the client has gone before the end of the request's body")
        self._buffer += message.get("body", b"")
        self._is_whole = not message.get("more_body", False)
