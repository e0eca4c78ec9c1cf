# SPDX-License-Identifier: MIT
"""A native server of one ASGI application on a loop, and a client that speaks HTTP/1 byte by byte."""

import asyncio
import dataclasses
import socket

from cxxloop import _web

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LAST_GET = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


@dataclasses.dataclass
class Response:
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    trailers: list[tuple[bytes, bytes]]

    def header(self, name):
        """The value of the only header of that name, or None."""
        values = [value for key, value in self.headers if key == name]
        assert len(values) <= 1
        return values[0] if values else None


async def read_fields(reader):
    fields = []
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        name, _, value = line[:-2].partition(b": ")
        fields.append((name, value))
    return fields


async def read_chunks(reader):
    body = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += await reader.readexactly(size)
        assert await reader.readexactly(2) == b"\r\n"
    return body, await read_fields(reader)


async def read_response(reader, *, method="GET"):
    """Reads one response, as RFC 9112 6.3 says where it ends."""
    status_line = await reader.readuntil(b"\r\n")
    assert status_line.startswith(b"HTTP/1.1 ")
    response = Response(int(status_line.split()[1]), await read_fields(reader), b"", [])
    if method == "HEAD" or response.status < 200 or response.status in (204, 304):
        return response
    if response.header(b"transfer-encoding") == b"chunked":
        response.body, response.trailers = await read_chunks(reader)
    elif (length := response.header(b"content-length")) is not None:
        response.body = await reader.readexactly(int(length))
    else:
        response.body = await reader.read()
    return response


def text(body=b"hello", *, status=200, headers=((b"content-type", b"text/plain"),)):
    """An application that answers so."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": status, "headers": list(headers)})
        await send({"type": "http.response.body", "body": body})

    return app


class Served:
    """A server that listens on the loopback address."""

    def __init__(self, loop, app, *, sock=None, state=None, wants_access=False, **options):
        self.accesses = []
        self.errors = []
        self.idle = asyncio.Event()
        self.sock = sock or socket.create_server(("127.0.0.1", 0))
        self.sock.setblocking(False)
        self.server = _web.Server(
            loop,
            app,
            options=options,
            state=state,
            on_idle=self.idle.set,
            on_access=(lambda *access: self.accesses.append(access)) if wants_access else None,
            on_error=lambda message, exception: self.errors.append((message, exception)),
        )
        self.server.listen(self.sock.fileno())

    def close(self):
        self.server.close()
        self.sock.close()

    async def quiet(self):
        """Waits until no application runs and no connection is left."""
        while self.server.tasks() or self.server.counters()["connections"]:
            await asyncio.sleep(0.001)

    async def connect(self):
        if self.sock.family == socket.AF_UNIX:
            return await asyncio.open_unix_connection(self.sock.getsockname())
        return await asyncio.open_connection(*self.sock.getsockname()[:2])

    async def ask(self, request=GET, *, method="GET"):
        """The response to a request on a connection of its own."""
        reader, writer = await self.connect()
        try:
            writer.write(request)
            return await read_response(reader, method=method)
        finally:
            writer.close()

    async def ask_and_vanish(self, started):
        """A client whose connection is reset when the application has started."""
        _, writer = await self.connect()
        writer.write(GET)
        await started.wait()
        writer.transport.abort()

    async def ask_many(self, request, count):
        """The responses to requests that are all on one connection."""
        reader, writer = await self.connect()
        try:
            writer.write(request)
            return [await read_response(reader) for _ in range(count)]
        finally:
            writer.close()
