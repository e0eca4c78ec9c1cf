# SPDX-License-Identifier: MIT
"""The protocol object of an RSGI request: its body and its response."""

import asyncio
import functools
import logging
from collections import deque
from collections.abc import AsyncIterator, Iterable

from .application import Message, Receive, Scope, Send
from .conditional import Part
from .file_response import refuse, send_part
from .folder import open_file
from .rsgi_outbox import Entry, Outbox, ProtocolClosed, ProtocolError

HeaderFields = Iterable[tuple[str, str]]

# What client_disconnect() keeps of a body that the application has not read yet.
_KEPT_BYTES_MAX = 64 * 1024

_logger = logging.getLogger("cxxloop.error")


class HTTPStreamTransport:
    """Sends the body of a response in pieces. It ends when the application returns."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    async def send_bytes(self, data: bytes) -> None:
        """Send a piece; waits while the client is behind.

        Raises:
            ProtocolClosed: the client has gone.
        """
        await self._outbox.send({"type": "http.response.body", "body": data, "more_body": True})

    async def send_str(self, data: str) -> None:
        """As send_bytes(), of text in UTF-8."""
        await self.send_bytes(data.encode())


class HTTPProtocol:
    """A request's body, read by `await protocol()` or `async for`, and its response, which a plain function gives once.

    Each response function takes the status and the headers as tuples of two texts. They raise ProtocolError if there is a
    response already.
    """

    def __init__(self, scope: Scope, receive: Receive, outbox: Outbox) -> None:
        self._scope = scope
        self._receive = receive
        self._outbox = outbox
        self._pieces: deque[bytes] = deque()  # received, and not read yet
        self._receiving = asyncio.Lock()
        self._event_count = 0
        self._was_read = asyncio.Event()
        self._is_taken = False  # True exactly when the application has begun to read
        self._is_whole = False  # True exactly when the end of the body has been received
        self._is_disconnected = False
        self._has_response = False
        self._is_stream = False

    async def __call__(self) -> bytes:
        """Read the whole body.

        Raises:
            ProtocolError: it has been read before.
            ProtocolClosed: the client has gone before its end.
        """
        return b"".join([piece async for piece in self])

    def __aiter__(self) -> AsyncIterator[bytes]:
        if self._is_taken:
            raise ProtocolError("the body has been read before")
        self._is_taken = True
        return self._read()

    async def _read(self) -> AsyncIterator[bytes]:
        while True:
            if self._pieces:
                piece = self._pieces.popleft()
                self._was_read.set()
                yield piece
            elif self._is_whole:
                return
            elif self._is_disconnected:
                raise ProtocolClosed("the client has gone")
            else:
                await self._take_event()

    async def _take_event(self) -> None:
        count = self._event_count
        async with self._receiving:
            if self._event_count != count:  # somebody else has taken one: look at that first
                return
            message = await self._receive()
            self._event_count += 1
        self._is_disconnected = message["type"] == "http.disconnect"
        if not self._is_disconnected:
            self._is_whole = not message.get("more_body", False)
            if message.get("body"):
                self._pieces.append(message["body"])

    async def client_disconnect(self) -> None:
        """Wait until the client has gone, or the response is complete.

        A client that still sends a body of more than 64 KiB is noticed only as the application reads.
        """
        while not self._is_disconnected:
            if not self._is_whole and sum(map(len, self._pieces)) >= _KEPT_BYTES_MAX:
                self._was_read.clear()
                await self._was_read.wait()
            else:
                await self._take_event()

    def response_empty(self, status: int = 200, headers: HeaderFields = ()) -> None:
        """Answer without a body."""
        self.response_bytes(status, headers, b"")

    def response_str(self, status: int = 200, headers: HeaderFields = (), body: str = "") -> None:
        """Answer with text in UTF-8."""
        self.response_bytes(status, headers, body.encode())

    def response_bytes(self, status: int = 200, headers: HeaderFields = (), body: bytes = b"") -> None:
        """Answer with bytes."""
        self._respond(self._make_start(status, headers), {"type": "http.response.body", "body": body})

    def response_file(self, status: int, headers: HeaderFields, file: str) -> None:
        """Answer with the file at a path; if there is none, with 404."""
        self._respond(functools.partial(self._send_file, self._make_start(status, headers), file, 0, None))

    def response_file_range(self, status: int, headers: HeaderFields, file: str, start: int, end: int) -> None:
        """Answer with bytes of a file, from `start` on, before `end`.

        Raises:
            ValueError: they are none.
        """
        if not 0 <= start < end:
            raise ValueError(f"no range of a file: {start} to {end}")
        self._respond(functools.partial(self._send_file, self._make_start(status, headers), file, start, end))

    def response_stream(self, status: int = 200, headers: HeaderFields = ()) -> HTTPStreamTransport:
        """Begin a response whose body is sent in pieces."""
        self._respond(self._make_start(status, headers))
        self._is_stream = True
        return HTTPStreamTransport(self._outbox)

    def end(self) -> None:
        """The application has returned."""
        if self._is_stream:
            self._outbox.put({"type": "http.response.body", "body": b""})

    def _make_start(self, status: int, headers: HeaderFields) -> Message:
        fields = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        return {"type": "http.response.start", "status": status, "headers": fields}

    def _respond(self, *entries: Entry) -> None:
        if self._has_response:
            raise ProtocolError("there is a response already")
        self._outbox.put(*entries)
        self._has_response = True

    async def _send_file(self, message: Message, path: str, start: int, end: int | None, send: Send) -> None:
        is_head = self._scope["method"] == "HEAD"
        try:
            file = await asyncio.get_running_loop().run_in_executor(None, open_file, path)
        except (FileNotFoundError, IsADirectoryError):
            _logger.warning("An RSGI application has answered with a file that is not there: %r", path)
            await refuse(send, 404, "Not Found", is_head=is_head)
            return
        size = max(0, (file.size if end is None else min(end, file.size)) - start)
        if not any(name == b"content-length" for name, _ in message["headers"]):
            message["headers"].append((b"content-length", b"%d" % size))
        if size and not is_head:
            await send_part(self._scope, self._receive, send, message, file, Part(start, size))
        else:
            await send(message)
            await send({"type": "http.response.body", "body": b""})
