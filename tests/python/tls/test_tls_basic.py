# SPDX-License-Identifier: MIT
"""TLS connections: echo, big bodies, upgrades of a plain connection, and handshakes that fail."""

import asyncio
import contextlib
import gc
import socket
import ssl

import pytest
from recorder import LOOPBACK, Recorder, turns


@pytest.fixture
def server_context(tls_contexts):
    return tls_contexts[0]


@pytest.fixture
def client_context(tls_contexts):
    return tls_contexts[1]


async def echo(reader, writer):
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def serving(handler=echo, **options):
    server = await asyncio.start_server(handler, LOOPBACK, 0, **options)
    try:
        yield server.sockets[0].getsockname()
    finally:
        server.close()
        await asyncio.wait_for(server.wait_closed(), 5)


async def finish(writer):
    writer.close()
    await writer.wait_closed()


def test_echo(run, server_context, client_context):
    async def main():
        async with serving(ssl=server_context) as address:
            reader, writer = await asyncio.open_connection(*address, ssl=client_context, server_hostname="localhost")
            writer.write(b"hello\n")
            assert await reader.readline() == b"hello\n"
            await finish(writer)

    run(main())


def test_big_bodies_both_ways(run, server_context, client_context):
    payload = bytes(range(256)) * 20_000

    async def main():
        async with serving(ssl=server_context) as address:
            reader, writer = await asyncio.open_connection(*address, ssl=client_context)
            writer.write(payload)
            assert await reader.readexactly(len(payload)) == payload
            await finish(writer)

    run(main(), timeout=30)


def test_many_clients(run, server_context, client_context):
    async def client(address, number):
        reader, writer = await asyncio.open_connection(*address, ssl=client_context)
        line = b"client %d\n" % number
        writer.write(line)
        assert await reader.readline() == line
        await finish(writer)

    async def main():
        async with serving(ssl=server_context) as address:
            await asyncio.gather(*(client(address, n) for n in range(20)))

    run(main(), timeout=30)


def test_extra_info(run, server_context, client_context):
    async def main():
        async with serving(ssl=server_context) as address:
            _, writer = await asyncio.open_connection(*address, ssl=client_context)
            assert isinstance(writer.get_extra_info("ssl_object"), ssl.SSLObject)
            assert writer.get_extra_info("sslcontext") is client_context
            assert writer.get_extra_info("cipher")[1].startswith("TLS")
            assert writer.get_extra_info("peercert")["version"] == 3
            assert writer.get_extra_info("peername") == address
            assert isinstance(writer.get_extra_info("socket"), asyncio.trsock.TransportSocket)
            assert isinstance(writer.transport, asyncio.Transport)
            await finish(writer)

    run(main())


def test_protocol_callbacks(loop, run, server_context, client_context):
    async def main():
        served = Recorder()
        server = await loop.create_server(lambda: served, LOOPBACK, 0, ssl=server_context)
        transport, client = await loop.create_connection(
            Recorder, *server.sockets[0].getsockname(), ssl=client_context, server_hostname="localhost"
        )
        assert client.events == ["connection_made"]
        transport.write(b"one")
        transport.writelines([b"two", b"three"])
        await served.until_bytes(11)
        assert bytes(served.data) == b"onetwothree"
        transport.close()
        await served.until_event("connection_lost")
        await client.until_event("connection_lost")
        assert served.events[0] == "connection_made" and served.events.count("connection_lost") == 1
        assert served.events[-2:] == ["eof_received", "connection_lost"]
        server.close()
        await server.wait_closed()

    run(main())


@pytest.mark.parametrize("buffered_first", [False, True])
def test_start_tls_of_a_writer(run, server_context, client_context, buffered_first):
    async def upgrade(reader, writer):
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"go\n")
        await writer.drain()
        await writer.start_tls(server_context)
        writer.write(b"secret " + await reader.readline())
        await writer.drain()
        writer.close()

    async def main():
        async with serving(upgrade) as address:
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"STARTTLS\n")
            assert await reader.readline() == b"go\n"
            await writer.start_tls(client_context, server_hostname="localhost")
            assert writer.get_extra_info("ssl_object") is not None
            writer.write(b"word\n")
            if buffered_first:
                await writer.drain()
            assert await reader.readline() == b"secret word\n"
            await finish(writer)

    run(main())


def test_start_tls_of_a_transport(loop, run, server_context, client_context):
    async def main():
        async with serving(ssl=server_context) as address:
            protocol = Recorder()
            plain, _ = await loop.create_connection(lambda: protocol, *address)
            secure = await loop.start_tls(plain, protocol, client_context, server_hostname="localhost")
            assert secure is not plain
            secure.write(b"echo")
            await protocol.until_bytes(4)
            assert bytes(protocol.data) == b"echo"
            assert "connection_lost" not in protocol.events
            secure.close()
            await protocol.until_event("connection_lost")

    run(main())


def test_start_tls_refuses_what_it_cannot_take(loop, run, server_context, client_context):
    async def main():
        async with serving() as address:
            transport, protocol = await loop.create_connection(Recorder, *address)
            with pytest.raises(TypeError, match="sslcontext is expected to be an instance of ssl.SSLContext"):
                await loop.start_tls(transport, protocol, None)
            with pytest.raises(TypeError, match="is not supported by start_tls"):
                await loop.start_tls(asyncio.Transport(), protocol, client_context)
            transport.close()
            await protocol.until_event("connection_lost")

    run(main())


def test_untrusted_certificate(run, server_context):
    async def main():
        async with serving(ssl=server_context) as address:
            with pytest.raises(ssl.SSLCertVerificationError):
                await asyncio.open_connection(*address, ssl=ssl.create_default_context())

    run(main())


def test_wrong_name(run, server_context, client_context):
    async def main():
        async with serving(ssl=server_context) as address:
            with pytest.raises(ssl.SSLCertVerificationError, match="(?i)hostname mismatch"):
                await asyncio.open_connection(*address, ssl=client_context, server_hostname="other.test")

    run(main())


def test_plain_client_of_a_tls_server(loop, run, server_context, reported):
    async def main():
        async with serving(ssl=server_context) as address:
            protocol = Recorder()
            transport, _ = await loop.create_connection(lambda: protocol, *address)
            transport.write(b"GET / HTTP/1.0\r\n\r\n")
            await protocol.until_event("connection_lost")
            assert reported == []

    run(main())


def test_handshake_timeout(loop, run, client_context, open_fds):
    async def main():
        with socket.create_server((LOOPBACK, 0)) as silent:
            before = open_fds()
            with pytest.raises(ConnectionAbortedError, match="SSL handshake is taking longer than 0.05 seconds"):
                await loop.create_connection(
                    Recorder, *silent.getsockname(), ssl=client_context, ssl_handshake_timeout=0.05
                )
            await asyncio.sleep(0)
            assert open_fds() == before

    run(main())


def test_handshake_cancelled(loop, run, client_context, open_fds):
    async def main():
        with socket.create_server((LOOPBACK, 0)) as silent:
            before = open_fds()
            connect = loop.create_connection(Recorder, *silent.getsockname(), ssl=client_context)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(connect, 0.05)
            await turns(3)
            assert open_fds() == before

    run(main())


def test_peer_leaves_in_the_handshake(loop, run, client_context):
    async def main():
        async with serving(lambda reader, writer: writer.close()) as address:
            with pytest.raises((ConnectionResetError, ssl.SSLError)):
                await loop.create_connection(Recorder, *address, ssl=client_context)

    run(main())


def test_abort(loop, run, server_context, client_context):
    async def main():
        async with serving(ssl=server_context) as address:
            transport, protocol = await loop.create_connection(Recorder, *address, ssl=client_context)
            transport.write(bytes(1 << 20))
            transport.abort()
            await protocol.until_event("connection_lost")
            assert protocol.events.count("connection_lost") == 1

    run(main())


def test_flow_control(loop, run, server_context, client_context):
    async def main():
        served = Recorder(connection_made=lambda p: p.transport.pause_reading())
        server = await loop.create_server(lambda: served, LOOPBACK, 0, ssl=server_context)
        transport, client = await loop.create_connection(
            Recorder, *server.sockets[0].getsockname(), ssl=client_context
        )
        await served.until_event("connection_made")
        payload = bytes(16 << 20)
        transport.write(payload[: len(payload) // 2])
        transport.write(payload[len(payload) // 2 :])
        assert "pause_writing" in client.events
        served.transport.resume_reading()
        await served.until_bytes(len(payload))
        await client.until_event("resume_writing")
        assert client.events.count("pause_writing") == client.events.count("resume_writing")
        transport.close()
        await served.until_event("connection_lost")
        server.close()
        await server.wait_closed()

    run(main(), timeout=30)


def test_failed_handshakes_in_debug_mode(loop, run, server_context, client_context, logged_errors):
    """Debug mode measures handshakes, those that never began included."""
    loop.set_debug(True)

    async def main():
        async with serving(ssl=server_context) as address:
            for greeting in (b"", b"no client hello"):
                with socket.create_connection(address) as stranger:
                    stranger.sendall(greeting)
                    stranger.shutdown(socket.SHUT_WR)
                    stranger.setblocking(False)
                    with contextlib.suppress(ConnectionResetError):
                        while await loop.sock_recv(stranger, 4096):
                            pass
            _, writer = await asyncio.open_connection(*address, ssl=client_context)
            await finish(writer)
            await asyncio.sleep(0.02)

    run(main())
    assert all("Error on transport creation for incoming connection" in text for text in logged_errors())
    assert not any("TypeError" in text for text in logged_errors())


def test_tls_connections_leave_nothing_however_they_end(loop, run, server_context, client_context):
    """Finished, aborted, and left in the middle of their handshake."""

    def count():
        gc.collect()
        kinds = (asyncio.sslproto.SSLProtocol, ssl.SSLObject, ssl.MemoryBIO)
        return sum(isinstance(thing, kinds) for thing in gc.get_objects())

    async def main():
        async with serving(ssl=server_context) as address:
            before = count()
            for number in range(60):
                if number % 3:
                    reader, writer = await asyncio.open_connection(*address, ssl=client_context)
                    writer.write(b"hello")
                    await reader.readexactly(5)
                    writer.transport.abort() if number % 3 == 1 else writer.close()
                    with contextlib.suppress(ConnectionError, ssl.SSLError):
                        await writer.wait_closed()
                else:
                    with socket.create_connection(address) as stranger:
                        stranger.sendall(b"\x16\x03\x01\x02\x00\x01")
                        await asyncio.sleep(0)
            del reader, writer
            for _ in range(100):
                if count() <= before:
                    return
                await asyncio.sleep(0.01)
            assert count() <= before

    run(main())
