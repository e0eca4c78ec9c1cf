# SPDX-License-Identifier: MIT
"""uvicorn: its setting `auto` prefers uvloop wherever uvloop is installed."""

from typing import Any

from .._runner import new_event_loop


def adopt(module: Any) -> None:
    """Let uvicorn.loops.auto answer with cxxloop."""
    module.auto_loop_factory = lambda use_subprocess=False: new_event_loop
    module.auto_loop_setup = lambda use_subprocess=False: None  # the name before uvicorn 0.36
