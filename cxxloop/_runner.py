# SPDX-License-Identifier: MIT
"""run() and new_event_loop(): asyncio's own runner with another loop in it."""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from ._loop import Loop

_T = TypeVar("_T")


def new_event_loop() -> Loop:
    """Make a new event loop. This is the loop factory that servers and test runners ask for.

    Returns:
        A Loop that is not running and not the current one; close it after use.

    Raises:
        ValueError: the environment variable CXXLOOP_BACKEND names an unknown backend.
        OSError: the kernel has no descriptors left for the poller.
    """
    return Loop()


def run(
    main: Coroutine[Any, Any, _T],
    *,
    debug: bool | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> _T:
    """Run a coroutine to its end on a new cxxloop event loop: asyncio.run() in every other respect.

    Args:
        main: the coroutine.
        debug: True or False sets the loop's debug mode, None leaves it as the environment says.
        loop_factory: makes the loop; None: new_event_loop().

    Returns:
        What the coroutine returns. Its tasks are cancelled and the loop is closed by then.

    Raises:
        RuntimeError: an event loop runs in this thread already.
        TypeError or ValueError: main is no coroutine, as the running Python's asyncio.run() says.
        Any exception of the coroutine.
    """
    factory = loop_factory or new_event_loop
    if sys.version_info >= (3, 12):
        return asyncio.run(main, debug=debug, loop_factory=factory)
    # asyncio.run() of 3.11 takes no loop_factory; these are its own lines otherwise.
    if asyncio._get_running_loop() is not None:
        raise RuntimeError("asyncio.run() cannot be called from a running event loop")
    with asyncio.Runner(debug=debug, loop_factory=factory) as runner:
        return runner.run(main)
