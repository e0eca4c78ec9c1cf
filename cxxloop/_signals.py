# SPDX-License-Identifier: MIT
"""How a signal reaches a loop: a socket pair whose writing end is the process's signal wakeup descriptor."""

import contextlib
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any


class SignalWakeup:
    """The wakeup descriptor of one loop, and the one that was set before it.

    asyncio sets the descriptor with each handler and resets it to -1 with the last; this also gives it back to
    whoever had set it before, so that a nested loop leaves the outer one's signals working.
    """

    def __init__(self) -> None:
        # The loop is a parameter of each method: a reference to it would be a cycle, and keep a closed loop alive.
        self._previous_fd: int | None = None

    @contextlib.contextmanager
    def adding(self, loop: Any) -> Iterator[None]:
        """Around asyncio's add_signal_handler(), which sets the descriptor of loop._csock."""
        if loop._csock is None and not loop.is_closed():
            self._open(loop)
        if threading.current_thread() is not threading.main_thread() or loop.is_closed():
            yield  # asyncio refuses
            return
        own_fd = loop._csock.fileno()
        # Set our descriptor at once, never -1 in between: otherwise the byte of a signal that comes now would be lost.
        previous_fd = signal.set_wakeup_fd(own_fd)
        try:
            yield
        except BaseException:
            signal.set_wakeup_fd(previous_fd)
            raise
        if self._previous_fd is None and previous_fd != own_fd:
            self._previous_fd = previous_fd

    def restore(self) -> None:
        """Give the wakeup descriptor back."""
        previous_fd, self._previous_fd = self._previous_fd, None
        if previous_fd is None or previous_fd == -1:
            return
        with contextlib.suppress(ValueError, OSError):  # the descriptor was closed, or this is not the main thread
            signal.set_wakeup_fd(previous_fd)

    def close(self, loop: Any) -> None:
        """Close the socket pair."""
        if loop._ssock is None:
            return
        loop._remove_reader(loop._ssock.fileno())
        loop._ssock.close()
        loop._csock.close()
        loop._ssock = loop._csock = None
        loop._internal_fds -= 1

    def _open(self, loop: Any) -> None:
        loop._ssock, loop._csock = socket.socketpair()
        loop._ssock.setblocking(False)
        loop._csock.setblocking(False)
        loop._internal_fds += 1
        loop._add_reader(loop._ssock.fileno(), loop._read_from_self)
