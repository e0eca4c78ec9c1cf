# SPDX-License-Identifier: MIT
"""What get_extra_info("socket") of a stream transport answers: asyncio's TransportSocket, in step with the transport."""

import socket
import weakref
from asyncio import trsock
from typing import Any


class TransportSocket(trsock.TransportSocket):
    """Sends what the transport holds back before the program touches the stream beside it.

    Who has the descriptor's number or a duplicate may use it at any time: from then on the transport holds nothing back.
    """

    __slots__ = ("_transport",)

    def __init__(self, sock: socket.socket, transport: Any) -> None:
        self._sock = sock
        self._transport = weakref.ref(transport)

    def __repr__(self) -> str:
        # asyncio's __repr__() calls fileno() of its own object: that must not count as giving the number out.
        return repr(trsock.TransportSocket(self._sock))

    def _send_held_back(self) -> None:
        transport = self._transport()
        if transport is not None:
            transport._send_held_back()

    def _share_descriptor(self) -> None:
        transport = self._transport()
        if transport is not None:
            transport._share_descriptor()

    def fileno(self) -> int:
        self._share_descriptor()
        return super().fileno()

    def dup(self) -> socket.socket:
        self._share_descriptor()
        return super().dup()

    def shutdown(self, how: int) -> None:
        self._send_held_back()
        super().shutdown(how)

    def getsockopt(self, *args: Any, **kwargs: Any) -> Any:
        self._send_held_back()
        return super().getsockopt(*args, **kwargs)

    def setsockopt(self, *args: Any, **kwargs: Any) -> None:
        self._send_held_back()
        super().setsockopt(*args, **kwargs)
