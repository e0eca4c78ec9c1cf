# SPDX-License-Identifier: MIT
"""Before a fork the loop of the forking thread sends what its callback has written, as asyncio has by then."""

import asyncio
import os

from . import _core


def _send_held_back() -> None:
    loop = asyncio._get_running_loop()
    if isinstance(loop, _core.Loop):
        loop._send_held_back()


def send_before_forks() -> None:
    """Make every os.fork() of this interpreter send first. A loop of another thread sends when its callback ends."""
    os.register_at_fork(before=_send_held_back)
