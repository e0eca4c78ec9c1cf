# SPDX-License-Identifier: MIT
"""asyncio with aiofastnet's transports and TLS, as a module with new_event_loop() for the comparisons."""

import asyncio
import platform

import aiofastnet

__version__ = f"{platform.python_version()} with aiofastnet {aiofastnet.__version__}"


def new_event_loop() -> asyncio.AbstractEventLoop:
    return aiofastnet.patch_loop(asyncio.SelectorEventLoop())
