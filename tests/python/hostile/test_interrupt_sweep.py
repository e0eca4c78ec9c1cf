# SPDX-License-Identifier: MIT
"""A KeyboardInterrupt at any bytecode or system call never loses a queued callback: each runs exactly once in the end.

The counted callbacks are methods of C types, which nothing can interrupt half-way. asyncio loses the handle that it has
taken from its queue when the interrupt comes before the call.
"""

import _thread

import pytest

pytestmark = pytest.mark.cxxloop_only("asyncio loses the handle that it is about to run")

PROGRAM = """
import asyncio, signal, socket, sys, threading, time

def restore(loop):
    # Interrupted between two bytecodes of run_forever()'s own prologue or end, asyncio takes the loop for a running one.
    loop._thread_id = None
    loop._stopping = False
    asyncio._set_running_loop(None)

class Work:
    def __init__(self, loop):
        self.loop = loop
        self.ran = []
        self.expected = []
        self.errors = []
        loop.set_exception_handler(lambda loop, context: self.errors.append(context))
        self.sockets = [socket.socketpair() for _ in range(3)]
        self.buffers = []
        for number in range(4):
            self.queue("soon", loop.call_soon)
            loop.call_soon(self.noise)
            self.queue("threadsafe", loop.call_soon_threadsafe)
            self.queue("timer", loop.call_later, 0)
            loop.call_later(0, self.noise)
            self.queue("later", loop.call_later, 0.0005 * number)
        for left, right in self.sockets:
            left.setblocking(False)
            buffer = bytearray(8)
            self.buffers.append(buffer)
            loop.add_reader(left, left.recv_into, buffer)
            right.send(b"once")
        thread = threading.Thread(target=self.call_from_thread)
        thread.start()
        thread.join()

    def queue(self, name, schedule, *leading):
        item = (name, len(self.expected))
        self.expected.append(item)
        schedule(*leading, self.ran.append, item)

    def call_from_thread(self):
        for _ in range(4):
            self.queue("thread", self.loop.call_soon_threadsafe)

    def noise(self):
        for _ in range(2):
            pass

    def finish(self):
        self.loop.call_later(0.005, self.loop.stop)
        self.loop.run_forever()
        while len(self.ran) < len(self.expected) and time.monotonic() < self.deadline:
            self.loop.call_later(0.001, self.loop.stop)
            self.loop.run_forever()

    def check(self, what):
        self.deadline = time.monotonic() + 5
        self.finish()
        assert sorted(self.ran) == sorted(self.expected), (what, set(self.expected) ^ set(self.ran), len(self.ran))
        assert all(bytes(buffer[:4]) == b"once" for buffer in self.buffers), what
        assert self.errors == [], (what, self.errors)
        for left, right in self.sockets:
            self.loop.remove_reader(left)
            left.close()
            right.close()
        self.loop.close()
"""

EVERY_BYTECODE = (
    PROGRAM
    + """
def run_interrupted_at(work, position):
    counted = 0
    def trace(frame, event, argument):
        nonlocal counted
        frame.f_trace_opcodes = True
        if event == "opcode":
            counted += 1
            if counted == position:
                signal.raise_signal(signal.SIGINT)
        return trace
    loop = work.loop
    loop.call_later(0.004, loop.stop)
    run = loop.run_forever
    sys._getframe().f_trace_opcodes = True  # 3.12 traces bytecodes only if a frame had asked for that before
    sys.settrace(trace)
    try:
        run()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return False

position = int(sys.argv[1])
interrupted = 0
while True:
    loop = new_loop()
    loop.set_debug(len(sys.argv) > 2)
    work = Work(loop)
    hit = run_interrupted_at(work, position)
    restore(loop)
    work.check(position)
    if not hit:
        break
    interrupted += 1
    position += 1
print("interrupted at", interrupted)
"""
)

ANY_TIME = (
    PROGRAM
    + """
import random

def end_of_signals():
    try:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
    except KeyboardInterrupt:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)

randomly = random.Random(int(sys.argv[1]))
interrupts = 0
for number in range(300):
    loop = new_loop()
    work = Work(loop)
    begun = []
    def begin(item):
        begun.append(item)
    for item in range(200):
        loop.call_soon(begin, item)
    loop.call_later(0.004, loop.stop)
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    loop.call_soon(signal.setitimer, signal.ITIMER_REAL, 0.00002 + randomly.random() * 0.001)
    try:
        loop.run_forever()
        end_of_signals()
    except KeyboardInterrupt:
        interrupts += 1
        end_of_signals()
    restore(loop)
    work.check(number)
    # One may have been left after its first bytecode; none before it.
    assert len(begun) == len(set(begun)) >= 199, begun
print("interrupts", interrupts)
"""
)


@pytest.mark.parametrize("options", [(), ("debug",)], ids=["plain", "debug"])
def test_interrupt_at_each_bytecode_of_a_run(run_script, options):
    result = run_script(EVERY_BYTECODE, "1", *options)
    assert int(result.stdout.split()[-1]) > 50


@pytest.mark.parametrize("seed", range(3))
def test_interrupts_at_any_time(run_script, seed):
    result = run_script(ANY_TIME, str(seed))
    assert int(result.stdout.split()[-1]) > 20


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("way", ["function", "method", "closure", "timer", "thread"])
def test_callback_that_is_interrupted_before_it_begins_runs_in_the_next_run(loop, turn, way, debug):
    order = []

    class Object:
        def method(self):
            order.append("method")

    def function():
        order.append("function")

    loop.set_debug(debug)
    loop.call_soon(order.append, "first")
    loop.call_soon(_thread.interrupt_main)  # and no bytecode that would look at it until the next callback is entered
    if way == "function":
        loop.call_soon(function)
    elif way == "method":
        loop.call_soon(Object().method)
    elif way == "closure":
        loop.call_soon((lambda cell: lambda: (order.append(way), cell))(1))
    elif way == "timer":
        loop.call_at(0, function)
    else:
        loop.call_soon_threadsafe(function)
    loop.call_soon(order.append, "last")
    with pytest.raises(KeyboardInterrupt):
        turn()
    own = way if way in ("method", "closure") else "function"
    assert order == (["first", "last"] if way == "timer" else ["first"])
    turn()
    assert order == (["first", "last", own] if way == "timer" else ["first", own, "last"])


def test_callback_that_has_begun_does_not_run_again(loop, turn):
    order = []

    def interrupted():
        order.append("begun")
        _thread.interrupt_main()
        while True:
            pass

    loop.call_soon(interrupted)
    loop.call_soon(order.append, "last")
    with pytest.raises(KeyboardInterrupt):
        turn()
    turn()
    assert order == ["begun", "last"]


def test_callback_that_raises_an_exit_does_not_run_again(loop, turn):
    order = []

    def leave():
        order.append("begun")
        raise SystemExit

    loop.call_soon(leave)
    with pytest.raises(SystemExit):
        turn()
    turn()
    assert order == ["begun"]


def test_reader_that_is_interrupted_before_it_begins_is_called_once(loop, turn, socket_pair):
    left, right = socket_pair()
    received = []
    loop.add_reader(left, lambda: received.append(left.recv(10)))
    loop.call_soon(_thread.interrupt_main)
    right.send(b"x")
    with pytest.raises(KeyboardInterrupt):
        turn()
    turn()
    turn()
    assert received == [b"x"]
    loop.remove_reader(left)
