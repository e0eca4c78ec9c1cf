# SPDX-License-Identifier: MIT
"""Request: what a handler is called with; its parts are bytes, str, int, and dictionaries and lists of those."""

import json
import urllib.parse
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import Any

from .application import Receive, Scope
from .response import HTTPError

_FRAMING = (b"content-length", b"transfer-encoding")

Loads = Callable[[bytes], Any]


class ClientDisconnected(OSError):
    """The client went away before its request was read; nobody waits for a response."""


class MultiMapping(Mapping[str, str]):
    """Names with one value or several, in their order; [name] is the first value.

    Args:
        pairs: (name, value), in order.
    """

    __slots__ = ("_first", "_pairs")

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._pairs = list(pairs)
        self._first = dict(reversed(self._pairs))  # one call: the first value of a name is the last one that is set

    def __getitem__(self, name: str) -> str:
        return self._first[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name for name, _ in self._pairs))

    def __len__(self) -> int:
        return len(self._first)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._pairs!r})"

    def get_all(self, name: str) -> list[str]:
        """All values of a name; [] if there are none."""
        return [value for key, value in self._pairs if key == name]

    def pairs(self) -> list[tuple[str, str]]:
        """All (name, value), in their order."""
        return list(self._pairs)


class Headers(MultiMapping):
    """Header fields; names are looked up in any case, and are in lower case when they are iterated."""

    __slots__ = ()

    def __getitem__(self, name: str) -> str:
        return self._first[name.lower()]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and super().__contains__(name.lower())

    def get_all(self, name: str) -> list[str]:
        return super().get_all(name.lower())


class Request:
    """One HTTP request. Its body has been read before the handler is called, unless its route has stream=True.

    Attributes:
        method: "GET", in upper case for the standard ones.
        path: decoded, without the part under which the application is mounted.
        path_params: the parameters of the route: str, or int for {name:int}.
        state: the application's state, the same dictionary for all requests.
    """

    __slots__ = ("_body", "_headers", "_loads", "_query", "_receive", "_scope", "method", "path", "path_params", "state")

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        path: str,
        path_params: dict[str, str | int],
        state: dict[str, Any],
        loads: Loads = json.loads,
        body: bytes | None = None,
    ) -> None:
        self.method: str = scope["method"]
        self.path = path
        self.path_params = path_params
        self.state = state
        self._scope = scope
        self._receive: Receive | None = receive
        self._loads = loads
        self._body = body
        self._headers: Headers | None = None
        self._query: MultiMapping | None = None

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.path}>"

    @property
    def client(self) -> tuple[str, int] | None:
        """(address, port) of the client; None: nobody knows."""
        client: tuple[str, int] | None = self._scope.get("client")
        return client

    @property
    def headers(self) -> Headers:
        """The header fields, as Latin-1."""
        if self._headers is None:
            scope = self._scope
            if not hasattr(scope, "text_headers"):  # an application's, not the native server's
                pairs = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
            else:
                pairs = scope.text_headers()
            self._headers = Headers(pairs)
        return self._headers

    @property
    def query(self) -> MultiMapping:
        """The parameters of the query, decoded; empty values are kept."""
        if self._query is None:
            scope = self._scope
            if not hasattr(scope, "query_pairs"):
                text = scope["query_string"].decode("latin-1")
                pairs = urllib.parse.parse_qsl(text, keep_blank_values=True) if text else []
            else:
                pairs = scope.query_pairs()
            self._query = MultiMapping(pairs)
        return self._query

    @property
    def url(self) -> str:
        """The whole URL, encoded, with the host that the client named."""
        scope = self._scope
        raw_path = scope.get("raw_path")
        path = raw_path.decode("latin-1") if raw_path else urllib.parse.quote(scope["path"])
        query = scope["query_string"].decode("latin-1")
        return f"{scope.get('scheme', 'http')}://{self._host()}{path}" + (f"?{query}" if query else "")

    def _host(self) -> str:
        host = self.headers.get("host")
        if host is not None:
            return host
        name, port = self._scope.get("server") or ("localhost", None)
        name = f"[{name}]" if ":" in name else name
        return name if port in (None, 80, 443) else f"{name}:{port}"

    def body(self) -> bytes:
        """The whole body.

        Raises:
            RuntimeError: the route has stream=True.
        """
        if self._body is None:
            raise RuntimeError("the body of a route with stream=True comes from stream()")
        return self._body

    def json(self) -> Any:
        """The body, parsed as JSON by the application's `loads`.

        Raises:
            HTTPError: 400, it is no JSON.
            RuntimeError: the route has stream=True.
        """
        body = self.body()
        try:
            return self._loads(body)
        except (ValueError, RecursionError):
            raise HTTPError(400, "The body is no JSON.") from None

    async def stream(self) -> AsyncIterator[bytes]:
        """The pieces of the body as they come, once; for routes with stream=True. The client waits while none is asked for.

        Raises:
            ClientDisconnected: the client has gone before the end.
            RuntimeError: the body has been read, or is being read.
        """
        receive, self._receive = self._receive, None
        if receive is None:
            raise RuntimeError("the body can be read only once")
        more_body = True
        while more_body:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnected("the client has disconnected")
            more_body = message.get("more_body", False)
            piece: bytes = message.get("body", b"")
            if piece:
                yield piece

    async def load(self, bytes_max: int) -> None:
        """Read the whole body for body(). Called by the application before the handler.

        Raises:
            HTTPError: 413, the body is longer than bytes_max.
            ClientDisconnected: the client has gone before the end.
        """
        pieces, size = [], 0
        async for piece in self.stream():
            size += len(piece)
            if size > bytes_max:
                raise HTTPError(413, "The body is too long.")
            pieces.append(piece)
        self._body = pieces[0] if len(pieces) == 1 else b"".join(pieces)


def may_have_body(scope: Scope) -> bool:
    """False exactly when the headers rule out that the request has a body."""
    if scope["method"] not in ("GET", "HEAD") or scope["http_version"] not in ("1.1", "1.0"):
        return True  # in HTTP/2 a body needs no header
    for name, _ in scope["headers"]:
        if name in _FRAMING:
            return True
    return False
