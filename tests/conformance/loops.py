# SPDX-License-Identifier: MIT
"""The event loops the suite can run on, and how one becomes the loop that asyncio makes in this process."""

import asyncio
import functools
import importlib
import os
from asyncio import unix_events
from collections.abc import Callable
from typing import Any

CLASSES = {
    "asyncio": "asyncio:SelectorEventLoop",
    "cxxloop": "cxxloop:Loop",
    "uvloop": "uvloop:Loop",
}


def load_class(name: str, backend: str | None) -> type:
    """The class of a loop by its short name or as module:Class, importable or ImportError."""
    if backend is not None:
        os.environ["CXXLOOP_BACKEND"] = backend
    module, _, attribute = CLASSES.get(name, name).partition(":")
    return getattr(importlib.import_module(module), attribute)


def version_of(name: str) -> str | None:
    """The release of the loop; None for asyncio, which has Python's."""
    module, _, _ = CLASSES.get(name, name).partition(":")
    return getattr(importlib.import_module(module), "__version__", None)


def install(loop_class: type) -> None:
    """Give loop_class to everyone who asks asyncio for a loop, before the tests read these names."""
    # Not through a policy of our own: the tests reset the policy to the default one.
    unix_events._UnixDefaultEventLoopPolicy._loop_factory = loop_class
    for name in ("SelectorEventLoop", "EventLoop"):
        if hasattr(asyncio, name):
            setattr(asyncio, name, loop_class)


def watch_making(loop_class: Any) -> Callable[[], bool]:
    """A function that says whether this process has made a loop_class since."""
    made: list[bool] = []
    original = loop_class.__init__

    @functools.wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        made.append(True)

    loop_class.__init__ = init
    return lambda: bool(made)
