# SPDX-License-Identifier: MIT
"""Tornado: its streams live on add_reader() and add_writer() of whatever loop runs."""

import asyncio
import contextlib

import pytest
from http_suite import HttpServerSuite
from http_wire import BIG, CHUNK
from stories import outcome

tornado = pytest.importorskip("tornado")

from tornado import httpclient, httpserver, ioloop, iostream, netutil, tcpclient, tcpserver, web, websocket  # noqa: E402  # after importorskip()


class Hello(web.RequestHandler):
    def get(self):
        self.write(b"hello")


class Echo(web.RequestHandler):
    def post(self):
        self.write(self.request.body)


class Size(web.RequestHandler):
    def post(self):
        self.write(b"%d" % len(self.request.body))


class Big(web.RequestHandler):
    async def get(self):
        self.set_header("Content-Length", str(BIG))
        for _ in range(BIG // len(CHUNK)):
            self.write(CHUNK)
            try:
                await self.flush()
            except iostream.StreamClosedError:
                return  # the client has left


class Talk(websocket.WebSocketHandler):
    async def on_message(self, message):
        await self.write_message(message, binary=isinstance(message, bytes))


@contextlib.asynccontextmanager
async def serving():
    routes = [("/", Hello), ("/echo", Echo), ("/size", Size), ("/big", Big), ("/talk", Talk)]
    application = web.Application(routes, websocket_max_message_size=BIG * 2, log_function=lambda handler: None)
    server = httpserver.HTTPServer(application, max_buffer_size=BIG * 2, max_body_size=BIG * 2)
    sockets = netutil.bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    try:
        yield sockets[0].getsockname()
    finally:
        server.stop()
        await server.close_all_connections()


class TestServer(HttpServerSuite):
    def serving(self):
        return serving()


def test_the_io_loop_is_the_running_loop(same_story):
    async def scene():
        loop = ioloop.IOLoop.current()
        assert loop.asyncio_loop is asyncio.get_running_loop()
        called = asyncio.Event()
        loop.add_callback(called.set)
        await called.wait()
        ticks = []
        ticker = ioloop.PeriodicCallback(lambda: ticks.append(1), 1)
        ticker.start()
        while len(ticks) < 5:
            await asyncio.sleep(0.001)
        ticker.stop()
        return await loop.run_in_executor(None, lambda: "from a thread")

    assert same_story(scene) == "from a thread"


def test_requests_of_the_client(same_story):
    async def scene():
        async with serving() as (host, port):
            client = httpclient.AsyncHTTPClient(force_instance=True, max_clients=20, max_body_size=BIG * 2)
            try:

                async def echo(number):
                    return (await client.fetch(f"http://{host}:{port}/echo", method="POST", body=b"%d" % number)).body

                bodies = await asyncio.gather(*(echo(n) for n in range(50)))
                big = await client.fetch(f"http://{host}:{port}/big")
                assert big.body == CHUNK * (BIG // len(CHUNK))
                return [*bodies, await outcome(client.fetch(f"http://{host}:{port}/nowhere"))]
            finally:
                client.close()

    assert same_story(scene) == [*(b"%d" % n for n in range(50)), "HTTPClientError"]


def test_websockets(same_story):
    async def scene():
        async with serving() as (host, port):

            async def talk(number):
                connection = await websocket.websocket_connect(
                    f"ws://{host}:{port}/talk", max_message_size=BIG * 2, ping_interval=None
                )
                for message in (f"text {number}", CHUNK, "x" * 1_000_000):
                    await connection.write_message(message, binary=isinstance(message, bytes))
                    assert await connection.read_message() == message
                connection.close(1000, "bye")
                return await connection.read_message(), connection.close_code

            return await asyncio.gather(*(talk(n) for n in range(5)))

    assert same_story(scene) == [(None, 1000)] * 5


def test_streams(same_story):
    class Lines(tcpserver.TCPServer):
        async def handle_stream(self, stream, address):
            with contextlib.suppress(iostream.StreamClosedError):
                while True:
                    line = await stream.read_until(b"\n")
                    await stream.write(line.upper())

    async def scene():
        server = Lines()
        sockets = netutil.bind_sockets(0, "127.0.0.1")
        server.add_sockets(sockets)
        stream = await tcpclient.TCPClient().connect(*sockets[0].getsockname())
        story = []
        for number in range(100):
            await stream.write(b"line %d\n" % number)
            story.append(await stream.read_until(b"\n"))
        reading = stream.read_bytes(1)
        stream.close()
        story.append(await outcome(reading))
        server.stop()
        return story

    assert same_story(scene) == [*(b"LINE %d\n" % n for n in range(100)), "StreamClosedError"]
