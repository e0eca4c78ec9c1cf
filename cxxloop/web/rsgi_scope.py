# SPDX-License-Identifier: MIT
"""The scope of an RSGI application: what it is told of a request."""

import functools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from . import application as asgi


class Headers:
    """Headers of a request: a mapping of names in lower case, whose values() and items() have every line of a repeated name."""

    __slots__ = ("_lines", "_values")

    def __init__(self, fields: Iterable[tuple[bytes, bytes]]) -> None:
        self._lines = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in fields]
        self._values: dict[str, list[str]] = {}
        for name, value in self._lines:
            self._values.setdefault(name, []).append(value)

    def keys(self) -> list[str]:
        """The names, each once."""
        return list(self._values)

    def values(self) -> list[str]:
        """The values of all lines."""
        return [value for _, value in self._lines]

    def items(self) -> list[tuple[str, str]]:
        """Name and value of all lines."""
        return self._lines.copy()

    def get(self, key: str, default: Any = None) -> Any:
        """The first value of a name; `default` if there is none."""
        values = self._values.get(key.lower())
        return values[0] if values else default

    def get_all(self, key: str) -> list[str]:
        """All values of a name."""
        return self._values.get(key.lower(), []).copy()

    def __getitem__(self, key: str) -> str:
        return self._values[key.lower()][0]

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key.lower() in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


Mapping.register(Headers)


class Scope:
    """What is known of a request. Addresses are "host:port"; a UNIX socket's is its path, and its client's is empty."""

    rsgi_version = "1.6"

    def __init__(self, scope: asgi.Scope) -> None:
        version: str = scope["http_version"]
        is_http = scope["type"] == "http"
        self.proto = "http" if is_http else "ws"
        self.http_version = "1" if version == "1.0" else version
        self.server = _address_of(scope.get("server"))
        self.client = _address_of(scope.get("client"))
        self.scheme: str = scope["scheme"] if is_http else {"ws": "http", "wss": "https"}[scope["scheme"]]
        self.method: str = scope.get("method", "GET")
        self.path: str = scope["path"].removeprefix(scope.get("root_path", ""))  # as the client has sent it
        self.query_string: str = scope["query_string"].decode("latin-1")
        self._fields = scope["headers"]

    @functools.cached_property
    def headers(self) -> Headers:
        """The request's headers."""
        return Headers(self._fields)

    @property
    def authority(self) -> str | None:
        """HTTP/2's and HTTP/3's pseudo-header, which ASGI has as Host; None before."""
        return None if self.http_version.startswith("1") else self.headers.get("host")


def _address_of(address: tuple[str, int | None] | None) -> str:
    if address is None:
        return ""
    host, port = address
    if port is None:
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
