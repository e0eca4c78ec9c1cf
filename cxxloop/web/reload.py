# SPDX-License-Identifier: MIT
"""--reload: one worker, started again whenever a source file changes. For development."""

import asyncio
import contextlib
import fnmatch
import logging
import os
import signal
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

from .config import Config
from .logging import style
from .metrics import Totals, shown_totals
from .sockets import Listeners
from .worker_process import WorkerProcess, describe_end

_logger = logging.getLogger("cxxloop.error")

_INCLUDES = ("*.py",)
_EXCLUDES = (".*", ".py[cod]", ".sw.*", "~*")
# How long the old worker may take to end before it is forced, and then killed: an open stream of events never ends by itself.
_FORCE_SECONDS = 5.0
_KILL_SECONDS = 3.0


class FileFilter:
    """Which files are watched, and in which folders; uvicorn's rules.

    Attributes:
        folders: absolute paths, none inside another one.
    """

    def __init__(self, config: Config) -> None:
        includes, excludes = config.reload_includes, config.reload_excludes
        self._includes = {*(p for p in _INCLUDES if p not in excludes), *(p for p in includes if not os.path.isdir(p))}
        self._excludes = {*(p for p in _EXCLUDES if p not in includes), *(p for p in excludes if not os.path.isdir(p))}
        self._excluded_folders = {Path(p).resolve() for p in excludes if os.path.isdir(p)}
        named = [*config.reload_dirs, *(p for p in includes if os.path.isdir(p))]
        folders = {Path(p).resolve() for p in named or ["."]}
        folders = {folder for folder in folders if not self._is_excluded_folder(folder)} or {Path.cwd()}
        self.folders = sorted(folder for folder in folders if not folders.intersection(folder.parents))

    def matches(self, path: Path) -> bool:
        """Whether a change of this file, given by its absolute path, starts the worker again."""
        if any(self._is_excluded_folder(folder) for folder in path.parents):
            return False
        if path.name in self._includes:  # named in full: no pattern excludes it
            return True
        return any(path.match(p) for p in self._includes) and not any(path.match(p) for p in self._excludes)

    def files(self) -> Iterator[Path]:
        """All files that are watched. Hidden folders are not entered, unless they were named."""
        for top in self.folders:
            for folder, names, files in os.walk(top):
                names[:] = [name for name in names if not self._skips(Path(folder, name))]
                yield from (path for file in files if self.matches(path := Path(folder, file)))

    def _skips(self, folder: Path) -> bool:
        return self._is_excluded_folder(folder) or any(fnmatch.fnmatch(folder.name, p) for p in self._excludes)

    def _is_excluded_folder(self, folder: Path) -> bool:
        return folder in self._excluded_folders


async def polled_changes(watched: FileFilter, delay_seconds: float) -> AsyncGenerator[set[Path], None]:
    """Yield the files that were changed, added or removed, found by looking at all of them every `delay_seconds`."""
    before = _times(watched)
    while True:
        await asyncio.sleep(delay_seconds)
        now = _times(watched)
        if changed := {path for path, _ in before.items() ^ now.items()}:
            yield changed
        before = now


def _times(watched: FileFilter) -> dict[Path, int]:
    times = {}
    for path in watched.files():
        with contextlib.suppress(OSError):  # removed meanwhile
            times[path] = path.stat().st_mtime_ns
    return times


async def notified_changes(watched: FileFilter, delay_seconds: float) -> AsyncGenerator[set[Path], None]:
    """Yield the files that were changed, added or removed, told by watchfiles.

    Raises:
        ImportError: watchfiles is not installed.
    """
    from watchfiles import awatch

    step_ms = max(1, int(delay_seconds * 1000))
    events = awatch(*watched.folders, watch_filter=None, step=step_ms, ignore_permission_denied=True)
    async with contextlib.aclosing(events):
        async for changes in events:
            if changed := {path for _, name in changes if watched.matches(path := Path(name))}:
                yield changed


def _watcher_name() -> str:
    try:
        import watchfiles as _
    except ImportError:
        return "StatReload"
    return "WatchFiles"


class Reloader:
    """Keeps one worker running and restarts it, until a signal comes. Used once, on the loop of the main thread."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._totals: Totals | None = None  # None: there is no admin address
        self._stop = asyncio.Event()
        self._worker: WorkerProcess | None = None
        self._announcement: asyncio.Task[None] | None = None

    async def run(self) -> int:
        """Run until SIGTERM or SIGINT.

        Returns:
            The exit code, 0: a worker that fails to start waits for the next change of a file.

        Raises:
            ListenError: the socket cannot be bound.
        """
        watched = FileFilter(self._config)
        _logger.info("Will watch for changes in these directories: %s", [str(folder) for folder in watched.folders])
        listeners = Listeners(self._config)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal)
        name = _watcher_name()
        pid = style(str(os.getpid()), "cyan", bold=True)
        color_message = f"Started reloader process [{pid}] using {style(name, 'cyan', bold=True)}"
        _logger.info("Started reloader process [%d] using %s", os.getpid(), name, extra={"color_message": color_message})
        try:
            async with shown_totals(self._config) as self._totals:
                await self._start(listeners)
                restarting = asyncio.create_task(self._restart_on_changes(watched, name, listeners))
                stopping = asyncio.create_task(self._stop.wait())
                await asyncio.wait([restarting, stopping], return_when=asyncio.FIRST_COMPLETED)
                for task in (restarting, stopping):
                    task.cancel()
                await asyncio.wait([restarting, stopping])
                await self._end()
            if not restarting.cancelled():
                restarting.result()
        finally:
            listeners.close()
        color_message = f"Stopping reloader process [{pid}]"
        _logger.info("Stopping reloader process [%d]", os.getpid(), extra={"color_message": color_message})
        return 0

    def _on_signal(self) -> None:
        if self._stop.is_set() and self._worker is not None:
            self._worker.terminate()  # the second time: forces
        self._stop.set()

    async def _restart_on_changes(self, watched: FileFilter, name: str, listeners: Listeners) -> None:
        find = notified_changes if name == "WatchFiles" else polled_changes
        async with contextlib.aclosing(find(watched, self._config.reload_delay)) as changes:
            async for changed in changes:
                paths = ", ".join(sorted(_shown(path) for path in changed))
                _logger.warning("%s detected changes in %s. Reloading...", name, paths)
                await self._end()
                await self._start(listeners)

    async def _start(self, listeners: Listeners) -> None:
        worker = await WorkerProcess.start(self._config, listeners.sockets, lambda: None, self._totals)
        self._worker = worker
        self._announcement = asyncio.create_task(self._announce(worker, listeners))

    async def _announce(self, worker: WorkerProcess, listeners: Listeners) -> None:
        if await worker.wait_until_ready(None):
            message, color_message = listeners.started_message(is_tls=self._config.is_tls)
            _logger.info("%s", message, extra={"color_message": color_message.replace("%", "%%")})
        else:
            _logger.info("Child process [%d] died (%s), waiting for changes.", worker.pid, describe_end(worker))

    async def _end(self) -> None:
        worker = self._worker
        if worker is None:
            return
        worker.terminate()
        loop = asyncio.get_running_loop()
        forcing = loop.call_later(_FORCE_SECONDS, worker.terminate)
        killing = loop.call_later(_FORCE_SECONDS + _KILL_SECONDS, worker.kill)
        await worker.wait()
        forcing.cancel()
        killing.cancel()


def _shown(path: Path) -> str:
    try:
        return f"'{path.relative_to(Path.cwd())}'"
    except ValueError:
        return f"'{path}'"
