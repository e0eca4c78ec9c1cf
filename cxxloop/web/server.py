# SPDX-License-Identifier: MIT
"""Server: one server on one event loop, from start-up to the end; run() and serve() around it."""

import asyncio
import contextlib
import enum
import functools
import logging
import os
import random
import select
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .._loop import Loop
from .._runner import run as run_on_loop
from .access_log import make_on_access
from .config import Config
from .error import FAILURE, STARTUP_FAILURE, ConfigError, ImportFromStringError, ListenError, StartupError
from .importer import import_from_string
from .lifespan import Lifespan
from .logging import style
from .metrics import LoopMonitor, MetricsBlock
from .native import import_native, native_options
from .signals import HANDLED, CapturedSignals
from .sockets import Listeners
from .tls import check_engine, make_context

if TYPE_CHECKING:
    from .admin import Admin

_logger = logging.getLogger("cxxloop.error")

# How often the number of requests is compared with limit_max_requests, as in uvicorn.
_REQUESTS_LOOK_SECONDS = 0.1
# A client's last packet of a handshake follows the server's first after a round trip.
_HANDSHAKE_SECONDS = 0.1
# The queue of a socket that other processes share may never be found empty.
_QUEUE_SECONDS = 1.0
# How long cancelled requests may take to end.
_CANCELLED_SECONDS = 1.0


class _State(enum.Enum):
    """new -> started -> stopping -> stopped; a failed start leads from new to stopped."""

    NEW = enum.auto()
    STARTED = enum.auto()
    STOPPING = enum.auto()
    STOPPED = enum.auto()


class Server:
    """Serves one application, once. Applies the settings of logging when it is made.

    Embedded in a program that runs on cxxloop, either `await server.serve()`, which captures SIGINT and SIGTERM and returns
    when the server has ended, or `await server.startup()` and `await server.shutdown()`, which touch no signals.

    Args:
        config: the settings; those of processes (workers, reload) are not looked at here.

    Attributes:
        config: the settings.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        # Called once when limit_max_requests is reached; the server ends unless this is replaced.
        self.on_max_requests: Callable[[], None] = self._exit_by_limit
        self._state = _State.NEW
        self._should_exit = False
        self._force_exit = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = asyncio.Event()  # something that _wait() looks at has changed
        self._is_idle = False
        self._native: Any = None
        self._lifespan: Lifespan | None = None
        self._listeners: Listeners | None = None
        self._given_sockets: list[socket.socket] = []
        # Where the server counts; given by a parent that shows the numbers, or made for the admin address of our own.
        self.metrics: MetricsBlock | None = None
        self._admin: Admin | None = None
        self._monitor: LoopMonitor | None = None
        config.configure_logging()

    @property
    def started(self) -> bool:
        """True exactly when the server has begun to accept connections, also after its end."""
        return self._native is not None

    @property
    def should_exit(self) -> bool:
        """Set it, from any thread or signal handler, to end serve() after the requests that run."""
        return self._should_exit

    @should_exit.setter
    def should_exit(self, value: bool) -> None:
        self._should_exit = value
        self._wake()

    @property
    def force_exit(self) -> bool:
        """Set it together with should_exit to end without waiting for requests and the application's shutdown."""
        return self._force_exit

    @force_exit.setter
    def force_exit(self, value: bool) -> None:
        self._force_exit = value
        self._wake()

    @property
    def sockets(self) -> Sequence[socket.socket]:
        """The sockets that are listened on. Borrowed: they are closed by shutdown()."""
        return self._listeners.sockets if self._listeners is not None else self._given_sockets

    @property
    def counters(self) -> dict[str, int]:
        """How many connections and requests there were and are, by the names of the native server; empty before the start."""
        return dict(self._native.counters()) if self._native is not None else {}

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve on a new event loop until SIGINT, SIGTERM or SIGHUP comes. To be called in the main thread.

        Returns after SIGTERM, so that the process ends with 0; SIGINT and SIGHUP are raised again, and so is a SIGTERM for which
        the program has a handler of its own.

        Args:
            sockets: bound sockets to listen on; None: those that the settings describe.

        Raises:
            As serve().
        """
        import_from_string(self.config.app)  # before the loop runs: a module may call asyncio.run() while it is imported
        with CapturedSignals(self, (*HANDLED, signal.SIGHUP), swallowed=(signal.SIGTERM,)):
            run_on_loop(self.run_until_exit(sockets))

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until should_exit is set or a signal comes, then raise the signal again.

        Args:
            sockets: bound sockets to listen on; None: those that the settings describe.

        Raises:
            RuntimeError: the running event loop is not cxxloop's, or the server has served before.
            ConfigError: a setting that is looked at only now: a certificate that cannot be read.
            ImportFromStringError, or any exception of the application's module: it cannot be imported.
            ListenError: a socket cannot be bound.
            StartupError: the application's lifespan has failed to start.
        """
        with CapturedSignals(self):
            await self.run_until_exit(sockets)

    async def run_until_exit(
        self, sockets: list[socket.socket] | None = None, on_started: Callable[[], None] | None = None
    ) -> None:
        """serve() without signals: start, call on_started, wait until should_exit is set, end."""
        await self.startup(sockets)
        try:
            if on_started is not None:
                on_started()
            await self._wait(lambda: self._should_exit)
        finally:
            await self.shutdown()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application and listen. Once it returns, connections are accepted.

        Args:
            sockets: bound sockets to listen on, closed by shutdown(); None: those that the settings describe.

        Raises:
            As serve(); nothing is left listening then.
        """
        if self._state is not _State.NEW:
            raise RuntimeError("the server has served before; make another one")
        self._loop = _running_cxxloop()
        self._state = _State.STOPPED
        config = self.config
        tls = make_context(config)
        native = import_native()
        check_engine(config, tls, has_libssl=native.Server.tls_library() is not None)
        application = config.load()
        _log_process("Started")
        if sockets is None:
            self._listeners = Listeners(config)
        else:
            self._given_sockets = sockets
        try:
            if config.admin is not None and self.metrics is None:
                self._admin = _make_admin(config)
                self.metrics = self._admin.own_metrics
            await self._start(application, native, tls)
        except BaseException:
            self._close_sockets()
            await self._end_metrics()
            raise

    async def _start(self, application: Any, native: Any, tls: Any) -> None:
        config = self.config
        self._lifespan = lifespan = Lifespan(application, config.lifespan)
        await lifespan.startup()
        if lifespan.should_exit:
            raise StartupError("application startup failed")
        options = native_options(config, tls)
        if self.metrics is not None:
            options["metrics_fd"] = self.metrics.fd
        self._native = native.Server(
            self._loop,
            application,
            options=options,
            state=lifespan.state,
            on_idle=self._on_idle,
            on_access=make_on_access(config),
            on_error=_log_error,
        )
        for sock in self.sockets:
            sock.listen(config.backlog)
            sock.setblocking(False)
            self._native.listen(sock.fileno())
        self._state = _State.STARTED
        if self._listeners is not None:
            message, color_message = self._listeners.started_message(is_tls=tls is not None)
            _logger.info("%s", message, extra={"color_message": color_message.replace("%", "%%")})
        if self.metrics is not None:
            self._monitor = LoopMonitor(self.metrics, None if self._admin is None else self._admin.tasks)
        if self._admin is not None:
            self._admin.start()
        if config.limit_max_requests is not None:
            self._look_at_requests(config.limit_max_requests + random.randint(0, config.limit_max_requests_jitter))

    async def shutdown(self) -> None:
        """Stop listening, let the requests that run end, end the application. Nothing happens if the server does not serve.

        Waits at most timeout_graceful_shutdown for the requests; those that still run then are cancelled.
        """
        if self._state is not _State.STARTED:
            return
        self._state = _State.STOPPING
        _logger.info("Shutting down")
        try:
            if self._listeners is not None:
                self._listeners.refuse_new()
            await self._accept_waiting()
            self._native.drain()
            self._close_sockets()
            await self._end_requests()
            self._native.close()
            if self._lifespan is not None and not self._force_exit:
                await self._lifespan.shutdown()
        finally:
            self._native.close()
            self._state = _State.STOPPED
            await self._end_metrics()
        _log_process("Finished")

    async def _accept_waiting(self) -> None:
        """Accept what the kernel has already taken: closing the socket would reset it, requests that were sent included."""
        assert self._loop is not None
        if self._native.counters()["connections"]:  # clients are about: let handshakes end that have begun
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_HANDSHAKE_SECONDS):
                    await self._wait(lambda: self._force_exit)
        queues = select.poll()
        for sock in self.sockets:
            queues.register(sock, select.POLLIN)
        give_up = self._loop.time() + _QUEUE_SECONDS
        while not self._force_exit and queues.poll(0) and self._loop.time() < give_up:
            await asyncio.sleep(0)  # the native server accepts in each turn

    async def _end_requests(self) -> None:
        try:
            async with asyncio.timeout(self.config.timeout_graceful_shutdown):
                if not self._is_idle:
                    _logger.info("Waiting for connections to close. (CTRL+C to force quit)")
                    await self._wait(lambda: self._is_idle or self._force_exit)
                if not self._force_exit and self._native.tasks():
                    _logger.info("Waiting for background tasks to complete. (CTRL+C to force quit)")
                    await self._wait_for_tasks()
        except TimeoutError:
            count = len(self._native.tasks())
            _logger.error("Cancel %s running task(s), timeout graceful shutdown exceeded", count)
        tasks = self._native.tasks()
        for task in tasks:
            task.cancel("Task cancelled, timeout graceful shutdown exceeded")
        if tasks:
            await asyncio.wait(tasks, timeout=_CANCELLED_SECONDS)

    async def _wait_for_tasks(self) -> None:
        for task in self._native.tasks():
            task.add_done_callback(lambda task: self._woken.set())
        await self._wait(lambda: self._force_exit or not any(not task.done() for task in self._native.tasks()))

    async def _wait(self, is_met: Callable[[], bool]) -> None:
        while not is_met():
            self._woken.clear()
            await self._woken.wait()

    def _wake(self) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._woken.set)

    def _on_idle(self) -> None:
        self._is_idle = True
        self._woken.set()

    def _look_at_requests(self, requests_max: int) -> None:
        if self._state is not _State.STARTED or self._loop is None:
            return
        if self._native.counters()["requests"] < requests_max:
            self._loop.call_later(_REQUESTS_LOOK_SECONDS, self._look_at_requests, requests_max)
            return
        _logger.info("Maximum request limit of %d exceeded. Terminating process.", requests_max)
        self.on_max_requests()

    async def _end_metrics(self) -> None:
        if self._monitor is not None:
            self._monitor.stop()
        if self._admin is not None:
            await self._admin.close()
        if self.metrics is not None:
            self.metrics.close()
            self.metrics = None

    def _exit_by_limit(self) -> None:
        self.should_exit = True

    def _close_sockets(self) -> None:
        if self._listeners is not None:
            self._listeners.close()
        for sock in self._given_sockets:
            sock.close()


def _running_cxxloop() -> Loop:
    loop = asyncio.get_running_loop()
    if not isinstance(loop, Loop):
        name = f"{type(loop).__module__}.{type(loop).__qualname__}"
        raise RuntimeError(f"cxxloop.web serves on cxxloop's event loop, not on {name}: start the program with cxxloop.run()")
    return loop


def _make_admin(config: Config) -> "Admin":
    from .admin import Admin

    return Admin.of_this_process(config)


def _log_process(verb: str) -> None:
    color_message = f"{verb} server process [{style('%d', 'cyan')}]"
    _logger.info(f"{verb} server process [%d]", os.getpid(), extra={"color_message": color_message})


def _log_error(message: str, exception: BaseException | None) -> None:
    _logger.error("%s", message, exc_info=exception)


async def serve(app: Any, **settings: Any) -> None:
    """Serve an application on the running event loop, which must be cxxloop's, until a signal comes.

    Args:
        app: the application, or its import string "module:attribute".
        settings: keywords of Config; those of processes (workers, reload) are refused.

    Raises:
        ConfigError: a setting is wrong, or it is one of processes.
        As Server.serve().
    """
    config = Config(app, **settings)
    for name in ("workers", "reload"):
        if settings.get(name):
            raise ConfigError(name, "needs processes: use cxxloop.web.run() or the command")
    await Server(config).serve()


def run(app: Any, **settings: Any) -> None:
    """Serve an application in this process, or in worker processes, until a signal comes. As uvicorn.run().

    Returns when the server has ended in order: after SIGTERM and SIGINT, or by limit_max_requests.

    Args:
        app: the application, or its import string "module:attribute"; workers and reload need the string.
        settings: keywords of Config.

    Raises:
        ConfigError: a setting is wrong.
        SystemExit: with 1 if the application cannot be imported or a socket cannot be bound, with 3 if the application's
            lifespan failed to start. The log says why.
    """
    config = Config(app, **settings)
    if config.app_dir is not None:
        sys.path.insert(0, os.path.abspath(config.app_dir))
    config.configure_logging()
    if (config.reload or config.worker_count > 1) and not isinstance(app, str):
        _logger.warning("You must pass the application as an import string to enable 'reload' or 'workers'.")
        sys.exit(FAILURE)
    exit_code = exit_code_of(functools.partial(_run_processes, config))
    if exit_code:
        sys.exit(exit_code)


def exit_code_of(serve_all: Callable[[], int]) -> int:
    """Call what serves, and log the errors of users as one line each.

    Returns:
        What it returns, or the exit code of the error.
    """
    try:
        return serve_all()
    except ImportFromStringError as error:
        _logger.error("Error loading ASGI app. %s", error)
        return FAILURE
    except (ConfigError, ListenError) as error:
        _logger.error("%s", error)
        return FAILURE
    except StartupError:  # the lifespan has logged it
        return STARTUP_FAILURE
    except KeyboardInterrupt:
        return 0


def _run_processes(config: Config) -> int:
    if not config.should_reload and not config.has_workers:
        Server(config).run()
        return 0
    from .supervisor import supervise

    return supervise(config)
