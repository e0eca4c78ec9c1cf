# SPDX-License-Identifier: MIT
"""The websockets library, server and client in one loop."""

import asyncio
import ssl

import pytest
import trustme
import websockets
from http_wire import CHUNK
from stories import outcome
from websockets.asyncio.server import broadcast


def serving(handler, **options):
    return websockets.serve(handler, "127.0.0.1", 0, **options)


def address(server):
    return "ws://%s:%d" % server.sockets[0].getsockname()


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_websockets(run, compression):
    async def echo(connection):
        async for message in connection:
            await connection.send(message)

    async def main():
        async with websockets.serve(echo, "127.0.0.1", 0, compression=compression, max_size=None) as server:
            port = server.sockets[0].getsockname()[1]

            async def talk(number):
                async with websockets.connect(
                    f"ws://127.0.0.1:{port}", compression=compression, max_size=None
                ) as connection:
                    for message in (f"text {number}", CHUNK, "x" * 1_000_000):
                        await connection.send(message)
                        assert await connection.recv() == message
                    await (await connection.ping())

            await asyncio.gather(*(talk(n) for n in range(5)))

    run(main(), timeout=20)


def test_broadcast(same_story):
    async def scene():
        async with serving(lambda connection: connection.wait_closed()) as server:
            clients = [await websockets.connect(address(server)) for _ in range(20)]
            for number in range(50):
                broadcast(server.connections, f"news {number}")
            heard = [[await client.recv() for _ in range(50)] for client in clients]
            for client in clients:
                await client.close()
            return heard

    assert same_story(scene) == [[f"news {n}" for n in range(50)]] * 20


def test_over_tls(same_story):
    authority = trustme.CA()
    server_context, client_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(server_context)
    authority.configure_trust(client_context)

    async def echo(connection):
        async for message in connection:
            await connection.send(message)

    async def scene():
        async with serving(echo, ssl=server_context) as server:
            where = address(server).replace("ws:", "wss:")
            async with websockets.connect(where, ssl=client_context) as client:
                for message in ("text", CHUNK, CHUNK * 10):
                    await client.send(message)
                    assert await client.recv() == message
            return client.close_code

    assert same_story(scene) == 1000


def test_cancelled_receive_loses_no_message(same_story):
    async def count(connection):
        async for message in connection:
            for number in range(int(message)):
                await connection.send(str(number))

    async def scene():
        async with serving(count) as server, websockets.connect(address(server)) as client:
            receiving = asyncio.ensure_future(client.recv())
            await asyncio.sleep(0)
            receiving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await receiving
            story = [await outcome(asyncio.wait_for(client.recv(), 0.01))]
            await client.send("100")
            return story + [await client.recv() for _ in range(100)]

    assert same_story(scene) == ["TimeoutError", *map(str, range(100))]


def test_slow_reader_holds_the_writer_back(same_story):
    async def scene():
        held_back = asyncio.Event()

        async def pour(connection):
            sent = 0
            try:
                async with asyncio.timeout(0.2):
                    while True:
                        await connection.send(CHUNK)
                        sent += 1
            except TimeoutError:
                held_back.set()
                await connection.recv()
            await connection.send(str(sent))

        async with serving(pour, write_limit=len(CHUNK), compression=None) as server:
            async with websockets.connect(address(server), max_queue=2, compression=None) as client:
                await held_back.wait()
                await client.send("go on")
                received = 0
                while isinstance(message := await client.recv(), bytes):
                    received += 1
                # The message whose send() was cancelled was written already and only waited to be drained.
                return 0 < received < 1000 and received - int(message) in (0, 1)

    assert same_story(scene) is True


@pytest.mark.parametrize("way", ["server closes", "client aborts", "handler fails"])
def test_ends(same_story, way):
    async def handle(connection):
        if way == "handler fails":
            raise ZeroDivisionError
        await connection.wait_closed()
        ended.set_result((connection.close_code, connection.close_reason))

    async def scene():
        nonlocal ended
        ended = asyncio.get_running_loop().create_future()
        async with serving(handle) as server:
            client = await websockets.connect(address(server))
            if way == "server closes":
                server.close(code=1001, reason="over")
            elif way == "client aborts":
                client.transport.abort()
            story = [await outcome(client.recv()), client.close_code]
            return story if way == "handler fails" else [*story, await ended]

    ended = None
    assert same_story(scene) == {
        "server closes": ["ConnectionClosedOK", 1001, (1001, "over")],
        "client aborts": ["ConnectionClosedError", 1006, (1006, "")],
        "handler fails": ["ConnectionClosedError", 1011],
    }[way]
