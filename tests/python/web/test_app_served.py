# SPDX-License-Identifier: MIT
"""An App and static files as `cxxloop serve` and uvicorn serve them: both must give the same answers."""

import http.client
import json
import sys

import pytest
from program import WAIT_S, Program, write

pytestmark = pytest.mark.any_backend("its processes have the ordinary backend")

SOURCE = """
import asyncio, threading
from cxxloop.web import App, File, HTTPError, StaticFiles, Streaming

app = App()
gone = threading.Event()

@app.on_startup
async def start():
    app.state["started"] = True

@app.on_shutdown
def end():
    print("ended", flush=True)

@app.get("/users/{id:int}")
def user(request):
    return {"id": request.path_params["id"], "q": request.query.get_all("q"), "started": request.state["started"]}

@app.get("/async")
async def asynchronous(request):
    await asyncio.sleep(0)
    return request.headers["x-a"]

@app.get("/thread", thread=True)
def in_thread(request):
    return threading.current_thread().name.partition("_")[0]

@app.post("/echo")
def echo(request):
    return request.body()

@app.post("/count", stream=True)
async def count(request):
    size = 0
    async for piece in request.stream():
        size += len(piece)
    return str(size)

@app.get("/stream")
async def stream(request):
    async def pieces():
        for number in range(3):
            yield f"{number};"
            await asyncio.sleep(0)
    return Streaming(pieces(), media_type="text/plain")

@app.get("/endless")
async def endless(request):
    async def pieces():
        try:
            while True:
                yield b"x" * 1000
                await asyncio.sleep(0)
        finally:
            gone.set()
    return Streaming(pieces())

@app.get("/gone", thread=True)
def is_gone(request):
    return str(gone.wait(20))

@app.get("/fail")
def fail(request):
    raise LookupError("a secret")

@app.get("/teapot")
def teapot(request):
    raise HTTPError(418, "short and stout")

@app.delete("/nothing")
def nothing(request):
    return None

@app.get("/file")
def file(request):
    return File("long.bin")

app.mount("/static", StaticFiles("."))
"""
LONG = bytes(range(256)) * 1024


@pytest.fixture(params=["cxxloop", "uvicorn"])
def server(request, tmp_path, serve):
    """A server of SOURCE, and a function that asks it."""
    write(tmp_path, "handlers.py", SOURCE)
    (tmp_path / "long.bin").write_bytes(LONG)
    if request.param == "cxxloop":
        yield serve(target="handlers:app")
        return
    pytest.importorskip("uvicorn")
    program = Program(tmp_path, [sys.executable, "-m", "uvicorn", "handlers:app", "--port", "0"])
    program.port = lambda: int(program.wait_for(r"running on \w+://\S+:(\d+) \(Press")[1])
    yield program
    program.close()


@pytest.fixture
def ask(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port(), timeout=WAIT_S)

    def ask(method, target, body=None, headers=None):
        connection.request(method, target, body, headers or {})
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()

    yield ask
    connection.close()


def test_answers(ask):
    status, headers, body = ask("GET", "/users/7?q=1&q=2")
    assert (status, json.loads(body)) == (200, {"id": 7, "q": ["1", "2"], "started": True})
    assert headers["content-type"] == "application/json" and headers["content-length"] == str(len(body))
    assert ask("GET", "/async", headers={"X-A": "a"})[2] == b"a"
    assert ask("GET", "/thread")[2] == b"cxxloop-handler"
    assert ask("POST", "/echo", b"x" * 100_000)[2] == b"x" * 100_000
    assert ask("POST", "/count", iter([b"abc"] * 1000))[2] == b"3000"
    assert ask("GET", "/stream")[2] == b"0;1;2;"
    assert ask("GET", "/teapot")[::2] == (418, b"short and stout")
    assert ask("DELETE", "/nothing")[::2] == (204, b"")
    assert ask("GET", "/nowhere")[::2] == (404, b"Not Found")
    assert ask("PUT", "/stream")[:1] + (ask("PUT", "/stream")[1]["allow"],) == (405, "GET, HEAD")
    status, headers, body = ask("HEAD", "/users/7")
    assert (status, body) == (200, b"") and int(headers["content-length"]) > 0


def test_files(ask):
    for target in ("/file", "/static/long.bin"):
        status, headers, body = ask("GET", target)
        assert (status, body) == (200, LONG)
        assert ask("GET", target, headers={"If-None-Match": headers["etag"]})[::2] == (304, b"")
        assert ask("GET", target, headers={"Range": "bytes=100000-199999"})[::2] == (206, LONG[100000:200000])
        assert ask("HEAD", target)[::2] == (200, b"")
    assert ask("GET", "/static/../handlers.py")[0] == 404


def test_error_shows_nothing(ask, server):
    assert ask("GET", "/fail")[::2] == (500, b"Internal Server Error")
    server.wait_for("LookupError: a secret")


def test_endless_stream_ends_with_its_client(ask, server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port(), timeout=WAIT_S)
    connection.request("GET", "/endless")
    response = connection.getresponse()
    assert response.read(1000) == b"x" * 1000
    response.close()
    connection.close()
    assert ask("GET", "/gone")[2] == b"True"


def test_hooks_run(ask, server):
    ask("GET", "/users/1")
    server.end()
    assert "ended" in server.log
