# SPDX-License-Identifier: MIT
"""The signals that end a serving process: the first drains, the second forces, the third kills."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Protocol

HANDLED = (signal.SIGINT, signal.SIGTERM)


class Stoppable(Protocol):
    """What a signal stops: a server."""

    should_exit: bool
    force_exit: bool


class CapturedSignals:
    """While it is entered in the main thread, signals stop a server; on leaving they are raised again, as uvicorn does.

    So a caller sees the process end by the signal that it has sent: SIGTERM kills it then, SIGINT is a KeyboardInterrupt. In another
    thread nothing is captured; a signal that is ignored (SIGHUP under nohup) stays ignored.

    Args:
        server: what is stopped.
        numbers: the signals.
        swallowed: those of them that are not raised again where their action is the default one: the process ends anyway, with an
            exit code that says how it went.
    """

    def __init__(
        self,
        server: Stoppable,
        numbers: tuple[signal.Signals, ...] = HANDLED,
        *,
        swallowed: tuple[signal.Signals, ...] = (),
    ) -> None:
        self._server = server
        self._numbers = numbers
        self._swallowed = swallowed
        self._captured: list[int] = []
        self._previous: dict[int, object] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in self._numbers:
            if signal.getsignal(number) is not signal.SIG_IGN:
                # Not the loop's add_signal_handler(): the previous handlers come back at the end.
                self._previous[number] = signal.signal(number, self._handle)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)  # type: ignore[arg-type]  # the one getsignal() gave
        if kind is not None:
            return
        for captured in reversed(self._captured):
            if captured not in self._swallowed or self._previous[captured] is not signal.SIG_DFL:
                signal.raise_signal(captured)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self._captured.append(number)
        if self._server.force_exit:
            # Forced, and still here: a handler keeps the loop from turning.
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        elif self._server.should_exit:
            self._server.force_exit = True
        else:
            self._server.should_exit = True
