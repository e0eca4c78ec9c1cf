# SPDX-License-Identifier: MIT
"""Servers that pick a loop of their own accord get cxxloop from the launcher, in their worker processes too."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

APPS = {
    "asgi_app": """
        import asyncio

        async def app(scope, receive, send):
            while scope["type"] == "lifespan":
                message = await receive()
                await send({"type": message["type"] + ".complete"})
                if message["type"] == "lifespan.shutdown":
                    return
            body = type(asyncio.get_running_loop()).__module__.encode()
            headers = [(b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})
        """,
    "aiohttp_app": """
        import asyncio
        from aiohttp import web

        async def name(request):
            return web.Response(text=type(asyncio.get_running_loop()).__module__)

        app = web.Application()
        app.router.add_get("/", name)
        """,
    "sanic_app": """
        import asyncio
        from sanic import Sanic, text

        app = Sanic("names")

        @app.get("/")
        async def name(request):
            return text(type(asyncio.get_running_loop()).__module__)
        """,
}
LAUNCHED = ["-m", "cxxloop", "-m"]
GUNICORN = ["-m", "gunicorn", "-b", "127.0.0.1:{port}", "-k"]

# The modules a case needs, and its command.
CASES = {
    "uvicorn": ("uvicorn", [*LAUNCHED, "uvicorn", "asgi_app:app", "--port", "{port}"]),
    "uvicorn with workers": (
        "uvicorn",
        [*LAUNCHED, "uvicorn", "asgi_app:app", "--port", "{port}", "--workers", "2"],
    ),
    "uvicorn by name": (
        "uvicorn",
        ["-m", "uvicorn", "asgi_app:app", "--port", "{port}", "--loop", "cxxloop:new_event_loop"],
    ),
    "hypercorn": ("hypercorn", [*LAUNCHED, "hypercorn", "-b", "127.0.0.1:{port}", "asgi_app:app"]),
    "granian": ("granian", [*LAUNCHED, "granian", "--interface", "asgi", "--port", "{port}", "asgi_app:app"]),
    "sanic": ("sanic", [*LAUNCHED, "sanic", "sanic_app:app", "--port", "{port}"]),
    "gunicorn, uvicorn's worker": ("uvicorn_worker", [*GUNICORN, "cxxloop.gunicorn.UvicornWorker", "asgi_app:app"]),
    "gunicorn, its own worker": ("gunicorn.workers.gasgi", [*GUNICORN, "cxxloop.gunicorn.ASGIWorker", "asgi_app:app"]),
    "gunicorn, aiohttp's worker": ("gunicorn", [*GUNICORN, "cxxloop.gunicorn.AiohttpWorker", "aiohttp_app:app"]),
}
START_SECONDS = 30


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def installed(module):
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def get_when_up(process, port):
    """The servers here announce their start in as many ways as there are servers: ask until one answers."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as response:
                return response.read().decode()
        except OSError:
            assert process.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.05)


@pytest.mark.parametrize("name", CASES)
def test_the_server_runs_on_cxxloop(name, tmp_path):
    module, command = CASES[name]
    if not installed(module):
        pytest.skip(f"{module} is not installed")
    for app, source in APPS.items():
        lines = source.splitlines(keepends=True)
        (tmp_path / f"{app}.py").write_text("".join(line.removeprefix("        ") for line in lines))
    port = free_port()
    arguments = [argument.format(port=port) for argument in command]
    with (tmp_path / "log").open("w+") as log:
        server = subprocess.Popen(
            [sys.executable, *arguments], cwd=tmp_path, stdout=log, stderr=log, start_new_session=True
        )
        try:
            answer = get_when_up(server, port)
        finally:
            # With its workers; a graceful end has its own tests, and sanic hangs now and then on any loop.
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
            log.seek(0)
            print(log.read())
    assert answer.startswith("cxxloop")
