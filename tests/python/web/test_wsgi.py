# SPDX-License-Identifier: MIT
"""WSGI applications (PEP 3333) through their ASGI adapter, checked by wsgiref.validate where the application is well-behaved."""

import asyncio
import http.client
import io
import random
import sys
import threading
import wsgiref.validate

import pytest
from program import write

from cxxloop.web.wsgi import FileWrapper, WSGIApplication

HOLD_S = 10  # a thread of a test that waits longer has been forgotten


class Exchange:
    """An HTTP exchange as an ASGI server offers it: give() puts pieces of the body, `sent` holds the application's messages."""

    def __init__(self):
        self.messages = asyncio.Queue()
        self.asked = 0  # how often receive() was called
        self.sent = []
        self.sending = asyncio.Event()  # send() completes while this is set
        self.sending.set()
        self.has_sent = asyncio.Event()

    def give(self, body, more_body=False):
        self.messages.put_nowait({"type": "http.request", "body": body, "more_body": more_body})

    def leave(self):
        self.messages.put_nowait({"type": "http.disconnect"})

    async def receive(self):
        self.asked += 1
        return await self.messages.get()

    async def send(self, message):
        self.sent.append(message)
        self.has_sent.set()
        await self.sending.wait()

    @property
    def body(self):
        return b"".join(message.get("body", b"") for message in self.sent[1:])


def scope_of(method="GET", headers=(), **changes):
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"localhost"), *headers],
        "client": ("192.0.2.1", 4711),
        "server": ("192.0.2.2", 80),
        "state": {},
    }
    return {**scope, **changes}


@pytest.fixture
def exchange_of(run):
    """Runs one exchange of a WSGI application; `during(exchange)` runs beside it."""

    def exchange_of(application, scope=None, pieces=(), during=None):
        adapter = WSGIApplication(application, threads=2, is_multiprocess=False)

        async def main():
            exchange = Exchange()
            for number, piece in enumerate(pieces, 1):
                exchange.give(piece, number < len(pieces))
            call = adapter(scope or scope_of(), exchange.receive, exchange.send)
            if during is None:
                await call
            else:
                await asyncio.gather(call, during(exchange))
            return exchange

        try:
            return run(main())
        finally:
            adapter._executor.shutdown()

    return exchange_of


def validated(application):
    return wsgiref.validate.validator(application)


def test_short_response_is_two_messages(exchange_of):
    @validated
    def application(environ, start_response):
        start_response("201 Created", [("Content-Type", "text/plain"), ("X-A", "1")])
        return [b"he", b"llo"]

    # The validator's own iterable is no list: the server learns its length only when it ends.
    exchange = exchange_of(application)
    assert exchange.sent[0]["status"] == 201 and exchange.body == b"hello"

    def plain(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"he", b"llo"]

    assert exchange_of(plain).sent == [
        {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain"), (b"content-length", b"5")]},
        {"type": "http.response.body", "body": b"hello"},
    ]


def test_environ_is_complete(exchange_of):
    seen = {}

    @validated
    def application(environ, start_response):
        seen.update(environ)
        start_response("204 No Content", [])
        return []

    headers = [
        (b"content-type", b"text/plain"),
        (b"content-length", b"0"),
        (b"x-many", b"1"),
        (b"x-many", b"2"),
        (b"cookie", b"a=1"),
        (b"cookie", b"b=2"),
        (b"x_many", b"forged"),
        (b"content_length", b"7"),
    ]
    scope = scope_of(
        "POST",
        headers,
        path="/api/\u00fc/\ufffd",
        raw_path=b"/api/%C3%BC/%FF",
        query_string=b"a=%20&b",
        root_path="/api",
        scheme="https",
        server=("192.0.2.2", 8443),
    )
    exchange_of(application, scope, [b""])
    expected = {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "/api",
        "PATH_INFO": "/\u00c3\u00bc/\u00ff",  # bytes as Latin-1 characters
        "QUERY_STRING": "a=%20&b",
        "CONTENT_TYPE": "text/plain",
        "CONTENT_LENGTH": "0",
        "SERVER_NAME": "192.0.2.2",
        "SERVER_PORT": "8443",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "192.0.2.1",
        "REMOTE_PORT": "4711",
        "HTTP_HOST": "localhost",
        "HTTP_X_MANY": "1,2",
        "HTTP_COOKIE": "a=1; b=2",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "https",
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
    }
    assert {name: seen.get(name) for name in expected} == expected
    assert seen["wsgi.file_wrapper"] is FileWrapper


def test_header_with_underscore_is_dropped(exchange_of):
    def application(environ, start_response):
        start_response("200 OK", [])
        return [environ.get("HTTP_X_USER", "nobody").encode()]

    assert exchange_of(application, scope_of(headers=[(b"x_user", b"admin")])).body == b"nobody"
    assert exchange_of(application, scope_of(headers=[(b"x-user", b"alice"), (b"x_user", b"admin")])).body == b"alice"


def test_unix_socket_has_a_server_name(exchange_of):
    def application(environ, start_response):
        start_response("200 OK", [])
        return [f"{environ['SERVER_NAME']} {environ['SERVER_PORT']} {'REMOTE_ADDR' in environ}".encode()]

    assert exchange_of(application, scope_of(server=("/run/app.sock", None), client=None)).body == b"/run/app.sock 80 False"
    assert exchange_of(application, scope_of(server=None, client=None)).body == b"localhost 80 False"


LENGTH = (b"content-length", b"11")
BODIES = [[b"line 1\nline"], [b"line 1", b"\nli", b"ne"], [b"", b"line 1\n", b"line", b""]]


@pytest.mark.parametrize("pieces", BODIES)
@pytest.mark.parametrize(
    "read",
    [
        lambda body: body.read(),
        lambda body: body.read(-1),
        lambda body: body.read(None),
        lambda body: body.read(3) + body.read(100) + body.read(1),
        lambda body: body.readline() + body.readline() + body.readline(),
        lambda body: b"".join(body.readline(3) for _ in range(5)),
        lambda body: b"".join(body),
        lambda body: b"".join(body.readlines()),
        lambda body: b"".join(body.readlines(1)) + body.read(),
        lambda body: b"".join(body.readlines(100)),
    ],
)
def test_body_is_read_in_every_way(exchange_of, pieces, read):
    def application(environ, start_response):
        body = read(environ["wsgi.input"])
        start_response("200 OK", [])
        return [body]

    assert exchange_of(application, scope_of("POST", [LENGTH]), pieces).body == b"line 1\nline"


def test_lines_keep_their_ends(exchange_of):
    def application(environ, start_response):
        start_response("200 OK", [])
        body = environ["wsgi.input"]
        return [repr([body.readline(), body.readline(2), body.readlines(1), body.readlines(), body.read(5)]).encode()]

    chunked = (b"transfer-encoding", b"chunked")
    exchange = exchange_of(application, scope_of("POST", [chunked]), [b"one\ntwo\nthr", b"ee\nfour"])
    assert exchange.body == repr([b"one\n", b"tw", [b"o\n"], [b"three\n", b"four"], b""]).encode()


def test_body_is_taken_only_as_it_is_read(exchange_of):
    has_read, may_read = threading.Event(), threading.Event()

    def application(environ, start_response):
        first = environ["wsgi.input"].read(1)
        has_read.set()
        assert may_read.wait(HOLD_S)
        start_response("200 OK", [])
        return [first + environ["wsgi.input"].read()]

    async def during(exchange):
        await asyncio.to_thread(has_read.wait, HOLD_S)
        assert exchange.asked == 1  # the second piece waits in the socket, where TCP slows the client down
        may_read.set()

    assert exchange_of(application, scope_of("POST", [LENGTH]), [b"ab", b"cd"], during).body == b"abcd"


def test_client_that_expects_continue_is_asked_by_read(exchange_of):
    asked = []

    def application(environ, start_response):
        start_response("417 Expectation Failed", [])
        return [b"too large"]

    async def during(exchange):
        await exchange.has_sent.wait()
        asked.append(exchange.asked)

    exchange_of(application, scope_of("POST", [LENGTH, (b"expect", b"100-continue")]), [b"ab"], during)
    assert asked == [0]


def test_client_that_leaves_ends_the_read(exchange_of):
    errors = []

    def application(environ, start_response):
        try:
            environ["wsgi.input"].read()
        except OSError as error:
            errors.append(error)
        start_response("400 Bad Request", [])
        return []

    async def during(exchange):
        exchange.give(b"half", more_body=True)
        exchange.leave()

    exchange_of(application, scope_of("POST", [LENGTH]), during=during)
    assert len(errors) == 1


def test_blocks_are_sent_one_by_one_and_no_faster_than_the_client(exchange_of):
    yielded = []

    def application(environ, start_response):
        start_response("200 OK", [])

        def blocks():
            for number in range(3):
                yielded.append(number)
                yield b"%d" % number

        return blocks()

    async def during(exchange):
        exchange.sending.clear()
        for _ in range(3):
            await exchange.has_sent.wait()
            exchange.has_sent.clear()
            seen.append((list(yielded), len(exchange.sent)))
            exchange.sending.set()
            await asyncio.sleep(0)
            exchange.sending.clear()
        exchange.sending.set()

    seen = []
    exchange = exchange_of(application, during=during)
    assert exchange.body == b"012"
    assert seen[0] == ([0], 1)  # the second block is not asked for while the first one waits
    assert [message.get("more_body") for message in exchange.sent[1:]] == [True, True, True, None]


def test_empty_blocks_send_nothing(exchange_of):
    def application(environ, start_response):
        start_response("200 OK", [])
        yield b""
        yield b"a"
        yield b""

    assert [m.get("body") for m in exchange_of(application).sent] == [None, b"a", b""]


def test_generator_may_start_late(exchange_of):
    def application(environ, start_response):
        yield b""
        start_response("200 OK", [("X-A", "late")])
        yield b"body"

    exchange = exchange_of(application)
    assert exchange.sent[0]["headers"] == [(b"x-a", b"late")] and exchange.body == b"body"


def test_write_sends_at_once(exchange_of):
    def application(environ, start_response):
        write = start_response("200 OK", [])
        write(b"a")
        write(b"b")
        return [b"c"]

    assert [m.get("body") for m in exchange_of(application).sent] == [None, b"a", b"b", b"c"]


class Closing:
    """An iterable that records close()."""

    def __init__(self, blocks):
        self.blocks = blocks
        self.closed = 0

    def __iter__(self):
        for block in self.blocks:
            if isinstance(block, Exception):
                raise block
            yield block

    def close(self):
        self.closed += 1


@pytest.mark.parametrize("blocks", [[b"a"], [], [b"a", ValueError("broken")], ["text"], [ValueError("broken")]])
def test_iterable_is_closed_once_whatever_happens(exchange_of, blocks):
    result = Closing(blocks)

    def application(environ, start_response):
        start_response("200 OK", [])
        return result

    if all(isinstance(block, bytes) for block in blocks):
        exchange_of(application)
    else:
        with pytest.raises((ValueError, TypeError)):
            exchange_of(application)
    assert result.closed == 1


def test_iterable_is_closed_when_the_client_has_gone(run):
    result = Closing([b"a", b"b"])

    def application(environ, start_response):
        start_response("200 OK", [])
        return result

    class Gone(Exchange):
        async def send(self, message):
            raise ConnectionResetError("gone")

    adapter = WSGIApplication(application, threads=1, is_multiprocess=False)

    async def main():
        exchange = Gone()
        with pytest.raises(ConnectionResetError):
            await adapter(scope_of(), exchange.receive, exchange.send)

    run(main())
    adapter._executor.shutdown()
    assert result.closed == 1


# --- start_response ------------------------------------------------------------------------------------------------------


def test_error_before_headers_replaces_them(exchange_of):
    def application(environ, start_response):
        start_response("200 OK", [("X-A", "1")])
        try:
            raise ValueError("broken")
        except ValueError:
            start_response("500 Oops", [("X-B", "2")], sys.exc_info())
        return [b"error"]

    exchange = exchange_of(application)
    assert (exchange.sent[0]["status"], exchange.sent[0]["headers"][0]) == (500, (b"x-b", b"2"))


def test_error_after_headers_is_raised(exchange_of):
    def application(environ, start_response):
        start_response("200 OK", [])(b"begun")
        try:
            raise ValueError("broken")
        except ValueError:
            start_response("500 Oops", [], sys.exc_info())
        return [b"never"]

    with pytest.raises(ValueError, match="broken"):
        exchange_of(application)


def test_second_start_without_error_is_refused(exchange_of):
    def application(environ, start_response):
        start_response("200 OK", [])
        start_response("200 OK", [])
        return []

    with pytest.raises(AssertionError, match="second time"):
        exchange_of(application)


def test_body_without_start_is_refused(exchange_of):
    with pytest.raises(AssertionError, match="before it called start_response"):
        exchange_of(lambda environ, start_response: [b"a"])


def test_stop_iteration_ends_the_request(exchange_of):
    def application(environ, start_response):
        raise StopIteration

    with pytest.raises(RuntimeError, match="a WSGI application has raised StopIteration"):
        exchange_of(application)


@pytest.mark.parametrize("status", ["OK", "20 OK", "2000 OK", "200OK", "", "-20 A"])
def test_wrong_status_is_refused(exchange_of, status):
    def application(environ, start_response):
        start_response(status, [])
        return []

    with pytest.raises(ValueError, match="a WSGI status is like"):
        exchange_of(application)


def test_hop_by_hop_header_is_refused(exchange_of):
    def application(environ, start_response):
        start_response("200 OK", [("Connection", "close")])
        return []

    with pytest.raises(AssertionError, match="hop-by-hop header 'connection'"):
        exchange_of(application)


@pytest.mark.parametrize(("method", "status"), [("HEAD", "200 OK"), ("GET", "204 No Content"), ("GET", "304 Not Modified")])
def test_length_is_not_invented_where_there_is_no_body(exchange_of, method, status):
    def application(environ, start_response):
        start_response(status, [])
        return []

    assert exchange_of(application, scope_of(method)).sent[0]["headers"] == []


def test_length_of_application_is_kept(exchange_of):
    def application(environ, start_response):
        start_response("200 OK", [("Content-Length", "3")])
        return [b"abc"]

    assert exchange_of(application).sent[0]["headers"] == [(b"content-length", b"3")]


# --- files, threads, other scopes ------------------------------------------------------------------------------------------


def test_file_wrapper_streams_and_closes(exchange_of):
    file = io.BytesIO(b"x" * 100)

    def application(environ, start_response):
        start_response("200 OK", [("Content-Length", "100")])
        return environ["wsgi.file_wrapper"](file, 40)

    exchange = exchange_of(application)
    assert [len(m.get("body", b"")) for m in exchange.sent] == [0, 40, 40, 20, 0]
    assert file.closed


def test_file_wrapper_of_validator(exchange_of):
    @validated
    def application(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return environ["wsgi.file_wrapper"](io.BytesIO(b"abc"))

    assert exchange_of(application).body == b"abc"


def test_application_runs_in_thread_with_context_of_request(exchange_of):
    import contextvars

    variable = contextvars.ContextVar("variable", default="unset")

    def application(environ, start_response):
        start_response("200 OK", [])
        seen = variable.get()
        variable.set("leaked")
        return [f"{threading.current_thread() is threading.main_thread()} {seen}".encode()]

    assert exchange_of(application).body == b"False unset"
    assert exchange_of(application).body == b"False unset"


def test_cancelled_request_waits_for_its_thread(run):
    begun, may_end = threading.Event(), threading.Event()
    ended = []

    def application(environ, start_response):
        begun.set()
        assert may_end.wait(HOLD_S)
        ended.append(True)
        start_response("200 OK", [])
        return []

    adapter = WSGIApplication(application, threads=1, is_multiprocess=False)

    async def main():
        exchange = Exchange()
        task = asyncio.ensure_future(adapter(scope_of(), exchange.receive, exchange.send))
        await asyncio.to_thread(begun.wait, HOLD_S)
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended == [True] and exchange.sent == []

    run(main())
    adapter._executor.shutdown()


def test_lifespan_is_unsupported(run):
    adapter = WSGIApplication(lambda environ, start_response: [], threads=1, is_multiprocess=False)
    with pytest.raises(RuntimeError, match="no lifespan"):
        run(adapter({"type": "lifespan"}, None, None))


def test_websocket_is_refused(run):
    adapter = WSGIApplication(lambda environ, start_response: [], threads=1, is_multiprocess=False)

    async def main():
        exchange = Exchange()
        exchange.messages.put_nowait({"type": "websocket.connect"})
        await adapter({"type": "websocket"}, exchange.receive, exchange.send)
        assert exchange.sent == [{"type": "websocket.close", "code": 1000}]

    run(main())


# --- through a server ------------------------------------------------------------------------------------------------------

ECHO = """
import wsgiref.validate

def blocks(environ):
    while block := environ["wsgi.input"].read(50_000):
        yield block

def echo(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    return blocks(environ)

app = wsgiref.validate.validator(echo)
"""


@pytest.mark.parametrize("is_chunked", [False, True])
def test_large_body_streams_through_a_server_both_ways(serve, tmp_path, is_chunked):
    body = random.Random(1).randbytes(4_000_000)
    write(tmp_path, "echo.py", ECHO)
    program = serve("--interface", "wsgi", target="echo:app")
    connection = http.client.HTTPConnection("127.0.0.1", program.port(), timeout=HOLD_S)
    # Sent and read at the same time: neither the server nor the kernel holds all of it.
    head = b"Transfer-Encoding: chunked" if is_chunked else b"Content-Length: %d" % len(body)
    connection.connect()
    sender = threading.Thread(target=connection.sock.sendall, args=(request_of(head, body, is_chunked),))
    sender.start()
    response = http.client.HTTPResponse(connection.sock)
    response.begin()
    assert response.read() == body
    sender.join(HOLD_S)
    connection.close()


def request_of(head, body, is_chunked):
    pieces = [body[at : at + 70_000] for at in range(0, len(body), 70_000)]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n" if is_chunked else body
    return b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n" + head + b"\r\n\r\n" + framed
