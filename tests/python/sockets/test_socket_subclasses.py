# SPDX-License-Identifier: MIT
"""Sockets of a subclass: what it replaced is called, as asyncio calls it."""

import asyncio
import socket

import pytest


class CountingSocket(socket.socket):
    """Counts what a loop asks of it."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.calls = set()

    def recv(self, *arguments):
        self.calls.add("read")
        return super().recv(*arguments)

    def recv_into(self, *arguments):
        self.calls.add("read")
        return super().recv_into(*arguments)

    def send(self, *arguments):
        self.calls.add("write")
        return super().send(*arguments)

    def sendmsg(self, *arguments):
        self.calls.add("write")
        return super().sendmsg(*arguments)

    def accept(self):
        self.calls.add("accept")
        return super().accept()


@pytest.fixture
def contexts(tls_contexts):
    """None twice for plain connections; for TLS the contexts of a server and of its clients."""
    return {"plain": (None, None), "tls": tls_contexts}


async def echo(reader, writer):
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


async def talk(reader, writer):
    for payload in (b"hello", bytes(300_000)):
        writer.write(payload)
        assert await reader.readexactly(len(payload)) == payload
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("way", ["plain", "tls"])
def test_connection_over_a_socket_of_a_subclass(run, contexts, way):
    server_context, client_context = contexts[way]

    async def main():
        async with await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_context) as server:
            sock = CountingSocket()
            sock.connect(server.sockets[0].getsockname())
            sock.setblocking(False)
            name = {"server_hostname": "localhost"} if client_context else {}
            await talk(*await asyncio.open_connection(sock=sock, ssl=client_context, **name))
            assert sock.calls == {"read", "write"}
            assert sock.fileno() == -1

    run(main())


def test_start_tls_over_a_socket_of_a_subclass(run, contexts):
    server_context, client_context = contexts["tls"]

    async def main():
        async with await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_context) as server:
            sock = CountingSocket()
            sock.connect(server.sockets[0].getsockname())
            sock.setblocking(False)
            reader, writer = await asyncio.open_connection(sock=sock)
            await writer.start_tls(client_context, server_hostname="localhost")
            await talk(reader, writer)
            assert sock.calls == {"read", "write"}

    run(main())


@pytest.mark.parametrize("way", ["plain", "tls"])
def test_server_on_a_socket_of_a_subclass(run, contexts, way):
    server_context, client_context = contexts[way]

    async def main():
        sock = CountingSocket()
        sock.bind(("127.0.0.1", 0))
        async with await asyncio.start_server(echo, sock=sock, ssl=server_context) as server:
            address = server.sockets[0].getsockname()
            name = {"server_hostname": "localhost"} if client_context else {}
            for _ in range(2):
                await talk(*await asyncio.open_connection(*address, ssl=client_context, **name))
            assert sock.calls == {"accept"}
        assert sock.fileno() == -1
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*address)

    run(main())
