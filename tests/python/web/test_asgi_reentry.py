# SPDX-License-Identifier: MIT
"""Python that receive() and send() run may call anything again: the operation itself, the collector, the server's close()."""

import asyncio
import gc
import socket
import warnings

import pytest
from asgi_peer import GET, text

from cxxloop.web import App

pytestmark = pytest.mark.cxxloop_only("asyncio has no web server")

START = {"type": "http.response.start", "status": 200}
BODY = {"type": "http.response.body", "body": b"hello"}


class Calling:
    """An iterable of headers that calls a function first."""

    def __init__(self, function):
        self.function = function

    def __iter__(self):
        self.function()
        return iter([(b"x", b"y")])


STEPS = {
    "send": lambda operation: operation.send(None),
    "throw": lambda operation: operation.throw(KeyError),
    "close": lambda operation: operation.close(),
}


@pytest.mark.parametrize("step", STEPS)
def test_operation_that_runs_takes_no_other_step(run, serve_app, step):
    def enter():
        assert operation.cr_running
        with pytest.raises(ValueError, match="coroutine already executing"):
            STEPS[step](operation)

    async def app(scope, receive, send):
        nonlocal operation
        operation = send({**START, "headers": Calling(enter)})
        await operation
        await send(BODY)

    operation = None
    assert run(serve_app(app).ask()).header(b"x") == b"y"
    operation = None


@pytest.mark.parametrize("step", STEPS)
def test_operation_that_makes_its_future_takes_no_other_step(loop, run, serve_app, monkeypatch, step):
    entered = []

    def create_future():
        monkeypatch.undo()
        with pytest.raises(ValueError, match="coroutine already executing"):
            STEPS[step](operation)
        entered.append(step)
        return loop.create_future()

    async def app(scope, receive, send):
        nonlocal operation
        await receive()
        monkeypatch.setattr(type(loop), "create_future", lambda self: create_future())
        operation = receive()
        operation.send(None)
        operation.close()
        await text()(scope, receive, send)

    operation = None
    assert run(serve_app(app).ask()).status == 200
    assert entered == [step]


def test_receive_learns_of_an_end_that_comes_while_it_makes_its_future(loop, run, serve_app, monkeypatch):
    events = []

    def create_future():
        monkeypatch.undo()
        served.server.close()
        return loop.create_future()

    async def app(scope, receive, send):
        await receive()
        monkeypatch.setattr(type(loop), "create_future", lambda self: create_future())
        events.append(await receive())

    served = serve_app(app)

    async def main():
        reader, writer = await served.connect()
        writer.write(GET)
        assert await reader.read() == b""
        writer.close()
        while not events:
            await asyncio.sleep(0.001)

    run(asyncio.wait_for(main(), 10))
    assert events == [{"type": "http.disconnect"}]


def operations():
    return [thing for thing in gc.get_objects() if type(thing).__name__ == "Operation"]


def test_collector_runs_while_a_forgotten_operation_warns(run, serve_app, monkeypatch):
    warned = []
    others = {id(thing) for thing in operations()}

    def show(message, category, *rest, **keywords):
        gc.collect()
        if category is not RuntimeWarning:  # of another test's socket, say
            return
        warned.append((str(message), [thing for thing in operations() if id(thing) not in others]))

    async def app(scope, receive, send):
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            monkeypatch.setattr(warnings, "showwarning", show)
            receive()
            send([])
        await text()(scope, receive, send)
        gc.collect()

    assert run(serve_app(app).ask()).status == 200
    assert warned == [(f"coroutine '{name}' was never awaited", []) for name in ("receive", "send")]


# --- the loop, turned or closed inside ------------------------------------------------------------------------------


def speak(served, request):
    """A blocking client that has sent a request."""
    client = socket.create_connection(served.sock.getsockname(), timeout=10)
    client.sendall(request)
    return client


@pytest.mark.prompt_only("connections end when the kernel has let go, and no turn comes any more")
def test_request_is_not_overwritten_by_one_that_comes_while_its_application_turns_the_loop(loop, serve_app):
    def app(scope, receive, send):
        if scope["path"] == "/outer":
            request = b"POST /inner HTTP/1.1\r\nHost: a\r\nContent-Length: 400\r\n\r\n" + b"s" * 400
            clients.append(speak(served, request))
            while len(paths) < 1:
                loop._run_once()
        paths.append(scope["path"])
        return echo(scope, receive, send)

    async def echo(scope, receive, send):
        await send(START)
        await send({**BODY, "body": (await receive())["body"]})
        if scope["path"] == "/last":
            loop.stop()

    paths = []
    served = serve_app(app)
    outer = b"POST /outer HTTP/1.1\r\nHost: a\r\nContent-Length: 26\r\n\r\nabcdefghijklmnopqrstuvwxyz"
    last = b"POST /last HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: close\r\n\r\n123"
    clients = [speak(served, outer + last)]
    loop.run_forever()
    served.close()
    with clients[0].makefile("rb") as answers:
        text = answers.read()
    for client in clients:
        client.close()
    assert paths == ["/inner", "/outer", "/last"]
    assert b"\r\n\r\nabcdefghijklmnopqrstuvwxyz" in text
    assert text.endswith(b"\r\n\r\n123")


@pytest.mark.parametrize("ends", ["returns", "raises"])
def test_task_factory_closes_a_loop_that_is_turned_by_hand(loop, serve_app, ends):
    def factory(loop, coroutine, **keywords):
        loop.close()
        if ends == "raises":
            raise KeyError
        return asyncio.Future(loop=loop)

    loop.set_exception_handler(lambda loop, context: None)
    loop.set_task_factory(factory)
    served = serve_app(text())
    client = speak(served, GET * 3)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        while True:
            loop.call_soon(int)
            loop._run_once()
    assert client.recv(65536) == b""
    client.close()
    assert served.server.tasks() == []


@pytest.mark.parametrize("is_async", [False, True], ids=["function", "coroutine"])
def test_handler_that_turns_the_loop_reads_its_own_request(loop, serve_app, is_async):
    def outer(request):
        clients.append(speak(served, b"GET /inner?whose=other HTTP/1.1\r\nHost: other\r\nCookie: secret=other\r\n\r\n"))
        while not seen:
            loop._run_once()
        seen.append((request.headers.pairs(), request.query.pairs(), request.url))
        loop.call_soon(loop.stop)
        return "outer"

    async def outer_coroutine(request):
        return outer(request)

    def inner(request):
        seen.append((request.headers.pairs(), request.query.pairs(), request.url))
        return "inner"

    app = App()
    app.get("/outer")(outer_coroutine if is_async else outer)
    app.get("/inner")(inner)
    seen = []
    served = serve_app(app)
    clients = [speak(served, b"GET /outer?whose=mine HTTP/1.1\r\nHost: mine\r\nCookie: secret=mine\r\n\r\n")]
    loop.run_forever()
    for client in clients:
        client.close()
    for whose, (headers, query, url) in zip(["other", "mine"], seen, strict=True):
        assert headers == [("host", whose), ("cookie", f"secret={whose}")]
        assert query == [("whose", whose)]
        assert url.startswith(f"http://{whose}/")


def test_handler_that_closes_the_server_reads_its_request(run, serve_app):
    def close(request):
        served.server.close()
        seen.append((request.client, request.headers["host"], request.url))
        return "nobody reads this"

    async def main():
        reader, writer = await served.connect()
        client = writer.get_extra_info("sockname")
        writer.write(b"GET /a?b HTTP/1.1\r\nHost: mine\r\n\r\n")
        assert await reader.read() == b""
        writer.close()
        return client

    app = App()
    app.get("/a")(close)
    seen = []
    served = serve_app(app)
    client = run(main())
    assert seen == [(client, "mine", "http://mine/a?b")]
