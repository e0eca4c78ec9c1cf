# SPDX-License-Identifier: MIT
"""TLS as the peer's bytes see it: records cut and joined, ends, misuse, flow control. The peer is a socket and a BIO."""

import asyncio
import contextlib
import json
import os
import socket
import ssl

import pytest
from recorder import LOOPBACK, BufferedRecorder, Recorder, turns
from tls_peer import Peer, write_certificate


def test_records_of_one_packet_arrive_together(run, connect):
    async def main():
        async with connect() as (served, peer):
            await peer.send(peer.encrypted(b"one ", b"two ", b"three"))
            await served.until_bytes(13)
            assert bytes(served.data) == b"one two three"
            assert served.events == ["connection_made", "data_received"]

    run(main())


@pytest.mark.parametrize("pieces", [2, 3, 7, "bytes"])
def test_records_cut_anywhere(run, connect, pieces):
    message = bytes(range(256)) * 4

    async def main():
        async with connect() as (served, peer):
            ciphertext = peer.encrypted(message, message)
            size = 1 if pieces == "bytes" else -(-len(ciphertext) // pieces)
            for start in range(0, len(ciphertext), size):
                await peer.send(ciphertext[start : start + size])
                await asyncio.sleep(0)
            await served.until_bytes(2 * len(message))
            assert bytes(served.data) == 2 * message

    run(main())


async def receive_into_buffers(connect, served):
    message = bytes(range(256)) * (4 if len(served.buffer) == 1 else 400)
    async with connect(served) as (served, peer):
        for _ in range(2):
            await peer.send(peer.encrypted(message))
        await served.until_bytes(2 * len(message))
        assert bytes(served.data) == 2 * message


@pytest.mark.parametrize("size", [1, 100, 16384, 300_000])
def test_buffered_protocol(run, connect, size):
    served = BufferedRecorder(size, get_buffer=lambda recorder: memoryview(recorder.buffer))
    run(receive_into_buffers(connect, served), timeout=30)


@pytest.mark.cxxloop_only("asyncio reads all records but the first into a copy of such a buffer")
def test_bytearray_as_buffer(run, connect):
    run(receive_into_buffers(connect, BufferedRecorder(300_000)))


@pytest.mark.parametrize("size", [0, 1, 16384, 16385, 1_000_000])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_writes_of_every_size_and_kind(run, connect, size, kind):
    message = bytes(size)

    async def main():
        async with connect() as (served, peer):
            served.transport.write(kind(message))
            served.transport.writelines(kind(part) for part in (b"", b"the ", b"end"))
            assert await peer.read(size + 7) == message + b"the end"

    run(main(), timeout=30)


def test_what_is_no_data(run, connect):
    async def main():
        async with connect() as (served, _):
            with pytest.raises(TypeError, match="data: expecting a bytes-like instance, got str"):
                served.transport.write("text")
            with pytest.raises(NotImplementedError):
                served.transport.write_eof()
            assert not served.transport.can_write_eof()
            with pytest.raises(ValueError, match=r"high \(1\) must be >= low \(2\) must be >= 0"):
                served.transport.set_write_buffer_limits(high=1, low=2)

    run(main())


def test_last_words_come_before_the_end(run, connect):
    async def main():
        async with connect() as (served, peer):
            await peer.send(peer.encrypted(b"last words") + peer.close_notify())
            peer.sock.shutdown(socket.SHUT_WR)
            await served.until_event("connection_lost")
            assert served.events == ["connection_made", "data_received", "eof_received", "connection_lost"]
            assert bytes(served.data) == b"last words" and served.lost_with is None

    run(main())


def test_last_words_of_a_paused_connection(run, connect):
    async def main():
        async with connect() as (served, peer):
            served.transport.pause_reading()
            assert not served.transport.is_reading()
            await peer.send(peer.encrypted(b"last words") + peer.close_notify())
            peer.sock.shutdown(socket.SHUT_WR)
            await turns()
            assert served.events == ["connection_made"]
            served.transport.resume_reading()
            await served.until_event("connection_lost")
            assert bytes(served.data) == b"last words"

    run(main())


def test_tls_cannot_stay_half_open(run, connect, asyncio_records):
    async def main():
        async with connect(Recorder(eof_received=lambda _: True)) as (served, peer):
            await peer.send(peer.close_notify())
            await served.until_event("connection_lost")
        assert "returning true from eof_received() has no effect when using ssl" in asyncio_records.texts(30)

    run(main())


@pytest.mark.parametrize(
    "garbage",
    [b"not a record at all", b"\x17\x03\x03\x00\x20" + bytes(32), b"\x17\x03\x03\xff\xff", b"\x17\x02\x00\x00\x20"],
    ids=["text", "body", "length", "version"],
)
def test_garbage_after_the_handshake(run, connect, reported, garbage):
    async def main():
        async with connect() as (served, peer):
            await peer.send(garbage)
            await served.until_event("connection_lost")
            assert isinstance(served.lost_with, ssl.SSLError)
            assert not served.data and reported == []

    run(main())


def test_failing_protocol(run, connect, reported):
    def fail(_):
        raise RuntimeError("cannot")

    async def main():
        async with connect(Recorder(data_received=fail)) as (served, peer):
            await peer.send(peer.encrypted(b"data"))
            await served.until_event("connection_lost")
            assert str(served.lost_with) == "cannot"
        assert [context["message"] for context in reported] == ["Fatal error on SSL protocol"]
        assert isinstance(reported[0]["exception"], RuntimeError)
        reported.clear()

    run(main())


def test_exit_leaves_the_loop(loop, run, connect):
    def leave(_):
        raise KeyboardInterrupt("enough")

    state = contextlib.AsyncExitStack()

    async def main():
        served, peer = await state.enter_async_context(connect(Recorder(data_received=leave)))
        await peer.send(peer.encrypted(b"data"))
        await served.until_bytes(5)

    task = loop.create_task(main())
    with pytest.raises(KeyboardInterrupt, match="enough"):
        loop.run_until_complete(task)
    task.cancel()

    async def end():
        await asyncio.gather(task, return_exceptions=True)
        await state.aclose()

    run(end())


def test_close_while_the_peer_goes_on_sending(run, connect):
    async def main():
        async with connect() as (served, peer):
            served.transport.pause_reading()
            await peer.send(peer.encrypted(bytes(50_000)))
            served.transport.resume_reading()
            await served.until_bytes(50_000)
            served.transport.close()
            await peer.send(peer.encrypted(b"and more"))
            await asyncio.wait_for(served.until_event("connection_lost"), 5)

    run(main())


def test_shutdown_timeout(run, connect):
    async def main():
        async with connect(ssl_shutdown_timeout=0.05) as (served, _):
            served.transport.close()
            await served.until_event("connection_lost")
            assert isinstance(served.lost_with, TimeoutError)
            assert str(served.lost_with) == "SSL shutdown timed out"

    run(main())


def test_abort_does_not_wait_for_the_peer(run, connect):
    async def main():
        async with connect() as (served, peer):
            served.transport.write(bytes(8 << 20))
            served.transport.abort()
            assert served.transport.is_closing()
            await asyncio.wait_for(served.until_event("connection_lost"), 1)
            assert served.lost_with is None

    run(main())


def test_writes_after_the_end_are_counted(run, connect, asyncio_records):
    async def main():
        async with connect() as (served, _):
            transport = served.transport
            transport.abort()
            for _ in range(7):
                transport.write(b"nobody reads this")
            assert asyncio_records.texts(30).count("SSL connection is closed") == 2

    run(main())


def test_pause_keeps_data_back(run, connect):
    async def main():
        async with connect() as (served, peer):
            served.transport.pause_reading()
            await peer.send(peer.encrypted(b"later"))
            await turns()
            assert not served.data
            served.transport.resume_reading()
            await served.until_bytes(5)

    run(main())


def test_low_limit_does_not_stop_half_a_record(run, connect):
    message = bytes(10_000)

    async def main():
        async with connect() as (served, peer):
            await peer.send(peer.encrypted(b"first"))
            await served.until_bytes(5)
            served.transport.set_read_buffer_limits(high=1, low=0)
            ciphertext = peer.encrypted(message)
            await peer.send(ciphertext[:5000])
            await turns()
            assert served.transport.get_read_buffer_size() == 0
            await peer.send(ciphertext[5000:])
            await served.until_bytes(5 + len(message))

    run(main())


def test_flow_control_of_writes(run, connect):
    async def main():
        async with connect() as (served, peer):
            served.transport.set_write_buffer_limits(high=100_000, low=10_000)
            assert served.transport.get_write_buffer_limits() == (10_000, 100_000)
            written = 0
            while "pause_writing" not in served.events:
                served.transport.write(bytes(50_000))
                written += 50_000
            assert served.transport.get_write_buffer_size() >= 100_000
            assert len(await peer.read(written)) == written
            await served.until_event("resume_writing")
            assert served.events.count("pause_writing") == 1

    run(main(), timeout=30)


def test_private_names_that_programs_read(run, connect, server_context):
    async def main():
        async with connect() as (served, _):
            transport = served.transport
            assert transport._start_tls_compatible
            assert transport._ssl_protocol._app_transport is transport
            assert transport._ssl_protocol._app_protocol is served
            assert transport._ssl_protocol._sslcontext is server_context
            assert transport.get_protocol() is served

    run(main())


def test_tls_in_tls(loop, run, server_context, client_context):
    message = bytes(range(256)) * 2000

    async def serve(reader, writer):
        await writer.start_tls(server_context)
        writer.write(await reader.readexactly(len(message)))
        await writer.drain()
        writer.close()

    async def main():
        server = await asyncio.start_server(serve, LOOPBACK, 0, ssl=server_context)
        address = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(*address, ssl=client_context)
        await writer.start_tls(client_context)
        writer.write(message)
        assert await reader.readexactly(len(message)) == message
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        server.close()
        await asyncio.wait_for(server.wait_closed(), 5)

    run(main(), timeout=30)


@pytest.mark.cxxloop_only("asyncio moves what the reader has buffered since 3.14")
def test_client_that_does_not_wait_for_the_upgrade(run, server_context, client_context):
    async def upgrade(reader, writer):
        assert await reader.readline() == b"STARTTLS\n"
        while not reader._buffer:
            await asyncio.sleep(0)
        await writer.start_tls(server_context)
        writer.write(b"secret")
        await writer.drain()
        writer.close()

    async def main():
        server = await asyncio.start_server(upgrade, LOOPBACK, 0)
        loop = asyncio.get_running_loop()
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, server.sockets[0].getsockname())
            peer = Peer(sock, client_context)
            await peer.send(b"STARTTLS\n")
            await peer.handshake()
            assert await peer.read(6) == b"secret"
        server.close()
        await asyncio.wait_for(server.wait_closed(), 5)

    run(main())


IDLE_SOURCE = """
    import json, socket, sys
    from weighing import Clients, Echo, make_contexts, resident_kib

    CONNECTIONS, WARM_UP = 150, 30
    server_context, client_context = make_contexts(sys.argv[1])

    def connect(address):
        sock = client_context.wrap_socket(socket.create_connection(address))
        sock.sendall(bytes(1024))
        missing = 1024
        while missing:
            missing -= len(sock.recv(missing))
        return sock

    def play(address):
        kept = [connect(address) for _ in range(WARM_UP)]
        yield
        kept += [connect(address) for _ in range(CONNECTIONS)]
        yield

    async def main():
        server = await loop.create_server(Echo, sock=clients.listener, ssl=server_context)
        await clients.step()
        before = resident_kib()
        await clients.step()
        print(json.dumps((resident_kib() - before) / CONNECTIONS))
        clients.end()
        server.close()

    clients = Clients(play)
    loop = new_loop()
    loop.run_until_complete(main())
"""


@pytest.mark.skipif("libasan" in os.environ.get("LD_PRELOAD", ""), reason="freed memory is kept back")
@pytest.mark.cxxloop_only("asyncio keeps 256 KiB for each")
def test_memory_of_an_idle_connection(run_script, tmp_path):
    assert json.loads(run_script(IDLE_SOURCE, write_certificate(tmp_path)).stdout) < 40
