# SPDX-License-Identifier: MIT
"""The loop under test where CPython's tests make a mock of asyncio's base class."""

import importlib
from collections.abc import Callable, Generator
from typing import Any

PACKAGE = "test.test_asyncio"


def replace(loop_class: Any, has_replaceable_clock: bool) -> None:
    """Let the tests that would make a mock make loop_class, or a subclass with the mock's clock."""
    utils = _module("utils")
    mock_class = utils.TestLoop

    def test_loop(advances: Any = None) -> Any:
        if advances is None:
            return loop_class()
        return with_fake_time(loop_class, advances) if has_replaceable_clock else mock_class(advances)

    def set_up(self: Any) -> None:
        super(pep492.BaseTest, self).setUp()
        self.loop = loop_class()
        self.set_event_loop(self.loop)

    pep492 = _module("test_pep492")
    utils.TestLoop = test_loop
    pep492.BaseTest.setUp = set_up
    _module("test_runners").BaseTest.new_loop = lambda self: _with_note_of_shutdown(loop_class())


def _module(name: str) -> Any:
    return importlib.import_module(f"{PACKAGE}.{name}")


def _with_note_of_shutdown(loop: Any) -> Any:
    """The tests of runners look at the note."""
    shutdown_asyncgens = loop.shutdown_asyncgens
    loop.shutdown_ag_run = False

    async def note() -> None:
        loop.shutdown_ag_run = True
        await shutdown_asyncgens()

    loop.shutdown_asyncgens = note
    return loop


def with_fake_time(loop_class: Any, advances: Callable[[], Generator[float, float, None]]) -> Any:
    """A loop whose time stands still but for what advances() yields, to which every timer's deadline is sent.

    CPython's own TestLoop replaces how asyncio's base class runs callbacks and polls. This one replaces the clock alone,
    so that the callbacks and timers are run by the loop under test.
    """

    class FakeTimeLoop(loop_class):  # type: ignore[misc]  # known at run time
        def __init__(self) -> None:
            self._time = 0.0
            self._deadlines: list[float] = []
            self._advances = advances()
            next(self._advances)
            self._ended = False
            super().__init__()
            self._clock_resolution = 1e-9

        def time(self) -> float:
            return self._time

        def advance_time(self, seconds: float | None) -> None:
            self._time += seconds or 0

        def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> Any:
            if not self._deadlines:
                super().call_soon(self._move_time)
            self._deadlines.append(when)
            return super().call_at(when, callback, *args, context=context)

        def run_forever(self) -> None:
            super().run_forever()
            self._move_time()

        def _move_time(self) -> None:
            deadlines, self._deadlines = self._deadlines, []
            for when in deadlines:
                self.advance_time(self._advances.send(when))

        def close(self) -> None:
            super().close()
            if not self._ended:
                self._ended = True
                self._expect_end()

        def _expect_end(self) -> None:
            try:
                self._advances.send(0)
            except StopIteration:
                return
            raise AssertionError("the test expected more timers")

    return FakeTimeLoop()
