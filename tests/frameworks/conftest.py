# SPDX-License-Identifier: MIT
"""The fixtures of the behaviour tests, for servers and clients that run on top of a loop."""

import asyncio
import contextlib
import importlib.util
import pathlib
import subprocess
import sys

import cxxloop
import pytest

pytest.register_assert_rewrite("http_suite", "stories")

from servers import Missing, PostgreSQL, Redis  # noqa: E402  # after what says how they are imported
from stories import Storyteller  # noqa: E402  # after what says how they are imported

_PATH = pathlib.Path(__file__).parents[1] / "python" / "conftest.py"
_SPEC = importlib.util.spec_from_file_location("behaviour_fixtures", _PATH)
behaviour = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(behaviour)

pytest_generate_tests = behaviour.pytest_generate_tests
pytest_pyfunc_call = behaviour.pytest_pyfunc_call
loop_factory = behaviour.loop_factory
asyncio_records = behaviour.asyncio_records
logged_errors = behaviour.logged_errors
loop = behaviour.loop
reported = behaviour.reported
run = behaviour.run
open_fds = behaviour.open_fds
script = behaviour.script
run_script = behaviour.run_script


def pytest_addoption(parser):
    try:
        behaviour.pytest_addoption(parser)
    except ValueError:
        pass  # Both folders are run at once: the other conftest has added it.


def pytest_configure(config):
    behaviour.pytest_configure(config)


@pytest.fixture
def same_story(asyncio_records, open_fds):
    """Plays a scene on asyncio and on cxxloop: see stories.py."""
    factories = {"asyncio": asyncio.SelectorEventLoop, "cxxloop": cxxloop.new_event_loop}
    return Storyteller(factories, asyncio_records, open_fds)


def serve(kind):
    try:
        server = kind()
    except Missing as missing:
        pytest.skip(str(missing))
    with contextlib.closing(server):
        yield server


@pytest.fixture(scope="session")
def postgres():
    yield from serve(PostgreSQL)


@pytest.fixture(scope="session")
def redis_server():
    yield from serve(Redis)


@pytest.fixture
def server_process(tmp_path):
    """Starts `python -m ...` as a server; it is stopped at the end of the test."""
    processes = []

    def start(*arguments):
        environment = dict(behaviour.os.environ)
        paths = [str(pathlib.Path(__file__).parent), *(p for p in sys.path if p)]
        environment["PYTHONPATH"] = behaviour.os.pathsep.join(paths)
        log = (tmp_path / f"server{len(processes)}.log").open("w+")
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments], stdout=log, stderr=subprocess.STDOUT, env=environment
        )
        processes.append((process, log))
        return process

    yield start
    for process, log in processes:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        log.seek(0)
        print(log.read())  # pytest shows it when the test has failed
        log.close()
