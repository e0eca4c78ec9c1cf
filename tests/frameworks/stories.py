# SPDX-License-Identifier: MIT
"""The same scene on asyncio and on cxxloop: both have to tell the same story."""

import asyncio
import gc
import logging
import time

LOOP_MODULES = {"asyncio": "asyncio.unix_events", "cxxloop": "cxxloop._loop"}


class Storyteller:
    """Plays scenes on one loop after the other, asyncio first: it also opens what a library keeps for the process."""

    def __init__(self, factories, records, open_fds):
        self.factories = factories
        self.records = records
        self.open_fds = open_fds

    def __call__(self, scene, *, timeout=15):
        """Returns what the coroutine function `scene` returns on both loops.

        What differs fails the test, and so do errors in asyncio's log and descriptors that cxxloop leaves open.
        """
        expected = self.play("asyncio", scene, timeout)
        gc.collect()
        before = self.open_fds()
        story = self.play("cxxloop", scene, timeout)
        gc.collect()
        assert self.left_open(before) == set()
        assert story == expected
        return story

    def left_open(self, before):
        """The descriptors that are open and were not before; a library may close its own from a thread, a bit later."""
        deadline = time.monotonic() + 2
        while (left := self.open_fds() - before) and time.monotonic() < deadline:
            time.sleep(0.01)
        return left

    def play(self, name, scene, timeout):
        async def main():
            assert type(asyncio.get_running_loop()).__module__ == LOOP_MODULES[name]
            return await asyncio.wait_for(scene(), timeout)

        with asyncio.Runner(debug=False, loop_factory=self.factories[name]) as runner:
            story = runner.run(main())
        assert self.records.texts(logging.ERROR) == []
        return story


async def outcome(awaitable):
    """What an awaitable returns, or the name of the exception it raises."""
    try:
        return await awaitable
    except Exception as error:
        return type(error).__name__
