# SPDX-License-Identifier: MIT
"""A drop-in replacement of asyncio's event loop, written in C++20.

    import cxxloop
    cxxloop.run(main())                                             # like asyncio.run()
    asyncio.run(main(), loop_factory=cxxloop.new_event_loop)        # the same, Python 3.12 and newer
"""

import sys
from typing import TYPE_CHECKING, Any

from . import _asyncio as _asyncio  # first: it says what this Python lacks
from ._build import BuildInfo, build_info
from ._fork import send_before_forks
from ._install import install, uninstall
from ._loop import Loop
from ._runner import new_event_loop, run

if TYPE_CHECKING and sys.version_info < (3, 16):
    from ._policy import EventLoopPolicy, Policy

__all__ = (
    "BuildInfo",
    "EventLoop",
    "Loop",
    "build_info",
    "install",
    "new_event_loop",
    "run",
    "uninstall",
)

__version__: str = build_info().version

send_before_forks()

EventLoop = Loop

_POLICY_NAMES = ("Policy", "EventLoopPolicy")


def __getattr__(name: str) -> Any:
    # The policy classes are made on demand: asyncio deprecates the names they derive from, and 3.16 removes them.
    if name not in _POLICY_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if sys.version_info >= (3, 16):
        raise AttributeError(
            f"module {__name__!r} has no attribute {name!r}: Python 3.16 removed event loop policies; "
            "use cxxloop.run(main()) or asyncio.Runner(loop_factory=cxxloop.new_event_loop)"
        )
    from . import _policy

    return getattr(_policy, name)


def __dir__() -> list[str]:
    names = set(globals())
    if sys.version_info < (3, 16):
        names.update(_POLICY_NAMES)
    return sorted(names)
