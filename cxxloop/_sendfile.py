# SPDX-License-Identifier: MIT
"""loop.sendfile() where the kernel cannot: asyncio's read-and-write fallback on a native transport."""

from asyncio import transports
from typing import Any

_FORWARDED = (
    "get_protocol",
    "is_closing",
    "is_reading",
    "pause_reading",
    "resume_reading",
    "set_protocol",
    "write",
)


class FlowControlled(transports._FlowControlMixin):
    """A native transport in the class that asyncio's fallback insists on."""

    def __init__(self, transport: Any) -> None:
        super().__init__(None, transport._loop)
        self._protocol_paused = transport._protocol_paused
        for name in _FORWARDED:
            setattr(self, name, getattr(transport, name))
