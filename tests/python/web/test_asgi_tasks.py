# SPDX-License-Identifier: MIT
"""How an application is driven: its task, its context, its errors, its end; and what closes around it."""

import asyncio
import contextvars
import gc
import inspect
import os
import signal
import subprocess
import sys
import types
import weakref

import pytest
from asgi_peer import GET, LAST_GET, Served, read_response, text
from cxxloop import _web

pytestmark = pytest.mark.cxxloop_only("asyncio has no web server")

variable = contextvars.ContextVar("variable", default=0)
needs_eager_tasks = pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")


# --- tasks and contexts ---------------------------------------------------------------------------------------------


def test_first_step_runs_in_a_task(run, serve_app):
    tasks = []

    async def app(scope, receive, send):
        tasks.append(asyncio.current_task())
        assert asyncio.current_task() in asyncio.all_tasks()
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(0))
        await text()(scope, receive, send)

    served = serve_app(app)
    run(served.ask())
    assert served.errors == []
    assert all(isinstance(task, asyncio.Task) for task in tasks)


def test_plain_function_runs_in_the_task_too(run, serve_app):
    seen = []

    def app(scope, receive, send):
        seen.append((asyncio.current_task(), variable.get()))
        variable.set(1)
        return text()(scope, receive, send)

    served = serve_app(app)
    run(served.ask_many(GET * 2, 2))
    assert served.errors == []
    assert [type(task) for task, _ in seen] == [asyncio.Task] * 2
    assert [value for _, value in seen] == [0, 0]


def test_any_awaitable_will_do(run, serve_app):
    class Awaitable:
        def __init__(self, *args):
            self.coroutine = text()(*args)

        def __await__(self):
            yield
            yield from self.coroutine.__await__()

    @types.coroutine
    def generator(*args):
        yield
        yield from text()(*args).__await__()

    for app in (Awaitable, generator):
        served = serve_app(app)
        assert run(served.ask()).body == b"hello"
        assert served.errors == []


def test_application_object(run, serve_app):
    class App:
        async def __call__(self, scope, receive, send):
            await text()(scope, receive, send)

    assert run(serve_app(App()).ask()).body == b"hello"


@needs_eager_tasks
def test_application_that_does_not_wait_never_reaches_the_queue(loop, run, serve_app):
    scheduled = []

    async def app(scope, receive, send):
        await receive()
        await text()(scope, receive, send)
        scheduled.append(len(loop._ready))

    served = serve_app(app)

    async def main():
        reader, writer = await served.connect()
        writer.write(GET)
        await read_response(reader)
        writer.close()

    run(main())
    assert scheduled == [0]


def test_task_of_a_running_application_is_listed_and_kept_alive(run, serve_app):
    names = []

    async def app(scope, receive, send):
        names.append(asyncio.current_task().get_name())
        event = asyncio.Event()
        events.append(weakref.ref(event))
        await event.wait()
        await text()(scope, receive, send)

    events = []
    served = serve_app(app)

    async def main():
        reader, writer = await served.connect()
        writer.write(GET)
        while not events:
            await asyncio.sleep(0)
        gc.collect()
        (task,) = served.server.tasks()
        assert task.get_name() == names[0]
        assert "app" in repr(task)
        assert task.get_stack()
        assert task.get_coro().cr_running is False
        assert task.get_coro().cr_suspended is True
        assert task.get_coro().cr_state == inspect.getcoroutinestate(task.get_coro()) == inspect.CORO_SUSPENDED
        events[0]().set()
        await read_response(reader)
        writer.close()
        await task
        assert served.server.tasks() == []

    run(main())


def test_context_variables_do_not_leak_between_requests(run, serve_app):
    seen = []

    async def app(scope, receive, send):
        seen.append(variable.get())
        variable.set(variable.get() + 1)
        await receive()
        seen.append(variable.get())
        await text()(scope, receive, send)

    variable.set(5)
    try:
        served = serve_app(app)
    finally:
        variable.set(0)
    run(served.ask_many(GET * 3, 3))
    assert seen == [5, 6] * 3


def test_task_factory_of_the_loop_makes_the_tasks(loop, run, serve_app):
    made = []

    def factory(loop, coroutine, **keywords):
        made.append(coroutine)
        return asyncio.Task(coroutine, loop=loop, **keywords)

    served = serve_app(text())
    run(served.ask())
    loop.set_task_factory(factory)
    before = len(made)
    run(served.ask())
    loop.set_task_factory(None)
    assert [type(coroutine).__name__ for coroutine in made[before:]].count("Call") == 1


def test_patched_task_class_is_used(run, serve_app, monkeypatch):
    class Task(asyncio.Task):
        pass

    seen = []

    async def app(scope, receive, send):
        seen.append(type(asyncio.current_task()))
        await text()(scope, receive, send)

    monkeypatch.setattr(asyncio.tasks, "Task", Task)
    served = serve_app(app)
    monkeypatch.undo()
    run(served.ask())
    assert seen == [Task]


def test_background_work_after_the_response(run, serve_app):
    async def app(scope, receive, send):
        await text()(scope, receive, send)
        await asyncio.sleep(0.01)
        done.set()

    done = asyncio.Event()
    served = serve_app(app)

    async def main():
        assert (await served.ask(LAST_GET)).body == b"hello"
        assert len(served.server.tasks()) == 1
        await done.wait()

    run(main())
    assert served.errors == []


# --- errors ---------------------------------------------------------------------------------------------------------


def test_exception_before_the_response_is_a_500(run, serve_app):
    async def app(scope, receive, send):
        raise ValueError("mine")

    served = serve_app(app)
    assert run(served.ask()).status == 500
    ((message, exception),) = served.errors
    assert message == "Exception in ASGI application"
    assert repr(exception) == "ValueError('mine')"
    assert exception.__traceback__ is not None


def test_exception_of_a_plain_function_is_a_500(run, serve_app):
    def app(scope, receive, send):
        raise ValueError("mine")

    served = serve_app(app)
    assert run(served.ask()).status == 500
    assert [repr(exception) for _, exception in served.errors] == ["ValueError('mine')"]


def test_exception_after_a_start_that_was_not_sent_is_a_500(run, serve_app):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        raise ValueError("mine")

    assert run(serve_app(app).ask()).status == 500


def test_exception_in_the_middle_of_a_response_breaks_it_off(run, serve_app):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        await asyncio.sleep(0)
        raise ValueError("mine")

    served = serve_app(app)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
        run(served.ask())
    assert len(served.errors) == 1


@pytest.mark.parametrize(
    "app, message",
    [
        (lambda *_: asyncio.sleep(0), "ASGI callable returned without starting response."),
        (lambda *_: asyncio.sleep(0, "x"), "ASGI callable should return None, but returned 'x'."),
        (lambda *_: 3, "Exception in ASGI application"),
    ],
)
def test_application_that_does_not_answer_is_a_500(run, serve_app, app, message):
    served = serve_app(app)
    assert run(served.ask()).status == 500
    assert [error[0] for error in served.errors] == [message]


def test_result_of_an_application_that_has_answered_is_an_error_only(run, serve_app):
    async def app(scope, receive, send):
        await text()(scope, receive, send)
        return 3

    served = serve_app(app)
    assert run(served.ask()).body == b"hello"
    assert served.errors == [("ASGI callable should return None, but returned '3'.", None)]


def test_cancelled_application_is_reported_and_its_task_is_cancelled(run, serve_app):
    async def app(scope, receive, send):
        await asyncio.Event().wait()

    served = serve_app(app)

    async def main():
        reader, writer = await served.connect()
        writer.write(GET)
        while not served.server.tasks():
            await asyncio.sleep(0)
        (task,) = served.server.tasks()
        task.cancel()
        assert (await read_response(reader)).status == 500
        writer.close()
        assert task.cancelled()

    run(main())
    assert [type(exception) for _, exception in served.errors] == [asyncio.CancelledError]


def test_application_that_swallows_cancellation_goes_on(run, serve_app):
    async def app(scope, receive, send):
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await text()(scope, receive, send)

    begun = asyncio.Event()
    served = serve_app(app)

    async def main():
        reader, writer = await served.connect()
        writer.write(GET)
        await begun.wait()
        await asyncio.sleep(0)
        served.server.tasks()[0].cancel()
        assert (await read_response(reader)).body == b"hello"
        writer.close()

    run(main())
    assert served.errors == []


@pytest.mark.parametrize("later", [False, True])
def test_system_exit_is_an_error_of_the_application(run, serve_app, later):
    async def app(scope, receive, send):
        if later:
            await asyncio.sleep(0)
        raise SystemExit(2)

    served = serve_app(app)
    assert [run(served.ask()).status for _ in range(2)] == [500, 500]
    assert [(message, type(error)) for message, error in served.errors] == [("Exception in ASGI application", SystemExit)] * 2


@pytest.mark.parametrize("later", [False, True])
def test_interrupt_leaves_run_forever(loop, serve_app, logged_errors, later):
    async def app(scope, receive, send):
        if scope["path"] == "/exit":
            if later:
                await asyncio.sleep(0)
            raise KeyboardInterrupt
        await text()(scope, receive, send)

    served = serve_app(app)
    answers = []

    async def ask():
        answers.append((await served.ask(b"GET /exit HTTP/1.1\r\nHost: a\r\n\r\n")).status)

    task = loop.create_task(ask())
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    loop.run_until_complete(task)
    assert answers == [500]
    assert served.errors == []
    assert loop.run_until_complete(served.ask()).body == b"hello"


def test_errors_of_the_callbacks_go_to_the_exception_handler(loop, run, serve_app, reported):
    async def app(scope, receive, send):
        if scope["path"] == "/":
            raise ValueError
        await text()(scope, receive, send)

    served = serve_app(app, wants_access=True)
    served.accesses = served.errors = None
    run(served.ask())
    run(served.ask(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"))
    assert [type(context["exception"]) for context in reported] == [AttributeError] * 3


def test_access_is_told_of_each_answer(run, serve_app):
    async def app(scope, receive, send):
        await asyncio.sleep(0.02 if scope["path"] == "/slow" else 0)
        if scope["path"] == "/500":
            raise ValueError
        await text()(scope, receive, send)

    served = serve_app(app, wants_access=True)
    for path in (b"/", b"/slow", b"/500"):
        run(served.ask(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path))
    run(served.ask(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", method="HEAD"))
    run(served.quiet())
    assert [(scope["path"], status) for scope, status, _, _ in served.accesses] == [
        ("/", 200), ("/slow", 200), ("/500", 500), ("/", 200),
    ]
    sizes = [body_bytes for _, _, body_bytes, _ in served.accesses]
    assert (sizes[0], sizes[1], sizes[3]) == (5, 5, 0)
    assert 0.02 <= served.accesses[1][3] < 5
    assert 0 <= served.accesses[0][3] < 5


# --- the server's life ----------------------------------------------------------------------------------------------


def waiting_app(messages):
    async def app(scope, receive, send):
        messages.append(await receive())
        messages.append(await receive())

    return app


def test_close_ends_connections_and_leaves_the_tasks(run, serve_app):
    messages = []
    served = serve_app(waiting_app(messages))

    async def main():
        reader, writer = await served.connect()
        writer.write(GET)
        while not messages:
            await asyncio.sleep(0)
        (task,) = served.server.tasks()
        served.server.close()
        served.server.close()
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await read_response(reader)
        writer.close()
        await task
        assert served.server.tasks() == []
        with pytest.raises(RuntimeError, match="closed"):
            served.server.listen(served.sock.fileno())

    run(main())
    assert messages[1] == {"type": "http.disconnect"}


def test_close_inside_the_application(run, serve_app):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        served.server.close()
        with pytest.raises(OSError, match="disconnected"):
            await send({"type": "http.response.body", "body": b"x"})
        assert await receive() == {"type": "http.disconnect"}
        closed.set()

    closed = asyncio.Event()
    served = serve_app(app)

    async def main():
        reader, writer = await served.connect()
        writer.write(GET * 10)
        await closed.wait()
        assert await reader.read() == b""
        writer.close()

    run(main())
    assert served.errors == []


def test_drain_tells_when_the_last_connection_has_ended(run, serve_app):
    async def app(scope, receive, send):
        going.set()
        await go_on.wait()
        await text()(scope, receive, send)

    going, go_on = asyncio.Event(), asyncio.Event()
    served = serve_app(app)

    async def main():
        reader, writer = await served.connect()
        writer.write(GET)
        await going.wait()
        served.server.drain()
        assert not served.idle.is_set()
        go_on.set()
        response = await read_response(reader)
        assert response.header(b"connection") == b"close"
        assert await reader.read() == b""
        writer.close()
        await served.idle.wait()

    run(main())


def test_stop_listening_keeps_connections(run, serve_app):
    served = serve_app(text())

    async def main():
        reader, writer = await served.connect()
        writer.write(GET)
        await read_response(reader)
        served.server.stop_listening()
        served.sock.close()
        writer.write(GET)
        assert (await read_response(reader)).body == b"hello"
        writer.close()

    run(main())


def test_closing_the_loop_closes_the_server(loop, loop_factory, asyncio_records, serve_app):
    other = loop_factory()
    other.set_debug(False)  # In debug mode asyncio logs transports, and pytest keeps what was logged.
    messages = []
    served = Served(other, waiting_app(messages))

    async def main():
        _, writer = await served.connect()
        writer.write(GET)
        while not messages:
            await asyncio.sleep(0)
        return writer

    writer = other.run_until_complete(main())
    task = weakref.ref(served.server.tasks()[0])
    writer.transport.abort()
    other.run_until_complete(asyncio.sleep(0))
    server = Served(other, text()).server
    other.close()
    gc.collect()
    assert task() is None
    assert server.counters()["connections"] == 0
    server.close()
    with pytest.raises(RuntimeError, match="closed"):
        server.listen(0)
    with pytest.raises(RuntimeError, match="closed"):
        Served(other, text())
    asyncio_records.records.clear()


@pytest.mark.parametrize("closes", [False, True])
def test_loop_server_and_tasks_die_as_garbage(loop_factory, asyncio_records, closes, serve_app, loop):
    other = loop_factory()
    other.set_debug(False)  # In debug mode asyncio logs transports, and pytest keeps what was logged.
    messages = []
    served = Served(other, waiting_app(messages))

    async def main():
        _, writer = await served.connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc")
        while not messages:
            await asyncio.sleep(0)
        return writer

    writer = other.run_until_complete(main())
    watched = [weakref.ref(other), weakref.ref(served.server.tasks()[0])]
    if closes:
        served.server.close()
    served.sock.detach()
    writer = served = other = main = None
    gc.collect()
    assert [reference() for reference in watched] == [None, None]
    asyncio_records.records.clear()


def test_server_that_never_listened_dies_with_its_last_reference(loop):
    class App:
        async def __call__(self, scope, receive, send):
            pass

    app = App()
    died = weakref.ref(app)
    server = _web.Server(loop, app, options={}, state=None, on_idle=print, on_access=None, on_error=print)
    del app
    assert died() is not None
    del server
    assert died() is None


def test_collector_at_any_time(run, serve_app):
    async def app(scope, receive, send):
        gc.collect()
        await receive()
        gc.collect()
        await send({"type": "http.response.start", "status": 200})
        await asyncio.sleep(0)
        gc.collect()
        await send({"type": "http.response.body", "body": b"x" * 10_000})
        gc.collect()

    served = serve_app(app, state={}, wants_access=True)
    threshold = gc.get_threshold()
    gc.freeze()  # a collection looks at what the requests make, not at all that the other tests have left
    gc.set_threshold(1, 1, 1)
    try:
        responses = run(served.ask_many(GET * 20, 20))
    finally:
        gc.set_threshold(*threshold)
        gc.unfreeze()
    assert {len(response.body) for response in responses} == {10_000}
    assert served.errors == []


def test_requests_leave_nothing_behind(run, serve_app):
    async def app(scope, receive, send):
        await receive()
        if scope["path"] == "/wait":
            await asyncio.sleep(0)
        await text()(scope, receive, send)

    served = serve_app(app, state={})
    requests = (GET + b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n") * 100
    run(served.ask_many(requests, 200))
    run(served.quiet())
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(3):
        run(served.ask_many(requests, 200))
        run(served.quiet())
    gc.collect()
    assert len(gc.get_objects()) - before < 50


def test_forked_child_can_let_go_of_the_server(loop, run, serve_app):
    served = serve_app(text())

    async def main():
        reader, writer = await served.connect()
        writer.write(GET)
        await read_response(reader)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with pytest.raises(RuntimeError, match="forked"):
                    served.server.listen(served.sock.fileno())
                served.server.close()
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        writer.write(GET)
        assert (await read_response(reader)).body == b"hello"
        writer.close()

    run(main())
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        try:
            loop.close()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert run(served.ask()).body == b"hello"


@pytest.mark.parametrize("is_started", [False, True])
def test_forked_child_that_exits_inside_an_application_leaves_the_answer_to_its_parent(run, serve_app, is_started):
    parent = os.getpid()

    async def app(scope, receive, send):
        await asyncio.sleep(0)
        if is_started:
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"hel", "more_body": True})
        child = os.fork()
        if child == 0:
            raise SystemExit(7)
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        if is_started:
            await send({"type": "http.response.body", "body": b"lo"})
        else:
            await text()(scope, receive, send)

    async def main():
        reader, writer = await served.connect()
        writer.write(GET)
        answer = await read_response(reader)
        writer.write(LAST_GET)
        last = await read_response(reader)
        assert await reader.read() == b""
        writer.close()
        return answer.body, last.body

    statuses = []
    served = serve_app(app)
    try:
        bodies = run(main())
    except SystemExit as exit:
        os._exit(exit.code)
    finally:
        if os.getpid() != parent:
            os._exit(1)
    assert bodies == (b"hello", b"hello")
    assert statuses == [7, 7]


def test_import_of_cxxloop_does_not_load_the_server():
    script = "import cxxloop, sys; sys.exit('cxxloop._web' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


# --- what it takes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, error, words",
    [
        ({"nothing": 1}, TypeError, "unknown option 'nothing'"),
        ({"head_seconds": -1}, ValueError, "head_seconds"),
        ({"head_seconds": float("nan")}, ValueError, "head_seconds"),
        ({"head_seconds": "1"}, TypeError, "float|number"),
        ({"headers_max": 0}, ValueError, "headers_max must not be zero"),
        ({"headers_max": 1000}, ValueError, "headers_max must be at most"),
        ({"body_bytes_max": -1}, ValueError, "body_bytes_max must not be negative"),
        ({"body_rate_min": 1 << 40}, ValueError, "too large"),
        ({"root_path": b"x"}, TypeError, "root_path must be a str"),
        ({"server_header": 3}, TypeError, "server_header must be a str"),
        ({"headers": [("a", "b")]}, TypeError, "must be bytes"),
        ({"trusted": [3]}, TypeError, "str"),
        ({"tls": True}, TypeError, "tls must be an ssl.SSLContext"),
    ],
)
def test_wrong_options(loop, options, error, words):
    with pytest.raises(error, match=words):
        Served(loop, text(), **options)


def test_other_loops_are_refused(loop):
    other = asyncio.SelectorEventLoop()
    with pytest.raises(TypeError, match="must be a loop of cxxloop"):
        Served(other, text())
    other.close()
    with pytest.raises(TypeError, match="must be a loop of cxxloop"):
        Served(3, text())


def test_limits_can_be_changed(run, serve_app):
    served = serve_app(text(), body_bytes_max=10)
    request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n" + b"x" * 11
    assert run(served.ask(request)).status == 413
    served.server.set_limits({"body_bytes_max": None})
    assert run(served.ask(request)).status == 200
    with pytest.raises(TypeError, match="unknown option 'root_path'"):
        served.server.set_limits({"root_path": ""})


def test_counters(run, serve_app):
    served = serve_app(text())
    run(served.ask_many(GET * 3, 3))
    run(served.ask(b"nonsense\r\n\r\n"))
    run(served.quiet())
    counters = served.server.counters()
    assert (counters["accepted"], counters["requests"], counters["bad_requests"]) == (2, 3, 1)
    assert (counters["connections"], counters["exchanges"]) == (0, 0)
