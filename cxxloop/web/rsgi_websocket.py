# SPDX-License-Identifier: MIT
"""The protocol object of an RSGI WebSocket."""

import dataclasses
import enum

from .application import Message, Receive, Scope
from .rsgi_outbox import Outbox, ProtocolClosed, ProtocolError

# Close codes that an application may send (RFC 6455, 7.4).
_CLOSE_CODES = range(1000, 5000)
_REJECTION_STATUSES = range(200, 600)


class WebsocketMessageType(enum.IntEnum):
    """What a WebSocket's client has sent."""

    close = 0
    bytes = 1
    string = 2


@dataclasses.dataclass(frozen=True, slots=True)
class WebsocketMessage:
    """A message of a client; data is None if it has gone."""

    kind: WebsocketMessageType
    data: bytes | str | None


class _State(enum.Enum):
    """connecting -> open -> closed; connecting -> closed."""

    CONNECTING = enum.auto()
    OPEN = enum.auto()
    CLOSED = enum.auto()


class WebsocketTransport:
    """Messages of a WebSocket that has been accepted."""

    def __init__(self, protocol: "WebsocketProtocol") -> None:
        self._protocol = protocol

    async def receive(self) -> WebsocketMessage:
        """The next message; the last one is of the kind `close`, whatever has ended the connection.

        Raises:
            ProtocolClosed: the client had gone before.
        """
        return await self._protocol._receive_message()

    async def send_bytes(self, data: bytes) -> None:
        """Send bytes; waits while the client is behind.

        Raises:
            ProtocolClosed: the client has gone.
            ProtocolError: close() was called.
        """
        await self._protocol._send_message({"type": "websocket.send", "bytes": data})

    async def send_str(self, data: str) -> None:
        """As send_bytes(), of text."""
        await self._protocol._send_message({"type": "websocket.send", "text": data})


class WebsocketProtocol:
    """Accepts or rejects a WebSocket, and closes it."""

    def __init__(self, scope: Scope, receive: Receive, outbox: Outbox) -> None:
        self._scope = scope
        self._receive = receive
        self._outbox = outbox
        self._state = _State.CONNECTING
        self._is_disconnected = False

    async def accept(self) -> WebsocketTransport:
        """Accept the WebSocket.

        Raises:
            ProtocolClosed: the client has gone.
            ProtocolError: it has been accepted or rejected already.
        """
        if self._state is not _State.CONNECTING:
            raise ProtocolError("the WebSocket was accepted or rejected before")
        self._state = _State.OPEN
        await self._receive()
        await self._outbox.send({"type": "websocket.accept"})
        return WebsocketTransport(self)

    def close(self, status: int | None = None) -> None:
        """End the WebSocket. A second call, or one after the client has gone, does nothing.

        Args:
            status: before accept(), that of the HTTP response, 403 unless told; after it, a close code, 1000 unless told.
        """
        state, self._state = self._state, _State.CLOSED
        if state is _State.OPEN and not self._is_disconnected:
            self._outbox.put({"type": "websocket.close", "code": status if status in _CLOSE_CODES else 1000})
        elif state is _State.CONNECTING and status in _REJECTION_STATUSES:
            start: Message = {"type": "websocket.http.response.start", "status": status, "headers": []}
            self._outbox.put(start, {"type": "websocket.http.response.body", "body": b""})
        elif state is _State.CONNECTING:
            self._outbox.put({"type": "websocket.close"})

    def end(self) -> None:
        """The application has returned."""
        if self._state is _State.OPEN:
            self.close()

    async def _receive_message(self) -> WebsocketMessage:
        if self._is_disconnected:
            raise ProtocolClosed("the client has gone")
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            self._is_disconnected = True
            return WebsocketMessage(WebsocketMessageType.close, None)
        if message.get("bytes") is not None:
            return WebsocketMessage(WebsocketMessageType.bytes, message["bytes"])
        return WebsocketMessage(WebsocketMessageType.string, message["text"])

    async def _send_message(self, message: Message) -> None:
        if self._state is _State.CLOSED:
            raise ProtocolError("close() was called")
        await self._outbox.send(message)
