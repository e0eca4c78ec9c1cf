# SPDX-License-Identifier: MIT
"""aiohttp's server and client on both loops."""

import asyncio
import contextlib

import aiohttp
import pytest
from aiohttp import web
from http_suite import HttpServerSuite
from http_wire import BIG, CHUNK


async def hello(request):
    return web.Response(body=b"hello")


async def port(request):
    return web.Response(text=str(request.transport.get_extra_info("peername")[1]))


async def echo(request):
    return web.Response(body=await request.read())


async def size(request):
    total = 0
    async for chunk in request.content.iter_any():
        total += len(chunk)
    return web.Response(body=b"%d" % total)


async def big(request):
    answer = web.StreamResponse(headers={"Content-Length": str(BIG)})
    await answer.prepare(request)
    for _ in range(BIG // len(CHUNK)):
        await answer.write(CHUNK)
    await answer.write_eof()
    return answer


async def talk(request):
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        if message.type is aiohttp.WSMsgType.TEXT:
            await socket.send_str(message.data + "!")
        else:
            await socket.send_bytes(message.data)
    return socket


def application():
    app = web.Application(client_max_size=BIG * 2)
    app.router.add_get("/", hello)
    app.router.add_get("/port", port)
    app.router.add_route("*", "/echo", echo)
    app.router.add_post("/size", size)
    app.router.add_get("/big", big)
    app.router.add_get("/talk", talk)
    return app


@contextlib.asynccontextmanager
async def serving():
    runner = web.AppRunner(application(), access_log=None, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0]
    finally:
        await runner.cleanup()


class TestServer(HttpServerSuite):
    def serving(self):
        return serving()


@pytest.fixture
def play(run):
    """Runs a scene with an aiohttp client beside an aiohttp server."""

    def play(scene):
        async def main():
            async with serving() as (host, port), aiohttp.ClientSession(f"http://{host}:{port}") as session:
                await scene(session)

        run(main(), timeout=20)

    return play


def test_client_reuses_its_connection(play):
    async def scene(session):
        ports = set()
        for _ in range(20):
            async with session.get("/port") as answer:
                ports.add(await answer.text())
        assert len(ports) == 1

    play(scene)


def test_client_many_at_once(play):
    async def scene(session):
        async def ask(number):
            async with session.post("/echo", data=b"%d" % number) as answer:
                assert await answer.read() == b"%d" % number

        await asyncio.gather(*(ask(n) for n in range(100)))

    play(scene)


def test_client_big_bodies(play):
    async def scene(session):
        async with session.post("/size", data=bytes(BIG)) as answer:
            assert await answer.read() == b"%d" % BIG
        async with session.get("/big") as answer:
            assert await answer.read() == CHUNK * (BIG // len(CHUNK))

    play(scene)


def test_client_streams(play):
    async def scene(session):
        async def produce():
            for _ in range(64):
                yield CHUNK

        async with session.post("/echo", data=produce()) as answer:
            received = 0
            async for chunk in answer.content.iter_any():
                received += len(chunk)
            assert received == 64 * len(CHUNK)

    play(scene)


def test_client_timeout(run):
    async def main():
        async def silent(reader, writer):
            await reader.read()
            writer.close()

        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=0.1)) as session:
            with pytest.raises(asyncio.TimeoutError):
                await session.get(f"http://{host}:{port}/")
        server.close()
        await asyncio.wait_for(server.wait_closed(), 5)

    run(main())


def test_web_sockets(play):
    async def scene(session):
        async with session.ws_connect("/talk") as socket:
            for word in ("a", "b" * 100_000):
                await socket.send_str(word)
                assert await socket.receive_str() == word + "!"
            await socket.send_bytes(CHUNK)
            assert await socket.receive_bytes() == CHUNK

    play(scene)
