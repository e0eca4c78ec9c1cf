# SPDX-License-Identifier: MIT
"""The access log: uvicorn's line, gunicorn's atoms or JSON, and sampling."""

import json
import logging
import os
import random
import re
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from .error import ConfigError

if TYPE_CHECKING:
    from .config import Config

# Called at the end of each request: (scope, status, bytes of the body, seconds from the request to the end).
OnAccess = Callable[[dict[str, Any], int, int, float], None]

_ATOM = re.compile(r"%(?:%|\((?P<name>[^)]*)\)[-#0 +]*\d*(?:\.\d+)?[a-z])")
_ATOM_NAMES = frozenset("hlutrsmUqHbBfaTDMLp")
# What could end a line of the log, or pretend to be another one: a path is percent-decoded.
_UNSAFE = re.compile(r'[\x00-\x1f\x7f-\x9f"\\]')


def make_on_access(config: "Config") -> OnAccess | None:
    """Make what a server calls at the end of each request.

    Returns:
        None exactly when nobody would see a line: access_log is off, no logger has a handler, or the level is above INFO.
    """
    logger = logging.getLogger("cxxloop.access")
    if not config.access_log or not logger.hasHandlers() or not logger.isEnabledFor(logging.INFO):
        return None
    write = _make_writer(logger, config.access_log_format)
    return write if config.access_log_sample >= 1 else _sampled(write, config.access_log_sample)


def check_access_format(access_format: str) -> None:
    """Raise ConfigError unless the format is "json" or consists of gunicorn's atoms."""
    if access_format == "json":
        return
    rest = _ATOM.sub("", access_format)
    if "%" in rest:
        raise ConfigError("access_log_format", f"has a '%' that begins no atom like %(h)s: {access_format!r}")
    for found in _ATOM.finditer(access_format):
        name = found["name"]
        if name is not None and name not in _ATOM_NAMES and not re.fullmatch(r"\{[^}]+\}[ioe]", name):
            raise ConfigError("access_log_format", f"has no atom %({name})s")


def _make_writer(logger: logging.Logger, access_format: str | None) -> OnAccess:
    if access_format is None:
        return _line_writer(logger)
    if access_format == "json":
        return _json_writer(logger)

    def write(scope: dict[str, Any], status: int, body_bytes: int, seconds: float) -> None:
        logger.info("%s", access_format % Atoms(scope, status, body_bytes, seconds))

    return write


def _line_writer(logger: logging.Logger) -> OnAccess:
    def write(scope: dict[str, Any], status: int, body_bytes: int, seconds: float) -> None:
        client = scope.get("client")
        path = urllib.parse.quote(scope["path"])
        if scope["query_string"]:
            path = f"{path}?{scope['query_string'].decode('latin-1')}"
        logger.info(
            '%s - "%s %s HTTP/%s" %d',
            f"{client[0]}:{client[1]}" if client else "",
            scope.get("method", "GET"),
            path,
            scope["http_version"],
            status,
        )

    return write


def _json_writer(logger: logging.Logger) -> OnAccess:
    def write(scope: dict[str, Any], status: int, body_bytes: int, seconds: float) -> None:
        client = scope.get("client")
        now = time.time()
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z",
            "client": client[0] if client else None,
            "port": client[1] if client else None,
            "method": scope.get("method", "GET"),
            "path": scope["path"],
            "query": scope["query_string"].decode("latin-1"),
            "http_version": scope["http_version"],
            "status": status,
            "bytes": body_bytes,
            "seconds": round(seconds, 6),
            "referer": _header(scope, b"referer"),
            "user_agent": _header(scope, b"user-agent"),
            "pid": os.getpid(),
        }
        logger.info("%s", json.dumps(line))

    return write


def _sampled(write: OnAccess, fraction: float) -> OnAccess:
    def write_some(scope: dict[str, Any], status: int, body_bytes: int, seconds: float) -> None:
        if status >= 500 or random.random() < fraction:
            write(scope, status, body_bytes, seconds)

    return write_some


def _header(scope: dict[str, Any], name: bytes) -> str | None:
    values = [value for key, value in scope["headers"] if key == name]
    return b", ".join(values).decode("latin-1") if values else None


def _escaped(text: str) -> str:
    return _UNSAFE.sub(lambda found: "\\" + found[0] if found[0] in '"\\' else f"\\x{ord(found[0]):02x}", text)


class Atoms(Mapping[str, Any]):
    """gunicorn's atoms of one request, each made when the format asks for it.

    Known: h l u t r s m U q H b B f a T D M L p, {name}i for a header of the request, {name}e for a variable of the environment.
    {name}o, a header of the response, is always "-": the server does not keep it.
    """

    def __init__(self, scope: dict[str, Any], status: int, body_bytes: int, seconds: float) -> None:
        self._scope = scope
        self._status = status
        self._body_bytes = body_bytes
        self._seconds = seconds

    def __getitem__(self, name: str) -> Any:
        if name.startswith("{"):
            value = self._named(name[1:-2].lower(), name[-1:])
        else:
            value = self._atom(name)
        return _escaped(value) if isinstance(value, str) else value

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(_ATOM_NAMES))

    def __len__(self) -> int:
        return len(_ATOM_NAMES)

    def _named(self, name: str, kind: str) -> str:
        if kind == "i":
            return _header(self._scope, name.encode("latin-1")) or "-"
        if kind == "e":
            return next((str(value) for key, value in os.environ.items() if key.lower() == name), "-")
        return "-"

    def _atom(self, name: str) -> Any:
        match name:
            case "T":
                return int(self._seconds)
            case "D":
                return int(self._seconds * 1e6)
            case "M":
                return int(self._seconds * 1e3)
            case "L":
                return f"{self._seconds:.6f}"
            case "s":
                return self._status
            case "B":
                return self._body_bytes
            case "b":
                return str(self._body_bytes) if self._body_bytes else "-"
            case "t":
                return time.strftime("[%d/%b/%Y:%H:%M:%S %z]")
            case "p":
                return f"<{os.getpid()}>"
        return self._request_atom(name)

    def _request_atom(self, name: str) -> str:
        scope = self._scope
        query: str = scope["query_string"].decode("latin-1")
        method = str(scope.get("method", "GET"))
        protocol = f"HTTP/{scope['http_version']}"
        match name:
            case "h":
                return str(scope["client"][0]) if scope.get("client") else "-"
            case "m":
                return method
            case "U":
                return str(scope["path"])
            case "q":
                return query
            case "H":
                return protocol
            case "r":
                target = urllib.parse.quote(scope["path"]) + (f"?{query}" if query else "")
                return f"{method} {target} {protocol}"
            case "f":
                return _header(scope, b"referer") or "-"
            case "a":
                return _header(scope, b"user-agent") or "-"
        return "-"  # l and u
