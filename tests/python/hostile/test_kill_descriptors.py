# SPDX-License-Identifier: MIT
"""Sockets closed by a thread behind the loop's back, their numbers used again at once by a stranger.

No byte may reach the stranger, none of its bytes may be read, and nothing of it may be shut down or closed. A duplicate
of the closed descriptor keeps the kernel telling its events under the old number: then the loop meets the stranger.
"""

import asyncio
import contextlib
import errno
import functools
import os
import socket
import time

import pytest
from datagram_recorder import DatagramRecorder, bound_socket
from datagram_recorder import fill as fill_queue
from recorder import LOOPBACK, Recorder, attached, fill, tcp_pair, turns

SECRET = b"for the stranger alone"


def move_to(fd, sock):
    """The same socket under another number."""
    assert sock.fileno() != fd
    os.dup2(sock.fileno(), fd, inheritable=False)
    sock.close()
    return socket.socket(fileno=fd)


def drain(sock):
    with contextlib.suppress(BlockingIOError):
        while sock.recv(1 << 20):
            pass


class Stranger:
    """One end of a connection that takes over the number of a closed socket; bytes wait for it from the start."""

    def __init__(self, kind=socket.SOCK_STREAM):
        self.end, self.peer = socket.socketpair(socket.AF_UNIX, kind)
        self.end.setblocking(False)
        self.peer.setblocking(False)
        self.peer.send(SECRET)
        self.duplicates = []

    def take_number_of(self, sock, *, keep_events):
        if keep_events:
            self.duplicates.append(sock.dup())
        fd = sock.fileno()
        sock.close()
        self.end = move_to(fd, self.end)
        self.end.setblocking(False)

    async def take_number_while_the_loop_sleeps(self, sock, *, keep_events):
        def take():
            time.sleep(0.02)
            self.take_number_of(sock, keep_events=keep_events)

        # Until the next poll the kernel does not know of a new watch, and would take the stranger for what is watched.
        await asyncio.sleep(0.001)
        await asyncio.get_running_loop().run_in_executor(None, take)

    def assert_untouched(self):
        assert self.end.recv(100) == SECRET
        with pytest.raises(BlockingIOError):
            self.peer.recv(100)  # neither bytes nor the end
        self.end.send(b"alive")
        assert self.peer.recv(100) == b"alive"

    def close(self):
        for sock in (self.end, self.peer, *self.duplicates):
            sock.close()


@pytest.fixture
def stranger(request):
    stranger = Stranger(getattr(request, "param", socket.SOCK_STREAM))
    yield stranger
    stranger.close()


def is_closed_number(error):
    return isinstance(error, OSError) and error.errno == errno.EBADF


# Stream transports


def test_transport_that_reads(run, reported, stranger):
    async def main():
        async with attached() as (transport, protocol, peer):
            await stranger.take_number_while_the_loop_sleeps(protocol_socket(transport), keep_events=True)
            peer.send(b"an event for the old number")
            await protocol.until_event("connection_lost")
            assert is_closed_number(protocol.lost_with)
            assert not protocol.data
            stranger.assert_untouched()

    run(main())
    assert reported == []


def protocol_socket(transport):
    """The socket object of a transport, as a thread that closes it would have it."""
    return transport.get_extra_info("socket")._sock


def test_transport_nobody_tells(run, reported, stranger):
    """Without a duplicate the kernel forgets the descriptor: the next write meets the error."""

    async def main():
        async with attached() as (transport, protocol, _):
            await stranger.take_number_while_the_loop_sleeps(protocol_socket(transport), keep_events=False)
            transport.write(b"to nobody")
            await protocol.until_event("connection_lost")
            assert is_closed_number(protocol.lost_with)
            stranger.assert_untouched()

    run(main())
    assert reported == []


async def fail_a_waiting_write(stranger, *, reading):
    async with attached() as (transport, protocol, peer):
        if not reading:
            transport.pause_reading()
        fill(transport)
        await stranger.take_number_while_the_loop_sleeps(protocol_socket(transport), keep_events=True)
        drain(peer)  # there is room again
        await protocol.until_event("connection_lost")
        assert is_closed_number(protocol.lost_with)
        stranger.assert_untouched()


async def abort_a_waiting_write(stranger, *, reading):
    async with attached() as (transport, protocol, _):
        if not reading:
            transport.pause_reading()
        fill(transport)
        await stranger.take_number_while_the_loop_sleeps(protocol_socket(transport), keep_events=False)
        transport.write(b"queued as well")
        transport.abort()
        await protocol.until_event("connection_lost")
        assert protocol.lost_with is None
        stranger.assert_untouched()


@pytest.mark.parametrize("scenario", [fail_a_waiting_write, abort_a_waiting_write])
def test_transport_with_queued_writes(run, reported, stranger, scenario):
    run(scenario(stranger, reading=False))
    assert reported == []


@pytest.mark.cxxloop_only("asyncio goes on watching for reads, which epoll_ctl() refuses: the connection never ends")
@pytest.mark.parametrize("scenario", [fail_a_waiting_write, abort_a_waiting_write])
def test_transport_with_queued_writes_that_reads(run, reported, stranger, scenario):
    run(scenario(stranger, reading=True))
    assert reported == []


def test_write_eof_of_a_transport(run, stranger):
    async def main():
        async with attached() as (transport, protocol, _):
            await stranger.take_number_while_the_loop_sleeps(protocol_socket(transport), keep_events=False)
            with pytest.raises(OSError) as info:
                transport.write_eof()
            assert is_closed_number(info.value)
            transport.close()
            await protocol.until_event("connection_lost")
            stranger.assert_untouched()

    run(main())


def test_pausing_and_resuming_a_transport(run, stranger):
    async def main():
        async with attached() as (transport, protocol, peer):
            transport.pause_reading()
            await stranger.take_number_while_the_loop_sleeps(protocol_socket(transport), keep_events=False)
            transport.resume_reading()  # watches the stranger, which has bytes
            await protocol.until_event("connection_lost")
            assert is_closed_number(protocol.lost_with)
            stranger.assert_untouched()

    run(main())


def test_closing_a_transport(run, stranger):
    async def main():
        async with attached() as (transport, protocol, _):
            await stranger.take_number_while_the_loop_sleeps(protocol_socket(transport), keep_events=False)
            transport.close()
            await protocol.until_event("connection_lost")
            assert protocol.lost_with is None
            stranger.assert_untouched()

    run(main())


def test_protocol_that_closes_its_socket_in_a_callback(run, stranger):
    """No thread, no sleep: the number changes hands between the read and the answer."""

    def swap_and_answer(recorder):
        stranger.take_number_of(protocol_socket(recorder.transport), keep_events=False)
        recorder.transport.write(b"answer")

    async def main():
        async with attached(Recorder(data_received=swap_and_answer)) as (_, protocol, peer):
            peer.send(b"question")
            await protocol.until_event("connection_lost")
            assert is_closed_number(protocol.lost_with)
            stranger.assert_untouched()

    run(main())


@pytest.mark.parametrize("deed", ["read", "write"])
def test_tls_transport(loop, run, reported, stranger, tls_contexts, deed):
    server_context, client_context = tls_contexts

    async def main():
        served = Recorder()
        server = await loop.create_server(lambda: served, LOOPBACK, 0, ssl=server_context)
        transport, client = await loop.create_connection(
            Recorder, *server.sockets[0].getsockname(), ssl=client_context, server_hostname="localhost"
        )
        await served.until_event("connection_made")
        await stranger.take_number_while_the_loop_sleeps(protocol_socket(transport), keep_events=deed == "read")
        if deed == "read":
            served.transport.write(b"an event for the old number")
        else:
            transport.write(b"to nobody")
        await client.until_event("connection_lost")
        assert is_closed_number(client.lost_with)
        stranger.assert_untouched()
        served.transport.abort()
        await served.until_event("connection_lost")
        server.close()
        await server.wait_closed()

    run(main())
    assert reported == []


# Datagram endpoints


@contextlib.asynccontextmanager
async def datagram_pair(**reactions):
    loop = asyncio.get_running_loop()
    with bound_socket() as peer:
        protocol = DatagramRecorder(**reactions)
        transport, _ = await loop.create_datagram_endpoint(lambda: protocol, remote_addr=peer.getsockname())
        peer.connect(transport.get_extra_info("sockname"))
        yield transport, protocol, peer
        transport.abort()
        await protocol.until_event("connection_lost")


@pytest.mark.parametrize("stranger", [socket.SOCK_DGRAM], indirect=True)
def test_datagram_endpoint_that_receives(run, stranger):
    async def main():
        async with datagram_pair(error_received=lambda recorder: recorder.transport.close()) as (transport, protocol, peer):
            await stranger.take_number_while_the_loop_sleeps(protocol_socket(transport), keep_events=True)
            peer.send(b"an event for the old number")
            await protocol.until_error()
            assert is_closed_number(protocol.errors[0])
            assert protocol.received == []
            stranger.assert_untouched()

    run(main())


@pytest.mark.parametrize("stranger", [socket.SOCK_DGRAM], indirect=True)
def test_datagram_endpoint_that_sends(run, stranger):
    async def main():
        async with datagram_pair() as (transport, protocol, _):
            await stranger.take_number_while_the_loop_sleeps(protocol_socket(transport), keep_events=False)
            transport.sendto(b"to nobody")
            assert is_closed_number(protocol.errors[0])
            transport.sendto(bytearray(b"to nobody"))
            assert is_closed_number(protocol.errors[1])
            transport.close()
            await protocol.until_event("connection_lost")
            stranger.assert_untouched()

    run(main())


@pytest.mark.cxxloop_only("asyncio goes on watching for datagrams, which epoll_ctl() refuses: the endpoint never ends")
@pytest.mark.parametrize("stranger", [socket.SOCK_DGRAM], indirect=True)
def test_datagram_endpoint_with_a_queue(run, loop, stranger, tmp_path):
    async def main():
        with bound_socket(str(tmp_path / "peer"), socket.AF_UNIX) as peer, socket.socket(peer.family, peer.type) as sock:
            sock.connect(peer.getsockname())
            protocol = DatagramRecorder(error_received=lambda recorder: recorder.transport.abort())
            transport, _ = await loop.create_datagram_endpoint(lambda: protocol, sock=sock)
            fill_queue(transport)
            await stranger.take_number_while_the_loop_sleeps(sock, keep_events=True)
            drain(peer)  # there is room again
            await protocol.until_event("connection_lost")
            assert list(map(is_closed_number, protocol.errors)) == [True]
            stranger.assert_untouched()

    run(main())


# sock_* calls


async def fail_with_closed_number(waiting):
    with pytest.raises(OSError) as info:
        await waiting
    assert is_closed_number(info.value)


RECEIVE = {
    "sock_recv": lambda loop, sock: loop.sock_recv(sock, 100),
    "sock_recv_into": lambda loop, sock: loop.sock_recv_into(sock, bytearray(100)),
    "sock_recvfrom": lambda loop, sock: loop.sock_recvfrom(sock, 100),
}


@pytest.mark.parametrize("call", RECEIVE)
def test_waiting_receive(loop, run, stranger, call):
    async def main():
        with tcp_pair() as (sock, peer):
            waiting = asyncio.ensure_future(RECEIVE[call](loop, sock))
            await turns()
            await stranger.take_number_while_the_loop_sleeps(sock, keep_events=True)
            peer.send(b"an event for the old number")
            await fail_with_closed_number(waiting)
            stranger.assert_untouched()

    run(main())


@pytest.mark.parametrize("call", RECEIVE)
def test_receive_that_is_cancelled_after_its_number_is_gone(loop, run, stranger, call):
    async def main():
        with tcp_pair() as (sock, _):
            waiting = asyncio.ensure_future(RECEIVE[call](loop, sock))
            await turns()
            await stranger.take_number_while_the_loop_sleeps(sock, keep_events=False)
            await turns()
            assert not waiting.done()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            stranger.assert_untouched()

    run(main())


@pytest.mark.parametrize("call", RECEIVE)
def test_number_that_changes_hands_in_the_turn_the_receive_begins(loop, run, stranger, call):
    """asyncio has watched the socket by then, and never hears of it again."""

    async def main():
        with tcp_pair() as (sock, _):
            waiting = asyncio.ensure_future(RECEIVE[call](loop, sock))
            loop.call_soon(functools.partial(stranger.take_number_of, sock, keep_events=False))
            await asyncio.wait([waiting], timeout=0.05)
            if waiting.done():
                assert is_closed_number(waiting.exception())
            waiting.cancel()
            stranger.assert_untouched()

    run(main())


def test_waiting_sendall(loop, run, stranger):
    async def main():
        with tcp_pair() as (sock, peer):
            waiting = asyncio.ensure_future(loop.sock_sendall(sock, bytes(1 << 24)))
            await turns()
            await stranger.take_number_while_the_loop_sleeps(sock, keep_events=True)
            while not waiting.done():
                drain(peer)
                await asyncio.sleep(0.001)
            await fail_with_closed_number(waiting)
            stranger.assert_untouched()

    run(main())


@contextlib.contextmanager
def full_listener():
    """The address of a listener whose queue is full: to connect to it takes for ever."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server((LOOPBACK, 0), backlog=0))
        for _ in range(3):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield listener.getsockname()


def test_pending_connect(loop, run, stranger):
    async def main():
        with full_listener() as address, socket.socket() as sock:
            sock.setblocking(False)
            connecting = asyncio.ensure_future(loop.sock_connect(sock, address))
            await turns()
            assert not connecting.done()
            await stranger.take_number_while_the_loop_sleeps(sock, keep_events=False)
            await turns()
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
            stranger.assert_untouched()

    run(main())


# Listeners


def test_server_takes_no_connection_of_another(loop, run, reported):
    """The number of a closed listening socket now listens for somebody else."""

    async def main():
        made = []

        def connected():
            made.append(1)
            return asyncio.Protocol()

        listening = socket.create_server((LOOPBACK, 0))
        other = socket.create_server((LOOPBACK, 0))
        server = await loop.create_server(connected, sock=listening)
        await turns()
        fd, address, duplicate = listening.fileno(), listening.getsockname(), listening.dup()
        listening.close()
        with move_to(fd, other) as successor, socket.create_connection(successor.getsockname()):
            with socket.create_connection(address):  # an event for the old number
                while not reported:
                    await asyncio.sleep(0)
            duplicate.close()
            with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
                server.close()
            successor.accept()[0].close()
        assert made == []

    run(main())
    assert all(is_closed_number(context["exception"]) for context in reported)
    assert reported[0]["message"].startswith("Exception in callback BaseSelectorEventLoop._accept_connection(")

