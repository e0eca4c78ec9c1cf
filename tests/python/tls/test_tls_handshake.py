# SPDX-License-Identifier: MIT
"""Handshakes: first records cut and mixed up, time limits, contexts of every kind, what a connection tells of itself."""

import asyncio
import contextlib
import functools
import socket
import ssl

import pytest
from recorder import LOOPBACK, Recorder, reset, turns
from tls_peer import Peer, connecting, make_client_context, make_server_context


@pytest.fixture(scope="module")
def client_context():
    return make_client_context()


@pytest.fixture
def connect(server_context, client_context):
    return functools.partial(connecting, server_context, client_context)


async def expect_echo(served, peer):
    await peer.handshake()
    await peer.send(peer.encrypted(b"hello"))
    await served.until_bytes(5)


# --- the first record -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", [(1,), (4,), (5,), (6,), (-1,), (2, 5, 9), range(1, 600)], ids=str)
def test_hello_cut_anywhere(run, connect, ends):
    async def main():
        async with connect() as (served, peer):
            hello, start = peer.hello(), 0
            for end in [*(end for end in ends if end < len(hello)), len(hello)]:
                await peer.send(hello[start:end])
                await turns(2)
                start = end % len(hello)
            await expect_echo(served, peer)
            served.transport.abort()

    run(main())


@pytest.mark.parametrize("size", [1, 3, 4, 100])
def test_hello_in_several_records(run, connect, size):
    async def main():
        async with connect() as (served, peer):
            hello = peer.hello()
            header, message = hello[:3], hello[5:]
            for start in range(0, len(message), size):
                piece = message[start : start + size]
                await peer.send(header + len(piece).to_bytes(2, "big") + piece)
                if start < 5 * size:
                    await turns(2)
            await expect_echo(served, peer)
            served.transport.abort()

    run(main())


def is_refused_by_openssl(server_context, first_words):
    """Does a server give up after these first words of a client, or does it wait for more?"""
    incoming = ssl.MemoryBIO()
    server = server_context.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True)
    incoming.write(first_words)
    try:
        server.do_handshake()
    except ssl.SSLWantReadError:
        return False
    except ssl.SSLError:
        return True
    raise AssertionError("a handshake without a client")


STRANGE = {
    "http": b"GET / HTTP/1.0\r\n\r\n",
    "short": b"GE",
    "type alone": b"\x17",
    "header alone": b"\x16\x03\x01\x00\x20",
    "a header too few": b"\x16\x03\x01\x00",
    "empty record": b"\x16\x03\x01\x00\x00",
    "long record": b"\x16\x03\x01\x40\x00",
    "longest record": b"\x16\x03\x01\x48\x00",
    "too long record": b"\x16\x03\x01\xff\xff",
    "old version": b"\x16\x02\x00\x00\x05",
    "alert": b"\x15\x03\x01\x00\x02\x02\x28",
    "data": b"\x17\x03\x03\x00\x05hello",
    "wrong message": b"\x16\x03\x01\x00\x05hello",
    "SSLv2": b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + bytes(37),
    "half of it": b"\x16\x03\x01\x00\x40" + bytes(32),
}


@pytest.mark.parametrize("words", STRANGE.values(), ids=STRANGE.keys())
def test_strange_first_words_are_refused_when_openssl_does(loop, run, connect, server_context, reported, words):
    is_refused = is_refused_by_openssl(server_context, words)

    async def main():
        async with connect() as (served, peer):
            await peer.send(words)
            if not is_refused:
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(loop.sock_recv(peer.sock, 100), 0.05)
                peer.sock.shutdown(socket.SHUT_WR)
            assert await loop.sock_recv(peer.sock, 100) == b""
            assert served.events == []
        assert reported == []

    run(main())


@pytest.mark.parametrize("leave", [lambda sock: sock.close(), reset], ids=["close", "reset"])
@pytest.mark.parametrize("part", ["nothing", "half", "hello"])
def test_client_that_leaves_in_the_handshake(loop, run, connect, reported, open_fds, leave, part):
    async def main():
        async with connect() as (served, peer):
            before = len(open_fds())
            hello = peer.hello()
            await peer.send({"nothing": b"", "half": hello[:50], "hello": hello}[part])
            await turns(3)
            leave(peer.sock)
            while len(open_fds()) >= before - (part == "nothing"):
                await asyncio.sleep(0.005)
            assert served.events == []
        assert reported == []

    run(main())


def test_the_task_of_a_handshake_can_be_seen_and_cancelled(loop, run, connect, reported):
    async def main():
        known = asyncio.all_tasks()
        async with connect() as (served, peer):
            await peer.send(peer.hello()[:50])
            await turns(3)
            (task,) = asyncio.all_tasks() - known
            assert repr(task).startswith("<Task pending name='Task-")
            assert "wait_for=<Future pending cb=[Task.task_wakeup()]>" in repr(task)
            assert len(task.get_stack()) == 1
            task.cancel()
            await asyncio.wait([task])
            assert task.result() is None
            assert await loop.sock_recv(peer.sock, 100) == b""
            assert served.events == []
        assert reported == []

    run(main())


@pytest.mark.parametrize("failure", ["protocol factory", "handshake"])
def test_debug_mode_tells_of_connections_that_fail(loop, run, server_context, client_context, reported, failure):
    class Refused(Exception):
        pass

    def factory():
        if failure == "protocol factory":
            raise Refused
        return served

    served = Recorder()

    async def main():
        server = await loop.create_server(factory, LOOPBACK, 0, ssl=server_context)
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, server.sockets[0].getsockname())
            await loop.sock_sendall(sock, b"GET / HTTP/1.0\r\n\r\n")
            while not reported:
                await asyncio.sleep(0.005)
        server.close()

    loop.set_debug(True)
    run(main())
    loop.set_debug(False)
    (context,) = [context for context in reported if context["message"].startswith("Error on transport creation")]
    if failure == "protocol factory":
        assert set(context) == {"message", "exception"}
        assert isinstance(context["exception"], Refused)
    else:
        assert set(context) == {"message", "exception", "protocol", "transport"}
        assert isinstance(context["exception"], ssl.SSLError)
        assert context["protocol"] is served
        assert isinstance(context["transport"], asyncio.Transport)
        assert context["transport"].is_closing()


@pytest.mark.parametrize("end", ["close", "reset"])
def test_server_that_leaves_in_the_handshake(loop, run, client_context, end, reported):
    async def leave(listener):
        conn, _ = await loop.sock_accept(listener)
        await loop.sock_recv(conn, 4096)
        reset(conn) if end == "reset" else conn.close()

    async def main():
        with socket.create_server((LOOPBACK, 0)) as listener:
            listener.setblocking(False)
            leaving = loop.create_task(leave(listener))
            with pytest.raises(ConnectionResetError):
                await loop.create_connection(Recorder, *listener.getsockname(), ssl=client_context)
            await leaving
        assert reported == []

    run(main())


# --- time limits ----------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def silent_pair(loop):
    """A connection whose other end says nothing."""
    with socket.create_server((LOOPBACK, 0)) as listener, socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, listener.getsockname())
        with listener.accept()[0] as other:
            yield sock, other


async def create_connection(loop, server_context, client_context, **limits):
    async with silent_pair(loop) as (sock, _):
        await loop.create_connection(Recorder, sock=sock, ssl=client_context, server_hostname="", **limits)


async def connect_accepted_socket(loop, server_context, client_context, **limits):
    async with silent_pair(loop) as (sock, _):
        await loop.connect_accepted_socket(Recorder, sock, ssl=server_context, **limits)


async def start_tls(loop, server_context, client_context, **limits):
    async with silent_pair(loop) as (sock, _):
        transport, protocol = await loop.create_connection(Recorder, sock=sock)
        try:
            await loop.start_tls(transport, protocol, client_context, **limits)
        finally:
            transport.abort()


APIS = [create_connection, connect_accepted_socket, start_tls]


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.__name__)
def test_handshakes_have_a_time_limit(loop, run, server_context, client_context, api):
    async def main():
        with pytest.raises(ConnectionAbortedError) as caught:
            await api(loop, server_context, client_context, ssl_handshake_timeout=0.05)
        text = "SSL handshake is taking longer than 0.05 seconds: aborting the connection"
        assert str(caught.value) == text

    run(main())


def test_server_ends_handshakes_that_take_too_long(loop, run, connect):
    async def main():
        async with connect(ssl_handshake_timeout=0.05) as (served, peer):
            with contextlib.suppress(ConnectionResetError):
                await peer.send(peer.hello()[:20])
                assert await loop.sock_recv(peer.sock, 100) == b""
            assert served.events == []

    run(main())


@pytest.mark.parametrize("limit", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
@pytest.mark.parametrize("value", [0, -1])
@pytest.mark.parametrize("api", APIS, ids=lambda api: api.__name__)
def test_limits_are_positive(loop, run, server_context, client_context, api, limit, value):
    async def main():
        with pytest.raises(ValueError, match=f"^{limit} should be a positive number, got {value}$"):
            await api(loop, server_context, client_context, **{limit: value})

    run(main())


@pytest.mark.parametrize("limit", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
@pytest.mark.parametrize("api", APIS, ids=lambda api: api.__name__)
def test_limits_are_numbers(loop, run, server_context, client_context, api, limit):
    async def main():
        with pytest.raises(TypeError, match="'<=' not supported between instances of 'str' and 'int'"):
            await api(loop, server_context, client_context, **{limit: "1"})

    run(main())


def test_limits_are_for_tls_alone(loop, run):
    async def main():
        for limit in ("ssl_handshake_timeout", "ssl_shutdown_timeout"):
            only = f"{limit} is only meaningful with ssl"
            with pytest.raises(ValueError, match=only):
                await loop.create_connection(Recorder, LOOPBACK, 1, **{limit: 1})
            with pytest.raises(ValueError, match=only):
                await loop.create_server(Recorder, LOOPBACK, 0, **{limit: 1})
            with socket.socket() as sock, pytest.raises(ValueError, match=only):
                await loop.connect_accepted_socket(Recorder, sock, **{limit: 1})

    run(main())


@pytest.mark.parametrize("limit", ["ssl_handshake_timeout", "ssl_shutdown_timeout"])
def test_server_with_a_wrong_limit_closes_its_connections(loop, run, connect, reported, limit):
    async def main():
        async with connect(**{limit: 0}) as (served, peer):
            with contextlib.suppress(ConnectionResetError):
                assert await loop.sock_recv(peer.sock, 100) == b""
            assert served.events == []
        # Only debug mode tells.
        assert reported == []

    run(main())


# --- contexts and transports ----------------------------------------------------------------------------------


class LoudObject(ssl.SSLObject):
    reads = 0

    def read(self, *args):
        type(self).reads += 1
        return super().read(*args)


class LoudContext(ssl.SSLContext):
    sslobject_class = LoudObject
    wrapped = 0

    def wrap_bio(self, *args, **keywords):
        type(self).wrapped += 1
        return super().wrap_bio(*args, **keywords)


def test_contexts_and_objects_of_the_programs_own(loop, run, client_context):
    LoudContext.wrapped = LoudObject.reads = 0
    context = make_server_context(LoudContext)

    async def main():
        async with connecting(context, client_context) as (served, peer):
            await expect_echo(served, peer)
            assert type(served.transport.get_extra_info("ssl_object")) is LoudObject
            assert LoudContext.wrapped == 1 and LoudObject.reads > 0
            served.transport.write(b"back")
            assert await peer.read(4) == b"back"
            served.transport.abort()

    run(main())


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda v: v.name)
def test_what_both_ends_tell_of_themselves(loop, run, server_context, version):
    client_context = make_client_context(version)

    async def main():
        served = Recorder()
        server = await loop.create_server(lambda: served, LOOPBACK, 0, ssl=server_context)
        transport, client = await loop.create_connection(
            Recorder, *server.sockets[0].getsockname(), ssl=client_context
        )
        await served.until_event("connection_made")
        for end, context in ((transport, client_context), (served.transport, server_context)):
            tls = end.get_extra_info("ssl_object")
            assert type(tls) is ssl.SSLObject and tls.context is context
            assert end.get_extra_info("sslcontext") is context
            assert end.get_extra_info("cipher") == tls.cipher()
            assert end.get_extra_info("compression") is None
            assert end.get_extra_info("peercert") == tls.getpeercert()
            assert end.get_extra_info("nothing", "default") == "default"
            assert tls.version() == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]
        assert transport.get_extra_info("peername") == served.transport.get_extra_info("sockname")
        assert server._ssl_context is server_context
        transport.close()
        await client.until_event("connection_lost")
        assert transport.get_extra_info("sslcontext") is client_context
        await served.until_event("connection_lost")
        server.close()
        await server.wait_closed()

    run(main())


def test_write_method_of_an_instance_is_called(loop, run, server_context, client_context):
    written = []

    async def serve(reader, writer):
        original = writer.transport.write
        writer.transport.write = lambda data: (written.append(bytes(data)), original(data))
        writer.write(await reader.readexactly(5))
        await writer.drain()
        writer.close()

    async def main():
        server = await asyncio.start_server(serve, LOOPBACK, 0, ssl=server_context)
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, server.sockets[0].getsockname())
            peer = Peer(sock, client_context)
            await peer.handshake()
            await peer.send(peer.encrypted(b"hello"))
            assert await peer.read(5) == b"hello"
        server.close()
        await asyncio.wait_for(server.wait_closed(), 5)
        assert written == [b"hello"]

    run(main())
