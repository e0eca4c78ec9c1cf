# SPDX-License-Identifier: MIT
"""HTTP/1.1 as bytes: enough of a client to say exactly what is sent when, and an ASGI application to say it to."""

import asyncio
import contextlib
import socket

BIG = 10 << 20
CHUNK = bytes(range(256)) * 256  # 64 KiB


async def application(scope, receive, send):
    """ASGI: / says hello and which loop runs it, /size counts a body, /echo sends it back, /big sends 10 MiB."""
    if scope["type"] == "lifespan":
        return await _lifespan(receive, send)
    body = bytearray()
    message = {"more_body": True}
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message["body"]
    path = scope["path"]
    if path == "/big":
        await _start(send, BIG)
        for _ in range(BIG // len(CHUNK)):
            await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
        return await send({"type": "http.response.body", "body": b""})
    if path == "/slow":
        await asyncio.sleep(0.2)
    answers = {"/size": b"%d" % len(body), "/echo": bytes(body), "/loop": _loop_name()}
    answer = answers.get(path, b"hello")
    await _start(send, len(answer))
    await send({"type": "http.response.body", "body": answer})


def _loop_name():
    return type(asyncio.get_running_loop()).__module__.partition(".")[0].encode()


async def _start(send, length):
    headers = [(b"content-length", b"%d" % length), (b"content-type", b"application/octet-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def _lifespan(receive, send):
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return


def request(path, body=None, *, close=False):
    """The bytes of one request."""
    method = "GET" if body is None else "POST"
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    if close:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


async def response(reader):
    """(status, headers, body) of the next response of a connection."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    status = int(head[0].split()[1])
    headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
    if headers.get("transfer-encoding") == "chunked":
        body = bytearray()
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readexactly(2)
        return status, headers, bytes(body)
    return status, headers, await reader.readexactly(int(headers.get("content-length", 0)))


@contextlib.asynccontextmanager
async def connected(address):
    reader, writer = await asyncio.open_connection(*address, limit=1 << 20)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def until_listening(process, address):
    """Waits until a server process accepts connections; the kernel offers no event for that."""
    while True:
        assert process.poll() is None, "the server has ended"
        try:
            _, writer = await asyncio.open_connection(*address)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            await writer.wait_closed()
            return


def free_address():
    """An address that was free a moment ago, for servers that cannot tell which port they got."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()
