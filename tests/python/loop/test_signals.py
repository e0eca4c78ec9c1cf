# SPDX-License-Identifier: MIT
"""Signals: handlers of the loop, handlers of Python, Ctrl-C."""

import asyncio
import ctypes
import os
import signal
import threading
import time

import pytest

SIGNAL = signal.SIGUSR1


@pytest.fixture(autouse=True)
def default_signals():
    """Every test starts and ends with default handlers and no wakeup descriptor."""
    numbers = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in (*numbers, signal.SIGINT)}
    yield
    assert {number: signal.getsignal(number) for number in before} == before
    assert wakeup_fd() == -1


def wakeup_fd():
    fd = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
    return fd


def kill_later(number=SIGNAL, delay=0.05):
    """Signals the main thread from another one while it sleeps in the kernel."""

    def body():
        time.sleep(delay)
        signal.pthread_kill(threading.main_thread().ident, number)

    thread = threading.Thread(target=body)
    thread.start()
    return thread


def kill_me(number=SIGNAL):
    os.kill(os.getpid(), number)


@pytest.fixture
def python_handler():
    """Installs a handler with signal.signal for the time of the test."""

    def install(function, number=SIGNAL):
        signal.signal(number, function)
        installed.append(number)

    installed = []
    yield install
    for number in installed:
        signal.signal(number, signal.SIG_DFL)


# Handlers of the loop


def test_handler_runs_in_the_loop(loop):
    seen = []

    def handler(*args):
        seen.append((args, asyncio.get_running_loop() is loop))
        loop.stop()

    assert loop.add_signal_handler(SIGNAL, handler, 1, "two") is None
    loop.call_soon(kill_me)
    loop.run_forever()
    assert loop.remove_signal_handler(SIGNAL) is True
    assert seen == [((1, "two"), True)]


def test_signal_wakes_a_sleeping_loop(loop):
    loop.add_signal_handler(SIGNAL, loop.stop)
    thread = kill_later()
    loop.run_forever()
    thread.join()
    loop.remove_signal_handler(SIGNAL)


def test_signal_before_the_run_is_kept(loop):
    seen = []
    loop.add_signal_handler(SIGNAL, lambda: (seen.append(1), loop.stop()))
    kill_me()
    assert seen == []
    loop.run_forever()
    loop.remove_signal_handler(SIGNAL)
    assert seen == [1]


def test_every_signal_of_several_arrives(loop):
    seen = []

    def handler(number):
        seen.append(number)
        if len(seen) == 3:
            loop.stop()

    numbers = [signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP]
    for number in numbers:
        loop.add_signal_handler(number, handler, number)
        kill_me(number)
    loop.run_forever()
    for number in numbers:
        assert loop.remove_signal_handler(number) is True
    assert seen == numbers


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # The wakeup descriptor is full.
def test_storm_of_signals_harms_nothing(loop):
    seen = []
    loop.add_signal_handler(SIGNAL, seen.append, 1)

    def storm():
        for _ in range(500):
            kill_me()
        loop.call_later(0.01, settle)

    def settle():
        loop.stop() if seen else loop.call_later(0.01, settle)

    loop.call_soon(storm)
    loop.run_forever()
    loop.remove_signal_handler(SIGNAL)
    assert seen


def test_second_handler_replaces_the_first(loop):
    seen = []
    loop.add_signal_handler(SIGNAL, seen.append, "first")
    loop.add_signal_handler(SIGNAL, lambda: (seen.append("second"), loop.stop()))
    kill_me()
    loop.run_forever()
    assert loop.remove_signal_handler(SIGNAL) is True
    assert loop.remove_signal_handler(SIGNAL) is False
    assert seen == ["second"]


def test_exception_in_a_handler_is_reported(loop, reported):
    def boom():
        loop.call_soon(loop.stop)
        raise ZeroDivisionError

    loop.add_signal_handler(SIGNAL, boom)
    kill_me()
    loop.run_forever()
    loop.remove_signal_handler(SIGNAL)
    assert isinstance(reported[0]["exception"], ZeroDivisionError)


def test_exit_in_a_handler_leaves_the_loop(loop):
    def leave():
        raise SystemExit(5)

    loop.add_signal_handler(SIGNAL, leave)
    kill_me()
    with pytest.raises(SystemExit) as info:
        loop.run_forever()
    loop.remove_signal_handler(SIGNAL)
    assert info.value.code == 5


def test_handler_may_remove_itself(loop):
    seen = []

    def handler():
        seen.append(loop.remove_signal_handler(SIGNAL))
        loop.stop()

    loop.add_signal_handler(SIGNAL, handler)
    kill_me()
    loop.run_forever()
    assert seen == [True]


def test_child_signals_can_be_handled(loop):
    loop.add_signal_handler(signal.SIGCHLD, loop.stop)
    pid = os.posix_spawn("/bin/true", ["true"], {})
    loop.run_forever()
    os.waitpid(pid, 0)
    loop.remove_signal_handler(signal.SIGCHLD)


def test_sleep_of_a_coroutine_survives_signals(loop, run):
    seen = []
    loop.add_signal_handler(SIGNAL, seen.append, 1)

    async def main():
        before = time.monotonic()
        threads = [kill_later(delay=0.02), kill_later(delay=0.04)]
        await asyncio.sleep(0.1)
        assert time.monotonic() - before >= 0.1
        for thread in threads:
            thread.join()

    run(main())
    loop.remove_signal_handler(SIGNAL)
    assert seen == [1, 1]


# Errors and cleaning up


@pytest.mark.parametrize(
    ("number", "kind", "text"),
    [
        ("SIGUSR1", TypeError, "sig must be an int, not 'SIGUSR1'"),
        (None, TypeError, "sig must be an int, not None"),
        (0, ValueError, "invalid signal number 0"),
        (12345, ValueError, "invalid signal number 12345"),
        (-1, ValueError, "invalid signal number -1"),
        (signal.SIGKILL, RuntimeError, f"sig {signal.SIGKILL} cannot be caught"),
        (signal.SIGSTOP, RuntimeError, f"sig {signal.SIGSTOP} cannot be caught"),
    ],
)
def test_signals_that_cannot_be_handled(loop, number, kind, text):
    with pytest.raises(kind) as info:
        loop.add_signal_handler(number, int)
    assert str(info.value) == text
    if kind is RuntimeError:
        assert loop.remove_signal_handler(number) is False
    else:
        with pytest.raises(kind):
            loop.remove_signal_handler(number)


def test_coroutine_is_no_handler(loop):
    async def handler():
        pass

    coroutine = handler()
    for callback in (handler, coroutine):
        with pytest.raises(TypeError, match=r"^coroutines cannot be used with add_signal_handler\(\)$"):
            loop.add_signal_handler(SIGNAL, callback)
    coroutine.close()


def test_only_the_main_thread_may_add_handlers(loop):
    texts = []

    def body():
        with pytest.raises(RuntimeError) as info:
            loop.add_signal_handler(SIGNAL, int)
        texts.append(str(info.value))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert "set_wakeup_fd only works in main thread" in texts[0]


def test_remove_restores_the_default(loop):
    before = signal.getsignal(signal.SIGINT)
    loop.add_signal_handler(SIGNAL, int)
    loop.add_signal_handler(signal.SIGINT, int)
    assert wakeup_fd() != -1
    assert callable(signal.getsignal(SIGNAL))
    assert loop.remove_signal_handler(SIGNAL) is True
    assert signal.getsignal(SIGNAL) is signal.SIG_DFL
    assert wakeup_fd() != -1
    assert loop.remove_signal_handler(signal.SIGINT) is True
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler is before
    assert wakeup_fd() == -1


def test_close_removes_all_handlers(loop):
    loop.add_signal_handler(SIGNAL, int)
    loop.add_signal_handler(signal.SIGHUP, int)
    loop.close()
    assert signal.getsignal(SIGNAL) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


def test_handlers_work_over_several_runs_and_loops(loop_factory):
    for _ in range(3):
        loop = loop_factory()
        for _ in range(3):
            loop.add_signal_handler(SIGNAL, loop.stop)
            kill_me()
            loop.run_forever()
            loop.remove_signal_handler(SIGNAL)
        loop.close()


# Handlers of Python


def test_python_handler_does_not_end_the_sleep(loop, python_handler):
    seen = []
    python_handler(lambda number, frame: seen.append(number))
    threads = [kill_later(delay=0.02), kill_later(delay=0.04)]
    deadline = loop.time() + 0.1
    loop.call_at(deadline, loop.stop)
    loop.run_forever()
    assert loop.time() >= deadline - 1e-8
    for thread in threads:
        thread.join()
    assert seen == [SIGNAL] * 2


def test_python_handler_may_call_the_loop(loop, python_handler):
    python_handler(lambda number, frame: loop.call_soon_threadsafe(loop.stop))
    thread = kill_later()
    loop.run_forever()
    thread.join()


def test_python_handler_that_raises_while_the_loop_sleeps_leaves_run_forever(loop, python_handler):
    def boom(number, frame):
        raise ZeroDivisionError("from the handler")

    python_handler(boom)
    seen = []
    loop.call_later(0.1, seen.append, "kept")
    thread = kill_later()
    with pytest.raises(ZeroDivisionError, match="^from the handler$"):
        loop.run_forever()
    thread.join()
    assert not loop.is_running()
    loop.call_later(0.1, loop.stop)
    loop.run_forever()
    assert seen == ["kept"]


def test_python_handler_that_raises_inside_a_callback_is_reported(loop, python_handler, reported, turn):
    def boom(number, frame):
        raise ZeroDivisionError

    python_handler(boom)
    loop.call_soon(kill_me)
    turn()
    assert isinstance(reported[0]["exception"], ZeroDivisionError)


def test_python_handler_runs_while_callbacks_never_end(loop, python_handler):
    python_handler(lambda number, frame: loop.stop())

    def again():
        loop.call_soon(again)

    again()
    thread = kill_later()
    loop.run_forever()
    thread.join()


# Ctrl-C, in a process of its own


INTERRUPTIBLE = {
    "run_forever asleep": "loop.call_soon(ready); loop.run_forever()",
    "run_forever with timers": "loop.call_soon(ready); loop.call_later(100, int); loop.run_forever()",
    "run_forever busy": """
def again():
    loop.call_soon(again)
loop.call_soon(ready)
again()
loop.run_forever()
""",
    "a busy callback": """
def busy():
    ready()
    while True:
        pass
loop.call_soon(busy)
loop.run_forever()
""",
    "a task": """
async def main():
    ready()
    await asyncio.sleep(100)
loop.run_until_complete(main())
""",
}


@pytest.mark.parametrize("body", INTERRUPTIBLE.values(), ids=INTERRUPTIBLE)
def test_ctrl_c_leaves_the_loop(script, body):
    source = (
        "loop = new_loop()\n"
        "def ready():\n    print('ready', flush=True)\n"
        "try:\n"
        + "".join(f"    {line}\n" for line in body.strip().splitlines())
        + "except KeyboardInterrupt:\n    print('interrupted', loop.is_running())\n"
        "loop.close()\n"
    )
    child = script(source)
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGINT)
    stdout, stderr = child.communicate(timeout=20)
    assert stdout == "interrupted False\n"
    assert child.returncode == 0
    assert "Task was destroyed" in stderr or stderr == ""


def test_ctrl_c_in_a_runner_cancels_the_main_task(script):
    child = script(
        """
        async def main():
            try:
                print("ready", flush=True)
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                print("cancelled")
                await asyncio.sleep(0)
                print("cleaned up")
                raise

        try:
            with asyncio.Runner(loop_factory=new_loop) as runner:
                runner.run(main())
        except KeyboardInterrupt:
            print("interrupted")
        """
    )
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGINT)
    stdout, stderr = child.communicate(timeout=20)
    assert stdout == "cancelled\ncleaned up\ninterrupted\n"
    assert stderr == ""


def test_ctrl_c_twice_breaks_a_stubborn_runner(script):
    child = script(
        """
        async def main():
            while True:
                try:
                    print("ready", flush=True)
                    await asyncio.sleep(100)
                except asyncio.CancelledError:
                    pass

        with asyncio.Runner(loop_factory=new_loop) as runner:
            try:
                runner.run(main())
            except KeyboardInterrupt:
                print("interrupted", flush=True)
                import os
                os._exit(7)
        """
    )
    for _ in range(2):
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGINT)
    stdout, _ = child.communicate(timeout=20)
    assert stdout == "interrupted\n"
    assert child.returncode == 7


def test_uncaught_ctrl_c_ends_the_process_as_usual(script):
    child = script("loop = new_loop()\nloop.call_soon(lambda: print('ready', flush=True))\nloop.run_forever()\n")
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGINT)
    _, stderr = child.communicate(timeout=20)
    assert stderr.rstrip().endswith("KeyboardInterrupt")
    assert child.returncode == -signal.SIGINT


def test_signal_during_a_native_callback_does_not_wait_for_the_end_of_a_sleep(loop, python_handler):
    raise_signal = ctypes.PyDLL(None)["raise"]  # unlike signal.raise_signal() it does not run the handler itself
    loop.call_soon(raise_signal, int(SIGNAL))
    late = loop.call_later(30, loop.stop)
    python_handler(lambda signum, frame: loop.call_soon(loop.stop))
    started = time.monotonic()
    loop.run_forever()
    assert time.monotonic() - started < 10
    late.cancel()


def test_what_a_signal_handler_writes_before_a_sleep_is_sent(loop, socket_pair, python_handler):
    ours, theirs = socket_pair()
    transport, _ = loop.run_until_complete(loop.connect_accepted_socket(asyncio.Protocol, ours))
    loop.add_reader(theirs, loop.stop)
    late = loop.call_later(30, loop.stop)
    loop.call_soon(ctypes.PyDLL(None)["raise"], int(SIGNAL))  # its handler runs after the callback, right before the sleep
    python_handler(lambda signum, frame: transport.write(b"by a handler"))
    started = time.monotonic()
    loop.run_forever()
    assert time.monotonic() - started < 10
    assert theirs.recv(100) == b"by a handler"
    late.cancel()
    loop.remove_reader(theirs)
    transport.close()
    loop.run_until_complete(asyncio.sleep(0))


# Whose wakeup descriptor it is


def test_loop_in_a_thread_leaves_the_signals_of_the_main_loop_alone(loop, loop_factory):
    seen = []

    def other_life():
        other = loop_factory()
        other.run_until_complete(asyncio.sleep(0))
        other.close()
        kill_me()

    loop.add_signal_handler(SIGNAL, lambda: (seen.append("handled"), loop.stop()))
    ours = wakeup_fd()
    thread = threading.Thread(target=other_life)
    thread.start()
    thread.join()
    assert wakeup_fd() == ours != -1
    loop.run_forever()
    assert seen == ["handled"]
    loop.remove_signal_handler(SIGNAL)


@pytest.mark.cxxloop_only("asyncio forgets the outer loop's descriptor")
def test_nested_loop_gives_the_wakeup_descriptor_back(loop, loop_factory):
    loop.add_signal_handler(SIGNAL, loop.stop)
    ours = wakeup_fd()
    inner = loop_factory()
    inner.add_signal_handler(signal.SIGUSR2, inner.stop)
    assert wakeup_fd() not in (ours, -1)
    kill_me(signal.SIGUSR2)
    inner.run_forever()
    inner.close()
    assert wakeup_fd() == ours
    kill_me()
    loop.run_forever()
    loop.remove_signal_handler(SIGNAL)


def test_loop_collected_in_another_thread_keeps_its_peace(run_script):
    """Its handlers can be removed by the main thread only; the interpreter ends well all the same."""
    result = run_script(
        """
        import gc, signal, threading, warnings
        warnings.simplefilter("ignore")
        loop = new_loop()
        loop.add_signal_handler(signal.SIGUSR1, print)
        loops = [loop]
        del loop

        def collect():
            loops.clear()
            gc.collect()

        thread = threading.Thread(target=collect)
        thread.start()
        thread.join()
        print("over")
        """,
    )
    assert result.stdout == "over\n"
