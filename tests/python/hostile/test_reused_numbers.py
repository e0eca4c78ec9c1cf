# SPDX-License-Identifier: MIT
"""A socket is closed behind its transport's back, and its number belongs to somebody else, who is served."""

import asyncio
import errno
import socket

import pytest

from recorder import Recorder, receive

BYTES = 1_000_000

# Its selector goes by the number alone, which the kernel has forgotten with the socket.
pytestmark = pytest.mark.cxxloop_only("asyncio raises FileNotFoundError, or calls nobody and says nothing")


class Succession:
    """`ours` has the number of a transport that was still sending; `peer` is connected to it."""

    def __init__(self, protocol, *, closing):
        self.protocol = protocol
        self.closing = closing

    async def __aenter__(self):
        former, self.former_peer = socket.socketpair()
        former.setblocking(False)
        loop = asyncio.get_running_loop()
        self.former, _ = await loop.create_connection(lambda: self.protocol, sock=former)
        self.former.write(b"x" * BYTES)
        if self.closing:
            self.former.close()
        await asyncio.sleep(0)
        fd = former.fileno()
        former.close()
        self.ours, self.peer = socket.socketpair()
        assert self.ours.fileno() == fd
        self.ours.setblocking(False)
        self.peer.setblocking(False)
        return self

    async def __aexit__(self, *_):
        await self.protocol.until_event("connection_lost")
        assert self.protocol.lost_with.errno == errno.EBADF
        for sock in (self.former_peer, self.ours, self.peer):
            sock.close()


@pytest.mark.parametrize("method", ["add_reader", "add_writer"])
def test_watcher_is_called(run, loop, method):
    async def main():
        async with Succession(Recorder(), closing=True) as after:
            called = loop.create_future()
            getattr(loop, method)(after.ours, lambda: called.done() or called.set_result(None))
            after.peer.send(b"x")
            await called
            loop.remove_reader(after.ours)
            loop.remove_writer(after.ours)

    run(main())


def test_connection_sends_and_receives(run, loop):
    async def main():
        async with Succession(Recorder(), closing=True) as after:
            protocol = Recorder()
            transport, _ = await loop.create_connection(lambda: protocol, sock=after.ours)
            transport.write(b"y" * BYTES)
            assert transport.get_write_buffer_size() > 0
            assert await receive(after.peer, BYTES) == b"y" * BYTES
            after.peer.send(b"answer")
            await protocol.until_bytes(6)
            transport.abort()
            await protocol.until_event("connection_lost")

    run(main())


def test_accepted_connection_sends_and_receives(run, loop):
    async def main():
        served = Recorder(connection_made=lambda protocol: protocol.transport.write(b"y" * BYTES))
        server = await loop.create_server(lambda: served, "127.0.0.1", 0)
        async with Succession(Recorder(), closing=False) as after:
            fd = after.ours.fileno()
            client = socket.socket()
            client.setblocking(False)
            after.ours.close()
            await loop.sock_connect(client, server.sockets[0].getsockname())
            await served.until_event("connection_made")
            assert served.transport.get_extra_info("socket").fileno() == fd
            assert await receive(client, BYTES) == b"y" * BYTES
            client.send(b"answer")
            await served.until_bytes(6)
            client.close()
            served.transport.abort()
            await served.until_event("connection_lost")
        server.close()

    run(main())
