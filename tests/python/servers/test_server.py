# SPDX-License-Identifier: MIT
"""create_server and the Server it returns: what it binds, when it serves, how it ends."""

import asyncio
import contextvars
import errno
import gc
import re
import socket
import ssl
import sys
import weakref

import pytest
from recorder import LOOPBACK, Recorder, turns

python_312 = pytest.mark.skipif(sys.version_info < (3, 12, 1), reason="the rule of Python 3.12.1 and later")
python_313 = pytest.mark.skipif(sys.version_info < (3, 13), reason="new in Python 3.13")


async def connect(loop, server):
    """A client protocol connected to the first socket of a server."""
    protocol = Recorder()
    await loop.create_connection(lambda: protocol, *server.sockets[0].getsockname()[:2])
    return protocol


class Served:
    """A protocol factory that keeps what it made."""

    def __init__(self, **reactions):
        self.protocols = []
        self.reactions = reactions

    def __call__(self):
        self.protocols.append(Recorder(**self.reactions))
        return self.protocols[-1]


async def connected(loop, server, factory):
    """(client, served) of one new connection."""
    client = await connect(loop, server)
    while not factory.protocols or factory.protocols[-1].transport is None:
        await asyncio.sleep(0)
    return client, factory.protocols[-1]


def test_serves(loop, run):
    async def main():
        factory = Served(data_received=lambda p: p.transport.write(b"echo " + p.data))
        server = await loop.create_server(factory, LOOPBACK, 0)
        client, served = await connected(loop, server, factory)
        client.transport.write(b"hi")
        await client.until_bytes(7)
        assert bytes(client.data) == b"echo hi"
        client.transport.close()
        await served.until_event("connection_lost")
        server.close()
        await server.wait_closed()

    run(main())


def test_properties(loop, run):
    async def main():
        server = await loop.create_server(Recorder, LOOPBACK, 0)
        assert isinstance(server, asyncio.AbstractServer)
        assert isinstance(server, asyncio.Server)
        assert server.get_loop() is loop
        assert server.is_serving() is True
        assert type(server.sockets) is tuple
        [sock] = server.sockets
        assert type(sock) is asyncio.trsock.TransportSocket
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 1
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
        assert repr(server) == f"<Server sockets={server.sockets!r}>"
        server.close()
        assert server.sockets == ()
        assert server.is_serving() is False
        server.close()
        await server.wait_closed()
        assert repr(server) == "<Server sockets=()>"

    run(main())


@pytest.mark.parametrize("host", [None, ""])
def test_all_addresses(loop, run, host):
    async def main():
        server = await loop.create_server(Recorder, host, 0)
        families = {s.family for s in server.sockets}
        assert socket.AF_INET in families
        for sock in server.sockets:
            if sock.family == socket.AF_INET6:
                assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
            else:
                assert sock.getsockname()[0] == "0.0.0.0"
        server.close()
        await server.wait_closed()

    run(main())


@pytest.mark.parametrize("hosts", [("127.0.0.1", "127.0.0.2"), ["127.0.0.1", "127.0.0.2", "127.0.0.1"]])
def test_several_hosts(loop, run, hosts):
    async def main():
        server = await loop.create_server(Recorder, hosts, 0)
        assert sorted(s.getsockname()[0] for s in server.sockets) == ["127.0.0.1", "127.0.0.2"]
        server.close()
        await server.wait_closed()

    run(main())


def test_given_socket(loop, run):
    async def main():
        sock = socket.socket()
        sock.bind((LOOPBACK, 0))
        factory = Served()
        server = await loop.create_server(factory, sock=sock)
        assert sock.gettimeout() == 0
        client, served = await connected(loop, server, factory)
        client.transport.abort()
        await served.until_event("connection_lost")
        server.close()
        await server.wait_closed()
        assert sock.fileno() == -1

    run(main())


def test_options(loop, run):
    async def main():
        server = await loop.create_server(Recorder, LOOPBACK, 0, reuse_address=False, reuse_port=True)
        [sock] = server.sockets
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 0
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 1
        address = sock.getsockname()
        second = await loop.create_server(Recorder, *address, reuse_port=True)
        for each in (server, second):
            each.close()
            await each.wait_closed()

    run(main())


@python_313
def test_keep_alive(loop, run):
    async def main():
        factory = Served()
        server = await loop.create_server(factory, LOOPBACK, 0, keep_alive=True)
        assert server.sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        client, served = await connected(loop, server, factory)
        sock = served.transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        client.transport.abort()
        await served.until_event("connection_lost")
        server.close()
        await server.wait_closed()

    run(main())


def test_address_in_use(loop, run, open_fds):
    async def main():
        server = await loop.create_server(Recorder, LOOPBACK, 0)
        address = server.sockets[0].getsockname()
        before = open_fds()
        with pytest.raises(OSError) as caught:
            await loop.create_server(Recorder, *address)
        assert caught.value.errno == errno.EADDRINUSE
        prefix = f"error while attempting to bind on address {address!r}: "
        assert caught.value.strerror.startswith(prefix)
        assert caught.value.strerror.endswith("address already in use")
        assert open_fds() == before
        server.close()
        await server.wait_closed()

    run(main())


def test_bad_arguments(loop, run):
    async def main():
        with socket.socket() as sock, socket.socket(type=socket.SOCK_DGRAM) as datagram:
            for arguments, kind, text in (
                (dict(), ValueError, "Neither host/port nor sock were specified"),
                (dict(host=LOOPBACK, port=0, sock=sock), ValueError, "host/port and sock can not be specified"),
                (dict(sock=datagram), ValueError, f"A Stream Socket was expected, got {datagram!r}"),
                (dict(host=LOOPBACK, port=0, ssl=True), TypeError, "ssl argument must be an SSLContext or None"),
                (dict(port=0, ssl_handshake_timeout=1), ValueError, "ssl_handshake_timeout is only meaningful"),
                (dict(port=0, ssl_shutdown_timeout=1), ValueError, "ssl_shutdown_timeout is only meaningful"),
            ):
                with pytest.raises(kind, match=re.escape(text)):
                    await loop.create_server(Recorder, **arguments)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        wrapped = context.wrap_socket(socket.socket(), server_side=True, do_handshake_on_connect=False)
        with wrapped, pytest.raises(TypeError, match="Socket cannot be of type SSLSocket"):
            await loop.create_server(Recorder, sock=wrapped)

    run(main())


def test_start_serving_later(loop, run):
    async def main():
        factory = Served()
        server = await loop.create_server(factory, LOOPBACK, 0, start_serving=False)
        assert server.is_serving() is False
        with pytest.raises(ConnectionRefusedError):
            await connect(loop, server)
        await server.start_serving()
        await server.start_serving()
        assert server.is_serving() is True
        client, served = await connected(loop, server, factory)
        client.transport.abort()
        await served.until_event("connection_lost")
        server.close()
        await server.wait_closed()

    run(main())


def test_serve_forever_until_cancelled(loop, run):
    async def main():
        factory = Served()
        server = await loop.create_server(factory, LOOPBACK, 0, start_serving=False)
        serving = loop.create_task(server.serve_forever())
        await asyncio.sleep(0)
        assert server.is_serving()
        text = re.escape(f"server {server!r} is already being awaited on serve_forever()")
        with pytest.raises(RuntimeError, match=text):
            await server.serve_forever()
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert not server.is_serving() and server.sockets == ()
        with pytest.raises(RuntimeError, match=re.escape(f"server {server!r} is closed")):
            await server.serve_forever()

    run(main())


def test_close_ends_serve_forever(loop, run):
    async def main():
        server = await loop.create_server(Recorder, LOOPBACK, 0)
        serving = loop.create_task(server.serve_forever())
        await asyncio.sleep(0)
        server.close()
        with pytest.raises(asyncio.CancelledError):
            await serving

    run(main())


def test_async_with(loop, run):
    async def main():
        async with await loop.create_server(Recorder, LOOPBACK, 0) as server:
            assert server.is_serving()
            address = server.sockets[0].getsockname()
        assert server.sockets == ()
        with pytest.raises(ConnectionRefusedError):
            await loop.create_connection(Recorder, *address)

    run(main())


def test_close_leaves_the_connections_alone(loop, run):
    async def main():
        factory = Served()
        server = await loop.create_server(factory, LOOPBACK, 0)
        client, served = await connected(loop, server, factory)
        server.close()
        client.transport.write(b"still")
        await served.until_bytes(5)
        client.transport.close()
        await served.until_event("connection_lost")
        await asyncio.wait_for(server.wait_closed(), 5)

    run(main())


@python_312
def test_wait_closed_waits_for_the_connections(loop, run):
    async def main():
        factory = Served()
        server = await loop.create_server(factory, LOOPBACK, 0)
        waiters = [loop.create_task(server.wait_closed()) for _ in range(2)]
        client, served = await connected(loop, server, factory)
        server.close()
        waiters.append(loop.create_task(server.wait_closed()))
        await turns(3)
        assert not any(w.done() for w in waiters)
        client.transport.close()
        await served.until_event("connection_lost")
        assert await asyncio.gather(*waiters) == [None] * 3
        assert await server.wait_closed() is None

    run(main())


@python_312
def test_wait_closed_waits_for_close(loop, run):
    async def main():
        factory = Served()
        server = await loop.create_server(factory, LOOPBACK, 0)
        client, served = await connected(loop, server, factory)
        waiter = loop.create_task(server.wait_closed())
        client.transport.close()
        await served.until_event("connection_lost")
        await asyncio.sleep(0)
        assert not waiter.done()
        server.close()
        await waiter

    run(main())


@python_312
@pytest.mark.parametrize("end", ["close", "abort"])
def test_wait_closed_returns_two_turns_after_the_end_of_the_last_connection(loop, run, end):
    async def main():
        factory = Served()
        server = await loop.create_server(factory, LOOPBACK, 0)
        client, served = await connected(loop, server, factory)
        waiter = loop.create_task(server.wait_closed())
        await asyncio.sleep(0)
        server.close()
        getattr(served.transport, end)()
        await asyncio.sleep(0)
        assert served.is_lost and not waiter.done()
        await asyncio.sleep(0)
        assert waiter.done()
        await client.until_event("connection_lost")

    run(main())


@python_313
@pytest.mark.parametrize("end", ["close_clients", "abort_clients"])
def test_end_of_all_clients(loop, run, end):
    async def main():
        factory = Served()
        server = await loop.create_server(factory, LOOPBACK, 0)
        pairs = [await connected(loop, server, factory) for _ in range(3)]
        getattr(server, end)()
        for client, served in pairs:
            assert served.transport.is_closing()
            await served.until_event("connection_lost")
            await client.until_event("connection_lost")
            assert served.lost_with is None
        assert server.is_serving()
        server.close()
        await server.wait_closed()

    run(main())


@python_313
def test_close_clients_flushes_and_abort_clients_drops(loop, run):
    payload = bytes(10 << 20)

    async def main():
        factory = Served()
        server = await loop.create_server(factory, LOOPBACK, 0)
        client, served = await connected(loop, server, factory)
        client.transport.pause_reading()
        served.transport.write(payload)
        server.close_clients()
        client.transport.resume_reading()
        await client.until_event("connection_lost")
        assert len(client.data) == len(payload)
        client, served = await connected(loop, server, factory)
        client.transport.pause_reading()
        served.transport.write(payload)
        server.close_clients()
        server.abort_clients()
        await served.until_event("connection_lost")
        client.transport.resume_reading()
        await client.until_event("connection_lost")
        assert len(client.data) < len(payload)
        server.close()
        await server.wait_closed()

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 15), reason="new in Python 3.15")
def test_cancelled_serve_forever_closes_the_clients(loop, run):
    async def main():
        factory = Served()
        server = await loop.create_server(factory, LOOPBACK, 0)
        client, served = await connected(loop, server, factory)
        serving = loop.create_task(server.serve_forever())
        await asyncio.sleep(0)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(serving, 5)
        assert served.is_lost
        await client.until_event("connection_lost")

    run(main())


def test_close_before_the_queue_is_accepted(loop, run):
    """A connection the kernel made but the server never saw is reset, and nothing is left of it."""

    async def main():
        factory = Served()
        server = await loop.create_server(factory, LOOPBACK, 0)
        with socket.create_connection(server.sockets[0].getsockname()) as client:
            client.setblocking(False)
            server.close()
            await server.wait_closed()
            try:
                assert await loop.sock_recv(client, 1) == b""
            except ConnectionResetError:
                pass
        assert factory.protocols == []

    run(main())


def test_all_of_a_burst_are_accepted(loop, run):
    async def main():
        factory = Served()
        server = await loop.create_server(factory, LOOPBACK, 0, backlog=100)
        clients = await asyncio.gather(*(connect(loop, server) for _ in range(60)))
        while sum(p.transport is not None for p in factory.protocols) < 60:
            await asyncio.sleep(0)
        for client in clients:
            client.transport.close()
        for served in factory.protocols:
            await served.until_event("connection_lost")
        server.close()
        await server.wait_closed()

    run(main())


@pytest.mark.cxxloop_only("asyncio leaves the socket to a destructor that fails")
def test_close_inside_the_factory(loop, run):
    async def main():
        served = Recorder()

        def factory():
            server.close()
            return served

        server = await loop.create_server(factory, LOOPBACK, 0)
        client = await connect(loop, server)
        await client.until_event("connection_lost")
        assert not served.events
        await asyncio.wait_for(server.wait_closed(), 5)

    run(main())


@pytest.mark.parametrize("debug", [False, True])
def test_factory_that_raises(loop, run, reported, debug):
    def factory():
        raise ZeroDivisionError("no protocol")

    def take_reports():
        for context in reported:
            assert set(context) == {"message", "exception"}
            assert context["message"] == "Error on transport creation for incoming connection"
            assert str(context["exception"]) == "no protocol"
        count = len(reported)
        reported.clear()
        return count

    async def main():
        loop.set_debug(debug)
        server = await loop.create_server(factory, LOOPBACK, 0)
        for _ in range(2):
            client = await connect(loop, server)
            if debug:
                while not reported:
                    await asyncio.sleep(0)
                assert take_reports() == 1
                client.transport.abort()  # In asyncio the log record of the accept keeps the socket open.
            await client.until_event("connection_lost")
        assert take_reports() == 0
        assert server.is_serving()
        server.close()
        await server.wait_closed()

    run(main())


current = contextvars.ContextVar("current", default="none")


def test_context_of_the_callbacks(loop, run):
    async def main():
        seen = []
        names = ("connection_made", "data_received", "eof_received", "connection_lost")
        factory = Served(**{n: lambda _, n=n: seen.append((n, current.get())) for n in names})

        def make():
            seen.append(("factory", current.get()))
            return factory()

        async def serve():
            current.set("serve")
            return await loop.create_server(make, LOOPBACK, 0)

        server = await asyncio.create_task(serve())
        current.set("main")
        client, served = await connected(loop, server, factory)
        client.transport.write(b"x")
        await served.until_bytes(1)
        client.transport.close()
        await served.until_event("connection_lost")
        assert seen == [("factory", "serve")] + [(n, "serve") for n in names]
        server.close()
        await server.wait_closed()

    run(main())


def test_connections_share_no_context(loop, run):
    """What one connection sets is not seen by the next one."""

    async def main():
        seen = []

        def made(protocol):
            seen.append(current.get())
            current.set("taken")

        factory = Served(connection_made=made)
        server = await loop.create_server(factory, LOOPBACK, 0)
        for _ in range(3):
            client, served = await connected(loop, server, factory)
            client.transport.abort()
            await served.until_event("connection_lost")
        assert seen == ["none"] * 3
        server.close()
        await server.wait_closed()

    run(main())


def test_debug_log(loop, run, asyncio_records):
    async def main():
        loop.set_debug(True)
        server = await loop.create_server(Recorder, LOOPBACK, 0)
        assert f"{server!r} is serving" in asyncio_records.texts(20)
        client = await connect(loop, server)
        client.transport.close()
        await client.until_event("connection_lost")
        await asyncio.sleep(0)
        assert any(" got a new connection from (" in t for t in asyncio_records.texts(10))
        server.close()
        await asyncio.wait_for(server.wait_closed(), 5)

    run(main())


@pytest.mark.cxxloop_only("asyncio keeps the protocol factory registered until the loop is closed")
def test_server_whose_socket_was_closed_by_somebody_else_is_forgotten(loop, run):
    class Factory:
        def __call__(self):
            return asyncio.Protocol()

    async def main():
        factory = Factory()
        sock = socket.create_server((LOOPBACK, 0))
        server = await loop.create_server(factory, sock=sock)
        sock.close()
        with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
            server.close()
        ref = weakref.ref(factory)
        del factory, server, sock
        gc.collect()
        return ref

    assert run(main())() is None


@pytest.mark.prompt_only("the socket is closed when the kernel has let go")
def test_accepted_sockets_are_like_others(loop, run):
    async def main():
        accepted = asyncio.Future()

        class Protocol(asyncio.Protocol):
            def connection_made(self, transport):
                accepted.set_result(transport)

        server = await loop.create_server(Protocol, LOOPBACK, 0)
        with socket.create_connection(server.sockets[0].getsockname()) as client:
            transport = await accepted
            sock = transport.get_extra_info("socket")
            told = (sock.family, sock.type, sock.proto, sock.gettimeout(), type(sock._sock), sock._sock._closed, sock._sock._io_refs)
            assert sock.getpeername() == client.getsockname()
            transport.close()
        server.close()
        await asyncio.sleep(0)
        assert sock._sock._closed
        return told

    family, kind, proto, timeout, cls, closed, io_refs = run(main())
    assert (family, kind, timeout, cls) == (socket.AF_INET, socket.SOCK_STREAM, 0, socket.socket)
    assert (proto, closed, io_refs) == (socket.IPPROTO_TCP, False, 0)
