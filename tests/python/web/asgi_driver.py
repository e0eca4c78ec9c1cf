# SPDX-License-Identifier: MIT
"""Calls ASGI applications in the process: one request, and what the application has sent."""

import asyncio
import os


def scope_of(target="/", method="GET", headers=None, **changes):
    """The scope of a request; `target` is a path as an application sees it, decoded, and perhaps a query."""
    path, _, query = target.partition("?")
    pairs = headers.items() if isinstance(headers, dict) else headers or ()
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode("utf-8", "surrogateescape"),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(b"host", b"localhost"), *((name.lower().encode(), value.encode("latin-1")) for name, value in pairs)],
        "client": ("192.0.2.1", 4711),
        "server": ("192.0.2.2", 80),
        "state": {},
        "extensions": {},
    }
    return {**scope, **changes}


class Answer:
    """What an application has sent."""

    def __init__(self, messages):
        self.messages = messages
        self.status = messages[0]["status"]
        self.pairs = [(name.decode(), value.decode("latin-1")) for name, value in messages[0]["headers"]]
        self.headers = dict(self.pairs)
        self.body = b"".join(_bytes_of(message) for message in messages[1:])
        self.kinds = [message["type"].removeprefix("http.response.") for message in messages[1:]]


def _bytes_of(message):
    return message.get("sent", b"") if "file" in message or "path" in message else message.get("body", b"")


async def call(application, target="/", method="GET", headers=None, *, pieces=(b"",), on_send=None, **changes):
    """One request whose body comes in `pieces`. Files are read as a server does: inside send(), a path's at the disconnect."""
    messages, paths = [], []
    incoming = [{"type": "http.request", "body": piece, "more_body": number < len(pieces)} for number, piece in enumerate(pieces, 1)]

    async def receive():
        await asyncio.sleep(0)
        if incoming:
            return incoming.pop(0)
        for message in paths:  # late: the path must still lead to the file
            with open(message["path"], "rb") as file:
                message["sent"] = file.read()
        return {"type": "http.disconnect"}

    async def send(message):
        if on_send is not None:
            await on_send(message)
        messages.append(message)
        if message["type"] == "http.response.zerocopysend":
            message["sent"] = os.pread(message["file"].fileno(), message["count"], message["offset"])
        if message["type"] == "http.response.pathsend":
            paths.append(message)

    await application(scope_of(target, method, headers, **changes), receive, send)
    return Answer(messages)
