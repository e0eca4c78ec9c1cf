# SPDX-License-Identifier: MIT
"""Granian: a registry of loops by name, of which `auto` is the default."""

import asyncio
from typing import Any

from .._runner import new_event_loop


def adopt(module: Any) -> None:
    """Let granian._loops make cxxloop's loop where the setting is `auto`."""

    def build() -> asyncio.AbstractEventLoop:
        loop = new_event_loop()
        asyncio.set_event_loop(loop)
        return loop

    module.loops.register("auto")(build)
