# SPDX-License-Identifier: MIT
"""The supervisor: starts workers, replaces those that die or get stuck, and restarts them one after the other on SIGHUP.

Its process binds the sockets and serves nobody. A worker that is to be replaced serves until its successor does, and drains then: no
connection meets a closed door, and those that wait in the kernel's queue are taken by whoever listens on the same socket.
"""

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable

from .._runner import run as run_on_loop
from .config import Config
from .error import FAILURE
from .logging import style
from .metrics import Totals, shown_totals
from .sockets import Listeners
from .tls import make_context
from .worker_process import WorkerProcess, describe_end

_logger = logging.getLogger("cxxloop.error")

# A worker that has lived for so long is replaced at once, whatever happened to those before it.
_HEALTHY_SECONDS = 10.0
_DELAY_MIN_SECONDS = 0.5
_DELAY_MAX_SECONDS = 30.0
# How long after the last way out a worker that has been told to end is killed.
_KILL_SECONDS = 10.0


class _Slot:
    """A place for one worker, and what the task that keeps it filled is to do."""

    def __init__(self, listeners: Listeners) -> None:
        self.listeners = listeners
        self.worker: WorkerProcess | None = None
        self.task: asyncio.Task[None] | None = None
        self.changed = asyncio.Event()
        self.renewal: asyncio.Future[bool] | None = None  # asked for by SIGHUP; True: there is a new worker
        self.failures = 0  # starts that have failed, and workers that have died young, in a row

    def delay_seconds(self) -> float:
        """How long to wait before the next worker is started: not at all after the first failure."""
        return 0.0 if self.failures <= 1 else min(_DELAY_MIN_SECONDS * 2 ** min(self.failures - 2, 10), _DELAY_MAX_SECONDS)


class Supervisor:
    """Keeps workers running until a signal comes. Used once, on the loop of the main thread."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._slots: list[_Slot] = []
        self._workers: set[WorkerProcess] = set()  # all that run, also those that drain
        self._totals: Totals | None = None  # None: there is no admin address
        self._stop = asyncio.Event()
        self._signals = 0  # that have asked for the end
        self._exit_code = 0
        self._error: BaseException | None = None  # that has ended the task of a slot
        self._has_served = False  # True exactly when some worker has ever been ready
        self._restart: asyncio.Task[None] | None = None
        self._restart_again = False  # True exactly when SIGHUP came during a restart

    async def run(self) -> int:
        """Run until SIGTERM or SIGINT, or until no worker can be started at all.

        Returns:
            The exit code: 0, or the first worker's if the application has never been served.

        Raises:
            ListenError: a socket cannot be bound.
            ConfigError: a setting cannot be pickled.
        """
        shared = None if self._config.reuse_port else Listeners(self._config)
        color_message = f"Started parent process [{style(str(os.getpid()), 'cyan', bold=True)}]"
        _logger.info("Started parent process [%d]", os.getpid(), extra={"color_message": color_message})
        try:
            async with shown_totals(self._config) as self._totals:
                self._handle_signals()
                for _ in range(self._config.worker_count):
                    self._add_slot(shared)
                await self._stop.wait()
                await self._end_all()
            if self._error is not None:
                raise self._error
        finally:
            for listeners in {slot.listeners for slot in self._slots} | ({shared} if shared is not None else set()):
                listeners.close()
        color_message = f"Stopping parent process [{style(str(os.getpid()), 'cyan', bold=True)}]"
        _logger.info("Stopping parent process [%d]", os.getpid(), extra={"color_message": color_message})
        return self._exit_code

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        handlers: dict[signal.Signals, Callable[[], None]] = {
            signal.SIGINT: lambda: self._on_exit_signal("SIGINT"),
            signal.SIGTERM: lambda: self._on_exit_signal("SIGTERM"),
            signal.SIGHUP: self._on_hangup,
            signal.SIGTTIN: self._on_more,
            signal.SIGTTOU: self._on_fewer,
        }
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        for number in (signal.SIGUSR1, signal.SIGUSR2):  # would end the process
            loop.add_signal_handler(number, _logger.debug, f"Received signal {number.name}, but no handler is defined for it.")

    def _on_exit_signal(self, name: str) -> None:
        _logger.info("Received %s, exiting.", name)
        self._signals += 1
        self._stop.set()
        if self._signals == 2:
            for worker in self._workers:
                worker.terminate()
                asyncio.get_running_loop().call_later(_KILL_SECONDS, worker.kill)
        elif self._signals > 2:
            for worker in self._workers:
                worker.kill()

    def _on_hangup(self) -> None:
        _logger.info("Received SIGHUP, restarting processes.")
        if self._restart is not None and not self._restart.done():
            self._restart_again = True
            return
        self._restart = asyncio.create_task(self._restart_all())

    def _on_more(self) -> None:
        _logger.info("Received SIGTTIN, increasing the number of processes.")
        self._add_slot(None if self._config.reuse_port else self._slots[0].listeners)

    def _on_fewer(self) -> None:
        _logger.info("Received SIGTTOU, decreasing number of processes.")
        if len(self._slots) <= 1:
            _logger.info("Already reached one process, cannot decrease the number of processes anymore.")
            return
        slot = self._slots.pop()
        if self._config.reuse_port:
            slot.listeners.refuse_new()
        if slot.task is not None:
            slot.task.cancel()  # ends its worker, which accepts what waits in the kernel's queue
        if self._config.reuse_port:
            slot.listeners.close()

    def _add_slot(self, listeners: Listeners | None) -> None:
        port = self._slots[0].listeners.port if self._slots else None  # the kernel has chosen it for the first one
        slot = _Slot(listeners or Listeners(self._config, port))
        self._slots.append(slot)
        slot.task = asyncio.create_task(self._keep(slot))
        slot.task.add_done_callback(self._on_slot_end)

    def _on_slot_end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._error = task.exception()
            self._stop.set()

    async def _keep(self, slot: _Slot) -> None:
        """Keep a slot filled. Cancelled: its worker is told to end."""
        try:
            while not self._stop.is_set():
                await self._fill(slot)
        finally:
            if slot.renewal is not None:
                slot.renewal.cancel()
            if slot.worker is not None:
                self._release(slot.worker)

    async def _fill(self, slot: _Slot) -> None:
        if delay := slot.delay_seconds():
            _logger.info("Starting a new child process in %.1f s", delay)
            slot.changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await slot.changed.wait()  # SIGHUP: the code has been mended, perhaps
        worker = await self._start(slot)
        if worker is None:
            slot.failures += 1
            slot.renewal = None  # the next one loads the new code anyway
            return
        slot.worker = worker
        started = time.monotonic()
        await self._stay(slot)
        ended = slot.worker
        slot.worker = None
        self._workers.discard(ended)
        _logger.info("Child process [%d] died (%s)", ended.pid, describe_end(ended))
        slot.failures = 0 if time.monotonic() - started >= _HEALTHY_SECONDS else slot.failures + 1

    async def _stay(self, slot: _Slot) -> None:
        """Return when the slot's worker has ended; until then replace it whenever that is asked for."""
        while slot.worker is not None and slot.worker.exit_code is None:
            if slot.renewal is None and not slot.worker.retires:
                slot.changed.clear()
                await slot.changed.wait()
                continue
            old = slot.worker
            new = await self._start(slot)
            if new is not None:
                slot.worker = new
                self._release(old)
            renewal, slot.renewal = slot.renewal, None
            if renewal is not None:
                renewal.set_result(new is not None)
            elif new is None:
                slot.failures += 1
                await asyncio.sleep(slot.delay_seconds())

    async def _start(self, slot: _Slot) -> WorkerProcess | None:
        """Start a worker for a slot and wait until it serves. None: it has failed, and has ended."""
        try:
            worker = await WorkerProcess.start(self._config, slot.listeners.sockets, slot.changed.set, self._totals)
        except OSError as error:
            _logger.error("Cannot start a child process: %s", error)
            return None
        self._workers.add(worker)
        try:
            if await worker.wait_until_ready(self._config.timeout_worker_startup_seconds):
                self._on_served(slot)
                return worker
            worker.kill()
            await worker.wait()
            self._workers.discard(worker)
        except BaseException:
            self._release(worker)
            raise
        if not self._has_served:
            _logger.error("Child process [%d] failed to start, stopping the parent process.", worker.pid)
            self._exit_code = worker.exit_code if worker.exit_code and worker.exit_code > 0 else FAILURE
            self._stop.set()
        elif slot.worker is not None:
            kept = slot.worker.pid
            _logger.error(
                "New child process [%d] was not ready in time (%s); keeping worker [%d].", worker.pid, describe_end(worker), kept
            )
        else:
            _logger.error("Child process [%d] failed to start (%s).", worker.pid, describe_end(worker))
        return None

    def _on_served(self, slot: _Slot) -> None:
        if not self._has_served:
            self._has_served = True
            message, color_message = slot.listeners.started_message(is_tls=self._config.is_tls)
            _logger.info("%s", message, extra={"color_message": color_message.replace("%", "%%")})

    def _release(self, worker: WorkerProcess) -> None:
        """Tell a worker to end, and see to it that it does."""
        if worker.exit_code is not None:
            self._workers.discard(worker)
            return
        worker.terminate()
        _logger.info("Terminated child process [%d]", worker.pid)
        drain_seconds = self._config.timeout_graceful_shutdown
        if drain_seconds is not None:
            asyncio.get_running_loop().call_later(drain_seconds + _KILL_SECONDS, worker.kill)
        leaving = asyncio.create_task(worker.wait())
        leaving.add_done_callback(lambda task: self._workers.discard(worker))

    async def _end_all(self) -> None:
        if self._restart is not None:
            self._restart.cancel()
        tasks = [slot.task for slot in self._slots if slot.task is not None]
        all_listeners = {slot.listeners for slot in self._slots}
        for listeners in all_listeners:
            listeners.refuse_new()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for listeners in all_listeners:
            listeners.close()  # not after the workers: who connects while they drain would wait, and be reset in the end
        for worker in list(self._workers):
            _logger.info("Waiting for child process [%d]", worker.pid)
            await worker.wait()

    async def _restart_all(self) -> None:
        """Replace every worker, one slot after the other; the old ones drain meanwhile."""
        while True:
            self._restart_again = False
            for slot in list(self._slots):
                if not await self._renew(slot):
                    _logger.error("Aborting the restart: the workers that are left keep serving.")
                    break
            if not self._restart_again:
                return

    async def _renew(self, slot: _Slot) -> bool:
        """Replace the worker of a slot. False: the new one has failed to start."""
        renewal = slot.renewal = asyncio.get_running_loop().create_future()
        slot.changed.set()
        if slot.worker is None:
            return True  # one is being started, perhaps with the old code: it is replaced as soon as it serves
        await asyncio.wait([renewal])
        return renewal.cancelled() or renewal.result()  # cancelled: the slot has gone


def supervise(config: Config) -> int:
    """Run workers, or the one that is reloaded, until a signal comes.

    Returns:
        The exit code.

    Raises:
        ListenError, ConfigError: see Supervisor.run(); also of a certificate that cannot be read.
    """
    if config.ssl_context_factory is None:
        make_context(config)  # once, and one line here, for what every worker would say
    if config.should_reload:
        from .reload import Reloader

        if config.worker_count > 1:
            _logger.warning('"workers" flag is ignored when reloading is enabled.')
        return run_on_loop(Reloader(config).run())
    return run_on_loop(Supervisor(config).run())
