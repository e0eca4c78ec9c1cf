# SPDX-License-Identifier: MIT
"""A datagram protocol that notes every callback, and the endpoints the datagram tests put it on."""

import asyncio
import contextlib
import socket

from recorder import LOOPBACK, Recorder


class DatagramRecorder(Recorder, asyncio.DatagramProtocol):
    """Recorder of a datagram endpoint: `received` holds (data, address) pairs, `errors` what error_received() got."""

    def __init__(self, **reactions):
        super().__init__(**reactions)
        self.received = []
        self.errors = []

    def datagram_received(self, data, addr):
        self.received.append((data, addr))
        self._note("datagram_received")

    def error_received(self, exc):
        self.errors.append(exc)
        self._note("error_received")

    @property
    def payloads(self):
        return [data for data, _ in self.received]

    async def until_received(self, count):
        await self.until(lambda recorder: len(recorder.received) >= count)

    async def until_error(self, count=1):
        await self.until(lambda recorder: len(recorder.errors) >= count)


@contextlib.asynccontextmanager
async def endpoint(protocol=None, **options):
    """(transport, protocol) of an endpoint that is gone at the end; bound to the loopback address unless said."""
    protocol = DatagramRecorder() if protocol is None else protocol
    if not options:
        options = {"local_addr": (LOOPBACK, 0)}
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: protocol, **options)
    try:
        yield transport, protocol
    finally:
        if "connection_lost" not in protocol.events:
            transport.abort()
            await protocol.until_event("connection_lost")


@contextlib.contextmanager
def bound_socket(address=(LOOPBACK, 0), family=socket.AF_INET):
    """A plain non-blocking datagram socket with a name."""
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.bind(address)
        yield sock


def unused_address():
    """An address of the loopback interface where nobody listens."""
    with bound_socket() as sock:
        return sock.getsockname()


def fill(transport, chunk=b"x" * 1000, limit=100_000):
    """Sends until a datagram is queued; returns how many were sent, the queued one included."""
    for count in range(1, limit):
        transport.sendto(chunk)
        if transport.get_write_buffer_size():
            return count
    raise AssertionError("the kernel takes everything")


def drain(sock):
    """Every datagram that waits on a plain socket."""
    datagrams = []
    with contextlib.suppress(BlockingIOError):
        while True:
            datagrams.append(sock.recv(1 << 16))
    return datagrams
