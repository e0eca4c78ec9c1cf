# SPDX-License-Identifier: MIT
"""RSGI applications on the native server, by raw requests, and what starts and ends them as a process."""

import asyncio
import collections.abc
import contextlib
import logging

import pytest
from asgi_peer import GET, read_response
from program import write

from cxxloop.web.rsgi import (
    Headers,
    ProtocolClosed,
    ProtocolError,
    RSGIApplication,
    Scope,
    WebsocketMessage,
    WebsocketMessageType,
)

pytestmark = pytest.mark.cxxloop_only("asyncio has no web server")

TEXT = [("Content-Type", "text/plain")]


@pytest.fixture
def serve_rsgi(serve_app):
    return lambda app, **options: serve_app(RSGIApplication(app), **options)


def post(body=b"abc"):
    return b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


# --- the scope -----------------------------------------------------------------------------------------------------------


def scope_of(kind="http", **changes):
    scope = {
        "type": kind,
        "http_version": "1.1",
        "scheme": "http",
        "path": "/",
        "root_path": "",
        "query_string": b"",
        "headers": [],
        "client": ("192.0.2.1", 4711),
        "server": ("192.0.2.2", 80),
    }
    return Scope({**scope, **changes})


def test_scope_is_complete(run, serve_rsgi):
    scopes = []

    async def app(scope, protocol):
        scopes.append(scope)
        protocol.response_empty(204, [])

    async def main():
        reader, writer = await served.connect()
        writer.write(b"DELETE /a%20b%C3%BC?c=%20d HTTP/1.1\r\nHost: h:1\r\nX-Many: 1\r\nx-many: 2\r\n\r\n")
        await read_response(reader)
        addresses.extend(writer.get_extra_info(name) for name in ("peername", "sockname"))
        writer.close()

    served, addresses = serve_rsgi(app, root_path="/mounted"), []
    run(main())
    (scope,) = scopes
    assert (scope.proto, scope.rsgi_version, scope.http_version) == ("http", "1.6", "1.1")
    assert (scope.scheme, scope.method, scope.path, scope.query_string) == ("http", "DELETE", "/a b\u00fc", "c=%20d")
    assert [scope.server, scope.client] == [f"127.0.0.1:{port}" for _, port in addresses]
    assert scope.authority is None
    assert scope.headers.items() == [("host", "h:1"), ("x-many", "1"), ("x-many", "2")]
    assert scope.headers is scope.headers


def test_headers_are_a_mapping_with_repeated_lines():
    headers = Headers([(b"a", b"1"), (b"b", b"\xe9"), (b"a", b"2")])
    assert headers.keys() == ["a", "b"] and list(headers) == ["a", "b"] and len(headers) == 2
    assert headers.values() == ["1", "\u00e9", "2"]
    assert headers.items() == [("a", "1"), ("b", "\u00e9"), ("a", "2")]
    assert headers["A"] == "1" and "A" in headers and "c" not in headers and 1 not in headers
    assert (headers.get("a"), headers.get("A"), headers.get("c"), headers.get("c", 5)) == ("1", "1", None, 5)
    assert (headers.get_all("A"), headers.get_all("c")) == (["1", "2"], [])
    assert isinstance(headers, collections.abc.Mapping) and dict(headers) == {"a": "1", "b": "\u00e9"}
    with pytest.raises(KeyError):
        headers["c"]


@pytest.mark.parametrize(
    ("address", "text"), [(("::1", 80), "[::1]:80"), (("h", 0), "h:0"), (("/run/a.sock", None), "/run/a.sock"), (None, "")]
)
def test_address_is_one_text(address, text):
    assert scope_of(method="GET", server=address).server == text
    assert scope_of(method="GET", client=address).client == text


def test_versions_and_schemes_are_named_as_rsgi_does():
    assert scope_of(http_version="1.0").http_version == "1"
    assert scope_of(http_version="2", headers=[(b"host", b"h")]).authority == "h"
    scope = scope_of("websocket", scheme="wss")
    assert (scope.proto, scope.scheme, scope.method) == ("ws", "https", "GET")


# --- requests ------------------------------------------------------------------------------------------------------------


def test_body_is_read_whole_and_once(run, serve_rsgi):
    async def app(scope, protocol):
        body = await protocol()
        with pytest.raises(ProtocolError):
            await protocol()
        with pytest.raises(ProtocolError):
            aiter(protocol)
        protocol.response_bytes(201, TEXT, body[::-1])

    response = run(serve_rsgi(app).ask(post()))
    assert (response.status, response.body) == (201, b"cba")
    assert response.header(b"content-type") == b"text/plain" and response.header(b"content-length") == b"3"


def test_body_streams_in_and_out(run, serve_rsgi):
    async def app(scope, protocol):
        transport = protocol.response_stream(200, TEXT)
        async for piece in protocol:
            await transport.send_bytes(piece)
        await transport.send_str("\u00fc")

    async def main():
        reader, writer = await served.connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
        head = await reader.readuntil(b"\r\n\r\n")
        first = await reader.readuntil(b"abc\r\n")  # before the rest of the body has been sent
        writer.write(b"def")
        rest = await reader.readuntil(b"0\r\n\r\n")
        writer.close()
        return head, first, rest

    served = serve_rsgi(app)
    head, first, rest = run(main())
    assert b"transfer-encoding: chunked" in head.lower()
    assert (first, rest) == (b"3\r\nabc\r\n", b"3\r\ndef\r\n2\r\n\xc3\xbc\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (lambda protocol: protocol.response_empty(204, [("X-A", "1")]), (204, b"")),
        (lambda protocol: protocol.response_empty(), (200, b"")),
        (lambda protocol: protocol.response_str(200, [("x-a", "1")], "\u00fc"), (200, b"\xc3\xbc")),
        (lambda protocol: protocol.response_str(404, body="no"), (404, b"no")),
        (lambda protocol: protocol.response_bytes(200, [], bytes(100_000)), (200, bytes(100_000))),
        (lambda protocol: protocol.response_stream(200, []), (200, b"")),
    ],
)
def test_response_of_each_kind(run, serve_rsgi, answer, expected):
    async def app(scope, protocol):
        answer(protocol)
        with pytest.raises(ProtocolError):
            protocol.response_empty(500, [])

    served = serve_rsgi(app)
    for response in run(served.ask_many(GET * 2, 2)):
        assert (response.status, response.body) == expected
    assert served.errors == []


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_files_and_their_ranges_are_sent(run, serve_rsgi, tmp_path, size):
    content = bytes(range(256)) * (size // 256 + 1)
    path = str(tmp_path / "file")
    (tmp_path / "file").write_bytes(content)
    (tmp_path / "empty").write_bytes(b"")
    answers = {
        "/whole": lambda protocol: protocol.response_file(200, TEXT, path),
        "/range": lambda protocol: protocol.response_file_range(206, TEXT, path, 3, size // 2),
        "/past": lambda protocol: protocol.response_file_range(206, TEXT, path, 5, 1 << 40),
        "/behind": lambda protocol: protocol.response_file_range(206, TEXT, path, 1 << 40, 1 << 41),
        "/empty": lambda protocol: protocol.response_file(200, TEXT, str(tmp_path / "empty")),
        "/absent": lambda protocol: protocol.response_file(200, TEXT, path + "x"),
        "/folder": lambda protocol: protocol.response_file(200, TEXT, str(tmp_path)),
    }

    async def app(scope, protocol):
        with pytest.raises(ValueError, match="no range"):
            protocol.response_file_range(206, TEXT, path, 5, 5)
        answers[scope.path](protocol)

    async def main():
        reader, writer = await served.connect()
        found = {}
        for method in ("GET", "HEAD"):
            for target in answers:
                writer.write(f"{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
                response = await read_response(reader, method=method)
                length = response.header(b"content-length")
                assert method == "HEAD" or int(length) == len(response.body)
                found[method, target] = response.status, response.body if method == "GET" else int(length)
        writer.close()
        return found

    served = serve_rsgi(app)
    bodies = {
        "/whole": (200, content),
        "/range": (206, content[3 : size // 2]),
        "/past": (206, content[5:]),
        "/behind": (206, b""),
        "/empty": (200, b""),
        "/absent": (404, b"Not Found"),
        "/folder": (404, b"Not Found"),
    }
    heads = {("HEAD", target): (status, len(body)) for target, (status, body) in bodies.items()}
    assert run(main()) == {("GET", target): answer for target, answer in bodies.items()} | heads
    assert served.errors == []


def test_response_leaves_before_the_application_returns(run, serve_rsgi):
    async def app(scope, protocol):
        (protocol.response_str if scope.path == "/" else protocol.response_stream)(200, [])
        await may_return.wait()
        returned.append(scope.path)

    async def main():
        response = await served.ask()
        assert returned == []
        may_return.set()
        await served.quiet()
        return response

    served, may_return, returned = serve_rsgi(app), asyncio.Event(), []
    assert run(main()).status == 200
    assert returned == ["/"]


def test_response_waits_for_a_client_that_is_behind(run, serve_rsgi):
    # The first response fills the buffers, so that the second one has to wait although its functions do not.
    large = bytes(8_000_000)

    async def app(scope, protocol):
        protocol.response_bytes(200, [], large)
        answered.set()
        await asyncio.sleep(0)
        await may_return.wait()

    async def main():
        reader, writer = await served.connect()
        writer.write(GET * 2)
        for count in (1, 2):
            await answered.wait()
            answered.clear()
            may_return.set()
            response = await read_response(reader)
            assert response.body == large, count
        writer.close()

    served, answered, may_return = serve_rsgi(app), asyncio.Event(), asyncio.Event()
    run(main())
    assert served.errors == []


def test_application_that_does_not_answer_is_a_500(run, serve_rsgi):
    async def app(scope, protocol):
        pass

    served = serve_rsgi(app)
    assert run(served.ask()).status == 500
    assert served.errors == [("ASGI callable returned without starting response.", None)]


def test_error_after_the_response_is_logged_and_the_response_sent(run, serve_rsgi):
    async def app(scope, protocol):
        protocol.response_str(200, [], "sent")
        raise ZeroDivisionError

    served = serve_rsgi(app)
    response = run(served.ask())
    assert (response.status, response.body) == (200, b"sent")
    ((_, exception),) = served.errors
    assert isinstance(exception, ZeroDivisionError)


def test_error_within_a_stream_cuts_it_off(run, serve_rsgi):
    async def app(scope, protocol):
        await protocol.response_stream(200, []).send_str("begun")
        raise ZeroDivisionError

    served = serve_rsgi(app)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
        run(served.ask())
    assert len(served.errors) == 1


@pytest.mark.parametrize("stays", [False, True])
def test_header_that_would_break_the_response_is_a_500(run, serve_rsgi, stays):
    async def app(scope, protocol):
        protocol.response_str(200, [("X-A", "1\r\nX-B: 2")], "body")
        if stays:  # the response is sent meanwhile
            for _ in range(5):
                await asyncio.sleep(0)

    served = serve_rsgi(app)
    assert run(served.ask()).status == 500
    assert len(served.errors) == 1


# --- the client goes -----------------------------------------------------------------------------------------------------


async def leave(served, request, entered):
    reader, writer = await served.connect()
    writer.write(request)
    await entered.wait()
    writer.transport.abort()
    await served.quiet()


@pytest.mark.parametrize("request_", [GET, post(), post(bytes(1000))[:-1]])
def test_client_disconnect_ends_when_the_client_goes(run, serve_rsgi, request_):
    async def app(scope, protocol):
        watch = asyncio.create_task(protocol.client_disconnect())
        await asyncio.sleep(0)
        entered.set()
        await watch
        await protocol.client_disconnect()  # at once from now on
        ended.append(scope.method)

    served, entered, ended = serve_rsgi(app), asyncio.Event(), []
    run(leave(served, request_, entered))
    assert len(ended) == 1 and served.errors == []


def test_body_is_read_while_the_disconnect_is_watched(run, serve_rsgi):
    body = bytes(range(256)) * 4000  # more than the watch keeps

    async def app(scope, protocol):
        watches = [asyncio.create_task(protocol.client_disconnect()) for _ in range(2)]
        await asyncio.sleep(0)
        received = await protocol()
        for watch in watches:
            watch.cancel()
        done, _ = await asyncio.wait(watches)
        protocol.response_str(200, [], str((received == body, [watch.cancelled() for watch in done])))

    served = serve_rsgi(app)
    assert run(served.ask(post(body))).body == b"(True, [True, True])"


def test_client_that_leaves_ends_the_read(run, serve_rsgi):
    async def app(scope, protocol):
        entered.set()
        try:
            await protocol()
        except ProtocolClosed:
            caught.append(True)
            raise

    served, entered, caught = serve_rsgi(app), asyncio.Event(), []
    run(leave(served, post(b"whole")[:-1], entered))
    assert caught == [True] and served.errors == []


def test_client_that_leaves_ends_the_stream(run, serve_rsgi):
    async def app(scope, protocol):
        transport = protocol.response_stream(200, [])
        with pytest.raises(ProtocolClosed):
            while True:
                await transport.send_bytes(bytes(10_000))
                entered.set()
        caught.append(True)

    served, entered, caught = serve_rsgi(app), asyncio.Event(), []
    run(leave(served, GET, entered))
    assert caught == [True] and served.errors == []


def test_application_that_was_cancelled_cannot_answer(run, serve_rsgi):
    async def app(scope, protocol):
        protocols.append(protocol)
        entered.set()
        await asyncio.Event().wait()

    async def main():
        reader, writer = await served.connect()
        writer.write(GET)
        await entered.wait()
        for task in served.server.tasks():
            task.cancel()
        writer.close()
        await served.quiet()
        with pytest.raises(ProtocolError, match="the application has returned"):
            protocols[0].response_empty()

    served, entered, protocols = serve_rsgi(app), asyncio.Event(), []
    run(main())


# --- WebSocket -----------------------------------------------------------------------------------------------------------

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def frame(opcode, payload=b""):
    return bytes((0x80 | opcode, 0x80 | len(payload))) + bytes(4) + payload  # a mask of zeros


async def read_frame(reader):
    first, size = await reader.readexactly(2)
    return first & 0x0F, await reader.readexactly(size)


@contextlib.asynccontextmanager
async def opened(served):
    reader, writer = await served.connect()
    writer.write(UPGRADE)
    assert (await read_response(reader)).status == 101
    yield reader, writer
    writer.close()
    await served.quiet()


def test_websocket_echoes_until_the_client_closes(run, serve_rsgi):
    kinds = []

    async def app(scope, protocol):
        assert (scope.proto, scope.path, scope.method, scope.scheme) == ("ws", "/ws", "GET", "http")
        transport = await protocol.accept()
        with pytest.raises(ProtocolError):
            await protocol.accept()
        while (message := await transport.receive()).kind != WebsocketMessageType.close:
            kinds.append(message.kind)
            await (transport.send_bytes if message.kind == 1 else transport.send_str)(message.data)
        kinds.append(message)
        with pytest.raises(ProtocolClosed):
            await transport.receive()
        with pytest.raises(ProtocolClosed):
            await transport.send_str("late")
        protocol.close()

    async def main():
        async with opened(served) as (reader, writer):
            writer.write(frame(1, "\u00fc".encode()) + frame(2, b"\xff"))
            assert [await read_frame(reader), await read_frame(reader)] == [(1, b"\xc3\xbc"), (2, b"\xff")]
            writer.write(frame(8, b"\x03\xe8"))
            assert await read_frame(reader) == (8, b"\x03\xe8")

    served = serve_rsgi(app)
    run(main())
    assert kinds == [2, 1, WebsocketMessage(WebsocketMessageType.close, None)]
    assert served.errors == []


@pytest.mark.parametrize(("status", "code"), [(None, 1000), (0, 1000), (200, 1000), (4001, 4001), ("return", 1000)])
def test_websocket_is_closed_by_the_application(run, serve_rsgi, status, code):
    async def app(scope, protocol):
        transport = await protocol.accept()
        await transport.send_str("a")
        if status == "return":
            return
        protocol.close(status)
        protocol.close(status)
        with pytest.raises(ProtocolError):
            await transport.send_str("b")

    async def main():
        async with opened(served) as (reader, writer):
            assert await read_frame(reader) == (1, b"a")
            assert await read_frame(reader) == (8, code.to_bytes(2, "big"))
            writer.write(frame(8, code.to_bytes(2, "big")))

    served = serve_rsgi(app)
    run(main())
    assert served.errors == []


@pytest.mark.parametrize(("status", "expected"), [(None, 403), (0, 403), (401, 401), (503, 503)])
def test_websocket_is_rejected(run, serve_rsgi, status, expected):
    async def app(scope, protocol):
        protocol.close(status)
        with pytest.raises(ProtocolError):
            await protocol.accept()

    served = serve_rsgi(app)
    assert run(served.ask(UPGRADE)).status == expected
    assert served.errors == []


def test_websocket_whose_client_has_gone_ends_quietly(run, serve_rsgi):
    async def app(scope, protocol):
        transport = await protocol.accept()
        while True:
            await transport.send_bytes(bytes(1000))
            entered.set()

    served, entered = serve_rsgi(app), asyncio.Event()
    run(leave(served, UPGRADE, entered))
    assert served.errors == []


# --- start and end -------------------------------------------------------------------------------------------------------

APPLICATION = """
import asyncio

class App:
    async def __call__(self, scope, receive, send):
        raise AssertionError("RSGI goes before ASGI")

    async def __rsgi__(self, scope, protocol):
        protocol.response_str(200, [], self.greeting)

    def __rsgi_init__(self, loop):
        loop.run_until_complete(self.start())
        self.loop = loop
        print("init", flush=True)

    def __rsgi_del__(self, loop):
        loop.run_until_complete(asyncio.sleep(0))
        print("del", loop is self.loop, flush=True)

    async def start(self):
        await asyncio.sleep(0)
        self.greeting = "hello"

app = App()

def make():
    return App()

class Failing(App):
    def __rsgi_init__(self, loop):
        raise ZeroDivisionError

    def __rsgi_del__(self, loop):
        raise ZeroDivisionError

class FailingAtTheEnd(Failing):
    __rsgi_init__ = App.__rsgi_init__

failing, failing_at_the_end = Failing(), FailingAtTheEnd()
"""


@pytest.mark.parametrize(
    ("target", "flags"),
    [("rsgi:app", ["--log-level", "trace"]), ("rsgi:make", ["--factory", "--interface", "rsgi"]), ("rsgi:app", ["--workers", "1"])],
)
def test_application_starts_before_the_loop_runs_and_ends_after_it(serve, tmp_path, target, flags):
    write(tmp_path, "rsgi.py", APPLICATION)
    program = serve(*flags, target=target)
    port = program.port()
    program.wait_for("Application startup complete")
    assert program.get(port=port) == (200, "hello")
    assert program.end() == 0
    assert program.lines.count("init") == 1 and program.lines.count("del True") == 1
    assert "Traceback" not in program.log


def test_application_that_fails_to_start_is_exit_code_3(serve, tmp_path):
    write(tmp_path, "rsgi.py", APPLICATION)
    program = serve(target="rsgi:failing")
    assert program.wait() == 3
    assert "Exception in __rsgi_init__()" in program.log and "ZeroDivisionError" in program.log
    assert "__rsgi_del__" not in program.log


def test_application_that_fails_to_end_is_logged(serve, tmp_path):
    write(tmp_path, "rsgi.py", APPLICATION)
    program = serve(target="rsgi:failing_at_the_end")
    assert program.get() == (200, "hello")
    assert program.end() == 0
    assert "Exception in __rsgi_del__()" in program.log


def test_lifespan_off_calls_neither(serve, tmp_path):
    write(tmp_path, "rsgi.py", APPLICATION)
    program = serve("--lifespan", "off", target="rsgi:app")
    assert program.get()[0] == 500  # `greeting` is missing
    assert program.end() == 0
    assert "init" not in program.lines and "del" not in program.log.split("\n")


class Starting:
    """Starts and ends without running the loop."""

    def __init__(self, error=None):
        self.error = error
        self.calls = []

    async def __rsgi__(self, scope, protocol):
        protocol.response_str(200, [], str(self.calls))

    def __rsgi_init__(self, loop):
        self.calls.append(("init", loop))
        if self.error is not None:
            raise self.error

    def __rsgi_del__(self, loop):
        self.calls.append(("del", loop))


def test_program_whose_loop_runs_starts_it_by_the_lifespan(run, loop):
    pytest.importorskip("cxxloop._web")
    from cxxloop.web import Config, Server

    application = Starting()

    async def main():
        server = Server(Config(application, port=0, log_config=None))
        await server.startup()
        assert application.calls == [("init", loop)]
        await server.shutdown()
        assert application.calls == [("init", loop), ("del", loop)]

    run(main())


def test_failed_start_in_a_loop_that_runs_is_an_error(run, loop, caplog):
    pytest.importorskip("cxxloop._web")
    from cxxloop.web import Config, Server, StartupError

    application = Starting(ZeroDivisionError())

    async def main():
        with pytest.raises(StartupError):
            await Server(Config(application, port=0, log_config=None)).startup()

    with caplog.at_level(logging.ERROR):
        run(main())
    assert application.calls == [("init", loop)]
