# SPDX-License-Identifier: MIT
"""Which cores a measurement runs on, and how much CPU and memory a server has used."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cores:
    """The cores of a measurement. Equal: the client can only run when the server sleeps."""

    server: int
    client: int

    @property
    def shared(self) -> bool:
        return self.server == self.client


def shared_core() -> Cores:
    core = min(os.sched_getaffinity(0))
    return Cores(core, core)


def separate_cores() -> Cores:
    available = sorted(os.sched_getaffinity(0))
    if len(available) < 2:
        raise SystemExit("This comparison needs two cores.")
    return Cores(available[0], available[1])


def pinned(command: list[str], core: int, *, batch: bool) -> list[str]:
    """`command` on one core from its first instruction.

    batch: as SCHED_BATCH, which does not preempt the running process when it wakes up. Two processes on one core then hand over
    when one blocks; without it the scheduler interleaves them message by message, differently for every loop.
    """
    policy = ["chrt", "--batch", "0"] if batch else []
    return ["taskset", "--cpu-list", str(core), *policy, *command]


def tree_cpu_ns(pid: int) -> int:
    """CPU time used so far by every thread of a process and of its living children."""
    total_ns = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total_ns += int((task / "schedstat").read_text().split()[0])
        for child in (task / "children").read_text().split():
            total_ns += tree_cpu_ns(int(child))
    return total_ns


def tree_pids(pid: int) -> list[int]:
    """A process and its living children, and theirs."""
    children = [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]
    return [pid, *(below for child in children for below in tree_pids(child))]


def tree_rss_bytes(pid: int) -> int:
    """Memory that a process and its living children occupy; a page that several of them share counts in each."""
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    return sum(int(Path(f"/proc/{each}/statm").read_text().split()[1]) for each in tree_pids(pid)) * page_bytes
