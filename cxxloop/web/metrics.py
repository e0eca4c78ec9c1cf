# SPDX-License-Identifier: MIT
"""The numbers of servers: counted by the native server in shared memory, read and added up by whoever shows them.

Each worker counts in a block of its own. Whoever has started it reads the block without asking it: a worker that is stuck is seen all
the same, and what one has counted that was killed is not lost, so that no sum ever goes down.
"""

import asyncio
import bisect
import contextlib
import mmap
import os
import resource
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from .native import import_native

if TYPE_CHECKING:
    from .config import Config

# How often the loop's lag is measured, and the tasks are counted at most.
_PROBE_SECONDS = 0.1
_TASKS_SECONDS = 1.0
# Counting the tasks may take this part of a loop's time.
_TASKS_SHARE = 0.01

_PAGE_BYTES = resource.getpagesize()
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class _Layout(NamedTuple):
    """Where the words of a block are, as the native module says."""

    names: tuple[str, ...]
    first_gauge: int
    bounds_ns: tuple[int, ...]
    size: int

    @property
    def tasks_at(self) -> int:
        return len(self.names)

    @property
    def latency_at(self) -> int:
        return self.tasks_at + 1

    @property
    def loop_lag_at(self) -> int:
        return self.latency_at + 1 + len(self.bounds_ns) + 1


@lru_cache(maxsize=1)
def _layout() -> _Layout:
    native = import_native()
    return _Layout(native.COUNTER_NAMES, native.FIRST_GAUGE, native.BUCKET_BOUNDS_NS, native.METRICS_BYTES)


class Histogram(NamedTuple):
    """How many times were how long. Bucket i ends at bounds_ns[i], which belongs to it; the last one has no end."""

    sum_ns: int
    buckets: Sequence[int]
    bounds_ns: Sequence[int]

    @property
    def total(self) -> int:
        """How many times there are."""
        return sum(self.buckets)

    def minus(self, earlier: "Histogram") -> "Histogram":
        """What was added since `earlier`."""
        buckets = [now - before for now, before in zip(self.buckets, earlier.buckets, strict=True)]
        return Histogram(self.sum_ns - earlier.sum_ns, buckets, self.bounds_ns)

    def percentile_seconds(self, percent: float) -> float | None:
        """The time that `percent` of all do not exceed, to two digits; None: there is none."""
        total = self.total
        if total == 0:
            return None
        rank = total * percent / 100
        below = 0
        for at, in_bucket in enumerate(self.buckets):
            if in_bucket and below + in_bucket >= rank:
                begin_ns = self.bounds_ns[at - 1] if at else 0
                end_ns = self.bounds_ns[at] if at < len(self.bounds_ns) else begin_ns
                return (begin_ns + (end_ns - begin_ns) * (rank - below) / in_bucket) / 1e9
            below += in_bucket
        return None  # unreachable: the rank is at most the total

    def counts_up_to(self, bounds_seconds: Sequence[float]) -> list[int]:
        """How many times do not exceed each of these bounds, which rise and end buckets: exact."""
        counts = []
        total = at = 0
        for bound in bounds_seconds:
            bound_ns = round(bound * 1e9)
            while at < len(self.bounds_ns) and self.bounds_ns[at] <= bound_ns:
                total += self.buckets[at]
                at += 1
            counts.append(total)
        return counts


class Numbers(NamedTuple):
    """What some servers have done and do now.

    Attributes:
        counters: by the names of the native server; what only grows, and `connections`, `exchanges`, `websockets`, which are now.
        tasks: tasks of asyncio, now.
        latency: of requests, from their heads to the ends of their responses.
        loop_lag: how late timers run, measured ten times a second.
    """

    counters: dict[str, int]
    tasks: int
    latency: Histogram
    loop_lag: Histogram


class MetricsBlock:
    """Shared memory in which one server counts.

    Args:
        fd: of a block that another process has made, owned from now on; None: makes one.

    Attributes:
        fd: of the memory, for the native server and for other processes.
    """

    def __init__(self, fd: int | None = None) -> None:
        layout = _layout()
        if fd is None:
            fd = os.memfd_create("cxxloop-metrics", os.MFD_CLOEXEC)
            os.ftruncate(fd, layout.size)
        self.fd = fd
        self._memory = mmap.mmap(fd, layout.size)
        self._words = memoryview(self._memory).cast("Q")

    def read(self) -> list[int]:
        """All words, each as it is now."""
        return self._words.tolist()

    def set_tasks(self, count: int) -> None:
        """Say how many tasks there are now."""
        self._words[_layout().tasks_at] = count

    def record_lag(self, seconds: float) -> None:
        """Add a lag of the loop."""
        layout = _layout()
        lag_ns = max(0, round(seconds * 1e9))
        self._words[layout.loop_lag_at] += lag_ns
        self._words[layout.loop_lag_at + 1 + bisect.bisect_left(layout.bounds_ns, lag_ns)] += 1

    def close(self) -> None:
        """Give the memory back. The native server has a mapping of its own."""
        self._words.release()
        self._memory.close()
        os.close(self.fd)


class Source(Protocol):
    """A process whose numbers are shown."""

    @property
    def pid(self) -> int:
        """Its process id."""

    @property
    def metrics(self) -> MetricsBlock | None:
        """Where it counts; None: it has ended."""

    async def describe_tasks(self) -> dict[str, Any]:
        """What its tasks wait for: see tasks.describe()."""


class Totals:
    """The sum over all sources there are, and over those there have been."""

    def __init__(self) -> None:
        self.sources: list[Source] = []
        self.started = 0  # sources that were ever added
        self._ended: list[int] | None = None  # words of those that have ended, without what is only now
        self._cpu_seconds = 0.0

    def add(self, source: Source) -> None:
        """Count a source from now on."""
        self.sources.append(source)
        self.started += 1

    def remove(self, source: Source) -> None:
        """Its process has ended: keep what it has counted. To be called before its block is closed."""
        self.sources.remove(source)
        if source.metrics is None:
            return
        layout = _layout()
        words = source.metrics.read()
        for gauge in range(layout.first_gauge, layout.tasks_at + 1):
            words[gauge] = 0
        self._ended = words if self._ended is None else [a + b for a, b in zip(self._ended, words, strict=True)]

    def read(self) -> Numbers:
        """Add up the numbers as they are now."""
        layout = _layout()
        blocks = [source.metrics.read() for source in self.sources if source.metrics is not None]
        if self._ended is not None:
            blocks.append(self._ended)
        words = [sum(column) for column in zip(*blocks, strict=True)] if blocks else [0] * (layout.size // 8)
        return Numbers(
            counters=dict(zip(layout.names, words)),
            tasks=words[layout.tasks_at],
            latency=_histogram(words, layout.latency_at, layout),
            loop_lag=_histogram(words, layout.loop_lag_at, layout),
        )

    def pids(self) -> list[int]:
        """This process, and those of the sources."""
        return list(dict.fromkeys([os.getpid(), *(source.pid for source in self.sources)]))

    def cpu_seconds(self) -> float:
        """User and system time of all these processes, and of children that have ended; never less than before."""
        own = sum(os.times()[:4])
        others = sum(read_process(pid).cpu_seconds for pid in self.pids()[1:])
        self._cpu_seconds = max(self._cpu_seconds, round(own + others, 2))  # one that ends meanwhile is missed for once
        return self._cpu_seconds


def _histogram(words: list[int], at: int, layout: _Layout) -> Histogram:
    return Histogram(words[at], words[at + 1 : at + 2 + len(layout.bounds_ns)], layout.bounds_ns)


class Process(NamedTuple):
    """What the kernel says of a process; zeros if it has ended."""

    resident_bytes: int = 0
    virtual_bytes: int = 0
    cpu_seconds: float = 0.0
    open_fds: int = 0


@contextlib.asynccontextmanager
async def shown_totals(config: "Config") -> AsyncIterator[Totals | None]:
    """Totals that the admin address shows, from the running loop, while the block runs; None: nobody wants to see them.

    Raises:
        ListenError: the address cannot be listened on.
    """
    if config.admin is None:
        yield None
        return
    from .admin import Admin

    totals = Totals()
    admin = Admin(config, totals)
    try:
        admin.start()
        yield totals
    finally:
        await admin.close()


def read_process(pid: int, *, counts_fds: bool = False) -> Process:
    """Look at a process in /proc; at its descriptors only if that is asked, because it takes a call for each."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()  # proc_pid_stat(5): from the third field on
        open_fds = len(os.listdir(f"/proc/{pid}/fd")) if counts_fds else 0
    except OSError:
        return Process()
    cpu_seconds = (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND
    return Process(int(fields[21]) * _PAGE_BYTES, int(fields[20]), cpu_seconds, open_fds)


class LoopMonitor:
    """Measures the lag of the running loop and counts its tasks, from now until stop().

    Args:
        block: where they go.
        left_out: returns tasks that are not counted.
    """

    def __init__(self, block: MetricsBlock, left_out: Callable[[], Sequence[Any]] | None = None) -> None:
        self._block = block
        self._left_out = left_out
        self._loop = asyncio.get_running_loop()
        self._tasks_at = 0.0
        self._due = self._loop.time()
        self._timer = self._loop.call_at(self._due, self._probe)

    def stop(self) -> None:
        """Measure no more."""
        self._timer.cancel()

    def _probe(self) -> None:
        now = self._loop.time()
        self._block.record_lag(now - self._due)
        if now >= self._tasks_at:
            started = time.perf_counter()
            count = len(asyncio.all_tasks(self._loop))
            self._block.set_tasks(count - (0 if self._left_out is None else len(self._left_out())))
            took = time.perf_counter() - started
            self._tasks_at = now + max(_TASKS_SECONDS, took / _TASKS_SHARE)
        self._due = now + _PROBE_SECONDS
        self._timer = self._loop.call_at(self._due, self._probe)
