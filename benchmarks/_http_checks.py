# SPDX-License-Identifier: MIT
"""Real clients against the demo's HTTP servers; every byte of every response is checked."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import aiohttp
import httpx
from serve.http_server import CHUNK, CHUNKS, HELLO

BODY_SIZES = (0, 1, 1000, 65_536, 1_000_000)


class WrongResponse(Exception):
    """The server answered something else than it should."""


def expect(what: str, got: object, wanted: object) -> None:
    if got != wanted:
        raise WrongResponse(f"{what}: got {got!r:.60}, expected {wanted!r:.60}")


async def keep_alive(port: int) -> int:
    """aiohttp: 300 requests one after the other on one connection."""
    connector = aiohttp.TCPConnector(limit=1)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", connector=connector) as session:
        ports = set()
        for _ in range(150):
            async with session.get("/") as response:
                expect("GET /", (response.status, await response.read()), (200, HELLO))
            async with session.get("/peer") as response:
                ports.add(await response.text())
    expect("connections used", len(ports), 1)
    return 300


async def parallel_bodies(port: int) -> int:
    """httpx: 40 clients at once post random bodies of 0 bytes to 1 MB and get them back."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:

        async def post(seed: int) -> None:
            body = random.Random(seed).randbytes(BODY_SIZES[seed % len(BODY_SIZES)])
            response = await client.post("/echo", content=body)
            expect("POST /echo", (response.status_code, response.content == body), (200, True))

        await asyncio.gather(*(post(seed) for seed in range(40)))
    return 40


async def pipelining(port: int) -> int:
    """A raw connection: 200 requests in one write, answered in order."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = "GET /number?i={} HTTP/1.1\r\nHost: demo\r\n\r\n"
    writer.write("".join(request.format(i) for i in range(200)).encode())
    for i in range(200):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        expect("status line", head.split("\r\n")[0], "http/1.1 200 ok")
        length = next(int(line.split(":")[1]) for line in head.split("\r\n") if line.startswith("content-length"))
        expect("pipelined answer", await reader.readexactly(length), str(i).encode())
    writer.close()
    await writer.wait_closed()
    return 200


async def streaming(port: int) -> int:
    """aiohttp: eight chunked 4 MiB downloads at once."""
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:

        async def download() -> None:
            async with session.get("/stream") as response:
                body = await response.read()
            expect("GET /stream", (len(body), body == CHUNK * CHUNKS), (len(CHUNK) * CHUNKS, True))

        await asyncio.gather(*(download() for _ in range(8)))
    return 8


async def disconnects(port: int) -> int:
    """Raw connections: 50 clients vanish in mid request; the server goes on answering."""
    for _ in range(50):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /echo HTTP/1.1\r\nHost: demo\r\nContent-Length: 1000\r\n\r\nhalf")
        writer.transport.abort()
    return await pipelining(port)


CHECKS: dict[str, Callable[[int], Awaitable[int]]] = {
    "keep-alive": keep_alive,
    "parallel bodies": parallel_bodies,
    "pipelining": pipelining,
    "streaming": streaming,
    "disconnects": disconnects,
}


def run_check(check: Callable[[int], Awaitable[int]], port: int, factory: Callable[[], asyncio.AbstractEventLoop]) -> int:
    """The number of responses that were checked. Raises WrongResponse."""

    async def bounded() -> int:
        return await asyncio.wait_for(check(port), 60)

    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(bounded())
    except WrongResponse:
        raise
    except Exception as error:  # A client that cannot make sense of a response has seen a wrong one.
        raise WrongResponse(f"{type(error).__name__}: {error}") from error
