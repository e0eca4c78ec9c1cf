# SPDX-License-Identifier: MIT
"""call_later, call_at, time: deadlines, their order, their handles."""

import asyncio
import fractions
import gc
import math
import random
import time
import weakref

import pytest


def run_until_stopped(loop, *, after=0):
    loop.call_later(after, loop.stop)
    loop.run_forever()


def test_time_is_the_monotonic_clock(loop):
    before = time.monotonic()
    now = loop.time()
    after = time.monotonic()
    assert type(now) is float
    assert before <= now <= after


def test_time_works_on_a_closed_loop_and_inside_a_callback(loop, turn):
    seen = []

    def callback():
        seen.append(loop.time())
        while time.monotonic() - seen[0] < 0.003:
            pass
        seen.append(loop.time())

    loop.call_soon(callback)
    turn()
    assert seen[1] - seen[0] >= 0.003
    loop.close()
    assert abs(loop.time() - time.monotonic()) < 5


def test_call_at_keeps_the_deadline_it_was_given(loop):
    for when in (1, 2.5, -3.0, 10**12, True):
        handle = loop.call_at(when, int)
        assert handle.when() == when
        assert type(handle.when()) is type(when)
        handle.cancel()


def test_call_later_adds_the_delay_to_the_time(loop):
    for delay in (0, 1, 2.5, -1, 10**9):
        before = loop.time()
        handle = loop.call_later(delay, int)
        assert before + delay <= handle.when() <= loop.time() + delay
        handle.cancel()


def test_timer_is_an_asyncio_timer_handle(loop):
    handle = loop.call_later(0, int)
    assert isinstance(handle, asyncio.TimerHandle)
    assert isinstance(handle, asyncio.Handle)
    handle.cancel()


def test_none_is_no_delay(loop):
    with pytest.raises(TypeError, match="^delay must not be None$"):
        loop.call_later(None, int)
    with pytest.raises(TypeError, match="^when cannot be None$"):
        loop.call_at(None, int)


@pytest.mark.parametrize("delay", ["1", b"1", object(), [], 1j])
def test_what_is_no_number_is_no_delay(loop, turn, delay):
    with pytest.raises(TypeError):
        loop.call_later(delay, int)
        turn()
    assert loop.time() > 0


def test_fraction_is_a_delay(loop):
    handle = loop.call_later(fractions.Fraction(1, 2), int)
    assert 0 < handle.when() - loop.time() <= 0.5
    handle.cancel()


def test_timers_run_in_the_order_of_their_deadlines(loop):
    seen = []
    base = loop.time()
    numbers = list(range(500))
    random.Random(7).shuffle(numbers)
    for i in numbers:
        loop.call_at(base + i * 1e-5, seen.append, i)
    loop.call_at(base + 0.01, loop.stop)
    loop.run_forever()
    assert seen == sorted(numbers)


@pytest.mark.cxxloop_only("asyncio leaves the order of equal deadlines undefined")
def test_equal_deadlines_run_in_the_order_of_the_calls(loop, turn):
    seen = []
    when = loop.time() - 1
    handles = [loop.call_at(when, seen.append, i) for i in range(1000)]
    for handle in handles[::3]:
        handle.cancel()
    turn()
    assert seen == [i for i in range(1000) if i % 3]


def test_delay_that_is_over_runs_in_the_next_turn_not_at_once(loop, turn):
    seen = []
    for delay in (0, -1, -1e9, -math.inf):
        loop.call_later(delay, seen.append, delay)
    assert seen == []
    run_until_stopped(loop, after=0.001)
    assert sorted(seen) == [-math.inf, -1e9, -1, 0]


def test_due_timer_set_by_a_callback_waits_for_the_next_turn(loop, turn):
    seen = []

    def callback():
        loop.call_later(-1, seen.append, "timer")
        loop.call_soon(seen.append, "soon")

    loop.call_soon(callback)
    turn()
    assert seen == []
    turn()
    assert seen == ["soon", "timer"]


def test_far_deadlines_do_not_overflow(loop):
    seen = []
    for delay in (1e5, 1e9, 1e10, 1e18, 1e100, 10**25, 1.7e308, math.inf):
        loop.call_later(delay, seen.append, delay)
    loop.call_at(2.0**63 / 1e9, seen.append, "int64")
    run_until_stopped(loop, after=0.02)
    assert seen == []


def test_only_a_far_deadline_still_lets_threads_and_io_wake_the_loop(loop, socket_pair):
    left, right = socket_pair()
    loop.call_later(math.inf, int)
    loop.add_reader(left, loop.stop)
    loop.call_soon(right.send, b"x")
    loop.run_forever()
    loop.remove_reader(left)


def test_not_a_number_harms_nothing(loop):
    seen = []
    try:
        handle = loop.call_later(math.nan, int)
    except ValueError:
        pass
    else:
        handle.cancel()
    loop.call_later(0.001, seen.append, 1)
    run_until_stopped(loop, after=0.002)
    assert seen == [1]


@pytest.mark.parametrize("delay", [1e-7, 1e-5, 1e-4, 0.0005, 0.0011, 0.0123])
def test_timer_never_fires_early(loop, delay):
    early = []

    def callback(when):
        if time.monotonic() < when - 1e-8:
            early.append(when - time.monotonic())
        loop.stop()

    for _ in range(20):
        when = loop.time() + delay
        loop.call_at(when, callback, when)
        loop.run_forever()
    assert early == []


def test_waiting_for_a_timer_sleeps(loop):
    before = time.thread_time()
    run_until_stopped(loop, after=0.3)
    assert time.thread_time() - before < 0.1


@pytest.mark.cxxloop_only("asyncio rounds a wait up to the next millisecond")
def test_short_timer_is_late_by_less_than_a_millisecond(loop):
    late = []

    def callback(when):
        late.append(time.monotonic() - when)
        loop.stop()

    for _ in range(50):
        when = loop.time() + 0.0003
        loop.call_at(when, callback, when)
        loop.run_forever()
    assert min(late) < 0.0005


def test_timer_fires_while_io_never_ends(loop, socket_pair):
    left, _ = socket_pair()
    count = 0

    def on_writable():
        nonlocal count
        count += 1

    loop.add_writer(left, on_writable)
    run_until_stopped(loop, after=0.02)
    loop.remove_writer(left)
    assert count > 1


def test_wakeup_before_the_deadline_does_not_fire_the_timer(loop, socket_pair):
    left, right = socket_pair()
    seen = []
    deadline = loop.time() + 0.05

    def on_readable():
        left.recv(1)
        seen.append("reader")

    def on_timer():
        seen.append("timer")
        assert loop.time() >= deadline - 1e-8
        loop.stop()

    loop.add_reader(left, on_readable)
    loop.call_at(deadline, on_timer)
    right.send(b"x")
    loop.run_forever()
    loop.remove_reader(left)
    assert seen == ["reader", "timer"]


# Cancelled timers


def test_cancel_of_a_timer(loop):
    seen = []
    handle = loop.call_later(0.001, seen.append, 1)
    assert handle.cancelled() is False
    handle.cancel()
    assert handle.cancelled() is True
    handle.cancel()
    run_until_stopped(loop, after=0.005)
    assert seen == []


def test_cancel_of_a_timer_that_is_due_in_the_same_turn(loop, turn):
    seen = []
    loop.call_at(1, lambda: second.cancel())
    second = loop.call_at(2, seen.append, 1)
    turn()
    assert seen == []


def test_cancel_of_a_timer_by_io_of_the_same_turn(loop, socket_pair, turn):
    left, right = socket_pair()
    right.send(b"x")
    seen = []
    loop.add_reader(left, lambda: timer.cancel())
    timer = loop.call_at(1, seen.append, 1)
    turn()
    loop.remove_reader(left)
    assert seen == []


def test_when_works_in_every_state(loop, turn):
    handle = loop.call_at(1.5, int)
    assert handle.when() == 1.5
    turn()
    assert handle.when() == 1.5
    handle.cancel()
    assert handle.when() == 1.5
    loop.close()
    assert handle.when() == 1.5


def test_cancel_after_close_is_harmless(loop):
    handle = loop.call_later(10, int)
    loop.close()
    handle.cancel()
    assert handle.cancelled()


def test_cancelled_timers_do_not_pile_up(loop, turn):
    class Payload:
        pass

    refs = []
    for _ in range(5000):
        payload = Payload()
        refs.append(weakref.ref(payload))
        handle = loop.call_later(3600, print, payload)
        handle.cancel()
    handle_refs = [weakref.ref(loop.call_later(3600, int)) for _ in range(5000)]
    for ref in handle_refs:
        ref().cancel()
    del payload, handle
    turn()
    turn()
    gc.collect()
    assert not any(ref() for ref in refs)
    assert sum(ref() is not None for ref in handle_refs) < 200


def test_the_loop_keeps_an_unreferenced_timer(loop):
    seen = []
    loop.call_later(0.002, seen.append, 1)
    gc.collect()
    run_until_stopped(loop, after=0.005)
    assert seen == [1]


def test_dropping_cancelled_timers_may_run_destructors_that_use_the_loop(loop, turn):
    made = []

    class Payload:
        def __del__(self):
            made.append(loop.call_later(3600, int))
            made[-1].cancel()

    handles = [loop.call_later(3600, print, Payload()) for _ in range(300)]
    for handle in handles:
        handle.cancel()
    del handles, handle
    turn()
    turn()
    gc.collect()
    assert len(made) == 300


# Comparisons: a TimerHandle is ordered by its deadline


def test_timer_handles_compare_like_those_of_asyncio(loop):
    def callback(*args):
        pass

    first = loop.call_at(10.0, callback, 1)
    same = loop.call_at(10.0, callback, 1)
    other_args = loop.call_at(10.0, callback, 2)
    later = loop.call_at(11.0, callback, 1)
    assert first == same
    assert first != other_args
    assert first != later
    assert first < later and first <= later and later > first and later >= first
    assert first <= same and first >= same
    assert not first <= other_args
    assert hash(first) == hash(10.0) == hash(same)
    same.cancel()
    assert first != same
    assert first != "text"
    with pytest.raises(TypeError):
        assert first < 11.0
    for operation in ("__lt__", "__le__", "__gt__", "__ge__", "__eq__"):
        assert getattr(first, operation)(10.0) is NotImplemented
    for handle in (first, other_args, later):
        handle.cancel()


def test_timer_handles_sort(loop):
    handles = [loop.call_at(when, int) for when in (3.0, 1.0, 2.0)]
    assert [handle.when() for handle in sorted(handles)] == [1.0, 2.0, 3.0]
    for handle in handles:
        handle.cancel()


def test_plain_handles_compare_by_identity(loop):
    first, second = loop.call_soon(int), loop.call_soon(int)
    assert first == first and first != second
    assert len({first, second, first}) == 2
    first.cancel()
    second.cancel()
