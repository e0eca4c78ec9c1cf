# SPDX-License-Identifier: MIT
"""The ASGI application of the HTTP case: ten bytes for every request."""

from collections.abc import Awaitable, Callable
from typing import Any

BODY = b"0123456789"
HEADERS = [(b"content-type", b"text/plain"), (b"content-length", b"10")]


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    if scope["type"] != "http":
        raise RuntimeError(f"unexpected scope {scope['type']!r}")
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY})
