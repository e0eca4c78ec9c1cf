# SPDX-License-Identifier: MIT
"""Child processes: how many a second, what one costs the parent, how soon its end is noticed.

    python benchmarks/micro/spawn.py --loops asyncio uvloop cxxloop

One process per loop; batch by batch the loops take turns, first to last, last to first. The table shows medians of the
batches; the first loop runs twice, and how far the two lie apart is the noise.
"""

import argparse
import asyncio
import contextlib
import gc
import importlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from _machine import machine_line  # noqa: E402  # after sys.path says where it is

PROGRAM = "/bin/true"
KILLS = 20
ROWS = {
    "one after the other, a second": "{:.0f}",
    "20 at once, a second": "{:.0f}",
    "one after the other, CPU us": "{:.0f}",
    "20 at once, CPU us": "{:.0f}",
    "from SIGKILL to wait(), us": "{:.0f}",
    "descriptors left": "{:.0f}",
}


async def spawn(count: int) -> None:
    for _ in range(count):
        process = await asyncio.create_subprocess_exec(PROGRAM)
        if await process.wait() != 0:
            raise RuntimeError(f"{PROGRAM} failed")


def parent_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


@contextlib.asynccontextmanager
async def measured(row: str, count: int, into: dict[str, float]) -> AsyncIterator[None]:
    gc.collect()
    cpu, wall = parent_cpu_s(), time.perf_counter()
    yield
    into[f"{row}, a second"] = count / (time.perf_counter() - wall)
    into[f"{row}, CPU us"] = (parent_cpu_s() - cpu) / count * 1e6


async def notice_us() -> float:
    process = await asyncio.create_subprocess_exec("sleep", "60")
    waiting = asyncio.ensure_future(process.wait())
    await asyncio.sleep(0.002)  # it runs and the loop sleeps
    start = time.perf_counter_ns()
    process.kill()
    await waiting
    return (time.perf_counter_ns() - start) / 1000


async def batch(count: int) -> dict[str, float]:
    values: dict[str, float] = {}
    descriptors = len(os.listdir("/proc/self/fd"))
    async with measured("one after the other", count, values):
        await spawn(count)
    async with measured("20 at once", count, values):
        await asyncio.gather(*(spawn(count // 20) for _ in range(20)))
    values["from SIGKILL to wait(), us"] = statistics.median([await notice_us() for _ in range(KILLS)])
    gc.collect()
    values["descriptors left"] = len(os.listdir("/proc/self/fd")) - descriptors
    return values


def serve(module: str) -> None:
    """One batch for each number read, answered by a line of JSON."""
    factory = asyncio.SelectorEventLoop if module == "asyncio" else importlib.import_module(module).new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(batch(20))  # imports, caches, and asyncio's own descriptors
        for line in sys.stdin:
            print(json.dumps(runner.run(batch(int(line)))), flush=True)


def compare(modules: list[str], spawns: int, rounds: int) -> dict[str, list[dict[str, float]]]:
    names = [*modules, f"{modules[0]} (again)"]
    samples: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    with contextlib.ExitStack() as stack:
        contestants = []
        for name, module in zip(names, [*modules, modules[0]], strict=True):
            command = [sys.executable, __file__, "--serve", module]
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            contestants.append((name, stack.enter_context(process)))
        for number in range(rounds):
            for name, process in contestants if number % 2 == 0 else reversed(contestants):
                print(spawns // rounds, file=process.stdin, flush=True)
                samples[name].append(json.loads(process.stdout.readline()))
    return samples


def show(samples: dict[str, list[dict[str, float]]]) -> None:
    print(f"{machine_line()}, {len(next(iter(samples.values())))} rounds")
    print(f"{'':34}" + "".join(f"{name:>18}" for name in samples))
    for row, form in ROWS.items():
        medians = [statistics.median(values[row] for values in batches) for batches in samples.values()]
        print(f"{row:34}" + "".join(f"{form.format(median):>18}" for median in medians))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loops", nargs="+", default=["asyncio", "uvloop", "cxxloop"])
    parser.add_argument("--spawns", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--serve", metavar="MODULE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
    else:
        show(compare(options.loops, options.spawns, options.rounds))


if __name__ == "__main__":
    main()
