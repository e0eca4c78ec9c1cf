# SPDX-License-Identifier: MIT
"""What every HTTP server has to do on a loop; the test of a server says how to start it."""

import asyncio

import pytest
from http_wire import BIG, CHUNK, connected, request, response


class HttpServerSuite:
    def serving(self):
        """An async context manager: the server runs inside it, its value is the address."""
        raise NotImplementedError

    @pytest.fixture
    def play(self, run):
        def play(scene, *, timeout=20):
            async def main():
                async with self.serving() as address:
                    await scene(address)

            run(main(), timeout=timeout)

        return play

    def test_keep_alive(self, play):
        async def scene(address):
            async with connected(address) as (reader, writer):
                for _ in range(50):
                    writer.write(request("/"))
                    status, _, body = await response(reader)
                    assert (status, body) == (200, b"hello")
                writer.write(request("/", close=True))
                assert (await response(reader))[2] == b"hello"
                assert await reader.read() == b""

        play(scene)

    def test_pipelined_requests(self, play):
        async def scene(address):
            async with connected(address) as (reader, writer):
                writer.write(b"".join(request("/echo", b"%d" % i) for i in range(200)))
                bodies = [(await response(reader))[2] for _ in range(200)]
                assert bodies == [b"%d" % i for i in range(200)]

        play(scene)

    def test_request_in_pieces(self, play):
        async def scene(address):
            async with connected(address) as (reader, writer):
                for byte in request("/echo", b"slowly"):
                    writer.write(bytes([byte]))
                    await asyncio.sleep(0)
                assert (await response(reader))[2] == b"slowly"

        play(scene)

    def test_big_response(self, play):
        async def scene(address):
            async with connected(address) as (reader, writer):
                for _ in range(2):
                    writer.write(request("/big"))
                    _, _, body = await response(reader)
                    assert body == CHUNK * (BIG // len(CHUNK))

        play(scene)

    def test_big_request(self, play):
        async def scene(address):
            async with connected(address) as (reader, writer):
                writer.write(request("/size", bytes(BIG)))
                assert (await response(reader))[2] == b"%d" % BIG
                writer.write(request("/"))
                assert (await response(reader))[2] == b"hello"

        play(scene)

    def test_big_echo(self, play):
        async def scene(address):
            payload = CHUNK * 32
            async with connected(address) as (reader, writer):
                writer.write(request("/echo", payload))
                assert (await response(reader))[2] == payload

        play(scene)

    def test_client_leaves_in_the_middle(self, play):
        async def scene(address):
            for leave in ("request", "response", "abort"):
                async with connected(address) as (reader, writer):
                    if leave == "request":
                        writer.write(request("/size", bytes(BIG))[: 1 << 20])
                        await writer.drain()
                    else:
                        writer.write(request("/big"))
                        await reader.readexactly(100_000)
                    if leave == "abort":
                        writer.transport.abort()
                async with connected(address) as (reader, writer):
                    writer.write(request("/"))
                    assert (await response(reader))[2] == b"hello"

        play(scene)

    def test_many_connections(self, play):
        async def scene(address):
            async def client(number):
                async with connected(address) as (reader, writer):
                    for turn in range(5):
                        word = b"%d/%d" % (number, turn)
                        writer.write(request("/echo", word))
                        assert (await response(reader))[2] == word

            await asyncio.gather(*(client(n) for n in range(50)))

        play(scene)

    def test_connection_churn(self, play):
        async def scene(address):
            for _ in range(100):
                async with connected(address) as (reader, writer):
                    writer.write(request("/", close=True))
                    assert (await response(reader))[2] == b"hello"

        play(scene)

    def test_garbage(self, play):
        async def scene(address):
            async with connected(address) as (reader, writer):
                writer.write(b"\x00\x01\x02 not http at all\r\n\r\n")
                assert b" 400 " in await reader.read()

        play(scene)

    def test_shutdown_under_load(self, run):
        async def main():
            started = asyncio.Event()
            answered = []

            async def client(address):
                async with connected(address) as (reader, writer):
                    try:
                        while True:
                            writer.write(request("/echo", b"load"))
                            assert (await response(reader))[2] == b"load"
                            answered.append(1)
                            if len(answered) > 100:
                                started.set()
                    except (asyncio.IncompleteReadError, ConnectionError):
                        return

            async with self.serving() as address:
                clients = [asyncio.ensure_future(client(address)) for _ in range(10)]
                await started.wait()
            await asyncio.wait_for(asyncio.gather(*clients), 10)
            with pytest.raises(OSError):
                await asyncio.open_connection(*address)

        run(main(), timeout=20)

    def test_nothing_is_left_open(self, run, open_fds):
        async def main():
            before = open_fds()
            for _ in range(3):
                async with self.serving() as address:
                    async with connected(address) as (reader, writer):
                        writer.write(request("/"))
                        await response(reader)
                await asyncio.sleep(0)
            assert open_fds() == before

        run(main(), timeout=20)
