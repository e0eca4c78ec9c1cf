# SPDX-License-Identifier: MIT
"""What a client and an application see of a WebSocket is what they see of uvicorn."""

import asyncio
import contextlib
import socket

import pytest

uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("starlette")
websockets = pytest.importorskip("websockets.asyncio.client")
exceptions = pytest.importorskip("websockets.exceptions")

from starlette.applications import Starlette  # noqa: E402
from starlette.endpoints import WebSocketEndpoint  # noqa: E402
from starlette.responses import PlainTextResponse  # noqa: E402
from starlette.routing import WebSocketRoute  # noqa: E402
from starlette.websockets import WebSocketDisconnect  # noqa: E402

pytestmark = pytest.mark.cxxloop_only("asyncio has no web server")


@contextlib.asynccontextmanager
async def uvicorn_serving(app):
    with socket.create_server(("127.0.0.1", 0)) as sock:
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off", ws="websockets-sansio"))
        task = asyncio.ensure_future(server.serve(sockets=[sock]))
        while not server.started:
            await asyncio.sleep(0.01)
        yield sock.getsockname()
        server.should_exit = True
        await task


@contextlib.asynccontextmanager
async def our_serving(served):
    yield served.sock.getsockname()


class Application:
    """Starlette's, which notes what it is told."""

    def __init__(self):
        self.notes = []
        self.ended = asyncio.Event()
        routes = [WebSocketRoute(f"/{route.__name__}", route) for route in (self.echo, self.json, self.close, self.deny, self.respond, self.protocol)]
        self.app = Starlette(routes=[*routes, WebSocketRoute("/endpoint", Endpoint)])

    async def __call__(self, scope, receive, send):
        async def noting():
            event = await receive()
            self.notes.append({key: value for key, value in event.items() if key != "reason" or value})
            return event

        try:
            await self.app(scope, noting, send)
        finally:
            self.ended.set()

    async def echo(self, websocket):
        await websocket.accept()
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                event = await websocket.receive()
                if event["type"] == "websocket.disconnect":
                    return
                await websocket.send(event | {"type": "websocket.send"})

    async def json(self, websocket):
        await websocket.accept()
        await websocket.send_json({"you": await websocket.receive_json(), "query": dict(websocket.query_params)})
        await websocket.close(3001, "done")

    async def close(self, websocket):
        await websocket.accept()
        await websocket.close()

    async def deny(self, websocket):
        await websocket.close()

    async def respond(self, websocket):
        await websocket.send_denial_response(PlainTextResponse("go away", 451, {"x-why": "because"}))

    async def protocol(self, websocket):
        await websocket.accept(subprotocol=websocket.scope["subprotocols"][-1], headers=[(b"x-a", b"b")])
        await websocket.close()


class Endpoint(WebSocketEndpoint):
    encoding = "bytes"

    async def on_receive(self, websocket, data):
        await websocket.send_bytes(data[::-1])


async def received(client):
    messages = []
    with contextlib.suppress(exceptions.ConnectionClosed):
        while True:
            messages.append(await asyncio.wait_for(client.recv(), 5))
    return messages, client.close_code, client.close_reason


async def talk(client):
    for message in ("", "text", "gr\xfc\xdfe", b"", b"bytes", ["frag", "ments"], "x" * 100_000, b"y" * 70_000):
        await client.send(message)
    answers = [await client.recv() for _ in range(8)]
    await client.close(4000, "bye")
    return answers, client.close_code


async def call_json(client):
    await client.send('{"a": 1}')
    return await received(client)


async def call_endpoint(client):
    await client.send(b"abc")
    answer = await client.recv()
    await client.send("text where bytes are wanted")
    return answer, (await received(client))[1]


async def call_protocol(client):
    return client.subprotocol, client.response.headers["x-a"], await received(client)


DIALOGUES = {
    "/echo": talk,
    "/json?x=1&y=": call_json,
    "/close": received,
    "/endpoint": call_endpoint,
    "/protocol": call_protocol,
    "/deny": None,
    "/respond": None,
    "/nothing-there": None,
}


async def outcome(address, path):
    uri = f"ws://{address[0]}:{address[1]}{path}"
    try:
        async with websockets.connect(uri, proxy=None, subprotocols=["one", "two"] if path == "/protocol" else None) as client:
            return await DIALOGUES[path](client)
    except exceptions.InvalidStatus as refused:
        response = refused.response
        return response.status_code, response.body, response.headers.get("x-why")


@pytest.mark.parametrize("path", DIALOGUES)
def test_dialogue_is_that_of_uvicorn(run, serve_app, path):
    def one(serving, app):
        async def main():
            async with serving as address:
                result = await outcome(address, path)
                await app.ended.wait()
            return result, app.notes

        return run(main(), timeout=30)

    theirs, ours = Application(), Application()
    expected = one(uvicorn_serving(theirs), theirs)
    assert one(our_serving(serve_app(ours)), ours) == expected


# --- wrong frames ----------------------------------------------------------------------------------------------------

HANDSHAKE = (
    b"GET /echo HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def frame(first, payload=b"", *, length=None, mask=bytes(4)):
    size = length if length is not None else bytes([len(payload)])
    return bytes([first, size[0] | (0x80 if mask else 0)]) + size[1:] + mask + payload


WRONG = {
    "reserved bit": frame(0xC1, b"a"),
    "reserved opcode": frame(0x83, b"a"),
    "no mask": frame(0x81, b"a", mask=b""),
    "continuation of nothing": frame(0x80, b"a"),
    "text inside text": frame(0x01, b"a") + frame(0x81, b"b"),
    "ping in fragments": frame(0x09, b"a"),
    "ping of 126 bytes": frame(0x89, bytes(126), length=b"\x7e\x00\x7e"),
    "half a close code": frame(0x88, b"\x03"),
    "close code 1005": frame(0x88, b"\x03\xed"),
    "close code 5000": frame(0x88, b"\x13\x88"),
    "close reason that is not UTF-8": frame(0x88, b"\x03\xe8\xff"),
    "text that is not UTF-8": frame(0x81, b"\xff"),
    "too big": frame(0x82, length=b"\x7f" + (1 << 40).to_bytes(8, "big")),
    "close": frame(0x88, b"\x03\xe8bye"),
    "close without a code": frame(0x88),
    "close 3999": frame(0x88, b"\x0f\x9f"),
}


async def last_words(address, frames):
    """What a client that sends these frames behind a ping reads, without the reasons: servers word them as they like."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(HANDSHAKE)
    await reader.readuntil(b"\r\n\r\n")
    writer.write(frame(0x89, b"ping") + frames)
    read = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    words = []
    while read:
        words.append((read[0], read[2:4] if read[0] == 0x88 else read[2 : 2 + read[1]]))
        read = read[2 + read[1] :]
    return words


@pytest.mark.parametrize("name", WRONG)
def test_frames_end_as_on_uvicorn(run, serve_app, name):
    async def ask(serving):
        async with serving as address:
            return await last_words(address, WRONG[name])

    expected = run(ask(uvicorn_serving(Application())), timeout=20)
    assert expected[0] == (0x8A, b"ping") and expected[1][0] == 0x88
    assert run(ask(our_serving(serve_app(Application()))), timeout=20) == expected
