# SPDX-License-Identifier: MIT
"""A loop under everything at once, for as long as asked: every byte is checked, and nothing may grow.

    python tests/soak/soak.py --seconds 600 --loop cxxloop --seed 1

Workers play random scenarios (tests/soak/soak_scenarios.py) side by side. Every few seconds they pause, and what the process
holds is compared with what it held after the warm-up: descriptors, tasks, threads, objects, resident memory.
"""

import argparse
import asyncio
import collections
import contextlib
import faulthandler
import gc
import os
import random
import sys
import tempfile
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import soak_scenarios

WORKERS = 12
SCENARIO_SECONDS_MAX = 30
REST_SECONDS_MAX = 10  # how long closing sockets, exiting children and idle threads may take
WATCHED_TYPES = ("Handle", "TimerHandle", "Task", "Future", "Transport", "socket", "Protocol", "Popen", "SockOp", "Server")
MEMORY_ALLOWANCE_KIB = 16 * 1024  # allocators keep some; what leaks with every scenario is more after minutes


def new_loop(name):
    if name == "asyncio":
        return asyncio.SelectorEventLoop()
    import cxxloop

    return cxxloop.new_event_loop()


@dataclass
class Level:
    """What the process holds while no scenario runs."""

    descriptors: int
    tasks: int
    threads: int
    objects: collections.Counter
    memory_kib: int

    @classmethod
    def now(cls):
        gc.collect()
        names = (type(thing).__name__ for thing in gc.get_objects())
        return cls(
            descriptors=len(os.listdir("/proc/self/fd")),
            tasks=len(asyncio.all_tasks()),
            threads=threading.active_count(),
            objects=collections.Counter(name for name in names if name.endswith(WATCHED_TYPES)),
            memory_kib=int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") // 1024,
        )

    def growth_over(self, base):
        """What is more than it was, in words; memory apart, which comes and goes."""
        grown = []
        for name in ("descriptors", "tasks", "threads"):
            before, after = getattr(base, name), getattr(self, name)
            if after > before:
                grown.append(f"{name}: {before} -> {after}")
        for name, count in (self.objects - base.objects).items():
            grown.append(f"{name} objects: {count} more")
        return grown


class Soak:
    def __init__(self, options):
        self.options = options
        self.failures = []
        self.played = collections.Counter()
        self.number = 0
        self.resting = asyncio.Event()
        self.working = asyncio.Event()
        self.busy = 0
        self.started = time.monotonic()

    def fail(self, text):
        self.failures.append(text)
        print(f"FAILED: {text}", file=sys.stderr, flush=True)

    def on_report(self, loop, context):
        error = context.get("exception")
        if loop.get_debug() and context["message"] == "Error on transport creation for incoming connection":
            return  # broken handshakes of strangers: asyncio reports them in debug mode
        trace = "".join(traceback.format_exception(error)) if error else ""
        self.fail(f"reported to the loop: {context['message']}\n{trace}")

    def on_unraisable(self, unraisable):
        self.fail(f"unraisable in {unraisable.object!r}: {unraisable.exc_value!r}")

    async def play_one(self, world):
        self.number += 1
        name = f"{self.options.seed}/{self.number}"
        dice = random.Random(name)
        scenario = dice.choice(soak_scenarios.ALL)
        try:
            async with asyncio.timeout(SCENARIO_SECONDS_MAX):
                await scenario(world, dice)
        except Exception:
            self.fail(f"{scenario.__name__} with the dice {name}\n{traceback.format_exc()}")
        self.played[scenario.__name__] += 1

    async def work(self, world):
        while True:
            await self.working.wait()
            self.busy += 1
            try:
                await self.play_one(world)
            finally:
                self.busy -= 1
                if self.busy == 0:
                    self.resting.set()

    async def rest(self, base):
        """Waits until nothing is played and what has ended is gone; the level then."""
        self.working.clear()
        while self.busy:
            self.resting.clear()
            await self.resting.wait()
        deadline = time.monotonic() + REST_SECONDS_MAX
        while True:
            await asyncio.sleep(0.1)
            level = Level.now()
            settled = base is None or not level.growth_over(base)
            if settled or time.monotonic() > deadline:
                return level

    async def run_for(self, seconds):
        self.working.set()
        await asyncio.sleep(seconds)

    async def main(self):
        seconds = self.options.seconds
        with tempfile.TemporaryDirectory() as folder:
            async with soak_scenarios.World(Path(folder)) as world:
                workers = [asyncio.create_task(self.work(world)) for _ in range(WORKERS)]
                await self.run_for(seconds / 4)  # warm-up: caches, pools and threads come to their size
                base = await self.rest(None)
                self.tell("warm", base, world)
                rounds = max(1, round(seconds / 4 * 3 / 15))
                memory_kib = []
                for _ in range(rounds):
                    await self.run_for(seconds / 4 * 3 / rounds)
                    level = await self.rest(base)
                    self.tell("soaking", level, world)
                    memory_kib.append(level.memory_kib)
                    for text in level.growth_over(base):
                        self.fail(text)
                if not self.options.ignore_memory:
                    self.check_memory(base.memory_kib, memory_kib)
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)
        missing = [scenario.__name__ for scenario in soak_scenarios.ALL if not self.played[scenario.__name__]]
        if missing:
            self.fail(f"never played: {', '.join(missing)}")

    def check_memory(self, base_kib, rounds_kib):
        """It comes and goes, and what leaks stays: the least of the last rounds counts. A short warm-up proves nothing."""
        last = rounds_kib[-3:]
        if len(last) == 3 and min(last) > base_kib + MEMORY_ALLOWANCE_KIB:
            self.fail(f"memory: {base_kib} -> {last} KiB")

    def tell(self, state, level, world):
        print(
            f"{time.monotonic() - self.started:7.1f} s  {state}: {self.number} scenarios, "
            f"{world.bytes_checked >> 20} MiB checked, {level.descriptors} descriptors, {level.tasks} tasks, "
            f"{level.threads} threads, {level.memory_kib} KiB",
            flush=True,
        )


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--loop", choices=("asyncio", "cxxloop"), default="cxxloop")
    parser.add_argument("--seed", type=int, default=None, help="of the dice; the order of events is the machine's")
    parser.add_argument("--ignore-memory", action="store_true", help="under a sanitizer, which keeps freed memory back")
    options = parser.parse_args()
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1 << 32)
    return options


def main():
    options = arguments()
    print(f"loop {options.loop}, seed {options.seed}, Python {sys.version.split()[0]}", flush=True)
    # Five times as long is a hang, whatever the machine.
    faulthandler.dump_traceback_later(options.seconds * 5 + 60, exit=True)
    loop = new_loop(options.loop)
    soak = Soak(options)
    loop.set_exception_handler(soak.on_report)
    sys.unraisablehook = soak.on_unraisable
    with contextlib.closing(loop):
        loop.run_until_complete(soak.main())
        loop.run_until_complete(loop.shutdown_default_executor())
    sys.unraisablehook = sys.__unraisablehook__
    print(", ".join(f"{name} {count}" for name, count in sorted(soak.played.items())))
    if soak.failures:
        print(f"{len(soak.failures)} failures; --seed {options.seed}", file=sys.stderr)
    return 1 if soak.failures else 0


if __name__ == "__main__":
    sys.exit(main())
