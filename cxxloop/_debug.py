# SPDX-License-Identifier: MIT
"""Debug mode: what asyncio's handles would call for the steps of transports that the loop does natively."""

import functools
import sys
import types
from collections.abc import Callable
from typing import Any

_STREAM_WRITE = "_write_ready" if sys.version_info < (3, 12) else "_write_sendmsg"


@functools.cache
def _method_called(qualname: str) -> Callable[[Any], None]:
    def step(transport: Any) -> None:
        pass  # The handle around this function is reported and never run.

    step.__qualname__ = qualname
    return step


def step_of(transport: Any, sends: bool) -> Callable[[], None]:
    """A bound method named as the one of asyncio's transports that reads, or that sends what had to wait."""
    kind = type(transport).__name__
    name = ("_sendto_ready" if kind == "DatagramTransport" else _STREAM_WRITE) if sends else "_read_ready"
    return types.MethodType(_method_called(f"{kind}.{name}"), transport)
