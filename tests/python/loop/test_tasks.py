# SPDX-License-Identifier: MIT
"""Tasks, futures, Runner and the primitives built on them."""

import asyncio
import inspect
import asyncio.base_events
import contextlib
import contextvars
import gc
import re
import sys
import warnings
import weakref

import pytest

VARIABLE = contextvars.ContextVar("variable", default="unset")


async def answer():
    await asyncio.sleep(0)
    return 42


# create_task and create_future


def test_create_task_makes_an_asyncio_task(loop, run):
    async def main():
        task = loop.create_task(answer())
        assert type(task) is asyncio.Task
        assert task.get_loop() is loop
        assert asyncio.current_task() is not task
        assert task in asyncio.all_tasks()
        assert await task == 42
        assert task not in asyncio.all_tasks()

    run(main())


def test_create_future_makes_an_asyncio_future(loop):
    future = loop.create_future()
    assert type(future) is asyncio.Future
    assert future.get_loop() is loop
    assert loop.create_future() is not future
    with pytest.raises(TypeError):
        loop.create_future(1)


def test_name_and_context_of_a_task(loop, run):
    context = contextvars.copy_context()
    context.run(VARIABLE.set, "given")

    async def value():
        return VARIABLE.get()

    async def main():
        task = loop.create_task(value(), name="a name", context=context)
        assert task.get_name() == "a name"
        assert await task == "given"
        assert await loop.create_task(value()) == "unset"
        for unnamed in (loop.create_task(answer()), loop.create_task(answer(), name=None)):
            assert unnamed.get_name().startswith("Task-")
            await unnamed
        if sys.version_info >= (3, 12):
            assert task.get_context() is context

    run(main())


def test_create_task_refuses_what_it_does_not_know(loop):
    for call in (
        lambda: loop.create_task(),
        lambda: loop.create_task(1),
        lambda: loop.create_task(int),
    ):
        with pytest.raises(TypeError):
            call()
    with contextlib.closing(answer()) as coroutine:
        with pytest.raises(TypeError):
            loop.create_task(coroutine, unknown=1)
        with pytest.raises(TypeError):
            loop.create_task(coroutine, "positional name")


def test_create_task_takes_the_coroutine_by_keyword(loop):
    assert loop.run_until_complete(loop.create_task(coro=answer())) == 42


def test_create_task_on_a_closed_loop(loop):
    loop.close()
    coroutine = answer()
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        loop.create_task(coroutine)
    coroutine.close()


def test_task_created_before_the_run_starts_in_the_first_turn(loop, turn):
    seen = []

    async def main():
        seen.append("task")

    task = loop.create_task(main())
    loop.call_soon(seen.append, "soon")
    assert seen == []
    turn()
    assert seen == ["task", "soon"]
    assert task.done()


@pytest.mark.skipif(sys.version_info < (3, 14), reason="eager_start of create_task is new in 3.13.3")
def test_eager_start(loop, run):
    seen = []

    async def child():
        seen.append("child")
        return 1

    async def main():
        task = loop.create_task(child(), eager_start=True, name="eager")
        assert seen == ["child"]
        assert task.done() and await task == 1 and task.get_name() == "eager"
        lazy = loop.create_task(child(), eager_start=False)
        assert seen == ["child"]
        await lazy

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in 3.12")
def test_the_eager_task_factory(loop, run):
    loop.set_task_factory(asyncio.eager_task_factory)
    seen = []

    async def child(wait):
        seen.append("start")
        assert asyncio.current_task().get_coro() is not None
        if wait:
            await asyncio.sleep(0)
        seen.append("end")
        return asyncio.current_task()

    async def main():
        me = asyncio.current_task()
        quick = loop.create_task(child(False))
        assert seen == ["start", "end"] and quick.done()
        slow = loop.create_task(child(True))
        assert seen == ["start", "end", "start"] and not slow.done()
        assert asyncio.current_task() is me
        assert await slow is slow
        assert await quick is quick

    run(main())


def test_task_factory_is_asked(loop, run):
    calls = []

    def factory(loop, coro, **kwargs):
        calls.append(kwargs)
        return asyncio.Task(coro, loop=loop, **{k: v for k, v in kwargs.items() if k in ("context",)})

    assert loop.get_task_factory() is None
    loop.set_task_factory(factory)
    assert loop.get_task_factory() is factory
    context = contextvars.copy_context()

    async def main():
        del calls[:]
        await loop.create_task(answer())
        await loop.create_task(answer(), context=context)
        assert calls[0].get("context") is None
        assert calls[1]["context"] is context

    run(main())
    loop.set_task_factory(None)
    assert loop.get_task_factory() is None


def test_task_factory_may_return_its_own_class(loop):
    class MyTask(asyncio.Task):
        pass

    loop.set_task_factory(lambda loop, coro, **kwargs: MyTask(coro, loop=loop, **kwargs))
    task = loop.create_task(answer())
    assert type(task) is MyTask
    assert loop.run_until_complete(task) == 42


def test_names_of_tasks_of_a_factory(loop, run):
    loop.set_task_factory(lambda loop, coro, **kwargs: asyncio.Task(coro, loop=loop, **kwargs))

    async def main():
        named, unnamed = loop.create_task(answer(), name="mine"), loop.create_task(answer())
        assert named.get_name() == "mine"
        asyncios = asyncio.base_events.BaseEventLoop.create_task(loop, answer())
        assert re.sub(r"\d+", "", unnamed.get_name()) == re.sub(r"\d+", "", asyncios.get_name())
        await asyncio.gather(named, unnamed, asyncios)

    run(main())


def test_error_of_a_task_factory_is_the_callers(loop):
    def factory(loop, coro, **kwargs):
        coro.close()
        raise LookupError("none left")

    loop.set_task_factory(factory)
    with pytest.raises(LookupError, match="none left"):
        loop.create_task(answer())


def test_task_factory_must_be_callable(loop):
    with pytest.raises(TypeError, match="^task factory must be a callable or None$"):
        loop.set_task_factory(1)


# Order of steps


def test_tasks_take_turns(loop, run):
    seen = []

    async def worker(name):
        for i in range(3):
            seen.append((name, i))
            await asyncio.sleep(0)

    async def main():
        await asyncio.gather(worker("a"), worker("b"))

    run(main())
    assert seen == [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("b", 2)]


def test_sleep_returns_its_result_and_wakes_in_order(loop, run):
    async def main():
        seen = []

        async def sleeper(delay):
            seen.append(await asyncio.sleep(delay, delay))

        await asyncio.gather(*(sleeper(d) for d in (0.006, 0.002, 0.004, 0)))
        assert seen == [0, 0.002, 0.004, 0.006]

    run(main())


def test_done_callbacks_of_a_future_run_in_order_in_the_next_turn(loop, turn):
    seen = []
    future = loop.create_future()
    future.add_done_callback(lambda f: seen.append(1))
    future.add_done_callback(lambda f: seen.append(2))
    future.set_result(None)
    assert seen == []
    turn()
    assert seen == [1, 2]


def test_cancellation(loop, run):
    async def main():
        task = loop.create_task(asyncio.sleep(3600))
        await asyncio.sleep(0)
        task.cancel("why")
        with pytest.raises(asyncio.CancelledError) as info:
            await task
        assert info.value.args == ("why",)
        shielded = loop.create_task(answer())
        outer = asyncio.shield(shielded)
        outer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await outer
        assert await shielded == 42

    run(main())


def test_exception_nobody_asked_for_is_logged(loop, run, logged_errors):
    async def fail():
        raise ZeroDivisionError

    async def main():
        loop.create_task(fail())
        await asyncio.sleep(0)

    run(main())
    gc.collect()
    assert logged_errors()[0].startswith("Task exception was never retrieved\nfuture: <Task finished name=")


def test_task_pending_at_close_is_reported(loop_factory, asyncio_records):
    loop = loop_factory()
    loop.set_exception_handler(lambda loop, context: seen.append(context["message"]))
    seen = []
    task = loop.create_task(asyncio.sleep(3600))
    loop.stop()
    loop.run_forever()
    loop.close()
    del task
    gc.collect()
    assert seen == ["Task was destroyed but it is pending!"]


def test_finished_task_leaves_no_reference_behind(loop, run):
    class Payload:
        pass

    async def work(payload):
        await asyncio.sleep(0)

    async def main():
        payload = Payload()
        ref = weakref.ref(payload)
        await loop.create_task(work(payload))
        del payload
        await asyncio.sleep(0)
        return ref

    assert run(main())() is None


# Building blocks of asyncio


def test_task_group(loop, run):
    async def fail():
        raise ZeroDivisionError

    async def main():
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(answer(), name=str(i)) for i in range(3)]
        assert [task.result() for task in tasks] == [42] * 3
        with pytest.raises(ExceptionGroup) as info:
            async with asyncio.TaskGroup() as group:
                sleeper = group.create_task(asyncio.sleep(3600))
                group.create_task(fail())
        assert sleeper.cancelled()
        assert [type(exc) for exc in info.value.exceptions] == [ZeroDivisionError]

    run(main())


def test_timeout(loop, run):
    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await asyncio.sleep(3600)
        async with asyncio.timeout(3600) as scope:
            await asyncio.sleep(0)
            scope.reschedule(loop.time() + 1000)
        async with asyncio.timeout(None):
            await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout_at(loop.time() - 1):
                await asyncio.sleep(3600)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(3600), 0.001)

    run(main())


def test_gather_wait_and_as_completed(loop, run):
    async def fail():
        raise ZeroDivisionError

    async def main():
        results = await asyncio.gather(answer(), fail(), return_exceptions=True)
        assert results[0] == 42 and isinstance(results[1], ZeroDivisionError)
        done, pending = await asyncio.wait(
            [loop.create_task(answer()), loop.create_task(asyncio.sleep(3600))],
            return_when=asyncio.FIRST_COMPLETED,
        )
        assert len(done) == len(pending) == 1
        pending.pop().cancel()
        assert [await f for f in asyncio.as_completed([answer(), answer()])] == [42, 42]

    run(main())


def test_queue_locks_and_events(loop, run):
    async def main():
        queue = asyncio.Queue(maxsize=2)
        seen = []

        async def consume():
            while (item := await queue.get()) is not None:
                seen.append(item)
                queue.task_done()

        consumer = loop.create_task(consume())
        for i in range(100):
            await queue.put(i)
        await queue.join()
        await queue.put(None)
        await consumer
        assert seen == list(range(100))

        lock, order = asyncio.Lock(), []

        async def locked(name):
            async with lock:
                order.append(name)
                await asyncio.sleep(0)

        await asyncio.gather(*(locked(i) for i in range(5)))
        assert order == list(range(5))

        event, condition, semaphore = asyncio.Event(), asyncio.Condition(), asyncio.Semaphore(2)
        waiter = loop.create_task(event.wait())
        event.set()
        assert await waiter
        async with condition, semaphore:
            condition.notify_all()
        barrier = asyncio.Barrier(3)
        assert sorted(await asyncio.gather(*(barrier.wait() for _ in range(3)))) == [0, 1, 2]

    run(main())


def test_context_variables_follow_callbacks_and_tasks(loop, run):
    async def child():
        VARIABLE.set("child")
        await asyncio.sleep(0)
        return VARIABLE.get()

    async def main():
        VARIABLE.set("main")
        seen = []
        loop.call_soon(lambda: seen.append(VARIABLE.get()))
        loop.call_later(0, lambda: seen.append(VARIABLE.get()))
        loop.call_soon_threadsafe(lambda: seen.append(VARIABLE.get()))
        future = loop.create_future()
        future.add_done_callback(lambda f: seen.append(VARIABLE.get()))
        future.set_result(None)
        assert await loop.create_task(child()) == "child"
        await asyncio.sleep(0.002)
        assert seen == ["main"] * 4
        assert VARIABLE.get() == "main"

    run(main())
    assert VARIABLE.get() == "unset"


def test_readers_run_in_the_context_of_add_reader(loop, run, socket_pair):
    async def main():
        left, right = socket_pair()
        future = loop.create_future()
        token = VARIABLE.set("adder")
        loop.add_reader(left, lambda: future.done() or future.set_result(VARIABLE.get()))
        VARIABLE.reset(token)
        right.send(b"x")
        assert await future == "adder"
        loop.remove_reader(left)

    run(main())


# Asynchronous generators


def test_asyncgens_are_closed_when_collected(loop, run):
    closed = []

    async def generator():
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            closed.append(True)

    async def main():
        async for _ in generator():
            break
        gc.collect()
        while not closed:
            await asyncio.sleep(0)

    run(main())


def test_shutdown_asyncgens(loop, run, reported):
    closed = []

    async def generator(fail):
        try:
            while True:
                yield 1
        finally:
            closed.append(fail)
            if fail:
                raise ZeroDivisionError

    alive = [generator(False), generator(True)]

    async def main():
        for gen in alive:
            await gen.__anext__()
        await loop.shutdown_asyncgens()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            late = generator(False)
            await late.__anext__()
            await late.aclose()
        assert "was scheduled after loop.shutdown_asyncgens() call" in str(caught[0].message)
        assert caught[0].category is ResourceWarning

    run(main())
    assert sorted(closed) == [False, False, True]
    assert reported[0]["message"].startswith("an error occurred during closing of asynchronous generator")
    assert reported[0]["asyncgen"] is alive[1]


def test_the_hooks_of_asyncgens_are_restored(loop, turn):
    def hook(agen):
        pass

    before = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(firstiter=hook, finalizer=hook)
    try:
        inside = []
        loop.call_soon(lambda: inside.append(sys.get_asyncgen_hooks()))
        turn()
        assert inside[0].firstiter is not hook and inside[0].finalizer is not hook
        assert sys.get_asyncgen_hooks() == (hook, hook)
    finally:
        sys.set_asyncgen_hooks(*before)


@pytest.mark.parametrize("keyword", ["loop", "eager_start", "nothing"])
def test_keywords_of_create_task_are_those_of_the_running_python(loop, keyword):
    async def nothing():
        pass

    takes_any = inspect.signature(asyncio.BaseEventLoop.create_task).parameters.keys() >= {"kwargs"}
    coroutine = nothing()
    try:
        if keyword == "eager_start" and takes_any:
            loop.run_until_complete(loop.create_task(coroutine, eager_start=False))
        else:
            with pytest.raises(TypeError, match=keyword):
                loop.create_task(coroutine, **{keyword: loop})
    finally:
        coroutine.close()
