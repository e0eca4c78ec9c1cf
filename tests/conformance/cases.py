# SPDX-License-Identifier: MIT
"""Which of CPython's own tests run, and how those that choose a loop themselves are given ours."""

import asyncio
import importlib
import unittest
from collections.abc import Iterator
from types import ModuleType

import loops
import mock_loops

PACKAGE = "test.test_asyncio"

MODULES = (
    "test_base_events",
    "test_buffered_proto",
    "test_context",
    "test_eager_task_factory",
    "test_events",
    "test_free_threading",
    "test_futures",
    "test_futures2",
    "test_graph",
    "test_locks",
    "test_pep492",
    "test_queues",
    "test_runners",
    "test_sendfile",
    "test_server",
    "test_server_context",
    "test_sock_lowlevel",
    "test_ssl",
    "test_sslproto",
    "test_staggered",
    "test_streams",
    "test_subprocess",
    "test_taskgroups",
    "test_tasks",
    "test_threads",
    "test_timeouts",
    "test_tools",
    "test_unix_events",
    "test_waitfor",
)

LEFT_OUT = {
    "test_proactor_events": "mocks of the loop for Windows",
    "test_protocols": "abstract classes: no loop",
    "test_selector_events": "mocks of asyncio's selector loop and of its transports",
    "test_transports": "abstract classes: no loop",
    "test_windows_events": "Windows",
    "test_windows_utils": "Windows",
}

# The classes that make their loop in a method of their own: a row each in the summary.
LOOP_METHODS = {
    "test_buffered_proto.BufferedProtocolSelectorTests": "new_loop",
    "test_events.SelectEventLoopTests": "create_event_loop",
    "test_sendfile.SelectEventLoopTests": "create_event_loop",
    "test_server.SelectorStartServerTests": "new_loop",
    "test_sock_lowlevel.SelectEventLoopTests": "create_event_loop",
    "test_sslproto.SelectorStartTLSTests": "new_loop",
}

# The same tests once more on asyncio's own loop with another selector, or on none that exists here.
REPEATED = (
    "EPollEventLoopTests",
    "PollEventLoopTests",
    "KqueueEventLoopTests",
    "ProactorEventLoopTests",
    "ProactorStartServerTests",
    "ProactorStartTLSTests",
    "BufferedProtocolProactorTests",
    "SubprocessProactorTests",
)

# asyncio's pipe transports on a mock loop with a mock poller.
MOCKS = (
    "test_unix_events.UnixReadPipeTransportTests",
    "test_unix_events.UnixWritePipeTransportTests",
)

# They replace parts of asyncio's selector loop and look at the rest: only a loop derived from it can be asked.
WHITE_BOX = (
    "test_base_events.BaseEventLoopWithSelectorTests",
    "test_unix_events.SelectorEventLoopSignalTests",
    "test_unix_events.SelectorEventLoopUnixSocketTests",
    "test_unix_events.SelectorEventLoopUnixSockSendfileTests",
)


def load(loop_class: type) -> list[unittest.TestCase]:
    """All tests of the running Python that concern a loop, set up to make loop_class."""
    derived = issubclass(loop_class, asyncio.SelectorEventLoop)
    loops.install(loop_class)
    mock_loops.replace(loop_class, derived)
    left_out = MOCKS if derived else MOCKS + WHITE_BOX
    tests: list[unittest.TestCase] = []
    for name in MODULES:
        module = _import(name)
        if module is None:
            continue
        for test in _flatten(unittest.defaultTestLoader.loadTestsFromModule(module)):
            if type(test).__name__ in REPEATED or class_of(name_of(test)) in left_out:
                continue
            _give_loop(test, loop_class)
            tests.append(test)
    _close_loops_of_any_kind()
    return tests


def name_of(test: unittest.TestCase) -> str:
    """test_file.Class.test_name"""
    return test.id().removeprefix(PACKAGE + ".")


def class_of(name: str) -> str:
    return name.rpartition(".")[0]


def row_of(name: str) -> str:
    """The row of the summary that a test counts in."""
    test_class = class_of(name)
    return test_class if test_class in LOOP_METHODS else name.partition(".")[0]


def _import(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(f"{PACKAGE}.{name}")
    except unittest.SkipTest:
        return None
    except ModuleNotFoundError as error:
        if error.name != f"{PACKAGE}.{name}":  # anything else is missing: not a question of the Python's version
            raise
        return None


def _flatten(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from _flatten(item)
        else:
            yield item


def _give_loop(test: unittest.TestCase, loop_class: type) -> None:
    method = LOOP_METHODS.get(class_of(name_of(test)))
    if method is not None:
        setattr(type(test), method, lambda self: loop_class())


def _close_loops_of_any_kind() -> None:
    # The suite's clean-up reads an attribute that only asyncio's own loops must have.
    utils = importlib.import_module(f"{PACKAGE}.utils")
    close_loop = utils.TestCase.close_loop

    def close_any(loop: asyncio.AbstractEventLoop) -> None:
        if hasattr(loop, "_default_executor"):
            close_loop(loop)
            return
        if not loop.is_closed():
            loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    utils.TestCase.close_loop = staticmethod(close_any)
