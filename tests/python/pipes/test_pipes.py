# SPDX-License-Identifier: MIT
"""Pipe transports: pipes, FIFOs, terminals and sockets; reading, writing, flow control, the peer's end, closing."""

import asyncio
import contextlib
import contextvars
import errno
import gc
import logging
import os
import re
import socket
import termios
import threading
import tty

import pytest
from recorder import Recorder, turns

MANY = bytes(range(256)) * (4 * 4096)  # 4 MiB, more than a pipe holds


@contextlib.asynccontextmanager
async def reading(protocol=None, ends=None):
    """(transport, protocol, descriptor of the writing end)"""
    protocol = Recorder() if protocol is None else protocol
    read_end, write_end = os.pipe() if ends is None else ends
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, open(read_end, "rb", 0))
    try:
        yield transport, protocol, write_end
    finally:
        transport.close()
        await protocol.until_event("connection_lost")
        with contextlib.suppress(OSError):
            os.close(write_end)


@contextlib.asynccontextmanager
async def writing(protocol=None, ends=None):
    """(transport, protocol, descriptor of the reading end, non-blocking)"""
    protocol = Recorder() if protocol is None else protocol
    read_end, write_end = os.pipe() if ends is None else ends
    os.set_blocking(read_end, False)
    transport, _ = await asyncio.get_running_loop().connect_write_pipe(lambda: protocol, open(write_end, "wb", 0))
    try:
        yield transport, protocol, read_end
    finally:
        if not protocol.is_lost:
            transport.abort()
            await protocol.until_event("connection_lost")
        with contextlib.suppress(OSError):
            os.close(read_end)


async def read_exactly(fd, count):
    """`count` bytes from a pipe, as they come."""
    loop = asyncio.get_running_loop()
    received = bytearray()
    while len(received) < count:
        readable = loop.create_future()
        loop.add_reader(fd, lambda: readable.done() or readable.set_result(None))
        await readable
        loop.remove_reader(fd)
        chunk = os.read(fd, 1 << 20)
        if not chunk:
            raise EOFError(f"end after {len(received)} of {count} bytes")
        received += chunk
    return bytes(received)


def fill(transport, chunk=bytes(1 << 20)):
    written = 0
    while not transport.get_write_buffer_size():
        transport.write(chunk)
        written += len(chunk)
    return written


# --- reading ------------------------------------------------------------------------------------------------------


def test_reads_what_arrives_and_the_end(run):
    async def main():
        async with reading() as (transport, protocol, write_end):
            os.write(write_end, b"hello")
            await protocol.until_bytes(5)
            assert bytes(protocol.data) == b"hello"
            os.close(write_end)
            await protocol.until_event("connection_lost")
            assert protocol.events == ["connection_made", "data_received", "eof_received", "connection_lost"]
            assert protocol.lost_with is None

    run(main())


def test_reads_a_lot_in_order(run):
    def feed(fd):
        with open(fd, "wb", 0) as pipe:
            view = memoryview(MANY)
            while view:
                view = view[pipe.write(view) :]

    async def main():
        async with reading() as (transport, protocol, write_end):
            thread = threading.Thread(target=feed, args=(write_end,))
            thread.start()
            await protocol.until_event("eof_received")
            thread.join()
            assert bytes(protocol.data) == MANY

    run(main())


def test_paused_reader_is_given_nothing(run):
    async def main():
        async with reading() as (transport, protocol, write_end):
            transport.pause_reading()
            os.write(write_end, b"later")
            await turns()
            assert protocol.events == ["connection_made"]
            transport.resume_reading()
            await protocol.until_bytes(5)

    run(main())


def test_pausing_in_data_received_stops_at_once(run):
    async def main():
        protocol = Recorder(data_received=lambda recorder: recorder.transport.pause_reading())
        async with reading(protocol) as (transport, _, write_end):
            os.write(write_end, b"x" * 100)
            await protocol.until_bytes(1)
            os.write(write_end, b"y")
            await turns()
            assert protocol.events.count("data_received") == 1
            transport.resume_reading()
            await protocol.until_bytes(101)

    run(main())


def test_exception_of_data_received_is_reported(run, reported, logged_errors):
    def fail(recorder):
        raise ZeroDivisionError("mine")

    async def main():
        protocol = Recorder(data_received=fail)
        async with reading(protocol) as (transport, _, write_end):
            os.write(write_end, b"x")
            await protocol.until_bytes(1)
            os.write(write_end, b"x")
            await protocol.until_bytes(2)
        assert [type(context["exception"]) for context in reported] == [ZeroDivisionError] * 2
        assert all("_read_ready" in context["message"] for context in reported)

    run(main())


def test_callbacks_run_in_the_context_of_the_connection(run):
    variable = contextvars.ContextVar("variable", default="none")
    seen = []

    async def main():
        variable.set("mine")
        protocol = Recorder(data_received=lambda recorder: seen.append(variable.get()))
        async with reading(protocol) as (_, _, write_end):
            os.write(write_end, b"x")
            await protocol.until_bytes(1)

    run(main())
    assert seen == ["mine"]


def test_fifo_is_a_pipe(run, tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)

    async def main():
        read_end = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        write_end = os.open(path, os.O_WRONLY)
        async with reading(ends=(read_end, write_end)) as (_, protocol, write_end):
            os.write(write_end, b"fifo")
            await protocol.until_bytes(4)
            os.close(write_end)
            await protocol.until_event("eof_received")

    run(main())


def test_terminal_ends_with_an_error_that_is_not_reported(run, reported):
    async def main():
        master, slave = os.openpty()
        tty.setraw(slave, termios.TCSANOW)
        async with reading(ends=(master, slave)) as (_, protocol, slave):
            os.write(slave, b"tty")
            await protocol.until_bytes(3)
            os.close(slave)  # Linux: EIO on the master
            await protocol.until_event("connection_lost")
            assert isinstance(protocol.lost_with, OSError)
            assert "eof_received" not in protocol.events

    run(main())
    assert reported == []


def test_the_error_of_a_socket_is_reported(run, reported, logged_errors):
    async def main():
        server = socket.create_server(("127.0.0.1", 0))
        left = socket.create_connection(server.getsockname())
        right, _ = server.accept()
        server.close()
        protocol = Recorder()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, left)
        right.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        right.close()
        await protocol.until_event("connection_lost")
        assert isinstance(protocol.lost_with, ConnectionResetError)
        assert [context["message"] for context in reported] == ["Fatal read error on pipe transport"]
        assert reported[0]["transport"] is transport
        assert left.fileno() == -1

    run(main())


# --- writing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_big_writes_arrive_whole_and_in_order(run, kind):
    async def main():
        async with writing() as (transport, protocol, read_end):
            data = kind(MANY)
            transport.write(data)
            transport.write(kind(b"tail"))
            if kind is bytearray:  # the transport keeps what it was given, not what it becomes
                data[-1000:] = bytes(1000)
            assert await read_exactly(read_end, len(MANY) + 4) == MANY + b"tail"
            await protocol.until_event("resume_writing")
            assert protocol.events == ["connection_made", "pause_writing", "resume_writing"]
            assert transport.get_write_buffer_size() == 0

    run(main())


def test_many_small_writes_to_a_full_pipe_keep_their_order(run):
    async def main():
        async with writing() as (transport, protocol, read_end):
            filled = fill(transport)
            for number in range(1000):
                transport.write(b"%04d" % number)
            tail = (await read_exactly(read_end, filled + 4000))[filled:]
            assert tail == b"".join(b"%04d" % number for number in range(1000))

    run(main())


def test_writelines_and_empty_writes(run):
    async def main():
        async with writing() as (transport, _, read_end):
            transport.write(b"")
            transport.writelines([b"a", bytearray(b"b"), memoryview(b"c")])
            assert await read_exactly(read_end, 3) == b"abc"

    run(main())


def test_what_is_not_bytes_like_is_refused(run):
    async def main():
        async with writing() as (transport, protocol, _):
            with pytest.raises(AssertionError, match="'text'"):
                transport.write("text")
            assert not transport.is_closing()

    run(main())


def test_flow_control_follows_the_limits(run):
    async def main():
        async with writing() as (transport, protocol, read_end):
            transport.set_write_buffer_limits(high=1000, low=10)
            assert transport.get_write_buffer_limits() == (10, 1000)
            fill(transport, bytes(500))
            assert "pause_writing" not in protocol.events
            transport.write(bytes(1000))
            assert protocol.events[-1] == "pause_writing"
            queued = transport.get_write_buffer_size()
            assert 1000 < queued <= 1500
            await read_exactly(read_end, 1)
            await protocol.until_event("resume_writing")

    run(main())


def test_writing_again_in_resume_writing(run):
    async def main():
        protocol = Recorder(resume_writing=lambda recorder: recorder.transport.write(b"again"))
        async with writing(protocol) as (transport, _, read_end):
            filled = fill(transport)
            assert (await read_exactly(read_end, filled + 5))[filled:] == b"again"

    run(main())


def test_the_peers_end_is_noticed_without_a_write(run):
    async def main():
        async with writing() as (_, protocol, read_end):
            os.close(read_end)
            await protocol.until_event("connection_lost")
            assert protocol.lost_with is None

    run(main())


def test_the_peers_end_with_bytes_queued_is_a_broken_pipe(run):
    async def main():
        async with writing() as (transport, protocol, read_end):
            fill(transport)
            os.close(read_end)
            await protocol.until_event("connection_lost")
            assert isinstance(protocol.lost_with, BrokenPipeError)
            assert transport.get_write_buffer_size() == 0

    run(main())


def test_writes_after_the_end_are_dropped_with_a_warning(run, asyncio_records):
    async def main():
        async with writing() as (transport, protocol, read_end):
            os.close(read_end)
            for _ in range(10):
                transport.write(b"x")
            await protocol.until_event("connection_lost")
            assert isinstance(protocol.lost_with, BrokenPipeError)
        assert "pipe closed by peer or os.write(pipe, data) raised exception." in asyncio_records.texts(logging.WARNING)

    run(main())


def test_closing_sends_what_is_queued(run):
    async def main():
        async with writing() as (transport, protocol, read_end):
            transport.write(MANY)
            assert transport.can_write_eof()
            transport.write_eof()
            assert transport.is_closing()
            assert await read_exactly(read_end, len(MANY)) == MANY
            await protocol.until_event("connection_lost")
            assert protocol.lost_with is None
            assert os.read(read_end, 1) == b""

    run(main())


def test_abort_drops_what_is_queued(run):
    async def main():
        async with writing() as (transport, protocol, read_end):
            filled = fill(transport)
            transport.abort()
            assert transport.get_write_buffer_size() == 0
            await protocol.until_event("connection_lost")
            assert len(os.read(read_end, 1 << 22)) < filled

    run(main())


@pytest.mark.cxxloop_only(reason="asyncio takes a number of bytes for one of items")
def test_the_whole_of_a_view_with_wide_items_is_sent(run):
    async def main():
        async with writing() as (transport, _, read_end):
            transport.write(memoryview(MANY).cast("I"))
            assert await read_exactly(read_end, len(MANY)) == MANY

    run(main())


# --- both ---------------------------------------------------------------------------------------------------------


def test_regular_file_is_refused_and_left_to_the_caller(run, tmp_path):
    async def main():
        loop = asyncio.get_running_loop()
        with open(tmp_path / "file", "w+b", 0) as file:
            with pytest.raises(ValueError, match=re.escape("Pipe transport is for pipes/sockets only.")):
                await loop.connect_read_pipe(Recorder, file)
        with open(tmp_path / "file", "w+b", 0) as file:
            with pytest.raises(ValueError, match="Pipe transport is only for pipes, sockets and character devices"):
                await loop.connect_write_pipe(Recorder, file)

    run(main())


def test_reprs_say_what_they_do(run):
    async def main():
        async with reading() as (transport, protocol, _):
            fd = transport.get_extra_info("pipe").fileno()
            assert repr(transport).endswith(f" fd={fd} polling>")
            transport.pause_reading()
            assert repr(transport).endswith(f" fd={fd} idle>")
        assert repr(transport).endswith(f" closed fd={fd} closed>")
        async with writing() as (transport, protocol, _):
            fd = transport.get_extra_info("pipe").fileno()
            assert repr(transport).endswith(f" fd={fd} idle bufsize=0>")
            fill(transport)
            assert f" fd={fd} polling bufsize=" in repr(transport)
            transport.close()
            assert f" closing fd={fd} polling bufsize=" in repr(transport)

    run(main())


@pytest.mark.parametrize("kind", [reading, writing])
def test_the_descriptor_is_closed_once(run, open_fds, kind):
    async def main():
        async with kind() as (transport, protocol, _):
            fd = transport.get_extra_info("pipe").fileno()
            transport.close()
            await protocol.until_event("connection_lost")
            with open(os.devnull, "rb") as other:
                assert other.fileno() == fd
                transport.close()
                await asyncio.sleep(0)
                protocol.transport = None
                gc.collect()
                assert fd in open_fds()

    run(main())


@contextlib.contextmanager
def stranger_with_the_number_of(file):
    """Closes a file object; a connected pair of sockets, the first of which has its number now."""
    number = file.fileno()
    file.close()
    one, other = socket.socketpair()
    with one, other:
        assert number in (one.fileno(), other.fileno())
        one.setblocking(False)
        other.setblocking(False)
        yield (one, other) if one.fileno() == number else (other, one)


@pytest.mark.parametrize(
    "wrap", [lambda fd: open(fd, "wb", 0), lambda fd: open(fd, "wb"), lambda fd: socket.socket(fileno=fd)]
)
@pytest.mark.cxxloop_only(reason="asyncio writes by number, whoever has it")
def test_pipe_closed_under_its_transport_gives_nothing_to_the_next_owner_of_its_number(run, reported, wrap):
    async def main():
        near, far = socket.socketpair()
        file = wrap(near.detach())
        protocol = Recorder()
        transport, _ = await asyncio.get_running_loop().connect_write_pipe(lambda: protocol, file)
        with far, stranger_with_the_number_of(file) as (stranger, friend):
            transport.write(b"secret")
            await protocol.until_event("connection_lost")
            assert protocol.lost_with.errno == errno.EBADF
            with pytest.raises(BlockingIOError):
                friend.recv(100)
            friend.send(b"still open")
            assert stranger.recv(100) == b"still open"

    run(main())
    assert reported == []


@pytest.mark.cxxloop_only(reason="asyncio reads by number, whoever has it")
def test_pipe_closed_under_its_transport_takes_nothing_from_the_next_owner_of_its_number(run, reported):
    """A duplicate keeps the poller reporting the old number."""

    async def main():
        near, far = socket.socketpair()
        protocol = Recorder()
        await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, near)
        with far, near.dup(), stranger_with_the_number_of(near) as (stranger, friend):
            friend.send(b"for the stranger")
            far.send(b"x")
            await protocol.until_event("connection_lost")
            assert protocol.lost_with.errno == errno.EBADF
            assert stranger.recv(100) == b"for the stranger"

    run(main())
    assert [context["message"] for context in reported] == ["Fatal read error on pipe transport"]


@pytest.mark.parametrize("first", ["close", "abort"])
@pytest.mark.cxxloop_only(reason="asyncio calls connection_lost() of nobody the second time, and reports it")
def test_ending_a_writer_twice_loses_it_once(run, reported, first):
    async def main():
        async with writing() as (transport, protocol, _):
            getattr(transport, first)()
            transport.abort()
            transport.close()
            await protocol.until_event("connection_lost")
            await asyncio.sleep(0)
            transport.abort()
            transport.close()
            await asyncio.sleep(0)
            assert protocol.events == ["connection_made", "connection_lost"]

    run(main())
    assert reported == []


@pytest.mark.cxxloop_only(reason="asyncio calls connection_lost() of nobody the second time, and reports it")
def test_closing_in_resume_writing_loses_once(run, reported):
    async def main():
        protocol = Recorder(resume_writing=lambda recorder: recorder.transport.close())
        async with writing(protocol) as (transport, _, read_end):
            filled = fill(transport)
            await read_exactly(read_end, filled)
            await protocol.until_event("connection_lost")
            await asyncio.sleep(0)
            assert protocol.events.count("connection_lost") == 1

    run(main())
    assert reported == []


@pytest.mark.cxxloop_only(reason="asyncio watches the peer's end of a writer that is closed already")
@pytest.mark.parametrize("kind", [reading, writing])
def test_closing_in_connection_made_leaves_no_watch(run, loop, kind):
    async def main():
        ends = os.pipe()
        fd = ends[kind is writing]
        protocol = Recorder(connection_made=lambda recorder: recorder.transport.close())
        async with kind(protocol, ends):
            await protocol.until_event("connection_lost")
            assert loop.remove_reader(fd) is False
            assert protocol.events == ["connection_made", "connection_lost"]

    run(main())


def test_forgotten_transport_warns_and_closes(loop, open_fds):
    before = open_fds()
    read_end, write_end = os.pipe()

    async def main():
        await loop.connect_read_pipe(Recorder, open(read_end, "rb", 0))
        await loop.connect_write_pipe(Recorder, open(write_end, "wb", 0))

    loop.run_until_complete(main())
    loop.close()
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        gc.collect()
    assert open_fds() <= before


def test_debug_mode_tells_what_happens(run, loop, asyncio_records):
    loop.set_debug(True)

    async def main():
        async with reading() as (transport, protocol, write_end):
            transport.pause_reading()
            transport.resume_reading()
            os.close(write_end)
            await protocol.until_event("connection_lost")
        async with writing() as (transport, protocol, read_end):
            fill(transport)
            os.close(read_end)
            await protocol.until_event("connection_lost")

    run(main())
    loop.set_debug(False)
    texts = "\n".join(asyncio_records.texts(logging.DEBUG) + asyncio_records.texts(logging.INFO))
    for text in ("pauses reading", "resumes reading", "was closed by peer", "Read pipe ", "Write pipe "):
        assert text in texts
