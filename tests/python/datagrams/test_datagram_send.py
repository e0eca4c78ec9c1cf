# SPDX-License-Identifier: MIT
"""sendto(): addresses, errors, the queue behind a full kernel, flow control."""

import asyncio
import contextlib
import contextvars
import errno
import logging
import os
import socket
import sys

import pytest

from datagram_recorder import DatagramRecorder, bound_socket, drain, endpoint, fill, unused_address
from recorder import turns

counts_headers = sys.version_info >= (3, 13)
sends_empty = pytest.mark.skipif(sys.version_info < (3, 13), reason="asyncio drops empty datagrams before 3.13")


@pytest.fixture
def queued_bytes(loop_name):
    """get_write_buffer_size(), or None where asyncio 3.13 never takes back the headers it has counted."""

    def queued_bytes(transport):
        if loop_name == "asyncio" and sys.version_info[:2] == (3, 13):
            return None
        return transport.get_write_buffer_size()

    return queued_bytes


@pytest.fixture
def unix_peer(tmp_path):
    """(socket, path): a UNIX datagram socket, whose sender meets a full kernel after a few datagrams."""
    path = str(tmp_path / "peer")
    with bound_socket(path, socket.AF_UNIX) as sock:
        yield sock, path


def to_unix(path, protocol=None):
    return endpoint(protocol, family=socket.AF_UNIX, remote_addr=path)


# --- what may be sent, and where ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_like_data(run, kind):
    async def main():
        async with endpoint() as (transport, _):
            with bound_socket() as sock:
                transport.sendto(kind(b"data"), sock.getsockname())
                assert sock.recv(10) == b"data"
            async with endpoint(remote_addr=transport.get_extra_info("sockname")) as (connected, _):
                connected.sendto(kind(b"data"))
                await transport.get_protocol().until_received(1)

    run(main())


@pytest.mark.parametrize("data", ["text", 5, None, [b"x"]])
def test_other_data_is_refused(run, data):
    async def main():
        async with endpoint() as (transport, _):
            text = f"data argument must be a bytes-like object, not {type(data).__name__!r}"
            with pytest.raises(TypeError, match=text):
                transport.sendto(data, unused_address())

    run(main())


def test_arguments_by_name(run):
    async def main():
        async with endpoint() as (transport, _):
            with bound_socket() as sock:
                transport.sendto(data=b"one", addr=sock.getsockname())
                transport.sendto(b"two", addr=sock.getsockname())
                assert drain(sock) == [b"one", b"two"]
            for wrong in ({}, {"data": b"x", "address": None}, {"addr": None}):
                with pytest.raises(TypeError):
                    transport.sendto(**wrong)
            with pytest.raises(TypeError):
                transport.sendto(b"x", None, None)
            with pytest.raises(TypeError):
                transport.sendto(b"x", data=b"x")

    run(main())


def test_view_that_is_not_contiguous_is_fatal(run, reported):
    async def main():
        async with endpoint() as (transport, protocol):
            transport.sendto(memoryview(b"abcdef")[::2], unused_address())
            await protocol.until_event("connection_lost")
            assert isinstance(protocol.lost_with, BufferError)

    run(main())
    (context,) = reported
    assert context["message"] == "Fatal write error on datagram transport"
    assert isinstance(context["exception"], BufferError)


@sends_empty
def test_empty_datagram_is_sent(run):
    async def main():
        async with endpoint() as (transport, _):
            with bound_socket() as sock:
                transport.sendto(b"", sock.getsockname())
                assert drain(sock) == [b""]

    run(main())


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="asyncio sends empty datagrams since 3.13")
def test_empty_datagram_is_dropped(run):
    async def main():
        async with endpoint() as (transport, _):
            with bound_socket() as sock:
                transport.sendto(b"", sock.getsockname())
                assert drain(sock) == []

    run(main())


def test_connected_endpoint_sends_to_its_peer_only(run):
    async def main():
        with bound_socket() as sock:
            async with endpoint(remote_addr=sock.getsockname()) as (transport, _):
                transport.sendto(b"unnamed")
                transport.sendto(b"none", None)
                transport.sendto(b"named", sock.getsockname())
                assert drain(sock) == [b"unnamed", b"none", b"named"]
                text = rf"Invalid address: must be None or \('127.0.0.1', {sock.getsockname()[1]}\)"
                with pytest.raises(ValueError, match=text):
                    transport.sendto(b"x", unused_address())
                assert not transport.is_closing()

    run(main())


def test_host_name_and_no_host_at_all(run):
    async def main():
        async with endpoint() as (transport, protocol):
            with bound_socket() as sock:
                port = sock.getsockname()[1]
                transport.sendto(b"named", ("localhost", port))
                transport.sendto(b"bytes", (b"127.0.0.1", port))
                transport.sendto(b"empty", ("", port))
                assert drain(sock) == [b"named", b"bytes", b"empty"]
            assert protocol.errors == []

    run(main())


def test_broadcast_needs_permission(run):
    async def main():
        async with endpoint() as (transport, protocol):
            transport.sendto(b"x", ("<broadcast>", 9))
            transport.sendto(b"x", ("255.255.255.255", 9))
            assert [type(error) for error in protocol.errors] == [PermissionError, PermissionError]
        async with endpoint(local_addr=("127.0.0.1", 0), allow_broadcast=True) as (transport, protocol):
            assert transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST)

    run(main())


def test_broadcasting_endpoint_with_a_remote_address(run):
    async def main():
        with bound_socket() as sock:
            async with endpoint(remote_addr=sock.getsockname(), allow_broadcast=True) as (transport, _):
                assert transport.get_extra_info("peername") is None
                transport.sendto(b"x")
                assert drain(sock) == [b"x"]

    run(main())


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (("127.0.0.1", 70_000), OverflowError),
        (("127.0.0.1", -1), OverflowError),
        (("127.0.0.1", "9"), TypeError),
        (("127.0.0.1",), TypeError),
        (("127.0.0.1", 9, 0, 0), TypeError),
        ("127.0.0.1:9", TypeError),
        (None, TypeError),
    ],
)
def test_what_is_no_address_is_fatal(run, reported, address, expected):
    async def main():
        async with endpoint() as (transport, protocol):
            transport.sendto(b"x", address)
            assert transport.is_closing()
            await protocol.until_event("connection_lost")
            assert isinstance(protocol.lost_with, expected)
            assert protocol.errors == []

    run(main())
    (context,) = reported
    assert context["message"] == "Fatal write error on datagram transport"


# --- errors -------------------------------------------------------------------------------------------------------


def test_error_of_sendto_goes_to_the_protocol_at_once(run):
    async def main():
        async with endpoint() as (transport, protocol):
            transport.sendto(b"x" * 70_000, unused_address())
            assert [error.errno for error in protocol.errors] == [errno.EMSGSIZE]
            transport.sendto(b"x", ("127.0.0.1", 0))
            assert [error.errno for error in protocol.errors] == [errno.EMSGSIZE, errno.EINVAL]
            transport.sendto(b"x", ("no such host.invalid", 9))
            assert isinstance(protocol.errors[2], (socket.gaierror, UnicodeError))
            assert not transport.is_closing()

    run(main())


def test_what_error_received_raises_leaves_sendto(run):
    def fail(self):
        raise ZeroDivisionError

    async def main():
        async with endpoint(DatagramRecorder(error_received=fail)) as (transport, _):
            with pytest.raises(ZeroDivisionError):
                transport.sendto(b"x" * 70_000, unused_address())
            assert not transport.is_closing()

    run(main())


def test_refused_datagram_is_told_and_the_endpoint_lives(run):
    async def main():
        address = unused_address()
        async with endpoint(remote_addr=address) as (transport, protocol):
            transport.sendto(b"nobody is there")
            await protocol.until_error()
            assert isinstance(protocol.errors[0], ConnectionRefusedError)
            assert not transport.is_closing()
            with bound_socket(address) as sock:
                transport.sendto(b"now")
                await asyncio.sleep(0)
                sock.sendto(b"answer", transport.get_extra_info("sockname"))
                await protocol.until_received(1)
                assert drain(sock) == [b"now"]

    run(main())


def test_endpoint_may_be_closed_because_of_an_error(run):
    async def main():
        protocol = DatagramRecorder(error_received=lambda self: self.transport.abort())
        async with endpoint(protocol, remote_addr=unused_address()) as (transport, _):
            transport.sendto(b"nobody is there")
            await protocol.until_event("connection_lost")
        assert protocol.events == ["connection_made", "error_received", "connection_lost"]
        assert protocol.lost_with is None

    run(main())


def test_failure_of_error_received_is_reported(run, reported):
    def fail(self):
        raise ZeroDivisionError

    async def main():
        protocol = DatagramRecorder(error_received=fail)
        async with endpoint(protocol, remote_addr=unused_address()) as (transport, _):
            transport.sendto(b"nobody is there")
            await protocol.until_error()
            await asyncio.sleep(0)
            assert not transport.is_closing()

    run(main())
    assert [type(context["exception"]) for context in reported] == [ZeroDivisionError]


# --- after the end ------------------------------------------------------------------------------------------------


def test_datagrams_for_a_lost_connection_are_counted_and_warned_about(run, asyncio_records):
    async def main():
        with bound_socket() as sock:
            async with endpoint(remote_addr=sock.getsockname()) as (transport, protocol):
                transport.abort()
                for _ in range(4):
                    transport.sendto(b"x")
                assert asyncio_records.texts(logging.WARNING) == []
                for _ in range(3):
                    transport.sendto(b"x")
                assert asyncio_records.texts(logging.WARNING) == ["socket.send() raised exception."] * 3
                assert drain(sock) == []
                await protocol.until_event("connection_lost")
                transport.sendto(b"x")

    run(main())


@pytest.mark.cxxloop_only("asyncio meets an AttributeError of its own")
def test_datagrams_after_the_end_are_dropped(run):
    async def main():
        async with endpoint() as (transport, protocol):
            transport.close()
            await protocol.until_event("connection_lost")
            with bound_socket() as sock:
                transport.sendto(b"x", sock.getsockname())
                assert drain(sock) == []

    run(main())


# --- the queue ----------------------------------------------------------------------------------------------------


def test_what_the_kernel_does_not_take_is_sent_later_in_order(run, unix_peer, queued_bytes):
    peer, path = unix_peer

    async def main():
        async with to_unix(path) as (transport, protocol):
            sent = fill(transport)
            for number in range(5):
                transport.sendto(b"%d" % number)
            received = []
            while len(received) < sent + 5:
                received += drain(peer)
                await asyncio.sleep(0)
            assert received == [b"x" * 1000] * sent + [b"%d" % number for number in range(5)]
            assert not queued_bytes(transport)
            assert protocol.errors == []

    run(main())


def test_the_size_of_the_queue_follows_asyncio_of_this_version(run, unix_peer):
    header = 8 if counts_headers else 0

    async def main():
        async with to_unix(unix_peer[1]) as (transport, _):
            fill(transport)
            assert transport.get_write_buffer_size() == 1000 + header
            transport.sendto(b"12345")
            assert transport.get_write_buffer_size() == 1005 + 2 * header
            assert f"write=<polling, bufsize={1005 + 2 * header}>" in repr(transport)

    run(main())


@sends_empty
def test_empty_datagrams_are_queued_and_count(run, unix_peer):
    peer, path = unix_peer

    async def main():
        async with to_unix(path, DatagramRecorder()) as (transport, protocol):
            transport.set_write_buffer_limits(high=1100)
            sent = fill(transport)
            while "pause_writing" not in protocol.events:
                transport.sendto(b"")
                sent += 1
            received = []
            while len(received) < sent:
                received += drain(peer)
                await asyncio.sleep(0)
            assert received.count(b"") == 12

    run(main())


def test_last_words_of_connection_lost_are_sent_when_the_queue_has_drained(run, unix_peer):
    peer, path = unix_peer

    async def main():
        protocol = DatagramRecorder(connection_lost=lambda p: p.transport.sendto(b"last words"))
        async with to_unix(path, protocol) as (transport, _):
            sent = fill(transport)
            transport.close()
            received = []
            while not protocol.is_lost:
                received += drain(peer)
                await asyncio.sleep(0)
            received += drain(peer)
            assert len(received) == sent + 1 and received[-1] == b"last words"
            assert protocol.events.count("connection_lost") == 1

    run(main())


def test_queued_data_is_a_copy(run, unix_peer):
    peer, path = unix_peer

    async def main():
        async with to_unix(path) as (transport, _):
            sent = fill(transport)
            data = bytearray(b"as it was")
            transport.sendto(data)
            transport.sendto(memoryview(data)[::3])
            data[:] = b"changed!!"
            received = []
            while len(received) < sent + 2:
                received += drain(peer)
                await asyncio.sleep(0)
            assert received[sent:] == [b"as it was", b"aiw"]

    run(main())


def test_writing_is_paused_and_resumed_in_the_context_of_the_sender(run, unix_peer):
    peer, path = unix_peer
    variable = contextvars.ContextVar("variable", default="nothing")
    seen = []

    async def main():
        protocol = DatagramRecorder(resume_writing=lambda self: seen.append(variable.get()))
        async with to_unix(path, protocol) as (transport, _):
            variable.set("of the sender")
            fill(transport)
            variable.set("changed later")
            assert "pause_writing" not in protocol.events
            while "pause_writing" not in protocol.events:
                transport.sendto(b"x" * 1000)
            assert transport.get_write_buffer_size() > 64 * 1024
            while "resume_writing" not in protocol.events:
                drain(peer)
                await asyncio.sleep(0)
            assert transport.get_write_buffer_size() <= 16 * 1024
        assert [event for event in protocol.events if "writing" in event] == ["pause_writing", "resume_writing"]
        assert seen == ["of the sender"]

    run(main())


def test_limit_of_zero_pauses_at_the_first_queued_datagram(run, unix_peer, queued_bytes):
    async def main():
        async with to_unix(unix_peer[1]) as (transport, protocol):
            transport.set_write_buffer_limits(0)
            assert transport.get_write_buffer_limits() == (0, 0)
            fill(transport)
            assert protocol.events[-1] == "pause_writing"
            if queued_bytes(transport) is None:
                return
            while "resume_writing" not in protocol.events:
                drain(unix_peer[0])
                await asyncio.sleep(0)
            assert transport.get_write_buffer_size() == 0

    run(main())


def test_write_limits(run):
    async def main():
        async with endpoint() as (transport, _):
            assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
            transport.set_write_buffer_limits(high=100)
            assert transport.get_write_buffer_limits() == (25, 100)
            transport.set_write_buffer_limits(low=100)
            assert transport.get_write_buffer_limits() == (100, 400)
            with pytest.raises(ValueError, match=r"high \(1\) must be >= low \(2\) must be >= 0"):
                transport.set_write_buffer_limits(high=1, low=2)

    run(main())


def test_close_sends_what_is_queued(run, unix_peer):
    peer, path = unix_peer

    async def main():
        async with to_unix(path) as (transport, protocol):
            sent = fill(transport)
            transport.close()
            transport.sendto(b"behind the others")
            received = []
            while "connection_lost" not in protocol.events:
                received += drain(peer)
                await asyncio.sleep(0)
            received += drain(peer)
            assert received == [b"x" * 1000] * sent + [b"behind the others"]
            assert protocol.lost_with is None

    run(main())


def test_abort_drops_what_is_queued(run, unix_peer):
    peer, path = unix_peer

    async def main():
        async with to_unix(path) as (transport, protocol):
            sent = fill(transport)
            transport.abort()
            assert transport.get_write_buffer_size() == 0 or sys.version_info < (3, 15)
            await protocol.until_event("connection_lost")
            assert drain(peer) == [b"x" * 1000] * (sent - 1)

    run(main())


@pytest.mark.parametrize("last", ["close", "abort"])
@pytest.mark.parametrize("first", ["close", "abort"])
def test_closing_endpoint_is_ended_again(run, unix_peer, first, last):
    """close() waits for the queue however often it is called, abort() drops it, and the end is told once."""
    peer, path = unix_peer

    async def main():
        ends_again = DatagramRecorder(connection_lost=lambda p: p.transport.close())
        async with to_unix(path, ends_again) as (transport, protocol):
            sent = fill(transport)
            getattr(transport, first)()
            getattr(transport, last)()
            assert transport.is_closing() and not transport.is_reading() and not protocol.is_lost
            await turns()
            waits = first == last == "close"
            assert protocol.is_lost != waits
            received = drain(peer)
            await protocol.until_event("connection_lost")
            await turns()
            assert len(received + drain(peer)) == (sent if waits else sent - 1)
            assert protocol.events.count("connection_lost") == 1
            assert protocol.lost_with is None

    run(main())


def test_peer_that_goes_away_costs_each_queued_datagram_an_error(run, unix_peer, queued_bytes):
    peer, path = unix_peer

    async def main():
        async with to_unix(path) as (transport, protocol):
            fill(transport)
            transport.sendto(b"second")
            peer.close()
            await protocol.until_error(2)
            assert isinstance(protocol.errors[0], ConnectionRefusedError)
            assert all(isinstance(error, OSError) for error in protocol.errors)
            assert not queued_bytes(transport)
            assert not transport.is_closing()
            while "write=<polling" in repr(transport):  # asyncio does not survive an abort() before it notices
                await asyncio.sleep(0)

    run(main())


def test_queue_to_addresses(run, tmp_path):
    """Unconnected: every datagram has an address of its own, also one that only the socket module understands."""

    async def main():
        paths = [str(tmp_path / name) for name in ("one", "two")]
        with bound_socket(paths[0], socket.AF_UNIX) as one, bound_socket(paths[1], socket.AF_UNIX) as two:
            async with endpoint(family=socket.AF_UNIX, local_addr=str(tmp_path / "own")) as (transport, protocol):
                count = 0
                while not transport.get_write_buffer_size():
                    transport.sendto(b"%d" % count, paths[0])
                    count += 1
                transport.sendto(b"to two", paths[1])
                transport.sendto(b"to two again", bytearray(os.fsencode(paths[1])))
                received = []
                others = []
                while len(received) < count or len(others) < 2:
                    received += drain(one)
                    others += drain(two)
                    await asyncio.sleep(0)
                assert received == [b"%d" % number for number in range(count)]
                assert others == [b"to two", b"to two again"]
                assert protocol.errors == []

    run(main())


# --- what user code may do in between ------------------------------------------------------------------------------


def test_exit_in_resume_writing_does_not_keep_a_closing_endpoint_open(loop, run, unix_peer):
    def leave(self):
        raise KeyboardInterrupt

    sock, path = unix_peer
    protocol = DatagramRecorder(resume_writing=leave)

    async def start():
        transport, _ = await loop.create_datagram_endpoint(lambda: protocol, family=socket.AF_UNIX, remote_addr=path)
        transport.set_write_buffer_limits(high=500)
        fill(transport)
        transport.close()

    loop.run_until_complete(start())
    drain(sock)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    run(protocol.until_event("connection_lost"))
    assert protocol.lost_with is None


class Host(str):
    """A host name that does something when the datagram it belongs to is gone."""

    def __del__(self):
        self.then()


@pytest.mark.cxxloop_only(reason="asyncio calls connection_lost() of nobody the second time, and reports it")
def test_the_last_reference_is_dropped_while_the_queue_is_sent(run, tmp_path):
    """An address of a queued datagram is user code's, and may end the endpoint when it is let go."""
    calls = []

    async def main():
        loop = asyncio.get_running_loop()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sock.setblocking(False)
        peer = str(tmp_path / "peer")
        with bound_socket(peer, socket.AF_UNIX) as receiver:
            transport, protocol = await loop.create_datagram_endpoint(DatagramRecorder, sock=sock)
            while not transport.get_write_buffer_size():
                transport.sendto(b"x" * 1000, peer)
            host = Host(peer)
            holder = [transport]
            host.then = lambda: (calls.append("gone"), holder.pop().abort())
            transport.sendto(b"last", host)
            for _ in range(5):
                transport.sendto(b"behind", peer)
            del host
            protocol.transport = transport = None
            drain(receiver)
            await protocol.until_event("connection_lost")

    run(main())
    assert calls == ["gone"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="no __buffer__() before 3.12")
@pytest.mark.parametrize("full", [False, True])
def test_data_that_sends_when_it_is_looked_at(run, unix_peer, full):
    sock, path = unix_peer

    class Data(bytearray):
        looks = 0

        def __buffer__(self, flags):
            Data.looks += 1
            if Data.looks == 1:
                transports[0].sendto(b"inner")
            return super().__buffer__(flags)

    transports = []

    async def main():
        async with to_unix(path) as (transport, protocol):
            transports.append(transport)
            sent = 0
            if full:
                with contextlib.suppress(BlockingIOError):
                    while True:
                        transport.get_extra_info("socket")._sock.send(b"x")
                        sent += 1
            transport.sendto(Data(b"outer"))
            received = []
            while len(received) < sent + 2:
                received += drain(sock)
                await asyncio.sleep(0)
            assert received[sent:] == [b"inner", b"outer"]

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="no __buffer__() before 3.12")
@pytest.mark.parametrize("full", [False, True])
def test_data_that_closes_the_loop_when_it_is_looked_at(loop, unix_peer, full):
    sock, path = unix_peer

    class Data(bytearray):
        def __buffer__(self, flags):
            loop.close()
            return super().__buffer__(flags)

    transport, protocol = loop.run_until_complete(
        loop.create_datagram_endpoint(DatagramRecorder, family=socket.AF_UNIX, remote_addr=path)
    )
    if full:
        fill(transport)
    with contextlib.suppress(RuntimeError):
        transport.sendto(Data(b"x"))
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        protocol.transport = None
        del transport


@pytest.mark.cxxloop_only(reason="asyncio waits for ever: the kernel forgets what is closed")
def test_closing_endpoint_whose_socket_was_closed_ends(run, unix_peer):
    async def main():
        own = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        own.setblocking(False)
        own.connect(unix_peer[1])
        async with endpoint(sock=own) as (transport, protocol):
            fill(transport)
            transport.close()
            own.close()
            await protocol.until_event("connection_lost")
            assert [error.errno for error in protocol.errors] == [errno.EBADF]

    run(main())


# --- a loop that is closed ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("connected", [False, True])
def test_datagrams_are_sent_without_a_loop(loop, connected):
    with bound_socket() as sock:
        options = {"remote_addr": sock.getsockname()} if connected else {"local_addr": ("127.0.0.1", 0)}
        transport, protocol = loop.run_until_complete(loop.create_datagram_endpoint(DatagramRecorder, **options))
        loop.close()
        transport.sendto(b"late", None if connected else sock.getsockname())
        assert drain(sock) == [b"late"]
        transport.sendto(b"x" * 70_000, None if connected else sock.getsockname())
        assert [error.errno for error in protocol.errors] == [errno.EMSGSIZE]
        protocol.errors.clear()  # their tracebacks know the transport
        with pytest.warns(ResourceWarning, match="unclosed transport"):
            protocol.transport = None
            del transport


def test_full_kernel_without_a_loop(loop, unix_peer):
    transport, protocol = loop.run_until_complete(
        loop.create_datagram_endpoint(DatagramRecorder, family=socket.AF_UNIX, remote_addr=unix_peer[1])
    )
    loop.close()
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        fill(transport)
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        protocol.transport = None
        del transport


def test_loop_that_is_closed_under_a_queue(loop, unix_peer):
    async def start():
        transport, protocol = await loop.create_datagram_endpoint(
            DatagramRecorder, family=socket.AF_UNIX, remote_addr=unix_peer[1]
        )
        fill(transport)
        return transport, protocol

    transport, protocol = loop.run_until_complete(start())
    loop.close()
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        protocol.transport = None
        del transport


@pytest.mark.parametrize("end", ["close", "abort"])
def test_error_that_comes_while_the_protocol_ends_the_endpoint_is_dropped(run, end):
    def meet_an_error_and_end(recorder):
        recorder.transport.get_extra_info("socket")._sock.send(b"nobody is there")  # refused by now
        getattr(recorder.transport, end)()

    async def main():
        protocol = DatagramRecorder(datagram_received=meet_an_error_and_end)
        with bound_socket() as peer:
            async with endpoint(protocol, remote_addr=peer.getsockname()) as (transport, _):
                peer.sendto(b"last words", transport.get_extra_info("sockname"))
                peer.close()
                await protocol.until_event("connection_lost")
                await asyncio.sleep(0.01)
                assert protocol.lost_with is None
                assert protocol.events == ["connection_made", "datagram_received", "connection_lost"]

    run(main())
