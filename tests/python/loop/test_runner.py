# SPDX-License-Identifier: MIT
"""run_until_complete, asyncio.Runner, what runs now, and clocks put in place of loop.time."""

import asyncio
import asyncio.base_events
import contextlib
import contextvars
import threading

import pytest

VARIABLE = contextvars.ContextVar("variable", default="unset")


# run_until_complete, Runner, current_task


def test_run_until_complete_adds_the_callback_of_asyncio(loop):
    class Watched(asyncio.Future):
        def add_done_callback(self, callback, **kwargs):
            callbacks.append(callback)
            super().add_done_callback(callback, **kwargs)

    callbacks = []
    future = Watched(loop=loop)
    loop.call_soon(future.set_result, 5)
    assert loop.run_until_complete(future) == 5
    assert callbacks == [asyncio.base_events._run_until_complete_cb]


def test_run_until_complete_of_a_foreign_future(loop, loop_factory):
    other = loop_factory()
    future = other.create_future()
    with pytest.raises(ValueError):
        loop.run_until_complete(future)
    with pytest.raises(TypeError):
        loop.run_until_complete(7)
    other.close()


def test_runner(loop_factory):
    async def main():
        VARIABLE.set("runner")
        return asyncio.get_running_loop()

    async def value():
        return VARIABLE.get()

    async def fail():
        raise ZeroDivisionError

    async def nested(runner):
        with contextlib.closing(fail()) as coroutine:
            runner.run(coroutine)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        loop = runner.get_loop()
        assert runner.run(main()) is loop
        assert runner.run(value()) == "runner"
        with pytest.raises(ZeroDivisionError):
            runner.run(fail())
        with pytest.raises(RuntimeError):
            runner.run(nested(runner))
    assert loop.is_closed()


def test_runner_cancels_what_is_left(loop_factory):
    cancelled = []

    async def forever():
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def main():
        tasks.append(asyncio.create_task(forever()))
        await asyncio.sleep(0)

    tasks = []
    with asyncio.Runner(loop_factory=loop_factory, debug=True) as runner:
        assert runner.get_loop().get_debug()
        runner.run(main())
    assert cancelled == [True]


def test_current_task_and_all_tasks(loop, turn):
    seen = []

    async def main():
        seen.append(asyncio.current_task())
        loop.call_soon(lambda: seen.append(asyncio.current_task()))
        await asyncio.sleep(0)

    task = loop.create_task(main())
    assert asyncio.all_tasks(loop) == {task}
    assert asyncio.current_task(loop) is None
    loop.run_until_complete(task)
    turn()
    assert seen == [task, None]
    assert asyncio.all_tasks(loop) == set()


def test_loops_in_two_threads_do_not_meet(loop_factory):
    results = []

    async def main():
        loop = asyncio.get_running_loop()
        for _ in range(50):
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        results.append(loop)

    def body():
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main())

    threads = [threading.Thread(target=body) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(results)) == 4


# A clock put in place of loop.time


def test_replaced_clock_drives_the_timers(loop, turn):
    shift = 0.0
    real = loop.time
    loop.time = lambda: real() + shift
    seen = []
    try:
        loop.call_later(1000, seen.append, "first")
        loop.call_later(2000, seen.append, "second")
        turn()
        assert seen == []
        shift = 1001.0
        turn()
        assert seen == ["first"]
        shift = 2001.0
        turn()
        assert seen == ["first", "second"]
    finally:
        del loop.time


def test_replaced_clock_is_the_base_of_call_later(loop, turn):
    loop.time = lambda: 50.0
    try:
        handle = loop.call_later(10, int)
        assert handle.when() == 60.0
        handle.cancel()
        seen = []
        loop.call_at(50.0, seen.append, "due")
        loop.call_at(50.5, seen.append, "not due")
        turn()
        assert seen == ["due"]
    finally:
        del loop.time


def test_clock_overridden_in_a_subclass_drives_the_timers(loop_factory):
    with contextlib.closing(loop_factory()) as plain:
        base = type(plain)

    class Travelling(base):
        now = 100.0

        def time(self):
            return self.now

    loop = Travelling()
    seen = []
    loop.call_later(10, seen.append, 1)
    loop.stop()
    loop.run_forever()
    assert seen == []
    loop.now = 111.0
    loop.stop()
    loop.run_forever()
    assert seen == [1]
    loop.close()
