# SPDX-License-Identifier: MIT
"""Fixtures of the behaviour tests: every test runs on asyncio, the reference, and on cxxloop."""

import asyncio
import contextlib
import faulthandler
import functools
import gc
import inspect
import logging
import os
import signal
import socket
import ssl
import subprocess
import sys
import textwrap
import time

import pytest

LOOP_NAMES = ("asyncio", "cxxloop")
LOOP_FACTORY_SOURCE = {
    "asyncio": "import asyncio\nnew_loop = asyncio.SelectorEventLoop\n",
    "cxxloop": "import asyncio, cxxloop\nnew_loop = cxxloop.new_event_loop\n",
}
HANG_S = 40  # A test that runs longer hangs: it fails and the run goes on.
STUCK_S = 90  # A hang that no signal can break ends the process with a dump of all threads.
ERRORS = pytest.StashKey[int]()  # the descriptor of stderr: what is captured dies with the process


class Hang(KeyboardInterrupt):
    """Raised in the main thread by the watchdog; a KeyboardInterrupt so that no loop may swallow it."""


def pytest_addoption(parser):
    parser.addoption(
        "--loop",
        choices=(*LOOP_NAMES, "both"),
        default="both",
        help="the event loop the behaviour tests run on",
    )


def pytest_configure(config):
    config.addinivalue_line("markers", "cxxloop_only(reason): a promise asyncio does not make")
    config.addinivalue_line("markers", "prompt_only(reason): a promise that the backend \"late\" keeps a turn later")
    config.addinivalue_line("markers", "asyncio_only(reason): checks the reference itself")
    config.addinivalue_line("markers", "any_backend(reason): starts processes that have the ordinary backend in each run")
    config.stash[ERRORS] = os.dup(2)
    # Ignored in what a shell starts in the background or through nohup, and inherited by every process of the tests.
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def pytest_collection_finish():
    # Each test ends with a full collection, which need not look at pytest and the modules again.
    gc.collect()
    gc.freeze()


def pytest_generate_tests(metafunc):
    if "loop_name" not in metafunc.fixturenames:
        return
    chosen = metafunc.config.getoption("--loop")
    names = list(LOOP_NAMES) if chosen == "both" else [chosen]
    for name in LOOP_NAMES:
        if metafunc.definition.get_closest_marker(f"{name}_only"):
            names = [n for n in names if n == name]
    metafunc.parametrize("loop_name", names)


def _is_repetition(item, chosen, is_late):
    """Whether another run of CI has the same test: one of the other loop, one that takes no loop, one without the backend."""
    if is_late and item.get_closest_marker("any_backend"):
        return True
    if any(name != chosen and item.get_closest_marker(f"{name}_only") for name in LOOP_NAMES):
        return True
    return chosen == "asyncio" and "loop_name" not in item.fixturenames and not item.get_closest_marker("asyncio_only")


def pytest_collection_modifyitems(config, items):
    """With one loop chosen, what says nothing about it is deselected; "late" skips what comes a turn later there."""
    is_late = os.environ.get("CXXLOOP_BACKEND") == "late"
    for item in items if is_late else []:
        if (mark := item.get_closest_marker("prompt_only")) and "asyncio" not in item.name:
            item.add_marker(pytest.mark.skip(reason=f"not on the backend 'late': {mark.args[0]}"))
    chosen = config.getoption("--loop")
    if chosen == "both":
        return
    repetitions = {item for item in items if _is_repetition(item, chosen, is_late)}
    if repetitions:
        config.hook.pytest_deselected(items=list(repetitions))
        items[:] = [item for item in items if item not in repetitions]


def _raise_hang(signum, frame):
    faulthandler.dump_traceback(all_threads=True)
    raise Hang(f"no end after {HANG_S} s")


@contextlib.contextmanager
def _watchdog(errors):
    previous = signal.signal(signal.SIGALRM, _raise_hang)
    signal.setitimer(signal.ITIMER_REAL, HANG_S)
    faulthandler.dump_traceback_later(STUCK_S, exit=True, file=errors)
    try:
        yield
    except Hang as hang:
        pytest.fail(f"hang: {hang}")
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    if inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    with _watchdog(pyfuncitem.config.stash[ERRORS]):
        pyfuncitem.obj(**arguments)
    return True


class RecordList(logging.Handler):
    """Keeps what the `asyncio` logger says, formatted at once: the arguments may change later."""

    def __init__(self):
        super().__init__(logging.DEBUG)
        self.records = []

    def emit(self, record):
        self.records.append((record.levelno, record.getMessage()))

    def texts(self, level):
        return [text for levelno, text in self.records if levelno == level]


@pytest.fixture
def loop_factory(loop_name):
    """Makes a new event loop of the kind under test."""
    if loop_name == "asyncio":
        return asyncio.SelectorEventLoop
    import cxxloop

    return cxxloop.new_event_loop


@pytest.fixture
def loop_factory_source(loop_name):
    """The source of `new_loop`, which makes a loop of the kind under test."""
    return LOOP_FACTORY_SOURCE[loop_name]


@pytest.fixture
def asyncio_records():
    """Everything logged by asyncio's logger during the test, at every level."""
    handler = RecordList()
    logger = logging.getLogger("asyncio")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.setLevel(level)
    logger.removeHandler(handler)


@pytest.fixture
def logged_errors(asyncio_records):
    """Opt in: the test expects errors in the log. A function that returns their texts."""
    return lambda: asyncio_records.texts(logging.ERROR)


@pytest.fixture
def loop(request, loop_factory, asyncio_records):
    """A fresh loop. An error that reaches the log fails a test that did not ask for `logged_errors`."""
    loop = loop_factory()
    loop.set_debug(False)  # -X dev turns it on; a test that wants it says so.
    yield loop
    assert not loop.is_running()
    loop.close()
    del loop
    gc.collect()
    if "logged_errors" not in request.fixturenames:
        assert asyncio_records.texts(logging.ERROR) == []


@pytest.fixture
def reported(loop):
    """Opt in: the contexts given to the loop's exception handler, which is replaced by a recorder."""
    contexts = []
    loop.set_exception_handler(lambda loop, context: contexts.append(context))
    yield contexts
    contexts.clear()


@pytest.fixture
def run(loop):
    """Runs a coroutine to its end, or fails after `timeout` seconds."""

    def run(main, *, timeout=10):
        return loop.run_until_complete(asyncio.wait_for(main, timeout))

    return run


@pytest.fixture
def turn(loop):
    """Runs one turn of the loop: stop() asks for the turn that is under way to be the last."""

    def turn():
        loop.stop()
        loop.run_forever()

    return turn


@pytest.fixture
def open_fds():
    """Returns the set of file descriptors open now (asks the kernel: a sandbox may have no /proc)."""

    def is_open(fd):
        try:
            os.fstat(fd)
        except OSError:
            return False
        return True

    def open_fds():
        return {fd for fd in range(2048) if is_open(fd)}

    return open_fds


@pytest.fixture
def socket_pair():
    """Makes connected non-blocking pairs, closed at the end."""
    with contextlib.ExitStack() as stack:

        def socket_pair(type=socket.SOCK_STREAM):
            left, right = socket.socketpair(socket.AF_UNIX, type)
            for sock in (left, right):
                sock.setblocking(False)
                stack.enter_context(sock)
            return left, right

        yield socket_pair


@pytest.fixture
def pipe():
    """A non-blocking pipe: its read end and its write end."""
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    os.set_blocking(write_end, False)
    yield read_end, write_end
    for fd in (read_end, write_end):
        with contextlib.suppress(OSError):
            os.close(fd)


@pytest.fixture
def cpu_time_of_sleep(loop):
    """Lets the loop wait for a timer; returns the seconds of CPU this thread burnt meanwhile."""

    def cpu_time_of_sleep(seconds):
        before = time.thread_time()
        loop.call_later(seconds, loop.stop)
        loop.run_forever()
        return time.thread_time() - before

    return cpu_time_of_sleep


@pytest.fixture
def listener():
    """A listening TCP socket on the loopback address, non-blocking."""
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock


# tls_peer is imported where TLS is tested: tests/frameworks takes fixtures of this file and cannot import its neighbours.


@pytest.fixture(scope="session")
def tls_contexts():
    """(of a server, of a client that trusts it)"""
    from tls_peer import make_contexts

    return make_contexts()


@pytest.fixture(scope="session")
def server_context():
    """Of a TLS server."""
    from tls_peer import make_server_context

    return make_server_context()


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda version: version.name)
def client_context(request):
    """Of a TLS client that trusts everybody and speaks one version."""
    from tls_peer import make_client_context

    return make_client_context(request.param)


@pytest.fixture
def connect(server_context, client_context):
    """Makes TLS connections of a served protocol and a peer: see tls_peer.connected()."""
    from tls_peer import connected

    return functools.partial(connected, server_context, client_context)


@pytest.fixture
def script(loop_name, tmp_path):
    """Starts a Python script in its own process; `new_loop` in it makes a loop of the kind under test."""
    with contextlib.ExitStack() as stack:

        def script(source, *args, options=(), env=None):
            path = tmp_path / "script.py"
            path.write_text(LOOP_FACTORY_SOURCE[loop_name] + textwrap.dedent(source))
            environment = dict(os.environ, PYTHONPATH=os.pathsep.join(p for p in sys.path if p), **(env or {}))
            child = subprocess.Popen(
                [sys.executable, *options, str(path), *args],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment,
            )
            stack.callback(child.wait)
            stack.callback(child.kill)
            for pipe in (child.stdin, child.stdout, child.stderr):
                stack.callback(pipe.close)
            return child

        yield script


@pytest.fixture
def run_script(script):
    """Runs a script to its end; the result has returncode, stdout and stderr."""

    def run_script(source, *args, options=(), env=None, check=True):
        child = script(source, *args, options=options, env=env)
        stdout, stderr = child.communicate(timeout=30)
        result = subprocess.CompletedProcess(child.args, child.returncode, stdout, stderr)
        if check:
            assert result.returncode == 0, stderr
        return result

    return run_script
