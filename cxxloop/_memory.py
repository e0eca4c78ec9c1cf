# SPDX-License-Identifier: MIT
"""What asyncio and Python keep after a flood of connections: see src/python/loop/memory_return.h."""

import sys
from asyncio import tasks
from collections.abc import Iterable
from typing import Any

# A collection takes about a millisecond for each 40,000 blocks: 1 us for each connection, and accepting it took 100.
_BLOCKS_PER_CONNECTION = 50


def tidy_up_after_flood(servers: Iterable[Any], connections: int) -> bool:
    """Give back what is kept for the most connections there were, if that is cheap.

    Python frees its memory in pieces of 1 MiB (arenas). Dead tuples and contexts, which it keeps for the next use until
    a full collection, may hold some of them; so may the cycles of handshakes that failed.

    Args:
        servers: those that listen; asyncio notes their connections.
        connections: the most there were at a time.
    """
    # A set of Python keeps its largest table. 3.11; 3.12 and 3.13; 3.13 and later.
    owners = [(tasks, "_all_tasks"), (tasks, "_scheduled_tasks"), *((server, "_clients") for server in servers)]
    for owner, name in owners:
        weak_set: Any = getattr(owner, name, None)
        members = getattr(weak_set, "data", None)
        # Up to 3.13 a walk over the set goes over its members themselves; since 3.14 over a copy.
        if isinstance(members, set) and not getattr(weak_set, "_iterating", False):
            members &= members  # in place and in one step, for other threads add to it
    return 0 < sys.getallocatedblocks() <= _BLOCKS_PER_CONNECTION * connections
