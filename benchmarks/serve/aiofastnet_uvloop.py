# SPDX-License-Identifier: MIT
"""uvloop with aiofastnet's transports and TLS, as a module with new_event_loop() for the comparisons."""

import asyncio

import aiofastnet
import uvloop

__version__ = f"{uvloop.__version__} with aiofastnet {aiofastnet.__version__}"


def new_event_loop() -> asyncio.AbstractEventLoop:
    return aiofastnet.patch_loop(uvloop.new_event_loop())
