# SPDX-License-Identifier: MIT
"""Lets each allocation of a scene fail, one after the other, each time in a child process of its own.

    python no_memory_sweep.py LOOP KIND RUNS_MAX [SCENE...]

KIND says which allocations fail from the n-th on: `one`, `five` or `forty` of Python's, or the `rest`; with fail_allocation.so
loaded before the C library, `core` (one of _core's own) or `core_rest`. RUNS_MAX: so many n of each scene; 0: every n. Prints
one line of JSON for each scene.
"""

import asyncio
import contextlib
import ctypes
import faulthandler
import gc
import json
import logging
import os
import re
import signal
import socket
import sys
import threading
import types

from no_memory_scenes import SCENES

KINDS = {"one": 1, "five": 5, "forty": 40, "rest": None, "core": 1, "core_rest": None}
HANG_SECONDS = 10
SPIN_SECONDS = 0.5  # of the processor
ALLOCATIONS_MAX = 50_000
FINE, REACHED, BROKEN = 0, 40, 41


def new_loop(name):
    if name == "asyncio":
        return asyncio.SelectorEventLoop()
    import cxxloop

    return cxxloop.new_event_loop()


class PythonsAllocations:
    """CPython's own hooks: its tests use them."""

    def __init__(self, length):
        self._length = length
        self._testcapi = __import__("_testcapi")

    def arm(self, n):
        self._testcapi.set_nomemory(n, n + self._length if self._length else 0)

    def arm_for_counting(self, n):
        self._testcapi.set_nomemory(n, 0)

    def is_failing(self):
        try:
            bytes(1000)
        except MemoryError:
            return True
        return False

    def disarm(self):
        self._testcapi.remove_mem_hooks()


class CoresAllocations:
    """Those that _core.so asks the C library for, and C++'s new."""

    def __init__(self, length):
        self._length = length
        self._library = ctypes.CDLL(None)

    def arm(self, n):
        self._library.fail_allocations_of(b"/_core.", n, self._length or 0)

    def arm_for_counting(self, n):
        self._library.fail_allocations_of(b"/_core.", n, 0)

    def is_failing(self):
        return self._library.are_allocations_failing() != 0

    def disarm(self):
        self._library.stop_failing_allocations()


OUR_TYPES = "Loop|Handle|TimerHandle|_ThreadSafeHandle|StreamTransport|DatagramTransport|SockOp|PipeBuffer|SSLProtocol"


def is_ours(error):
    """A SystemError: a function in C says failure without an exception, or success with one. CPython has such functions too."""
    return re.search(rf"method \w+ of ({OUR_TYPES}|\w+PipeTransport) object", str(error)) is not None


class Witness:
    """Keeps the first exception that no allocation can explain."""

    def __init__(self):
        self.found = None
        self.stops_the_loop = True  # what the report is about may be all that the scene waits for

    def note(self, exception, where):
        seen = set()
        while exception is not None and id(exception) not in seen:
            seen.add(id(exception))
            if isinstance(exception, SystemError) and is_ours(exception):
                self.found = self.found or f"{where}: {exception!r}"
            exception = exception.__cause__ or exception.__context__

    def watch(self, loop):
        def on_report(loop, context):
            self.note(context.get("exception"), "reported")
            if self.stops_the_loop:
                loop.call_later(0.01, loop.stop)

        loop.set_exception_handler(on_report)
        sys.unraisablehook = lambda raised: self.note(raised.exc_value, "unraisable")
        threading.excepthook = lambda raised: self.note(raised.exc_value, "in a thread")


def run_a_little(loop):
    """Callbacks are called; what still waits to leave run_forever() may do so first."""
    for _ in range(4):
        called = []
        try:
            loop.call_soon(called.append, 1)
            loop.call_later(0.002, loop.stop)
            loop.run_forever()
        except BaseException:
            continue
        if called:
            return
    raise AssertionError("the loop calls nobody any more")


async def echo_once(loop):
    class Echo(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            self.transport.write(data)

    a, b = socket.socketpair()
    b.setblocking(False)
    transport, _ = await loop.create_connection(Echo, sock=a)
    await loop.sock_sendall(b, b"hello")
    assert await loop.sock_recv(b, 100) == b"hello"
    transport.close()
    await asyncio.sleep(0)


def run_to_its_end(loop, main):
    task = loop.create_task(main)
    for _ in range(4):
        with contextlib.suppress(RuntimeError):  # stopped by what is left of the scene
            return loop.run_until_complete(task)
    raise AssertionError("the loop stops all the time")


def check_loop(loop):
    asyncio._set_running_loop(None)  # without memory asyncio's run_forever() may leave itself behind as running
    run_a_little(loop)
    for timer in list(loop._scheduled):  # what would stop the loop
        timer.cancel()
    run_to_its_end(loop, asyncio.wait_for(echo_once(loop), 5))
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    run_a_little(loop)
    loop.close()


def count(name, scene, allocations, n):
    """In a child: does the scene make more than `n` allocations?"""
    # CPython's own exception handling spins while not one allocation succeeds.
    signal.setitimer(signal.ITIMER_PROF, SPIN_SECONDS)
    loop = new_loop(name)
    reached = True
    try:
        try:
            scene(loop, lambda: allocations.arm_for_counting(n))
        finally:
            reached = allocations.is_failing()
            allocations.disarm()
    except BaseException:
        pass
    return REACHED if reached else FINE


def play(name, scene, allocations, n):
    """In a child: what becomes of the process is the result."""
    witness = Witness()
    loop = new_loop(name)
    witness.watch(loop)
    try:
        try:
            scene(loop, lambda: allocations.arm(n))
        finally:
            allocations.disarm()
    except BaseException as exc:
        witness.note(exc, "raised")
    witness.stops_the_loop = False
    try:
        check_loop(loop)
    except BaseException as exc:
        witness.found = witness.found or f"afterwards: {exc!r}"
    del loop
    gc.collect()
    if witness.found is not None:
        os.write(2, witness.found.encode())
        return BROKEN
    return FINE


def run_child(act):
    """(status of the child that did `act`, what it has said)"""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writer, 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        signal.setitimer(signal.ITIMER_REAL, HANG_SECONDS)
        status = BROKEN
        try:
            status = act()
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader, "rb") as said:
        text = said.read()
    return os.waitpid(child, 0)[1], text.decode(errors="replace")


def count_allocations(name, scene, allocations, precision):
    def is_reached(n):
        status, _ = run_child(lambda: count(name, scene, allocations, n))
        return not os.WIFEXITED(status) or os.WEXITSTATUS(status) != FINE

    low, high = 0, 32
    while high < ALLOCATIONS_MAX and is_reached(high):
        low, high = high, high * 2
    while high - low > max(1, high // precision):
        middle = (low + high) // 2
        low, high = (middle, high) if is_reached(middle) else (low, middle)
    return high


def describe(status, text):
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        place = re.search(r'File "(?:.*/)?(.*?/.*)", (line .*)', text)  # of faulthandler
        name = "hangs" if number == signal.SIGALRM else signal.Signals(number).name
        return f"{name} in {place[1]} {place[2]}" if place else name
    return text.splitlines()[-1] if os.WEXITSTATUS(status) == BROKEN and text else f"exits with {os.WEXITSTATUS(status)}"


def sweep(name, kind, scene, runs_max):
    kind_of_allocations = CoresAllocations if kind.startswith("core") else PythonsAllocations
    allocations = kind_of_allocations(KINDS[kind])
    total = count_allocations(name, scene, allocations, 1 if runs_max else 64)
    step = max(1, -(-total // runs_max)) if runs_max else 1
    bad = {}
    for n in range(0, total, step):
        status, text = run_child(lambda n=n: play(name, scene, allocations, n))
        if status != 0:
            bad.setdefault(describe(status, text), []).append(n)
    return {"total": total, "runs": len(range(0, total, step)), "bad": bad}


def make_room_for_tasks():
    """CPython 3.13 dies when memory is out for a larger table of the tasks that run."""
    running = getattr(asyncio.tasks, "_current_tasks", {})
    running.update((n, None) for n in range(20_000))
    for n in range(20_000):
        del running[n]


def all_code_objects():
    gc.unfreeze()  # what is frozen is not told
    found, waiting = {}, [function.__code__ for function in gc.get_objects() if isinstance(function, types.FunctionType)]
    while waiting:
        code = waiting.pop()
        if id(code) not in found:
            found[id(code)] = code
            waiting += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    gc.freeze()
    return list(found.values())


def keep_code_objects():
    """CPython 3.12 and 3.13 drop one reference too many to the code of a function or generator expression that has no memory.

    https://github.com/python/cpython/issues/122752: soon the function around it holds freed memory, on any loop.
    """
    return all_code_objects() * 64 if (3, 12) <= sys.version_info < (3, 14) else []


def warm_up(name, scene):
    """Caches are filled and modules imported, so that all children begin alike."""
    for _ in range(2):
        loop = new_loop(name)
        scene(loop, lambda: None)
        run_a_little(loop)
        loop.run_until_complete(loop.shutdown_default_executor())  # no thread may run when the process forks
        loop.close()
    gc.collect()
    gc.freeze()


def main(name, kind, runs_max, *scenes):
    faulthandler.enable()
    logging.disable()
    make_room_for_tasks()
    for scene in scenes or SCENES:
        with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing), contextlib.redirect_stderr(nothing):
            warm_up(name, SCENES[scene])
        kept = keep_code_objects()  # as long as the children play
        print(json.dumps({"scene": scene, "kind": kind, **sweep(name, kind, SCENES[scene], int(runs_max))}), flush=True)
        del kept


if __name__ == "__main__":
    main(*sys.argv[1:])
