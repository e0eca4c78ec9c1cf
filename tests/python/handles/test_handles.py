# SPDX-License-Identifier: MIT
"""Handles: cancelling, what they hold and release, how they look."""

import asyncio
import contextvars
import gc
import socket
import sys
import threading
import warnings
import weakref

import pytest


def is_collected(ref):
    """After two collections; a loop that was not closed warns meanwhile."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
        gc.collect()
    return ref() is None


def run_past_due(loop):
    loop.call_later(0, loop.stop)
    loop.run_forever()


def test_handle_is_an_asyncio_handle(loop):
    assert isinstance(loop.call_soon(print), asyncio.Handle)
    assert not isinstance(loop.call_soon(print), asyncio.TimerHandle)
    assert isinstance(loop.call_soon_threadsafe(print), asyncio.Handle)
    loop.close()


def test_cancel_before_the_turn(loop, turn):
    seen = []
    handle = loop.call_soon(seen.append, 1)
    assert handle.cancelled() is False
    assert handle.cancel() is None
    assert handle.cancelled() is True
    handle.cancel()
    turn()
    assert seen == []


def test_cancel_of_a_later_callback_of_the_same_turn(loop, turn):
    seen = []
    loop.call_soon(lambda: handle.cancel())
    handle = loop.call_soon(seen.append, 1)
    loop.call_soon(seen.append, 2)
    turn()
    assert seen == [2]


def test_cancel_from_inside_the_callback(loop, turn):
    seen = []
    payload = [object() for _ in range(3)]
    expected = list(payload)

    def callback(*args):
        handle.cancel()
        gc.collect()
        seen.extend(args)

    handle = loop.call_soon(callback, *payload)
    del payload
    turn()
    assert seen == expected
    assert handle.cancelled()


def test_cancel_after_the_run_is_harmless(loop, turn):
    handle = loop.call_soon(int)
    turn()
    assert not handle.cancelled()
    handle.cancel()
    assert handle.cancelled()


def test_cancel_releases_callback_and_arguments_at_once(loop):
    class Target:
        def method(self, other):
            pass

    target, argument = Target(), Target()
    refs = weakref.ref(target), weakref.ref(argument)
    handle = loop.call_soon(target.method, argument)
    del target, argument
    assert all(ref() is not None for ref in refs)
    handle.cancel()
    gc.collect()
    assert all(ref() is None for ref in refs)


def test_handle_releases_its_callback_after_the_turn(loop, turn):
    class Target:
        def method(self):
            pass

    target = Target()
    ref = weakref.ref(target)
    loop.call_soon(target.method)
    loop.call_later(0, target.method)
    loop.call_soon_threadsafe(target.method)
    del target
    run_past_due(loop)
    gc.collect()
    assert ref() is None


def test_handles_can_be_weakly_referenced(loop, turn):
    handles = [loop.call_soon(int), loop.call_later(0, int), loop.call_soon_threadsafe(int)]
    refs = [weakref.ref(handle) for handle in handles]
    assert [ref() for ref in refs] == handles
    del handles
    run_past_due(loop)
    gc.collect()
    assert [ref() for ref in refs] == [None] * 3


def test_cycle_through_a_waiting_handle_is_collected_after_close(loop_factory):
    class Target:
        def method(self):
            pass

    refs = []
    for call in ("soon", "later", "threadsafe"):
        loop = loop_factory()
        target = Target()
        target.loop = loop
        if call == "soon":
            target.handle = loop.call_soon(target.method)
        elif call == "later":
            target.handle = loop.call_later(1000, target.method)
        else:
            target.handle = loop.call_soon_threadsafe(target.method)
        refs.append(weakref.ref(target))
        loop.close()
    del target, loop
    gc.collect()
    assert [ref() for ref in refs] == [None] * 3


def test_repr_is_that_of_asyncio(loop, turn):
    def callback(*args):
        pass

    handle = loop.call_soon(callback, 1, "two")
    assert repr(handle) == repr(asyncio.Handle(callback, (1, "two"), loop))
    handle.cancel()
    assert repr(handle) == "<Handle cancelled>"
    timer = loop.call_at(12.5, callback, 1)
    assert repr(timer) == repr(asyncio.TimerHandle(12.5, callback, (1,), loop))
    timer.cancel()
    assert repr(timer) == "<TimerHandle cancelled when=12.5>"
    turn()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Handle.get_context is new in 3.12")
def test_get_context_of_a_handle(loop):
    context = contextvars.copy_context()
    for handle in (
        loop.call_soon(int, context=context),
        loop.call_later(1, int, context=context),
        loop.call_soon_threadsafe(int, context=context),
    ):
        assert handle.get_context() is context
        handle.cancel()
    default = loop.call_soon(int)
    assert isinstance(default.get_context(), contextvars.Context)
    assert default.get_context() is default.get_context()
    default.cancel()


@pytest.mark.parametrize("leading", [("call_soon",), ("call_later", 1000)])
def test_long_chain_of_handles_dies_without_deep_recursion(loop_factory, leading):
    loop = loop_factory()
    loop.set_debug(False)  # which would note for each of them where it was made
    name, *first = leading
    schedule = getattr(loop, name)
    head = None
    for _ in range(200_000):
        head = schedule(*first, len, head)
    loop.close()
    del head


@pytest.mark.cxxloop_only("asyncio allocates a handle for each call")
@pytest.mark.skipif(sys.getallocatedblocks() == 0, reason="Python allocates by malloc(), which does not count")
@pytest.mark.parametrize(("method", "arguments"), [("call_soon", ()), ("call_later", (0,))])
def test_callbacks_take_the_memory_of_dead_handles(loop, turn, method, arguments):
    schedule = getattr(loop, method)
    per_turn, turns = 100, 100
    allocated = 0
    for i in range(1 + turns):
        before = sys.getallocatedblocks()
        for _ in range(per_turn):
            schedule(*arguments, int)
        if i > 0:  # The first turn fills the freelist.
            allocated += sys.getallocatedblocks() - before
        turn()
    per_call = allocated / (per_turn * turns)
    # A timer's deadline is a float, which lives as long as the timer.
    assert per_call < (0.1 if method == "call_soon" else 1.1)


def test_callback_that_cancels_itself_and_raises(loop, turn, reported):
    def callback():
        handle.cancel()
        raise ValueError("after cancel")

    handle = loop.call_soon(callback)
    turn()
    assert [context["message"] for context in reported] == ["Exception in callback None()"]


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe"])
def test_cycle_through_a_waiting_handle_is_collected_with_its_unclosed_loop(loop_factory, method):
    class Holder:
        pass

    holder = Holder()
    loop = loop_factory()
    holder.handle = getattr(loop, method)(id, holder)
    ref = weakref.ref(holder)
    del holder, loop
    assert is_collected(ref)


def test_cycle_through_the_call_of_a_thread_is_collected_with_its_unclosed_loop(loop_factory):
    class Holder:
        pass

    def make():
        holder = Holder()
        holder.loop = loop = loop_factory()

        def call():
            holder.handle = loop.call_soon_threadsafe(id, holder)

        def callback():
            thread = threading.Thread(target=call)
            thread.start()
            thread.join()
            raise KeyboardInterrupt  # leaves the call where the thread has put it

        loop.call_soon(callback)
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
        return weakref.ref(holder)

    ref = make()
    assert is_collected(ref)


def stop_with_waiting_call(loop, holder):
    holder.loop = loop

    def callback():
        holder.handle = loop.call_soon(id, holder)
        loop.stop()

    loop.call_soon(callback)
    loop.run_forever()


def stop_while_watching(loop, holder):
    holder.loop = loop
    holder.pair = socket.socketpair()
    loop.call_soon(loop.add_reader, holder.pair[0], id, holder)
    loop.call_soon(loop.stop)
    loop.run_forever()


def watch_before_the_run(loop, holder):
    holder.loop = loop
    holder.pair = socket.socketpair()
    loop.add_reader(holder.pair[0], id, holder)


@pytest.mark.parametrize("queue", [stop_with_waiting_call, stop_while_watching, watch_before_the_run])
def test_cycle_through_what_a_stopped_loop_has_queued_is_collected(loop_factory, queue):
    class Holder:
        pass

    def make():
        holder = Holder()
        queue(loop_factory(), holder)
        return weakref.ref(holder)

    ref = make()
    assert is_collected(ref)


@pytest.mark.cxxloop_only("asyncio's handles are tracked from the start")
def test_collection_in_a_running_loop_leaves_its_handles_untracked(loop, turn):
    tracked = []

    def callback():
        handle = loop.call_soon(int)
        gc.collect()
        tracked.append(gc.is_tracked(handle))

    loop.call_soon(callback)
    turn()
    assert tracked == [False]


# --- what asyncio's Handle._run() gives the loop's exception handler and takes for a context -----------------------


@pytest.mark.parametrize("kind", ["call_soon", "call_later", "add_reader"])
def test_exception_handler_runs_while_the_exception_is_handled(loop, socket_pair, kind):
    left, right = socket_pair()
    right.send(b"x")
    handled = []

    def look(loop, context):
        handled.append((sys.exc_info()[1], context["exception"]))
        try:
            raise KeyError
        except KeyError as error:
            handled.append((error.__context__, context["exception"]))

    def fail():
        loop.remove_reader(left)
        raise ZeroDivisionError

    loop.set_exception_handler(look)
    start = {"call_soon": loop.call_soon, "call_later": lambda f: loop.call_later(0, f)}
    start.get(kind, lambda f: loop.add_reader(left, f))(fail)
    loop.call_later(0.02, loop.stop)
    loop.run_forever()
    assert len(handled) == 2
    assert all(now is told and isinstance(told, ZeroDivisionError) for now, told in handled)
    assert sys.exc_info() == (None, None, None)


def test_context_may_be_any_object_with_a_run_method(loop, reported):
    seen = []

    class Context:
        def run(self, callback, *args):
            seen.append("run")
            return callback(*args)

    loop.call_soon(seen.append, 1, context=Context())
    loop.call_later(0, seen.append, 2, context=Context())
    loop.call_soon(seen.append, 3, context=7)
    run_past_due(loop)
    assert seen == ["run", 1, "run", 2]
    assert [str(context["exception"]) for context in reported] == ["'int' object has no attribute 'run'"]
