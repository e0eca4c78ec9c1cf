# SPDX-License-Identifier: MIT
"""What `python -m cxxloop` does to a program before it starts: whoever asks for the default loop gets cxxloop.

A loop that a program asks for by name (`--loop uvloop`) is left to it.
"""

import asyncio
import sys
from asyncio import unix_events
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from ._install import activate
from ._loop import Loop
from ._runner import new_event_loop


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


def _adopt_uvicorn(module: Any) -> None:
    # uvicorn's `auto` prefers uvloop wherever it is installed. The second name is the one of uvicorn < 0.36.
    module.auto_loop_factory = lambda use_subprocess=False: new_event_loop
    module.auto_loop_setup = lambda use_subprocess=False: None


def _adopt_sanic(module: Any) -> None:
    # Sanic sets uvloop's policy in every worker by default.
    module.try_use_uvloop = lambda: None


def _adopt_granian(module: Any) -> None:
    def build() -> asyncio.AbstractEventLoop:
        loop = new_event_loop()
        asyncio.set_event_loop(loop)
        return loop

    module.loops.register("auto")(build)


class _AdoptWhenUnpickled:
    """A worker process that receives this adopts cxxloop too."""

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return adopt_process, ()


def _adopt_spawned(module: Any) -> None:
    # Spawned and forkserver children start from a fresh interpreter and unpickle this dictionary first.
    get_preparation_data = module.get_preparation_data

    def with_adoption(name: str) -> dict[str, Any]:
        return {**get_preparation_data(name), "cxxloop": _AdoptWhenUnpickled()}

    module.get_preparation_data = with_adoption


_ADAPTERS: dict[str, Callable[[Any], None]] = {
    "granian._loops": _adopt_granian,
    "multiprocessing.spawn": _adopt_spawned,
    "sanic.server.loop": _adopt_sanic,
    "uvicorn.loops.auto": _adopt_uvicorn,
}


class _AdoptingFinder(MetaPathFinder):
    """Runs an adapter right after its module was first imported; adds no import of its own."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        adapter = _ADAPTERS.get(fullname)
        if adapter is None:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return None
        loader: Any = spec.loader  # made for this spec alone, so its method may be replaced
        execute = loader.exec_module

        def execute_and_adapt(module: ModuleType) -> None:
            execute(module)
            adapter(module)

        loader.exec_module = execute_and_adapt
        return spec
