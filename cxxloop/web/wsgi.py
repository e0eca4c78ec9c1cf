# SPDX-License-Identifier: MIT
"""WSGI applications (PEP 3333) as ASGI ones: each request runs in a thread, its body streams in and its response out."""

import asyncio
import contextvars
import functools
import sys
import types
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any

from .application import Message, Receive, Scope, Send
from .wsgi_input import BodyReader

Environ = dict[str, Any]
ExcInfo = tuple[type[BaseException], BaseException, types.TracebackType | None]
WSGICallable = Callable[[Environ, Callable[..., Callable[[bytes], None]]], Iterable[bytes]]

# Hop-by-hop headers belong to the server (PEP 3333, "Other HTTP Features").
_HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailers", "transfer-encoding", "upgrade")
)


class FileWrapper:
    """environ["wsgi.file_wrapper"]: an iterable of a file's blocks.

    Args:
        file: has read(size), and close() if it is to be closed at the end.
        block_size: bytes of a block.
    """

    def __init__(self, file: IO[bytes], block_size: int = 64 * 1024) -> None:
        self.file = file
        self.block_size = block_size
        if hasattr(file, "close"):
            self.close = file.close

    def __iter__(self) -> Iterator[bytes]:
        return iter(functools.partial(self.file.read, self.block_size), b"")


class WSGIApplication:
    """An ASGI 3 callable that runs a WSGI application in threads.

    Args:
        application: the WSGI application.
        threads: how many requests run at a time; further ones wait.
        is_multiprocess: environ["wsgi.multiprocess"].
    """

    def __init__(self, application: WSGICallable, *, threads: int, is_multiprocess: bool) -> None:
        self._application = application
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="cxxloop-wsgi")
        self._is_multiprocess = is_multiprocess

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})  # before accept: the client gets a 403
            return
        if scope["type"] != "http":
            raise RuntimeError("a WSGI application has no lifespan")
        loop = asyncio.get_running_loop()
        body = BodyReader(receive, loop)
        if not _expects_continue(scope):  # or the client would be told to send before the application reads
            await body.prefetch(scope)
        environ = make_environ(scope, body, is_multiprocess=self._is_multiprocess)
        response = _Response(send, loop, is_head=scope["method"] == "HEAD")
        run = functools.partial(contextvars.copy_context().run, response.run, self._application, environ)
        for message in await _uncancelled(loop.run_in_executor(self._executor, run)):
            await send(message)


async def _uncancelled(future: "asyncio.Future[list[Message]]") -> list[Message]:
    # A thread cannot be cancelled: the request's task ends with it, not before it, so that a shutdown waits.
    cancelled: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError as error:
            if future.cancelled():  # it had not begun yet
                raise
            cancelled = error
        except BaseException:
            break  # of the application: raised below
    if cancelled is not None:
        future.exception()  # is looked at, so that nobody logs it
        raise cancelled
    return future.result()


def _expects_continue(scope: Scope) -> bool:
    return any(name == b"expect" for name, _ in scope["headers"])


def make_environ(scope: Scope, body: Any, *, is_multiprocess: bool) -> Environ:
    """Make the environ of a request (PEP 3333, "environ Variables").

    Headers with an underscore in their name are left out: X_Y would pretend to be X-Y, which a proxy may have checked. Header
    lines of one name are joined.

    Args:
        scope: of ASGI's type "http".
        body: becomes wsgi.input.
        is_multiprocess: becomes wsgi.multiprocess.
    """
    script_name = scope.get("root_path", "").encode().decode("latin-1")
    path = _decoded_path(scope)
    if script_name and (path == script_name or path.startswith(script_name + "/")):
        path = path[len(script_name) :]
    server = scope.get("server") or ("localhost", 80)
    environ: Environ = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": script_name,
        "PATH_INFO": path,
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1] or 80),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "SERVER_SOFTWARE": "cxxloop",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.get("scheme", "http"),
        "wsgi.input": body,
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": is_multiprocess,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
    }
    if scope.get("client"):
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = scope["client"][0], str(scope["client"][1])
    for name, value in scope["headers"]:
        _add_header(environ, name.decode("latin-1"), value.decode("latin-1"))
    return environ


def _decoded_path(scope: Scope) -> str:
    # Of the bytes as they were sent: scope["path"] has lost those that are no UTF-8.
    raw_path = scope.get("raw_path")
    path = scope["path"].encode() if raw_path is None else urllib.parse.unquote_to_bytes(raw_path)
    return path.decode("latin-1")


def _add_header(environ: Environ, name: str, value: str) -> None:
    if "_" in name:
        return
    key = name.upper().replace("-", "_")
    if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        key = f"HTTP_{key}"
    separator = "; " if key == "HTTP_COOKIE" else ","
    environ[key] = f"{environ[key]}{separator}{value}" if key in environ else value


class _Response:
    """The response of one request, made in its thread and sent on the loop."""

    def __init__(self, send: Send, loop: asyncio.AbstractEventLoop, *, is_head: bool) -> None:
        self._send = send
        self._loop = loop
        self._is_head = is_head
        self._start: Message | None = None  # what start_response() has said
        self._is_sent = False  # True exactly when the start has been sent

    def run(self, application: WSGICallable, environ: Environ) -> list[Message]:
        """Call the application and send what it yields.

        Returns:
            The messages that the loop is left to send: a short response is all of them, so that its thread waits for nothing.
        """
        try:
            return self._run(application, environ)
        except StopIteration as error:  # no future takes one: on Python 3.11 the request would never end
            raise RuntimeError("a WSGI application has raised StopIteration") from error

    def _run(self, application: WSGICallable, environ: Environ) -> list[Message]:
        result = application(environ, self.start_response)
        try:
            if isinstance(result, (list, tuple)):  # nothing comes later: one message will do
                body = b"".join(result)
                return [*self._take_start(len(body)), {"type": "http.response.body", "body": body}]
            for block in result:
                if block:
                    self.write(block)
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()
        return [*self._take_start(0), {"type": "http.response.body", "body": b""}]

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """PEP 3333, "The start_response() Callable"."""
        if exc_info is not None:
            try:
                if self._is_sent:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # the traceback refers to this frame
        elif self._start is not None:
            raise AssertionError("start_response() was called a second time without exc_info")
        self._start = {"type": "http.response.start", "status": _status_code(status), "headers": _encoded(headers)}
        return self.write

    def write(self, block: bytes) -> None:
        """PEP 3333, "The write() Callable": returns when the block is on its way and the client is not behind.

        Raises:
            OSError: the client has gone.
        """
        if not isinstance(block, bytes):
            raise TypeError(f"a WSGI application yields bytes, not {type(block).__name__}")
        messages = [*self._take_start(None), {"type": "http.response.body", "body": block, "more_body": True}]
        asyncio.run_coroutine_threadsafe(self._send_all(messages), self._loop).result()

    async def _send_all(self, messages: list[Message]) -> None:
        for message in messages:
            await self._send(message)

    def _take_start(self, body_bytes: int | None) -> list[Message]:
        if self._is_sent:
            return []
        if self._start is None:
            raise AssertionError("the application has sent a body before it called start_response()")
        self._is_sent = True
        names = [name for name, _ in self._start["headers"]]
        # A HEAD's body may be left out by the application: its length says nothing then.
        may_count = not self._is_head and self._start["status"] not in (204, 304) and self._start["status"] >= 200
        if body_bytes is not None and may_count and b"content-length" not in names:
            self._start["headers"].append((b"content-length", str(body_bytes).encode()))
        return [self._start]


def _status_code(status: str) -> int:
    code = status[:3]
    if not isinstance(status, str) or not code.isdigit() or len(code) != 3 or status[3:4] not in ("", " "):
        raise ValueError(f"a WSGI status is like '200 OK', not {status!r}")
    return int(code)


def _encoded(headers: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    for name, _ in encoded:
        if name.decode("latin-1") in _HOP_BY_HOP:
            raise AssertionError(f"a WSGI application must not send the hop-by-hop header {name.decode('latin-1')!r}")
    return encoded
