# SPDX-License-Identifier: MIT
"""Config: all settings of the server, with uvicorn's names where uvicorn has the setting.

Every setting is a keyword here, a flag of `cxxloop serve` and an environment variable CXXLOOP_NAME. Names end in their unit; those
that uvicorn gave end as uvicorn's do.
"""

import dataclasses
import logging
import os
import re
import ssl
from collections.abc import Callable
from typing import Any

from . import logging as logs
from .access_log import check_access_format
from .application import Application, make_application
from .error import ConfigError
from .importer import import_from_string
from .network import is_loopback
from .option import Address, Anything, Choice, File, Flag, Folders, Headers, Integer, Number, Text, Texts, option, options_of
from .static import Mounts, StaticFiles

_WHERE = "Where to listen"
_APP = "Application"
_PROCESSES = "Processes"
_RELOAD = "Development"
_HTTP = "HTTP"
_WEBSOCKET = "WebSocket"
_TIMES = "Time limits"
_LIMITS = "Limits"
_LOG = "Logging"
_ADMIN = "Metrics"
_TLS = "TLS"
_UNUSED = "Accepted from uvicorn, without effect"

_PORT = Integer(0, 65535, "PORT")
_COUNT = Integer(metavar="NUMBER")
_FROM_ONE = Integer(1, metavar="NUMBER")
_BYTES = Integer(0, metavar="BYTES")
_BYTES_FROM_ONE = Integer(1, metavar="BYTES")
_SECONDS = Number(0, metavar="SECONDS")


@dataclasses.dataclass
class Config:
    """The settings of a server.

    Raises:
        ConfigError: a value is wrong; its text is one line that names the setting.
    """

    app: Any
    """The application, or its import string "module:attribute"."""

    host: str = option("127.0.0.1", Text("HOST"), _WHERE, "Listen on this address or host name.")
    port: int = option(8000, _PORT, _WHERE, "Listen on this port; 0: one that is free.")
    uds: str | None = option(None, File(), _WHERE, "Listen on a UNIX socket at this path instead.")
    uds_permissions: str | None = option(
        None, Text("OCTAL"), _WHERE, "Permissions of the UNIX socket.", shown_default="666, or those of the socket it replaces"
    )
    fd: int | None = option(None, _COUNT, _WHERE, "Listen on the socket with this inherited descriptor instead.")
    backlog: int = option(2048, _FROM_ONE, _WHERE, "Connections that the kernel keeps until they are accepted.")
    reuse_port: bool = option(
        False, Flag(), _WHERE, "One listening socket for each worker (SO_REUSEPORT) instead of one for all."
    )

    interface: str = option(
        "auto", Choice(("auto", "asgi3", "asgi2", "wsgi")), _APP, "What the application speaks; auto finds it out."
    )
    factory: bool = option(False, Flag(), _APP, "APP is a function without arguments that returns the application.")
    app_dir: str | None = option(
        None, File(), _APP, "Import APP from this folder, too.", shown_default="the current folder, for the command"
    )
    lifespan: str = option(
        "auto", Choice(("auto", "on", "off")), _APP, "Start and end the application by ASGI's lifespan; on: it must have one."
    )
    root_path: str = option("", Text("PATH"), _APP, "The URL path under which a proxy has mounted the application.")
    static: list[tuple[str, str]] = option(
        [], Folders(), _APP, "Serve the files of this folder under this URL path; looked at before APP."
    )
    static_cache_control: str | None = option(None, Text(), _APP, "Cache-Control of static files, like 'public, max-age=3600'.")
    static_follow_links: bool = option(False, Flag(), _APP, "Follow symbolic links of static files that stay in their folder.")
    static_dotfiles: bool = option(False, Flag(), _APP, "Serve static files whose names begin with a dot, too.")
    health_path: str | None = option(
        None, Text("PATH"), _APP, "Answer this URL path without the application: 200, and 503 while the server drains."
    )
    env_file: str | None = option(None, File(must_exist=True), _APP, "Set environment variables from this file (python-dotenv).")
    wsgi_threads: int = option(10, _FROM_ONE, _APP, "Threads in which a WSGI application runs.")

    workers: int | None = option(
        None,
        _FROM_ONE,
        _PROCESSES,
        "Worker processes under a parent, also if it is 1. Not with --reload.",
        shown_default="$WEB_CONCURRENCY, or one process without a parent",
    )
    limit_max_requests: int | None = option(
        None, _FROM_ONE, _PROCESSES, "A worker ends after so many requests, and a new one takes its place."
    )
    limit_max_requests_jitter: int = option(
        0, _COUNT, _PROCESSES, "Adds up to so many to limit-max-requests, at random for each worker."
    )
    timeout_graceful_shutdown: float | None = option(
        120.0, _SECONDS, _PROCESSES, "At the end, requests that still run are cancelled after this time. None: no limit.", optional=True
    )
    timeout_worker_healthcheck: float = option(
        5, Number(0.1), _PROCESSES, "A worker whose process does not answer for so long is killed and replaced."
    )
    timeout_worker_stuck_seconds: float = option(
        60, _SECONDS, _PROCESSES, "A worker whose event loop makes no turn for so long is killed and replaced; 0: never."
    )
    timeout_worker_startup_seconds: float = option(
        60, Number(0.1), _PROCESSES, "A worker that does not serve after this time has failed to start."
    )

    reload: bool = option(False, Flag(), _RELOAD, "Start again when a source file changes.")
    reload_dirs: list[str] = option(
        [], Texts("PATH", paths_exist=True), _RELOAD, "Watch this folder.", flag="--reload-dir", shown_default="the current folder"
    )
    reload_includes: list[str] = option(
        [], Texts("GLOB"), _RELOAD, "Watch files of this pattern, too.", flag="--reload-include", shown_default="*.py"
    )
    reload_excludes: list[str] = option(
        [],
        Texts("GLOB"),
        _RELOAD,
        "Do not watch files of this pattern, or in this folder.",
        flag="--reload-exclude",
        shown_default=".*, .py[cod], .sw.*, ~*",
    )
    reload_delay: float = option(0.25, Number(0.01, 3600), _RELOAD, "Time between two looks at the files.")

    proxy_headers: bool = option(
        True, Flag(), _HTTP, "Take scheme and client from X-Forwarded-Proto and X-Forwarded-For of trusted proxies."
    )
    forwarded_allow_ips: list[str] | str | None = option(
        None,
        Anything("ADDRESSES"),
        _HTTP,
        "Proxies that are trusted: addresses and networks, separated by commas; '*': all.",
        shown_default="$FORWARDED_ALLOW_IPS, or 127.0.0.1,::1",
    )
    proxy_protocol: bool = option(
        False, Flag(), _HTTP, "Connections of trusted proxies begin with a header of the PROXY protocol, version 1 or 2."
    )
    server_header: bool = option(True, Flag(), _HTTP, "Send a Server header.")
    date_header: bool = option(True, Flag(), _HTTP, "Send a Date header.")
    headers: list[tuple[str, str]] = option([], Headers(), _HTTP, "Add this header to every response.", flag="--header")

    ws: str = option("auto", Anything("[auto|none]"), _WEBSOCKET, "none: do not speak WebSocket.")
    ws_max_size: int = option(16 * 1024 * 1024, _BYTES, _WEBSOCKET, "Size of a message; a larger one: close code 1009.")
    ws_max_queue: int = option(32, _FROM_ONE, _WEBSOCKET, "Messages that wait for the application; then reading stops.")
    ws_ping_interval: float | None = option(20.0, _SECONDS, _WEBSOCKET, "Time between two pings; 0: none are sent.")
    ws_ping_timeout: float | None = option(20.0, _SECONDS, _WEBSOCKET, "A client that sends nothing for so long after a ping is gone: 1011.")
    ws_close_seconds: float = option(10, _SECONDS, _WEBSOCKET, "From our close frame to the client's: then the connection ends.")
    ws_per_message_deflate: bool = option(True, Flag(takes_value=True), _WEBSOCKET, "Compress messages if the client can.")

    timeout_keep_alive: float = option(5, _SECONDS, _TIMES, "From a response to the next request: then the connection is closed.")
    timeout_head_seconds: float = option(30, _SECONDS, _TIMES, "From the first byte of a request to the end of its headers: 408.")
    timeout_body_seconds: float = option(30, _SECONDS, _TIMES, "From one piece of a request's body to the next: 408.")
    timeout_body_rate_grace_seconds: float = option(
        5, _SECONDS, _TIMES, "A body may be slower than limit-body-rate-bytes-per-second for so long."
    )
    timeout_handler_seconds: float = option(
        600, _SECONDS, _TIMES, "From a request to the start of its response: 503, and receive() reports a disconnect."
    )
    timeout_handshake_seconds: float = option(30, _SECONDS, _TIMES, "From a connection to the end of TLS's handshake: then it is closed.")
    timeout_write_seconds: float = option(
        30, _SECONDS, _TIMES, "A client that takes nothing of its response for so long is disconnected."
    )

    limit_concurrency: int | None = option(
        None, _FROM_ONE, _LIMITS, "Requests that find so many connections open, or requests running: 503.", shown_default="none"
    )
    limit_connections: int = option(60_000, _COUNT, _LIMITS, "Connections at a time, in each worker: 503.")
    limit_connections_per_address: int = option(4_000, _COUNT, _LIMITS, "Connections of one client address at a time: 503.")
    limit_requests_per_connection: int = option(100_000, _COUNT, _LIMITS, "Requests on one connection: then it is closed.")
    limit_request_line_bytes: int = option(16 * 1024, _BYTES_FROM_ONE, _LIMITS, "Method and target of a request: 414.")
    limit_head_bytes: int = option(64 * 1024, _BYTES_FROM_ONE, _LIMITS, "Request line and headers: 431.")
    limit_headers: int = option(128, Integer(1, 256), _LIMITS, "Headers of a request: 431.")
    limit_body_bytes: int = option(1 << 30, _BYTES, _LIMITS, "Body of a request: 413.")
    limit_body_rate_bytes_per_second: int = option(
        240, Integer(0, 2**32 - 1, "BYTES"), _LIMITS, "A request's body must come at least as fast: 408."
    )
    limit_body_buffer_bytes: int = option(
        64 * 1024, _BYTES_FROM_ONE, _LIMITS, "Of a body that the application has not taken yet: reading stops."
    )
    limit_write_buffer_bytes: int = option(
        64 * 1024, _BYTES_FROM_ONE, _LIMITS, "Of a response that the client has not taken yet: the application waits."
    )

    log_level: str | int | None = option(
        None, Anything("[critical|error|warning|info|debug|trace]"), _LOG, "Log this and worse.", shown_default="info"
    )
    log_config: Any = option(
        logs.LOGGING_CONFIG,
        Anything("PATH"),
        _LOG,
        "Configure logging from this file: .json, .yaml, or the format of logging.config.fileConfig().",
        shown_default="stderr, and stdout for the access log",
    )
    use_colors: bool | None = option(None, Flag(), _LOG, "Colour the log.", shown_default="if it goes to a terminal")
    access_log: bool = option(True, Flag(), _LOG, "Log every request.")
    access_log_format: str | None = option(
        None, Text("FORMAT"), _LOG, "gunicorn's atoms, as in '%(h)s %(r)s %(s)s', or json.", shown_default="uvicorn's line"
    )
    access_log_sample: float = option(
        1.0, Number(0, 1, "FRACTION"), _LOG, "Log this part of the requests; those with status 5xx are always logged."
    )

    admin: tuple[str, int] | None = option(
        None, Address(), _ADMIN, "Serve a page of live charts, /metrics for Prometheus and /tasks here.", shown_default="off"
    )
    admin_remote: bool = option(
        False, Flag(), _ADMIN, "Let other machines reach the admin address, which asks nobody for a password."
    )

    ssl_keyfile: str | None = option(None, File(), _TLS, "The private key.", shown_default="in the certificate's file")
    ssl_certfile: str | None = option(None, File(), _TLS, "The certificate and its chain: serve TLS.")
    ssl_keyfile_password: str | None = option(None, Text(), _TLS, "Decrypts the private key.")
    ssl_version: int = option(
        int(ssl.PROTOCOL_TLS_SERVER), _COUNT, _TLS, "A PROTOCOL_ constant of the module ssl.", shown_default="PROTOCOL_TLS_SERVER"
    )
    ssl_cert_reqs: int = option(
        int(ssl.CERT_NONE), Integer(0, 2), _TLS, "Client certificates: 0 none, 1 optional, 2 required."
    )
    ssl_ca_certs: str | None = option(None, File(), _TLS, "Certificates that vouch for those of clients.")
    ssl_ciphers: str | None = option(None, Text(), _TLS, "Ciphers up to TLS 1.2.", shown_default="those of OpenSSL")
    ssl_engine: str = option(
        "auto",
        Choice(("auto", "libssl", "python")),
        _TLS,
        "What speaks TLS: Python's libssl itself, or its module ssl (slower); auto: the first where it can.",
    )
    ssl_context: ssl.SSLContext | None = option(
        None, Anything(), _TLS, "The context, made by the program, instead of all of these.", in_code_only=True
    )
    ssl_context_factory: Callable[..., ssl.SSLContext] | None = option(
        None,
        Anything(),
        _TLS,
        "Makes the context: called with the Config and a function that makes the usual one.",
        in_code_only=True,
    )

    loop: Any = option("auto", Anything(), _UNUSED, "The event loop is always cxxloop's.")
    http: Any = option("auto", Anything(), _UNUSED, "There is one parser.")
    h11_max_incomplete_event_size: int | None = option(None, _BYTES, _UNUSED, "limit-head-bytes is the limit here.")
    reset_contextvars: bool = option(False, Flag(), _UNUSED, "No request sees the context variables of the lifespan.")

    def __post_init__(self) -> None:
        for name, setting in options_of(type(self)).items():
            setattr(self, name, _checked(name, setting, getattr(self, name)))
        self._resolve()
        self._check_together()
        self.loaded_app: Application | None = None
        self._logging_pid: int | None = None  # of the process whose loggers were configured

    @property
    def worker_count(self) -> int:
        """How many worker processes serve: `workers`, or what WEB_CONCURRENCY says, or 1."""
        return self.workers or 1

    @property
    def has_workers(self) -> bool:
        """True exactly when a parent process keeps workers: their number is set, and the application is an import string."""
        return self.workers is not None and isinstance(self.app, str)

    @property
    def should_reload(self) -> bool:
        """True exactly when source files are watched: reload is set and the application is an import string."""
        return self.reload and isinstance(self.app, str)

    @property
    def is_tls(self) -> bool:
        """True exactly when TLS is served."""
        return any(setting is not None for setting in (self.ssl_certfile, self.ssl_context, self.ssl_context_factory))

    def configure_logging(self) -> None:
        """Apply log_config, log_level, use_colors and access_log to the process's loggers, once in each process.

        Raises:
            ConfigError: the file of log_config cannot be used.
        """
        if self._logging_pid != os.getpid():
            logs.configure(self)
            self._logging_pid = os.getpid()  # a second time would open log files anew, and empty them

    def load_env_file(self) -> None:
        """Set the variables of env_file in the process's environment; those that are set already stay.

        Raises:
            ConfigError: python-dotenv is missing.
        """
        if self.env_file is None:
            return
        try:
            from dotenv import load_dotenv
        except ImportError:
            raise ConfigError("env_file", "needs python-dotenv: pip install 'cxxloop[web]'") from None
        logging.getLogger("cxxloop.error").info("Loading environment from '%s'", self.env_file)
        load_dotenv(dotenv_path=self.env_file)

    def load(self) -> Application:
        """Import the application, call the factory, wrap what is not ASGI 3, and put the folders of `static` before it.

        Returns:
            The application as an ASGI 3 callable; the same one at the next call.

        Raises:
            ImportFromStringError: there is no such module or attribute, or the factory cannot be called.
            ConfigError: a folder of `static` cannot be read.
            Any exception that the application's module raises.
        """
        if self.loaded_app is None:
            self.loaded_app = self._mounted(make_application(import_from_string(self.app), self))
        return self.loaded_app

    def _mounted(self, application: Application) -> Application:
        if not self.static:
            return application
        try:
            return Mounts(application, [(mount, self._static_files(folder)) for mount, folder in self.static])
        except ValueError as error:
            raise ConfigError("static_cache_control", str(error).removeprefix("cache_control: ")) from None
        except OSError as error:
            raise ConfigError("static", str(error)) from None

    def _static_files(self, folder: str) -> StaticFiles:
        return StaticFiles(
            folder,
            html=True,
            cache_control=self.static_cache_control,
            follow_links=self.static_follow_links,
            dotfiles=self.static_dotfiles,
        )

    def _resolve(self) -> None:
        self.load_env_file()  # first: it may set the variables that are read here
        if self.workers is None and "WEB_CONCURRENCY" in os.environ:
            self.workers = _checked("workers", options_of(Config)["workers"], _parsed("WEB_CONCURRENCY", _FROM_ONE))
        trusted = self.forwarded_allow_ips
        if trusted is None:
            trusted = os.environ.get("FORWARDED_ALLOW_IPS", "127.0.0.1,::1")
        if isinstance(trusted, str):
            trusted = [part.strip() for part in trusted.split(",") if part.strip()]
        if not isinstance(trusted, (list, tuple, set, frozenset)) or not all(isinstance(part, str) for part in trusted):
            raise ConfigError("forwarded_allow_ips", f"must be addresses, not {self.forwarded_allow_ips!r}")
        self.forwarded_allow_ips = "*" if "*" in trusted else list(trusted)
        if isinstance(self.log_level, str):
            if self.log_level.lower() not in logs.LOG_LEVELS:
                names = ", ".join(logs.LOG_LEVELS)
                raise ConfigError("log_level", f"must be one of {names}, not {self.log_level!r}")
            self.log_level = self.log_level.lower()

    def _check_together(self) -> None:
        if self.uds is not None and self.fd is not None:
            raise ConfigError("fd", "cannot be given together with uds")
        if self.reuse_port and (self.uds is not None or self.fd is not None):
            raise ConfigError("reuse_port", "is for ports, not for uds or fd")
        if self.uds_permissions is not None and not re.fullmatch("0?[0-7]{3}", self.uds_permissions):
            raise ConfigError("uds_permissions", f"must be octal digits like 660, not {self.uds_permissions!r}")
        if self.root_path and not self.root_path.startswith("/"):
            raise ConfigError("root_path", f"must begin with '/', not {self.root_path!r}")
        if self.health_path is not None and not re.fullmatch(r"/[!-~]*", self.health_path):
            raise ConfigError("health_path", f"must begin with '/', not {self.health_path!r}")
        if self.log_level is not None and not isinstance(self.log_level, (str, int)):
            raise ConfigError("log_level", f"must be a name or a number, not {self.log_level!r}")
        if self.admin is not None and not self.admin_remote and not is_loopback(self.admin[0]):
            reason = f"other machines can reach {self.admin[0]!r}, and there is no password: use 127.0.0.1, or add --admin-remote"
            raise ConfigError("admin", reason)
        if self.access_log_format is not None:
            check_access_format(self.access_log_format)


def _checked(name: str, setting: Any, value: Any) -> Any:
    if value is None and setting.is_optional:
        return None
    try:
        return setting.kind.check(value)
    except ValueError as error:
        raise ConfigError(name, str(error)) from None


def _parsed(variable: str, kind: Integer) -> int:
    try:
        return kind.parse(os.environ[variable])
    except ValueError as error:
        raise ConfigError(variable, str(error)) from None
