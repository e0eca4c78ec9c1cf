# SPDX-License-Identifier: MIT
"""cxxloop.web.App: routes, requests, responses, errors, threads, mounts, start and end.

What does not need a message of ASGI is asked twice: as an ASGI application, and through cxxloop's own server, which calls handlers
natively. Both must give the same answers.
"""

import asyncio
import contextvars
import functools
import json
import logging
import math
import os
import threading

import pytest
from asgi_driver import call, scope_of

import cxxloop
from cxxloop.web import JSON, App, File, HTTPError, ImportFromStringError, Request, Response, StaticFiles, Streaming
from cxxloop.web.response import dumps
from cxxloop.web.router import Router

HOLD_S = 10  # a thread of a test that waits longer has been forgotten


@pytest.fixture(scope="module")
def runner():
    with asyncio.Runner(loop_factory=cxxloop.new_event_loop) as runner:
        yield runner


@pytest.fixture
def run(runner):
    """Runs a coroutine to its end on one loop of the module, or fails after `timeout` seconds."""

    def run(main, *, timeout=10):
        return runner.run(asyncio.wait_for(main, timeout))

    return run


@pytest.fixture
def app():
    return App()


@pytest.fixture(params=["asgi", "native"])
def ask(request):
    """One request to an application: a coroutine function, as asgi_driver.call()."""
    if request.param == "asgi":
        return call
    pytest.importorskip("cxxloop._web")
    from app_peer import call_native

    return call_native


@pytest.fixture
def get(run, app, ask):
    """One request to the application."""

    def get(target="/", method="GET", headers=None, **changes):
        return run(ask(app, target, method, headers, **changes))

    return get


@pytest.fixture
def returned(get, app):
    """What comes of a handler that returns, or does, something; sync and async handlers must agree."""

    def returned(make, method="GET", **changes):
        app.add(method, f"/sync{len(seen)}", lambda request: make())

        async def handler(request):
            return make()

        app.add(method, f"/async{len(seen)}", handler)
        answers = [get(f"/{kind}{len(seen)}", method, **changes) for kind in ("sync", "async")]
        seen.append(make)
        assert (answers[0].status, answers[0].pairs, answers[0].body) == (answers[1].status, answers[1].pairs, answers[1].body)
        return answers[0]

    seen = []
    return returned


# --- what handlers return ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "body", "media_type"),
    [
        (b"\xff", b"\xff", "application/octet-stream"),
        ("\u00fc", b"\xc3\xbc", "text/plain; charset=utf-8"),
        ("", b"", "text/plain; charset=utf-8"),
        ({"a": ["\u00fc", 1, None]}, '{"a":["\u00fc",1,null]}'.encode(), "application/json"),
        ([], b"[]", "application/json"),
        ({}, b"{}", "application/json"),
    ],
)
def test_plain_result_becomes_a_response(returned, value, body, media_type):
    answer = returned(lambda: value)
    assert (answer.status, answer.body) == (200, body)
    assert answer.pairs == [("content-type", media_type), ("content-length", str(len(body)))]


def test_plain_result_is_one_message(run, app):
    app.get("/")(lambda request: "text")
    assert len(run(call(app)).messages) == 2


def test_none_is_no_content(returned):
    answer = returned(lambda: None)
    assert (answer.status, answer.pairs, answer.body) == (204, [], b"")


@pytest.mark.parametrize("value", [1, object(), ("a",), {1, 2}, iter(()), True])
def test_other_result_is_an_error_without_details(returned, caplog, value):
    answer = returned(lambda: value)
    assert (answer.status, answer.body) == (500, b"Internal Server Error")
    assert "a handler returns a Response, bytes, str, dict, list or None, not " + type(value).__name__ in caplog.text


@pytest.mark.parametrize("value", [{"a": math.nan}, {"a": object()}, [b""]])
def test_what_has_no_json_is_an_error(returned, caplog, value):
    assert returned(lambda: value).status == 500


def test_response_is_sent_as_it_is(returned):
    response = Response("no", status=418, headers=[("X-A", "1"), ("x-a", "2")], media_type="text/html")
    assert returned(lambda: response).pairs == [("x-a", "1"), ("x-a", "2"), ("content-type", "text/html"), ("content-length", "2")]
    own = Response(b"{}", headers={"Content-Type": "application/problem+json"})
    assert returned(lambda: own).headers["content-type"] == "application/problem+json"


def test_response_without_a_body(returned):
    for status in (204, 304):
        answer = returned(lambda: Response(b"x", status=status, headers={"ETag": '"a"'}))
        assert (answer.status, answer.pairs, answer.body) == (status, [("etag", '"a"')], b"")


@pytest.mark.parametrize(
    "make",
    [
        lambda: Response(status=199),
        lambda: Response(status=600),
        lambda: Response(headers={"X-A": "a\r\nX-B: b"}),
        lambda: Response(headers={"X-A\n": "a"}),
        lambda: Response(media_type="text/html\r\nX-B: b"),
        lambda: HTTPError(200),
        lambda: HTTPError(999),
    ],
)
def test_wrong_response_is_refused(make):
    with pytest.raises(ValueError):
        make()


def test_json_is_that_of_the_json_module():
    values = ["\u00fc\U0001f600\ud800\"\\\n\x00", 1e300, -0.0, 10**30, {"a": [{}, [], None, True], 1: 2.5, None: 3}, [[[]]], (1, 2)]
    for value in values:
        assert dumps(value) == json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    circle = []
    circle.append(circle)
    with pytest.raises((RecursionError, ValueError)):
        dumps(circle)
    for value in (math.inf, {object(): 1}, {"a": {1}}):
        with pytest.raises((TypeError, ValueError)):
            dumps(value)


def test_json_by_any_dumps(run, ask):
    orjson_like = functools.partial(json.dumps, sort_keys=True)
    app = App(dumps=lambda value: orjson_like(value).encode(), loads=lambda body: ["parsed", body])
    app.add("GET", "/", lambda request: {"b": 1, "a": 2})
    app.add("POST", "/", lambda request: JSON(request.json(), status=201, dumps=lambda value: value[1].decode().upper()))
    assert run(ask(app)).body == b'{"a": 2, "b": 1}'
    answer = run(ask(app, "/", "POST", pieces=[b"body"]))
    assert (answer.status, answer.body, answer.headers["content-type"]) == (201, b"BODY", "application/json")


def test_head_is_get_without_a_body(get, app, tmp_path):
    (tmp_path / "f").write_bytes(b"file")
    closed = []

    def pieces():
        try:
            yield b"never"
        finally:
            closed.append(True)

    app.add("GET", "/text", lambda request: request.method)
    app.add("GET", "/file", lambda request: File(tmp_path / "f"))
    app.add("GET", "/stream", lambda request: Streaming(pieces()))
    app.add("HEAD", "/own", lambda request: Response(headers={"X-Own": "1"}))
    app.add("GET", "/own", lambda request: "get")
    answer = get("/text", "HEAD")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "4")
    answer = get("/file", "HEAD")
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "4")
    assert get("/stream", "HEAD").body == b""
    assert get("/own", "HEAD").headers["x-own"] == "1"
    assert get("/nothing", "HEAD").body == b""


# --- streams and files ---------------------------------------------------------------------------------------------------


async def counted():
    for number in range(3):
        yield f"{number}"
    yield b"end"


@pytest.mark.parametrize("pieces", [lambda: counted(), lambda: iter(["0", "1", "2", b"end"]), lambda: ["0", b"", "12end"]])
def test_stream_is_sent_in_pieces(returned, pieces):
    answer = returned(lambda: Streaming(pieces(), status=201, media_type="text/event-stream", headers={"X-A": "1"}))
    assert (answer.status, answer.body) == (201, b"012end")
    assert answer.pairs == [("x-a", "1"), ("content-type", "text/event-stream")]


def test_last_message_of_a_stream_ends_it(run, app):
    app.get("/")(lambda request: Streaming(counted()))
    messages = run(call(app)).messages
    assert not messages[-1].get("more_body") and all(message["more_body"] for message in messages[1:-1])


def test_stream_waits_for_the_client_and_is_closed(run, app):
    made, closed = [], []

    async def endless():
        try:
            while True:
                made.append(len(made))
                yield b"piece"
        finally:
            await asyncio.sleep(0)
            closed.append(True)

    app.add("GET", "/", lambda request: Streaming(endless()))

    async def gone_after_three(message):
        if len(made) == 3:
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        run(call(app, on_send=gone_after_three))
    assert made == [0, 1, 2] and closed == [True]


def test_endless_stream_ends_when_an_old_server_says_nothing(run, app):
    async def endless():
        while True:
            await asyncio.sleep(0)
            yield b"piece"

    app.add("GET", "/", lambda request: Streaming(endless()))
    answer = run(call(app, asgi={"version": "3.0", "spec_version": "2.3"}))  # the driver's receive() reports a disconnect
    assert answer.status == 200


def test_nothing_is_left_of_a_stream(run, app):
    """The iterable is closed when the client goes, and nobody waits for a disconnect any more."""

    class Pieces:
        closed = 0

        def __iter__(self):
            return iter([b"1", b"2"])

        def close(self):
            self.closed += 1

    pieces = Pieces()
    app.add("GET", "/", lambda request: Streaming(pieces))

    async def never():
        await asyncio.Event().wait()

    async def gone(message):
        if message.get("body") == b"2":
            raise OSError("gone")

    async def main():
        tasks_before = asyncio.all_tasks()
        with pytest.raises(OSError, match="gone"):
            await app(scope_of(asgi={"version": "3.0", "spec_version": "2.3"}), never, gone)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == tasks_before

    run(main())
    assert pieces.closed == 1


def test_error_in_a_stream_reaches_the_server(run, app):
    async def broken():
        yield b"half"
        raise LookupError("broken")

    app.add("GET", "/", lambda request: Streaming(broken()))
    with pytest.raises(LookupError):
        run(call(app))


def test_file_has_conditions_and_ranges(get, app, tmp_path):
    (tmp_path / "a.html").write_bytes(b"0123456789")
    os.symlink("a.html", tmp_path / "link.html")
    app.add("GET", "/", lambda request: File(tmp_path / "link.html", headers={"X-A": "1", "Cache-Control": "no-cache"}))
    app.add("GET", "/save", lambda request: File(tmp_path / "a.html", media_type="text/x", download_as='\u00fc".html'))
    answer = get()
    assert (answer.status, answer.body) == (200, b"0123456789")
    assert (answer.headers["content-type"], answer.headers["x-a"]) == ("text/html; charset=utf-8", "1")
    part = get("/", headers={"Range": "bytes=2-3"})
    assert (part.status, part.body, part.headers["content-range"]) == (206, b"23", "bytes 2-3/10")
    unchanged = get("/", headers={"If-None-Match": answer.headers["etag"]})
    assert (unchanged.status, sorted(unchanged.headers)) == (304, ["cache-control", "etag", "last-modified"])
    saved = get("/save").headers
    assert (saved["content-type"], saved["content-disposition"]) == ("text/x", "attachment; filename*=UTF-8''%C3%BC%22.html")


def test_file_that_is_no_regular_one_is_absent(get, app, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for name in ("nothing", "", "fifo"):
        app.add("GET", f"/{name}x", lambda request, name=name: File(tmp_path / name))
        assert get(f"/{name}x").status == 404


# --- errors --------------------------------------------------------------------------------------------------------------


def raising(error):
    def make():
        raise error

    return make


def test_exception_is_an_error_without_details(returned, caplog):
    answer = returned(raising(ValueError("a secret")))
    assert (answer.status, answer.body) == (500, b"Internal Server Error")
    assert "a secret" in caplog.text and "Exception in the handler of GET /sync0" in caplog.text


def test_http_error_is_given_as_it_is(returned, caplog):
    answer = returned(raising(HTTPError(403, "not you", headers={"X-A": "1"})))
    assert (answer.status, answer.body, answer.headers["x-a"]) == (403, b"not you", "1")
    assert returned(raising(HTTPError(404))).body == b"Not Found"
    assert returned(raising(HTTPError(499))).body == b"499"
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_cancellation_goes_through(run, app):
    started = asyncio.Event()

    async def handler(request):
        started.set()
        await asyncio.Event().wait()

    app.add("GET", "/", handler)

    async def main():
        task = asyncio.ensure_future(call(app))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())


# --- routes --------------------------------------------------------------------------------------------------------------


def test_decorators_add_and_return_handlers(app, get):
    for method in ("get", "post", "put", "patch", "delete"):

        def handler(request):
            return request.method

        assert getattr(app, method)("/")(handler) is handler
        assert get("/", method.upper()).body == method.upper().encode()
    app.route("/both", methods=["OPTIONS", "query"])(lambda request: request.method)
    assert get("/both", "OPTIONS").body == b"OPTIONS" and get("/both", "QUERY").body == b"QUERY"


def test_handler_by_import_string(app, get, tmp_path, monkeypatch):
    (tmp_path / "handlers_of_test_app.py").write_text("class Users:\n    @staticmethod\n    async def show(request): return 'shown'\n")
    monkeypatch.syspath_prepend(tmp_path)
    app.add("GET", "/", "handlers_of_test_app:Users.show")
    assert get().body == b"shown"


def test_callables_of_every_kind(app, get):
    class Sync:
        def __call__(self, request):
            return "sync"

        async def method(self, request):
            return "method"

    class Async:
        async def __call__(self, request):
            return "async"

    async def partial(value, request):
        return value

    app.add("GET", "/1", Sync())
    app.add("GET", "/2", Async())
    app.add("GET", "/3", Sync().method)
    app.add("GET", "/4", functools.partial(partial, "partial"))
    assert [get(f"/{number}").body for number in range(1, 5)] == [b"sync", b"async", b"method", b"partial"]


def test_wrong_handler_is_refused_when_it_is_added(app):
    async def asynchronous(request): ...

    async def stream(request):
        yield b""

    def generator(request):
        yield b""

    wrong = [(5, {}), (stream, {}), (generator, {}), (asynchronous, {"thread": True}), (len, {"stream": True})]
    for handler, settings in wrong:
        with pytest.raises(TypeError):
            app.add("POST", "/", handler, **settings)
    with pytest.raises(ImportFromStringError):
        app.add("POST", "/", "json:nothing")


ROUTES = [
    "/",
    "/users",
    "/users/me",
    "/users/{id:int}",
    "/users/{name}",
    "/users/{name}/posts",
    "/users/{id:int}/posts/{post}",
    "/users/{name}/posts/latest",
    "/files/{path:path}",
    "/files/{name}/info",
    "/a/{x}/c",
    "/{page}",
    "/a/b/{rest:path}",
]


@pytest.mark.parametrize(
    ("path", "route", "params"),
    [
        ("/", "/", {}),
        ("/users", "/users", {}),
        ("/users/me", "/users/me", {}),
        ("/users/17", "/users/{id:int}", {"id": 17}),
        ("/users/007", "/users/{id:int}", {"id": 7}),
        ("/users/-1", "/users/{name}", {"name": "-1"}),
        ("/users/\u0661", "/users/{name}", {"name": "\u0661"}),
        ("/users/\u00b2", "/users/{name}", {"name": "\u00b2"}),
        ("/users/" + "1" * 5000, "/users/{name}", {"name": "1" * 5000}),
        ("/users/me/posts", "/users/{name}/posts", {"name": "me"}),
        ("/users/17/posts", "/users/{name}/posts", {"name": "17"}),
        ("/users/17/posts/latest", "/users/{id:int}/posts/{post}", {"id": 17, "post": "latest"}),
        ("/users/ann/posts/latest", "/users/{name}/posts/latest", {"name": "ann"}),
        ("/files/", "/files/{path:path}", {"path": ""}),
        ("/files/a/b/", "/files/{path:path}", {"path": "a/b/"}),
        ("/files/a/info", "/files/{name}/info", {"name": "a"}),
        ("/files/a/info/x", "/files/{path:path}", {"path": "a/info/x"}),
        ("/files//info", "/files/{path:path}", {"path": "/info"}),
        ("/a/b/c", "/a/b/{rest:path}", {"rest": "c"}),
        ("/a/x/c", "/a/{x}/c", {"x": "x"}),
        ("/files", "/{page}", {"page": "files"}),
        ("/{page}", "/{page}", {"page": "{page}"}),
        ("/users/", None, None),
        ("/users/ann/posts/other", None, None),
        ("//", None, None),
        ("", None, None),
        ("*", None, None),
        ("/a/x/d", None, None),
    ],
)
def test_most_special_route_is_taken(path, route, params):
    for routes in (ROUTES, ROUTES[::-1]):
        router = Router()
        for added in routes:
            router.add("GET", added, added)
        match = router.find("GET", path)
        assert (match and match.target, match and match.params) == (route, params)


def test_names_of_parameters_belong_to_their_route():
    router = Router()
    router.add("GET", "/users/{id}", "get")
    router.add("DELETE", "/users/{name}", "delete")
    assert router.find("GET", "/users/x").params == {"id": "x"}
    assert router.find("DELETE", "/users/x").params == {"name": "x"}


@pytest.mark.parametrize(
    "path", ["", "users", "/{", "/}", "/{}", "/{a b}", "/{a:float}", "/x{a}", "/{a}.json", "/{a:path}/b", "/{a}/{a}", "/{a}{b}", "/{1}"]
)
def test_wrong_path_is_refused(path):
    with pytest.raises(ValueError):
        Router().add("GET", path, 1)


def test_second_route_of_one_shape_is_refused():
    router = Router()
    for path, same in (("/a", "/a"), ("/{a}", "/{b}"), ("/{a:int}", "/{b:int}"), ("/x/{a:path}", "/x/{b:path}")):
        router.add("GET", path, 1)
        with pytest.raises(ValueError):
            router.add("GET", same, 2)


def test_wrong_method_is_told_which_ones_there_are(app, get):
    app.add("GET", "/users/{id}", lambda request: "get")
    app.add("POST", "/users/new", lambda request: "post")
    app.add("DELETE", "/users/{id:int}", lambda request: "delete")
    app.add("PUT", "/only", lambda request: "put")
    assert get("/users/new").body == b"get"  # of another route that fits
    assert get("/users/7", "DELETE").body == b"delete"
    for target, allow in (("/users/new", "GET, HEAD, POST"), ("/users/7", "DELETE, GET, HEAD"), ("/only", "PUT")):
        answer = get(target, "PATCH")
        assert (answer.status, answer.headers["allow"], answer.body) == (405, allow, b"Method Not Allowed")
    assert get("/only", "HEAD").status == 405
    assert get("/nothing", "PATCH").status == 404


def test_time_of_a_match_does_not_grow_with_routes():
    """Counts the segments looked at, which is what the time is spent on."""

    class Counted(dict):
        looks = 0

        def get(self, key, default=None):
            Counted.looks += 1
            return super().get(key, default)

    router = Router()
    for number in range(1000):
        router.add("GET", f"/r{number}/{{id:int}}/x{number}", number)
    stack = [router._root]
    while stack:
        node = stack.pop()
        node.literals = Counted(node.literals)
        stack += [child for child in (*node.literals.values(), node.ints, node.strings) if child is not None]
    assert router.find("GET", "/r999/5/x999").target == 999
    assert router.find("GET", "/r500/5/x501") is None
    assert Counted.looks <= 6


def test_path_of_many_segments_needs_no_deep_stack(app, get):
    app.add("GET", "/f/{path:path}", lambda request: str(len(request.path_params["path"])))
    assert get("/f/" + "a/" * 5000).body == b"10000"
    assert get("/" + "a/" * 5000).status == 404


# --- requests ------------------------------------------------------------------------------------------------------------


def test_request_is_complete(app, get):
    seen = []
    app.state["db"] = "open"
    app.add("POST", "/users/{id:int}", lambda request: seen.append(request))
    headers = [("X-Many", "1"), ("Content-Type", "text/plain"), ("x-many", "2"), ("X-Latin", "\u00fc")]
    get("/users/7?a=1&b=&a=%C3%BC+x&c", "POST", headers, pieces=[b"he", b"", b"llo"])
    (request,) = seen
    assert (request.method, request.path, request.path_params) == ("POST", "/users/7", {"id": 7})
    assert request.body() == b"hello" and request.state == {"db": "open"}
    host, port = request.client
    assert host in ("192.0.2.1", "127.0.0.1") and port > 0
    assert request.headers["X-MANY"] == "1" and request.headers.get_all("x-Many") == ["1", "2"]
    assert "CONTENT-type" in request.headers and "x" not in request.headers and request.headers.get("x", "no") == "no"
    assert request.headers["x-latin"] == "\u00fc" and list(request.headers)[:4] == ["host", "x-many", "content-type", "x-latin"]
    assert request.query["a"] == "1" and request.query.get_all("a") == ["1", "\u00fc x"] and request.query["b"] == ""
    assert request.query.pairs() == [("a", "1"), ("b", ""), ("a", "\u00fc x"), ("c", "")] and len(request.query) == 3
    with pytest.raises(KeyError):
        request.query["z"]
    assert request.url == "http://localhost/users/7?a=1&b=&a=%C3%BC+x&c"


@pytest.mark.parametrize(
    ("server", "url"),
    [
        (("192.0.2.2", 80), "http://192.0.2.2/a%20b"),
        (("::1", 8000), "http://[::1]:8000/a%20b"),
        (None, "http://localhost/a%20b"),
    ],
)
def test_url_without_a_host(server, url):
    scope = {**scope_of("/a b", server=server, raw_path=None), "headers": []}
    assert Request(scope, None, path="/a b", path_params={}, state={}).url == url


def test_json_of_a_body(app, get):
    app.add("POST", "/", lambda request: request.json())
    assert json.loads(get("/", "POST", pieces=[b'{"a": ', b"[1]}"]).body) == {"a": [1]}
    for body in (b"", b"{", b"\xff\xfe\xff", b"[" * 100_000):
        answer = get("/", "POST", pieces=[body])
        assert (answer.status, answer.body) == (400, b"The body is no JSON.")


def test_long_body_is_refused(run, ask):
    app = App(body_bytes_max=4)
    app.add("POST", "/", lambda request: request.body())
    assert run(ask(app, "/", "POST", pieces=[b"ab", b"cd"])).body == b"abcd"
    answer = run(ask(app, "/", "POST", pieces=[b"ab", b"cd", b"e"]))
    assert (answer.status, answer.body) == (413, b"The body is too long.")


def test_get_with_a_body(app, get):
    app.add("GET", "/", lambda request: request.body())
    assert get("/", headers={"Content-Length": "2"}, pieces=[b"ab"]).body == b"ab"
    assert get("/", pieces=[b""]).body == b""


def test_get_of_http_2_may_have_a_body(run, app):
    app.add("GET", "/", lambda request: request.body())
    assert run(call(app, http_version="2", pieces=[b"ab"])).body == b"ab"


def test_body_is_streamed(app, get):
    async def handler(request):
        pieces = [piece async for piece in request.stream()]
        with pytest.raises(RuntimeError, match="stream"):
            request.body()
        with pytest.raises(RuntimeError, match="only once"):
            async for _ in request.stream():
                pass
        return f"{pieces}"

    app.post("/", stream=True)(handler)
    assert get("/", "POST", pieces=[b"a", b"", b"b"]).body == b"[b'a', b'b']"


def test_client_that_leaves_gets_no_response(run, app, caplog):
    app.post("/")(lambda request: "never")

    async def stream(request):
        return f"{[piece async for piece in request.stream()]}"

    app.put("/", stream=True)(stream)
    messages = []

    async def send(message):
        messages.append(message)

    async def main():
        for method in ("POST", "PUT"):
            left = [{"type": "http.request", "body": b"half", "more_body": True}, {"type": "http.disconnect"}]

            async def receive(left=left):
                return left.pop(0)

            await app(scope_of("/", method), receive, send)

    run(main())
    assert messages == [] and caplog.records == []


# --- threads -------------------------------------------------------------------------------------------------------------


def name_of_thread(request):
    return threading.current_thread().name


async def name_of_thread_async(request):
    return threading.current_thread().name


def test_handlers_run_where_they_are_told(run, ask):
    for threads, plain in ((0, "MainThread"), (2, "cxxloop-handler")):
        app = App(threads=threads)
        app.get("/plain")(name_of_thread)
        app.get("/async")(name_of_thread_async)
        app.get("/thread", thread=True)(name_of_thread)
        app.get("/loop", thread=False)(name_of_thread)
        names = [run(ask(app, target)).body.decode().partition("_")[0] for target in ("/plain", "/async", "/thread", "/loop")]
        assert names == [plain, "MainThread", "cxxloop-handler", "MainThread"]
        run(app.shutdown())


def test_thread_has_the_context_of_its_request(run, ask):
    variable = contextvars.ContextVar("variable")
    app = App(threads=1)
    app.get("/")(lambda request: variable.get("unset"))

    async def main():
        variable.set("set")
        return await ask(app)

    assert run(main()).body == b"set"
    run(app.shutdown())


def test_threads_run_at_once_and_errors_come_back(run, ask):
    app = App(threads=2)
    barrier = threading.Barrier(2)

    @app.get("/{n:int}")
    def handler(request):
        barrier.wait(HOLD_S)
        if request.path_params["n"] == 1:
            raise HTTPError(409, "one")
        return Streaming(threading.current_thread().name[:15] for _ in range(1))

    async def main():
        return await asyncio.gather(ask(app, "/0"), ask(app, "/1"))

    first, second = run(main())
    assert first.body == b"cxxloop-handler"  # its pieces are made in a thread, too
    assert (second.status, second.body) == (409, b"one")
    run(app.shutdown())


# --- mounts --------------------------------------------------------------------------------------------------------------


def test_mounts_come_after_routes(run, app, get, tmp_path):
    (tmp_path / "a.txt").write_bytes(b"file")
    inner = App()
    inner.add("GET", "/users/{id:int}", lambda request: f"{request.path} {request.path_params['id']} {request.url}")
    inner.mount("/deep", StaticFiles(tmp_path))
    app.add("GET", "/static/special", lambda request: "route")
    app.mount("/static", StaticFiles(tmp_path))
    app.mount("/api/", inner)
    assert get("/static/a.txt").body == b"file"
    assert get("/static/special").body == b"route"
    assert get("/static/special", "POST").status == 405
    assert get("/static/../a.txt").status == 404
    assert get("/statica.txt").status == 404
    assert get("/api/users/7").body == b"/users/7 7 http://localhost/api/users/7"
    assert get("/api/deep/a.txt").body == b"file"
    for wrong in ("/api", "api"):
        with pytest.raises(ValueError):
            app.mount(wrong, inner)


def test_mount_below_a_root_path(run, app, tmp_path):
    (tmp_path / "a.txt").write_bytes(b"file")
    inner = App()
    inner.mount("/deep", StaticFiles(tmp_path))
    app.mount("/api", inner)
    assert run(call(app, "/proxy/api/deep/a.txt", root_path="/proxy")).body == b"file"


def test_websocket_belongs_to_mounts(run, app):
    sent = []

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message)

    async def chat(scope, receive, send):
        await send({"type": "websocket.accept", "path": scope["path"], "root_path": scope["root_path"]})

    app.mount("/chat", chat)
    run(app({"type": "websocket", "path": "/chat/room", "root_path": ""}, receive, send))
    run(app({"type": "websocket", "path": "/other", "root_path": ""}, receive, send))
    assert sent == [
        {"type": "websocket.accept", "path": "/chat/room", "root_path": "/chat"},
        {"type": "websocket.close", "code": 1000},
    ]


# --- start and end -------------------------------------------------------------------------------------------------------


def lifespan(app):
    """Runs the application's lifespan; returns what it has sent."""

    async def main():
        sent = []
        kinds = ["lifespan.startup", "lifespan.shutdown"]

        async def receive():
            return {"type": kinds.pop(0)}

        async def send(message):
            sent.append(message)

        await app({"type": "lifespan", "state": {}}, receive, send)
        return sent

    return main()


def test_hooks_run_in_order(run, app):
    ran = []
    inner = App()
    app.mount("/inner", inner)

    @app.on_startup
    async def first():
        ran.append("first")

    app.on_startup(lambda: ran.append("second"))
    inner.on_startup(lambda: ran.append("inner"))
    inner.on_shutdown(lambda: ran.append("inner end"))
    app.on_shutdown(lambda: ran.append("end of first"))

    @app.on_shutdown
    async def end_of_second():
        ran.append("end of second")

    assert [message["type"] for message in run(lifespan(app))] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert ran == ["first", "second", "inner", "inner end", "end of second", "end of first"]


def test_failed_start_is_told(run, app, caplog):
    app.on_startup(raising(LookupError("no database")))
    app.on_shutdown(raising(AssertionError("never")))
    assert run(lifespan(app)) == [{"type": "lifespan.startup.failed", "message": "LookupError: no database"}]


def test_failed_end_runs_the_other_hooks(run, app, caplog):
    ran = []
    app.on_shutdown(lambda: ran.append("last"))
    app.on_shutdown(raising(LookupError("no database")))
    sent = run(lifespan(app))
    assert sent[-1] == {"type": "lifespan.shutdown.failed", "message": "LookupError: no database"}
    assert ran == ["last"] and "no database" in caplog.text
