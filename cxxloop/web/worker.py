# SPDX-License-Identifier: MIT
"""A worker process: serves on inherited sockets, and answers its supervisor through a socket pair.

The supervisor sends a length and a pickle once, then a byte for each question: "?" is a health check, "t" asks for the tasks. The worker answers with lines: "ready" once it
serves, "retire" when it has served limit_max_requests, a number for a health check: the seconds for which its event loop has made no
turn; and, asked for them, the tasks as JSON on one line. The end of the pair means that the other side has gone.
"""

import asyncio
import contextlib
import functools
import json
import os
import pickle
import signal
import socket
import struct
import sys
import threading
import time
from typing import Any

from .._runner import run as run_on_loop
from . import tasks
from .config import Config
from .error import FAILURE
from .importer import import_from_string
from .metrics import MetricsBlock
from .server import Server, exit_code_of
from .signals import CapturedSignals

LENGTH = struct.Struct("!Q")


class Control:
    """The worker's end of the pair."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._socket.set_inheritable(False)  # or a program that the application starts would keep the pair open
        self._loop: asyncio.AbstractEventLoop | None = None
        self._saying = threading.Lock()  # a long line is sent in pieces
        self._asked_at: float | None = None  # None exactly when the loop has answered all that was asked

    def receive_preparation(self) -> Any:
        """Receive what the supervisor has pickled."""
        (size,) = LENGTH.unpack(self._receive(LENGTH.size))
        return pickle.loads(self._receive(size))

    def say(self, word: str) -> None:
        """Send a line. A supervisor that has gone is told nothing."""
        with self._saying, contextlib.suppress(OSError):
            self._socket.sendall(word.encode() + b"\n")

    def watch_loop(self) -> None:
        """Health checks report on the running loop from now on."""
        self._loop = asyncio.get_running_loop()

    def start_answering(self, server: Server) -> None:
        """Answer in a thread of its own: a loop that is stuck must not look like a process that is."""
        threading.Thread(target=self._answer, args=(server,), name="cxxloop-control", daemon=True).start()

    def _receive(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            piece = self._socket.recv(size - len(data))
            if not piece:
                raise EOFError("the supervisor has gone")
            data += piece
        return bytes(data)

    def _answer(self, server: Server) -> None:
        while True:
            try:
                question = self._socket.recv(1)
            except OSError:
                question = b""
            if not question:
                server.should_exit = True
                return
            if question == b"t":
                self.say(self._describe_tasks())
                continue
            self._ask_loop()
            asked_at = self._asked_at
            self.say(f"{0.0 if asked_at is None else time.monotonic() - asked_at:.3f}")

    def _describe_tasks(self) -> str:
        try:
            return json.dumps({} if self._loop is None else tasks.describe(self._loop))
        except Exception as error:  # the loop goes on meanwhile: what we look at may change
            return json.dumps({"error": str(error)})

    def _ask_loop(self) -> None:
        if self._loop is None or self._asked_at is not None:
            return
        self._asked_at = time.monotonic()
        try:
            self._loop.call_soon_threadsafe(self._loop_turned)
        except RuntimeError:  # closed: the process ends
            self._asked_at = None

    def _loop_turned(self) -> None:
        self._asked_at = None


def main(fd: int) -> None:
    """Serve as the supervisor says that has started this process, then exit.

    Args:
        fd: the worker's end of the pair.
    """
    # Both reach the whole group of the terminal. The supervisor decides; a handler, because children would inherit SIG_IGN.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, frame: None)
    control = Control(fd)
    try:
        config, fds, metrics_fd, sys.argv[:] = control.receive_preparation()
    except EOFError:
        sys.exit(FAILURE)
    except Exception as error:
        print(f"cxxloop: a worker cannot unpickle the settings: {error}", file=sys.stderr)
        sys.exit(FAILURE)
    sys.exit(exit_code_of(functools.partial(_serve, config, fds, metrics_fd, control)))


def _serve(config: Config, fds: list[int], metrics_fd: int | None, control: Control) -> int:
    sockets = [socket.socket(fileno=fd) for fd in fds]
    for sock in sockets:
        sock.set_inheritable(False)
    server = Server(config)
    if metrics_fd is not None:
        os.set_inheritable(metrics_fd, False)
        server.metrics = MetricsBlock(metrics_fd)
    server.on_max_requests = functools.partial(control.say, "retire")
    control.start_answering(server)
    import_from_string(config.app)

    async def serve() -> None:
        control.watch_loop()
        await server.run_until_exit(sockets, functools.partial(control.say, "ready"))

    with CapturedSignals(server, (signal.SIGTERM,), swallowed=(signal.SIGTERM,)):
        if not server.should_exit:  # the supervisor has gone meanwhile
            run_on_loop(serve())
    return 0
