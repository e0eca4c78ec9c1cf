# SPDX-License-Identifier: MIT
"""StaticFiles: the files of a folder over HTTP, with validators, ranges and precompressed siblings (RFC 9110)."""

import asyncio
import errno
import functools
import os
import time
import urllib.parse
from collections.abc import Callable, Iterable
from typing import NamedTuple

from .application import Application, Receive, Scope, Send
from .conditional import pick_headers, rank_codings
from .file_response import Headers, refuse, send_file
from .folder import Folder, OpenFile
from .media_types import media_type_of

# An Accept-Encoding up to this length is remembered; browsers send 30 bytes.
_REMEMBERED_BYTES_MAX = 128

# A sibling that is not there is not looked for again for so long: three look-ups took half the time of a response.
_MISSED_SECONDS = 1.0
_MISSED_MAX = 10_000

# Name of a coding in `precompressed`: (content coding, end of a file's name).
_CODINGS = {"br": ("br", b".br"), "zst": ("zstd", b".zst"), "zstd": ("zstd", b".zst"), "gzip": ("gzip", b".gz"), "gz": ("gzip", b".gz")}


class _Found(NamedTuple):
    """The file that answers a request, and the content coding that it has."""

    file: OpenFile
    coding: str | None
    ending: str  # of the name that was asked for


class StaticFiles:
    """An ASGI 3 application that serves the regular files of a folder for GET and HEAD; nothing outside of it can be read.

    Every response has an ETag of inode, size and time of change, and a Last-Modified date. If-Match, If-None-Match,
    If-Modified-Since, If-Unmodified-Since, Range and If-Range work as RFC 9110 says; a request for several ranges is answered with
    the whole file, which it allows (14.2). Answers 404 for everything that is not served, whatever the reason.

    Args:
        directory: the folder. It is opened now; another folder that takes its path is read after a second at most.
        html: a path that ends with "/" is that folder's index.html, and a folder's path without it is redirected there (301).
        precompressed: siblings that are sent instead of a file to a client that takes them, the best one first: "br" for FILE.br,
            "zst" for FILE.zst, "gzip" for FILE.gz. A sibling older than its file, in whole seconds, is left alone;
            a new one is seen after a second at most.
        cache_control: value of Cache-Control for what is found, like "public, max-age=3600"; None: none is sent.
        follow_links: follow symbolic links that are relative and stay in the folder; else none are.
        dotfiles: serve names that begin with a dot, too (".well-known").

    Raises:
        OSError: the folder is not there, or may not be read.
        ValueError: an unknown name in `precompressed`, or a Cache-Control that is no header value.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        html: bool = False,
        precompressed: Iterable[str] = ("br", "zst", "gzip"),
        cache_control: str | None = None,
        follow_links: bool = False,
        dotfiles: bool = False,
    ) -> None:
        self._folder = Folder(os.fspath(directory), follow_links=follow_links)
        self._is_html = html
        self._endings = dict(_coding_of(name) for name in precompressed)
        self._has_dotfiles = dotfiles
        self._common: Headers = []
        if cache_control is not None:
            self._common.append((b"cache-control", _header_value(cache_control)))
        if self._endings:
            self._common.append((b"vary", b"accept-encoding"))
        self._missed: dict[bytes, float] = {}  # name of a sibling that was not there: when it is looked for again
        # Of a plain function: with a method the files would refer to themselves, and their descriptor would wait for the collector.
        self._rank_anew = functools.partial(_rank, tuple(self._endings))
        self._rank = functools.lru_cache(256)(self._rank_anew)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})  # before accept: the client gets a 403
            return
        if scope["type"] != "http":
            raise RuntimeError("static files have no lifespan")
        path, root_path = scope["path"], scope.get("root_path", "")
        if root_path and (path == root_path or path.startswith(root_path + "/")):
            path = path[len(root_path) :]
        await self.respond(scope, receive, send, path)

    async def respond(self, scope: Scope, receive: Receive, send: Send, path: str) -> None:
        """Answer one request.

        Args:
            scope: of ASGI's type "http"; its path and root_path are not looked at.
            receive, send: of ASGI.
            path: of the file below the folder, decoded: "" or "/...".
        """
        method = scope["method"]
        if method not in ("GET", "HEAD"):
            await refuse(send, 405, "Method Not Allowed", [(b"allow", b"GET, HEAD")])
            return
        name = self._name_of(path)
        if name is None:
            await refuse(send, 404, "Not Found", is_head=method == "HEAD")
            return
        headers = pick_headers(scope["headers"])
        try:
            found = await self._find(name, self._rank_of(headers.get(b"accept-encoding")))
        except FileNotFoundError:
            await refuse(send, 404, "Not Found", is_head=method == "HEAD")
        except IsADirectoryError:
            await self._redirect(scope, send)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN):
                raise
            await refuse(send, 503, "Service Unavailable", [(b"retry-after", b"1")], is_head=method == "HEAD")
        else:
            described: Headers = [(b"content-type", media_type_of(found.ending).encode()), *self._common]
            if found.coding is not None:
                described.append((b"content-encoding", found.coding.encode()))
            await send_file(scope, receive, send, headers, found.file, described)

    # --- finding -----------------------------------------------------------------------------------------------------

    def _name_of(self, path: str) -> str | None:
        """The file's name below the folder; None: nothing is served by this path."""
        if not path:
            return "."
        if path[-1] == "/":
            if not self._is_html:
                return None
            path += "index.html"
        if path[0] != "/" or "//" in path or "\\" in path or "\0" in path:
            return None
        if "/." in path and (not self._has_dotfiles or not {".", ".."}.isdisjoint(path.split("/"))):
            return None
        return path[1:]

    async def _find(self, name: str, codings: tuple[str, ...]) -> _Found:
        try:
            encoded = name.encode()
        except UnicodeEncodeError:
            raise FileNotFoundError from None
        ending = _ending_of(name)
        try:
            return self._look(self._folder.open_cached, encoded, ending, codings)
        except BlockingIOError:
            look = functools.partial(self._look, self._folder.open, encoded, ending, codings)
            return await asyncio.get_running_loop().run_in_executor(None, look)

    def _look(self, open_file: Callable[[bytes], OpenFile], name: bytes, ending: str, codings: tuple[str, ...]) -> _Found:
        try:
            file = open_file(name)
        except IsADirectoryError:
            if not self._is_html:
                raise FileNotFoundError from None
            open_file(name + b"/index.html").close()  # or the redirection leads nowhere
            raise
        now = time.monotonic() if codings else 0.0
        for coding in codings:
            sibling_name = name + self._endings[coding]
            if self._missed.get(sibling_name, 0.0) > now:
                continue
            try:
                sibling = open_file(sibling_name)
            except (FileNotFoundError, IsADirectoryError):
                self._miss(sibling_name, now)
                continue
            if _seconds(sibling) >= _seconds(file):
                return _Found(sibling, coding, ending)
        return _Found(file, None, ending)

    def _miss(self, sibling_name: bytes, now: float) -> None:
        if len(self._missed) >= _MISSED_MAX:
            self._missed.clear()
        self._missed[sibling_name] = now + _MISSED_SECONDS

    def _rank_of(self, accept_encoding: bytes | None) -> tuple[str, ...]:
        if not accept_encoding or not self._endings:
            return ()
        is_short = len(accept_encoding) <= _REMEMBERED_BYTES_MAX
        return self._rank(accept_encoding) if is_short else self._rank_anew(accept_encoding)

    # --- answering ---------------------------------------------------------------------------------------------------

    async def _redirect(self, scope: Scope, send: Send) -> None:
        # Relative to the request's own URL: it is right below any mount and proxy, and can lead to no other host.
        name = (scope["path"] or scope.get("root_path", "")).rpartition("/")[2]
        location = "./" + urllib.parse.quote(name, safe="") + "/"
        query = scope.get("query_string", b"")
        headers = [(b"location", location.encode() + (b"?" + query if query else b""))]
        await refuse(send, 301, "Moved Permanently", headers, is_head=scope["method"] == "HEAD")


class Mounts:
    """An ASGI 3 application that answers requests below some paths with static files, and gives the others to an application.

    WebSockets and the lifespan are always the application's.

    Args:
        application: gets what belongs to no mount.
        mounts: (path, files); a path is "" or begins with "/". Of two that fit, the longer one is taken.
    """

    def __init__(self, application: Application, mounts: Iterable[tuple[str, StaticFiles]]) -> None:
        self._application = application
        self._mounts = sorted(((path.rstrip("/"), files) for path, files in mounts), key=lambda mount: -len(mount[0]))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path, root_path = scope["path"], scope.get("root_path", "")
            if root_path and (path == root_path or path.startswith(root_path + "/")):
                path = path[len(root_path) :]
            for mount, files in self._mounts:
                if path.startswith(mount) and path[len(mount) : len(mount) + 1] in ("", "/"):
                    await files.respond(scope, receive, send, path[len(mount) :])
                    return
        await self._application(scope, receive, send)


def _coding_of(name: str) -> tuple[str, bytes]:
    if name not in _CODINGS:
        raise ValueError(f"precompressed: must be some of br, zst and gzip, not {name!r}")
    return _CODINGS[name]


def _rank(offered: tuple[str, ...], accept_encoding: bytes) -> tuple[str, ...]:
    return tuple(rank_codings(accept_encoding, offered))


def _header_value(text: str) -> bytes:
    if not text.isascii() or not text.isprintable():
        raise ValueError(f"cache_control: {text!r} is no value of a header")
    return text.encode()


def _ending_of(name: str) -> str:
    base = name.rpartition("/")[2]
    dot = base.rfind(".")
    return base[dot:] if dot > 0 else ""


def _seconds(file: OpenFile) -> int:
    return file.mtime_ns // 1_000_000_000
