# SPDX-License-Identifier: MIT
"""call_soon_threadsafe and executors: what other threads may do to a loop."""

import asyncio
import concurrent.futures
import resource
import sys
import threading
import time
import weakref

import pytest

LOCKED_HANDLES = hasattr(asyncio.events, "_ThreadSafeHandle")  # Since 3.14 cancel() waits for a running callback.


def in_thread(target, *args):
    thread = threading.Thread(target=target, args=args, daemon=True)
    thread.start()
    return thread


def test_each_thread_keeps_its_order_and_nothing_is_lost(loop):
    threads, calls = 8, 2000
    seen = {i: [] for i in range(threads)}
    left = threads * calls

    def receive(thread, number):
        nonlocal left
        seen[thread].append(number)
        left -= 1
        if not left:
            loop.stop()

    def send(thread):
        for number in range(calls):
            loop.call_soon_threadsafe(receive, thread, number)

    workers = [in_thread(send, i) for i in range(threads)]
    loop.run_forever()
    for worker in workers:
        worker.join()
    assert all(numbers == list(range(calls)) for numbers in seen.values())


def test_calls_before_the_loop_runs_are_kept(loop):
    seen = []
    worker = in_thread(lambda: [loop.call_soon_threadsafe(seen.append, i) for i in range(10)])
    worker.join()
    loop.call_soon_threadsafe(loop.stop)
    loop.run_forever()
    assert seen == list(range(10))


def test_order_against_call_soon_of_the_loop_thread(loop, turn):
    seen = []
    loop.call_soon(seen.append, 1)
    loop.call_soon_threadsafe(seen.append, 2)
    loop.call_soon(seen.append, 3)
    turn()
    turn()
    assert seen == [1, 2, 3]


def test_order_against_calls_after_the_end_of_a_run(loop, turn):
    seen = []

    def last():
        thread = in_thread(loop.call_soon_threadsafe, seen.append, 1)
        thread.join()
        loop.stop()

    loop.call_soon(last)
    loop.run_forever()
    loop.call_soon(seen.append, 2)
    loop.call_soon_threadsafe(seen.append, 3)
    turn()
    turn()
    assert seen == [1, 2, 3]


def test_call_wakes_a_sleeping_loop(loop):
    for _ in range(50):
        sleeping = threading.Event()
        loop.call_soon(sleeping.set)
        started = time.monotonic()
        watch = loop.call_later(20, loop.stop)
        worker = in_thread(lambda: (sleeping.wait(), loop.call_soon_threadsafe(loop.stop)))
        loop.run_forever()
        worker.join()
        watch.cancel()
        assert time.monotonic() - started < 10


def test_ping_pong_between_a_thread_and_the_loop_loses_no_wakeup(loop):
    rounds = 3000
    answers = threading.Semaphore(0)

    def thread():
        for _ in range(rounds):
            loop.call_soon_threadsafe(answers.release)
            assert answers.acquire(timeout=20)
        loop.call_soon_threadsafe(loop.stop)

    worker = in_thread(thread)
    loop.run_forever()
    worker.join()


def test_flood_from_threads_starves_neither_timers_nor_io(loop, socket_pair):
    left, right = socket_pair()
    done = threading.Event()
    seen = []
    bound = threading.Semaphore(1000)  # The flood never ends, its memory does.

    def flood():
        while not done.is_set():
            if bound.acquire(timeout=0.1):
                loop.call_soon_threadsafe(bound.release)

    def on_readable():
        loop.remove_reader(left)
        seen.append("reader")
        loop.call_later(0.01, on_timer)

    def on_timer():
        seen.append("timer")
        loop.stop()

    loop.add_reader(left, on_readable)
    loop.call_later(0.01, right.send, b"x")
    workers = [in_thread(flood) for _ in range(2)]
    loop.run_forever()
    done.set()
    for worker in workers:
        worker.join()
    assert seen == ["reader", "timer"]


def test_callback_that_calls_itself_threadsafe_starves_nobody(loop):
    def again():
        loop.call_soon_threadsafe(again)

    again()
    loop.call_later(0.02, loop.stop)
    loop.run_forever()


def test_closed_loop_refuses_calls_of_any_thread(loop):
    loop.close()
    texts = []

    def thread():
        with pytest.raises(RuntimeError) as info:
            loop.call_soon_threadsafe(int)
        texts.append(str(info.value))

    in_thread(thread).join()
    thread()
    assert texts == ["Event loop is closed"] * 2


def test_closing_while_threads_call_loses_no_refusal(loop_factory):
    for _ in range(20):
        loop = loop_factory()
        refused = []
        started = threading.Barrier(4)

        def thread():
            started.wait()
            while True:
                try:
                    loop.call_soon_threadsafe(int)
                except RuntimeError as exc:
                    refused.append(str(exc))
                    return

        workers = [in_thread(thread) for _ in range(3)]
        started.wait()
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()
        for worker in workers:
            worker.join()
        assert refused == ["Event loop is closed"] * 3


def test_calls_left_over_at_close_are_released(loop_factory):
    class Target:
        def method(self):
            pass

    loop = loop_factory()
    target = Target()
    ref = weakref.ref(target)
    in_thread(loop.call_soon_threadsafe, target.method).join()
    del target
    loop.close()
    assert ref() is None


def test_exception_in_a_callback_of_a_thread_is_reported(loop, reported):
    def boom():
        raise ZeroDivisionError

    in_thread(lambda: (loop.call_soon_threadsafe(boom), loop.call_soon_threadsafe(loop.stop)))
    loop.run_forever()
    assert isinstance(reported[0]["exception"], ZeroDivisionError)
    assert isinstance(reported[0]["handle"], asyncio.Handle)


def test_stop_through_a_thread_runs_what_was_called_before(loop):
    seen = []

    def thread():
        for i in range(100):
            loop.call_soon_threadsafe(seen.append, i)
        loop.call_soon_threadsafe(loop.stop)

    in_thread(thread)
    loop.run_forever()
    assert seen == list(range(100))


# Cancelling


def test_cancel_before_the_run(loop, turn):
    seen = []
    handle = loop.call_soon_threadsafe(seen.append, 1)
    in_thread(handle.cancel).join()
    assert handle.cancelled()
    turn()
    turn()
    assert seen == []


def test_cancel_by_a_callback_of_the_same_turn(loop, turn):
    seen = []
    loop.call_soon_threadsafe(lambda: handle.cancel())
    handle = loop.call_soon_threadsafe(seen.append, 1)
    turn()
    turn()
    assert seen == []


def test_cancel_from_inside_the_callback_does_not_deadlock(loop, turn):
    seen = []

    def callback():
        handle.cancel()
        seen.append(handle.cancelled())

    handle = loop.call_soon_threadsafe(callback)
    turn()
    turn()
    assert seen == [True]


@pytest.mark.skipif(not LOCKED_HANDLES, reason="this Python does not lock the handles of other threads")
def test_cancel_waits_for_a_running_callback(loop, turn):
    running = threading.Event()
    order = []

    def cancel():
        running.wait()
        handle.cancel()
        order.append("cancelled")

    def callback():
        running.set()
        worker.join(0.1)
        order.append("callback over")

    worker = in_thread(cancel)
    handle = loop.call_soon_threadsafe(callback)
    turn()
    turn()
    worker.join()
    assert order == ["callback over", "cancelled"]


@pytest.mark.skipif(not LOCKED_HANDLES, reason="this Python does not lock the handles of other threads")
def test_handle_cancelled_by_another_thread_never_runs_afterwards(loop):
    stop = threading.Event()
    wrong = []

    def thread():
        for _ in range(2000):
            state = []
            handle = loop.call_soon_threadsafe(lambda state=state: state and wrong.append(1))
            handle.cancel()
            state.append("cancelled")
        stop.set()
        loop.call_soon_threadsafe(loop.stop)

    worker = in_thread(thread)
    loop.run_forever()
    worker.join()
    assert stop.is_set() and wrong == []


def test_cancel_of_many_handles_by_threads_while_the_loop_runs(loop):
    def thread():
        for _ in range(3000):
            loop.call_soon_threadsafe(int).cancel()

    workers = [in_thread(thread) for _ in range(3)]

    def watch():
        if any(worker.is_alive() for worker in workers):
            loop.call_later(0.001, watch)
        else:
            loop.stop()

    loop.call_soon(watch)
    loop.run_forever()


# Debug mode


@pytest.mark.parametrize("call", ["call_soon", "call_later", "call_at"])
def test_debug_mode_refuses_calls_of_other_threads(loop, call):
    loop.set_debug(True)
    texts = []

    def thread():
        method = getattr(loop, call)
        with pytest.raises(RuntimeError) as info:
            method(*(() if call == "call_soon" else (1,)), int)
        texts.append(str(info.value))
        loop.call_soon_threadsafe(loop.stop)

    loop.call_soon(in_thread, thread)
    loop.run_forever()
    assert texts == ["Non-thread-safe operation invoked on an event loop other than the current one"]


def test_debug_mode_allows_other_threads_while_the_loop_rests(loop, turn):
    loop.set_debug(True)
    seen = []
    in_thread(loop.call_soon, seen.append, 1).join()
    turn()
    assert seen == [1]


# Executors


def test_run_in_executor(loop, run):
    async def main():
        assert await loop.run_in_executor(None, pow, 2, 10) == 1024
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(None, divmod, 1, 0)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            assert await loop.run_in_executor(pool, threading.get_ident) != threading.get_ident()
        assert await asyncio.to_thread(sum, [1, 2]) == 3
        results = await asyncio.gather(*(loop.run_in_executor(None, int, i) for i in range(200)))
        assert results == list(range(200))

    run(main())


def test_result_of_an_executor_after_close_is_dropped(loop_factory):
    loop = loop_factory()
    release = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        future = loop.run_in_executor(pool, release.wait)
        loop.close()
        release.set()
    assert not future.done()


def test_the_default_executor_must_be_a_thread_pool(loop):
    with pytest.raises(TypeError, match="^executor must be ThreadPoolExecutor instance$"):
        loop.set_default_executor(object())
    pool = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="mine")
    loop.set_default_executor(pool)

    async def main():
        return await loop.run_in_executor(None, lambda: threading.current_thread().name)

    assert loop.run_until_complete(main()).startswith("mine")


def test_threads_of_the_default_executor_are_named_asyncio(loop, run):
    async def main():
        return await loop.run_in_executor(None, lambda: threading.current_thread().name)

    assert run(main()).startswith("asyncio_")


def test_shutdown_default_executor(loop, run):
    async def main():
        await loop.shutdown_default_executor()
        with pytest.raises(RuntimeError, match="^Executor shutdown has been called$"):
            loop.run_in_executor(None, int)

    async def use_first():
        await loop.run_in_executor(None, int)
        await main()

    run(use_first())


@pytest.mark.skipif(sys.version_info < (3, 13), reason="the timeout of 3.12 waits as long as the threads do")
def test_shutdown_default_executor_gives_up_after_its_timeout(loop, run):
    release = threading.Event()

    async def main():
        future = loop.run_in_executor(None, release.wait)
        try:
            with pytest.warns(RuntimeWarning, match="The executor did not finishing joining its threads within 0.01"):
                await loop.shutdown_default_executor(timeout=0.01)
        finally:
            release.set()  # Else the interpreter would wait for that thread at its end.
        assert await future is True

    run(main())


def test_run_coroutine_threadsafe(loop):
    async def add(a, b):
        await asyncio.sleep(0)
        return a + b

    async def fail():
        raise ZeroDivisionError

    results = []

    def thread():
        results.append(asyncio.run_coroutine_threadsafe(add(1, 2), loop).result(10))
        results.append(type(asyncio.run_coroutine_threadsafe(fail(), loop).exception(10)))
        sleeper = asyncio.run_coroutine_threadsafe(asyncio.sleep(3600), loop)
        sleeper.cancel()
        loop.call_soon_threadsafe(loop.call_soon, loop.call_later, 0.001, loop.stop)

    worker = in_thread(thread)
    loop.run_forever()
    worker.join()
    assert results == [3, ZeroDivisionError]


def test_cpu_bound_thread_does_not_stop_the_loop(loop):
    done = threading.Event()
    worker = in_thread(lambda: [None for _ in iter(done.is_set, True)])
    turns = 0

    def again():
        nonlocal turns
        turns += 1
        loop.call_soon(again)

    again()
    loop.call_later(0.3, loop.stop)
    loop.run_forever()
    done.set()
    worker.join()
    assert turns > 10


@pytest.mark.cxxloop_only
def test_flood_does_not_outgrow_the_loop(loop):
    """Threads that call faster than the loop runs let it run: the queue stays short, and so do the waits."""
    made = [0] * 4
    ran = 0
    backlogs = []
    until = time.monotonic() + 0.5

    def callback():
        nonlocal ran
        ran += 1

    def flood(index):
        while time.monotonic() < until:
            for _ in range(100):
                loop.call_soon_threadsafe(callback)
            made[index] += 100

    def look():
        backlogs.append(sum(made) - ran)
        if time.monotonic() < until:
            loop.call_later(0.01, look)

    threads = [threading.Thread(target=flood, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    loop.call_soon(look)
    while any(thread.is_alive() for thread in threads) or ran < sum(made):
        loop.run_until_complete(asyncio.sleep(0.01))
    for thread in threads:
        thread.join()
    assert ran == sum(made)
    assert max(backlogs) < 100_000  # millions without the brake; on a busy machine the loop may have no core for a while


def test_call_never_sleeps_although_the_loop_is_far_behind(loop):
    """The caller may run a loop of its own or hold a lock. A sleep would be a voluntary context switch of its thread."""
    switches = []

    def flood():
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
        for _ in range(100_000):
            loop.call_soon_threadsafe(int)
        switches.append(resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - before)

    def wait_for_the_flood():
        in_thread(flood).join()  # without the GIL
        loop.stop()

    loop.call_soon(wait_for_the_flood)
    loop.run_forever()
    assert switches[0] < 50


def test_what_a_thread_called_before_comes_before_what_its_joiner_calls(loop):
    seen = []

    def joins():
        thread = in_thread(lambda: loop.call_soon_threadsafe(seen.append, "thread"))
        thread.join()
        loop.call_soon(seen.append, "joiner")
        loop.call_soon_threadsafe(seen.append, "joiner, thread-safe")
        loop.call_soon(loop.stop)

    loop.call_soon(joins)
    loop.run_forever()
    assert seen == ["thread", "joiner", "joiner, thread-safe"]


def test_thread_ends_the_sleep_of_a_turn_that_the_program_runs_itself(loop):
    seen = []
    waits_for = loop.call_later(20, seen.append, "timer")
    thread = threading.Timer(0.1, lambda: loop.call_soon_threadsafe(seen.append, "thread"))
    started = time.monotonic()
    thread.start()
    while not seen:
        loop._run_once()
    thread.join()
    waits_for.cancel()
    assert seen == ["thread"]
    assert time.monotonic() - started < 10
