# SPDX-License-Identifier: MIT
"""StreamReader and StreamWriter over TCP and UNIX connections."""

import asyncio
import contextlib
import inspect
import socket
import sys

import pytest
from recorder import LOOPBACK, attached, reset, tcp_pair, turns


class Network:
    """Starts servers and opens connections of one kind; closes them all at the end."""

    def __init__(self, kind, folder):
        self.kind = kind
        self.path = str(folder / "socket")
        self.servers = []
        self.writers = []
        self.handlers = []

    async def serve(self, handler, **options):
        if inspect.iscoroutinefunction(handler):
            handler = self._noting(handler)
        if self.kind == "tcp":
            server = await asyncio.start_server(handler, LOOPBACK, 0, **options)
        else:
            server = await asyncio.start_unix_server(handler, self.path, **options)
        self.servers.append(server)
        return server

    def _noting(self, handler):
        async def noted(reader, writer):
            self.handlers.append(asyncio.current_task())
            await handler(reader, writer)

        return noted

    async def open(self, **options):
        address = self.servers[-1].sockets[0].getsockname()
        if self.kind == "tcp":
            reader, writer = await asyncio.open_connection(*address, **options)
        else:
            reader, writer = await asyncio.open_unix_connection(address, **options)
        self.writers.append(writer)
        return reader, writer

    async def close(self):
        for writer in self.writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        for server in self.servers:
            server.close()
            await asyncio.wait_for(server.wait_closed(), 5)
        await asyncio.gather(*self.handlers, return_exceptions=True)


@pytest.fixture(params=["tcp", "unix"])
def network(request, tmp_path):
    return Network(request.param, tmp_path)


@pytest.fixture
def play(network, run):
    """Runs a main coroutine of the network to its end and closes what it left."""

    def play(main, **options):
        async def scene():
            try:
                await main()
            finally:
                await network.close()

        run(scene(), **options)

    return play


async def echo(reader, writer):
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


def test_echo(network, play):
    async def main():
        await network.serve(echo)
        reader, writer = await network.open()
        for text in (b"one", b"two" * 1000):
            writer.write(text)
            await writer.drain()
            assert await reader.readexactly(len(text)) == text
        writer.write_eof()
        assert await reader.read() == b""
        assert reader.at_eof()

    play(main)


def test_plain_handler_function(network, play):
    async def main():
        seen = asyncio.get_running_loop().create_future()

        def handler(reader, writer):
            seen.set_result((reader, writer))
            writer.close()

        await network.serve(handler)
        reader, _ = await network.open()
        assert await reader.read() == b""
        served_reader, served_writer = await seen
        assert isinstance(served_reader, asyncio.StreamReader)
        assert isinstance(served_writer, asyncio.StreamWriter)

    play(main)


def test_reads(network, play):
    async def send(reader, writer):
        writer.write(b"line one\nline two\n")
        writer.write(b"exactly10!until;rest")
        writer.close()

    async def main():
        await network.serve(send)
        reader, _ = await network.open()
        assert await reader.readline() == b"line one\n"
        assert await reader.readline() == b"line two\n"
        assert await reader.readexactly(10) == b"exactly10!"
        assert await reader.readuntil(b";") == b"until;"
        assert await reader.read(2) == b"re"
        assert await reader.read() == b"st"
        assert await reader.readline() == b""
        assert reader.at_eof()
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await reader.readexactly(1)
        assert caught.value.partial == b"" and caught.value.expected == 1

    play(main)


def test_incomplete_reads(network, play):
    async def send(reader, writer):
        writer.write(b"short")
        writer.close()

    async def main():
        await network.serve(send)
        for read in ("readexactly", "readuntil"):
            reader, _ = await network.open()
            with pytest.raises(asyncio.IncompleteReadError) as caught:
                await (reader.readexactly(10) if read == "readexactly" else reader.readuntil(b"!"))
            assert caught.value.partial == b"short"
        reader, _ = await network.open()
        assert [line async for line in reader] == [b"short"]

    play(main)


def test_limit_overrun(network, play):
    async def send(reader, writer):
        writer.write(b"x" * 5000 + b"\nnext\n")
        writer.close()

    async def main():
        await network.serve(send)
        reader, _ = await network.open(limit=1000)
        with pytest.raises(asyncio.LimitOverrunError, match="Separator is (not )?found,"):
            await reader.readuntil(b"\n")
        reader, _ = await network.open(limit=1000)
        with pytest.raises(ValueError, match="Separator is (not )?found,"):
            await reader.readline()
        reader, _ = await network.open(limit=10)
        assert len(await reader.readexactly(5001)) == 5001
        assert await reader.readline() == b"next\n"

    play(main)


def test_reader_pauses_its_transport_at_twice_the_limit(network, play):
    total = 8 << 20

    async def send(reader, writer):
        writer.write(bytes(total))
        writer.close()

    async def main():
        await network.serve(send)
        reader, writer = await network.open(limit=1000)
        while writer.transport.is_reading():
            await asyncio.sleep(0)
        assert await reader.read(1) == b"\0"
        assert len(await reader.read()) == total - 1

    play(main)


def test_drain_waits_for_a_slow_reader(network, play):
    payload = bytes(range(256)) * 40_000

    async def main():
        start = asyncio.Event()
        received = asyncio.get_running_loop().create_future()

        async def slow(reader, writer):
            await start.wait()
            received.set_result(await reader.read())
            writer.close()

        await network.serve(slow)
        reader, writer = await network.open()
        writer.write(payload)
        draining = asyncio.ensure_future(writer.drain())
        await turns()
        assert not draining.done()
        start.set()
        await draining
        writer.write_eof()
        assert await received == payload

    play(main)


def test_several_tasks_may_drain(network, play):
    async def main():
        await network.serve(echo)
        reader, writer = await network.open()
        collected = asyncio.ensure_future(reader.readexactly(6 << 20))
        for _ in range(3):
            writer.write(bytes(2 << 20))
        await asyncio.gather(*(writer.drain() for _ in range(3)))
        assert len(await collected) == 6 << 20

    play(main)


def test_writer_closed_and_waited_for(network, play):
    async def main():
        await network.serve(echo)
        reader, writer = await network.open()
        writer.write(b"x" * 100_000)
        assert not writer.is_closing()
        writer.close()
        assert writer.is_closing()
        await writer.wait_closed()
        with pytest.raises(ConnectionResetError, match="Connection lost"):
            await writer.drain()

    play(main)


def test_closed_while_draining(network, play):
    async def main():
        async def stuck(reader, writer):
            writer.transport.pause_reading()
            await closed.wait()
            writer.close()

        closed = asyncio.Event()
        await network.serve(stuck)
        reader, writer = await network.open()
        writer.write(bytes(16 << 20))
        draining = asyncio.ensure_future(writer.drain())
        await asyncio.sleep(0)
        assert not draining.done()
        writer.transport.abort()
        await draining
        with pytest.raises(ConnectionResetError, match="Connection lost"):
            await writer.drain()
        closed.set()

    play(main)


def test_half_close(network, play):
    async def collect(reader, writer):
        data = await reader.read()
        assert reader.at_eof()
        writer.write(b"got " + data)
        writer.close()

    async def main():
        await network.serve(collect)
        reader, writer = await network.open()
        assert writer.can_write_eof()
        writer.write(b"all of it")
        writer.write_eof()
        assert await reader.read() == b"got all of it"

    play(main)


def test_writelines_and_extra_info(network, play):
    async def main():
        await network.serve(echo)
        reader, writer = await network.open()
        writer.writelines([b"a", b"b", bytearray(b"c")])
        assert await reader.readexactly(3) == b"abc"
        assert writer.get_extra_info("socket").family in (socket.AF_INET, socket.AF_UNIX)
        assert writer.get_extra_info("nothing", "default") == "default"
        assert isinstance(writer.transport, asyncio.Transport)

    play(main)


def test_many_clients(network, play):
    async def client(number):
        reader, writer = await network.open()
        for turn in range(5):
            line = b"%d of client %d\n" % (turn, number)
            writer.write(line)
            await writer.drain()
            assert await reader.readline() == line
        writer.close()
        await writer.wait_closed()

    async def main():
        await network.serve(echo, backlog=256)
        await asyncio.gather(*(client(n) for n in range(100)))

    play(main, timeout=30)


def test_reader_cancelled_while_waiting(network, play):
    async def main():
        await network.serve(echo)
        reader, writer = await network.open()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(reader.readline(), 0.02)
        writer.write(b"still\n")
        assert await reader.readline() == b"still\n"

    play(main)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="new in Python 3.12")
def test_handler_that_raises_is_reported(network, play, reported):
    error = ZeroDivisionError("handler bug")

    async def handler(reader, writer):
        raise error

    async def main():
        await network.serve(handler)
        reader, _ = await network.open()
        assert await reader.read() == b""  # The handler's transport is closed for it.
        [context] = [c for c in reported if c.get("exception") is error]
        assert context["message"] == "Unhandled exception in client_connected_cb"

    play(main)


def test_reset_is_raised_by_the_reader(run):
    async def main():
        with tcp_pair() as (left, right):
            reader, writer = await asyncio.open_connection(sock=left)
            reading = asyncio.ensure_future(reader.read())
            await asyncio.sleep(0)
            reset(right)
            with pytest.raises(ConnectionResetError):
                await reading
            assert isinstance(reader.exception(), ConnectionResetError)
            writer.close()
            with pytest.raises(ConnectionResetError):
                await writer.wait_closed()

    run(main())


def test_stream_protocol_on_an_attached_transport(loop, run):
    async def main():
        reader = asyncio.StreamReader()
        async with attached() as (transport, recorder, peer):
            protocol = asyncio.StreamReaderProtocol(reader)
            transport.set_protocol(protocol)
            protocol.connection_made(transport)
            writer = asyncio.StreamWriter(transport, protocol, reader, loop)
            peer.sendall(b"line\n")
            assert await reader.readline() == b"line\n"
            writer.close()
            await writer.wait_closed()
            recorder.events.append("connection_lost")  # attached() waits for it

    run(main())


def test_written_bytes_are_sent_when_the_coroutine_yields(run):
    """Whatever blocks after that, the peer has them: no other turn of the loop is needed."""

    async def main():
        with tcp_pair() as (left, right):
            _, writer = await asyncio.open_connection(sock=left)
            writer.write(b"first")
            await asyncio.sleep(0)
            right.settimeout(5)
            assert right.recv(100) == b"first"
            writer.close()
            await writer.wait_closed()

    run(main())


def test_drained_bytes_are_sent_before_the_coroutine_blocks(run):
    async def main():
        with tcp_pair() as (left, peer):
            _, writer = await asyncio.open_connection(sock=left)
            peer.settimeout(5)
            writer.write(b"now")
            await writer.drain()
            assert peer.recv(3) == b"now"  # no turn of the loop in between
            writer.close()
            await writer.wait_closed()

    run(main())
