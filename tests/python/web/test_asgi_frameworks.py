# SPDX-License-Identifier: MIT
"""Starlette and AnyIO on the native server: what applications are made of gives what it gives on uvicorn."""

import asyncio
import hashlib
import socket

import pytest
from asgi_peer import read_response

anyio = pytest.importorskip("anyio")
uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("httptools")
pytest.importorskip("starlette")

from starlette.applications import Starlette  # noqa: E402
from starlette.background import BackgroundTask  # noqa: E402
from starlette.middleware import Middleware  # noqa: E402
from starlette.middleware.base import BaseHTTPMiddleware  # noqa: E402
from starlette.middleware.gzip import GZipMiddleware  # noqa: E402
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, RedirectResponse, StreamingResponse  # noqa: E402
from starlette.routing import Mount, Route  # noqa: E402

pytestmark = pytest.mark.cxxloop_only("asyncio has no web server")


async def item(request):
    return JSONResponse({"id": request.path_params["id"], "query": dict(request.query_params), "url": str(request.url)})


async def echo(request):
    body = await request.body()
    return PlainTextResponse(hashlib.sha256(body).hexdigest())


async def streamed(request):
    digest = hashlib.sha256()
    async for piece in request.stream():
        digest.update(piece)

    async def pieces():
        for digit in digest.hexdigest():
            yield digit
            await anyio.sleep(0)

    return StreamingResponse(pieces())


async def cookies(request):
    response = PlainTextResponse(request.cookies.get("name", "none"))
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    return response


async def fail(request):
    raise ValueError("on purpose")


async def in_a_thread(request):
    return PlainTextResponse(str(await anyio.to_thread.run_sync(sum, [1, 2, 3])))


async def with_a_group(request):
    results = []

    async def work(number):
        await anyio.sleep(0)
        results.append(number)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(work, number)
    return JSONResponse(sorted(results))


def plain_function(request):
    return PlainTextResponse("plain")


async def redirect(request):
    return RedirectResponse("/items/1")


class Tagging(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        response = await call_next(request)
        response.headers["x-tagged"] = "yes"
        return response


@pytest.fixture
def starlette_app(tmp_path):
    (tmp_path / "file.txt").write_bytes(b"content of a file\n" * 10_000)
    done = []

    async def file(request):
        return FileResponse(tmp_path / "file.txt")

    async def background(request):
        return PlainTextResponse("later", background=BackgroundTask(done.append, 1))

    routes = [
        Route("/items/{id:int}", item),
        Route("/echo", echo, methods=["POST"]),
        Route("/streamed", streamed, methods=["POST"]),
        Route("/cookies", cookies),
        Route("/fail", fail),
        Route("/thread", in_a_thread),
        Route("/group", with_a_group),
        Route("/plain", plain_function),
        Route("/redirect", redirect),
        Route("/file", file),
        Route("/background", background),
        # Not around files: what a server sends by itself (http.response.pathsend) is not compressed.
        Mount("/sub", routes=[Route("/items/{id:int}", item)], middleware=[Middleware(GZipMiddleware, minimum_size=10)]),
    ]
    app = Starlette(routes=routes, middleware=[Middleware(Tagging)])
    app.state.done = done
    return app


def get(path, *headers):
    lines = [b"GET %s HTTP/1.1" % path, b"Host: example.org", *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def post(path, body):
    return b"POST %s HTTP/1.1\r\nHost: example.org\r\nContent-Length: %d\r\n\r\n%s" % (path, len(body), body)


REQUESTS = {
    "json": get(b"/items/7?x=1&y=%C3%A4"),
    "mounted": get(b"/sub/items/8"),
    "not found": get(b"/nothing"),
    "wrong method": post(b"/items/1", b""),
    "echo": post(b"/echo", b"x" * 1_000_000),
    "streamed": post(b"/streamed", b"y" * 1_000_000),
    "cookies": get(b"/cookies", b"Cookie: name=value"),
    "failing": get(b"/fail"),
    "thread": get(b"/thread"),
    "group": get(b"/group"),
    "plain": get(b"/plain"),
    "redirect": get(b"/redirect"),
    "file": get(b"/file"),
    "range": get(b"/file", b"Range: bytes=5-14"),
    "compressed": get(b"/sub/items/8", b"Accept-Encoding: gzip"),
    "background": get(b"/background"),
}


async def answers_of_uvicorn(app, request):
    with socket.create_server(("127.0.0.1", 0)) as sock:
        config = uvicorn.Config(app, lifespan="off", log_level="critical", http="httptools", ws="none", access_log=False)
        server = uvicorn.Server(config)
        task = asyncio.create_task(server._serve(sockets=[sock]))
        while not server.started:
            await asyncio.sleep(0.01)
        reader, writer = await asyncio.open_connection(*sock.getsockname())
        writer.write(request)
        response = await read_response(reader)
        writer.close()
        server.should_exit = True
        await task
    return response


def comparable(response):
    """Without what the two servers word differently, and how they delimit a body."""
    ours = {b"date", b"server", b"content-length", b"transfer-encoding", b"connection"}
    return response.status, [pair for pair in response.headers if pair[0] not in ours], response.body


@pytest.mark.parametrize("name", REQUESTS)
def test_starlette_answers_as_on_uvicorn(run, serve_app, starlette_app, name):
    served = serve_app(starlette_app)

    async def main():
        response = await served.ask(REQUESTS[name])
        await served.quiet()
        return comparable(response), comparable(await answers_of_uvicorn(starlette_app, REQUESTS[name]))

    ours, theirs = run(main())
    assert ours[0] == theirs[0]
    assert ours[1] == theirs[1]
    if name == "failing":
        assert [repr(exception) for _, exception in served.errors] == ["ValueError('on purpose')"]
    else:
        assert ours[2] == theirs[2]
        assert served.errors == []
    if name == "background":
        assert starlette_app.state.done == [1, 1]


def test_stream_ends_when_the_client_has_gone(run, serve_app):
    """Starlette asks for spec_version 2.4: it relies on send() raising OSError and reports ClientDisconnect, which is no error."""
    ended = []

    async def endless(request):
        async def pieces():
            try:
                while True:
                    yield b"x" * 10_000
                    await anyio.sleep(0)
            finally:
                ended.append(1)

        return StreamingResponse(pieces())

    served = serve_app(Starlette(routes=[Route("/", endless)]))

    async def main():
        reader, writer = await served.connect()
        writer.write(get(b"/"))
        await reader.readexactly(100_000)
        writer.transport.abort()
        await served.quiet()

    run(main())
    assert ended == [1]
    assert served.errors == []
