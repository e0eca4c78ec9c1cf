# SPDX-License-Identifier: MIT
"""The scope, events and messages of WebSockets; the client is the library websockets."""

import asyncio
import contextlib
import gc

import pytest
from asgi_peer import read_response

websockets = pytest.importorskip("websockets.asyncio.client")
exceptions = pytest.importorskip("websockets.exceptions")

pytestmark = pytest.mark.cxxloop_only("asyncio has no web server")


@contextlib.asynccontextmanager
async def connected(served, path="/", **options):
    host, port = served.sock.getsockname()[:2]
    async with websockets.connect(f"ws://{host}:{port}{path}", proxy=None, **options) as client:
        yield client


def keeping(function, *, accept=True):
    """An application that keeps what `await function(receive, send)` returns; `ended` is set behind it."""

    class Kept:
        def __init__(self):
            self.results = []
            self.ended = asyncio.Event()

        async def __call__(self, scope, receive, send):
            assert await receive() == {"type": "websocket.connect"}
            if accept:
                await send({"type": "websocket.accept"})
            try:
                self.results.append(await function(receive, send))
            finally:
                self.ended.set()

    return Kept()


async def echo(scope, receive, send):
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send(event | {"type": "websocket.send"})


# --- the handshake ---------------------------------------------------------------------------------------------------


def test_scope_is_as_uvicorn_makes_it(run, serve_app):
    scopes = []

    async def app(scope, receive, send):
        scopes.append(scope)
        await echo(scope, receive, send)

    served = serve_app(app, root_path="/base")

    async def main():
        async with connected(served, "/a%20b?c=d", subprotocols=["one", "two"], additional_headers={"X-A": "b"}) as client:
            return client.local_address[:2]

    client = run(main())
    (scope,) = scopes
    headers = scope.pop("headers")
    assert (b"x-a", b"b") in headers and (b"connection", b"Upgrade") in headers
    assert scope == {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "scheme": "ws",
        "server": served.sock.getsockname()[:2],
        "client": client,
        "root_path": "/base",
        "path": "/base/a b",
        "raw_path": b"/base/a%20b",
        "query_string": b"c=d",
        "subprotocols": ["one", "two"],
        "extensions": {"websocket.http.response": {}},
    }
    assert served.errors == []


def test_accept_names_subprotocol_and_headers(run, serve_app):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept", "subprotocol": "two", "headers": [(b"x-b", b"c"), (b"set-cookie", b"d=e")]})
        await receive()

    served = serve_app(app, headers=[(b"x-default", b"yes")])

    async def main():
        async with connected(served, subprotocols=["one", "two"]) as client:
            return client.subprotocol, dict(client.response.headers.raw_items())

    subprotocol, headers = run(main())
    assert subprotocol == "two"
    assert headers["x-b"] == "c" and headers["set-cookie"] == "d=e" and headers["x-default"] == "yes"
    assert headers["server"] == "cxxloop" and "date" in headers


@pytest.mark.parametrize(
    "message",
    [
        {"subprotocol": "a b"},
        {"subprotocol": "a\r\nb: c"},
        {"headers": [(b"sec-websocket-protocol", b"a")]},
        {"headers": [(b"upgrade", b"h2c")]},
        {"headers": [(b"a", b"b\r\nc: d")]},
    ],
)
def test_accept_that_would_break_the_handshake_raises(run, serve_app, message):
    async def accept(receive, send):
        with pytest.raises(RuntimeError):
            await send({"type": "websocket.accept", **message})
        await send({"type": "websocket.accept"})
        return (await receive())["code"]

    app = keeping(accept, accept=False)
    served = serve_app(app)

    async def main():
        async with connected(served):
            pass
        await app.ended.wait()

    run(main())
    assert app.results == [1000]


def refused(served, **options):
    async def main():
        with pytest.raises(exceptions.InvalidStatus) as raised:
            async with connected(served, **options):
                pass
        return raised.value.response

    return main()


def test_close_before_accept_is_403(run, serve_app):
    async def close(receive, send):
        await send({"type": "websocket.close", "code": 4000})
        with pytest.raises(RuntimeError, match="after sending 'websocket.close'"):
            await send({"type": "websocket.accept"})
        return await receive()

    app = keeping(close, accept=False)
    response = run(refused(serve_app(app)))
    assert response.status_code == 403 and response.body == b""
    assert app.results == [{"type": "websocket.disconnect", "code": 1006, "reason": ""}]


def test_http_response_instead_of_accept(run, serve_app):
    async def respond(receive, send):
        await send({"type": "websocket.http.response.start", "status": 401, "headers": [(b"x-why", b"password")]})
        with pytest.raises(RuntimeError, match="Expected ASGI message 'websocket.http.response.body' but got 'websocket.accept'"):
            await send({"type": "websocket.accept"})
        await send({"type": "websocket.http.response.body", "body": b"go ", "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"away"})
        return (await receive())["code"]

    app = keeping(respond, accept=False)
    response = run(refused(serve_app(app)))
    assert (response.status_code, response.headers["x-why"]) == (401, "password")
    assert app.results == [1006]


@pytest.mark.parametrize("fails", [False, True])
def test_application_that_does_not_answer_is_a_500(run, serve_app, fails):
    async def app(scope, receive, send):
        if fails:
            raise ZeroDivisionError

    served = serve_app(app)
    assert run(refused(served)).status_code == 500
    ((message, exception),) = served.errors
    if fails:
        assert message == "Exception in ASGI application" and isinstance(exception, ZeroDivisionError)
    else:
        assert message == "ASGI callable returned without completing handshake."


def test_wrong_order_of_messages_raises(run, serve_app):
    async def misuse(receive, send):
        with pytest.raises(RuntimeError, match="Expected ASGI message 'websocket.accept', 'websocket.close' or .* but got 'websocket.send'"):
            await send({"type": "websocket.send", "text": "early"})
        await send({"type": "websocket.accept"})
        with pytest.raises(RuntimeError, match="Expected ASGI message 'websocket.send' or 'websocket.close', but got 'websocket.accept'"):
            await send({"type": "websocket.accept"})
        with pytest.raises(RuntimeError, match="neither bytes nor text"):
            await send({"type": "websocket.send"})
        with pytest.raises(TypeError):
            await send({"type": "websocket.send", "text": b"bytes"})
        with pytest.raises(UnicodeEncodeError):
            await send({"type": "websocket.send", "text": "\ud800"})
        for close in ({"code": 1006}, {"code": -1}, {"code": 1000, "reason": "x" * 124}):
            with pytest.raises(RuntimeError):
                await send({"type": "websocket.close", **close})
        await send({"type": "websocket.close"})
        with pytest.raises(RuntimeError, match="after sending 'websocket.close'"):
            await send({"type": "websocket.send", "text": "late"})
        return "done"

    app = keeping(misuse, accept=False)
    served = serve_app(app)

    async def main():
        async with connected(served) as client:
            await client.wait_closed()
        await app.ended.wait()
        return client.close_code

    assert run(main()) == 1000
    assert app.results == ["done"]


def test_version_other_than_13_is_426(run, serve_app):
    request = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 8\r\n\r\n"
    response = run(serve_app(echo).ask(request))
    assert (response.status, response.header(b"sec-websocket-version")) == (426, b"13")


def test_websockets_switched_off_is_an_ordinary_request(run, serve_app):
    types = []

    async def app(scope, receive, send):
        types.append(scope["type"])
        await send({"type": "http.response.start", "status": 400})
        await send({"type": "http.response.body"})

    assert run(refused(serve_app(app, websockets=False))).status_code == 400
    assert types == ["http"]


# --- messages --------------------------------------------------------------------------------------------------------

SIZES = [0, 1, 63, 64, 125, 126, 4096, 65535, 65536, 1_000_000]


@pytest.mark.parametrize("compression", ["deflate", None])
def test_messages_of_every_size_come_back(run, serve_app, compression):
    served = serve_app(echo)

    async def main():
        async with connected(served, compression=compression, max_size=None) as client:
            assert bool(client.protocol.extensions) == bool(compression)
            for size in SIZES:
                text = ("gr\xfc\xdfe \U0001f600 " * (size // 9 + 1))[:size]
                for message in (text, text.encode(), bytes(range(256)) * (size // 256)):
                    await client.send(message)
                    assert await client.recv() == message

    run(main(), timeout=30)
    assert served.errors == []


def test_fragments_are_one_message(run, serve_app):
    served = serve_app(echo)

    async def main():
        async with connected(served) as client:
            await client.send(["frag", "men", "ted"])
            assert await client.recv() == "fragmented"
            await client.send([b"a", b"b"])
            assert await client.recv() == b"ab"
            await (await client.ping())

    run(main())


def test_server_without_compression_agrees_upon_none(run, serve_app):
    served = serve_app(echo, websocket_deflate=False)

    async def main():
        async with connected(served) as client:
            assert client.protocol.extensions == []
            await client.send("x" * 1000)
            assert await client.recv() == "x" * 1000

    run(main())


def test_many_clients_at_once(run, serve_app):
    served = serve_app(echo)
    counts = []

    async def talk(number):
        async with connected(served) as client:
            for i in range(20):
                await client.send(f"{number} {i}")
                assert await client.recv() == f"{number} {i}"
            counts.append(served.server.counters()["websockets"])

    async def main():
        await asyncio.gather(*(talk(number) for number in range(30)))

    run(main(), timeout=30)
    assert served.server.counters()["exchanges"] == 0
    assert 1 <= counts[0] <= 30


@pytest.mark.parametrize("payload", [bytearray(b"abc"), memoryview(b"abc")])
def test_bytes_like_messages_are_sent(run, serve_app, payload):
    app = keeping(lambda receive, send: send({"type": "websocket.send", "bytes": payload, "text": None}))

    async def main():
        async with connected(serve_app(app)) as client:
            assert await client.recv() == b"abc"

    run(main())


def test_queue_bounds_what_is_read(run, serve_app):
    """A client that floods is stopped by the kernel, and nothing is lost."""
    go_on = asyncio.Event()
    count = 20_000

    async def slow(receive, send):
        await go_on.wait()
        return [len((await receive())["bytes"]) for _ in range(count)]

    app = keeping(slow)
    served = serve_app(app, websocket_queue_messages_max=4)

    async def main():
        async with connected(served, compression=None, ping_interval=None) as client:

            async def flood():
                for _ in range(count):
                    await client.send(bytes(1000))

            task = asyncio.ensure_future(flood())
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.shield(task), 0.5)
            go_on.set()
            await task
            await app.ended.wait()

    run(main(), timeout=30)
    assert app.results == [[1000] * count]


def test_send_waits_for_a_client_that_does_not_read(run, serve_app):
    sent = []

    async def flood(receive, send):
        for i in range(2000):
            await send({"type": "websocket.send", "bytes": bytes(20_000)})
            sent.append(i)

    app = keeping(flood)
    served = serve_app(app)

    async def main():
        async with connected(served, compression=None, max_queue=1, ping_interval=None) as client:
            last = -1
            while len(sent) != last:  # until nothing goes any more
                last = len(sent)
                await asyncio.sleep(0.2)
            assert 0 < last < 2000
            total = 0
            async for message in client:
                total += len(message)
            assert total == 2000 * 20_000

    run(main(), timeout=30)


# --- the end ---------------------------------------------------------------------------------------------------------


def test_client_closes(run, serve_app):
    async def wait(receive, send):
        first, again = await receive(), await receive()
        assert first == again
        with pytest.raises(OSError):
            await send({"type": "websocket.send", "text": "late"})
        return first

    app = keeping(wait)
    served = serve_app(app)

    async def main():
        async with connected(served) as client:
            await client.close(4001, "enough")
            assert (client.close_code, client.close_reason) == (4001, "")
        await app.ended.wait()

    run(main())
    assert app.results == [{"type": "websocket.disconnect", "code": 4001, "reason": "enough"}]


def test_application_closes(run, serve_app):
    async def close(receive, send):
        await send({"type": "websocket.close", "code": 3000, "reason": "gr\xfc\xdfe"})
        return await receive()

    app = keeping(close)
    served = serve_app(app)

    async def main():
        async with connected(served) as client:
            with pytest.raises(exceptions.ConnectionClosedError):
                await client.recv()
            return client.close_code, client.close_reason

    assert run(main()) == (3000, "gr\xfc\xdfe")
    assert app.results == [{"type": "websocket.disconnect", "code": 3000, "reason": "gr\xfc\xdfe"}]


@pytest.mark.parametrize(("fails", "code"), [(False, 1000), (True, 1011)])
def test_application_that_leaves_is_closed_in_its_name(run, serve_app, fails, code):
    async def leave(receive, send):
        if fails:
            raise ZeroDivisionError

    served = serve_app(keeping(leave))

    async def main():
        async with connected(served) as client:
            await client.wait_closed()
            return client.close_code

    assert run(main()) == code
    assert [type(exception) for _, exception in served.errors] == ([ZeroDivisionError] if fails else [])


def test_client_that_vanishes_is_1006(run, serve_app):
    app = keeping(lambda receive, send: receive())
    served = serve_app(app)

    async def main():
        async with connected(served) as client:
            client.transport.abort()
        await app.ended.wait()

    run(main())
    assert app.results == [{"type": "websocket.disconnect", "code": 1006, "reason": ""}]


def test_client_that_vanishes_before_accept_is_1006(run, serve_app):
    request = (
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    app = keeping(lambda receive, send: receive(), accept=False)
    served = serve_app(app)

    async def main():
        _, writer = await served.connect()
        writer.write(request)
        writer.close()
        await app.ended.wait()

    run(main())
    assert app.results == [{"type": "websocket.disconnect", "code": 1006, "reason": ""}]


def test_message_that_is_too_big_is_1009(run, serve_app):
    app = keeping(lambda receive, send: receive())
    served = serve_app(app, websocket_message_bytes_max=1000)

    async def main(compression):
        async with connected(served, compression=compression) as client:
            await client.send("x" * 1001)
            await client.wait_closed()
            assert client.close_code == 1009
        await app.ended.wait()

    run(main(None))
    run(main("deflate"))
    assert app.results == [{"type": "websocket.disconnect", "code": 1009, "reason": "message too big"}] * 2


def test_drain_is_1012(run, serve_app):
    app = keeping(lambda receive, send: receive())
    served = serve_app(app)

    async def main():
        async with connected(served) as client:
            await client.ping()
            served.server.drain()
            await client.wait_closed()
            assert client.close_code == 1012
        await served.idle.wait()

    run(main())
    assert app.results == [{"type": "websocket.disconnect", "code": 1012, "reason": ""}]


def test_closed_server_ends_its_sockets(run, serve_app):
    app = keeping(lambda receive, send: receive())
    served = serve_app(app)

    async def main():
        async with connected(served) as client:
            served.server.close()
            await client.wait_closed()
        await app.ended.wait()

    run(main())
    assert [result["code"] for result in app.results] == [1006]


def test_client_without_pong_is_1011(run, serve_app):
    request = (
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    app = keeping(lambda receive, send: receive())
    served = serve_app(app, websocket_ping_seconds=0.05, websocket_pong_seconds=0.05)

    async def main():
        reader, writer = await served.connect()
        writer.write(request)
        assert (await read_response(reader)).status == 101
        assert await reader.read(2) == b"\x89\x00"
        assert (await reader.read()).endswith(b"\x03\xf3keepalive ping timeout")
        writer.close()
        await app.ended.wait()

    run(main())
    assert [result["code"] for result in app.results] == [1011]


def test_access_log_has_the_handshake(run, serve_app):
    served = serve_app(echo, wants_access=True)

    async def main():
        async with connected(served, "/chat"):
            pass

    run(main())
    ((scope, status, body_bytes, seconds),) = served.accesses
    assert (scope["path"], status, body_bytes) == ("/chat", 101, 0) and seconds >= 0


def test_nothing_of_a_socket_is_kept(run, serve_app):
    class Marked(str):
        pass

    alive = []

    async def app(scope, receive, send):
        scope["marked"] = Marked("x")
        await echo(scope, receive, send)
        alive.append(sum(isinstance(item, Marked) for item in gc.get_referents(scope)))

    served = serve_app(app)

    async def main():
        async with connected(served) as client:
            await client.send("a")
            assert await client.recv() == "a"

    run(main())
    run(asyncio.sleep(0))
    gc.collect()
    assert alive == [1]
    assert served.server.tasks() == []
