# SPDX-License-Identifier: MIT
"""What programs override in a loop's class, or replace at run time, is obeyed as asyncio obeys it. Clocks: test_runner.py."""

import asyncio
import contextlib

import pytest


@pytest.fixture
def loop_class(loop_factory):
    with contextlib.closing(loop_factory()) as loop:
        return type(loop)


@pytest.fixture
def closing_all():
    with contextlib.ExitStack() as stack:
        yield lambda loop: stack.enter_context(contextlib.closing(loop))


# call_at


def test_call_later_goes_through_an_overridden_call_at(loop_class, closing_all):
    seen = []

    class Tracing(loop_class):
        def call_at(self, when, callback, *args, context=None):
            seen.append((callback, args))
            return super().call_at(when, callback, *args, context=context)

    loop = closing_all(Tracing())
    fired = []
    loop.call_later(0.001, fired.append, 1)
    loop.run_until_complete(asyncio.sleep(0.01))
    assert seen[0] == (fired.append, (1,))
    assert len(seen) == 2  # and sleep()
    assert fired == [1]


def test_call_later_goes_through_a_replaced_call_at(loop):
    seen = []
    real = loop.call_at

    def call_at(when, callback, *args, context=None):
        seen.append((when, callback, args, context))
        return real(when, callback, *args, context=context)

    loop.call_at = call_at
    before = loop.time()
    loop.call_later(5, print, 1, 2).cancel()
    del loop.call_at
    loop.call_later(5, print).cancel()
    [(when, callback, args, context)] = seen
    assert before + 5 <= when <= loop.time() + 5
    assert (callback, args, context) == (print, (1, 2), None)


def test_the_override_of_a_class_is_obeyed_after_that_of_its_instance_is_gone(loop_class, closing_all):
    seen = []

    class Tracing(loop_class):
        def call_at(self, when, callback, *args, context=None):
            seen.append("class")
            return super().call_at(when, callback, *args, context=context)

    loop = closing_all(Tracing())
    handle = loop.call_soon(print)
    loop.call_at = lambda *args, context=None: seen.append("instance") or handle
    loop.call_later(5, print)
    del loop.call_at
    loop.call_later(5, print)
    assert seen == ["instance", "class"]


# call_soon and create_future


def test_transports_go_through_an_overridden_call_soon(loop_class, closing_all, socket_pair):
    names = []

    class Tracing(loop_class):
        def call_soon(self, callback, *args, context=None):
            names.append(getattr(callback, "__name__", None))
            return super().call_soon(callback, *args, context=context)

    loop = closing_all(Tracing())
    ours, _ = socket_pair()

    async def main():
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        transport.close()
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert "connection_made" in names
    assert "_set_result_unless_cancelled" in names
    assert "_call_connection_lost" in names
    assert names.index("connection_made") < names.index("_set_result_unless_cancelled")


def test_datagram_transports_go_through_an_overridden_call_soon(loop_class, closing_all):
    names = []

    class Tracing(loop_class):
        def call_soon(self, callback, *args, context=None):
            names.append(getattr(callback, "__name__", None))
            return super().call_soon(callback, *args, context=context)

    loop = closing_all(Tracing())

    async def main():
        transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0))
        transport.abort()
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    assert "connection_made" in names
    assert "_call_connection_lost" in names


def test_sock_calls_wait_on_an_overridden_create_future(loop_class, closing_all, socket_pair):
    made = []

    class Tracing(loop_class):
        def create_future(self):
            made.append(super().create_future())
            return made[-1]

    loop = closing_all(Tracing())
    ours, theirs = socket_pair()
    ours.setblocking(False)

    async def main():
        reading = asyncio.ensure_future(loop.sock_recv(ours, 10))
        await asyncio.sleep(0)
        count = len(made)
        theirs.send(b"data")
        assert await reading == b"data"
        return count

    assert loop.run_until_complete(main()) == 1


# A turn


def test_overridden_run_once_is_called_for_every_turn(loop_class, closing_all):
    class Counting(loop_class):
        turns = 0

        def _run_once(self):
            self.turns += 1
            super()._run_once()

    loop = closing_all(Counting())
    turns_of_callbacks = []

    def callback():
        turns_of_callbacks.append(loop.turns)
        if len(turns_of_callbacks) == 3:
            loop.stop()
        else:
            loop.call_soon(callback)

    loop.call_soon(callback)
    loop.run_forever()
    assert turns_of_callbacks == [1, 2, 3]
    assert loop.turns == 3


# Handles


def test_replaced_run_of_handles_is_called(loop, monkeypatch):
    # As tools do that log slow callbacks; some are switched on while the loop runs.
    ran = []
    real = asyncio.Handle._run

    def traced(self):
        ran.append(self._callback)
        return real(self)

    async def main():
        monkeypatch.setattr(asyncio.Handle, "_run", traced)
        for schedule in loop.call_soon, loop.call_soon_threadsafe, lambda *args: loop.call_later(0, *args):
            schedule(seen.append, schedule)
        await asyncio.sleep(0.01)
        monkeypatch.undo()
        count = len(ran)
        loop.call_soon(seen.append, 4)
        await asyncio.sleep(0)
        assert len(ran) == count

    seen = []
    loop.run_until_complete(main())
    assert len(seen) == 4
    assert ran.count(seen.append) == 3


def test_replaced_run_of_handles_may_raise(loop, monkeypatch):
    def failing(self):
        raise KeyboardInterrupt("from _run")

    loop.call_soon(print)
    monkeypatch.setattr(asyncio.Handle, "_run", failing)
    with pytest.raises(KeyboardInterrupt, match="from _run"):
        loop.run_forever()
    monkeypatch.undo()
