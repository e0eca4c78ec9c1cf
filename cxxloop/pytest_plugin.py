# SPDX-License-Identifier: MIT
"""Runs an existing test suite on cxxloop, without a change to it: pytest -p cxxloop.pytest_plugin

Whatever asks asyncio for its default event loop gets cxxloop's: asyncio.run(), asyncio.Runner, new_event_loop(),
unittest.IsolatedAsyncioTestCase, pytest-asyncio of any version, AnyIO's asyncio backend, aiohttp's fixtures. A loop that a
suite chooses by name, by a policy or by a loop factory stays its choice.
"""

import asyncio
import contextlib
import os

import pytest

from ._build import build_info
from ._install import activate, uninstall
from ._loop import Loop


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("cxxloop").addoption(
        "--cxxloop-backend",
        choices=("auto", *build_info().backends),
        help="what cxxloop's event loops poll with (default: the environment variable CXXLOOP_BACKEND, or the best one)",
    )


# First, so that a policy set by a conftest.py comes later and wins. Not called if a conftest.py loads this plugin.
@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    activate()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    backend = config.getoption("--cxxloop-backend")
    if backend is not None:
        os.environ["CXXLOOP_BACKEND"] = backend  # for the processes that tests start, too
    activate()


# Suites clean up with set_event_loop_policy(None): the default policy. That is cxxloop's here.
@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    activate()


def pytest_unconfigure() -> None:
    uninstall()


def pytest_report_header() -> str:
    info = build_info()
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        if isinstance(loop, Loop):
            return f"cxxloop: {info.version}, backend {loop._backend_name()} ({info.poller}), loop cxxloop.Loop"
        kind = type(loop)
        return f"cxxloop: {info.version}, not in use: the suite's default event loop is {kind.__module__}.{kind.__qualname__}"
