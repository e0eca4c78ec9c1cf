# SPDX-License-Identifier: MIT
"""send(): responses, mistakes of applications, back-pressure, disconnects, and the extensions."""

import asyncio
import collections
import os
import socket
import warnings

import pytest
from asgi_peer import GET, LAST_GET, read_response, text

pytestmark = pytest.mark.cxxloop_only("asyncio has no web server")

START = {"type": "http.response.start", "status": 200, "headers": []}
BODY = {"type": "http.response.body", "body": b"hello"}


def sending(*messages):
    """An application that sends these, and keeps what that raises."""
    raised = []

    async def app(scope, receive, send):
        for message in messages:
            try:
                await send(message)
            except Exception as error:
                raised.append(error)

    return app, raised


def body(data, more_body=False):
    return {"type": "http.response.body", "body": data, "more_body": more_body}


# --- responses ----------------------------------------------------------------------------------------------------


def test_whole_body_has_a_length(run, serve_app):
    response = run(serve_app(text(b"hello")).ask())
    assert response.status == 200
    assert response.body == b"hello"
    assert response.header(b"content-length") == b"5"
    assert response.header(b"transfer-encoding") is None


def test_head_and_body_leave_in_one_packet(run, serve_app):
    served = serve_app(text(b"hello"))

    async def main():
        reader, writer = await served.connect()
        writer.write(GET)
        assert (await reader.read(10_000)).endswith(b"hello")
        writer.close()

    run(main())


def test_responses_of_a_batch_leave_also_when_an_exception_ends_it(loop, run, serve_app, logged_errors):
    """The first answer may wait for the second request, but not for the next run of the loop."""
    answer, answered = text(b"hello"), []

    async def app(scope, receive, send):
        if answered:
            raise KeyboardInterrupt
        await answer(scope, receive, send)
        answered.append(scope["client"])

    served = serve_app(app)
    clients = [socket.create_connection(served.sock.getsockname()) for _ in range(2)]

    async def accepted():
        while served.server.counters()["connections"] < len(clients):
            await asyncio.sleep(0.001)

    run(accepted())
    for client in clients:
        client.sendall(GET)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    first = next(client for client in clients if client.getsockname() == answered[0])
    first.settimeout(10)
    assert first.recv(10_000).endswith(b"hello")
    for client in clients:
        client.close()


def test_body_in_pieces_is_chunked(run, serve_app):
    app, raised = sending(START, body(b"one", True), body(b"", True), body(b"two"))
    response = run(serve_app(app).ask())
    assert response.header(b"transfer-encoding") == b"chunked"
    assert response.header(b"content-length") is None
    assert response.body == b"onetwo"
    assert raised == []


def test_length_of_the_application_is_kept(run, serve_app):
    start = {**START, "headers": [(b"content-length", b"6")]}
    app, raised = sending(start, body(b"one", True), body(b"two"))
    response = run(serve_app(app).ask())
    assert response.header(b"content-length") == b"6"
    assert response.body == b"onetwo"
    assert raised == []


def test_message_defaults(run, serve_app):
    app, raised = sending({"type": "http.response.start", "status": 201}, {"type": "http.response.body"})
    response = run(serve_app(app).ask())
    assert (response.status, response.body, raised) == (201, b"", [])


def test_head_request_has_no_body(run, serve_app):
    response = run(serve_app(text(b"hello")).ask(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", method="HEAD"))
    assert response.status == 200


@pytest.mark.parametrize("status", [204, 304])
def test_status_without_a_body(run, serve_app, status):
    responses = run(serve_app(text(b"", status=status)).ask_many(GET * 2, 2))
    assert [response.status for response in responses] == [status] * 2


@pytest.mark.parametrize("size", [4095, 4096, 70_000, 5_000_000])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bodies_of_any_size_and_kind(run, serve_app, size, kind):
    data = os.urandom(size)
    app, raised = sending(START, body(kind(data[:-1]), True), body(kind(data[-1:])))
    assert run(serve_app(app).ask()).body == data
    assert raised == []


def test_buffer_is_copied_when_it_is_sent(run, serve_app):
    async def app(scope, receive, send):
        await send(START)
        data = bytearray(b"x" * 100_000)
        await send(body(data, True))
        data[:] = b"y" * 100_000
        data.clear()
        await send(body(b"end"))

    assert run(serve_app(app).ask()).body == b"x" * 100_000 + b"end"


def test_headers_are_kept_as_given(run, serve_app):
    headers = ((b"X-One", b"1"), [b"x-two", bytearray(b"2")], (bytes, "no")[:0] or (b"X-ONE", memoryview(b"3")))
    response = run(serve_app(text(headers=headers), server_header=None, date_header=False).ask())
    assert response.headers[:3] == [(b"X-One", b"1"), (b"x-two", b"2"), (b"X-ONE", b"3")]


def test_headers_may_be_any_iterable(run, serve_app):
    async def app(scope, receive, send):
        await send({**START, "headers": ((b"x-%d" % i, b"v") for i in range(100))})
        await send(BODY)

    response = run(serve_app(app).ask())
    assert [response.header(b"x-%d" % i) for i in range(100)] == [b"v"] * 100


def test_headers_are_read_when_the_start_is_sent(run, serve_app):
    async def app(scope, receive, send):
        headers = [[b"x-one", b"1"], (b"x-two", b"2")]
        await send({**START, "headers": headers})
        headers[0][:] = [b"x-evil", b"3"]
        headers.clear()
        await send(BODY)

    response = run(serve_app(app).ask())
    assert response.header(b"x-one") == b"1"
    assert response.header(b"x-two") == b"2"
    assert response.header(b"x-evil") is None


def test_message_may_be_any_mapping(run, serve_app):
    app, raised = sending(collections.ChainMap(START), collections.UserDict(BODY))
    assert run(serve_app(app).ask()).body == b"hello"
    assert raised == []


def test_message_by_keyword(run, serve_app):
    async def app(scope, receive, send):
        await send(message=START)
        await send(message=BODY)

    assert run(serve_app(app).ask()).body == b"hello"


def test_responses_of_a_pipeline_are_in_order(run, serve_app):
    async def app(scope, receive, send):
        await asyncio.sleep(0.01 if scope["path"] == "/0" else 0)
        await text(scope["path"].encode())(scope, receive, send)

    requests = b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % i for i in range(20))
    responses = run(serve_app(app).ask_many(requests, 20))
    assert [response.body for response in responses] == [b"/%d" % i for i in range(20)]


def test_long_pipeline_does_not_nest(run, serve_app):
    responses = run(serve_app(text()).ask_many(GET * 5000, 5000), timeout=30)
    assert {response.body for response in responses} == {b"hello"}


# --- mistakes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "messages, error, words",
    [
        ([BODY], RuntimeError, "Expected ASGI message 'http.response.start', but got 'http.response.body'."),
        ([START, START], RuntimeError, "Expected ASGI message 'http.response.body', but got 'http.response.start'."),
        ([{"status": 200}], KeyError, "'type'"),
        ([{"type": 3}], RuntimeError, "no text: 3"),
        ([{"type": "http.response.start"}], KeyError, "'status'"),
        ([{**START, "status": 99}], RuntimeError, "Invalid HTTP status code: 99"),
        ([{**START, "status": 600}], RuntimeError, "Invalid HTTP status code: 600"),
        ([{**START, "status": "200"}], TypeError, "int"),
        ([{**START, "headers": [("x", b"y")]}], TypeError, "must be bytes"),
        ([{**START, "headers": [(b"x", "y")]}], TypeError, "must be bytes"),
        ([{**START, "headers": [(b"x", b"y", b"z")]}], ValueError, "a name and a value"),
        ([{**START, "headers": 3}], TypeError, "iterable"),
        ([{**START, "headers": [3]}], TypeError, "iterable"),
        ([START, {**BODY, "body": "hello"}], TypeError, "bytes-like"),
        ([None], TypeError, "mapping"),
    ],
)
def test_mistakes_are_raised_by_send(run, serve_app, messages, error, words):
    app, raised = sending(*messages)
    served = serve_app(app)
    assert run(served.ask()).status == 500
    assert [type(exception) for exception in raised] == [error]
    assert words in str(raised[0])
    kind = "completing" if len(messages) == 2 else "starting"
    assert served.errors == [(f"ASGI callable returned without {kind} response.", None)]


@pytest.mark.parametrize("header", [(b"x y", b"1"), (b"", b"1"), (b"x", b"1\r\ny: 2"), (b"x", b"1\0"), (b"x:", b"1")])
def test_headers_that_would_split_a_response_are_refused(run, serve_app, header):
    app, raised = sending({**START, "headers": [header]}, BODY)
    assert run(serve_app(app).ask()).status == 500
    assert [type(exception) for exception in raised] == [RuntimeError]


def test_message_after_the_response(run, serve_app):
    app, raised = sending(START, BODY, BODY)
    served = serve_app(app)
    assert run(served.ask()).body == b"hello"
    assert [str(error) for error in raised] == [
        "Unexpected ASGI message 'http.response.body' sent, after response already completed."
    ]
    assert served.errors == []


def test_body_longer_than_its_length_is_refused(run, serve_app):
    app, raised = sending({**START, "headers": [(b"content-length", b"3")]}, body(b"12", True), body(b"345"), body(b"3"))
    assert run(serve_app(app).ask()).body == b"123"
    assert [type(error) for error in raised] == [RuntimeError]


def test_body_shorter_than_its_length_is_an_error_and_ends_the_connection(run, serve_app):
    app, raised = sending({**START, "headers": [(b"content-length", b"9")]}, BODY)
    served = serve_app(app)

    async def main():
        reader, writer = await served.connect()
        writer.write(GET)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await read_response(reader)
        writer.close()

    run(main())
    assert [type(error) for error in raised] == [RuntimeError]


def test_send_inside_send_is_refused(run, serve_app):
    raised = []

    async def app(scope, receive, send):
        def headers():
            try:
                send(START).send(None)
            except RuntimeError as error:
                raised.append(str(error))
            yield b"x", b"y"

        await send({**START, "headers": headers()})
        await send(BODY)

    assert run(serve_app(app).ask()).header(b"x") == b"y"
    assert raised == ["send() was called while it takes another message"]


@pytest.mark.parametrize("call", [lambda send: send(), lambda send: send(1, 2), lambda send: send(other=1)])
def test_send_takes_one_message(run, serve_app, call):
    async def app(scope, receive, send):
        with pytest.raises(TypeError, match="send\\(\\) takes exactly one argument: message"):
            call(send)
        await text()(scope, receive, send)

    assert run(serve_app(app).ask()).status == 200


def test_forgotten_await_of_send_warns(run, serve_app):
    async def app(scope, receive, send):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            send(START)
        assert [str(warning.message) for warning in caught] == ["coroutine 'send' was never awaited"]
        await text()(scope, receive, send)

    served = serve_app(app)
    assert run(served.ask()).status == 200
    assert served.errors == []


# --- a client that does not read, and one that has gone -------------------------------------------------------------


def flooding(size=64 * 1024):
    """An application that sends without an end, and counts what it has sent."""
    sent = []

    async def app(scope, receive, send):
        await send(START)
        while True:
            await send(body(b"x" * size, True))
            sent.append(size)

    return app, sent


def test_send_waits_for_a_slow_client(run, serve_app):
    app, sent = flooding()
    served = serve_app(app)

    async def main():
        reader, writer = await served.connect()
        writer.transport.pause_reading()
        writer.write(GET)
        count = -1
        while count != len(sent):
            count = len(sent)
            await asyncio.sleep(0.05)
        assert count < 200
        writer.transport.resume_reading()
        while len(sent) < count + 10:
            await reader.read(1 << 20)
        writer.transport.abort()
        await served.quiet()

    run(main())
    assert served.errors == []


def test_send_after_the_disconnect_raises_an_oserror(run, serve_app):
    raised = []

    async def app(scope, receive, send):
        await send(START)
        while (await receive())["type"] != "http.disconnect":
            started.set()
        try:
            while True:
                await send(body(b"x" * 10_000, True))
                await asyncio.sleep(0)
        except Exception as error:
            raised.append(error)
            ended.set()
            raise

    started, ended = asyncio.Event(), asyncio.Event()
    served = serve_app(app)

    async def main():
        await served.ask_and_vanish(started)
        await ended.wait()

    run(main())
    from cxxloop._web import ClientDisconnected

    assert [type(error) for error in raised] == [ClientDisconnected]
    assert issubclass(ClientDisconnected, OSError)
    assert served.errors == []


@pytest.mark.parametrize("other", [None, KeyError("other")])
def test_disconnects_in_a_group_are_no_error(run, serve_app, other):
    """asyncio's and AnyIO's task groups raise them in a group, Quart an exception of its own in place of them."""

    async def sending(send):
        try:
            while True:
                await send(body(b"x", True))
                await asyncio.sleep(0)
        except OSError:
            raise RuntimeError("gone") from None

    async def failing():
        raise other

    async def app(scope, receive, send):
        await send(START)
        started.set()
        results = await asyncio.gather(sending(send), *([failing()] if other else []), return_exceptions=True)
        ended.set()
        raise BaseExceptionGroup("of tasks", [ExceptionGroup("inner", results)])

    started, ended = asyncio.Event(), asyncio.Event()
    served = serve_app(app)

    async def main():
        await served.ask_and_vanish(started)
        await ended.wait()
        await served.quiet()

    run(main())
    assert len(served.errors) == (1 if other else 0)


def test_waiting_send_learns_of_the_disconnect(run, serve_app):
    raised = []

    async def app(scope, receive, send):
        await send(START)
        try:
            while True:
                await send(body(b"x" * 100_000, True))
        except OSError as error:
            raised.append(error)
            ended.set()
            raise ValueError("because of it") from error

    ended = asyncio.Event()
    served = serve_app(app)

    async def main():
        reader, writer = await served.connect()
        writer.transport.pause_reading()
        writer.write(GET)
        await asyncio.sleep(0.1)
        writer.transport.abort()
        await ended.wait()

    run(main())
    assert len(raised) == 1
    assert served.errors == []


def test_cancelled_send_sends_nothing(run, serve_app):
    async def app(scope, receive, send):
        await send(START)
        for _ in range(1000):
            waiting = asyncio.ensure_future(send(body(b"x" * 64 * 1024, True)))
            await asyncio.sleep(0)
            if not waiting.done():
                break
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        full.set()
        await send(body(b"end"))

    full = asyncio.Event()
    served = serve_app(app)

    async def main():
        reader, writer = await served.connect()
        writer.transport.pause_reading()
        writer.write(GET)
        await full.wait()
        writer.transport.resume_reading()
        received = (await read_response(reader)).body
        assert received.endswith(b"xend")
        assert (len(received) - 3) % (64 * 1024) == 0
        writer.close()

    run(main())
    assert served.errors == []


# --- extensions -----------------------------------------------------------------------------------------------------


def test_trailers(run, serve_app):
    app, raised = sending(
        {**START, "trailers": True},
        BODY,
        {"type": "http.response.trailers", "headers": [(b"x-one", b"1")], "more_trailers": True},
        {"type": "http.response.trailers", "headers": [(b"x-two", b"2")]},
    )
    response = run(serve_app(app).ask())
    assert response.body == b"hello"
    assert response.trailers == [(b"x-one", b"1"), (b"x-two", b"2")]
    assert raised == []


def test_trailers_that_were_announced_are_expected(run, serve_app):
    app, raised = sending({**START, "trailers": True}, BODY, BODY, {"type": "http.response.trailers"})
    response = run(serve_app(app).ask())
    assert (response.body, response.trailers) == (b"hello", [])
    assert [str(error) for error in raised] == [
        "Expected ASGI message 'http.response.trailers', but got 'http.response.body'."
    ]


def test_trailers_that_were_not_announced_are_refused(run, serve_app):
    app, raised = sending(START, {"type": "http.response.trailers"}, BODY)
    assert run(serve_app(app).ask()).body == b"hello"
    assert [type(error) for error in raised] == [RuntimeError]


def test_early_hint(run, serve_app):
    links = [b"</style.css>; rel=preload", b"</script.js>; rel=preload"]
    app, raised = sending({"type": "http.response.early_hint", "links": links}, START, BODY)
    hint, response = run(serve_app(app).ask_many(GET, 2))
    assert (hint.status, [value for _, value in hint.headers]) == (103, links)
    assert {name.lower() for name, _ in hint.headers} == {b"link"}
    assert response.body == b"hello"
    assert raised == []


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(os.urandom(300_000))
    return path


def test_pathsend(run, serve_app, file, open_fds):
    app, raised = sending(START, {"type": "http.response.pathsend", "path": str(file)})
    served = serve_app(app)
    before = open_fds()
    responses = run(served.ask_many(GET * 2, 2))
    assert [response.body for response in responses] == [file.read_bytes()] * 2
    assert responses[0].header(b"content-length") == b"300000"
    assert raised == []
    run(served.quiet())
    assert open_fds() == before


def test_pathsend_of_an_empty_file(run, serve_app, tmp_path):
    (tmp_path / "empty").touch()
    app, raised = sending(START, {"type": "http.response.pathsend", "path": str(tmp_path / "empty")})
    assert run(serve_app(app).ask()).body == b""
    assert raised == []


@pytest.mark.parametrize("name, error", [("missing", FileNotFoundError), ("", RuntimeError), ("a\0b", ValueError)])
def test_pathsend_of_no_file(run, serve_app, tmp_path, name, error):
    app, raised = sending(START, {"type": "http.response.pathsend", "path": str(tmp_path / name)})
    assert run(serve_app(app).ask()).status == 500
    assert [type(exception) for exception in raised] == [error]


def test_zerocopysend(run, serve_app, file):
    data = file.read_bytes()
    with file.open("rb") as opened:
        opened.seek(10)
        kind = "http.response.zerocopysend"
        app, raised = sending(
            START,
            {"type": kind, "file": opened, "offset": 5, "count": 7, "more_body": True},
            {"type": kind, "file": opened, "count": 20, "more_body": True},
            body(b"between", True),
            {"type": kind, "file": opened},
        )
        response = run(serve_app(app).ask())
    assert raised == []
    assert response.body == data[5:12] + data[10:30] + b"between" + data[30:]


def test_file_outlives_the_one_of_the_application(run, serve_app, file):
    async def app(scope, receive, send):
        await send(START)
        with file.open("rb") as opened:
            sending = asyncio.ensure_future(send({"type": "http.response.zerocopysend", "file": opened}))
            await asyncio.sleep(0)
        await sending

    assert run(serve_app(app).ask()).body == file.read_bytes()


def test_client_that_goes_during_a_file(run, serve_app, tmp_path, open_fds):
    path = tmp_path / "large"
    with path.open("wb") as large:
        large.truncate(1 << 30)
    raised = []

    async def app(scope, receive, send):
        await send(START)
        try:
            await send({"type": "http.response.pathsend", "path": str(path)})
        finally:
            ended.set()

    ended = asyncio.Event()
    served = serve_app(app)
    before = open_fds()

    async def main():
        with socket.create_connection(served.sock.getsockname()) as client:
            client.sendall(LAST_GET)
            await asyncio.sleep(0.05)
        await ended.wait()

    run(main())
    assert raised == served.errors == []
    run(served.quiet())
    assert open_fds() == before
