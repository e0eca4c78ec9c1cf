# SPDX-License-Identifier: MIT
"""call_soon, stop, run_forever: what runs, in which turn, in which order, and what an error does."""

import asyncio
import contextvars
import gc
import threading
import traceback
import weakref

import pytest

VARIABLE = contextvars.ContextVar("variable", default="unset")


def run_until_stopped(loop, *, after=0):
    loop.call_later(after, loop.stop)
    loop.run_forever()


# Order


def test_callbacks_run_in_the_order_of_the_calls(loop, turn):
    seen = []
    for i in range(1000):
        loop.call_soon(seen.append, i)
    turn()
    assert seen == list(range(1000))


def test_all_arguments_arrive(loop, turn):
    seen = []

    def callback(*args):
        seen.append(args)

    for count in range(12):
        loop.call_soon(callback, *range(count))
    turn()
    assert seen == [tuple(range(count)) for count in range(12)]


def test_callback_scheduled_by_a_callback_runs_in_the_next_turn(loop, turn):
    seen = []

    def first():
        seen.append("first")
        loop.call_soon(seen.append, "nested")

    loop.call_soon(first)
    loop.call_soon(seen.append, "second")
    turn()
    assert seen == ["first", "second"]
    turn()
    assert seen == ["first", "second", "nested"]


def test_ready_callbacks_then_io_then_timers(loop, socket_pair, turn):
    seen = []
    left, right = socket_pair()
    right.send(b"x")
    loop.call_at(loop.time() - 1, seen.append, "timer")
    loop.add_reader(left, seen.append, "reader")
    loop.add_writer(left, seen.append, "writer")
    loop.call_soon(seen.append, "soon")
    turn()
    loop.remove_reader(left)
    loop.remove_writer(left)
    assert seen == ["soon", "reader", "writer", "timer"]


def test_callback_of_io_and_one_of_a_timer_run_before_what_they_schedule(loop, socket_pair, turn):
    seen = []
    left, right = socket_pair()
    right.send(b"x")

    def on_readable():
        loop.remove_reader(left)
        seen.append("reader")
        loop.call_soon(seen.append, "from reader")

    loop.add_reader(left, on_readable)
    loop.call_at(loop.time() - 1, seen.append, "timer")
    turn()
    turn()
    assert seen == ["reader", "timer", "from reader"]


def test_two_endless_callers_of_call_soon_do_not_starve_timers_and_io(loop, socket_pair):
    left, right = socket_pair()
    seen = []

    def again():
        loop.call_soon(again)

    def on_readable():
        loop.remove_reader(left)
        seen.append("reader")
        loop.call_later(0.01, loop.stop)

    loop.call_soon(again)
    loop.call_soon(again)
    loop.call_later(0.01, right.send, b"x")
    loop.add_reader(left, on_readable)
    loop.run_forever()
    assert seen == ["reader"]


# Signatures


def test_parameters_may_be_given_by_keyword(loop, turn):
    seen = []

    def callback():
        seen.append(VARIABLE.get())

    context = contextvars.copy_context()
    context.run(VARIABLE.set, "given")
    loop.call_soon(callback=callback, context=context)
    loop.call_soon_threadsafe(callback=callback, context=context)
    loop.call_later(delay=-1, callback=callback, context=context)
    loop.call_at(when=0, callback=callback, context=context)
    turn()
    assert seen == ["given"] * 4


@pytest.mark.parametrize(
    "call",
    [
        lambda loop: loop.call_soon(),
        lambda loop: loop.call_later(),
        lambda loop: loop.call_later(0),
        lambda loop: loop.call_at(),
        lambda loop: loop.call_at(0),
        lambda loop: loop.call_soon_threadsafe(),
        lambda loop: loop.call_soon(print, unknown=1),
        lambda loop: loop.call_later(0, print, unknown=1),
        lambda loop: loop.call_soon_threadsafe(print, end=""),
        lambda loop: loop.time(1),
    ],
)
def test_wrong_arguments_are_a_type_error(loop, turn, call):
    with pytest.raises(TypeError):
        call(loop)
    turn()


def test_callback_sees_the_context_of_its_caller(loop, turn):
    seen = []
    token = VARIABLE.set("caller")
    loop.call_soon(lambda: seen.append(VARIABLE.get()))
    VARIABLE.reset(token)
    turn()
    assert seen == ["caller"]


def test_change_of_context_in_a_callback_stays_in_its_copy(loop, turn):
    loop.call_soon(VARIABLE.set, "inside")
    turn()
    assert VARIABLE.get() == "unset"


def test_callbacks_given_one_context_share_it(loop, turn):
    context = contextvars.copy_context()
    seen = []
    loop.call_soon(VARIABLE.set, "first", context=context)
    loop.call_soon(lambda: seen.append(VARIABLE.get()), context=context)
    loop.call_soon(lambda: seen.append(VARIABLE.get()))
    turn()
    assert seen == ["first", "unset"]


# stop, run_forever, run_until_complete


def test_stop_lets_the_current_batch_end(loop):
    seen = []
    loop.call_soon(seen.append, 1)
    loop.call_soon(loop.stop)
    loop.call_soon(seen.append, 2)
    loop.call_soon(lambda: loop.call_soon(seen.append, "next"))
    loop.run_forever()
    assert seen == [1, 2]
    loop.stop()
    loop.run_forever()
    assert seen == [1, 2, "next"]


def test_stop_before_run_forever_runs_one_turn(loop):
    seen = []
    loop.call_soon(seen.append, 1)
    loop.call_later(3600, seen.append, "timer")
    loop.stop()
    loop.run_forever()
    assert seen == [1]


def test_stop_twice_stops_once(loop):
    loop.call_soon(loop.stop)
    loop.call_soon(loop.stop)
    loop.run_forever()
    seen = []
    loop.call_soon(lambda: loop.call_soon(seen.append, 1))
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    assert seen == [1]


def test_run_forever_can_run_again_and_again(loop):
    for _ in range(5):
        loop.call_soon(loop.stop)
        loop.run_forever()
        assert not loop.is_running()


def test_run_until_complete_returns_raises_or_reports_a_stop(loop):
    async def value():
        await asyncio.sleep(0)
        return 42

    async def failure():
        raise ZeroDivisionError

    assert loop.run_until_complete(value()) == 42
    with pytest.raises(ZeroDivisionError):
        loop.run_until_complete(failure())
    future = loop.create_future()
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError, match="^Event loop stopped before Future completed.$"):
        loop.run_until_complete(future)


def test_running_loop_refuses_to_run_again(loop):
    texts = []

    def nested():
        coroutine = asyncio.sleep(0)
        for call in (lambda: loop.run_until_complete(coroutine), loop.run_forever):
            with pytest.raises(RuntimeError) as info:
                call()
            texts.append(str(info.value))
        coroutine.close()
        loop.stop()

    loop.call_soon(nested)
    loop.run_forever()
    assert texts == ["This event loop is already running"] * 2


def test_another_loop_refuses_to_run_inside_a_running_one(loop, loop_factory):
    other = loop_factory()
    texts = []

    def nested():
        with pytest.raises(RuntimeError) as info:
            other.run_forever()
        texts.append(str(info.value))
        loop.stop()

    loop.call_soon(nested)
    loop.run_forever()
    other.close()
    assert texts == ["Cannot run the event loop while another loop is running"]


def test_running_loop_is_visible_inside_and_only_inside(loop, turn):
    seen = []
    loop.call_soon(lambda: seen.extend((asyncio.get_running_loop(), loop.is_running())))
    turn()
    assert seen == [loop, True]
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


def test_close_of_a_running_loop_is_refused(loop, turn):
    texts = []

    def callback():
        with pytest.raises(RuntimeError) as info:
            loop.close()
        texts.append(str(info.value))

    loop.call_soon(callback)
    turn()
    assert texts == ["Cannot close a running event loop"]
    assert not loop.is_closed()


@pytest.mark.parametrize(
    "call",
    [
        lambda loop: loop.call_soon(int),
        lambda loop: loop.call_later(0, int),
        lambda loop: loop.call_at(0, int),
        lambda loop: loop.call_soon_threadsafe(int),
        lambda loop: loop.run_forever(),
        lambda loop: loop.run_until_complete(None),
        lambda loop: loop.run_in_executor(None, int),
        lambda loop: loop.add_reader(0, int),
        lambda loop: loop.add_writer(0, int),
        lambda loop: loop.create_task(None),
        lambda loop: loop.add_signal_handler(10, int),
    ],
)
def test_closed_loop_refuses(loop, call):
    loop.close()
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        call(loop)


# Errors


def test_exception_is_reported_and_the_batch_goes_on(loop, turn, reported):
    seen = []

    def boom(*args):
        raise ZeroDivisionError("boom")

    handle = loop.call_soon(boom, 1, "two")
    loop.call_soon(seen.append, "after")
    expected = repr(asyncio.Handle(boom, (1, "two"), loop))
    turn()
    assert seen == ["after"]
    (context,) = reported
    assert set(context) == {"message", "exception", "handle"}
    assert context["handle"] is handle
    assert context["message"] == "Exception in callback " + expected[len("<Handle ") : -1]
    assert isinstance(context["exception"], ZeroDivisionError)
    assert "boom" in [entry.name for entry in traceback.extract_tb(context["exception"].__traceback__)]


def test_the_default_handler_logs_an_exception(loop, turn, logged_errors):
    def boom():
        raise ZeroDivisionError("the reason")

    loop.call_soon(boom)
    turn()
    (text,) = logged_errors()
    assert text.startswith("Exception in callback test_the_default_handler_logs_an_exception.<locals>.boom() at ")
    assert "\nhandle: <Handle " in text


def test_failing_exception_handler_is_reported(loop, turn, logged_errors):
    def handler(loop, context):
        raise AttributeError("the handler is broken")

    def boom():
        raise ZeroDivisionError("the reason")

    loop.set_exception_handler(handler)
    loop.call_soon(boom)
    turn()
    (text,) = logged_errors()
    assert text.startswith("Unhandled error in exception handler\ncontext: {'message': 'Exception in callback")


def test_exception_handler_must_be_callable(loop):
    with pytest.raises(TypeError, match="^A callable object or None is expected, got 7$"):
        loop.set_exception_handler(7)
    assert loop.get_exception_handler() is None


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("how", ["soon", "timer", "threadsafe", "reader", "task"])
def test_exit_leaves_run_forever_and_loses_nothing(loop, socket_pair, kind, how):
    left, right = socket_pair()
    right.send(b"x")
    seen = []

    def leave():
        loop.remove_reader(left)
        for i in range(3):
            loop.call_soon(seen.append, i)
        raise kind("leave")

    async def main():
        leave()

    if how == "soon":
        loop.call_soon(leave)
    elif how == "timer":
        loop.call_later(0, leave)
    elif how == "threadsafe":
        loop.call_soon_threadsafe(leave)
    elif how == "reader":
        loop.add_reader(left, leave)
    else:
        task = loop.create_task(main())
    loop.call_later(0, seen.append, "timer")
    with pytest.raises(kind, match="^leave$"):
        loop.run_forever()
    assert not loop.is_running()
    run_until_stopped(loop, after=0.001)
    assert sorted(seen, key=str) == [0, 1, 2, "timer"]
    if how == "task":
        assert isinstance(task.exception(), kind)


def test_the_rest_of_a_batch_survives_an_exit(loop):
    seen = []

    def leave():
        raise KeyboardInterrupt

    loop.call_soon(leave)
    loop.call_soon(seen.append, 1)
    loop.call_soon(seen.append, 2)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    assert seen == []
    loop.call_soon(seen.append, 3)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == [1, 2, 3]


def test_exit_in_the_exception_handler_leaves_the_loop(loop):
    def handler(loop, context):
        raise SystemExit(3)

    def boom():
        raise ZeroDivisionError

    loop.set_exception_handler(handler)
    loop.call_soon(boom)
    with pytest.raises(SystemExit) as info:
        loop.run_forever()
    assert info.value.code == 3
    assert not loop.is_running()


def test_exceptions_that_are_no_exit_are_reported(loop, turn, reported):
    class Strange(BaseException):
        pass

    def boom():
        raise Strange

    async def cancelled():
        raise asyncio.CancelledError

    loop.call_soon(boom)
    turn()
    assert isinstance(reported[0]["exception"], Strange)
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(cancelled())


def test_reported_exception_leaves_no_cycle(loop, turn):
    class Target:
        pass

    def make():
        target = Target()

        def boom():
            raise ZeroDivisionError(target)

        loop.call_soon(boom)
        return weakref.ref(target)

    loop.set_exception_handler(lambda loop, context: None)
    ref = make()
    turn()
    gc.collect()
    assert ref() is None


def test_callback_may_close_another_loop(loop, loop_factory, turn):
    other = loop_factory()
    other.call_later(1, int)
    loop.call_soon(other.close)
    turn()
    assert other.is_closed()


def test_deep_recursion_inside_a_callback_is_reported(loop, turn, reported):
    def recurse():
        recurse()

    loop.call_soon(recurse)
    turn()
    assert isinstance(reported[0]["exception"], RecursionError)


def test_loop_may_be_used_from_a_second_thread_after_the_first(loop):
    seen = []

    def body():
        loop.call_soon(seen.append, threading.get_ident())
        loop.call_soon(loop.stop)
        loop.run_forever()

    body()
    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    body()
    assert len(seen) == 3 and seen[0] == seen[2] != seen[1]
