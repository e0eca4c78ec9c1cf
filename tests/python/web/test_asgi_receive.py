# SPDX-License-Identifier: MIT
"""receive(): a request's body as events, the disconnect, and the awaitable itself."""

import asyncio
import gc
import inspect
import socket
import warnings
from collections.abc import Awaitable, Coroutine

import pytest
from asgi_peer import GET, LAST_GET, read_response, text

pytestmark = pytest.mark.cxxloop_only("asyncio has no web server")

DISCONNECT = {"type": "http.disconnect"}


def event(body=b"", more_body=False):
    return {"type": "http.request", "body": body, "more_body": more_body}


def post(body=b"abc"):
    return b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


async def post_in_two(served, waits, pieces=(b"", b"abc")):
    """Posts a body whose second piece follows when the application waits for it; returns the response."""
    reader, writer = await served.connect()
    writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (len(b"".join(pieces)), pieces[0]))
    await waits.wait()
    writer.write(pieces[1])
    response = await read_response(reader)
    writer.close()
    return response


def calling(function):
    """An application that keeps what `await function(receive, scope)` returns, and then answers."""
    results = []

    async def app(scope, receive, send):
        results.append(await function(receive))
        await text()(scope, receive, send)

    return app, results


async def whole_body(receive):
    body = b""
    while True:
        message = await receive()
        assert message["type"] == "http.request"
        body += message["body"]
        if not message["more_body"]:
            return body


def test_request_without_a_body_is_one_empty_event(run, serve_app):
    app, results = calling(lambda receive: receive())
    run(serve_app(app).ask())
    assert results == [event()]


def test_events_are_new_objects(run, serve_app):
    app, results = calling(lambda receive: receive())
    run(serve_app(app).ask_many(GET * 2, 2))
    assert results[0] == results[1]
    assert results[0] is not results[1]


def test_body_at_hand_is_one_event(run, serve_app):
    app, results = calling(lambda receive: receive())
    run(serve_app(app).ask(post()))
    assert results == [event(b"abc")]


def test_chunks_at_hand_are_one_event(run, serve_app):
    app, results = calling(lambda receive: receive())
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in b"chunked!")
    request = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    run(serve_app(app).ask(request))
    assert results == [event(b"chunked!")]


@pytest.mark.parametrize("size", [1, 1000, 100_000, 3_000_000])
def test_body_of_any_size_arrives_whole(run, serve_app, size):
    body = bytes(range(256)) * (size // 256 + 1)
    app, results = calling(whole_body)
    run(serve_app(app).ask(post(body)))
    assert results == [body]


def test_body_in_pieces_is_waited_for(run, serve_app):
    events = []

    async def app(scope, receive, send):
        while True:
            events.append(await receive())
            if not events[-1]["more_body"]:
                break
            went_on.set()
        await text()(scope, receive, send)

    served = serve_app(app)
    went_on = asyncio.Event()

    assert run(post_in_two(served, went_on, (b"abc", b"def"))).status == 200
    assert events == [event(b"abc", True), event(b"def")]


def test_continue_is_sent_when_the_application_asks(run, serve_app):
    app, results = calling(whole_body)
    served = serve_app(app)

    async def main():
        reader, writer = await served.connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"abc")
        assert (await read_response(reader)).status == 200
        writer.close()

    run(main())
    assert results == [b"abc"]


def test_receive_waits_for_the_disconnect_after_the_body(run, serve_app):
    messages = []

    async def app(scope, receive, send):
        messages.append(await receive())
        waits.set()
        messages.append(await receive())
        messages.append(await receive())
        ended.set()

    waits, ended = asyncio.Event(), asyncio.Event()
    served = serve_app(app)

    async def main():
        _, writer = await served.connect()
        writer.write(post())
        await waits.wait()
        await asyncio.sleep(0)
        assert len(messages) == 1
        writer.close()
        await ended.wait()

    run(main())
    assert messages == [event(b"abc"), DISCONNECT, DISCONNECT]


def test_body_that_breaks_off_is_a_disconnect(run, serve_app):
    messages = []

    async def app(scope, receive, send):
        messages.append(await receive())
        waits.set()
        messages.append(await receive())
        ended.set()

    waits, ended = asyncio.Event(), asyncio.Event()
    served = serve_app(app)

    async def main():
        _, writer = await served.connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
        await waits.wait()
        writer.close()
        await ended.wait()
        await served.quiet()

    run(main())
    assert messages == [event(b"abc", True), DISCONNECT]
    assert served.errors == []  # nobody is there for a response


def test_receive_after_the_response_is_a_disconnect(run, serve_app):
    messages = []

    async def app(scope, receive, send):
        await text()(scope, receive, send)
        messages.append(await receive())

    run(serve_app(app).ask())
    assert messages == [DISCONNECT]


def test_receive_and_send_outlive_their_exchange(run, serve_app):
    kept = []

    async def app(scope, receive, send):
        kept.extend([receive, send])
        await text()(scope, receive, send)

    served = serve_app(app)

    async def main():
        await served.ask(LAST_GET)
        served.close()
        gc.collect()
        assert await kept[0]() == DISCONNECT
        with pytest.raises(RuntimeError, match="after response already completed"):
            await kept[1]({"type": "http.response.body"})

    run(main())


def test_receive_kept_beyond_its_loop(loop, run, serve_app):
    kept = []

    async def app(scope, receive, send):
        kept.append(receive)
        await text()(scope, receive, send)

    run(serve_app(app).ask())
    loop.close()
    with pytest.raises(StopIteration) as stop:
        kept[0]().send(None)
    assert stop.value.value == DISCONNECT


# --- the awaitable ------------------------------------------------------------------------------------------------


def test_operation_is_a_coroutine_to_asyncio(run, serve_app):
    seen = []

    async def app(scope, receive, send):
        operation = receive()
        seen.append((isinstance(operation, Coroutine), isinstance(operation, Awaitable), asyncio.iscoroutine(operation)))
        seen.append(inspect.getcoroutinestate(operation))  # 3.15 asks for cr_state
        seen.append(operation.cr_state)
        await operation
        await text()(scope, receive, send)

    run(serve_app(app).ask())
    assert seen == [(True, True, True), inspect.CORO_CLOSED, inspect.CORO_CLOSED]


@pytest.mark.parametrize("wrap", ["create_task", "ensure_future", "wait_for", "gather", "shield"])
def test_asyncio_takes_operations(run, serve_app, wrap):
    wrappers = {
        "create_task": lambda receive: asyncio.create_task(receive()),
        "ensure_future": lambda receive: asyncio.ensure_future(receive()),
        "wait_for": lambda receive: asyncio.wait_for(receive(), 5),
        "gather": lambda receive: asyncio.gather(receive()),
        "shield": lambda receive: asyncio.shield(receive()),
    }

    async def wrapped(receive):
        waits.set()
        return await wrappers[wrap](receive)

    app, results = calling(wrapped)
    waits = asyncio.Event()
    run(post_in_two(serve_app(app), waits))
    assert results == [[event(b"abc")] if wrap == "gather" else event(b"abc")]


def test_awaiting_twice_is_an_error_and_takes_nothing(run, serve_app):
    async def twice(receive):
        operation = receive()
        first = await operation
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            await operation
        return first

    app, results = calling(twice)
    served = serve_app(app)
    run(served.ask(post()))
    assert results == [event(b"abc")]
    assert served.errors == []


def test_awaiting_a_waiting_operation_is_an_error(run, serve_app):
    async def both(receive):
        operation = receive()
        task = asyncio.create_task(operation)
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="being awaited already"):
            await operation
        waits.set()
        return await task

    app, results = calling(both)
    waits = asyncio.Event()
    run(post_in_two(serve_app(app), waits))
    assert results == [event(b"abc")]


def test_dropped_operation_loses_nothing_and_warns(run, serve_app):
    async def dropping(receive):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            receive()
        assert [str(warning.message) for warning in caught] == ["coroutine 'receive' was never awaited"]
        return await receive()

    app, results = calling(dropping)
    served = serve_app(app)
    run(served.ask(post()))
    assert served.errors == []
    assert results == [event(b"abc")]


def test_closed_operation_loses_nothing_and_does_not_warn(run, serve_app):
    async def closing(receive):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            receive().close()
        return await receive()

    app, results = calling(closing)
    run(serve_app(app).ask(post()))
    assert results == [event(b"abc")]


def test_cancelled_receive_loses_nothing(run, serve_app):
    async def cancelling(receive):
        first = asyncio.create_task(receive())
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        waits.set()
        return await receive()

    app, results = calling(cancelling)
    waits = asyncio.Event()
    run(post_in_two(serve_app(app), waits))
    assert results == [event(b"abc")]


def test_receive_cancelled_in_the_turn_in_which_the_body_comes_loses_nothing(run, serve_app):
    """The future of the first receive() is done when its task is cancelled, before the task has run."""
    operations = []

    async def app(scope, receive, send):
        task = asyncio.create_task(receive())
        await asyncio.sleep(0)
        operations.append(task)
        with pytest.raises(asyncio.CancelledError):
            await task
        operations.append(await receive())
        await text()(scope, receive, send)

    served = serve_app(app)

    async def main():
        with socket.create_connection(served.sock.getsockname()) as client:
            client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n")
            while not operations:
                await asyncio.sleep(0)
            client.sendall(b"abc")
            # Timers of a turn run after its I/O: the body is there, and what it wakes runs in the next turn.
            asyncio.get_running_loop().call_later(0, operations[0].cancel)
            while len(operations) < 2:
                await asyncio.sleep(0)

    run(main())
    assert operations[1] == event(b"abc")


def test_two_receives_wait_at_once_and_the_body_comes_once(run, serve_app):
    async def both(receive):
        tasks = [asyncio.create_task(receive()) for _ in range(2)]
        await asyncio.sleep(0)
        waits.set()
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        assert len(done) == len(pending) == 1
        for task in pending:
            task.cancel()
        return done.pop().result()

    app, results = calling(both)
    waits = asyncio.Event()
    run(post_in_two(serve_app(app), waits))
    assert results == [event(b"abc")]


def test_timeout_around_receive_can_be_repeated(run, serve_app):
    async def impatient(receive):
        timeouts = 0
        while True:
            try:
                return timeouts, await asyncio.wait_for(receive(), 0.001)
            except TimeoutError:
                timeouts += 1
                if timeouts == 3:
                    waits.set()

    app, results = calling(impatient)
    waits = asyncio.Event()
    run(post_in_two(serve_app(app), waits))
    timeouts, message = results[0]
    assert timeouts >= 3
    assert message == event(b"abc")


def test_receive_takes_no_arguments(run, serve_app):
    async def wrong(receive):
        with pytest.raises(TypeError, match="receive\\(\\) takes no arguments"):
            receive(1)
        with pytest.raises(TypeError, match="receive\\(\\) takes no arguments"):
            receive(a=1)
        return await receive()

    app, results = calling(wrong)
    run(serve_app(app).ask())
    assert results == [event()]


def test_throw_and_send_of_an_operation(run, serve_app):
    async def by_hand(receive):
        operation = receive()
        with pytest.raises(KeyError):
            operation.throw(KeyError("x"))
        with pytest.raises(RuntimeError, match="cannot reuse"):
            operation.send(None)
        with pytest.raises(RuntimeError, match="cannot reuse"):
            operation.throw(KeyError)
        with pytest.raises(TypeError):
            receive().throw("no exception")
        operation = receive()
        with pytest.raises(StopIteration) as stop:
            operation.send(None)
        return stop.value.value

    app, results = calling(by_hand)
    served = serve_app(app)
    run(served.ask(post()))
    assert served.errors == []
    assert results == [event(b"abc")]
