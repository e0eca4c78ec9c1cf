# SPDX-License-Identifier: MIT
"""The demo's HTTP servers: the same small application under uvicorn (httptools) or aiohttp, on any event loop."""

import argparse
import asyncio
import importlib
import json
import signal
import socket
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

import uvicorn
from aiohttp import web

HELLO = b"0123456789"
CHUNK = bytes(range(256)) * 64
CHUNKS = 256

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def read_body(receive: Receive) -> bytes:
    body, more = bytearray(), True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return bytes(body)


async def asgi_app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    path = scope["path"]
    if path == "/stream":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(CHUNKS):
            await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        return
    if path == "/":
        body = HELLO
    elif path == "/number":
        body = parse_qs(scope["query_string"])[b"i"][0]
    elif path == "/peer":
        body = str(scope["client"][1]).encode()
    else:
        body = await read_body(receive)
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def hello(request: web.Request) -> web.Response:
    return web.Response(body=HELLO, content_type="text/plain")


async def number(request: web.Request) -> web.Response:
    return web.Response(body=request.query["i"].encode())


async def peer(request: web.Request) -> web.Response:
    assert request.transport is not None
    return web.Response(body=str(request.transport.get_extra_info("peername")[1]).encode())


async def echo(request: web.Request) -> web.Response:
    return web.Response(body=await request.read())


async def stream(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    for _ in range(CHUNKS):
        await response.write(CHUNK)
    await response.write_eof()
    return response


async def serve_uvicorn(listener: socket.socket) -> None:
    config = uvicorn.Config(
        asgi_app, http="httptools", loop="none", lifespan="off", access_log=False, log_level="warning"
    )
    await uvicorn.Server(config).serve(sockets=[listener])


async def serve_aiohttp(listener: socket.socket) -> None:
    app = web.Application(client_max_size=1 << 26)
    app.add_routes(
        [
            web.get("/", hello),
            web.get("/number", number),
            web.get("/peer", peer),
            web.get("/stream", stream),
            web.post("/echo", echo),
        ]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()
    await runner.cleanup()


SERVERS = {"uvicorn": serve_uvicorn, "aiohttp": serve_aiohttp}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loop", default="asyncio", help="a module with new_event_loop()")
    parser.add_argument("--server", choices=SERVERS, default="uvicorn")
    options = parser.parse_args()
    loop_factory = importlib.import_module(options.loop).new_event_loop
    # Protocol number included: asyncio switches Nagle's delay off only for sockets that say they are TCP.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1024)
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.get_loop()  # makes it: who reads the port may count on a loop
            print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
            runner.run(SERVERS[options.server](listener))


if __name__ == "__main__":
    main()
