# SPDX-License-Identifier: MIT
"""What `compare.py web` measures servers with. A new case is one line here; paths are those of serve/web_app.py."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["get", "post", "chunked", "websocket", "static", "idle"]


@dataclass(frozen=True)
class WebCase:
    name: str
    title: str
    kind: Kind  # get, post, chunked: requests by wrk. static: a GET of a file. websocket, idle: see net/.
    path: str
    size: int  # Bytes of the answer's body, of the posted one or of a message.
    connections: int = 64
    depth: int = 1  # Requests that are sent at once.


WEB_CASES = {
    case.name: case
    for case in (
        WebCase("get-10", "GET 10 B", "get", "/bytes/10", 10),
        WebCase("get-1k", "GET 1 KiB", "get", "/bytes/1024", 1024),
        WebCase("get-10k", "GET 10 KiB", "get", "/bytes/10240", 10 * 1024),
        WebCase("get-100k", "GET 100 KiB", "get", "/bytes/102400", 100 * 1024),
        WebCase("echo-1k", "echo 1 KiB", "post", "/echo", 1024),
        WebCase("echo-100k", "echo 100 KiB", "post", "/echo", 100 * 1024),
        WebCase("stream-100k", "echo 100 KiB streamed", "chunked", "/stream", 100 * 1024),
        WebCase("pipelined-16", "GET 10 B pipelined x16", "get", "/bytes/10", 10, depth=16),
        WebCase("connections-1000", "GET 10 B, 1,000 connections", "get", "/bytes/10", 10, connections=1000),
        WebCase("json", "JSON", "get", "/json", 2),
        WebCase("params", "a parameter in the path", "get", "/users/17", 2),
        WebCase("websocket-16", "WebSocket echo 16 B", "websocket", "/websocket", 16),
        WebCase("websocket-1k", "WebSocket echo 1 KiB", "websocket", "/websocket", 1024),
        WebCase("sleep-512", "sleep 10 ms, 512 connections", "get", "/sleep", 5, connections=512),
        WebCase("static-50k", "static file 50 KiB", "static", "/pathsend", 50 * 1024),
        WebCase("idle-10000", "idle connections, 10,000", "idle", "/bytes/10", 10, connections=10_000),
    )
}
