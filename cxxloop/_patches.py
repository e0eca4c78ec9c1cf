# SPDX-License-Identifier: MIT
"""Methods that a program has replaced in asyncio's own loop class, put in front of the native ones.

Tracers wrap BaseEventLoop.create_task() or call_soon(), tests replace time.monotonic(). The native methods come first in
our class and would hide that; asking them to look costs every call. So the class is changed when a loop is made or a
run begins, and changed back when the program has restored asyncio's.
"""

import os
import threading
import time
import types
from typing import Any

# Those whose original, called by a wrapper, works on a loop that has asyncio's queues in another place.
_FOLLOWED = (
    "add_reader",
    "add_writer",
    "call_later",
    "call_soon",
    "create_future",
    "create_task",
    "get_debug",
    "getaddrinfo",
    "getnameinfo",
    "is_closed",
    "is_running",
    "remove_reader",
    "remove_writer",
    "sock_recv",
    "sock_recv_into",
    "sock_sendall",
    "time",
)

_MISSING = object()


def _is_replaced(asyncio_loop: type, name: str) -> bool:
    # By where it was written: the replacement may be older than this module, and dressed up by functools.wraps().
    function = getattr(asyncio_loop, name)
    written_in = function.__globals__.get("__name__", "") if type(function) is types.FunctionType else ""
    return not written_in.startswith("asyncio.")


class Patches:
    """What this module has put into one loop class. Loops of several threads share it."""

    def __init__(self, loop_class: type, asyncio_loop: type, native_loop: type) -> None:
        self._loop_class = loop_class
        self._asyncio_loop = asyncio_loop
        self._native_loop = native_loop
        self._own = {name: vars(loop_class).get(name, _MISSING) for name in _FOLLOWED}
        self._ours: dict[str, Any] = {}
        self._renew_lock()
        os.register_at_fork(after_in_child=self._renew_lock)

    def _renew_lock(self) -> None:
        # Not a plain lock: a signal handler of the program may make a loop while this thread has it.
        self._lock = threading.RLock()

    def follow(self) -> None:
        """Look at asyncio's class and at the clock, and change the loop class accordingly."""
        # Between the look and the change another thread may look too. It would put an older method over a newer one, or
        # take what is half done for a change of the program's.
        with self._lock:
            for name, own in self._own.items():
                self._follow(name, own)

    def _follow(self, name: str, own: Any) -> None:
        current = vars(self._loop_class).get(name, _MISSING)
        expected = self._ours.get(name, own)
        # The native method: what freezegun restores.
        if current is not expected and current is not getattr(self._native_loop, name, own):
            return  # The program has changed our class itself, which outranks asyncio's.
        self._set(name, self._wanted(name, own))

    def _wanted(self, name: str, own: Any) -> Any:
        is_fake_clock = name == "time" and type(time.monotonic) is not types.BuiltinFunctionType
        if is_fake_clock or _is_replaced(self._asyncio_loop, name):
            self._ours[name] = getattr(self._asyncio_loop, name)
            return self._ours[name]
        self._ours.pop(name, None)
        return own

    def _set(self, name: str, wanted: Any) -> None:
        current = vars(self._loop_class).get(name, _MISSING)
        if current is wanted:
            return
        if wanted is _MISSING:
            delattr(self._loop_class, name)
        else:
            setattr(self._loop_class, name, wanted)
