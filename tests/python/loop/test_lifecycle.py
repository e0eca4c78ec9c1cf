# SPDX-License-Identifier: MIT
"""Loops are made, closed, forgotten, and many at once; nothing stays behind."""

import asyncio
import contextlib
import gc
import logging
import os
import socket
import sys
import threading
import warnings
import weakref

import pytest


def test_new_loop(loop):
    assert isinstance(loop, asyncio.AbstractEventLoop)
    assert isinstance(loop, asyncio.BaseEventLoop)
    assert not loop.is_running()
    assert not loop.is_closed()
    assert loop.get_exception_handler() is None
    assert loop.slow_callback_duration == 0.1
    assert hash(loop) == hash(loop) and loop == loop  # noqa: PLR0124  # with itself: that is the test


def test_repr(loop, turn):
    name = type(loop).__name__
    assert repr(loop) == f"<{name} running=False closed=False debug=False>"
    seen = []
    loop.call_soon(lambda: seen.append(repr(loop)))
    turn()
    assert seen == [f"<{name} running=True closed=False debug=False>"]
    loop.close()
    assert repr(loop) == f"<{name} running=False closed=True debug=False>"


def test_close_twice(loop):
    assert loop.close() is None
    assert loop.is_closed()
    loop.close()
    assert loop.is_closed()


def test_close_drops_what_waits(loop):
    seen = []
    loop.call_soon(seen.append, 1)
    loop.call_later(0, seen.append, 2)
    loop.call_soon_threadsafe(seen.append, 3)
    loop.close()
    assert seen == []


def test_destructors_that_run_during_close_may_use_the_loop(loop):
    texts = []

    class Payload:
        def __del__(self):
            try:
                loop.call_soon(int)
            except RuntimeError as exc:
                texts.append(str(exc))

    loop.call_soon(print, Payload())
    loop.call_later(100, print, Payload())
    loop.close()
    gc.collect()
    assert texts == ["Event loop is closed"] * 2


def test_stop_of_a_closed_loop_is_harmless(loop):
    loop.close()
    loop.stop()
    assert not loop.is_running()


def test_unclosed_loop_warns(loop_factory):
    loop = loop_factory()
    text = repr(loop)
    with pytest.warns(ResourceWarning) as caught:
        del loop
        gc.collect()
    assert f"unclosed event loop {text}" in [str(warning.message) for warning in caught]


def test_closed_loop_does_not_warn(loop_factory):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loop = loop_factory()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        del loop
        gc.collect()


def test_loop_dies_after_close(loop_factory):
    loop = loop_factory()
    loop.call_later(100, int)
    loop.run_until_complete(asyncio.sleep(0))
    ref = weakref.ref(loop)
    loop.close()
    del loop
    gc.collect()
    assert ref() is None


def test_unclosed_loop_in_a_cycle_with_its_callbacks_dies(loop_factory, open_fds):
    before = open_fds()
    loop = loop_factory()
    left, right = socket.socketpair()
    loop.add_reader(left, loop.stop)
    loop.call_later(100, loop.stop)
    loop.call_soon(loop.stop)
    loop.call_soon_threadsafe(loop.stop)
    loop.itself = loop
    ref = weakref.ref(loop)
    del loop
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    assert ref() is None
    left.close()
    right.close()
    assert open_fds() == before


def test_descriptors_are_returned(loop_factory, open_fds):
    def cycle():
        loop = loop_factory()
        left, right = socket.socketpair()
        left.setblocking(False)
        loop.add_reader(left, int)
        loop.add_writer(left, int)
        loop.call_later(100, int)
        loop.call_soon_threadsafe(int)
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        left.close()
        right.close()

    cycle()
    before = open_fds()
    for _ in range(100):
        cycle()
    assert open_fds() == before


def test_descriptors_are_not_inherited(loop_factory, open_fds):
    before = open_fds()
    loop = loop_factory()
    loop.run_until_complete(asyncio.sleep(0))
    for fd in open_fds() - before:
        assert not os.get_inheritable(fd)
    loop.close()
    assert open_fds() == before


def test_making_a_loop_without_descriptors_left_is_an_os_error(run_script):
    result = run_script(
        """
        import os, resource
        new_loop().close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        blockers = []
        try:
            while True:
                blockers.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
        refused = 0
        for _ in range(4):
            for _ in range(3):
                try:
                    new_loop().close()
                except OSError as exc:
                    refused += 1
            os.close(blockers.pop())
        while blockers:
            os.close(blockers.pop())
        assert refused >= 3, refused
        loop = new_loop()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        """,
        options=("-W", "ignore::ResourceWarning"),
    )
    assert result.stdout == ""


def test_many_loops_at_once(loop_factory):
    loops = [loop_factory() for _ in range(100)]
    for _ in range(2):
        for number, loop in enumerate(loops):
            assert loop.run_until_complete(asyncio.sleep(0, number)) == number
    for loop in loops[::2] + loops[1::2]:
        loop.close()


def test_loops_in_threads(loop_factory):
    errors, finished = [], []

    async def main():
        loop = asyncio.get_running_loop()
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            right.setblocking(False)
            for _ in range(20):
                loop.call_later(0.0005, right.send, b"x")
                assert await loop.sock_recv(left, 1) == b"x"
        finished.append(loop)

    def body():
        try:
            for _ in range(3):
                with asyncio.Runner(loop_factory=loop_factory) as runner:
                    runner.run(main())
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=body) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(finished) == 24


def test_loop_may_be_made_in_one_thread_and_closed_in_another(loop_factory):
    loop = loop_factory()
    loop.run_until_complete(asyncio.sleep(0))
    thread = threading.Thread(target=loop.close)
    thread.start()
    thread.join()
    assert loop.is_closed()


def test_running_leaves_no_objects_behind(loop, turn):
    def work():
        for _ in range(200):
            loop.call_soon(int)
            loop.call_later(0, int)
            loop.call_later(100, int).cancel()
            loop.call_soon_threadsafe(int)
        loop.run_until_complete(asyncio.sleep(0.001))
        turn()

    for _ in range(3):
        work()
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(10):
        work()
    gc.collect()
    assert len(gc.get_objects()) - before < 100


def test_attributes_and_subclasses(loop_factory):
    plain = loop_factory()
    plain.anything = 1
    assert plain.anything == 1
    plain.close()

    class Mine(type(plain)):
        def __init__(self):
            super().__init__()
            self.calls = []

        def call_soon(self, callback, *args, context=None):
            self.calls.append(callback)
            return super().call_soon(callback, *args, context=context)

    loop = Mine()
    loop.call_soon(int)
    loop.run_until_complete(asyncio.sleep(0))
    assert loop.calls[0] is int
    loop.close()


@pytest.mark.parametrize(
    "source",
    [
        "loop = new_loop()\n",
        "loop = new_loop()\nloop.call_later(100, int)\nloop.call_soon(int)\n",
        "loop = new_loop()\nloop.run_until_complete(asyncio.sleep(0))\n",
        "import threading, time\n"
        "loop = new_loop()\n"
        "threading.Thread(target=loop.run_forever, daemon=True).start()\n"
        "while not loop.is_running(): time.sleep(0.001)\n",
        "import sys\nsys.modules['kept'] = new_loop()\n",
        "loop = new_loop()\nasync def main(): raise SystemExit(0)\nloop.run_until_complete(main())\n",
        "import signal\nloop = new_loop()\nloop.add_signal_handler(signal.SIGUSR1, int)\n",
    ],
)
def test_the_process_ends_well_with_an_unclosed_loop(run_script, source):
    run_script(source)


def test_second_init_keeps_what_the_loop_serves(loop_factory, socket_pair):
    loop = loop_factory()
    ours, peer = socket_pair()

    async def main():
        _, writer = await asyncio.open_connection(sock=ours)
        loop.__init__()
        writer.write(b"still here")
        assert await loop.sock_recv(peer, 100) == b"still here"
        writer.close()
        await writer.wait_closed()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the wake-up sockets of asyncio's first life
        loop.run_until_complete(main())
        loop.close()
        gc.collect()


@pytest.mark.cxxloop_only(reason="asyncio's destructor complains about a loop that was never made")
@pytest.mark.filterwarnings("error")
def test_loop_that_could_not_be_opened_dies_silently(loop_factory):
    import cxxloop

    with pytest.raises(ValueError, match="unknown backend"):
        cxxloop.Loop(backend="none of these")
    assert cxxloop.Loop.__new__(cxxloop.Loop).is_closed()
    gc.collect()


def test_unclosed_loop_in_a_cycle_with_its_transport_dies(loop_factory, socket_pair):
    ours, _ = socket_pair()

    class Protocol(asyncio.Protocol):
        pass

    def make():
        loop = loop_factory()
        protocol = Protocol()
        protocol.transport, _ = loop.run_until_complete(loop.create_connection(lambda: protocol, sock=ours))
        loop.run_until_complete(asyncio.sleep(0))
        protocol.loop = loop
        return weakref.ref(protocol)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        protocol = make()
        gc.collect()
        assert protocol() is None


def test_unclosed_loop_with_a_sleeping_task_dies(loop_factory):
    def make():
        loop = loop_factory()
        loop.keeps = loop.create_task(asyncio.sleep(1000))
        loop.run_until_complete(asyncio.sleep(0))
        loop.keeps._log_destroy_pending = False
        return weakref.ref(loop)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        loop = make()
        gc.collect()
        assert loop() is None


def test_handle_queued_after_close_dies_with_the_loop(loop_factory):
    loop = loop_factory()
    handle = loop.call_soon(len)
    loop.close()
    loop._add_callback(handle)
    dead = weakref.ref(loop)
    del loop, handle
    gc.collect()
    assert dead() is None


def test_close_lets_a_waiting_thread_run(loop_factory):
    interval = sys.getswitchinterval()
    sys.setswitchinterval(5)  # only a thread that lets go of the GIL lets another one run
    ran = False
    rounds_left = 5000
    try:
        while not ran and rounds_left > 0:
            rounds_left -= 1
            loop = loop_factory()
            begin, end = threading.Lock(), threading.Event()
            begin.acquire()
            thread = threading.Thread(target=lambda begin=begin, end=end: (begin.acquire(), end.set()))
            thread.start()
            begin.release()
            loop.close()
            ran = end.is_set()
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert ran


def test_single_turn_in_which_the_report_of_a_failed_write_closes_the_loop(loop_factory, monkeypatch):
    """A program may call _run_once() itself; the loop does not count as running then, and can be closed."""
    loop = loop_factory()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    transport, _ = loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=ours))
    del ours  # who shares the socket has it sent at once, not at the end of the callback
    theirs.close()
    loop.set_debug(True)

    def close_loop(*args, **kwargs):
        loop.set_debug(False)  # or close() is logged, too
        loop.close()

    monkeypatch.setattr(logging.getLogger("asyncio"), "debug", close_loop)
    loop.call_soon(transport.write, b"lost")
    with pytest.raises((RuntimeError, IndexError)):
        loop._run_once()
    assert loop.is_closed()


def test_one_turn_inside_a_callback(loop):
    seen = []

    def nest():
        loop.call_soon(seen.append, "inner")
        loop._run_once()
        seen.append("back")
        loop.stop()

    loop.call_soon(nest)
    loop.run_forever()
    assert seen == ["inner", "back"]


def test_closed_loop_dies_with_its_last_reference(loop_factory):
    gc.collect()
    gc.disable()
    try:
        loop = loop_factory()
        loop.run_until_complete(asyncio.sleep(0.001))
        loop.close()
        alive = weakref.ref(loop)
        del loop
        assert alive() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("answer", [float("-inf"), float("nan"), -1e300, 1e300])
def test_clock_of_a_program_that_answers_what_is_no_time(loop_factory, answer):
    class Loop(loop_factory().__class__):
        def time(self):
            return answer if self.is_running() else super().time()

    loop = Loop()
    loop.call_later(0.001, int)
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()


CLOSED_BY = """
import asyncio, socket, sys, warnings
warnings.simplefilter("ignore")
loop = new_loop()
loop.set_exception_handler(lambda loop, context: None)

class Datagrams(asyncio.DatagramProtocol):
    def datagram_received(self, data, address):
        loop.close()

def factory():
    loop.close()
    return asyncio.Protocol()

async def start():
    if sys.argv[1] == "datagrams":
        return (await loop.create_datagram_endpoint(Datagrams, local_addr=("127.0.0.1", 0)))[0]
    return (await loop.create_server(factory, "127.0.0.1", 0)).sockets[0]

served = loop.run_until_complete(start())
address = served.get_extra_info("sockname") if sys.argv[1] == "datagrams" else served.getsockname()
peers = []
for _ in range(3):
    if sys.argv[1] == "datagrams":
        peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        peer.sendto(b"x", address)
    else:
        peer = socket.create_connection(address)
    peers.append(peer)
try:
    while True:
        loop._run_once()
except Exception as error:
    print("left", loop.is_closed())
"""


@pytest.mark.cxxloop_only("asyncio raises AttributeError or IndexError, or hangs, by version")
@pytest.mark.parametrize("served", ["datagrams", "server"])
def test_program_that_turns_the_loop_closes_it_inside_a_callback(run_script, served):
    assert run_script(CLOSED_BY, served).stdout.strip() == "left True"


@pytest.mark.parametrize("what", ["sleep", "callback", "debug"])
def test_clock_of_a_program_that_closes_the_loop(loop_factory, what):
    class Loop(loop_factory().__class__):
        armed = False

        def time(self):
            if self.armed:
                self.armed = False
                self.close()
            return super().time()

    loop = Loop()
    loop.set_debug(what == "debug")
    if what == "sleep":
        loop.call_later(5, print)
    else:
        loop.call_later(0, int)
        loop.call_soon(int)
    loop.armed = True
    with contextlib.suppress(Exception):
        loop._run_once()
    assert loop.is_closed()
