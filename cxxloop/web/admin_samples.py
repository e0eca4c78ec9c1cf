# SPDX-License-Identifier: MIT
"""What the admin page draws: one sample of the numbers each second, and those of the last five minutes."""

import asyncio
import collections
import time
from collections.abc import AsyncIterator
from typing import Any

from .metrics import Histogram, Numbers, Totals, read_process

SAMPLE_SECONDS = 1.0
HISTORY_SAMPLES = 300

Sample = dict[str, Any]


class Sampler:
    """Takes samples on the running loop from start() to stop().

    Args:
        totals: whose numbers.

    Attributes:
        history: the samples so far, the oldest first.
    """

    def __init__(self, totals: Totals) -> None:
        self.history: collections.deque[Sample] = collections.deque(maxlen=HISTORY_SAMPLES)
        self._totals = totals
        self._before: tuple[float, float, Numbers] | None = None
        self._arrived = asyncio.Event()  # a new one after each sample
        self._timer: asyncio.TimerHandle | None = None
        self._is_over = False

    def start(self) -> None:
        """Take the first sample in a second: it says what has happened since now."""
        self._before = (time.monotonic(), self._totals.cpu_seconds(), self._totals.read())
        self._timer = asyncio.get_running_loop().call_later(SAMPLE_SECONDS, self._take)

    def stop(self) -> None:
        """Take no more; samples() ends."""
        self._is_over = True
        self._arrived.set()
        if self._timer is not None:
            self._timer.cancel()

    async def samples(self) -> AsyncIterator[Sample]:
        """Samples as they are taken, but for those that come while the last one is still with the caller."""
        while True:
            await self._arrived.wait()
            if self._is_over:
                return
            yield self.history[-1]

    def _take(self) -> None:
        assert self._before is not None
        self._timer = asyncio.get_running_loop().call_later(SAMPLE_SECONDS, self._take)
        now = (time.monotonic(), self._totals.cpu_seconds(), self._totals.read())
        sample = make_sample(self._before[2], now[2], now[0] - self._before[0])
        sample["cpu"] = round((now[1] - self._before[1]) / (now[0] - self._before[0]) * 100, 1)
        sample["memory"] = sum(read_process(pid).resident_bytes for pid in self._totals.pids())
        sample["workers"] = len(self._totals.sources)
        self._before = now
        self.history.append(sample)
        self._arrived.set()
        self._arrived = asyncio.Event()


def make_sample(before: Numbers, now: Numbers, seconds: float) -> Sample:
    """What has happened between two readings, and what is now.

    Args:
        before, now: the readings.
        seconds: the time between them.

    Returns:
        As JSON: `time` in s since 1970; `requests`, `errors` (5xx), `refused` (connections), `received` and `sent` (bytes) per second;
        `p50`, `p95`, `p99` of latency and `lag` (p99 of the loops') in ms, None where nothing was measured; `connections`, `in_flight`,
        `websockets`, `tasks` now.
    """
    counters, earlier = now.counters, before.counters

    def rate(name: str) -> float:
        return round((counters[name] - earlier[name]) / seconds, 1)

    latency = now.latency.minus(before.latency)
    return {
        "time": round(time.time(), 1),
        "requests": rate("requests"),
        "errors": rate("responses_5xx"),
        "refused": rate("refused"),
        "received": rate("received_bytes"),
        "sent": rate("sent_bytes"),
        "p50": _milliseconds(latency, 50),
        "p95": _milliseconds(latency, 95),
        "p99": _milliseconds(latency, 99),
        "lag": _milliseconds(now.loop_lag.minus(before.loop_lag), 99),
        "connections": counters["connections"],
        "in_flight": counters["exchanges"],
        "websockets": counters["websockets"],
        "tasks": now.tasks,
    }


def _milliseconds(histogram: Histogram, percent: float) -> float | None:
    seconds = histogram.percentile_seconds(percent)
    return None if seconds is None else round(seconds * 1000, 4)
