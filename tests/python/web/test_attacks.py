# SPDX-License-Identifier: MIT
"""Clients that keep a server busy on purpose: each is ended by its limit, and others are served meanwhile."""

import asyncio
import contextlib

import pytest
from asgi_peer import GET, read_response

pytestmark = pytest.mark.cxxloop_only

LARGE = 32 * 1024 * 1024


async def app(scope, receive, send):
    """Reads the body; answers /large with many bytes, others with few."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    pieces = LARGE // 65536 if scope["path"] == "/large" else 0
    with contextlib.suppress(OSError):
        for _ in range(pieces):
            await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
    await send({"type": "http.response.body", "body": b"ok"})


async def serve_others(served, attack):
    """Requests of honest clients, each on a connection of its own, until the attack is over; how many there were."""
    count = 0
    while not attack.done():
        response = await asyncio.wait_for(served.ask(), 10)
        assert (response.status, response.body) == (200, b"ok")
        count += 1
    return count


def run(loop, served, attack, count):
    """The outcomes of so many attackers at a time."""

    async def main():
        attacking = asyncio.gather(*(attack(served) for _ in range(count)))
        assert await serve_others(served, attacking) > 1
        outcomes = await attacking
        await served.quiet()
        return outcomes

    return loop.run_until_complete(asyncio.wait_for(main(), 30))


async def drip(served, head, piece):
    """Sends a head, then pieces for as long as the server listens; the status of its answer, or None for none."""
    reader, writer = await served.connect()
    answer = asyncio.create_task(reader.read())
    writer.write(head)
    while not answer.done():
        writer.write(piece)
        await asyncio.wait([answer], timeout=0.02)
    writer.close()
    with contextlib.suppress(OSError):
        return int(answer.result().split()[1])
    return None


def test_slowloris(loop, serve_app):
    served = serve_app(app, head_seconds=0.3)
    statuses = run(loop, served, lambda served: drip(served, GET[:-2], b"X-More: 1\r\n"), 50)
    assert set(statuses) <= {408, None} and statuses.count(408) > 25  # None: its last line met a closed door
    assert served.server.counters()["timeouts"] == 50


def test_slow_body(loop, serve_app):
    served = serve_app(app, body_seconds=10, body_rate_min=2000, body_rate_grace_seconds=0.3)
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"
    statuses = run(loop, served, lambda served: drip(served, head, b"x"), 50)
    assert set(statuses) <= {408, None} and statuses.count(408) > 25
    assert served.server.counters()["timeouts"] == 50


def test_slow_read(loop, serve_app):
    async def attack(served):
        reader, writer = await served.connect()
        writer.transport.pause_reading()
        writer.write(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        while served.server.counters()["timeouts"] < 20:
            await asyncio.sleep(0.02)
        writer.transport.resume_reading()
        received = 0
        with pytest.raises(ConnectionResetError):
            while piece := await reader.read(65536):
                received += len(piece)
        writer.close()
        return received

    served = serve_app(app, write_seconds=0.3)
    received = run(loop, served, attack, 20)
    assert max(received) < LARGE // 2  # what the kernel's buffers hold
    assert served.server.tasks() == []


@pytest.mark.parametrize("limit", ["connections_max", "connections_per_address_max"])
def test_flood_of_connections(loop, serve_app, limit):
    async def main():
        honest = [await served.connect() for _ in range(10)]
        for reader, writer in honest:
            writer.write(GET)
            assert (await read_response(reader)).status == 200
        flood = [await served.connect() for _ in range(300)]
        refused = [await asyncio.wait_for(reader.read(), 10) for reader, _ in flood[40:]]
        assert all(answer.startswith(b"HTTP/1.1 503 ") or answer == b"" for answer in refused)
        assert any(b"\r\nretry-after: 1\r\n" in answer for answer in refused)
        for reader, writer in honest:
            writer.write(GET)
            assert (await read_response(reader)).status == 200
        for _, writer in honest + flood:
            writer.close()
        await served.quiet()
        assert served.server.counters()["refused"] == 260
        assert (await served.ask()).status == 200

    served = serve_app(app, idle_seconds=20, **{limit: 50})
    loop.run_until_complete(asyncio.wait_for(main(), 30))
