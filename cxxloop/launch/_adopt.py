# SPDX-License-Identifier: MIT
"""Make cxxloop the default loop of a process: whoever asks asyncio for its default loop gets cxxloop.

A loop that a program asks for by name (`--loop uvloop`) is left to it.
"""

import asyncio
import importlib
import sys
from asyncio import unix_events
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from .._install import activate
from .._loop import Loop

# A module that chooses a loop, and the adapter in this folder whose adopt() is given it.
_ADAPTERS = {
    "granian._loops": "granian",
    "multiprocessing.spawn": "multiprocessing",
    "sanic.server.loop": "sanic",
    "uvicorn.loops.auto": "uvicorn",
}


def adopt_process() -> None:
    """Make cxxloop the default loop of this process and of the worker processes multiprocessing starts from it."""
    activate()
    # Servers name these classes where asyncio's documentation says new_event_loop().
    for module in (asyncio, unix_events):
        for name in ("SelectorEventLoop", "EventLoop"):
            if hasattr(module, name):
                setattr(module, name, Loop)
    if not any(isinstance(finder, _AdoptingFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AdoptingFinder())


class _AdoptingFinder(MetaPathFinder):
    """Runs an adapter right after its module was first imported; imports no module that the program does not."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _ADAPTERS:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return None
        loader: Any = spec.loader  # made for this spec alone, so its method may be replaced
        execute = loader.exec_module

        def execute_and_adapt(module: ModuleType) -> None:
            execute(module)
            importlib.import_module(f"{__package__}.{_ADAPTERS[fullname]}").adopt(module)

        loader.exec_module = execute_and_adapt
        return spec
