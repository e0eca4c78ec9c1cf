# SPDX-License-Identifier: MIT
"""cxxloop's own server as a worker class of gunicorn: `gunicorn -k cxxloop.gunicorn.WebWorker app:app`."""

import asyncio
import logging
import os
import signal
import sys
from typing import Any

from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker

from .._runner import run as run_on_loop
from .config import Config
from .server import Server, exit_code_of
from .signals import CapturedSignals

# gunicorn expects a sign of life before its timeout, which is 30 s unless told.
_NOTIFY_SECONDS = 1.0


class WebWorker(Worker):
    """Serves ASGI and WSGI applications. gunicorn's settings of keep-alive, requests, proxies, threads and logs apply.

    A subclass sets further settings of cxxloop.web.Config in CONFIG_KWARGS.
    """

    CONFIG_KWARGS: dict[str, Any] = {}

    def init_signals(self) -> None:
        """Give signals back their default actions; the server captures those that end it."""
        for number in self.SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGUSR1, self.handle_usr1)
        signal.siginterrupt(signal.SIGUSR1, False)

    def run(self) -> None:
        """Serve until gunicorn says otherwise."""
        for name, log in (("cxxloop.error", self.log.error_log), ("cxxloop.access", self.log.access_log)):
            logger = logging.getLogger(name)
            logger.handlers, logger.propagate = log.handlers, False
            logger.setLevel(log.level)
        exit_code = exit_code_of(self._serve)
        if exit_code:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)  # ends gunicorn, too: the next worker would fail alike

    def _serve(self) -> int:
        server = Server(Config(self.wsgi, **{**self._settings(), **self.CONFIG_KWARGS}))
        # gunicorn's own objects around sockets, in versions that have them.
        sockets = [getattr(sock, "sock", sock) for sock in self.sockets]
        with CapturedSignals(server, (signal.SIGTERM,), swallowed=(signal.SIGTERM,)):
            run_on_loop(self._run(server, sockets))
        return 0

    async def _run(self, server: Server, sockets: list[Any]) -> None:
        def exit_quickly() -> None:
            server.should_exit = server.force_exit = True

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGQUIT):
            loop.add_signal_handler(number, exit_quickly)
        notifying = asyncio.create_task(self._notify_always(server))
        try:
            await server.run_until_exit(sockets)
        finally:
            notifying.cancel()

    async def _notify_always(self, server: Server) -> None:
        while True:
            self.notify()
            if self.ppid != os.getppid():  # gunicorn has gone
                server.should_exit = True
            await asyncio.sleep(_NOTIFY_SECONDS)

    def _settings(self) -> dict[str, Any]:
        cfg = self.cfg
        settings = {
            "log_config": None,
            "timeout_keep_alive": cfg.keepalive,
            "timeout_graceful_shutdown": cfg.graceful_timeout,
            "limit_max_requests": self.max_requests if cfg.max_requests else None,  # gunicorn has added its jitter
            "forwarded_allow_ips": cfg.forwarded_allow_ips,
            "backlog": cfg.backlog,
        }
        if cfg.threads > 1:
            settings["wsgi_threads"] = cfg.threads
        if cfg.is_ssl:
            for name in ("keyfile", "certfile", "ca_certs", "ciphers", "cert_reqs"):
                if cfg.ssl_options.get(name) is not None:
                    settings[f"ssl_{name}"] = cfg.ssl_options[name]
        return settings
