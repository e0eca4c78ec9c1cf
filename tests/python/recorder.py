# SPDX-License-Identifier: MIT
"""Protocols that note every callback, and the connections the transport tests put them on."""

import asyncio
import contextlib
import socket

LOOPBACK = "127.0.0.1"


class Recorder(asyncio.Protocol):
    """Notes the callbacks in order; `until` waits for a state instead of for a time.

    A callback in `reactions` is called with the recorder after its event was noted, so that a test says
    what the protocol does there without a class of its own.
    """

    def __init__(self, **reactions):
        self.events = []
        self.data = bytearray()
        self.transport = None
        self.lost_with = None
        self.reactions = reactions
        self._waiting = []

    def _note(self, event):
        self.events.append(event)
        try:
            reaction = self.reactions.get(event)
            return reaction(self) if reaction is not None else None
        finally:
            self._tell()

    def _tell(self):
        for predicate, waiter in self._waiting[:]:
            if not waiter.done() and predicate(self):
                waiter.set_result(None)

    async def until(self, predicate):
        """Waits until `predicate(self)` is true after some callback."""
        if predicate(self):
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append((predicate, waiter))
        try:
            await waiter
        finally:
            self._waiting.remove((predicate, waiter))

    async def until_event(self, event, count=1):
        await self.until(lambda recorder: recorder.events.count(event) >= count)

    async def until_bytes(self, count):
        await self.until(lambda recorder: len(recorder.data) >= count)

    @property
    def is_lost(self):
        return "connection_lost" in self.events

    def connection_made(self, transport):
        self.transport = transport
        self._note("connection_made")

    def data_received(self, data):
        assert type(data) is bytes
        self.data += data
        self._note("data_received")

    def eof_received(self):
        return self._note("eof_received")

    def connection_lost(self, exc):
        self.lost_with = exc
        self._note("connection_lost")

    def pause_writing(self):
        self._note("pause_writing")

    def resume_writing(self):
        self._note("resume_writing")


class BufferedRecorder(Recorder, asyncio.BufferedProtocol):
    """The same for a protocol that brings its own buffer; `data_received` is never called on it."""

    def __init__(self, size=4096, **reactions):
        super().__init__(**reactions)
        self.buffer = bytearray(size)
        self.hints = []

    def data_received(self, data):
        raise AssertionError("data_received() called on a BufferedProtocol")

    def get_buffer(self, sizehint):
        self.hints.append(sizehint)
        replaced = self._note("get_buffer")
        return self.buffer if replaced is None else replaced

    def buffer_updated(self, nbytes):
        self.data += memoryview(self.buffer)[:nbytes]
        self._note("buffer_updated")


def nonblocking_socket(family=socket.AF_INET):
    sock = socket.socket(family)
    sock.setblocking(False)
    return sock


async def turns(count=5):
    for _ in range(count):
        await asyncio.sleep(0)


def tcp_sockets():
    """Two connected non-blocking TCP sockets, not yet anybody's to close."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        left = socket.create_connection(listener.getsockname())
        right = listener.accept()[0]
    left.setblocking(False)
    right.setblocking(False)
    right.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return left, right


@contextlib.contextmanager
def tcp_pair():
    """Two connected non-blocking TCP sockets, which the program keeps: a transport on one shares it."""
    left, right = tcp_sockets()
    with left, right:
        yield left, right


@contextlib.asynccontextmanager
async def attached(protocol=None):
    """(transport, protocol, peer): a protocol on one end of a TCP connection, a plain socket on the other.

    The transport has its socket to itself, as one of create_server() or create_connection(host, port) has.
    """
    protocol = Recorder() if protocol is None else protocol
    left, right = tcp_sockets()
    with right:
        transport, _ = await asyncio.get_running_loop().create_connection(lambda: protocol, sock=left)
        del left
        try:
            yield transport, protocol, right
        finally:
            # asyncio's abort() fails on a transport that has sent its last bytes and is gone.
            if "connection_lost" not in protocol.events:
                transport.abort()
                await protocol.until_event("connection_lost")


async def accept_one(loop, server_protocol, client_protocol):
    """A client and a server transport joined through create_server and create_connection."""
    server = await loop.create_server(lambda: server_protocol, LOOPBACK, 0)
    await loop.create_connection(lambda: client_protocol, *server.sockets[0].getsockname())
    await server_protocol.until_event("connection_made")
    return server


async def receive(peer, count):
    """Exactly `count` bytes from a socket."""
    loop = asyncio.get_running_loop()
    received = bytearray()
    while len(received) < count:
        chunk = await loop.sock_recv(peer, min(count - len(received), 1 << 20))
        if not chunk:
            raise EOFError(f"end after {len(received)} of {count} bytes")
        received += chunk
    return bytes(received)


async def receive_all(peer):
    """Everything up to the end of the stream."""
    loop = asyncio.get_running_loop()
    received = bytearray()
    while chunk := await loop.sock_recv(peer, 1 << 20):
        received += chunk
    return bytes(received)


def reset(peer):
    """Closes a socket so that the other end sees a reset."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    peer.close()


def fill(transport, chunk=bytes(1 << 20)):
    """Writes until the kernel takes no more; returns the bytes written."""
    written = 0
    while not transport.get_write_buffer_size():
        transport.write(chunk)
        written += len(chunk)
    return written
