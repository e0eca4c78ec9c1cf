# SPDX-License-Identifier: MIT
"""What the commands of compare.py share: the contestants of a run, and their turns on the screen."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from _cases import CASES
from _contest import Contestant, turns
from _machine import RAW

# The others are about ways to read and write that only a loop has.
RAW_CASES = {name for name, case in CASES.items() if case.mode == "protocol"}


class Steps:
    """Counts measurements on the screen; redrawn between them only, so that drawing costs none of them anything."""

    def __init__(self, console: Console, total: int) -> None:
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
        self.progress = Progress(*columns, console=console, auto_refresh=False, transient=True)
        self.task = self.progress.add_task("", total=total)

    def start(self, description: str) -> None:
        self.progress.update(self.task, description=description, refresh=True)

    def finish(self) -> None:
        self.progress.update(self.task, advance=1, refresh=True)


@dataclass(frozen=True)
class Run:
    """Everything the commands share."""

    arguments: argparse.Namespace
    console: Console
    contestants: list[Contestant]

    def steps(self, cases: list[str]) -> Iterator[tuple[str, Contestant]]:
        """Every case in turn of every contestant that can run it, shown as progress."""
        every_turn = [(case, contestant) for case in cases for contestant in turns(self.contestants, self.arguments.rounds)]
        able = [(case, contestant) for case, contestant in every_turn if contestant.loop != RAW or case in RAW_CASES]
        steps = Steps(self.console, len(able))
        with steps.progress:
            for case, contestant in able:
                steps.start(f"{case} {contestant.label}")
                yield case, contestant
                steps.finish()
