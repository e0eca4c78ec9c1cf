# SPDX-License-Identifier: MIT
"""The ASGI application of `compare.py web`, without a framework, so that servers are compared and nothing else. See PATHS."""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from typing import Any

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

PATTERN = b"0123456789abcdef"
SIZES = (10, 1024, 10 * 1024, 100 * 1024)
BODIES = {f"/bytes/{size}": (PATTERN * (size // len(PATTERN) + 1))[:size] for size in SIZES}
ANSWER = {"message": "Hello, World!", "numbers": [1, 2, 3], "nested": {"true": True, "none": None}}
SLEEP_SECONDS = 0.01
USERS = "/users/"  # A path with a parameter follows, which is the answer.
FILE = os.environ.get("WEB_BENCHMARK_FILE", "")  # What /pathsend sends.


def headers_of(content_type: bytes, size: int) -> list[tuple[bytes, bytes]]:
    return [(b"content-type", content_type), (b"content-length", b"%d" % size)]


# What does not change is made once: the application is to cost as little as it can.
HEADERS = {path: headers_of(b"text/plain", len(body)) for path, body in BODIES.items()}
STREAM_HEADERS = [(b"content-type", b"application/octet-stream")]


async def answer(send: Send, status: int, content_type: bytes, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers_of(content_type, len(body))})
    await send({"type": "http.response.body", "body": body})


async def constant(scope: Scope, receive: Receive, send: Send) -> None:
    path = scope["path"]
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS[path]})
    await send({"type": "http.response.body", "body": BODIES[path]})


async def json_answer(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, 200, b"application/json", json.dumps(ANSWER).encode())


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """The body in one piece, after the whole of it."""
    pieces = []
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            return
        pieces.append(event.get("body", b""))
        if not event.get("more_body", False):
            break
    # Free for one piece of bytes. Some servers hand out memoryviews, which they do not take back.
    await answer(send, 200, b"application/octet-stream", b"".join(pieces))


async def stream(scope: Scope, receive: Receive, send: Send) -> None:
    """Each piece of the body as soon as it is there."""
    await send({"type": "http.response.start", "status": 200, "headers": STREAM_HEADERS})
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            return
        more = event.get("more_body", False)
        await send({"type": "http.response.body", "body": bytes(event.get("body", b"")), "more_body": more})
        if not more:
            return


async def sleep(scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.sleep(SLEEP_SECONDS)
    await answer(send, 200, b"text/plain", b"slept")


async def user(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, 200, b"text/plain", scope["path"][len(USERS) :].encode())


async def pathsend(scope: Scope, receive: Receive, send: Send) -> None:
    if "http.response.pathsend" not in (scope.get("extensions") or {}):
        await answer(send, 501, b"text/plain", b"no http.response.pathsend")
        return
    headers = headers_of(b"application/octet-stream", os.stat(FILE).st_size)
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.pathsend", "path": FILE})


PATHS = dict.fromkeys(BODIES, constant) | {
    "/json": json_answer,
    "/echo": echo,
    "/stream": stream,
    "/sleep": sleep,
    "/pathsend": pathsend,
}


async def websocket(receive: Receive, send: Send) -> None:
    """Gives every message back as what it came: bytes or text."""
    await receive()  # websocket.connect
    await send({"type": "websocket.accept"})
    while True:
        event = await receive()
        if event["type"] != "websocket.receive":
            return
        data = event.get("bytes")
        if data is not None:
            await send({"type": "websocket.send", "bytes": data})
        else:
            await send({"type": "websocket.send", "text": event["text"]})


async def lifespan(receive: Receive, send: Send) -> None:
    while True:
        event = await receive()
        await send({"type": event["type"] + ".complete"})
        if event["type"] == "lifespan.shutdown":
            return


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    kind = scope["type"]
    if kind == "http":
        path = scope["path"]
        handler = PATHS.get(path) or (user if path.startswith(USERS) else None)
        if handler is None:
            await answer(send, 404, b"text/plain", b"no such path")
        else:
            await handler(scope, receive, send)
    elif kind == "websocket":
        await websocket(receive, send)
    elif kind == "lifespan":
        await lifespan(receive, send)
