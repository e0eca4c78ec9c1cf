# SPDX-License-Identifier: MIT
"""get_extra_info("socket"), and a descriptor that the program uses beside its transport."""

import asyncio
import contextlib
import copy
import fcntl
import gc
import os
import pickle
import socket
import struct
import tempfile
import termios
import weakref

import pytest
from recorder import LOOPBACK, Recorder, accept_one, attached, receive, receive_all, tcp_pair

LEAVES_LATER = "the writes of one callback leave when it ends"


def sendfile(sock):
    with tempfile.TemporaryFile() as file:
        file.write(b"body")
        file.flush()
        os.sendfile(sock.fileno(), file.fileno(), 0, 4)


def write_to_number(sock):
    os.write(sock.fileno(), b"body")


def send_by_duplicate_of_number(sock):
    with socket.socket(fileno=os.dup(sock.fileno())) as duplicate:
        duplicate.send(b"body")


def send_by_duplicate(sock):
    with sock.dup() as duplicate:
        duplicate.send(b"body")


def make_it_a_childs_stdout(sock):
    pid = os.posix_spawn("/bin/echo", ["echo", "-n", "body"], {}, file_actions=[(os.POSIX_SPAWN_DUP2, sock.fileno(), 1)])
    os.waitpid(pid, 0)


BESIDE = [sendfile, write_to_number, send_by_duplicate_of_number, send_by_duplicate, make_it_a_childs_stdout]


@pytest.mark.parametrize("use", BESIDE)
def test_what_is_sent_beside_the_transport_comes_behind_its_writes(run, use):
    async def main():
        async with attached() as (transport, _, peer):
            sock = transport.get_extra_info("socket")
            transport.write(b"head ")
            use(sock)
            transport.write(b" tail")
            assert await receive(peer, 14) == b"head body tail"

    run(main())


def test_descriptor_can_be_sent_behind_a_write(run):
    async def main():
        near, far = socket.socketpair()
        with far:
            far.setblocking(False)
            transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=near)
            transport.write(b"head ")
            with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as duplicate:
                socket.send_fds(duplicate, [b"body"], [far.fileno()])
            data, fds, _, _ = socket.recv_fds(far, 100, 1)
            for fd in fds:
                os.close(fd)
            assert data == b"head body" and len(fds) == 1
            transport.abort()

    run(main())


@pytest.mark.parametrize("how", ["SHUT_WR", "SHUT_RDWR"])
def test_shutdown_follows_the_writes(run, how):
    async def main():
        async with attached() as (transport, _, peer):
            transport.write(b"last words")
            transport.get_extra_info("socket").shutdown(getattr(socket, how))
            assert await receive_all(peer) == b"last words"

    run(main())


QUESTIONS = {
    "TCP_INFO": lambda sock: sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256),
    "TCP_CORK": lambda sock: sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1),
    "TIOCOUTQ": lambda sock: fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_what_was_written_has_left_when_the_kernel_is_asked(run, question):
    async def main():
        async with attached() as (transport, _, peer):
            sock = transport.get_extra_info("socket")
            transport.write(b"sent")
            QUESTIONS[question](sock)
            assert peer.recv(10) == b"sent"

    run(main())


def test_number_given_out_earlier_can_be_written_to(loop, run):
    async def main():
        served, client = Recorder(), Recorder()
        server = await accept_one(loop, served, client)
        number = served.transport.get_extra_info("socket").fileno()
        await asyncio.sleep(0)
        for _ in range(3):
            served.transport.write(b"head ")
            os.write(number, b"body ")
            await asyncio.sleep(0)
        await client.until_bytes(30)
        assert client.data == b"head body " * 3
        served.transport.close()
        client.transport.close()
        server.close()

    run(main())


def test_socket_that_the_program_keeps_can_be_used_beside_its_transport(run):
    async def main():
        with tcp_pair() as (ours, peer):
            transport, _ = await asyncio.get_running_loop().create_connection(Recorder, sock=ours)
            await asyncio.sleep(0)
            transport.write(b"head ")
            ours.send(b"body ")
            transport.writelines([b"ta", b"il"])
            ours.shutdown(socket.SHUT_WR)
            assert await receive_all(peer) == b"head body tail"
            transport.abort()

    run(main())


def test_record_of_tls_leaves_before_the_descriptor_is_given_out(loop, run, tls_contexts):
    async def main():
        served, client = Recorder(), Recorder()
        server_context, client_context = tls_contexts
        server = await loop.create_server(lambda: served, LOOPBACK, 0, ssl=server_context)
        address = server.sockets[0].getsockname()
        await loop.create_connection(lambda: client, *address, ssl=client_context, server_hostname="localhost")
        await served.until_event("connection_made")
        client.transport.write(b"sealed")
        client.transport.get_extra_info("socket").shutdown(socket.SHUT_WR)
        await served.until_bytes(6)
        assert served.data == b"sealed"
        served.transport.abort()
        client.transport.abort()
        server.close()

    run(main())


def look_like_a_web_server(sock):
    """What frameworks ask of a new connection's socket."""
    assert sock.family == socket.AF_INET and sock.type == socket.SOCK_STREAM
    assert sock.proto in (0, socket.IPPROTO_TCP) and sock.gettimeout() == 0
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    assert sock.getsockname() != sock.getpeername()
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    assert not sock.get_inheritable()
    assert "TransportSocket" in repr(sock)
    sock.setblocking(False)
    sock.settimeout(0)


@pytest.mark.cxxloop_only(LEAVES_LATER)
@pytest.mark.parametrize("look", [lambda sock: None, look_like_a_web_server])
def test_the_writes_of_a_callback_leave_together_unless_the_number_was_given_out(loop, run, look):
    async def main():
        def peek(peer):
            with contextlib.suppress(BlockingIOError):
                return peer.recv(100)

        served = Recorder()
        server = await loop.create_server(lambda: served, LOOPBACK, 0)
        with socket.create_connection(server.sockets[0].getsockname()) as peer:
            peer.setblocking(False)
            await served.until_event("connection_made")
            look(served.transport.get_extra_info("socket"))
            await asyncio.sleep(0)
            served.transport.write(b"head ")
            assert peek(peer) is None
            served.transport.write(b"body")
            await asyncio.sleep(0)
            assert await receive(peer, 9) == b"head body"
            served.transport.get_extra_info("socket").fileno()
            served.transport.write(b"at once")
            assert peek(peer) == b"at once"
            served.transport.abort()
            server.close()

    run(main())


@pytest.mark.cxxloop_only(LEAVES_LATER)
def test_socket_that_was_handed_over_is_written_to_at_the_end_of_the_callback(run):
    async def main():
        async with attached() as (transport, _, peer):
            await asyncio.sleep(0)
            transport.write(b"later")
            with pytest.raises(BlockingIOError):
                peer.recv(10)
            await asyncio.sleep(0)
            assert peer.recv(10) == b"later"

    run(main())


# --- the object itself ----------------------------------------------------------------------------------------


def test_it_is_asyncios_to_the_program(run):
    async def main():
        async with attached() as (transport, _, peer):
            sock = transport.get_extra_info("socket")
            assert isinstance(sock, asyncio.trsock.TransportSocket)
            assert type(sock).__name__ == "TransportSocket"
            assert repr(sock) == repr(asyncio.trsock.TransportSocket(transport._sock))
            assert sock.fileno() == transport._sock.fileno()
            assert not hasattr(sock, "send") and not hasattr(sock, "close") and not hasattr(sock, "__dict__")
            with pytest.raises(TypeError, match="Cannot serialize asyncio.TransportSocket object"):
                pickle.dumps(sock)
            with pytest.raises(TypeError):
                copy.copy(sock)
            with pytest.raises(ValueError, match="only 0 timeout is allowed"):
                sock.settimeout(1)
            with pytest.raises(ValueError, match="cannot be blocking"):
                sock.setblocking(True)
            linger = struct.pack("ii", 1, 0)
            assert sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger) is None
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == linger

    run(main())


def test_it_survives_its_transport(run):
    async def main():
        async with attached() as (transport, protocol, peer):
            sock = transport.get_extra_info("socket")
            transport.close()
            await protocol.until_event("connection_lost")
            assert sock.fileno() == -1
            assert "fd=-1" in repr(sock)
            with pytest.raises(OSError):
                sock.shutdown(socket.SHUT_WR)
            with pytest.raises(OSError):
                sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    run(main())


def test_it_does_not_keep_its_transport(run):
    async def main():
        async with attached() as (transport, protocol, peer):
            sock = transport.get_extra_info("socket")
            transport.close()
            await protocol.until_event("connection_lost")
        gone = weakref.ref(transport)
        protocol.transport = None
        del transport
        gc.collect()
        assert gone() is None
        assert sock.fileno() == -1

    run(main())
