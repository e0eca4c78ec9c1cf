# SPDX-License-Identifier: MIT
"""Debug mode: what the poller calls is timed and known to the loop as asyncio's reader and writer handles are."""

import asyncio
import functools
import logging
import os
import socket
import time

import pytest

SLOW_S = 5


class Clock:
    """The loop's, moved by what would block: a busy machine must not make a fast callback slow."""

    def __init__(self):
        self.offset = 0

    def time(self):
        return time.monotonic() + self.offset


CLOCK = Clock()


def burn():
    CLOCK.offset += SLOW_S + 1


@pytest.fixture
def debug_loop(loop):
    loop.set_debug(True)
    loop.slow_callback_duration = SLOW_S
    loop.time = CLOCK.time
    return loop


@pytest.fixture
def run(run):
    return functools.partial(run, timeout=1000)


@pytest.fixture
def slow(asyncio_records):
    """The warnings of slow callbacks; transports by the names that they have on both loops."""

    def slow():
        texts = [text for text in asyncio_records.texts(logging.WARNING) if text.startswith("Executing ")]
        for ours, theirs in (
            ("_SelectorSocketTransport", "StreamTransport"),
            ("_SelectorDatagramTransport", "DatagramTransport"),
            ("_UnixReadPipeTransport", "ReadPipeTransport"),
            ("._write_sendmsg()", "._write_ready()"),  # 3.12's name and 3.11's
        ):
            texts = [text.replace(ours, theirs) for text in texts]
        return texts

    return slow


class Protocol(asyncio.Protocol):
    """Burns time in one of its methods, and says when that was called."""

    def __init__(self, slow_method):
        self.called = asyncio.get_running_loop().create_future()
        self.slow_method = slow_method

    def _call(self, method):
        if method != self.slow_method:
            return
        burn()
        if not self.called.done():
            self.called.set_result(None)

    async def called_and_logged(self):
        await self.called
        await asyncio.sleep(0)

    def connection_made(self, transport):
        self._call("connection_made")

    def data_received(self, data):
        self._call("data_received")

    def eof_received(self):
        self._call("eof_received")

    def resume_writing(self):
        self._call("resume_writing")

    def datagram_received(self, data, address):
        self._call("datagram_received")

    def error_received(self, exc):
        self._call("error_received")


class Buffered(Protocol, asyncio.BufferedProtocol):
    def get_buffer(self, sizehint):
        self._call("get_buffer")
        return bytearray(100)

    def buffer_updated(self, nbytes):
        self._call("buffer_updated")


class Receiver(asyncio.Protocol):
    """Does something to its transport when data comes, which ends the connection."""

    def __init__(self, deed):
        self.deed = deed
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.deed(self.transport)

    def connection_lost(self, exc):
        self.lost.set_result(exc)


@pytest.fixture
def receive(debug_loop, run, socket_pair):
    """Runs a connection whose Receiver does `deed` to its end."""

    def receive(deed):
        left, right = socket_pair()

        async def main():
            _, protocol = await debug_loop.create_connection(lambda: Receiver(deed), sock=left)
            right.send(b"x")
            await protocol.lost

        run(main())

    return receive


async def close(transport):
    transport.close()
    await asyncio.sleep(0)


def starts_with(text, start):
    # "created at" names a line of asyncio's there, and the place where reading began here.
    return text.startswith(f"Executing <Handle {start} created at ") and " took 6.0" in text and text.endswith(" seconds")


@pytest.mark.parametrize(
    ("protocol_type", "method"),
    [(Protocol, "data_received"), (Buffered, "get_buffer"), (Buffered, "buffer_updated")],
)
def test_slow_reading_method_is_logged(debug_loop, run, socket_pair, slow, protocol_type, method):
    left, right = socket_pair()

    async def main():
        transport, protocol = await debug_loop.create_connection(lambda: protocol_type(method), sock=left)
        right.send(b"x")
        await protocol.called_and_logged()
        await close(transport)

    run(main())
    (text,) = slow()
    assert starts_with(text, "StreamTransport._read_ready()")


def test_slow_eof_received_is_logged_with_a_cancelled_reader(debug_loop, run, socket_pair, slow):
    left, right = socket_pair()

    async def main():
        _, protocol = await debug_loop.create_connection(lambda: Protocol("eof_received"), sock=left)
        right.close()
        await protocol.called_and_logged()

    run(main())
    (text,) = slow()
    assert starts_with(text, "cancelled StreamTransport._read_ready()")


def test_slow_resume_writing_is_logged(debug_loop, run, socket_pair, slow):
    left, right = socket_pair()

    async def main():
        transport, protocol = await debug_loop.create_connection(lambda: Protocol("resume_writing"), sock=left)
        transport.write(bytes(1_000_000))
        await asyncio.sleep(0)
        received = 0
        while received < 1_000_000:
            received += len(await debug_loop.sock_recv(right, 1_000_000))
        await protocol.called_and_logged()
        await close(transport)

    run(main())
    (text,) = slow()
    assert "StreamTransport._write_ready() created at " in text


def test_slow_datagram_received_is_logged(debug_loop, run, slow):
    async def main():
        transport, protocol = await debug_loop.create_datagram_endpoint(
            lambda: Protocol("datagram_received"), local_addr=("127.0.0.1", 0)
        )
        transport.sendto(b"x", transport.get_extra_info("sockname"))
        await protocol.called_and_logged()
        await close(transport)

    run(main())
    (text,) = slow()
    assert starts_with(text, "DatagramTransport._read_ready()")


def test_slow_error_received_is_logged(debug_loop, run, slow):
    async def main():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nobody:
            nobody.bind(("127.0.0.1", 0))
            address = nobody.getsockname()
        transport, protocol = await debug_loop.create_datagram_endpoint(
            lambda: Protocol("error_received"), remote_addr=address
        )
        await asyncio.sleep(0.01)  # asyncio begins to read in one of the next turns
        transport.sendto(b"x")
        await protocol.called_and_logged()
        transport.abort()
        await asyncio.sleep(0)

    run(main())
    (text,) = slow()
    assert starts_with(text, "DatagramTransport._read_ready()")


def test_slow_reading_method_of_a_pipe_is_logged_once(debug_loop, run, pipe, slow):
    read_end, write_end = pipe

    async def main():
        transport, protocol = await debug_loop.connect_read_pipe(
            lambda: Protocol("data_received"), os.fdopen(os.dup(read_end), "rb", 0)
        )
        os.write(write_end, b"x")
        await protocol.called_and_logged()
        await close(transport)

    run(main())
    (text,) = slow()
    assert starts_with(text, "ReadPipeTransport._read_ready()")


def test_slow_protocol_factory_of_a_server_is_logged(debug_loop, run, slow):
    made = []

    def factory():
        burn()
        made.append(Protocol("nothing"))
        return made[0]

    async def main():
        server = await debug_loop.create_server(factory, "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        while not made:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        writer.close()
        await writer.wait_closed()
        server.close()

    run(main())
    (text,) = slow()
    assert "BaseSelectorEventLoop._accept_connection" in text and " took 6.0" in text


def test_fast_protocols_are_not_logged(debug_loop, run, slow):
    debug_loop.slow_callback_duration = 5

    async def main():
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"x")
        await reader.read()
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
        server.close()

    run(main())
    assert slow() == []


def test_the_loop_knows_the_handle_that_reads(debug_loop, receive, reported):
    handles = []

    def fail(transport):
        handles.append(debug_loop._current_handle)
        1 / 0

    receive(fail)
    (handle,) = handles
    assert isinstance(handle, asyncio.Handle)
    assert "Transport._read_ready() created at " in repr(handle)
    assert debug_loop._current_handle is None
    assert reported[0]["message"] == "Fatal error: protocol.data_received() call failed."


def test_the_log_of_a_failing_protocol_tells_where_its_handle_was_made(receive, logged_errors):
    receive(lambda transport: 1 / 0)
    (text,) = logged_errors()
    assert "handle_traceback: Handle created at (most recent call last):\n" in text


def test_exit_from_a_slow_protocol_in_debug_mode(debug_loop, socket_pair, slow):
    left, right = socket_pair()

    class Leaving(asyncio.Protocol):
        def data_received(self, data):
            burn()
            raise KeyboardInterrupt

    transport, _ = debug_loop.run_until_complete(debug_loop.create_connection(Leaving, sock=left))
    right.send(b"x")
    with pytest.raises(KeyboardInterrupt):
        debug_loop.run_forever()
    assert slow() == []
    assert debug_loop._current_handle is None
    transport.close()
    debug_loop.run_until_complete(asyncio.sleep(0))


def test_transport_closed_by_its_slow_protocol_is_named(receive, slow):
    def abort_slowly(transport):
        transport.abort()
        burn()

    receive(abort_slowly)
    (text,) = slow()
    assert starts_with(text, "cancelled StreamTransport._read_ready()")
