# SPDX-License-Identifier: MIT
"""A loop with nothing to do sleeps: listening sockets and idle connections cost no wake-up."""

import asyncio
import socket
import threading

import pytest

IDLE_SECONDS = 5
CONNECTIONS = 100


@pytest.mark.cxxloop_only
def test_idle_loop_makes_no_wakeup(loop):
    clients = []

    async def serve() -> asyncio.Server:
        connected = asyncio.Event()
        protocols: list[asyncio.Protocol] = []

        class Idle(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                self.transport = transport
                protocols.append(self)
                if len(protocols) == CONNECTIONS:
                    connected.set()

        server = await loop.create_server(Idle, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        clients.extend(socket.create_connection(address) for _ in range(CONNECTIONS))
        await connected.wait()
        await asyncio.sleep(0.05)
        server.protocols = protocols
        return server

    server = loop.run_until_complete(serve())
    counted = []

    def stop_later() -> None:
        # From outside: a timer would itself be a wake-up. The first count comes after the loop has gone to sleep.
        for _ in range(2):
            release.wait(IDLE_SECONDS if counted else 0.5)
            counted.append(loop._counters()["sleeps"])
        loop.call_soon_threadsafe(loop.stop)

    release = threading.Event()
    thread = threading.Thread(target=stop_later)
    thread.start()
    loop.run_forever()
    thread.join()
    assert counted[1] == counted[0]

    for protocol in server.protocols:
        protocol.transport.abort()
    server.close()
    loop.run_until_complete(server.wait_closed())
    for client in clients:
        client.close()
