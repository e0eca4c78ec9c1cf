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


# socket.socket is another class for the whole process: proxies, tracers and mocks do that


CALLS = set()


class TracedSocket(socket.socket):
    """Counts what is asked of all of them."""

    def accept(self):
        CALLS.add("accept")
        return super().accept()

    def connect(self, *arguments):
        CALLS.add("connect")
        return super().connect(*arguments)

    def recv(self, *arguments):
        CALLS.add("recv")
        return super().recv(*arguments)

    def recv_into(self, *arguments):
        CALLS.add("recv")
        return super().recv_into(*arguments)

    def send(self, *arguments):
        CALLS.add("send")
        return super().send(*arguments)

    def recvfrom(self, *arguments):
        CALLS.add("recvfrom")
        return super().recvfrom(*arguments)

    def sendto(self, *arguments):
        CALLS.add("sendto")
        return super().sendto(*arguments)


@pytest.fixture
def calls():
    CALLS.clear()
    return CALLS


async def talk_shortly(address):
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    writer.close()
    await writer.wait_closed()


def test_replaced_class_serves_connections(run, calls, monkeypatch):
    monkeypatch.setattr(socket, "socket", TracedSocket)

    async def main():
        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            await talk_shortly(server.sockets[0].getsockname())

    run(main())
    assert calls == {"accept", "connect", "recv", "send"}


@pytest.mark.parametrize("way", ["plain", "tls"])
def test_class_replaced_while_a_server_listens_makes_its_connections(run, calls, contexts, monkeypatch, way):
    server_context, client_context = contexts[way]
    classes = []

    async def serve(reader, writer):
        classes.append(type(writer.get_extra_info("socket")._sock))
        await echo(reader, writer)

    async def main():
        async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server_context) as server:
            client = socket.create_connection(server.sockets[0].getsockname())
            client.setblocking(False)
            with monkeypatch.context() as patch:
                patch.setattr(socket, "socket", TracedSocket)
                name = {"server_hostname": "localhost"} if client_context else {}
                await talk(*await asyncio.open_connection(sock=client, ssl=client_context, **name))

    run(main())
    assert classes == [TracedSocket]
    assert calls == {"recv", "send"}


def test_class_that_cannot_be_made_costs_one_connection(run, monkeypatch, reported):
    plain = socket.socket

    class Refusing(socket.socket):
        def __init__(self, *arguments, fileno=None):
            plain(fileno=fileno).close()
            raise ZeroDivisionError

    async def main():
        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            address = server.sockets[0].getsockname()
            with socket.create_connection(address) as client:
                with monkeypatch.context() as patch:
                    patch.setattr(socket, "socket", Refusing)
                    client.setblocking(False)
                    assert await asyncio.get_running_loop().sock_recv(client, 1) == b""
            await talk_shortly(address)

    run(main())


def test_replaced_class_serves_datagrams(run, calls, monkeypatch):
    monkeypatch.setattr(socket, "socket", TracedSocket)

    async def main():
        loop = asyncio.get_running_loop()

        class Receiver(asyncio.DatagramProtocol):
            def __init__(self):
                self.received = loop.create_future()

            def datagram_received(self, data, address):
                self.received.set_result(data)

        transport, protocol = await loop.create_datagram_endpoint(Receiver, local_addr=("127.0.0.1", 0))
        transport.sendto(b"x", transport.get_extra_info("sockname"))
        assert await protocol.received == b"x"
        transport.close()
        await asyncio.sleep(0)

    run(main())
    assert calls == {"recvfrom", "sendto"}


def test_replaced_class_is_asked_by_socket_operations(loop, run, calls, monkeypatch):
    monkeypatch.setattr(socket, "socket", TracedSocket)

    async def main():
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            right.setblocking(False)
            await loop.sock_sendall(left, b"x")
            assert await loop.sock_recv(right, 1) == b"x"

    run(main())
    assert calls == {"recv", "send"}


def test_methods_replaced_in_pythons_own_class(loop, run, calls, monkeypatch, socket_pair):
    def traced(name):
        def method(self, *arguments):
            calls.add(name)
            return getattr(super(plain, self), name)(*arguments)

        return method

    plain = socket.socket
    for name in ("recv", "send"):
        monkeypatch.setattr(plain, name, traced(name), raising=False)
    left, right = socket_pair()

    async def main():
        await loop.sock_sendall(left, b"x")
        assert await loop.sock_recv(right, 1) == b"x"
        assert calls == {"recv", "send"}
        calls.clear()
        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            await talk_shortly(server.sockets[0].getsockname())
        assert calls == {"recv", "send"}

    run(main())
    monkeypatch.undo()
    calls.clear()
    run(loop.sock_sendall(left, b"x"))
    assert calls == set()


@pytest.mark.cxxloop_only("asyncio looks at no class")
def test_class_replaced_before_the_import_is_known(run_script):
    result = run_script(
        """
        import socket, sys
        del sys.modules["cxxloop._sockets"]
        plain = socket.socket
        class Traced(socket.socket):
            pass
        socket.socket = Traced
        import cxxloop._sockets
        print(cxxloop._sockets.plain_socket is plain)
        """
    )
    assert result.stdout.strip() == "True"
