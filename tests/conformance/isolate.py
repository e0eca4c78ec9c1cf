# SPDX-License-Identifier: MIT
"""Runs each test in a forked process of its own, so that a crash or a hang is a result like any other."""

import asyncio
import faulthandler
import gc
import json
import os
import selectors
import signal
import sys
import tempfile
import time
import unittest
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO

OUTPUT_BYTES_MAX = 6000
DYING_SECONDS = 2.0  # what a hanging test has for printing where it hangs

PASSED, SKIPPED = "passed", "skipped"
UNCONCERNED = "no loop"  # passed, without making what is under test
FAILED, CRASHED, HUNG = "failed", "crashed", "hung"


@dataclass(frozen=True)
class Outcome:
    status: str
    seconds: float
    detail: str = ""

    @property
    def bad(self) -> bool:
        return self.status in (FAILED, CRASHED, HUNG)


@dataclass
class _Child:
    test: unittest.TestCase
    pid: int
    deadline: float
    started: float = field(default_factory=time.monotonic)
    report: IO[bytes] = field(default_factory=tempfile.TemporaryFile)
    output: IO[bytes] = field(default_factory=tempfile.TemporaryFile)
    # The tests name their files after the process that imported them, which all of them share.
    folder: tempfile.TemporaryDirectory[str] = field(
        default_factory=lambda: tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    )
    hung: bool = False


def run(
    tests: Sequence[unittest.TestCase],
    jobs: int,
    seconds_max: Callable[[unittest.TestCase], float],
    concerned: Callable[[], bool],
) -> Iterator[tuple[unittest.TestCase, Outcome]]:
    """Yield each test with its outcome as it ends; `jobs` of them run at a time.

    concerned() is asked in the process of a test that passed: whether it has made what is under test.
    """
    gc.collect()
    gc.freeze()  # many tests collect garbage: in their own objects, not in those of all test modules
    waiting = list(reversed(tests))
    with selectors.DefaultSelector() as selector:
        try:
            while waiting or selector.get_map():
                while waiting and len(selector.get_map()) < jobs:
                    test = waiting.pop()
                    child = _start(test, seconds_max(test), concerned)
                    selector.register(os.pidfd_open(child.pid), selectors.EVENT_READ, child)
                ended = selector.select(_seconds_to_next_deadline(selector))
                for key, _ in ended:
                    selector.unregister(key.fd)
                    os.close(key.fd)
                    yield key.data.test, _collect(key.data)
                _end_overdue(selector)
        finally:
            for key in selector.get_map().values():
                _kill_group(key.data.pid)


def _start(test: unittest.TestCase, seconds_max: float, concerned: Callable[[], bool]) -> _Child:
    sys.stdout.flush()
    child = _Child(test, 0, time.monotonic() + seconds_max)
    child.pid = os.fork()
    if child.pid == 0:
        try:
            _run_in_child(child, concerned)
        finally:
            os._exit(1)  # reached only when the report could not be written
    return child


def _run_in_child(child: _Child, concerned: Callable[[], bool]) -> None:
    os.setpgid(0, 0)
    os.chdir(child.folder.name)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    for fd in (1, 2):
        os.dup2(child.output.fileno(), fd)
    faulthandler.enable()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored if a shell runs us in the background
    asyncio.set_event_loop(None)  # some tests rely on an earlier one having done this; a fork forgets it
    result = unittest.TestResult()
    unittest.TestSuite([child.test]).run(result)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    status, detail = _summarize(result)
    if status == PASSED and not concerned():
        status = UNCONCERNED
    child.report.write(json.dumps((status, detail)).encode())
    child.report.flush()
    os._exit(0)


def _summarize(result: unittest.TestResult) -> tuple[str, str]:
    broken = [text for _, text in result.errors + result.failures]
    broken += ["unexpected success" for _ in result.unexpectedSuccesses]
    if broken:
        return FAILED, "\n".join(broken)
    # Also when only some subtests were skipped: the rest of them passed.
    if result.skipped and all(isinstance(test, unittest.TestCase) for test, _ in result.skipped):
        return SKIPPED, result.skipped[0][1]
    return PASSED, ""


def _collect(child: _Child) -> Outcome:
    _, wait_status = os.waitpid(child.pid, 0)
    _kill_group(child.pid)  # what the test left running
    seconds = time.monotonic() - child.started
    with child.report, child.output, child.folder:
        child.report.seek(0)
        report = child.report.read()
        child.output.seek(0)
        output = child.output.read()[-OUTPUT_BYTES_MAX:].decode(errors="replace")
    if child.hung:
        return Outcome(HUNG, seconds, output)
    if not report:
        code = os.waitstatus_to_exitcode(wait_status)
        return Outcome(CRASHED, seconds, f"exit code {code}\n{output}")
    status, detail = json.loads(report)
    if status == FAILED and output:
        detail += "\nprinted:\n" + output
    return Outcome(status, seconds, detail)


def _seconds_to_next_deadline(selector: selectors.BaseSelector) -> float:
    deadlines = [key.data.deadline for key in selector.get_map().values()]
    return max(0.0, min(deadlines) - time.monotonic())


def _end_overdue(selector: selectors.BaseSelector) -> None:
    now = time.monotonic()
    for key in selector.get_map().values():
        child = key.data
        if child.deadline > now:
            continue
        if child.hung:
            _kill_group(child.pid)
        else:
            os.kill(child.pid, signal.SIGABRT)  # faulthandler prints where every thread stands
        child.hung = True
        child.deadline = now + DYING_SECONDS


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
