# SPDX-License-Identifier: MIT
"""Responses of handlers: bytes, text, JSON, streams and files."""

import asyncio
import functools
import http
import json
import logging
import os
import urllib.parse
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import Executor
from typing import Any

from .application import Receive, Scope, Send
from .conditional import pick_headers
from .file_response import send_file
from .folder import open_file
from .media_types import media_type_of

Dumps = Callable[[Any], bytes | str]
HeaderFields = Mapping[str, str] | Iterable[tuple[str, str]]

BYTES_TYPE = (b"content-type", b"application/octet-stream")
TEXT_TYPE = (b"content-type", b"text/plain; charset=utf-8")
JSON_TYPE = (b"content-type", b"application/json")

_BODYLESS = (204, 304)

_logger = logging.getLogger("cxxloop.error")


def dumps(value: Any) -> str:
    """JSON in its shortest form, as UTF-8 text; that of json.dumps(), a third of its time.

    Raises:
        TypeError, ValueError: the value has no JSON: not a number, an unknown type.
        RecursionError: it is nested too deeply, or a circle.
    """
    return "".join(_json_pieces(value, 0))


def _make_json_pieces() -> Callable[[Any, int], Iterable[str]]:
    # json.dumps() makes both an encoder and its native half anew for every value, which costs more than most values do.
    encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        make = json.encoder.c_make_encoder  # type: ignore[attr-defined]  # typeshed leaves it out
        quote = json.encoder.encode_basestring
        pieces: Callable[[Any, int], Iterable[str]] = make(None, encoder.default, quote, None, ":", ",", False, False, False)
    except (AttributeError, TypeError):  # a Python that has it no longer, or another one
        return lambda value, _: encoder.iterencode(value)
    return pieces


_json_pieces = _make_json_pieces()


class Response:
    """A response whose body is there.

    Args:
        body: text is sent as UTF-8.
        status: 200 to 599.
        headers: a mapping, or pairs if a name comes several times; Content-Length is added.
        media_type: Content-Type; None: text/plain for text, application/octet-stream for bytes.

    Attributes:
        status: as given.
        headers: pairs of bytes, names in lower case; may be added to.
        body: as bytes.

    Raises:
        ValueError: no status of a response, or a header with a line break.
    """

    __slots__ = ("body", "headers", "status")

    default_type = BYTES_TYPE

    def __init__(
        self, body: bytes | str = b"", *, status: int = 200, headers: HeaderFields = (), media_type: str | None = None
    ) -> None:
        if not 200 <= status <= 599:
            raise ValueError(f"the status of a response is from 200 to 599, not {status}")
        self.status = status
        self.headers = _encoded(headers) if headers else []
        is_text = isinstance(body, str)
        self.body: bytes = body.encode() if isinstance(body, str) else body
        if status in _BODYLESS or (headers and _has_type(self.headers)):
            return
        if media_type is not None:
            self.headers.append(_type_field(media_type))
        else:
            self.headers.append(TEXT_TYPE if is_text else self.default_type)

    async def send(self, scope: Scope, receive: Receive, send: Send, executor: Executor | None = None) -> None:
        """Send it as the answer to a request.

        Args:
            scope, receive, send: of ASGI.
            executor: where blocking parts of it run; None: on the loop's thread.
        """
        headers = self.headers
        if self.status in _BODYLESS:
            await send({"type": "http.response.start", "status": self.status, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return
        headers = [*headers, (b"content-length", b"%d" % len(self.body))]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else self.body})


class JSON(Response):
    """A response of JSON.

    Args:
        value: what `dumps` takes.
        status, headers: as Response.
        dumps: makes text or bytes of it: json.dumps, orjson.dumps and their like.
    """

    __slots__ = ()

    default_type = JSON_TYPE

    def __init__(self, value: Any, *, status: int = 200, headers: HeaderFields = (), dumps: Dumps = dumps) -> None:
        body = dumps(value)
        super().__init__(body.encode() if isinstance(body, str) else body, status=status, headers=headers)


class Streaming(Response):
    """A response whose body comes in pieces. Each is sent before the next one is asked for, as fast as the client takes them.

    Args:
        pieces: bytes or text; an asynchronous iterable, or an ordinary one, which blocks the loop while it makes a piece unless the
            handler runs in a thread: then it does, too. Closed at the end, whatever happens.
        status, headers, media_type: as Response.
    """

    __slots__ = ("_pieces",)

    def __init__(
        self,
        pieces: AsyncIterable[bytes | str] | Iterable[bytes | str],
        *,
        status: int = 200,
        headers: HeaderFields = (),
        media_type: str | None = None,
    ) -> None:
        super().__init__(b"", status=status, headers=headers, media_type=media_type)
        self._pieces = pieces

    async def send(self, scope: Scope, receive: Receive, send: Send, executor: Executor | None = None) -> None:
        pieces = self._pieces if isinstance(self._pieces, AsyncIterable) else _iterate(self._pieces, executor)
        iterator = aiter(pieces)
        try:
            await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
            if scope["method"] != "HEAD" and self.status not in _BODYLESS:
                await _send_pieces(scope, receive, send, iterator)
            await send({"type": "http.response.body", "body": b""})
        finally:
            for iterable in (iterator, self._pieces):
                await _close(iterable)


class File(Response):
    """A response of a regular file, with validators, conditions and ranges as StaticFiles has them.

    The path is trusted: links are followed, and ".." leads upwards. Names that clients give belong to StaticFiles. A file that is not
    there is answered with 404.

    Args:
        path: of the file.
        headers: as Response.
        media_type: Content-Type; None: by the end of the path.
        download_as: the name under which a browser saves it; None: it shows it.
    """

    __slots__ = ("path",)

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        headers: HeaderFields = (),
        media_type: str | None = None,
        download_as: str | None = None,
    ) -> None:
        self.path = os.fspath(path)
        super().__init__(b"", headers=headers, media_type=media_type or media_type_of(os.path.splitext(self.path)[1]))
        if download_as is not None:
            quoted = urllib.parse.quote(download_as, safe="")
            self.headers.append((b"content-disposition", f"attachment; filename*=UTF-8''{quoted}".encode()))

    async def send(self, scope: Scope, receive: Receive, send: Send, executor: Executor | None = None) -> None:
        try:
            file = await asyncio.get_running_loop().run_in_executor(executor, open_file, self.path)
        except (FileNotFoundError, IsADirectoryError):
            _logger.warning("A handler has returned a file that is not there: %r", self.path)
            await HTTPError(404).response().send(scope, receive, send)
            return
        await send_file(scope, receive, send, pick_headers(scope["headers"]), file, self.headers)


class HTTPError(Exception):
    """Raised by a handler: the response has this status and says `detail`.

    Args:
        status: 400 to 599.
        detail: the body, as text; None: the status's own name.
        headers: as Response.

    Raises:
        ValueError: no status of an error.
    """

    def __init__(self, status: int, detail: str | None = None, *, headers: HeaderFields = ()) -> None:
        if not 400 <= status <= 599:
            raise ValueError(f"the status of an error is from 400 to 599, not {status}")
        self.status = status
        self.detail = _phrase_of(status) if detail is None else detail
        self.headers = headers
        super().__init__(status, self.detail)

    def response(self) -> Response:
        """The response that says so."""
        return Response(self.detail, status=self.status, headers=self.headers)


def _phrase_of(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return str(status)


def _encoded(headers: HeaderFields) -> list[tuple[bytes, bytes]]:
    # To ask whether a dict is a Mapping costs more than a header does.
    pairs = headers.items() if type(headers) is dict or isinstance(headers, Mapping) else headers
    return [(_encoded_name(name), _encoded_value(name, value)) for name, value in pairs]


# What programs name their headers, and what types they have, are a few texts.
@functools.lru_cache(maxsize=256)
def _encoded_name(name: str) -> bytes:
    if "\r" in name or "\n" in name or "\0" in name:
        raise ValueError(f"the name of a header with a line break: {name!r}")
    return name.lower().encode("latin-1")


def _encoded_value(name: str, value: str) -> bytes:
    if "\r" in value or "\n" in value or "\0" in value:
        raise ValueError(f"a header with a line break: {name!r}: {value!r}")
    return value.encode("latin-1")


@functools.lru_cache(maxsize=64)
def _type_field(media_type: str) -> tuple[bytes, bytes]:
    return b"content-type", _encoded_value("content-type", media_type)


def _has_type(headers: list[tuple[bytes, bytes]]) -> bool:
    for name, _ in headers:
        if name == b"content-type":
            return True
    return False


# --- streams -------------------------------------------------------------------------------------------------------------

_END = object()


async def _iterate(pieces: Iterable[bytes | str], executor: Executor | None) -> AsyncIterator[bytes | str]:
    iterator = iter(pieces)
    if executor is None:
        for piece in iterator:
            yield piece
        return
    loop = asyncio.get_running_loop()
    while (found := await loop.run_in_executor(executor, next, iterator, _END)) is not _END:
        yield found  # type: ignore[misc]  # next() returns a piece or _END


async def _send_pieces(scope: Scope, receive: Receive, send: Send, pieces: AsyncIterator[bytes | str]) -> None:
    # From 2.4 on send() raises when the client has gone; before, it says nothing, and an endless stream would never end.
    version = scope["asgi"].get("spec_version", "2.0")
    watch = None
    if tuple(map(int, version.split("."))) < (2, 4):
        watch = asyncio.ensure_future(_wait_for_disconnect(receive))
    try:
        async for piece in pieces:
            if watch is not None and watch.done():
                return
            body = piece.encode() if isinstance(piece, str) else piece
            if body:
                await send({"type": "http.response.body", "body": body, "more_body": True})
    finally:
        if watch is not None:
            watch.cancel()


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _close(iterable: Any) -> None:
    if hasattr(iterable, "aclose"):
        await iterable.aclose()
    elif hasattr(iterable, "close"):
        iterable.close()
