# SPDX-License-Identifier: MIT
"""Handlers as cxxloop's own server calls them: natively, without App.__call__(), a scope, receive or send."""

import asyncio
import contextvars
import gc
import json
import random
import urllib.parse
import weakref

import pytest

pytest.importorskip("cxxloop._web")

from app_peer import LoggingServed, call_native, head_of
from asgi_peer import read_response

from cxxloop import _web
from cxxloop.web import App, HTTPError, Response, Streaming
from cxxloop.web.router import Router

pytestmark = pytest.mark.cxxloop_only("asyncio has no web server")

variable = contextvars.ContextVar("variable", default="unset")


@pytest.fixture
def app():
    return App()


@pytest.fixture
def served(loop, app):
    served = LoggingServed(loop, app)
    yield served
    served.close()


def table_of(app):
    return app.native_handlers(_web.HandlerTable)


# --- the router ----------------------------------------------------------------------------------------------------------

SEGMENTS = ["a", "b", "7", "007", "{x}", "{y:int}", "{z:str}", "\u00fc", "", "-1"]
METHODS = ["GET", "POST", "HEAD", "QUERY"]


def routers(seed):
    """The two routers with the same random routes, and words of which paths are made."""
    random_ = random.Random(seed)
    python, app = Router(), App()
    for _ in range(random_.randint(1, 25)):
        segments = [random_.choice(SEGMENTS) for _ in range(random_.randint(1, 4))]
        if random_.random() < 0.2:
            segments.append("{rest:path}")
        method, path = random_.choice(METHODS), "/" + "/".join(segments)
        try:
            python.add(method, path, path)
        except ValueError:  # a name twice, or a second route of one shape
            with pytest.raises(ValueError):
                app.add(method, path, print)
            continue
        app.add(method, path, lambda request: None)
        app._routes[-1] = (method, path, app._routes[-1][2]._replace(handler=path))
    return random_, python, table_of(app)


@pytest.mark.parametrize("seed", range(60))
def test_native_router_agrees_with_the_one_in_python(seed):
    random_, python, native = routers(seed)
    words = ["a", "b", "7", "007", "c", "\u00fc", "", "-1", "1" * 18, "1" * 19, "\u0661", "{x}", "a b"]
    for _ in range(200):
        path = "/" + "/".join(random_.choice(words) for _ in range(random_.randint(1, 5)))
        method = random_.choice([*METHODS, "PUT"])
        expected = python.find(method, path)
        found = native.find(method, path)
        assert found == (None if expected is None else tuple(expected)), (method, path)


@pytest.mark.parametrize("path", ["", "*", "a", "//"])
def test_path_of_another_form_is_found_nowhere(path):
    app = App()
    app.get("/{a}")(lambda request: None)
    app.get("/")(lambda request: None)
    assert table_of(app).find("GET", path) is None


def test_route_that_no_request_can_have_is_left_out():
    app = App()
    app.get("/\ud800")(lambda request: None)
    assert table_of(app).find("GET", "/a") is None


def test_route_of_later_is_served(app, loop, served):
    app.get("/{name}")(lambda request: "old")
    assert loop.run_until_complete(served.ask()).status == 404
    app.get("/")(lambda request: "new")
    assert loop.run_until_complete(served.ask()).body == b"new"


def test_subclass_with_its_own_call_is_asked_itself(loop):
    class Own(App):
        async def __call__(self, scope, receive, send):
            await Response("own").send(scope, receive, send)

    app = Own()
    app.get("/")(lambda request: "handler")
    assert table_of(app) is None
    assert loop.run_until_complete(call_native(app)).body == b"own"


def test_mount_of_later_is_asked(app, loop, served):
    inner = App()
    inner.get("/")(lambda request: "inner")
    assert loop.run_until_complete(served.ask(b"GET /in/ HTTP/1.1\r\nHost: a\r\n\r\n")).status == 404
    app.mount("/in", inner)
    assert loop.run_until_complete(served.ask(b"GET /in/ HTTP/1.1\r\nHost: a\r\n\r\n")).body == b"inner"


def test_paths_are_decoded(app, loop):
    app.get("/\u00fc/{name}")(lambda request: f"{request.path} {request.path_params['name']}")
    answer = loop.run_until_complete(call_native(app, "/\u00fc/a b%"))
    assert answer.body.decode() == "/\u00fc/a b% a b%"


# --- where handlers run --------------------------------------------------------------------------------------------------


def test_function_runs_in_the_callback_without_a_task(app, loop):
    tasks = []
    app.get("/")(lambda request: tasks.append((asyncio.current_task(), asyncio.get_running_loop())))
    assert loop.run_until_complete(call_native(app)).status == 204
    assert tasks == [(None, loop)]


def test_coroutine_function_has_a_task(app, loop):
    @app.get("/")
    async def handler(request):
        first = asyncio.current_task()
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            child = group.create_task(asyncio.sleep(0, "child"))
        assert first is asyncio.current_task()
        return f"{child.result()} {first.get_coro().__name__}"

    assert loop.run_until_complete(call_native(app)).body == b"child handler"


def test_timeout_ends_a_handler(app, loop):
    @app.get("/")
    async def handler(request):
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            raise HTTPError(504) from None

    assert loop.run_until_complete(call_native(app)).status == 504


def test_each_request_has_a_context(app, loop, served):
    def handler(request):
        before = variable.get()
        variable.set(request.path)
        return before

    async def asynchronous(request):
        return handler(request)

    app.get("/")(handler)
    app.post("/")(asynchronous)
    request = head_of("/", "GET", {}) + head_of("/", "POST", {"Content-Length": "0"})
    answers = loop.run_until_complete(served.ask_many(request * 2, 4))
    assert [answer.body for answer in answers] == [b"unset"] * 4
    assert variable.get() == "unset"


def test_stream_has_the_context_of_its_handler(app, loop):
    @app.get("/")
    def handler(request):
        variable.set("of the handler")
        return Streaming(variable.get() for _ in range(1))

    assert loop.run_until_complete(call_native(app)).body == b"of the handler"


def test_pipelined_answers_keep_their_order(app, loop, served):
    app.get("/f/{n:int}")(lambda request: str(request.path_params["n"]))

    @app.get("/a/{n:int}")
    async def handler(request):
        if request.path_params["n"] % 2:
            await asyncio.sleep(0)
        return str(request.path_params["n"])

    kinds = "faafafaaaffa" * 20
    requests = b"".join(head_of(f"/{kind}/{number}", "GET", {}) for number, kind in enumerate(kinds))
    answers = loop.run_until_complete(served.ask_many(requests, len(kinds)))
    assert [int(answer.body) for answer in answers] == list(range(len(kinds)))


def test_task_factory_makes_the_task(app, loop):
    made = []

    def factory(loop, coroutine, **keywords):
        made.append(coroutine)
        return asyncio.Task(coroutine, loop=loop, **keywords)

    @app.get("/")
    async def handler(request):
        return request.headers["host"]  # what it reads from has gone when the task begins

    loop.set_task_factory(factory)
    answer = loop.run_until_complete(call_native(app))
    assert answer.body == b"localhost" and any(type(coroutine).__name__ == "Call" for coroutine in made)


# --- requests ------------------------------------------------------------------------------------------------------------


def test_request_may_be_kept(app, loop):
    """Its parts that nobody has looked at are there after the server has answered, and while the handler waits."""
    kept = []

    @app.get("/")
    def keep(request):
        kept.append(request)

    @app.put("/")
    async def wait(request):
        kept.append(request)
        await asyncio.sleep(0)
        return f"{request.headers['x-a']} {request.query['q']} {request.url} {request.client[0]}"

    for method in ("GET", "PUT"):
        answer = loop.run_until_complete(call_native(app, "/?q=1", method, {"X-A": "a"}))
        request = kept.pop()
        assert (request.headers["X-A"], request.query["q"], request.url) == ("a", "1", "http://localhost/?q=1")
        assert request.body() == b"" and request.client[0] == "127.0.0.1"
    assert answer.body == b"a 1 http://localhost/?q=1 127.0.0.1"


def test_nothing_is_left_of_a_request(app, loop):
    class Result:
        pass

    seen = []

    def function(request):
        result = Result()
        seen.append(weakref.ref(result))
        request.state["last"] = request.headers
        raise HTTPError(500, repr(result))

    async def asynchronous(request):
        await asyncio.sleep(0)
        function(request)

    app.get("/")(function)
    app.put("/")(asynchronous)
    for method in ("GET", "PUT"):
        assert loop.run_until_complete(call_native(app, "/", method)).status == 500
    gc.collect()
    assert [reference() for reference in seen] == [None, None]


@pytest.mark.parametrize("is_kept", [False, True])
def test_query_is_decoded_as_urllib_does(app, loop, is_kept):
    seen = []

    @app.get("/")
    async def handler(request):
        if is_kept:
            await asyncio.sleep(0)
        seen.append(request.query.pairs())

    random_ = random.Random(1)
    pieces = ["a", "=", "&", "+", "%", "%20", "%2B", "%C3%BC", "%FF", "%2", "%zz", "b=1", "&&", "%00", "%3D", "%26"]
    queries = ["".join(random_.choices(pieces, k=random_.randint(0, 12))) for _ in range(100)]
    served = LoggingServed(loop, app)
    loop.run_until_complete(served.ask_many(b"".join(head_of(f"/?{query}", "GET", {}) for query in queries), len(queries)))
    served.close()
    assert seen == [urllib.parse.parse_qsl(query, keep_blank_values=True) for query in queries]


@pytest.mark.parametrize("is_kept", [False, True])
def test_headers_are_text(app, loop, is_kept):
    headers = [("X", "1"), ("x-Many", "\u00fc"), ("X-MANY", ""), ("A" * 100, "b")]

    @app.get("/")
    async def handler(request):
        if is_kept:
            await asyncio.sleep(0)
        return request.headers.pairs()

    body = loop.run_until_complete(call_native(app, headers=headers)).body
    assert json.loads(body) == [["host", "localhost"], *([name.lower(), value] for name, value in headers)]


def test_state_may_be_replaced(app, loop, served):
    app.get("/")(lambda request: request.state)
    app.state = {"new": 1}
    assert loop.run_until_complete(served.ask()).body == b'{"new":1}'
    app.state = {"newer": 2}
    assert loop.run_until_complete(served.ask()).body == b'{"newer":2}'


def test_body_that_says_it_is_too_long_is_not_asked_for(loop):
    app = App(body_bytes_max=10)
    called = []
    app.post("/")(called.append)
    served = LoggingServed(loop, app)
    head = head_of("/", "POST", {"Content-Length": "11", "Expect": "100-continue"})
    assert loop.run_until_complete(served.ask(head)).status == 413
    served.close()
    assert called == []


@pytest.mark.parametrize("is_async", [False, True])
def test_body_that_comes_slowly(app, loop, served, is_async):
    async def asynchronous(request):
        return f"{len(request.body())} {request.headers['x-a']}"

    app.post("/")(asynchronous if is_async else lambda request: f"{len(request.body())} {request.headers['x-a']}")

    async def main():
        reader, writer = await served.connect()
        writer.write(head_of("/", "POST", {"Content-Length": "300000", "X-A": "a", "Expect": "100-continue"}))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        for _ in range(30):
            writer.write(b"x" * 10_000)
            await writer.drain()
            await asyncio.sleep(0)
        answer = await read_response(reader)
        writer.close()
        return answer.body

    assert loop.run_until_complete(main()) == b"300000 a"


def test_client_that_leaves_within_its_body(app, loop, served, caplog):
    called = []
    app.post("/")(called.append)

    async def main():
        _, writer = await served.connect()
        writer.write(head_of("/", "POST", {"Content-Length": "10"}) + b"half")
        while served.server.counters()["requests"] == 0:
            await asyncio.sleep(0)
        writer.close()
        await served.quiet()

    loop.run_until_complete(main())
    assert called == [] and caplog.records == []


def test_server_closes_while_a_body_comes(app, loop, served):
    app.post("/")(lambda request: None)

    async def main():
        reader, writer = await served.connect()
        writer.write(head_of("/", "POST", {"Content-Length": "10"}) + b"half")
        while served.server.counters()["requests"] == 0:
            await asyncio.sleep(0)
        served.server.close()
        assert await reader.read() == b""
        writer.close()

    loop.run_until_complete(main())


# --- responses -----------------------------------------------------------------------------------------------------------


def test_large_response_waits_for_its_client(app, loop):
    body = bytes(range(256)) * 40_000
    app.get("/")(lambda request: body)
    assert loop.run_until_complete(call_native(app)).body == body


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda response: response.headers.append((b"a b", b"c")), "no token"),
        (lambda response: response.headers.append(("a", "b")), "must be bytes"),
        (lambda response: setattr(response, "headers", [1]), "int"),
        (lambda response: setattr(response, "status", 99), "Invalid HTTP status code: 99"),
        (lambda response: setattr(response, "body", 5), "int"),
        (lambda response: delattr(response, "body"), "body"),
    ],
)
def test_response_that_was_made_wrong_is_an_error(app, loop, caplog, change, message, is_async):
    def handler(request):
        response = Response("x")
        change(response)
        return response

    async def asynchronous(request):
        return handler(request)

    app.get("/")(asynchronous if is_async else handler)
    assert loop.run_until_complete(call_native(app)).status == 500
    assert message in caplog.text


def test_subclass_of_a_response(app, loop):
    class Plain(Response):
        @property
        def body(self):
            return b"of the property"

        @body.setter
        def body(self, value):
            pass

    class Own(Response):
        async def send(self, scope, receive, send, executor=None):
            assert scope["path"] in ("/2", "/3")
            await Response("of send()").send(scope, receive, send, executor)

    async def asynchronous(request):
        await asyncio.sleep(0)
        return Own()

    app.get("/1")(lambda request: Plain())
    app.get("/2")(lambda request: Own())
    app.get("/3")(asynchronous)
    bodies = [loop.run_until_complete(call_native(app, f"/{n}")).body for n in (1, 2, 3)]
    assert bodies == [b"of the property", b"of send()", b"of send()"]


def test_body_may_be_any_buffer(app, loop):
    app.get("/")(lambda request: Response(bytearray(b"abc")))
    assert loop.run_until_complete(call_native(app)).body == b"abc"


def test_default_headers_come_first(app, loop):
    app.get("/")(lambda request: Response("x", headers={"X-B": "2"}))
    served = LoggingServed(loop, app, headers=[(b"x-a", b"1")])
    answer = loop.run_until_complete(served.ask())
    served.close()
    assert [name for name, _ in answer.headers] == [b"x-a", b"x-b", b"content-type", b"content-length"]


def test_access_log_has_every_answer(app, loop):
    app.get("/")(lambda request: "function")

    @app.put("/")
    async def asynchronous(request):
        await asyncio.sleep(0)
        return "coroutine"

    app.post("/")(lambda request: request.body())
    served = LoggingServed(loop, app, wants_access=True)

    async def main():
        for target, method in (("/", "GET"), ("/", "PUT"), ("/", "POST"), ("/none", "GET"), ("/", "PATCH")):
            await served.ask(head_of(target, method, {"Content-Length": "0"} if method == "POST" else {}))
        await served.quiet()

    loop.run_until_complete(main())
    served.close()
    seen = [(scope["method"], scope["path"], status, size) for scope, status, size, _ in served.accesses]
    assert seen == [("GET", "/", 200, 8), ("PUT", "/", 200, 9), ("POST", "/", 200, 0), ("GET", "/none", 404, 9), ("PATCH", "/", 405, 18)]
    assert all(seconds >= 0 for *_, seconds in served.accesses)


# --- ends ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_async", [False, True])
def test_interrupt_leaves_the_loop(app, loop, served, is_async, logged_errors):
    def handler(request):
        raise KeyboardInterrupt

    async def asynchronous(request):
        handler(request)

    app.get("/")(asynchronous if is_async else handler)
    asked = loop.create_task(served.ask())
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(asked)
    assert loop.run_until_complete(asked).status == 500


@pytest.mark.parametrize("is_async", [False, True])
def test_system_exit_is_an_error_of_the_handler(app, loop, served, is_async, caplog):
    def handler(request):
        raise SystemExit(2)

    async def asynchronous(request):
        handler(request)

    app.get("/")(asynchronous if is_async else handler)
    assert loop.run_until_complete(served.ask()).status == 500
    errors = [(record.getMessage(), record.exc_info[0]) for record in caplog.records if record.name == "cxxloop.error"]
    assert errors == [("Exception in ASGI application", SystemExit)]


def test_cancelled_handler_is_an_error(app, loop):
    @app.get("/")
    async def handler(request):
        asyncio.current_task().cancel()
        await asyncio.sleep(0)

    assert loop.run_until_complete(call_native(app)).status == 500


def test_handler_closes_the_server(app, loop, served):
    for path, result in (("/text", "text"), ("/stream", Streaming(["piece"])), ("/error", None)):

        def handler(request, result=result):
            served.server.close()
            if result is None:
                raise LookupError
            return result

        app.get(path)(handler)

    async def main():
        reader, writer = await served.connect()
        writer.write(head_of("/text", "GET", {}))
        assert await reader.read() == b""
        writer.close()

    loop.run_until_complete(main())


@pytest.mark.prompt_only("the server lives until the kernel has let go")
def test_server_and_app_die_together(loop):
    app = App()
    app.get("/")(lambda request: f"{id(app)}")
    served = LoggingServed(loop, app)
    loop.run_until_complete(served.ask())
    served.close()
    loop.run_until_complete(asyncio.sleep(0))
    reference = weakref.ref(app)
    del app, served
    gc.collect()
    assert reference() is None
