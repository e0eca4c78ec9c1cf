# SPDX-License-Identifier: MIT
"""Methods replaced in asyncio's own classes, by tracers say, and replaced clocks are obeyed from the next run on."""

import asyncio
import asyncio.base_events
import asyncio.selector_events
import contextlib
import functools
import os
import signal
import subprocess
import sys
import threading
import time
import warnings

import pytest

BASE = asyncio.base_events.BaseEventLoop
SELECTOR = asyncio.selector_events.BaseSelectorEventLoop


@pytest.fixture
def trace(monkeypatch):
    """Wraps a method of a class; returns the list of its calls, which are named."""
    calls = []

    def trace(cls, name):
        real = getattr(cls, name)

        @functools.wraps(real)
        def wrapper(self, *args, **kwargs):
            calls.append(name)
            return real(self, *args, **kwargs)

        monkeypatch.setattr(cls, name, wrapper)
        return calls

    return trace


async def use_everything(sockets):
    loop = asyncio.get_running_loop()
    order = []
    loop.call_soon(order.append, "soon")
    loop.call_later(0.001, order.append, "later")
    await loop.create_task(asyncio.sleep(0.01))
    loop.call_soon(loop.create_future().set_result, None)
    left, right = sockets
    loop.add_reader(left, order.append, "reader")
    right.send(b"x")
    await asyncio.sleep(0.001)
    loop.remove_reader(left)
    await loop.sock_sendall(right, b"x")
    assert (await loop.sock_recv(left, 10)).startswith(b"x")
    loop.time()
    await loop.getaddrinfo("127.0.0.1", 80)
    assert order[0] == "soon" and {"later", "reader"} <= set(order)


METHODS = [
    (BASE, "call_soon"),
    (BASE, "call_later"),
    (BASE, "create_task"),
    (BASE, "create_future"),
    (BASE, "time"),
    (BASE, "getaddrinfo"),
    (BASE, "call_exception_handler"),
    (SELECTOR, "add_reader"),
    (SELECTOR, "remove_reader"),
    (SELECTOR, "sock_recv"),
    (SELECTOR, "sock_sendall"),
]


@pytest.mark.parametrize(("cls", "name"), METHODS)
def test_method_wrapped_before_the_loop_is_made(loop_factory, socket_pair, trace, monkeypatch, cls, name):
    calls = trace(cls, name)
    with contextlib.closing(loop_factory()) as loop:
        loop.set_debug(False)
        loop.set_exception_handler(lambda loop, context: None)
        loop.call_soon(lambda: 1 / 0)
        loop.run_until_complete(use_everything(socket_pair()))
    assert set(calls) == {name}
    monkeypatch.undo()
    calls.clear()
    with contextlib.closing(loop_factory()) as loop:
        loop.run_until_complete(use_everything(socket_pair()))
    assert calls == []


@pytest.mark.parametrize(("cls", "name"), METHODS[:5])
def test_method_wrapped_between_two_runs(loop, turn, socket_pair, trace, monkeypatch, cls, name):
    sockets = socket_pair()
    loop.run_until_complete(use_everything(sockets))
    calls = trace(cls, name)
    loop.run_until_complete(use_everything(sockets))
    assert set(calls) == {name}
    monkeypatch.undo()
    turn()  # run_until_complete() makes its task before the run in which the change is noticed
    calls.clear()
    loop.run_until_complete(use_everything(sockets))
    assert calls == []


def test_call_soon_and_transports(loop_factory, socket_pair, trace):
    calls = trace(BASE, "call_soon")
    with contextlib.closing(loop_factory()) as loop:
        left, _ = socket_pair()
        transport, _ = loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=left))
        calls.clear()
        transport.abort()
        assert calls == ["call_soon"]
        loop.run_until_complete(asyncio.sleep(0))


def test_override_of_a_subclass_outranks_it_and_reaches_it(loop_factory, trace):
    with contextlib.closing(loop_factory()) as loop:
        loop_class = type(loop)
    calls = trace(BASE, "create_task")

    class Own(loop_class):
        def create_task(self, coro, **kwargs):
            calls.append("own")
            return super().create_task(coro, **kwargs)

    with contextlib.closing(Own()) as loop:
        loop.run_until_complete(loop.create_task(asyncio.sleep(0)))
    assert calls == ["own", "create_task"]


def test_assignment_to_the_loops_class_outranks_it(loop_factory, trace, monkeypatch):
    with contextlib.closing(loop_factory()) as loop:
        loop_class = type(loop)
    calls = trace(BASE, "time")
    monkeypatch.setattr(loop_class, "time", lambda self: 7.0, raising=False)
    with contextlib.closing(loop_factory()) as loop:
        assert loop.time() == 7.0
        loop.call_soon(loop.stop)
        loop.run_forever()
    assert calls == []


def test_methods_wrapped_before_the_import(loop_factory_source):
    source = """
import asyncio, functools
from asyncio.base_events import BaseEventLoop
calls = []
def trace(cls, name):
    real = getattr(cls, name)
    @functools.wraps(real)
    def wrapper(self, *args, **kwargs):
        calls.append(name)
        return real(self, *args, **kwargs)
    setattr(cls, name, wrapper)
trace(BaseEventLoop, "create_task")
trace(asyncio.Handle, "_run")
"""
    source += loop_factory_source
    source += """
loop = new_loop()
loop.call_soon(loop.create_task, asyncio.sleep(0))
loop.call_soon(loop.call_soon, loop.stop)
loop.run_forever()
loop.close()
print(sorted(set(calls)))
"""
    result = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=30)
    assert result.stdout.strip() == "['_run', 'create_task']", result.stderr


# Clocks


def test_replaced_monotonic_clock_moves_timers(loop_factory, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with contextlib.closing(loop_factory()) as loop:
        loop.set_debug(False)
        assert loop.time() == 1000.0
        fired = []
        loop.call_later(3600, fired.append, "an hour later")
        loop.call_soon(now.__setitem__, 0, 5000.0)
        loop.call_later(0, lambda: loop.call_soon(lambda: loop.call_soon(loop.stop)))
        loop.run_forever()
        assert fired == ["an hour later"]
        monkeypatch.undo()
        loop.call_soon(loop.stop)
        loop.run_forever()
        before = time.monotonic()
        assert before <= loop.time() <= time.monotonic()


def test_freezegun_with_real_asyncio(loop_factory, monkeypatch):
    freezegun = pytest.importorskip("freezegun")
    monkeypatch.setattr(asyncio, "new_event_loop", loop_factory)  # freezegun asks it for the class

    def nap():
        with contextlib.closing(loop_factory()) as loop:
            return loop.run_until_complete(asyncio.wait_for(asyncio.sleep(0.01, "slept"), 5))

    for _ in range(2):
        with freezegun.freeze_time("2026-01-01", real_asyncio=True):
            assert nap() == "slept"
        assert nap() == "slept"
    with contextlib.closing(loop_factory()) as loop:
        assert abs(loop.time() - time.monotonic()) < 5


def test_freezegun_ticks(loop_factory):
    freezegun = pytest.importorskip("freezegun")
    with freezegun.freeze_time("2026-01-01") as frozen, contextlib.closing(loop_factory()) as loop:

        async def main():
            fired = []
            loop.call_later(30, fired.append, "timer of 30 s")
            await asyncio.sleep(0)
            assert fired == []
            frozen.tick(60)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            return fired

        assert loop.run_until_complete(main()) == ["timer of 30 s"]


class LookedUpSlowly:
    """A replacement of create_future(). The second look-up by the thread waits: that of one that will put it elsewhere."""

    def __init__(self):
        self.thread = None
        self.look_ups = 0
        self.is_looked_up, self.go_on = threading.Event(), threading.Event()

    def __get__(self, instance, owner):
        if threading.current_thread() is self.thread:
            self.look_ups += 1
            if self.look_ups == 2:
                self.is_looked_up.set()
                self.go_on.wait()
        return lambda loop: "first"


@pytest.mark.cxxloop_only("asyncio looks a method up when it is called")
def test_method_replaced_while_runs_of_several_threads_begin(loop_factory, monkeypatch):
    def thread_of_a_turn(loop):
        loop.stop()
        return threading.Thread(target=loop.run_forever)

    with contextlib.closing(loop_factory()) as one, contextlib.closing(loop_factory()) as other:
        slow = LookedUpSlowly()
        monkeypatch.setattr(BASE, "create_future", slow)
        slow.thread = thread_of_a_turn(one)
        slow.thread.start()
        slow.is_looked_up.wait()
        monkeypatch.setattr(BASE, "create_future", lambda loop: "second")
        begins_later = thread_of_a_turn(other)
        begins_later.start()
        begins_later.join(0.2)  # It ends at once, or waits until the first has made up its mind.
        slow.go_on.set()
        slow.thread.join()
        begins_later.join()
        assert [loop.create_future() for loop in (one, other)] == ["second", "second"]
        monkeypatch.undo()
        with contextlib.closing(loop_factory()) as restored:
            assert isinstance(restored.create_future(), asyncio.Future)


@pytest.mark.cxxloop_only("asyncio looks a method up when it is called")
def test_child_follows_although_another_thread_did_when_it_was_forked(loop_factory, monkeypatch):
    with contextlib.closing(loop_factory()) as loop:
        slow = LookedUpSlowly()
        monkeypatch.setattr(BASE, "create_future", slow)
        loop.stop()
        slow.thread = threading.Thread(target=loop.run_forever)
        slow.thread.start()
        slow.is_looked_up.wait()
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            child = os.fork()
        if child == 0:
            signal.alarm(10)  # raises
            status = 1
            try:
                loop_factory().close()
                status = 0
            finally:
                os._exit(status)
        slow.go_on.set()
        slow.thread.join()
        assert os.waitpid(child, 0)[1] == 0
