# SPDX-License-Identifier: MIT
"""The admin address: a page of live charts, /metrics for Prometheus, /tasks; served by a native server of its own.

It runs on the loop of the process that watches the workers, or on the server's own. It asks nobody for a password: it listens on
loopback unless told otherwise, answers to addresses and names that no stranger's DNS server decides about, and changes nothing.
"""

import asyncio
import importlib.resources
import json
import logging
import os
import platform
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

from .. import __version__
from . import tasks
from .admin_samples import Sampler
from .app import App
from .application import Receive, Scope, Send
from .config import Config
from .error import ListenError
from .metrics import MetricsBlock, Totals
from .metrics_text import CONTENT_TYPE, metrics_text
from .native import import_native, native_options
from .network import cannot_be_rebound, is_loopback
from .request import Request
from .response import JSON, HTTPError, Response, Streaming
from .sockets import bind_addresses

_logger = logging.getLogger("cxxloop.error")

_STREAMS_MAX = 32
_ANSWER_SECONDS = 2.0
_HEADERS = [
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
    ),
]
# Path: file of the package, its type.
_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/chart.js": ("chart.js", "text/javascript; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}


class OwnProcess:
    """This process as a source of numbers: it serves, and shows them itself.

    Attributes:
        pid: its process id.
        metrics: where its server counts.
        admin: the admin address that it serves, whose tasks are not shown.
    """

    def __init__(self, metrics: MetricsBlock) -> None:
        self.pid = os.getpid()
        self.metrics: MetricsBlock | None = metrics
        self.admin: Admin | None = None

    async def describe_tasks(self) -> dict[str, Any]:
        """As Source."""
        left_out: list[asyncio.Task[Any] | None] = [asyncio.current_task()]  # in its first step: no server has it yet
        if self.admin is not None:
            left_out += self.admin.tasks()
        return tasks.describe(asyncio.get_running_loop(), left_out)


class Admin:
    """The admin address of a server.

    Args:
        config: the server's settings; `admin` is set.
        totals: whose numbers are shown.

    Raises:
        ListenError: the address is taken, or turned out to be one that other machines can reach.
    """

    def __init__(self, config: Config, totals: Totals) -> None:
        assert config.admin is not None
        self._config = config
        self._totals = totals
        self._started_at = time.time()
        self._sampler = Sampler(totals)
        self._streams = 0
        self._native: Any = None
        self._sockets: list[socket.socket] = []
        self._app = self._make_app()
        self.own_metrics: MetricsBlock | None = None
        host, port = config.admin
        try:
            bind_addresses(self._sockets, host, port)
            self._check_addresses()
        except BaseException:
            self._close_sockets()
            raise

    @classmethod
    def of_this_process(cls, config: Config) -> "Admin":
        """The admin address of a process that serves; its server is to count in `own_metrics`, which stays its own."""
        metrics = MetricsBlock()
        try:
            totals = Totals()
            process = OwnProcess(metrics)
            totals.add(process)
            admin = process.admin = cls(config, totals)
        except BaseException:
            metrics.close()
            raise
        admin.own_metrics = metrics
        return admin

    def start(self) -> None:
        """Listen, on the running loop."""
        settings = Config(None, proxy_headers=False, access_log=False, ws="none", limit_connections=256, limit_body_bytes=1024)
        self._native = import_native().Server(
            asyncio.get_running_loop(),
            self._answer,
            options=native_options(settings, None),
            state=None,
            on_idle=lambda: None,
            on_access=None,
            on_error=_log_error,
        )
        for sock in self._sockets:
            sock.listen(64)
            sock.setblocking(False)
            self._native.listen(sock.fileno())
        self._sampler.start()
        address = self._sockets[0].getsockname()
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        _logger.info("Admin page on http://%s:%d/", host, address[1])

    async def close(self) -> None:
        """Stop listening, and end what runs."""
        self._sampler.stop()  # streams of events end by themselves
        if self._native is not None:
            self._native.stop_listening()
            if running := self.tasks():
                await asyncio.wait(running, timeout=1)
            self._native.close()
        self._close_sockets()

    def tasks(self) -> list[asyncio.Task[None]]:
        """The tasks that answer requests to the admin address."""
        return [] if self._native is None else self._native.tasks()

    def _close_sockets(self) -> None:
        for sock in self._sockets:
            sock.close()

    def _check_addresses(self) -> None:
        # A name may mean something else here than elsewhere.
        for sock in self._sockets:
            if not self._config.admin_remote and not is_loopback(sock.getsockname()[0]):
                raise ListenError(None, f"cannot listen on {sock.getsockname()[0]} for --admin: other machines can reach it")

    # --- requests ----------------------------------------------------------------------------------------------------

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        own_name = self._config.admin[0] if self._config.admin is not None else ""
        host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
        if cannot_be_rebound(host, own_name):
            await self._app(scope, receive, send)
        else:
            await Response("This address does not answer to that name.\n", status=421, headers=_HEADERS).send(scope, receive, send)

    def _make_app(self) -> App:
        app = App()
        folder = importlib.resources.files(__package__) / "admin_page"
        for path, (name, media_type) in _FILES.items():
            content = folder.joinpath(name).read_bytes()
            app.add("GET", path, _file_handler(content, media_type))
        app.add("GET", "/metrics", self._metrics)
        app.add("GET", "/tasks", self._tasks)
        app.add("GET", "/events", self._events)
        return app

    def _metrics(self, request: Request) -> Response:
        return Response(metrics_text(self._totals, self._started_at), headers=_HEADERS, media_type=CONTENT_TYPE)

    async def _tasks(self, request: Request) -> Response:
        async def ask(source: Any) -> dict[str, Any]:
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    answer: dict[str, Any] = await source.describe_tasks()
                    return answer
            except (TimeoutError, OSError):
                return {"pid": source.pid, "error": "the process does not answer"}

        sources = list(self._totals.sources)
        # gather() makes tasks, which would be among those of this process.
        workers = [await ask(sources[0])] if len(sources) == 1 else await asyncio.gather(*map(ask, sources))
        return JSON({"workers": workers}, headers=_HEADERS)

    def _events(self, request: Request) -> Response:
        if self._streams >= _STREAMS_MAX:
            raise HTTPError(503, "too many pages are open", headers=_HEADERS)
        return Streaming(self._stream(), headers=_HEADERS, media_type="text/event-stream")

    async def _stream(self) -> AsyncIterator[str]:
        self._streams += 1
        try:
            yield "retry: 2000\n\n"
            yield _event("start", {"server": self._describe_server(), "history": list(self._sampler.history)})
            async for sample in self._sampler.samples():
                yield _event("sample", sample)
        finally:
            self._streams -= 1

    def _describe_server(self) -> dict[str, Any]:
        app = self._config.app
        return {
            "app": app if isinstance(app, str) else type(app).__qualname__,
            "version": __version__,
            "python": platform.python_version(),
            "pid": os.getpid(),
            "started": self._started_at,
        }


def _file_handler(content: bytes, media_type: str) -> Any:
    def answer(request: Request) -> Response:
        return Response(content, headers=_HEADERS, media_type=media_type)

    return answer


def _event(name: str, data: dict[str, Any]) -> str:
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"


def _log_error(message: str, exception: BaseException | None) -> None:
    _logger.error("%s", message, exc_info=exception)
