# SPDX-License-Identifier: MIT
"""Scheduling workloads on one loop: what a callback, a timer, a task switch, a call from a thread cost; how late timers are.

Every workload is a function of a loop factory returning measurements. Named workloads run in the given order, one JSON line each;
without names they are read from stdin, so that a runner can let several loops take turns batch by batch.
"""

import argparse
import asyncio
import functools
import gc
import json
import os
import pkgutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

CALLS_PER_TURN = 1_000
TURNS = 60
CHAIN_LINKS = 60_000
SPIN_SECONDS = 0.4
FLOOD_SECONDS = 2.0
FLOOD_THREADS = 4
FLOOD_SWITCH_INTERVAL = 0.0005
FLOOD_TIMER_PERIOD = 0.010
ECHO_SERVER = Path(__file__).parents[1] / "serve" / "echo_server.py"


@dataclass(frozen=True)
class Measurement:
    row: str
    value: float
    unit: str
    best: Literal["min", "max", "median"]  # How the batches of one loop are summed up.
    better: Literal["less", "more", "near zero"] = "less"


Workload = Callable[[LoopFactory], list[Measurement]]


def nothing() -> None:
    pass


def nothing_of_three(first: object, second: object, third: object) -> None:
    pass


async def nothing_async() -> None:
    pass


def run(factory: LoopFactory, main: Callable[[], Awaitable[float]]) -> float:
    async def start() -> float:
        return await main()

    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(start())


def cost(row: str, nanoseconds: float) -> list[Measurement]:
    return [Measurement(row, nanoseconds, "ns", "min")]


def cpu_ns_per_call(factory: LoopFactory, schedule: Callable[[asyncio.AbstractEventLoop], None]) -> float:
    """CPU of one call when `schedule` makes CALLS_PER_TURN of them, the loop runs them, and so on."""

    async def main() -> float:
        loop = asyncio.get_running_loop()
        finished = loop.create_future()

        def turn(turns_left: int) -> None:
            if turns_left == 0:
                finished.set_result(None)
                return
            schedule(loop)
            loop.call_soon(turn, turns_left - 1)

        start = time.process_time_ns()
        turn(TURNS)
        await finished
        return (time.process_time_ns() - start) / (TURNS * CALLS_PER_TURN)

    return run(factory, main)


async def cpu_ns_per_round(rounds: int, once: Callable[[], Awaitable[object]]) -> float:
    start = time.process_time_ns()
    for _ in range(rounds):
        await once()
    return (time.process_time_ns() - start) / rounds


def call_soon(factory: LoopFactory) -> list[Measurement]:
    def schedule(loop: asyncio.AbstractEventLoop) -> None:
        for _ in range(CALLS_PER_TURN):
            loop.call_soon(nothing)

    return cost("call_soon, batch, 0 args", cpu_ns_per_call(factory, schedule))


def call_soon_args(factory: LoopFactory) -> list[Measurement]:
    def schedule(loop: asyncio.AbstractEventLoop) -> None:
        for _ in range(CALLS_PER_TURN):
            loop.call_soon(nothing_of_three, 1, 2, 3)

    return cost("call_soon, batch, 3 args", cpu_ns_per_call(factory, schedule))


def call_soon_threadsafe(factory: LoopFactory) -> list[Measurement]:
    def schedule(loop: asyncio.AbstractEventLoop) -> None:
        for _ in range(CALLS_PER_TURN):
            loop.call_soon_threadsafe(nothing)

    return cost("call_soon_threadsafe, loop's thread", cpu_ns_per_call(factory, schedule))


def call_later_cancel(factory: LoopFactory) -> list[Measurement]:
    def schedule(loop: asyncio.AbstractEventLoop) -> None:
        for _ in range(CALLS_PER_TURN):
            loop.call_later(100, nothing).cancel()

    return cost("call_later(100) + cancel", cpu_ns_per_call(factory, schedule))


def call_soon_chain(factory: LoopFactory) -> list[Measurement]:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        finished = loop.create_future()
        links_left = CHAIN_LINKS

        def link() -> None:
            nonlocal links_left
            links_left -= 1
            if links_left:
                loop.call_soon(link)
            else:
                finished.set_result(None)

        start = time.process_time_ns()
        link()
        await finished
        return (time.process_time_ns() - start) / CHAIN_LINKS

    return cost("call_soon chain", run(factory, main))


def call_later_zero(factory: LoopFactory) -> list[Measurement]:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        finished = loop.create_future()
        calls_left = 0

        def expire() -> None:
            nonlocal calls_left
            calls_left -= 1
            if not calls_left:
                finished.set_result(None)

        async def once() -> None:
            nonlocal calls_left, finished
            calls_left = CALLS_PER_TURN
            finished = loop.create_future()
            for _ in range(CALLS_PER_TURN):
                loop.call_later(0, expire)
            await finished

        return await cpu_ns_per_round(TURNS, once) / CALLS_PER_TURN

    return cost("call_later(0), run", run(factory, main))


def sleep_zero(factory: LoopFactory) -> list[Measurement]:
    return cost("sleep(0)", run(factory, lambda: cpu_ns_per_round(CHAIN_LINKS, lambda: asyncio.sleep(0))))


def gather(factory: LoopFactory) -> list[Measurement]:
    async def once() -> None:
        await asyncio.gather(*(nothing_async() for _ in range(100)))

    async def main() -> float:
        return await cpu_ns_per_round(300, once) / 100

    return cost("gather of 100 coroutines, per task", run(factory, main))


def eager_task(factory: LoopFactory) -> list[Measurement]:
    """A task that ends at its first step; aiohttp makes one for each request."""

    async def main() -> float:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)  # new in Python 3.12
        start = time.process_time_ns()
        for _ in range(CHAIN_LINKS):
            loop.create_task(nothing_async())
        return (time.process_time_ns() - start) / CHAIN_LINKS

    return cost("eager task", run(factory, main))


def create_future(factory: LoopFactory) -> list[Measurement]:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        start = time.process_time_ns()
        for _ in range(CHAIN_LINKS):
            loop.create_future()
        return (time.process_time_ns() - start) / CHAIN_LINKS

    return cost("create_future", run(factory, main))


def queue_ping_pong(factory: LoopFactory) -> list[Measurement]:
    async def main() -> float:
        requests: asyncio.Queue[int] = asyncio.Queue()
        replies: asyncio.Queue[int] = asyncio.Queue()

        async def answer() -> None:
            while True:
                await replies.put(await requests.get())

        async def once() -> None:
            await requests.put(1)
            await replies.get()

        task = asyncio.create_task(answer())
        cost_ns = await cpu_ns_per_round(20_000, once)
        task.cancel()
        return cost_ns

    return cost("asyncio.Queue ping-pong", run(factory, main))


def run_in_executor(factory: LoopFactory) -> list[Measurement]:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as pool:
            return await cpu_ns_per_round(5_000, lambda: loop.run_in_executor(pool, nothing))

    return cost("run_in_executor(no-op)", run(factory, main))


async def turns_per_second() -> float:
    start = time.perf_counter()
    end = start + SPIN_SECONDS
    turns = 0
    while time.perf_counter() < end:
        for _ in range(20):
            await asyncio.sleep(0)
        turns += 20
    return turns / (time.perf_counter() - start)


@contextmanager
def spinning_thread() -> Iterator[None]:
    """A thread that wants the GIL all the time, on a core other than the caller's where there are two.

    Left to the scheduler, both would share a core in some runs and not in others, and the rates differ by a factor of thirty.
    """
    cores = os.sched_getaffinity(0)
    stop = False

    def spin() -> None:
        os.sched_setaffinity(0, {max(cores)})
        while not stop:
            pass

    thread = threading.Thread(target=spin)
    os.sched_setaffinity(0, {min(cores)})
    thread.start()
    try:
        yield
    finally:
        stop = True
        thread.join()
        os.sched_setaffinity(0, cores)


def turns_beside_spinner(factory: LoopFactory) -> list[Measurement]:
    alone = run(factory, turns_per_second)
    with spinning_thread():
        beside = run(factory, turns_per_second)
    return [
        Measurement("turns of sleep(0)", alone, "1/s", "max", "more"),
        Measurement("turns of sleep(0) beside a spinning thread", beside, "1/s", "median", "more"),
    ]


def sleep_lateness(factory: LoopFactory) -> list[Measurement]:
    late_us: list[float] = []

    async def sleep_often(seconds: float, times: int) -> float:
        late_us.clear()
        for _ in range(times):
            start = time.perf_counter()
            await asyncio.sleep(seconds)
            late_us.append((time.perf_counter() - start - seconds) * 1e6)
        return statistics.median(late_us)

    measurements = []
    for milliseconds, times in ((0.1, 200), (0.5, 100), (1.5, 60), (10.0, 12)):
        median = run(factory, functools.partial(sleep_often, milliseconds / 1e3, times))
        row = f"sleep({milliseconds:g} ms) late by"
        measurements += [
            Measurement(f"{row}, median", median, "us", "median", "near zero"),
            Measurement(f"{row}, min", min(late_us), "us", "min", "near zero"),
        ]
    return measurements


class PingPong(asyncio.Protocol):
    """Keeps one 64-byte message travelling and counts its returns."""

    transport: asyncio.Transport
    missing = 64
    round_trips = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.transport.write(bytes(64))

    def data_received(self, data: bytes) -> None:
        self.missing -= len(data)
        if self.missing == 0:
            self.missing = 64
            self.round_trips += 1
            self.transport.write(bytes(64))


async def timer_lateness_ms(until: float) -> list[float]:
    late_ms = []
    loop = asyncio.get_running_loop()
    while time.perf_counter() < until:
        start = time.perf_counter()
        expired = loop.create_future()
        loop.call_later(FLOOD_TIMER_PERIOD, expired.set_result, None)
        await expired
        late_ms.append((time.perf_counter() - start - FLOOD_TIMER_PERIOD) * 1e3)
    return late_ms


def flood(factory: LoopFactory) -> list[Measurement]:
    """Threads call call_soon_threadsafe as fast as they can; a timer and a connection want their share."""
    command = [sys.executable, str(ECHO_SERVER), "--loop", "asyncio", "--mode", "protocol"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as echo_server:
        assert echo_server.stdin is not None and echo_server.stdout is not None
        port = json.loads(echo_server.stdout.readline())["port"]
        round_trips_per_second = 0.0

        async def main() -> float:
            nonlocal round_trips_per_second
            loop = asyncio.get_running_loop()
            transport, connection = await loop.create_connection(PingPong, "127.0.0.1", port)
            start = time.perf_counter()
            until = start + FLOOD_SECONDS

            def call_until_over() -> None:
                while time.perf_counter() < until:
                    for _ in range(100):
                        loop.call_soon_threadsafe(nothing)

            threads = [threading.Thread(target=call_until_over) for _ in range(FLOOD_THREADS)]
            for thread in threads:
                thread.start()
            late_ms = await timer_lateness_ms(until)
            round_trips_per_second = connection.round_trips / (time.perf_counter() - start)
            for thread in threads:
                thread.join()
            transport.close()
            return statistics.quantiles(late_ms, n=100, method="inclusive")[-1] if len(late_ms) > 1 else late_ms[0]

        interval = sys.getswitchinterval()
        sys.setswitchinterval(FLOOD_SWITCH_INTERVAL)
        try:
            p99_ms = run(factory, main)
        finally:
            sys.setswitchinterval(interval)
            echo_server.stdin.close()
    return [
        Measurement("flood of 4 threads: 10 ms timer late by, p99", p99_ms, "ms", "median"),
        Measurement("flood of 4 threads: echo round trips", round_trips_per_second, "1/s", "median", "more"),
    ]


WORKLOADS: dict[str, Workload] = {
    workload.__name__: workload
    for workload in (
        call_soon,
        call_soon_args,
        call_soon_chain,
        call_soon_threadsafe,
        call_later_cancel,
        call_later_zero,
        sleep_zero,
        gather,
        eager_task,
        create_future,
        queue_ping_pong,
        run_in_executor,
        turns_beside_spinner,
        sleep_lateness,
        flood,
    )
}


def measure(name: str, factory: LoopFactory) -> str:
    gc.collect()
    try:
        return json.dumps([asdict(measurement) for measurement in WORKLOADS[name](factory)])
    except Exception as error:  # One workload that a loop cannot run must not end the comparison.
        return json.dumps({"error": f"{name}: {error!r}"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loop", required=True, help="module with new_event_loop(): asyncio, uvloop, rloop, cxxloop...")
    parser.add_argument("workloads", nargs="*", metavar="workload", help=f"of {', '.join(WORKLOADS)}; default: from stdin")
    arguments = parser.parse_args()
    factory: LoopFactory = pkgutil.resolve_name(f"{arguments.loop}:new_event_loop")
    for name in arguments.workloads or map(str.strip, sys.stdin):
        print(measure(name, factory), flush=True)


if __name__ == "__main__":
    main()
