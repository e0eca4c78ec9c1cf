# SPDX-License-Identifier: MIT
"""Give up what asyncio and Python keep after a flood of TLS connections: see src/python/loop/memory_return.h.

All that we do to other people's insides for the sake of memory is here, one function each. The figures are of 25 MB, after
15,000 connections to a server on CPython 3.13; docs/performance.md has the table.
"""

import asyncio
import sys
from asyncio import tasks
from collections.abc import Awaitable, Generator, Iterable
from typing import Any, cast

# A collection takes about a millisecond for each 40,000 blocks: 1 us for each connection, and accepting it took 100.
_BLOCKS_PER_CONNECTION = 50


def tidy_up_after_flood(servers: Iterable[Any], connections: int) -> bool:
    """Shrink what has grown for the most connections there were; True if a full collection is cheap, too.

    Python frees its memory in pieces of 1 MiB (arenas). Dead tuples and contexts, which it keeps for the next use until
    a full collection, may hold some of them; so may the cycles of handshakes that failed. The collection saves
    9 to 18 MB.

    Args:
        servers: those that listen; asyncio notes their connections.
        connections: the most there were at a time.
    """
    _shrink_weak_sets(servers)
    return 0 < sys.getallocatedblocks() <= _BLOCKS_PER_CONNECTION * connections


def _shrink_weak_sets(servers: Iterable[Any]) -> None:
    """Shrink asyncio's sets of tasks and connections: a set of Python keeps the largest table it ever had. Saves 1 MB."""
    # 3.11; 3.12 and 3.13; 3.13 and later.
    owners = [(tasks, "_all_tasks"), (tasks, "_scheduled_tasks"), *((server, "_clients") for server in servers)]
    for owner, name in owners:
        weak_set: Any = getattr(owner, name, None)
        members = getattr(weak_set, "data", None)
        # Up to 3.13 a walk over the set goes over its members themselves; since 3.14 over a copy.
        if isinstance(members, set) and not getattr(weak_set, "_iterating", False):
            members &= members  # in place and in one step: other threads add to the set


class _WithoutIterator:
    __slots__ = ("future",)

    def __init__(self, future: asyncio.Future[None]) -> None:
        self.future = future

    def __await__(self) -> Generator[Any, Any, None]:
        self.future._asyncio_future_blocking = True
        return cast(Generator[Any, Any, None], iter((self.future,)))


def without_iterator(future: asyncio.Future[None]) -> Awaitable[None]:
    """Wrap a future so that `await` makes no iterator of asyncio's. The result of the future is lost. Saves 1 to 2 MB.

    Up to CPython 3.13 asyncio keeps 255 dead iterators for ever, and after a flood of connections each may hold an arena.
    """
    return _WithoutIterator(future)
