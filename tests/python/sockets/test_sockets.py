# SPDX-License-Identifier: MIT
"""sock_*: the socket operations a coroutine awaits, at once ready, waiting, cancelled or failing."""

import asyncio
import contextlib
import errno
import io
import socket
import threading
import time

import pytest
from recorder import LOOPBACK, nonblocking_socket, turns


@pytest.fixture
def udp_pair():
    with socket.socket(type=socket.SOCK_DGRAM) as left, socket.socket(type=socket.SOCK_DGRAM) as right:
        for sock in (left, right):
            sock.setblocking(False)
            sock.bind((LOOPBACK, 0))
        yield left, right


def unused_port():
    with socket.socket() as sock:
        sock.bind((LOOPBACK, 0))
        return sock.getsockname()[1]


# Receiving


def test_sock_recv_of_waiting_data(loop, run, socket_pair):
    left, right = socket_pair()
    right.send(b"abc")

    async def main():
        assert await loop.sock_recv(left, 2) == b"ab"
        assert await loop.sock_recv(left, 100) == b"c"
        assert await loop.sock_recv(left, 0) == b""
        right.close()
        assert await loop.sock_recv(left, 1) == b""

    run(main())


def test_sock_recv_waits_for_data_and_for_the_end(loop, run, socket_pair):
    left, right = socket_pair()

    async def main():
        task = loop.create_task(loop.sock_recv(left, 100))
        await turns()
        assert not task.done()
        right.send(b"late")
        assert await task == b"late"
        task = loop.create_task(loop.sock_recv(left, 100))
        await turns()
        right.close()
        assert await task == b""
        assert loop.remove_reader(left) is False

    run(main())


@pytest.mark.parametrize("make", [bytearray, lambda n: memoryview(bytearray(n))])
def test_sock_recv_into(loop, run, socket_pair, make):
    left, right = socket_pair()
    right.send(b"abc")

    async def main():
        buffer = make(10)
        assert await loop.sock_recv_into(left, buffer) == 3
        assert bytes(buffer[:3]) == b"abc"
        task = loop.create_task(loop.sock_recv_into(left, buffer))
        await turns()
        right.send(b"defg")
        assert await task == 4
        assert bytes(buffer[:4]) == b"defg"

    run(main())


def test_large_message_is_received_whole(loop, run, socket_pair):
    left, right = socket_pair()
    data = bytes(range(256)) * 8192

    async def receive():
        received = bytearray()
        while len(received) < len(data):
            received += await loop.sock_recv(left, 1 << 20)
        return received

    async def main():
        received, _ = await asyncio.gather(receive(), loop.sock_sendall(right, data))
        assert received == data

    run(main())


# Sending


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("size", [0, 1, 100, 5_000_000])
def test_sock_sendall(loop, run, socket_pair, kind, size):
    left, right = socket_pair()
    pattern = (bytes(range(251)) * (size // 251 + 1))[:size]

    async def receive():
        received = bytearray()
        while chunk := await loop.sock_recv(right, 1 << 20):
            received += chunk
        return received

    async def main():
        reader = loop.create_task(receive())
        assert await loop.sock_sendall(left, kind(pattern)) is None
        left.shutdown(socket.SHUT_WR)
        assert await reader == pattern
        assert loop.remove_writer(left) is False

    run(main())


def test_sock_sendall_to_a_closed_peer(loop, run, socket_pair):
    left, right = socket_pair()

    async def main():
        sender = loop.create_task(loop.sock_sendall(left, bytes(5_000_000)))
        await turns()
        assert not sender.done()
        right.close()
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            await sender
        with pytest.raises(BrokenPipeError):
            await loop.sock_sendall(left, b"x")
        assert loop.remove_writer(left) is False

    run(main())


def test_sending_and_receiving_on_one_socket_at_once(loop, run, socket_pair):
    left, right = socket_pair()
    data = bytes(3_000_000)

    async def receive(sock):
        count = 0
        while count < len(data):
            count += len(await loop.sock_recv(sock, 1 << 18))
        return count

    async def main():
        results = await asyncio.gather(
            receive(left), receive(right), loop.sock_sendall(left, data), loop.sock_sendall(right, data)
        )
        assert results == [len(data), len(data), None, None]

    run(main())


# Datagrams


def test_sock_recvfrom_and_sendto(loop, run, udp_pair):
    left, right = udp_pair

    async def main():
        assert await loop.sock_sendto(left, b"abc", right.getsockname()) == 3
        assert await loop.sock_recvfrom(right, 100) == (b"abc", left.getsockname())
        task = loop.create_task(loop.sock_recvfrom(right, 2))
        await turns()
        assert not task.done()
        await loop.sock_sendto(left, memoryview(b"defg"), right.getsockname())
        assert await task == (b"de", left.getsockname())
        await loop.sock_sendto(left, b"", right.getsockname())
        assert await loop.sock_recvfrom(right, 100) == (b"", left.getsockname())

    run(main())


def test_sock_recvfrom_into(loop, run, udp_pair):
    left, right = udp_pair

    async def main():
        buffer = bytearray(10)
        await loop.sock_sendto(left, b"abcdef", right.getsockname())
        assert await loop.sock_recvfrom_into(right, buffer) == (6, left.getsockname())
        task = loop.create_task(loop.sock_recvfrom_into(right, buffer, 2))
        await turns()
        await loop.sock_sendto(left, b"XYZ", right.getsockname())
        assert await task == (2, left.getsockname())
        assert buffer[:6] == b"XYcdef"
        with pytest.raises(ValueError):
            await loop.sock_recvfrom_into(right, buffer, 100)

    run(main())


def test_sock_sendto_waits_for_room(loop, run, tmp_path):
    path = str(tmp_path / "socket")
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender,
    ):
        receiver.setblocking(False)
        sender.setblocking(False)
        receiver.bind(path)
        queued = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                sender.sendto(b"x", path)
                queued += 1

        async def main():
            task = loop.create_task(loop.sock_sendto(sender, b"last", path))
            await turns()
            assert not task.done()
            for _ in range(queued):
                assert (await loop.sock_recvfrom(receiver, 10))[0] == b"x"
            assert await task == 4
            assert (await loop.sock_recvfrom(receiver, 10))[0] == b"last"

        run(main())


def test_sendto_of_too_much(loop, run, udp_pair):
    left, right = udp_pair

    async def main():
        with pytest.raises(OSError) as info:
            await loop.sock_sendto(left, bytes(100_000), right.getsockname())
        assert info.value.errno == errno.EMSGSIZE

    run(main())


# Connecting and accepting


def test_sock_connect_and_accept(loop, run, listener):
    async def main():
        with nonblocking_socket() as client:
            task = loop.create_task(loop.sock_accept(listener))
            await turns()
            assert await loop.sock_connect(client, listener.getsockname()) is None
            connection, address = await task
            with connection:
                assert address == client.getsockname()
                assert connection.gettimeout() == 0
                assert connection.family == socket.AF_INET
                await loop.sock_sendall(client, b"hello")
                assert await loop.sock_recv(connection, 10) == b"hello"

    run(main())


def test_sock_accept_of_a_waiting_connection(loop, run, listener):
    async def main():
        with socket.create_connection(listener.getsockname()) as client:
            connection, address = await loop.sock_accept(listener)
            connection.close()
            assert address == client.getsockname()
        assert loop.remove_reader(listener) is False

    run(main())


def test_many_connections(loop, run, listener):
    listener.listen(200)

    async def connect():
        with nonblocking_socket() as client:
            await loop.sock_connect(client, listener.getsockname())
            return await loop.sock_recv(client, 10)

    async def serve():
        for _ in range(100):
            connection, _ = await loop.sock_accept(listener)
            with connection:
                await loop.sock_sendall(connection, b"served")

    async def main():
        *results, _ = await asyncio.gather(*(connect() for _ in range(100)), serve())
        assert results == [b"served"] * 100

    run(main())


def test_sock_connect_refused(loop, run):
    port = unused_port()

    async def main():
        with nonblocking_socket() as client:
            with pytest.raises(ConnectionRefusedError) as info:
                await loop.sock_connect(client, (LOOPBACK, port))
            assert info.value.errno == errno.ECONNREFUSED
            assert str(info.value) == f"[Errno 111] Connect call failed ('127.0.0.1', {port})"
            assert loop.remove_writer(client) is False

    run(main())


def test_sock_connect_resolves_a_name(loop, run, listener):
    async def main():
        with nonblocking_socket() as client:
            await loop.sock_connect(client, ("localhost", listener.getsockname()[1]))
            assert client.getpeername() == listener.getsockname()

    run(main())


def test_sock_connect_of_a_name_that_is_none(loop, run):
    async def main():
        with nonblocking_socket() as client, pytest.raises(socket.gaierror):
            await loop.sock_connect(client, ("name.invalid", 1))

    run(main(), timeout=30)  # A machine without a network waits for its resolver.


def test_sock_connect_to_a_unix_socket(loop, run, tmp_path):
    path = str(tmp_path / "socket")

    async def main():
        with nonblocking_socket(socket.AF_UNIX) as client:
            with pytest.raises(FileNotFoundError):
                await loop.sock_connect(client, path)
        with nonblocking_socket(socket.AF_UNIX) as server, nonblocking_socket(socket.AF_UNIX) as client:
            server.bind(path)
            server.listen()
            await loop.sock_connect(client, path)
            connection, _ = await loop.sock_accept(server)
            connection.close()

    run(main())


def test_sock_connect_of_a_datagram_socket(loop, run, udp_pair):
    left, right = udp_pair

    async def main():
        await loop.sock_connect(left, right.getsockname())
        await loop.sock_sendall(left, b"x")
        assert await loop.sock_recv(right, 10) == b"x"

    run(main())


def test_sock_connect_with_an_address_of_the_wrong_kind(loop, run):
    async def main():
        with nonblocking_socket() as client:
            with pytest.raises(ValueError):
                await loop.sock_connect(client, (LOOPBACK,))
            with pytest.raises(TypeError):
                await loop.sock_connect(client, None)

    run(main())


# sock_sendfile


def test_sock_sendfile(loop, run, socket_pair, tmp_path):
    left, right = socket_pair()
    path = tmp_path / "file"
    content = bytes(range(256)) * 4000
    path.write_bytes(content)

    async def receive(size):
        received = bytearray()
        while len(received) < size:
            received += await loop.sock_recv(right, 1 << 20)
        return received

    async def main():
        with path.open("rb") as file:
            sent, received = await asyncio.gather(loop.sock_sendfile(left, file), receive(len(content)))
            assert sent == len(content) and received == content
            assert file.tell() == len(content)
            assert await loop.sock_sendfile(left, file, 10, 5) == 5
            assert await receive(5) == content[10:15]
            assert file.tell() == 15
        assert await loop.sock_sendfile(left, io.BytesIO(b"fallback")) == 8
        assert await receive(8) == b"fallback"
        with pytest.raises(asyncio.SendfileNotAvailableError):
            await loop.sock_sendfile(left, io.BytesIO(b"x"), fallback=False)
        with path.open() as file, pytest.raises(ValueError, match="binary mode"):
            await loop.sock_sendfile(left, file)

    run(main())


# The seed


def test_raw_echo_server_whose_client_takes_its_time(loop, run, listener):
    received = []

    def client():
        time.sleep(0.3)  # The server has nothing to do and waits in sock_accept.
        with socket.create_connection(listener.getsockname()) as sock:
            time.sleep(0.3)  # The server waits in sock_recv.
            sock.sendall(b"hello")
            received.append(sock.recv(100))
            sock.shutdown(socket.SHUT_WR)
            received.append(sock.recv(100))

    async def echo(connection):
        with connection:
            while data := await loop.sock_recv(connection, 1024):
                await loop.sock_sendall(connection, data)

    async def main():
        thread = threading.Thread(target=client)
        thread.start()
        connection, _ = await loop.sock_accept(listener)
        await echo(connection)
        await loop.run_in_executor(None, thread.join)

    run(main())
    assert received == [b"hello", b""]


@pytest.mark.parametrize("operation", ["sock_recv", "sock_recv_into"])
def test_socket_of_a_subclass_can_wait(loop, run, operation):
    class Socket(socket.socket):
        pass

    ours, theirs = socket.socketpair()
    with Socket(fileno=ours.detach()) as sock, theirs:
        sock.setblocking(False)
        loop.call_soon(lambda: loop.call_soon(theirs.send, b"hello"))
        answer = run(getattr(loop, operation)(sock, 10 if operation == "sock_recv" else bytearray(10)))
        assert answer == (b"hello" if operation == "sock_recv" else 5)
