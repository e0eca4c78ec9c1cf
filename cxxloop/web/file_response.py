# SPDX-License-Identifier: MIT
"""Answers one request with an open file: conditions, a range, and the best way to send (RFC 9110)."""

import asyncio
import os
import time
from collections.abc import Iterable

from .application import Receive, Scope, Send
from .conditional import Outcome, Part, Validators, check_conditions, find_part, format_date
from .folder import OpenFile

Headers = list[tuple[bytes, bytes]]

# A file of at most so many bytes leaves together with its head, in one system call; sendfile() would be another one.
_WHOLE_BYTES_MAX = 64 * 1024
# What is read and sent at a time by a server that cannot send files.
_PIECE_BYTES = 128 * 1024
_DESCRIPTORS = "/proc/self/fd"
_CAN_SEND_PATHS = os.path.isdir(_DESCRIPTORS)
# Only these describe a file that is not sent (RFC 9110, 15.4.5).
_KEPT_BY_NOT_MODIFIED = (b"cache-control", b"content-location", b"expires", b"vary")


async def send_file(
    scope: Scope, receive: Receive, send: Send, asked: dict[bytes, bytes], file: OpenFile, headers: Headers
) -> None:
    """Answer a GET or HEAD with a file, and close it.

    Args:
        scope, receive, send: of ASGI.
        asked: headers of the request, by pick_headers().
        file: what is sent; of a compressed sibling, that one.
        headers: those that describe the file, Content-Type among them; validators, ranges and the length are added.
    """
    await _send(scope, receive, send, asked, file, headers)
    # Only here: after an exception a thread may still read. The descriptor is closed with the last reference then.
    file.close()


async def _send(
    scope: Scope, receive: Receive, send: Send, asked: dict[bytes, bytes], file: OpenFile, described: Headers
) -> None:
    is_head = scope["method"] == "HEAD"
    validators = _validators_of(file)
    outcome = check_conditions(asked, validators) if asked else Outcome.SEND
    if outcome is Outcome.FAILED:
        await refuse(send, 412, "Precondition Failed", is_head=is_head)
        return
    headers: Headers = [(b"etag", validators.etag), (b"last-modified", format_date(validators.modified))]
    if outcome is Outcome.NOT_MODIFIED:
        headers += [field for field in described if field[0] in _KEPT_BY_NOT_MODIFIED]
        await _send_whole(send, 304, headers, b"")
        return
    part = None if is_head else find_part(asked, validators, file.size)
    if part is not None and part.size == 0:
        await refuse(send, 416, "Range Not Satisfiable", [(b"content-range", b"bytes */%d" % file.size)])
        return
    status = 200 if part is None else 206
    if part is not None:
        headers.append((b"content-range", b"bytes %d-%d/%d" % (part.offset, part.offset + part.size - 1, file.size)))
    part = part or Part(0, file.size)
    headers += [(b"accept-ranges", b"bytes"), (b"content-length", b"%d" % part.size), *described]
    if is_head or part.size == 0:
        await _send_whole(send, status, headers, b"")
    else:
        await _send_part(scope, receive, send, {"type": "http.response.start", "status": status, "headers": headers}, file, part)


def _validators_of(file: OpenFile) -> Validators:
    # A date in the future would make later changes look older (RFC 9110, 8.8.2.1).
    modified = min(file.mtime_ns // 1_000_000_000, int(time.time()))
    return Validators(b'"%x-%x-%x"' % (file.inode, file.size, file.mtime_ns), modified)


async def _send_part(
    scope: Scope, receive: Receive, send: Send, start: dict[str, object], file: OpenFile, part: Part
) -> None:
    extensions = scope.get("extensions") or {}
    if part.size > _WHOLE_BYTES_MAX and "http.response.zerocopysend" in extensions:
        await send(start)
        await send({"type": "http.response.zerocopysend", "file": file, "offset": part.offset, "count": part.size, "more_body": False})
    elif part.size > _WHOLE_BYTES_MAX and part.size == file.size and _CAN_SEND_PATHS and "http.response.pathsend" in extensions:
        await send(start)
        # By its descriptor: under the path there may be another file by now, or a link.
        await send({"type": "http.response.pathsend", "path": f"{_DESCRIPTORS}/{file.fileno()}"})
        while (await receive())["type"] != "http.disconnect":  # a server may open it only now, until the response is complete
            pass
    else:
        await _send_pieces(send, start, file, part)


async def _send_pieces(send: Send, start: dict[str, object], file: OpenFile, part: Part) -> None:
    offset, left = part
    while left > 0:
        piece = await _read(file, min(left, _PIECE_BYTES), offset)
        if start:  # only now: an error of the first read is still a 500
            await send(start)
            start = {}
        offset += len(piece)
        left -= len(piece)
        await send({"type": "http.response.body", "body": piece, "more_body": left > 0})


async def _read(file: OpenFile, size: int, offset: int) -> bytes:
    try:
        piece = file.read_cached(size, offset)
    except BlockingIOError:
        piece = await asyncio.get_running_loop().run_in_executor(None, file.read, size, offset)
    if not piece:
        raise RuntimeError("a file has become shorter while it was sent")
    return piece


async def refuse(
    send: Send, status: int, reason: str, headers: Iterable[tuple[bytes, bytes]] = (), *, is_head: bool = False
) -> None:
    """Answer with a status and its reason as text; `is_head`: without the text."""
    body = reason.encode()
    described = [*headers, (b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
    await _send_whole(send, status, described, b"" if is_head else body)


async def _send_whole(send: Send, status: int, headers: Headers, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
