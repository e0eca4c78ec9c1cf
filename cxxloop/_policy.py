# SPDX-License-Identifier: MIT
"""Event loop policies, for programs that still use them; CPython 3.16 has none."""

from asyncio import unix_events
from typing import Any

from ._loop import Loop

_unix_events: Any = unix_events  # typeshed does not know its private classes


# The undecorated class: reading asyncio.DefaultEventLoopPolicy warns since 3.14.
class Policy(_unix_events._UnixDefaultEventLoopPolicy):
    """The default policy of the running Python, making cxxloop's event loops."""

    _loop_factory = Loop


EventLoopPolicy = Policy
