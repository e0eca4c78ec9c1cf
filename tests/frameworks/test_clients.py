# SPDX-License-Identifier: MIT
"""Clients and libraries that bring their own idea of a loop: anyio, httpx, websockets."""

import asyncio
import ssl

import anyio
import httpx
import pytest
import trustme
import websockets
from http_wire import BIG, CHUNK, application
from test_uvicorn import Server, serving
from uvicorn import Config


def test_httpx(run):
    async def main():
        async with serving("httptools") as (host, port), httpx.AsyncClient(base_url=f"http://{host}:{port}") as client:
            answers = await asyncio.gather(*(client.post("/echo", content=b"%d" % n) for n in range(30)))
            assert [a.content for a in answers] == [b"%d" % n for n in range(30)]
            assert (await client.post("/size", content=bytes(BIG))).text == str(BIG)
            async with client.stream("GET", "/big") as stream:
                assert sum([len(chunk) async for chunk in stream.aiter_bytes()]) == BIG

    run(main(), timeout=20)


def test_httpx_over_tls(run, tmp_path):
    authority = trustme.CA()
    certificate = tmp_path / "certificate.pem"
    authority.issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
    context = ssl.create_default_context()
    authority.configure_trust(context)

    async def main():
        server = Server(
            Config(application, port=0, loop="none", log_level="critical", ssl_certfile=str(certificate), lifespan="off")
        )
        task = asyncio.ensure_future(server.serve())
        await server.ready.wait()
        port = server.servers[0].sockets[0].getsockname()[1]
        async with httpx.AsyncClient(base_url=f"https://localhost:{port}", verify=context) as client:
            assert (await client.get("/")).text == "hello"
            assert (await client.get("/big")).content == CHUNK * (BIG // len(CHUNK))
        server.should_exit = True
        await task

    run(main(), timeout=20)


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


def test_anyio_backend_option(loop_factory):
    async def main():
        kind = type(asyncio.get_running_loop())
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:

            async def serve(stream):
                async with stream:
                    async for data in stream:
                        await stream.send(data)

            async with anyio.create_task_group() as group:
                group.start_soon(listener.serve, serve)
                port = listener.extra(anyio.abc.SocketAttribute.local_port)
                async with await anyio.connect_tcp("127.0.0.1", port) as client:
                    for chunk in (b"small", CHUNK):
                        await client.send(chunk)
                        received = b""
                        while len(received) < len(chunk):
                            received += await client.receive()
                        assert received == chunk
                    with anyio.move_on_after(0.02) as scope:
                        await client.receive()
                    assert scope.cancelled_caught
                group.cancel_scope.cancel()
        return kind

    loop = loop_factory()
    expected = type(loop)
    loop.close()
    assert anyio.run(main, backend_options={"loop_factory": loop_factory}) is expected


def test_anyio_udp_unix_and_threads(loop_factory, tmp_path):
    async def main():
        async with await anyio.create_udp_socket(local_host="127.0.0.1") as here:
            port = here.extra(anyio.abc.SocketAttribute.local_port)
            async with await anyio.create_connected_udp_socket("127.0.0.1", port) as there:
                await there.send(b"datagram")
                assert (await here.receive())[0] == b"datagram"
        path = str(tmp_path / "socket")
        async with await anyio.create_unix_listener(path) as listener:
            async with anyio.create_task_group() as group:

                async def accept():
                    async with await listener.accept() as stream:
                        await stream.send(await stream.receive())

                group.start_soon(accept)
                async with await anyio.connect_unix(path) as client:
                    await client.send(b"over a path")
                    assert await client.receive() == b"over a path"
        assert await anyio.to_thread.run_sync(lambda: anyio.from_thread.run(anyio.sleep, 0)) is None
        process = await anyio.run_process(["cat"], input=b"through a process")
        assert process.stdout == b"through a process"

    anyio.run(main, backend_options={"loop_factory": loop_factory})
