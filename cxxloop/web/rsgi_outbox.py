# SPDX-License-Identifier: MIT
"""Sends for an RSGI application, whose functions do not wait, by ASGI's send(), which does."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from .application import Message, Send

# A message, or what sends several.
Entry = Message | Callable[[Send], Awaitable[None]]


class ProtocolError(RuntimeError):
    """The application has broken the protocol: a second response, a body that is read twice, a message after close()."""


class ProtocolClosed(RuntimeError):
    """The client has gone."""


class Outbox:
    """What plain functions have sent: it leaves in order, from the next turn of the loop on at the latest."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._entries: deque[Entry] = deque()
        self._turn = asyncio.Lock()
        self._handle: asyncio.Handle | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False

    def put(self, *entries: Entry) -> None:
        """Send messages, or call what sends several."""
        if self._is_closed:
            raise ProtocolError("the application has returned")
        self._entries.extend(entries)
        if self._handle is None:
            self._handle = asyncio.get_running_loop().call_soon(self._start)

    async def send(self, message: Message) -> None:
        """Send a message after those that were put before."""
        if self._is_closed:
            raise ProtocolError("the application has returned")
        try:
            async with self._turn:
                await self._drain()
                await self._send(message)
        except OSError as error:
            raise ProtocolClosed("the client has gone") from error

    async def flush(self) -> None:
        """Send all that was put."""
        if self._handle is not None:
            self._handle.cancel()
        if self._task is not None:
            await self._task  # raises what it has met
        await self._drain_in_turn()

    def close(self) -> None:
        """Send no more."""
        self._is_closed = True
        if self._handle is not None:
            self._handle.cancel()
        if self._task is not None:
            self._task.cancel()

    def _start(self) -> None:
        # The application goes on after its response, which must not wait until it returns.
        self._handle = None
        if self._task is None or (self._task.done() and self._task.exception() is None):
            self._task = asyncio.get_running_loop().create_task(self._drain_in_turn())

    async def _drain_in_turn(self) -> None:
        async with self._turn:
            await self._drain()

    async def _drain(self) -> None:
        while self._entries:
            entry = self._entries[0]  # stays the first one if this is cancelled
            await (entry(self._send) if callable(entry) else self._send(entry))
            self._entries.popleft()
