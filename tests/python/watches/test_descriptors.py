# SPDX-License-Identifier: MIT
"""What add_reader and add_writer accept, and descriptors that die or change owner behind the loop's back."""

import asyncio
import errno
import gc
import os
import resource
import select
import socket
import weakref

import pytest

from weighing import resident_kib

HARD_LIMIT = resource.getrlimit(resource.RLIMIT_NOFILE)[1]

# File objects and descriptors


def test_file_object_is_kept_alive(loop, socket_pair):
    left, right = socket_pair()

    class File:
        def fileno(self):
            return left.fileno()

    file = File()
    ref = weakref.ref(file)
    loop.add_reader(file, loop.stop)
    del file
    gc.collect()
    assert ref() is not None
    right.send(b"x")
    loop.run_forever()
    loop.remove_reader(left)
    gc.collect()
    assert ref() is None


def test_anything_with_a_fileno_is_a_file_object(loop, socket_pair, turn):
    left, _ = socket_pair()

    class File:
        def fileno(self):
            return left.fileno()

    seen = []
    loop.add_writer(File(), seen.append, 1)
    turn()
    assert seen == [1]
    assert loop.remove_writer(left.fileno()) is True


@pytest.mark.parametrize("method", ["add_reader", "add_writer", "remove_reader", "remove_writer"])
@pytest.mark.parametrize("thing", [object(), None, "text", 1.5])
def test_what_is_no_file_object(loop, method, thing):
    arguments = (int,) if method.startswith("add") else ()
    with pytest.raises(ValueError) as info:
        getattr(loop, method)(thing, *arguments)
    assert str(info.value) == f"Invalid file object: {thing!r}"


@pytest.mark.parametrize("method", ["add_reader", "add_writer"])
def test_negative_descriptor(loop, method):
    with pytest.raises(ValueError, match="^Invalid file descriptor: -1$"):
        getattr(loop, method)(-1, int)
    closed = socket.socket()
    closed.close()
    with pytest.raises(ValueError, match="^Invalid file descriptor: -1$"):
        getattr(loop, method)(closed, int)


@pytest.mark.parametrize("number", [2**31, 2**70])
def test_number_that_is_no_c_int(loop, number):
    with pytest.raises(OverflowError, match="^Python int too large to convert to C int$"):
        loop.add_reader(number, print)
    assert not loop.remove_reader(number)
    with pytest.raises(ValueError, match=f"^Invalid file descriptor: {-number}$"):
        loop.remove_reader(-number)


def test_large_number_that_is_a_descriptor_is_watched(loop, socket_pair):
    left, right = socket_pair()
    number = min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 100_000) - 1
    os.dup2(left.fileno(), number)
    try:
        loop.add_reader(number, loop.stop)
        right.send(b"x")
        loop.run_forever()
        assert loop.remove_reader(number)
    finally:
        os.close(number)


@pytest.mark.skipif("asan" in os.environ.get("LD_PRELOAD", ""), reason="AddressSanitizer needs more address space")
@pytest.mark.skipif(HARD_LIMIT < 16384, reason="no descriptor here is so large that its table is")
def test_large_number_that_there_is_no_memory_for(run_script):
    result = run_script(
        """
        import errno, os, resource, socket, sys

        limit = int(sys.argv[1])
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        loop = new_loop()
        left, right = socket.socketpair()
        large = os.dup2(left.fileno(), limit - 1)
        loop.add_reader(left, print)
        loop.remove_reader(left)
        right.send(b"x")
        for_small_tables = bytearray(100_000)
        resource.setrlimit(resource.RLIMIT_AS, (1, resource.RLIM_INFINITY))
        del for_small_tables
        try:
            loop.add_reader(large, loop.stop)
        except MemoryError:
            pass
        except OSError as exc:
            assert exc.errno == errno.ENOMEM
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        loop.add_reader(large, loop.stop)
        loop.run_forever()
        loop.close()
        print("watched")
        """,
        str(min(HARD_LIMIT, 200_000)),
    )
    assert result.stdout == "watched\n"


@pytest.mark.parametrize("method", ["reader", "writer"])
def test_closed_descriptor(loop, pipe, method):
    fd = os.dup(pipe[0])
    os.close(fd)
    with pytest.raises(OSError) as info:
        getattr(loop, f"add_{method}")(fd, int)
    assert info.value.errno == errno.EBADF
    assert getattr(loop, f"remove_{method}")(fd) is False


@pytest.mark.parametrize("fd", [10**8, 2**31 - 1])
def test_large_number_that_is_no_descriptor_costs_no_memory(loop, fd):
    before_kib = resident_kib()
    with pytest.raises(OSError) as info:
        loop.add_reader(fd, int)
    assert info.value.errno == errno.EBADF
    assert loop.remove_reader(fd) is False
    assert resident_kib() - before_kib < 10_000


@pytest.mark.parametrize("method", ["reader", "writer"])
def test_regular_file_cannot_be_watched(loop, tmp_path, turn, method):
    path = tmp_path / "file"
    path.write_bytes(b"content")
    with path.open("r+b") as file:
        with pytest.raises(PermissionError) as info:
            getattr(loop, f"add_{method}")(file, int)
        assert info.value.errno == errno.EPERM
        assert getattr(loop, f"remove_{method}")(file) is False
    turn()


def test_eventfds_and_pipes_can_be_watched(loop, pipe, turn):
    event = os.eventfd(1)
    seen = []
    try:
        loop.add_reader(event, seen.append, "eventfd")
        loop.add_writer(pipe[1], seen.append, "pipe")
        turn()
        loop.remove_reader(event)
        loop.remove_writer(pipe[1])
    finally:
        os.close(event)
    assert sorted(seen) == ["eventfd", "pipe"]


def test_one_epoll_may_be_watched(loop, socket_pair):
    left, right = socket_pair()
    with select.epoll() as poller:
        poller.register(left, select.EPOLLIN)
        loop.add_reader(poller, loop.stop)
        loop.call_soon(right.send, b"x")
        loop.run_forever()
        loop.remove_reader(poller)


# Descriptors closed or reused behind the loop's back


def test_descriptor_closed_while_watched(loop, turn, cpu_time_of_sleep):
    left, right = socket.socketpair()
    fd = left.fileno()
    seen = []
    loop.add_reader(fd, seen.append, 1)
    turn()
    left.close()
    right.close()
    turn()
    assert loop.remove_reader(fd) is True
    assert loop.remove_reader(fd) is False
    turn()
    assert seen == []
    assert cpu_time_of_sleep(0.1) < 0.05


def test_changing_the_interest_of_a_closed_descriptor_is_an_os_error(loop, turn):
    left, right = socket.socketpair()
    fd = left.fileno()
    loop.add_reader(fd, int)
    turn()
    left.close()
    right.close()
    with pytest.raises(OSError):
        loop.add_writer(fd, int)
    loop.remove_reader(fd)
    loop.remove_writer(fd)
    turn()


def test_number_reused_after_remove(loop, turn):
    seen = []
    first, first_peer = socket.socketpair()
    fd = first.fileno()
    loop.add_reader(fd, seen.append, "first")
    turn()
    loop.remove_reader(fd)
    first.close()
    second, second_peer = socket.socketpair()
    assert second.fileno() == fd
    loop.add_reader(fd, seen.append, "second")
    turn()
    assert seen == []
    second_peer.send(b"x")
    turn()
    assert seen == ["second"]
    loop.remove_reader(fd)
    for sock in (first_peer, second, second_peer):
        sock.close()


@pytest.mark.prompt_only("the new watch begins when the old one has ended")
def test_number_reused_before_remove(loop, turn):
    seen = []
    first, first_peer = socket.socketpair()
    fd = first.fileno()
    loop.add_reader(fd, seen.append, "first")
    turn()
    first.close()
    second, second_peer = socket.socketpair()
    assert second.fileno() == fd
    assert loop.remove_reader(fd) is True
    loop.add_reader(fd, seen.append, "second")
    second_peer.send(b"x")
    turn()
    assert seen == ["second"]
    loop.remove_reader(fd)
    for sock in (first_peer, second, second_peer):
        sock.close()


def test_event_already_fetched_is_not_given_to_the_new_owner(loop, turn):
    pairs = [socket.socketpair() for _ in range(2)]
    seen, extra = [], []

    def on_readable(me):
        seen.append(me)
        other, _ = pairs[1 - me]
        fd = other.fileno()
        loop.remove_reader(fd)
        other.close()
        fresh, fresh_peer = socket.socketpair()
        extra.extend((fresh, fresh_peer))
        assert fresh.fileno() == fd
        loop.add_reader(fd, seen.append, "new owner")
        loop.remove_reader(pairs[me][0])

    for number, (left, right) in enumerate(pairs):
        loop.add_reader(left, on_readable, number)
        right.send(b"x")
    turn()
    turn()
    assert seen in ([0], [1])
    assert loop.remove_reader(extra[0]) is True
    for sock in (*pairs[0], *pairs[1], *extra):
        sock.close()


@pytest.mark.cxxloop_only("epoll keeps reporting the open file description; asyncio spins on it")
def test_duplicate_of_a_closed_descriptor_does_not_spin(loop, turn, cpu_time_of_sleep):
    left, right = socket.socketpair()
    fd = left.fileno()
    loop.add_reader(fd, int)
    turn()
    duplicate = os.dup(fd)
    left.close()
    loop.remove_reader(fd)
    right.send(b"x")
    assert cpu_time_of_sleep(0.2) < 0.1
    os.close(duplicate)
    right.close()


# Transports


@pytest.mark.parametrize("method", ["add_reader", "add_writer", "remove_reader", "remove_writer"])
def test_the_descriptor_of_a_transport_is_refused(loop, run, method):
    left, right = socket.socketpair()

    async def main():
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=left)
        arguments = (int,) if method.startswith("add") else ()
        for fd in (left, left.fileno()):
            with pytest.raises(RuntimeError) as info:
                getattr(loop, method)(fd, *arguments)
            assert str(info.value) == f"File descriptor {fd!r} is used by transport {transport!r}"
        transport.close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    run(main())
    right.close()


def test_descriptor_is_free_again_after_its_transport_closed(loop, run):
    left, right = socket.socketpair()

    async def main():
        closed = loop.create_future()

        class Protocol(asyncio.Protocol):
            def connection_lost(self, exc):
                closed.set_result(exc)

        fd = left.fileno()
        transport, _ = await loop.create_connection(Protocol, sock=left)
        transport.close()
        assert await closed is None
        await asyncio.sleep(0)
        fresh, fresh_peer = socket.socketpair()
        assert fd in (fresh.fileno(), fresh_peer.fileno())
        for sock in (fresh, fresh_peer):
            loop.add_reader(sock, int)
            assert loop.remove_reader(sock) is True
            sock.close()

    run(main())
    right.close()


@pytest.mark.parametrize("end", ["read", "write"])
def test_pipe_transport_closes_its_descriptor_once(loop, run, end):
    read_end, write_end = os.pipe()
    mine, other = (read_end, write_end) if end == "read" else (write_end, read_end)
    lost = []

    class Protocol(asyncio.Protocol):
        def connection_lost(self, exc):
            lost.append(exc)

    async def main():
        connect = loop.connect_read_pipe if end == "read" else loop.connect_write_pipe
        transport, _ = await connect(Protocol, os.fdopen(mine, f"{end[0]}b", 0))
        transport.close()
        while not lost:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        fresh = os.open(os.devnull, os.O_RDONLY)
        assert fresh == mine
        transport.close()
        del transport
        gc.collect()
        await asyncio.sleep(0)
        os.fstat(fresh)
        os.close(fresh)

    run(main())
    os.close(other)
    assert lost == [None]
