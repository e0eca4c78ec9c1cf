# SPDX-License-Identifier: MIT
"""Event loop policies, for programs that still use them; CPython 3.16 has none."""

from asyncio import unix_events
from typing import Any

from ._loop import Loop

# The undecorated class: reading asyncio.DefaultEventLoopPolicy warns since 3.14.
_Base: Any = getattr(unix_events, "_UnixDefaultEventLoopPolicy")  # noqa: B009


class Policy(_Base):  # type: ignore[misc]
    """The default policy of the running Python, making cxxloop's event loops."""

    _loop_factory = Loop


EventLoopPolicy = Policy
