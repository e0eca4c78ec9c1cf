# SPDX-License-Identifier: MIT
"""sock_* operations that are cancelled, refused or misused."""

import asyncio
import contextlib
import errno
import io
import socket
import ssl
import sys

import pytest
from recorder import LOOPBACK, nonblocking_socket, turns


# Cancelling


@pytest.mark.parametrize("operation", ["sock_recv", "sock_recv_into", "sock_recvfrom", "sock_recvfrom_into"])
def test_cancelled_read_leaves_the_socket_to_the_next(loop, run, socket_pair, operation):
    left, right = socket_pair(socket.SOCK_DGRAM)
    argument = bytearray(10) if operation.endswith("into") else 10

    async def main():
        first = loop.create_task(getattr(loop, operation)(left, argument))
        await turns()
        first.cancel()
        second = loop.create_task(getattr(loop, operation)(left, argument))
        await turns()
        assert first.cancelled() and not second.done()
        right.send(b"abc")
        result = await second
        result = result[0] if isinstance(result, tuple) else result
        assert result == (3 if operation.endswith("into") else b"abc")
        assert loop.remove_reader(left) is False

    run(main())


def test_cancelling_a_replaced_read_keeps_the_one_that_replaced_it(loop, run, socket_pair):
    left, right = socket_pair()

    async def main():
        first = loop.create_task(loop.sock_recv(left, 10))
        await turns()
        second = loop.create_task(loop.sock_recv(left, 10))
        await turns()
        first.cancel()
        await turns()
        right.send(b"abc")
        assert await second == b"abc"

    run(main())


def test_cancelled_read_takes_no_data(loop, run, socket_pair):
    left, right = socket_pair()

    async def main():
        for _ in range(20):
            first = loop.create_task(loop.sock_recv(left, 10))
            await turns(2)
            right.send(b"abc")
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            assert await loop.sock_recv(left, 10) == b"abc"

    run(main())


def test_cancelled_read_does_not_remove_a_reader_added_later(loop, run, socket_pair):
    left, right = socket_pair()

    async def main():
        task = loop.create_task(loop.sock_recv(left, 10))
        await turns()
        readable = asyncio.Event()
        loop.add_reader(left, readable.set)
        task.cancel()
        await turns()
        right.send(b"abc")
        await readable.wait()
        assert loop.remove_reader(left) is True

    run(main())


def test_cancelled_sendall(loop, run, socket_pair):
    left, right = socket_pair()

    async def main():
        task = loop.create_task(loop.sock_sendall(left, bytes(5_000_000)))
        await turns()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert loop.remove_writer(left) is False
        right.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while right.recv(1 << 20):
                pass
        await loop.sock_sendall(left, b"after")
        assert await loop.sock_recv(right, 10) == b"after"

    run(main())


def test_cancelled_accept_loses_no_connection(loop, run, listener):
    async def main():
        task = loop.create_task(loop.sock_accept(listener))
        await turns()
        task.cancel()
        await turns()
        assert task.cancelled()
        with socket.create_connection(listener.getsockname()) as client:
            connection, address = await loop.sock_accept(listener)
            connection.close()
            assert address == client.getsockname()

    run(main())


def test_cancelled_connect(loop, run):
    async def main():
        with nonblocking_socket() as server:
            server.bind((LOOPBACK, 0))
            server.listen(0)
            blockers = []
            while True:  # A full backlog drops the next SYN: that connect waits.
                sock = nonblocking_socket()
                blockers.append(sock)
                task = loop.create_task(loop.sock_connect(sock, server.getsockname()))
                done, _ = await asyncio.wait([task], timeout=0.05)
                if not done:
                    break
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert loop.remove_writer(sock) is False
            for sock in blockers:
                sock.close()

    run(main())


def test_wait_is_ended_by_a_timeout(loop, run, socket_pair):
    left, _ = socket_pair()

    async def main():
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.002):
                    await loop.sock_recv(left, 1)
        assert loop.remove_reader(left) is False

    run(main())


def test_loop_closed_while_an_operation_waits(loop_factory, socket_pair):
    left, _ = socket_pair()
    loop = loop_factory()
    messages = []
    loop.set_exception_handler(lambda loop, context: messages.append(context["message"]))
    task = loop.create_task(loop.sock_recv(left, 1))
    loop.stop()
    loop.run_forever()
    loop.close()
    assert not task.done()
    del task
    left.close()


# Misuse

OPERATIONS = {
    "sock_recv": lambda loop, sock: loop.sock_recv(sock, 1),
    "sock_recv_into": lambda loop, sock: loop.sock_recv_into(sock, bytearray(1)),
    "sock_recvfrom": lambda loop, sock: loop.sock_recvfrom(sock, 1),
    "sock_recvfrom_into": lambda loop, sock: loop.sock_recvfrom_into(sock, bytearray(1)),
    "sock_sendall": lambda loop, sock: loop.sock_sendall(sock, b"x"),
    "sock_sendto": lambda loop, sock: loop.sock_sendto(sock, b"x", (LOOPBACK, 9)),
    "sock_connect": lambda loop, sock: loop.sock_connect(sock, (LOOPBACK, 9)),
    "sock_accept": lambda loop, sock: loop.sock_accept(sock),
    "sock_sendfile": lambda loop, sock: loop.sock_sendfile(sock, io.BytesIO(b"x")),
}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_operation_is_a_coroutine_that_does_nothing_before_it_runs(loop, socket_pair, operation):
    left, right = socket_pair()
    right.send(b"x")
    coroutine = operation(loop, left)
    assert asyncio.iscoroutine(coroutine)
    coroutine.close()
    assert left.recv(10) == b"x"
    with pytest.raises(BlockingIOError):
        right.recv(10)


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_debug_mode_refuses_a_blocking_socket(loop, run, operation):
    loop.set_debug(True)

    async def main():
        with socket.socket() as sock:
            with pytest.raises(ValueError, match="^the socket must be non-blocking$"):
                await operation(loop, sock)

    run(main())


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_tls_socket_is_refused(loop, run, operation):
    context = ssl.create_default_context()

    async def main():
        with context.wrap_socket(nonblocking_socket(), server_hostname="name") as sock:
            with pytest.raises(TypeError, match="^Socket cannot be of type SSLSocket$"):
                await operation(loop, sock)

    run(main())


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_closed_socket_is_an_os_error(loop, run, operation):
    async def main():
        sock = nonblocking_socket()
        sock.close()
        with pytest.raises(OSError) as info:
            await operation(loop, sock)
        assert info.value.errno == errno.EBADF

    run(main())


def test_what_is_no_socket(loop, run):
    async def main():
        for operation in OPERATIONS.values():
            with pytest.raises((TypeError, AttributeError)):
                await operation(loop, object())

    run(main())


def test_wrong_buffers(loop, run, socket_pair):
    left, right = socket_pair()
    right.send(b"x")

    async def main():
        with pytest.raises(TypeError):
            await loop.sock_sendall(left, "text")
        with pytest.raises((TypeError, BufferError)):
            await loop.sock_recv_into(left, b"read only")
        with pytest.raises(ValueError):
            await loop.sock_recv(left, -1)
        with pytest.raises(TypeError):
            await loop.sock_recv(left, "1")

    run(main())


def test_keywords(loop, run, socket_pair):
    left, right = socket_pair()

    async def main():
        await loop.sock_sendall(sock=right, data=b"abc")
        assert await loop.sock_recv(sock=left, n=1) == b"a"
        assert await loop.sock_recv_into(sock=left, buf=bytearray(1)) == 1
        assert (await loop.sock_recvfrom(sock=left, bufsize=1))[0] == b"c"

    run(main())


def test_the_socket_of_a_transport_is_refused(loop, run):
    left, right = socket.socketpair()

    async def main():
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=left)
        with pytest.raises(RuntimeError, match="is used by transport"):
            await loop.sock_recv(left, 1)
        transport.abort()
        await turns()

    run(main())
    right.close()


# What is no buffer and no size


@pytest.mark.parametrize("buffer", [b"read-only", memoryview(bytearray(10))[::2], "text", None])
def test_buffer_that_cannot_be_received_into(loop, run, socket_pair, buffer):
    left, right = socket_pair()
    right.send(b"abc")
    with pytest.raises(TypeError) as of_socket:
        left.recv_into(buffer)
    with pytest.raises(TypeError) as of_loop:
        run(loop.sock_recv_into(left, buffer))
    assert str(of_loop.value) == str(of_socket.value)
    assert run(loop.sock_recv(left, 10)) == b"abc"


@pytest.mark.parametrize("size", [-1, 2**70, -(2**70), "1", 1.5, None])
def test_size_that_cannot_be_received(loop, run, socket_pair, size):
    left, right = socket_pair()
    right.send(b"abc")
    with pytest.raises((TypeError, ValueError, OverflowError)) as of_socket:
        left.recv(size)
    with pytest.raises(of_socket.type) as of_loop:
        run(loop.sock_recv(left, size))
    assert str(of_loop.value) == str(of_socket.value)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="__buffer__() is new in Python 3.12")
@pytest.mark.parametrize("method", ["sock_sendall", "sock_recv_into"])
def test_buffer_that_closes_the_loop(loop_factory, method):
    loop = loop_factory()

    class Buffer(bytearray):
        def __buffer__(self, flags):
            loop.close()
            return memoryview(bytearray(len(self)))

    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        call = getattr(loop, method)(ours, Buffer(10_000_000))
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            call.send(None)


# Nothing to send


def test_sending_nothing_asks_the_kernel_all_the_same(loop, run, socket_pair):
    async def main():
        left, right = socket_pair(socket.SOCK_DGRAM)
        await loop.sock_sendall(left, b"")
        right.settimeout(5)
        assert right.recv(10) == b""
        left, right = socket_pair()
        right.close()
        with pytest.raises(BrokenPipeError):
            await loop.sock_sendall(left, b"")
        left.close()
        with pytest.raises(OSError) as caught:
            await loop.sock_sendall(left, b"")
        assert caught.value.errno == errno.EBADF
        with nonblocking_socket() as lonely, pytest.raises(OSError):
            await loop.sock_sendall(lonely, b"")

    run(main())
