# SPDX-License-Identifier: MIT
"""What a program asks of the poller from another thread while the loop sleeps takes effect at once, as asyncio's epoll_ctl() does."""

import asyncio
import contextlib
import os
import socket
import threading
import time

import pytest

# A loop that noticed nothing would sleep until this timer; what comes at once comes before a tenth of it.
SLEEP_S = 5


@pytest.fixture
def in_thread_of_sleeper(loop):
    """Runs the loop; calls a function in another thread once the loop sleeps, and waits for `done` to be set."""

    def in_thread_of_sleeper(function, done):
        failures = []

        def act():
            time.sleep(0.05)  # the loop has gone to sleep: nothing tells when
            try:
                function()
            except BaseException as exc:
                failures.append(exc)
                raise

        async def main():
            thread = threading.Thread(target=act)
            thread.start()
            begun = time.monotonic()
            try:
                await asyncio.wait_for(done, SLEEP_S)
            finally:
                thread.join()
            return time.monotonic() - begun

        took = loop.run_until_complete(main())
        assert failures == []
        assert took < SLEEP_S / 2

    return in_thread_of_sleeper


def test_add_reader(loop, socket_pair, in_thread_of_sleeper):
    left, right = socket_pair()
    right.send(b"x")
    done = loop.create_future()

    def on_readable():
        loop.remove_reader(left)
        done.set_result(None)

    in_thread_of_sleeper(lambda: loop.add_reader(left, on_readable), done)


def test_add_writer(loop, socket_pair, in_thread_of_sleeper):
    left, _ = socket_pair()
    done = loop.create_future()

    def on_writable():
        loop.remove_writer(left)
        done.set_result(None)

    in_thread_of_sleeper(lambda: loop.add_writer(left, on_writable), done)


def test_add_writer_beside_a_reader(loop, socket_pair, in_thread_of_sleeper):
    left, _ = socket_pair()
    done = loop.create_future()

    def on_writable():
        loop.remove_writer(left)
        done.set_result(None)

    loop.add_reader(left, done.set_result)
    in_thread_of_sleeper(lambda: loop.add_writer(left, on_writable), done)
    loop.remove_reader(left)


def test_remove_reader(loop, socket_pair, in_thread_of_sleeper):
    left, right = socket_pair()
    done = loop.create_future()
    called = []
    loop.add_reader(left, called.append, 1)

    def remove_and_send():
        assert loop.remove_reader(left)
        right.send(b"x")
        loop.call_soon_threadsafe(done.set_result, None)

    in_thread_of_sleeper(remove_and_send, done)
    assert called == []


def test_reader_of_a_number_that_is_used_again(loop, in_thread_of_sleeper):
    """The descriptor of a watch is closed, and its number watched anew for another, all while the loop sleeps."""
    done = loop.create_future()
    read_end, write_end = os.pipe()
    loop.add_reader(read_end, int)
    ends = []

    def on_readable():
        loop.remove_reader(read_end)
        done.set_result(None)

    def replace():
        loop.remove_reader(read_end)
        os.close(read_end)
        other_read, other_write = os.pipe()
        ends.extend((other_read, other_write))
        assert other_read == read_end
        os.write(other_write, b"x")
        loop.add_reader(other_read, on_readable)

    in_thread_of_sleeper(replace, done)
    for fd in (write_end, *ends):
        os.close(fd)


class Receiver(asyncio.Protocol):
    def __init__(self):
        self.received = asyncio.get_running_loop().create_future()
        self.data = b""

    def data_received(self, data):
        self.data += data
        self.received.set_result(None)


def test_resume_reading(loop, socket_pair, in_thread_of_sleeper):
    left, right = socket_pair()

    async def connect():
        transport, protocol = await loop.create_connection(Receiver, sock=left)
        await asyncio.sleep(0)
        transport.pause_reading()
        return transport, protocol

    transport, protocol = loop.run_until_complete(connect())
    right.send(b"hello")
    in_thread_of_sleeper(transport.resume_reading, protocol.received)
    assert protocol.data == b"hello"
    transport.abort()
    loop.run_until_complete(asyncio.sleep(0))


def test_write_that_has_to_wait(loop, socket_pair, in_thread_of_sleeper):
    left, right = socket_pair()
    size = 3_000_000

    async def connect():
        return (await loop.create_connection(asyncio.Protocol, sock=left))[0]

    transport = loop.run_until_complete(connect())
    done = loop.create_future()

    def write_and_receive():
        transport.write(bytes(size))
        right.settimeout(SLEEP_S)
        received = 0
        while received < size:
            received += len(right.recv(1 << 20))
        loop.call_soon_threadsafe(done.set_result, None)

    in_thread_of_sleeper(write_and_receive, done)
    transport.abort()
    loop.run_until_complete(asyncio.sleep(0))


def test_datagram_that_has_to_wait(loop, tmp_path, in_thread_of_sleeper):
    left, right = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
    right.bind(str(tmp_path / "right"))
    left.connect(str(tmp_path / "right"))
    count = 2000

    async def open_endpoint():
        return (await loop.create_datagram_endpoint(asyncio.DatagramProtocol, sock=left))[0]

    transport = loop.run_until_complete(open_endpoint())
    done = loop.create_future()

    def send_and_receive():
        for _ in range(count):
            transport.sendto(bytes(1000))
        right.settimeout(SLEEP_S)
        for _ in range(count):
            right.recv(2000)
        loop.call_soon_threadsafe(done.set_result, None)

    in_thread_of_sleeper(send_and_receive, done)
    right.close()
    transport.abort()
    loop.run_until_complete(asyncio.sleep(0))


def test_start_serving(loop, in_thread_of_sleeper):
    done = loop.create_future()

    class Greeted(asyncio.Protocol):
        def connection_made(self, transport):
            transport.abort()
            done.set_result(None)

    async def make_server():
        return await loop.create_server(Greeted, "127.0.0.1", 0, start_serving=False)

    server = loop.run_until_complete(make_server())
    clients = []

    def serve_and_connect():
        server._start_serving()
        clients.append(socket.create_connection(server.sockets[0].getsockname()))

    in_thread_of_sleeper(serve_and_connect, done)
    server.close()
    clients[0].close()
    loop.run_until_complete(asyncio.sleep(0))


def test_threads_that_watch_and_unwatch_all_the_time(loop, socket_pair):
    """What they do to the poller's tables while the loop sleeps in it, wakes and dispatches must not break those."""
    pairs = [socket_pair() for _ in range(20)]
    stop = threading.Event()
    calls = [0]

    def on_readable(sock):
        calls[0] += 1
        with contextlib.suppress(BlockingIOError):  # what was ready was read for the watch before
            sock.recv(100)

    def churn(own):
        while not stop.is_set():
            for left, right in own:
                loop.add_reader(left, on_readable, left)
                with contextlib.suppress(BlockingIOError):  # the loop is far behind
                    right.send(b"x")
                loop.remove_reader(left)
                loop.add_reader(left, on_readable, left)
            time.sleep(0)

    threads = [threading.Thread(target=churn, args=(pairs[i::4],)) for i in range(4)]
    for thread in threads:
        thread.start()
    loop.call_later(0.3, stop.set)
    loop.call_later(0.35, loop.stop)
    loop.run_forever()
    stop.set()
    for thread in threads:
        thread.join()
    for left, _ in pairs:
        loop.remove_reader(left)
    assert calls[0] > 0
