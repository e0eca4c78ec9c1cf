# SPDX-License-Identifier: MIT
"""Debug mode: checks, tracebacks and warnings it adds."""

import asyncio
import asyncio.constants
import logging
import sys
import time

import pytest


@pytest.fixture
def debug_loop(loop):
    loop.set_debug(True)
    return loop


def burn(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def test_set_debug_and_get_debug(loop):
    loop.set_debug(True)
    assert loop.get_debug() is True
    assert " debug=True>" in repr(loop)
    loop.set_debug(False)
    assert loop.get_debug() is False


@pytest.mark.parametrize(
    ("options", "env", "expected"),
    [
        ((), {}, "False"),
        ((), {"PYTHONASYNCIODEBUG": "1"}, "True"),
        (("-X", "dev"), {}, "True"),
    ],
)
def test_debug_mode_is_taken_from_the_environment(run_script, options, env, expected):
    result = run_script(
        "loop = new_loop()\nprint(loop.get_debug())\nloop.close()",
        options=options,
        env={"PYTHONASYNCIODEBUG": "", "PYTHONDEVMODE": "", **env},
    )
    assert result.stdout.strip() == expected


# What the calls check


async def coroutine_function():
    pass


@pytest.mark.parametrize(
    ("method", "name"),
    [
        (lambda loop, callback: loop.call_soon(callback), "call_soon"),
        (lambda loop, callback: loop.call_later(1, callback), "call_at"),
        (lambda loop, callback: loop.call_at(1, callback), "call_at"),
        (lambda loop, callback: loop.call_soon_threadsafe(callback), "call_soon_threadsafe"),
        (lambda loop, callback: loop.run_in_executor(None, callback), "run_in_executor"),
    ],
)
def test_what_cannot_be_called_is_refused(debug_loop, method, name):
    with pytest.raises(TypeError) as info:
        method(debug_loop, coroutine_function)
    assert str(info.value) == f"coroutines cannot be used with {name}()"
    coroutine = coroutine_function()
    with pytest.raises(TypeError) as info:
        method(debug_loop, coroutine)
    assert str(info.value) == f"coroutines cannot be used with {name}()"
    coroutine.close()
    with pytest.raises(TypeError) as info:
        method(debug_loop, "text")
    assert str(info.value) == f"a callable object was expected by {name}(), got 'text'"


def test_without_debug_mode_the_error_comes_when_it_runs(loop, turn, reported):
    loop.call_soon("text", 1)
    turn()
    assert str(reported[0]["exception"]) == "'str' object is not callable"


# Where things were made


def line_of_caller():
    return sys._getframe(1).f_lineno


def test_the_repr_of_a_handle_tells_its_source(debug_loop):
    def callback(*args):
        pass

    handle, line = debug_loop.call_soon(callback, 1), line_of_caller()
    assert repr(handle).startswith("<Handle test_the_repr_of_a_handle_tells_its_source.<locals>.callback(1) at ")
    assert repr(handle).endswith(f"created at {__file__}:{line}>")
    timer, line = debug_loop.call_later(10, callback, 1), line_of_caller()
    assert repr(timer).startswith(f"<TimerHandle when={timer.when()} ")
    assert repr(timer).endswith(f"created at {__file__}:{line}>")
    at, line = debug_loop.call_at(10, callback), line_of_caller()
    assert repr(at).endswith(f"created at {__file__}:{line}>")
    threadsafe, line = debug_loop.call_soon_threadsafe(callback), line_of_caller()
    assert repr(threadsafe).endswith(f"created at {__file__}:{line}>")
    for each in (handle, timer, at, threadsafe):
        each.cancel()
        assert "cancelled" in repr(each) and "callback" in repr(each)


def test_reported_exception_tells_where_its_handle_was_made(debug_loop, turn, reported):
    def boom():
        raise ZeroDivisionError

    _, line = debug_loop.call_soon(boom), line_of_caller()
    turn()
    (context,) = reported
    assert set(context) == {"message", "exception", "handle", "source_traceback"}
    frame = context["source_traceback"][-1]
    assert (frame.filename, frame.lineno) == (__file__, line)


def test_the_log_tells_where_the_handle_was_made(debug_loop, turn, logged_errors):
    def report():
        debug_loop.call_exception_handler({"message": "told"})

    debug_loop.call_soon(report)
    turn()
    (text,) = logged_errors()
    assert text.startswith("told\nhandle_traceback: Handle created at (most recent call last):\n")
    assert f'File "{__file__}"' in text


def test_tasks_and_futures_tell_where_they_were_made(debug_loop):
    coroutine = coroutine_function()
    task, line = debug_loop.create_task(coroutine), line_of_caller()
    assert f"created at {__file__}:{line}" in repr(task)
    assert " created at " in repr(debug_loop.create_future())
    debug_loop.run_until_complete(task)


def test_coroutine_origins_are_tracked_while_the_loop_runs(debug_loop, turn):
    depths = []
    before = sys.get_coroutine_origin_tracking_depth()
    debug_loop.call_soon(lambda: depths.append(sys.get_coroutine_origin_tracking_depth()))
    turn()
    assert depths == [asyncio.constants.DEBUG_STACK_DEPTH]
    assert sys.get_coroutine_origin_tracking_depth() == before


def test_coroutine_origin_tracking_follows_set_debug_in_a_running_loop(loop, run):
    async def main():
        before = sys.get_coroutine_origin_tracking_depth()
        loop.set_debug(True)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert sys.get_coroutine_origin_tracking_depth() == asyncio.constants.DEBUG_STACK_DEPTH
        loop.set_debug(False)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert sys.get_coroutine_origin_tracking_depth() == before

    run(main())


# Slow callbacks


def test_slow_callback_is_logged(debug_loop, turn, asyncio_records):
    debug_loop.slow_callback_duration = 0.02

    def slow():
        burn(0.03)

    debug_loop.call_soon(slow)
    debug_loop.call_soon(int)
    turn()
    (text,) = asyncio_records.texts(logging.WARNING)
    assert text.startswith("Executing <Handle test_slow_callback_is_logged.<locals>.slow() at ")
    assert f"created at {__file__}" in text
    assert text.endswith(" seconds") and " took 0.0" in text


def test_slow_step_of_a_task_is_logged_with_the_task(debug_loop, asyncio_records):
    debug_loop.slow_callback_duration = 0.02

    async def slow():
        burn(0.03)

    debug_loop.run_until_complete(debug_loop.create_task(slow(), name="the slow one"))
    (text,) = asyncio_records.texts(logging.WARNING)
    assert text.startswith("Executing <Task ")
    assert "name='the slow one'" in text and " took 0.0" in text


def test_slow_callback_that_cancels_itself_is_still_named(debug_loop, turn, asyncio_records):
    debug_loop.slow_callback_duration = 0.01

    def slow():
        burn(0.02)
        handle.cancel()

    handle = debug_loop.call_soon(slow)
    turn()
    (text,) = asyncio_records.texts(logging.WARNING)
    assert "cancelled" in text and "slow()" in text


def test_slow_reader_and_a_slow_timer_are_logged(debug_loop, turn, socket_pair, asyncio_records):
    debug_loop.slow_callback_duration = 0.01
    left, right = socket_pair()
    right.send(b"x")

    def slow_reader():
        debug_loop.remove_reader(left)
        burn(0.02)

    def slow_timer():
        burn(0.02)

    debug_loop.add_reader(left, slow_reader)
    debug_loop.call_at(0, slow_timer)
    turn()
    texts = asyncio_records.texts(logging.WARNING)
    assert len(texts) == 2
    assert "slow_reader" in texts[0] and "slow_timer" in texts[1] and "TimerHandle" in texts[1]


def test_without_debug_mode_nothing_is_logged(loop, turn, asyncio_records):
    loop.slow_callback_duration = 0.001
    loop.call_soon(burn, 0.002)
    turn()
    assert asyncio_records.texts(logging.WARNING) == []


def test_exit_from_a_callback_in_debug_mode(debug_loop):
    def leave():
        raise KeyboardInterrupt

    debug_loop.call_soon(leave)
    with pytest.raises(KeyboardInterrupt):
        debug_loop.run_forever()


def test_close_is_logged(debug_loop, asyncio_records):
    text = repr(debug_loop)
    debug_loop.close()
    assert f"Close {text}" in asyncio_records.texts(logging.DEBUG)
