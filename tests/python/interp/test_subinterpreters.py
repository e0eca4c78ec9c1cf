# SPDX-License-Identifier: MIT
"""Loops in sub-interpreters with a GIL of their own, one after the other and side by side."""

import sys

import pytest

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 13), reason="asyncio cannot be imported in a sub-interpreter with its own GIL before 3.13"
)

# In each interpreter: timers, an echo over TCP, calls from another thread, and a clean end.
PROGRAM = """
import asyncio, threading
loop = new_loop()

async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()

async def main():
    started = loop.time()
    await asyncio.sleep(0.005)
    assert loop.time() - started >= 0.005
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    text = bytes(range(256)) * 2000
    writer.write(text)
    writer.write_eof()
    assert await reader.read() == text
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()

    called, done = [], asyncio.Event()
    def call(number):
        called.append(number)
        if len(called) == 100:
            done.set()
    def flood():
        for number in range(100):
            loop.call_soon_threadsafe(call, number)
    thread = threading.Thread(target=flood)
    thread.start()
    await done.wait()
    thread.join()
    assert called == list(range(100))

loop.run_until_complete(asyncio.wait_for(main(), 20))
loop.close()
"""

# The loop and its transport are destroyed with their interpreter.
UNCLOSED = """
import socket, warnings
warnings.simplefilter("ignore")
loop = new_loop()
near, far = socket.socketpair()
near.setblocking(False)
transport, _ = loop.run_until_complete(loop.connect_accepted_socket(asyncio.Protocol, near))
transport.write(bytes(1000000))
loop.add_reader(far, print)
loop.call_later(1000, print)
"""

HOST = """
    import threading

    try:
        import _interpreters
    except ImportError:
        import _xxsubinterpreters as _interpreters

    PROGRAM = {program!r}
    search_path = {search_path!r}

    def run_in_interpreter(cycles):
        for _ in range(cycles):
            interpreter = _interpreters.create("isolated")
            try:
                failure = _interpreters.run_string(
                    interpreter, "import sys; sys.path[:] = " + repr(search_path) + PROGRAM
                )
                if failure is not None:
                    failures.append(failure)
            finally:
                _interpreters.destroy(interpreter)

    def side_by_side(threads, cycles):
        workers = [threading.Thread(target=run_in_interpreter, args=(cycles,)) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    failures = []
    {body}
    assert failures == [], failures
    print("done")
"""


@pytest.fixture
def host(run_script, loop_factory_source):
    """Runs a body in a process of its own that makes interpreters; it must end well."""
    def host(body, program=PROGRAM):
        program = "\n" + loop_factory_source + program
        result = run_script(HOST.format(program=program, search_path=sys.path, body=body))
        assert result.stdout.strip() == "done", result.stderr

    return host


def test_loop_in_a_sub_interpreter(host):
    host("run_in_interpreter(1)")


def test_interpreters_come_and_go(host):
    host("run_in_interpreter(20)")


def test_two_interpreters_at_once(host):
    host("side_by_side(threads=2, cycles=10)")


def test_the_main_interpreter_has_a_loop_too(host):
    host("loop = new_loop(); run_in_interpreter(2); loop.run_until_complete(asyncio.sleep(0)); loop.close()")


def test_interpreter_that_dies_with_an_open_loop(host):
    host("run_in_interpreter(5)", program=UNCLOSED)
