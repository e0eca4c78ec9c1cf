# SPDX-License-Identifier: MIT
"""The event loops the suite can run on, and how one becomes the loop that asyncio makes in this process."""

import asyncio
import importlib
import os
from asyncio import unix_events

CLASSES = {
    "asyncio": ("asyncio", "SelectorEventLoop"),
    "cxxloop": ("cxxloop", "Loop"),
    "uvloop": ("uvloop", "Loop"),
}


def load_class(name: str, backend: str | None) -> type:
    """The class of the loop, importable or ImportError."""
    if backend is not None:
        os.environ["CXXLOOP_BACKEND"] = backend
    module, attribute = CLASSES[name]
    return getattr(importlib.import_module(module), attribute)


def version_of(name: str) -> str | None:
    """The release of the loop; None for asyncio, which has Python's."""
    return getattr(importlib.import_module(CLASSES[name][0]), "__version__", None)


def install(loop_class: type) -> None:
    """Give loop_class to everyone who asks asyncio for a loop, before the tests read these names."""
    # Not through a policy of our own: the tests reset the policy to the default one.
    unix_events._UnixDefaultEventLoopPolicy._loop_factory = loop_class
    for name in ("SelectorEventLoop", "EventLoop"):
        if hasattr(asyncio, name):
            setattr(asyncio, name, loop_class)
