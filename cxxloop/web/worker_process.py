# SPDX-License-Identifier: MIT
"""One worker process, seen from its supervisor."""

import asyncio
import contextlib
import json
import logging
import pickle
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from .config import Config
from .error import ConfigError
from .metrics import MetricsBlock, Totals
from .worker import LENGTH

_logger = logging.getLogger("cxxloop.error")

# The time between two health checks; less if a check may take less.
_CHECK_SECONDS = 1.0
# Of a worker's answer; that about tasks is the longest.
_LINE_BYTES_MAX = 1 << 20


class WorkerProcess:
    """A worker. Made by start(); its tasks end with the process.

    Attributes:
        pid: its process id.
        exit_code: its exit code, or minus the number of the signal that killed it; None while it runs.
        is_ready: True exactly when it serves, or has served.
        retires: True exactly when it has served enough, and goes on until it is told to end.
        metrics: where it counts; None: nobody looks at its numbers, or it has ended.
    """

    def __init__(self, process: asyncio.subprocess.Process, config: Config, on_change: Callable[[], None]) -> None:
        self.pid = process.pid
        self.exit_code: int | None = None
        self.is_ready = False
        self.retires = False
        self.metrics: MetricsBlock | None = None
        self._totals: Totals | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._questions: list[asyncio.Future[dict[str, Any]]] = []  # about tasks, not answered yet
        self._process = process
        self._config = config
        self._on_change = on_change
        self._progress = asyncio.Event()  # ready or ended
        self._ended = asyncio.Event()
        self._answered = asyncio.Event()
        self._stuck_seconds = 0.0
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def start(
        cls,
        config: Config,
        sockets: Sequence[socket.socket],
        on_change: Callable[[], None],
        totals: Totals | None = None,
    ) -> "WorkerProcess":
        """Start a worker in a fresh interpreter.

        Args:
            config: its settings.
            sockets: bound sockets, which it inherits.
            on_change: called on the loop when is_ready, retires or exit_code has changed.
            totals: it is one of their sources from now on, to its end.

        Raises:
            OSError: the system starts no further process.
            ConfigError: the settings cannot be pickled.
        """
        fds = [sock.fileno() for sock in sockets]
        metrics = None if totals is None else MetricsBlock()
        ours, theirs = socket.socketpair()
        try:
            metrics_fds = [] if metrics is None else [metrics.fd]
            preparation = _pickled((config, fds, metrics_fds[0] if metrics_fds else None, sys.argv))
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    *_command(theirs.fileno()), pass_fds=[theirs.fileno(), *fds, *metrics_fds]
                )
            ours.setblocking(False)
            reader, writer = await asyncio.open_connection(sock=ours, limit=_LINE_BYTES_MAX)
        except BaseException:
            ours.close()
            if metrics is not None:
                metrics.close()
            raise
        worker = cls(process, config, on_change)
        worker._writer = writer
        if totals is not None:
            worker.metrics, worker._totals = metrics, totals
            totals.add(worker)
        writer.write(preparation)
        worker._tasks = [
            asyncio.create_task(job) for job in (worker._read(reader), worker._check(writer), worker._wait_for_end(writer))
        ]
        return worker

    async def wait_until_ready(self, timeout_seconds: float | None) -> bool:
        """Wait until the worker serves, however long without a time. False: it has ended instead, or the time has."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._progress.wait()
        return self.is_ready and self.exit_code is None

    async def describe_tasks(self) -> dict[str, Any]:
        """Ask it what its tasks wait for: tasks.describe().

        Raises:
            ConnectionError: it has ended.
        """
        if self._writer is None or self.exit_code is not None:
            raise ConnectionResetError(f"process {self.pid} has ended")
        question: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._questions.append(question)
        self._writer.write(b"t")
        return await question

    async def wait(self) -> None:
        """Wait until the process has ended."""
        await self._ended.wait()

    def terminate(self) -> None:
        """Tell it to drain and exit; a second call: not to wait for anything."""
        self._send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        self._send_signal(signal.SIGKILL)

    def _send_signal(self, number: signal.Signals) -> None:
        if self.exit_code is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                word = line.decode("ascii", "replace").strip()
                if word == "ready":
                    self.is_ready = True
                    self._progress.set()
                    self._on_change()
                elif word == "retire":
                    self.retires = True
                    self._on_change()
                elif word.startswith("{"):
                    self._on_tasks(json.loads(word))
                else:
                    self._stuck_seconds = float(word)
                    self._answered.set()

    def _on_tasks(self, tasks: dict[str, Any]) -> None:
        question = self._questions.pop(0)
        if not question.done():  # nobody waits any more
            question.set_result({"pid": self.pid, **tasks})

    async def _check(self, writer: asyncio.StreamWriter) -> None:
        timeout = self._config.timeout_worker_healthcheck
        stuck_max = self._config.timeout_worker_stuck_seconds
        writer.write(b"?")
        await self._answered.wait()  # the interpreter starts: that it takes too long is the supervisor's to say
        while True:
            await asyncio.sleep(min(_CHECK_SECONDS, timeout))
            self._answered.clear()
            writer.write(b"?")
            try:
                async with asyncio.timeout(timeout):
                    await self._answered.wait()
            except TimeoutError:
                _logger.error("Child process [%d] does not answer, killing it.", self.pid)
                break
            if self.is_ready and 0 < stuck_max < self._stuck_seconds:
                stuck = self._stuck_seconds
                _logger.error("The event loop of child process [%d] is stuck for %.0f s, killing it.", self.pid, stuck)
                break
        self.kill()

    async def _wait_for_end(self, writer: asyncio.StreamWriter) -> None:
        self.exit_code = await self._process.wait()
        for task in self._tasks[:2]:
            task.cancel()
        writer.close()
        self._end_metrics()
        self._ended.set()
        self._progress.set()
        self._on_change()


    def _end_metrics(self) -> None:
        for question in self._questions:
            if not question.done():
                question.set_exception(ConnectionResetError(f"process {self.pid} has ended"))
        self._questions.clear()
        if self._totals is not None and self.metrics is not None:
            self._totals.remove(self)
            self.metrics.close()
            self.metrics = None


def _command(fd: int) -> list[str]:
    # The path first: the supervisor's program may have changed it, and cxxloop itself be found by it.
    code = f"import sys; sys.path[:] = {sys.path!r}; from cxxloop.web.worker import main; main({fd})"
    return [sys.executable, *subprocess._args_from_interpreter_flags(), "-c", code]  # type: ignore[attr-defined]  # as multiprocessing asks


def _pickled(preparation: tuple[Config, list[int], int | None, list[str]]) -> bytes:
    try:
        data = pickle.dumps(preparation)
    except Exception as error:
        raise ConfigError("workers", f"a setting cannot be pickled for other processes: {error}") from None
    return LENGTH.pack(len(data)) + data


def describe_end(worker: WorkerProcess) -> str:
    """How a worker has ended, for the log: "exit code 3" or "signal SIGKILL"."""
    code = worker.exit_code
    if code is None:
        return "still running"
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"

