# SPDX-License-Identifier: MIT
"""Peers that go at the worst moment: resets in the middle of everything, killed processes, half-closed connections."""

import asyncio
import contextlib
import errno
import fcntl
import gc
import logging
import os
import signal
import socket
import subprocess
import sys
import termios

import pytest
from datagram_recorder import bound_socket, endpoint, unused_address
from recorder import LOOPBACK, Recorder, attached, fill, receive, receive_all, reset, tcp_pair, turns

BROKEN = (ConnectionResetError, BrokenPipeError)
MEGABYTES = bytes(range(256)) * 4096 * 8


@pytest.fixture(autouse=True)
def nothing_is_left(open_fds, loop_name):
    gc.collect()
    before = open_fds()
    yield
    gc.collect()
    assert open_fds() <= before


def warnings_and_errors(records):
    return [text for level, text in records.records if level >= logging.WARNING]


# Resets


def test_reset_in_the_middle_of_reading(run, asyncio_records):
    async def main():
        async with attached() as (_, protocol, peer):
            peer.send(b"half of a")
            await protocol.until_bytes(9)
            reset(peer)
            await protocol.until_event("connection_lost")
            assert type(protocol.lost_with) is ConnectionResetError
            assert protocol.events == ["connection_made", "data_received", "connection_lost"]

    run(main())
    assert warnings_and_errors(asyncio_records) == []


def test_reset_with_bytes_unread(run, asyncio_records):
    """What had arrived is read, the error comes behind it."""

    async def main():
        async with attached() as (transport, protocol, peer):
            transport.pause_reading()
            peer.send(b"read late")
            reset(peer)
            await asyncio.sleep(0.01)
            transport.resume_reading()
            await protocol.until_event("connection_lost")
            assert type(protocol.lost_with) is ConnectionResetError
            assert bytes(protocol.data) == b"read late"

    run(main())
    assert warnings_and_errors(asyncio_records) == []


@pytest.mark.parametrize("reading", [True, False])
def test_reset_in_the_middle_of_writing(run, asyncio_records, reading):
    async def main():
        async with attached() as (transport, protocol, peer):
            if not reading:
                transport.pause_reading()
            fill(transport)
            await receive(peer, 100_000)
            reset(peer)
            await protocol.until_event("connection_lost")
            assert isinstance(protocol.lost_with, BROKEN)
            assert protocol.events == ["connection_made", "pause_writing", "connection_lost"]
            for _ in range(7):
                transport.write(b"dropped")

    run(main())
    assert warnings_and_errors(asyncio_records) == ["socket.send() raised exception."] * 3


def test_reset_while_closing_waits_for_the_last_bytes(run, asyncio_records):
    async def main():
        async with attached() as (transport, protocol, peer):
            fill(transport)
            transport.close()
            await receive(peer, 100_000)
            reset(peer)
            await protocol.until_event("connection_lost")
            assert isinstance(protocol.lost_with, BROKEN)
            assert protocol.events.count("connection_lost") == 1

    run(main())
    assert warnings_and_errors(asyncio_records) == []


def test_reset_wakes_every_stream_coroutine(run, asyncio_records):
    async def main():
        with tcp_pair() as (left, peer):
            reader, writer = await asyncio.open_connection(sock=left)
            writer.write(MEGABYTES)
            waiting = [asyncio.ensure_future(reader.read(1)), asyncio.ensure_future(writer.drain())]
            await receive(peer, 1000)
            reset(peer)
            errors = await asyncio.gather(*waiting, return_exceptions=True)
            assert all(isinstance(error, BROKEN) for error in errors)
            writer.close()
            with pytest.raises(BROKEN):
                await writer.wait_closed()

    run(main())
    assert warnings_and_errors(asyncio_records) == []


@pytest.mark.parametrize("call", ["recv", "sendall"])
def test_reset_during_a_socket_call(loop, run, call):
    async def main():
        with tcp_pair() as (sock, peer):
            waiting = loop.sock_recv(sock, 100) if call == "recv" else loop.sock_sendall(sock, MEGABYTES)
            task = asyncio.ensure_future(waiting)
            await turns()
            reset(peer)
            with pytest.raises(BROKEN):
                await task

    run(main())


# Resets in TLS


def test_client_that_resets_in_the_handshake(loop, run, tls_contexts, open_fds, asyncio_records):
    server_context, _ = tls_contexts
    made = []

    async def main():
        server = await loop.create_server(lambda: made.append(1) or Recorder(), LOOPBACK, 0, ssl=server_context)
        before = open_fds()
        for number, hello in enumerate((b"", b"\x16\x03\x01\x02\x00\x01", b"\x16\x03\x01"), 1):
            peer = socket.create_connection(server.sockets[0].getsockname())
            peer.send(hello)
            while len(made) < number:
                await asyncio.sleep(0)
            await turns()
            reset(peer)
        while open_fds() - before:
            await asyncio.sleep(0.005)
        server.close()
        await server.wait_closed()

    run(main())
    assert len(made) == 3  # the protocol is made before the handshake; it is never connected
    assert warnings_and_errors(asyncio_records) == []


def test_server_that_resets_in_the_handshake(loop, run, tls_contexts, asyncio_records):
    _, client_context = tls_contexts

    async def main():
        async def reset_after_hello(listener):
            peer, _ = await loop.sock_accept(listener)
            await loop.sock_recv(peer, 100)
            reset(peer)

        with socket.create_server((LOOPBACK, 0)) as listener:
            listener.setblocking(False)
            resetting = asyncio.ensure_future(reset_after_hello(listener))
            with pytest.raises(ConnectionResetError):
                await loop.create_connection(Recorder, *listener.getsockname(), ssl=client_context)
            await resetting

    run(main())
    assert warnings_and_errors(asyncio_records) == []


@contextlib.asynccontextmanager
async def tls_pair(loop, tls_contexts):
    """(transport, protocol, peer's transport) of a TLS connection; the peer can reset it."""
    server_context, client_context = tls_contexts
    served = Recorder()
    server = await loop.create_server(lambda: served, LOOPBACK, 0, ssl=server_context)
    transport, protocol = await loop.create_connection(
        Recorder, *server.sockets[0].getsockname(), ssl=client_context, server_hostname="localhost"
    )
    await served.until_event("connection_made")
    yield transport, protocol, served.transport
    for end in (protocol, served):
        end.transport.abort()
        await end.until_event("connection_lost")
    server.close()
    await server.wait_closed()


def reset_transport(transport):
    sock = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    transport.abort()


@pytest.mark.parametrize("moment", ["idle", "writing", "closing"])
def test_reset_of_a_tls_connection(loop, run, tls_contexts, asyncio_records, moment):
    async def main():
        async with tls_pair(loop, tls_contexts) as (transport, protocol, peer):
            peer.pause_reading()
            if moment != "idle":
                transport.write(MEGABYTES)
            if moment == "closing":
                transport.close()
            await turns()
            reset_transport(peer)
            await protocol.until_event("connection_lost")
            assert isinstance(protocol.lost_with, BROKEN)
            assert protocol.events.count("connection_lost") == 1
            assert "eof_received" not in protocol.events

    run(main())
    assert warnings_and_errors(asyncio_records) == []


# Resets during sendfile


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(MEGABYTES)
    with path.open("rb") as file:
        yield file


@pytest.mark.parametrize("fallback", [False, True])
def test_reset_during_sendfile(loop, run, file, asyncio_records, monkeypatch, fallback):
    if fallback:  # as where the kernel cannot
        monkeypatch.setattr(os, "sendfile", lambda *args: (_ for _ in ()).throw(OSError(errno.EINVAL, "no")))

    async def main():
        async with attached() as (transport, protocol, peer):
            sending = asyncio.ensure_future(loop.sendfile(transport, file))
            await receive(peer, 10_000)
            reset(peer)
            with pytest.raises(ConnectionError):
                await sending
            transport.abort()
            await protocol.until_event("connection_lost")
            assert protocol.events.count("connection_lost") == 1

    run(main())
    assert warnings_and_errors(asyncio_records) == []


def test_reset_during_sendfile_over_tls(loop, run, tls_contexts, file, asyncio_records):
    async def main():
        async with tls_pair(loop, tls_contexts) as (transport, protocol, peer):
            peer.pause_reading()
            sending = asyncio.ensure_future(loop.sendfile(transport, file))
            while not transport.get_write_buffer_size():
                await asyncio.sleep(0.001)
            reset_transport(peer)
            with pytest.raises(ConnectionError):
                await sending
            await protocol.until_event("connection_lost")
            assert isinstance(protocol.lost_with, BROKEN)

    run(main())
    assert warnings_and_errors(asyncio_records) == []


@pytest.mark.parametrize("fallback", [False, True])
def test_reset_during_sock_sendfile(loop, run, file, monkeypatch, fallback):
    if fallback:
        monkeypatch.setattr(os, "sendfile", lambda *args: (_ for _ in ()).throw(OSError(errno.EINVAL, "no")))

    async def main():
        with tcp_pair() as (sock, peer):
            sending = asyncio.ensure_future(loop.sock_sendfile(sock, file))
            await receive(peer, 10_000)
            reset(peer)
            with pytest.raises(BROKEN):
                await sending

    run(main())


# Peers that are killed


KILLED_PEER = """
import socket, sys, time
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
sock.sendall(b"half a mess")
if sys.argv[2] == "reads":
    sock.recv(1000)
print("there", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("unread", [False, True])
def test_killed_process_ends_its_connections(loop, run, unread):
    """The kernel says goodbye for it: the end of the stream, or a reset if it had bytes to read."""

    async def main():
        served = Recorder()
        server = await loop.create_server(lambda: served, LOOPBACK, 0)
        port = server.sockets[0].getsockname()[1]
        peer = subprocess.Popen([sys.executable, "-ISc", KILLED_PEER, str(port), "idle"], stdout=subprocess.PIPE)
        await loop.run_in_executor(None, peer.stdout.readline)
        await served.until_bytes(11)
        if unread:
            served.transport.write(MEGABYTES)
        peer.kill()
        await served.until_event("connection_lost")
        assert bytes(served.data) == b"half a mess"
        if unread:
            assert isinstance(served.lost_with, BROKEN)
        else:
            assert served.events[-2:] == ["eof_received", "connection_lost"]
            assert served.lost_with is None
        peer.wait()
        peer.stdout.close()
        server.close()
        await server.wait_closed()
        await loop.shutdown_default_executor()

    run(main())


class ChildRecorder(asyncio.SubprocessProtocol):
    def __init__(self):
        self.events = []
        self.lost_pipes = {}
        self.received = 0
        self.done = asyncio.get_running_loop().create_future()

    def pipe_data_received(self, fd, data):
        self.received += len(data)

    def pipe_connection_lost(self, fd, exc):
        self.lost_pipes[fd] = exc

    def process_exited(self):
        self.events.append("exited")

    def connection_lost(self, exc):
        self.events.append(("connection_lost", exc))
        self.done.set_result(None)


def is_full(pipe):
    """True when less than half is free: the kernel leaves the rest of a page empty now and then."""
    unread_bytes = int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)
    return unread_bytes > fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ) / 2


@pytest.mark.parametrize("sent", [True, False])
def test_child_killed_while_its_pipes_are_full(loop, run, sent):
    """Its input was never read, or its output is not."""

    async def main():
        source = "import time; time.sleep(60)" if sent else "while True: print('x' * 10000)"
        transport, protocol = await loop.subprocess_exec(
            ChildRecorder, sys.executable, "-ISc", source, stderr=subprocess.DEVNULL
        )
        if sent:
            transport.get_pipe_transport(0).write(MEGABYTES)
        else:
            output = transport.get_pipe_transport(1)
            output.pause_reading()
            while not is_full(output.get_extra_info("pipe")):
                await asyncio.sleep(0.005)
        transport.kill()
        if not sent:
            transport.get_pipe_transport(1).resume_reading()
            transport.get_pipe_transport(0).close()
        await protocol.done
        assert transport.get_returncode() == -signal.SIGKILL
        assert protocol.events == ["exited", ("connection_lost", None)]
        assert set(protocol.lost_pipes) == {0, 1}
        assert protocol.lost_pipes[1] is None
        if sent:
            assert isinstance(protocol.lost_pipes[0], BrokenPipeError)
        transport.close()

    run(main())


# Half-closed connections


def test_both_ends_close_their_side_at_once(run):
    async def main():
        keep_open = {"eof_received": lambda recorder: True}
        with tcp_pair() as (left, right):
            loop = asyncio.get_running_loop()
            first, one = await loop.create_connection(lambda: Recorder(**keep_open), sock=left)
            second, two = await loop.create_connection(lambda: Recorder(**keep_open), sock=right)
            for transport in (first, second):
                transport.write(MEGABYTES)
                transport.write_eof()
            for protocol in (one, two):
                await protocol.until_event("eof_received")
                assert bytes(protocol.data) == MEGABYTES
                protocol.transport.close()
                await protocol.until_event("connection_lost")
                assert protocol.lost_with is None
                assert protocol.events.count("eof_received") == 1

    run(main(), timeout=20)


def test_half_closed_peer_gets_the_answer_and_resets(run):
    async def main():
        async with attached(Recorder(eof_received=lambda recorder: True)) as (transport, protocol, peer):
            peer.shutdown(socket.SHUT_WR)
            await protocol.until_event("eof_received")
            transport.write(b"answer")
            assert await receive(peer, 6) == b"answer"
            reset(peer)
            fill_until_lost = asyncio.ensure_future(protocol.until_event("connection_lost"))
            while not fill_until_lost.done():
                transport.write(b"more")
                await asyncio.sleep(0)
            assert isinstance(protocol.lost_with, BROKEN)

    run(main())


def test_the_end_that_comes_while_the_answer_is_written(run):
    async def main():
        async with attached() as (transport, protocol, peer):
            transport.write(MEGABYTES)  # more than the kernel takes
            peer.send(b"last words")
            peer.shutdown(socket.SHUT_WR)
            await protocol.until_event("eof_received")  # closes, after the queue
            assert await receive_all(peer) == MEGABYTES
            await protocol.until_event("connection_lost")
            assert protocol.lost_with is None
            assert bytes(protocol.data) == b"last words"

    run(main(), timeout=20)


def test_write_eof_and_abort_and_the_peers_end_in_one_turn(run, loop):
    async def main():
        async with attached() as (transport, protocol, peer):
            peer.send(b"x")
            peer.shutdown(socket.SHUT_WR)
            transport.write(b"y")
            transport.write_eof()
            transport.abort()
            await protocol.until_event("connection_lost")
            assert protocol.events == ["connection_made", "connection_lost"]
            assert await loop.sock_recv(peer, 10) == b"y"

    run(main())


# Unreachable ports


def test_unreachable_ports_of_a_connected_endpoint(run):
    """The kernel tells with the next call: to the protocol, once a datagram, and nothing ends."""

    async def main():
        async with endpoint(remote_addr=unused_address()) as (transport, protocol):
            for count in range(1, 6):
                transport.sendto(b"anybody?")
                await protocol.until_error(count)
            assert {type(error) for error in protocol.errors} == {ConnectionRefusedError}
            assert protocol.events.count("connection_lost") == 0
            assert not transport.is_closing()

    run(main())


def test_unreachable_ports_of_an_unconnected_endpoint(run):
    """Nobody is told, and the endpoint serves everybody else."""

    async def main():
        with bound_socket() as peer:
            async with endpoint() as (transport, protocol):
                for _ in range(20):
                    transport.sendto(b"anybody?", unused_address())
                    transport.sendto(b"you", peer.getsockname())
                await asyncio.sleep(0.01)
                for _ in range(20):
                    assert peer.recv(10) == b"you"
                peer.sendto(b"here", transport.get_extra_info("sockname"))
                await protocol.until_received(1)
                assert protocol.errors == []

    run(main())


def test_connected_endpoint_survives_its_peer(run):
    async def main():
        with bound_socket() as peer:
            address = peer.getsockname()
            async with endpoint(remote_addr=address) as (transport, protocol):
                transport.sendto(b"first")
                assert await asyncio.get_running_loop().sock_recv(peer, 10) == b"first"
                peer.close()
                transport.sendto(b"lost")
                await protocol.until_error()
                with bound_socket(address) as successor:
                    transport.sendto(b"second")
                    assert await asyncio.get_running_loop().sock_recv(successor, 10) == b"second"
                    successor.sendto(b"back", transport.get_extra_info("sockname"))
                    await protocol.until_received(1)
                    assert protocol.payloads == [b"back"]

    run(main())


# Many at once


def test_thousand_connections_reset_from_a_thread(loop, run, asyncio_records):
    """Connections come and are reset at any moment of their lives: each protocol is told once."""
    count = 1000
    ended = []

    class Echo(asyncio.Protocol):
        state = "new"

        def connection_made(self, transport):
            assert self.state == "new"
            self.state = "made"
            self.transport = transport

        def data_received(self, data):
            assert self.state == "made"
            self.transport.write(data)

        def connection_lost(self, exc):
            assert self.state == "made"
            self.state = "lost"
            ended.append(exc)

    def knock(address):
        for number in range(count):
            sock = socket.create_connection(address)
            if number % 3:
                sock.send(bytes(number * 100))
            if number % 2:
                reset(sock)
            else:
                sock.close()

    async def main():
        server = await loop.create_server(Echo, LOOPBACK, 0, backlog=count)
        await loop.run_in_executor(None, knock, server.sockets[0].getsockname())
        while len(ended) < count:
            await asyncio.sleep(0.01)
        server.close()
        await server.wait_closed()

    run(main(), timeout=20)
    assert len(ended) == count
    assert {type(error) for error in ended} <= {type(None), *BROKEN}
    assert warnings_and_errors(asyncio_records) == []
