# SPDX-License-Identifier: MIT
"""add_reader and add_writer: level-triggered readiness of any descriptor epoll can watch."""

import asyncio
import contextlib
import gc
import os
import weakref

import pytest

# Readiness


def test_reader_runs_when_data_is_there_and_never_before(loop, socket_pair, turn):
    left, right = socket_pair()
    seen = []
    assert loop.add_reader(left, seen.append, 1) is None
    for _ in range(3):
        turn()
    assert seen == []
    right.send(b"x")
    turn()
    assert seen == [1]
    assert loop.remove_reader(left) is True


def test_writer_runs_when_there_is_room_and_never_before(loop, socket_pair, turn):
    left, right = socket_pair()
    with contextlib.suppress(BlockingIOError):
        while True:
            left.send(bytes(65536))
    seen = []
    assert loop.add_writer(left, seen.append, 1) is None
    turn()
    assert seen == []
    with contextlib.suppress(BlockingIOError):
        while True:
            right.recv(1 << 20)
    turn()
    assert seen == [1]
    assert loop.remove_writer(left) is True


def test_readiness_is_level_triggered(loop, socket_pair):
    left, right = socket_pair()
    seen = bytearray()

    def on_readable():
        seen.extend(left.recv(1))
        if len(seen) == 26:
            loop.stop()

    loop.add_reader(left, on_readable)
    right.send(b"abcdefghijklmnopqrstuvwxyz")
    loop.run_forever()
    loop.remove_reader(left)
    assert seen == b"abcdefghijklmnopqrstuvwxyz"


def test_reader_that_reads_nothing_is_called_again(loop, socket_pair, turn):
    left, right = socket_pair()
    right.send(b"x")
    seen = []
    loop.add_reader(left, seen.append, 1)
    for _ in range(5):
        turn()
    loop.remove_reader(left)
    assert seen == [1] * 5


def test_data_sent_before_add_reader_counts(loop, socket_pair):
    left, right = socket_pair()
    right.send(b"x")
    loop.add_reader(left, loop.stop)
    loop.run_forever()
    loop.remove_reader(left)


@pytest.mark.prompt_only("the new watch begins when the old one has ended")
def test_arguments_and_keywords(loop, socket_pair, turn):
    left, _ = socket_pair()
    seen = []

    def callback(*args):
        seen.append(args)

    loop.add_writer(left, callback, 1, "two", None)
    turn()
    loop.add_writer(fd=left, callback=callback)
    turn()
    loop.remove_writer(fd=left)
    loop.add_reader(fd=left.fileno(), callback=callback)
    loop.remove_reader(fd=left.fileno())
    assert seen == [(1, "two", None), ()]


def test_every_ready_reader_is_called_once_a_turn(loop, socket_pair, turn):
    pairs = [socket_pair() for _ in range(300)]
    seen = []
    for number, (left, right) in enumerate(pairs):
        loop.add_reader(left, seen.append, number)
        right.send(b"x")
    turn()
    turn()
    for left, _ in pairs:
        loop.remove_reader(left)
    assert len(seen) <= 600
    assert set(seen) == set(range(300))


# Two directions


def test_both_directions_reader_first(loop, socket_pair, turn):
    left, right = socket_pair()
    right.send(b"x")
    seen = []
    loop.add_writer(left, seen.append, "writer")
    loop.add_reader(left, seen.append, "reader")
    turn()
    assert seen == ["reader", "writer"]
    loop.remove_reader(left)
    loop.remove_writer(left)


def test_removing_one_direction_keeps_the_other(loop, socket_pair, turn):
    left, right = socket_pair()
    right.send(b"x")
    seen = []
    loop.add_reader(left, seen.append, "reader")
    loop.add_writer(left, seen.append, "writer")
    assert loop.remove_reader(left) is True
    turn()
    assert seen == ["writer"]
    loop.add_reader(left, seen.append, "reader")
    assert loop.remove_writer(left) is True
    turn()
    assert seen == ["writer", "reader"]
    assert loop.remove_reader(left) is True


def test_adding_a_direction_keeps_the_other(loop, socket_pair, turn):
    left, right = socket_pair()
    seen = []
    loop.add_reader(left, seen.append, "reader")
    turn()
    loop.add_writer(left, seen.append, "writer")
    turn()
    assert seen == ["writer"]
    loop.remove_writer(left)
    right.send(b"x")
    turn()
    assert seen == ["writer", "reader"]
    loop.remove_reader(left)


def test_what_remove_returns(loop, socket_pair):
    left, _ = socket_pair()
    assert loop.remove_reader(left) is False
    assert loop.remove_writer(left) is False
    loop.add_reader(left, int)
    assert loop.remove_writer(left) is False
    assert loop.remove_reader(left) is True
    assert loop.remove_reader(left) is False
    loop.add_writer(left, int)
    assert loop.remove_reader(left) is False
    assert loop.remove_writer(left) is True
    assert loop.remove_writer(left) is False


# Replacing and removing


@pytest.mark.prompt_only("the new watch begins when the old one has ended")
def test_second_add_replaces_the_callback(loop, socket_pair, turn):
    left, right = socket_pair()
    right.send(b"x")
    seen = []
    for name in ("first", "second", "third"):
        loop.add_reader(left, seen.append, name)
        loop.add_writer(left, seen.append, name)
    turn()
    assert seen == ["third", "third"]
    assert loop.remove_reader(left) is True
    assert loop.remove_writer(left) is True
    turn()
    assert seen == ["third", "third"]


def test_replaced_callback_is_released(loop, socket_pair):
    class Target:
        def method(self):
            pass

    left, _ = socket_pair()
    target = Target()
    ref = weakref.ref(target)
    loop.add_reader(left, target.method)
    del target
    assert ref() is not None
    loop.add_reader(left, int)
    gc.collect()
    assert ref() is None
    loop.remove_reader(left)


def test_removed_callback_is_released(loop, socket_pair):
    class Target:
        def method(self):
            pass

    left, _ = socket_pair()
    target = Target()
    ref = weakref.ref(target)
    loop.add_reader(left, target.method)
    loop.add_writer(left, target.method)
    del target
    loop.remove_reader(left)
    loop.remove_writer(left)
    gc.collect()
    assert ref() is None


def test_close_of_the_loop_releases_readers(loop, socket_pair):
    class Target:
        def method(self):
            pass

    left, _ = socket_pair()
    target = Target()
    ref = weakref.ref(target)
    loop.add_reader(left, target.method)
    del target
    loop.close()
    gc.collect()
    assert ref() is None
    assert loop.remove_reader(left) is False
    assert loop.remove_writer(left) is False


def test_reader_may_remove_itself(loop, socket_pair, turn):
    left, right = socket_pair()
    right.send(b"x")
    seen = []

    def on_readable(argument):
        seen.append((loop.remove_reader(left), argument))
        gc.collect()
        seen.append(argument)

    loop.add_reader(left, on_readable, "argument")
    turn()
    turn()
    assert seen == [(True, "argument"), "argument"]


@pytest.mark.prompt_only("the new watch begins when the old one has ended")
def test_reader_may_replace_itself(loop, socket_pair, turn):
    left, right = socket_pair()
    right.send(b"x")
    seen = []

    def first():
        seen.append("first")
        loop.add_reader(left, second)

    def second():
        seen.append("second")

    loop.add_reader(left, first)
    turn()
    assert seen == ["first"]
    turn()
    assert seen == ["first", "second"]
    loop.remove_reader(left)


def test_reader_may_remove_the_writer_of_the_same_turn(loop, socket_pair, turn):
    left, right = socket_pair()
    right.send(b"x")
    seen = []
    loop.add_reader(left, lambda: seen.append(loop.remove_writer(left)))
    loop.add_writer(left, seen.append, "writer")
    turn()
    loop.remove_reader(left)
    assert seen == [True]


def test_reader_may_remove_the_other_ready_readers(loop, socket_pair, turn):
    pairs = [socket_pair() for _ in range(2)]
    seen = []

    def on_readable(me):
        seen.append(me)
        for left, _ in pairs:
            loop.remove_reader(left)

    for number, (left, right) in enumerate(pairs):
        loop.add_reader(left, on_readable, number)
        right.send(b"x")
    turn()
    turn()
    assert len(seen) == 1


def test_removed_reader_does_not_spin_on_its_data(loop, socket_pair, turn, cpu_time_of_sleep):
    left, right = socket_pair()
    loop.add_reader(left, int)
    turn()
    loop.remove_reader(left)
    right.send(b"x")
    assert cpu_time_of_sleep(0.2) < 0.1


def test_removed_reader_does_not_spin_on_a_hangup(loop, socket_pair, turn, cpu_time_of_sleep):
    left, right = socket_pair()
    loop.add_reader(left, int)
    loop.add_writer(left, int)
    turn()
    loop.remove_reader(left)
    loop.remove_writer(left)
    right.close()
    assert cpu_time_of_sleep(0.2) < 0.1


def test_idle_reader_does_not_spin(loop, socket_pair, cpu_time_of_sleep):
    left, _ = socket_pair()
    loop.add_reader(left, int)
    assert cpu_time_of_sleep(0.2) < 0.1
    loop.remove_reader(left)


def test_add_and_remove_for_every_message(loop, run, socket_pair):
    left, right = socket_pair()

    async def wait_readable():
        future = loop.create_future()
        loop.add_reader(left, lambda: future.done() or future.set_result(None))
        try:
            await future
        finally:
            loop.remove_reader(left)

    async def main():
        for number in range(500):
            loop.call_soon(right.send, bytes([number % 256]))
            await wait_readable()
            assert left.recv(10) == bytes([number % 256])

    run(main())


def test_removed_and_added_reader_fires_on_old_data(loop, socket_pair, turn):
    left, right = socket_pair()
    right.send(b"x")
    seen = []
    loop.add_reader(left, seen.append, 1)
    turn()
    loop.remove_reader(left)
    turn()
    loop.add_reader(left, seen.append, 2)
    turn()
    loop.remove_reader(left)
    assert seen == [1, 2]


# Ends and errors of the peer


def test_hangup_wakes_the_reader(loop, pipe):
    read_end, write_end = pipe
    loop.add_reader(read_end, loop.stop)
    loop.call_soon(os.close, write_end)
    loop.run_forever()
    assert os.read(read_end, 1) == b""
    loop.remove_reader(read_end)


def test_error_wakes_the_writer(loop, pipe):
    read_end, write_end = pipe
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(write_end, bytes(65536))
    loop.add_writer(write_end, loop.stop)
    loop.call_soon(os.close, read_end)
    loop.run_forever()
    with pytest.raises(BrokenPipeError):
        os.write(write_end, b"x")
    loop.remove_writer(write_end)


def test_error_wakes_a_reader_of_a_write_end(loop, pipe):
    read_end, write_end = pipe
    loop.add_reader(write_end, loop.stop)
    loop.call_soon(os.close, read_end)
    loop.run_forever()
    loop.remove_reader(write_end)


def test_hangup_wakes_both_directions(loop, socket_pair, turn):
    left, right = socket_pair()
    seen = []
    loop.add_reader(left, seen.append, "reader")
    loop.add_writer(left, seen.append, "writer")
    right.close()
    turn()
    assert seen == ["reader", "writer"]
    loop.remove_reader(left)
    loop.remove_writer(left)


def test_exception_is_reported_and_the_reader_stays(loop, socket_pair, turn, reported):
    left, right = socket_pair()
    right.send(b"x")

    def boom():
        raise ZeroDivisionError

    loop.add_reader(left, boom)
    turn()
    turn()
    assert [type(context["exception"]) for context in reported] == [ZeroDivisionError] * 2
    assert isinstance(reported[0]["handle"], asyncio.Handle)
    assert reported[0]["message"].startswith("Exception in callback ")
    assert loop.remove_reader(left) is True


# A callback that acts on the loop in the middle of a call


class Acts:
    """Does something when it dies."""

    def __init__(self, act):
        self.act = act

    def __del__(self):
        self.act()


@pytest.mark.parametrize("method", ["remove_reader", "remove_writer", "add_reader"])
@pytest.mark.parametrize("call", [1, 2, 3])
def test_fileno_that_closes_the_loop(loop, socket_pair, method, call):
    left, _ = socket_pair()
    calls = []

    class File:
        def fileno(self):
            calls.append(1)
            if len(calls) == call:
                loop.close()
            return left.fileno()

    with contextlib.suppress(Exception):  # in which order a loop notices differs; none may die
        arguments = (File(), print) if method == "add_reader" else (File(),)
        getattr(loop, method)(*arguments)
    if len(calls) >= call:
        assert loop.is_closed()


def test_replaced_reader_whose_destructor_closes_the_loop(loop, pipe):
    read_end, _ = pipe
    with open(os.dup(read_end), "rb", buffering=0) as file:
        alive = weakref.ref(file)
        loop.add_reader(file, print, Acts(loop.close))
        with contextlib.suppress(Exception):
            loop.add_reader(file, print)
        assert loop.is_closed()
    del file
    gc.collect()
    assert alive() is None


def test_reader_whose_destructor_takes_the_watch_of_a_sock_operation(loop, run, socket_pair):
    left, right = socket_pair()
    got = []
    loop.add_reader(left, print, Acts(lambda: loop.add_reader(left, lambda: got.append(left.recv(9)))))

    async def main():
        operation = asyncio.ensure_future(loop.sock_recv(left, 10))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        operation.cancel()
        with pytest.raises(asyncio.CancelledError):
            await operation
        right.send(b"hey")
        while not got:
            await asyncio.sleep(0)
        assert got == [b"hey"] and loop.remove_reader(left)

    run(main())


def test_reader_whose_destructor_closes_the_loop_under_a_sock_operation(loop, socket_pair):
    left, _ = socket_pair()
    loop.add_reader(left, print, Acts(loop.close))
    operation = loop.sock_recv(left, 10)
    with contextlib.suppress(Exception):
        operation.send(None)
    assert loop.is_closed()
    with contextlib.suppress(Exception):
        operation.close()
    gc.collect()


@pytest.mark.cxxloop_only("its own method")
def test_destructor_that_closes_a_loop_that_is_closing(loop, socket_pair):
    left, _ = socket_pair()
    calls = []
    loop.add_reader(left, print, Acts(lambda: calls.append(loop._close_core())))
    loop.call_soon(print, Acts(lambda: calls.append(loop._close_core())))
    loop.close()
    assert calls == [None, None]
