# SPDX-License-Identifier: MIT
"""Loops, or servers, taking turns: every machine drifts by more than loops differ, so only interleaved samples may be compared."""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

SUMMARIES: dict[str, Callable[[list[float]], float]] = {"min": min, "max": max, "median": statistics.median}


class MeasurementFailed(Exception):
    """One loop could not run one case; the comparison goes on without that sample."""


@dataclass(frozen=True)
class Contestant:
    label: str
    loop: str  # Or the name of a web server.


@dataclass
class Row:
    """One line of a table: the samples of every contestant for one case."""

    case: str
    unit: str
    best: str = "median"  # How samples are summed up: a key of SUMMARIES.
    better: str = "less"  # "less", "more" or "near zero"
    samples: dict[str, list[float]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def add(self, label: str, value: float) -> None:
        self.samples.setdefault(label, []).append(value)

    def value(self, label: str) -> float | None:
        samples = self.samples.get(label)
        return SUMMARIES[self.best](samples) if samples else None

    def ratio(self, label: str, base: str) -> float | None:
        value, base_value = self.value(label), self.value(base)
        if value is None or not base_value or self.better == "near zero":
            return None
        return value / base_value


class Table:
    """Rows in the order in which they first appeared."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}

    def row(self, case: str, unit: str, best: str = "median", better: str = "less") -> Row:
        return self.rows.setdefault(case, Row(case, unit, best, better))


def contestants_of(loops: list[str]) -> list[Contestant]:
    """Every loop once, and the first one a second time: how much these two differ is the noise of the run."""
    first = loops[0]
    return [*(Contestant(loop, loop) for loop in loops), Contestant(twin_of(first), first)]


def twin_of(label: str) -> str:
    return f"{label} (again)"


def turns(contestants: list[Contestant], rounds: int) -> Iterator[Contestant]:
    """A B C, C B A, A B C: a steady drift of the machine hits all alike."""
    for round_number in range(rounds):
        yield from contestants if round_number % 2 == 0 else reversed(contestants)
