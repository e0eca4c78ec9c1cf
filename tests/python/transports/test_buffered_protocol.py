# SPDX-License-Identifier: MIT
"""BufferedProtocol: the protocol's own buffer, and what a protocol may do while it hands it out."""

import asyncio
import socket
import sys

import pytest
from recorder import BufferedRecorder, Recorder, attached, receive_all, tcp_pair


def test_callbacks_and_bytes(loop, run):
    async def main():
        async with attached(BufferedRecorder()) as (_, protocol, peer):
            peer.sendall(b"hello")
            await protocol.until_bytes(5)
            peer.sendall(b" world")
            await protocol.until_bytes(11)
            peer.shutdown(socket.SHUT_WR)
            await protocol.until_event("connection_lost")
            assert bytes(protocol.data) == b"hello world"
            told = [e for e in protocol.events if e != "get_buffer"]
            assert told == ["connection_made", "buffer_updated", "buffer_updated", "eof_received", "connection_lost"]
            assert set(protocol.hints) == {-1}

    run(main())


def test_each_update_follows_a_get_buffer(run):
    async def main():
        async with attached(BufferedRecorder(size=3)) as (_, protocol, peer):
            peer.sendall(b"0123456789")
            await protocol.until_bytes(10)
            assert bytes(protocol.data) == b"0123456789"
            for before, event in zip(protocol.events, protocol.events[1:], strict=False):
                assert event != "buffer_updated" or before == "get_buffer"

    run(main())


def test_big_stream(loop, run):
    payload = bytes(range(256)) * 20_000

    async def main():
        async with attached(BufferedRecorder(size=100_000)) as (_, protocol, peer):
            await loop.sock_sendall(peer, payload)
            await protocol.until_bytes(len(payload))
            assert bytes(protocol.data) == payload

    run(main())


def test_buffer_as_memoryview(run):
    async def main():
        protocol = BufferedRecorder(size=16)
        protocol.reactions["get_buffer"] = lambda p: memoryview(p.buffer)[:4]
        async with attached(protocol) as (_, _, peer):
            peer.sendall(b"abcdefgh")
            await protocol.until_bytes(8)
            assert bytes(protocol.data) == b"abcdefgh"
            assert protocol.events.count("buffer_updated") == 2

    run(main())


def test_buffer_may_be_resized_between_reads(run):
    async def main():
        def grow(protocol):
            protocol.buffer.extend(bytes(10))

        protocol = BufferedRecorder(size=1, buffer_updated=grow)
        async with attached(protocol) as (_, _, peer):
            peer.sendall(b"abcdefghij")
            await protocol.until_bytes(10)
            assert bytes(protocol.data) == b"abcdefghij"
            protocol.buffer.clear()
            protocol.buffer.extend(bytes(4))
            peer.sendall(b"klmn")
            await protocol.until_bytes(14)

    run(main())


@pytest.mark.parametrize("empty", [bytearray(), memoryview(bytearray(4))[:0]])
def test_empty_buffer_is_fatal(run, reported, empty):
    async def main():
        async with attached(BufferedRecorder(get_buffer=lambda p: empty)) as (_, protocol, peer):
            peer.sendall(b"x")
            await protocol.until_event("connection_lost")
            assert type(protocol.lost_with) is RuntimeError
            [context] = reported
            assert context["message"] == "Fatal error: protocol.get_buffer() call failed."
            assert str(context["exception"]) == "get_buffer() returned an empty buffer"
            assert "buffer_updated" not in protocol.events

    run(main())


def released():
    view = memoryview(bytearray(8))
    view.release()
    return view


WRONG = {
    "read-only": (lambda: memoryview(b"readonly"), (TypeError, BufferError), "Fatal read error on socket transport"),
    "bytes": (lambda: b"readonly", (TypeError, BufferError), "Fatal read error on socket transport"),
    "released": (released, ValueError, "Fatal error: protocol.get_buffer() call failed."),
    "no buffer": (lambda: [1, 2], TypeError, "Fatal read error on socket transport"),
    "no length": (lambda: 5, TypeError, "Fatal error: protocol.get_buffer() call failed."),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_buffer_is_fatal(run, reported, case):
    make, kind, message = WRONG[case]

    async def main():
        async with attached(BufferedRecorder(get_buffer=lambda p: make())) as (_, protocol, peer):
            peer.sendall(b"x")
            await protocol.until_event("connection_lost")
            assert isinstance(protocol.lost_with, kind)
            [context] = reported
            assert context["message"] == message
            assert context["exception"] is protocol.lost_with

    run(main())


def test_pause_inside_get_buffer(loop, run):
    """The read that asked for the buffer goes on; the next one waits for resume_reading()."""

    async def main():
        protocol = BufferedRecorder(get_buffer=lambda p: p.transport.pause_reading())
        async with attached(protocol) as (transport, _, peer):
            peer.sendall(b"first")
            await protocol.until_bytes(5)
            assert not transport.is_reading()
            peer.sendall(b"second")
            await asyncio.sleep(0.02)
            assert bytes(protocol.data) == b"first"
            transport.resume_reading()
            await protocol.until_bytes(11)
            assert protocol.events.count("get_buffer") == 2

    run(main())


@pytest.mark.parametrize("end", ["close", "abort"])
def test_end_inside_get_buffer(run, end):
    """asyncio finishes the read under way: the bytes come, then the end, once."""

    async def main():
        protocol = BufferedRecorder(get_buffer=lambda p: getattr(p.transport, end)())
        async with attached(protocol) as (transport, _, peer):
            peer.sendall(b"first")
            await protocol.until_event("connection_lost")
            await asyncio.sleep(0)
            assert protocol.events == ["connection_made", "get_buffer", "buffer_updated", "connection_lost"]
            assert bytes(protocol.data) == b"first"
            assert protocol.lost_with is None

    run(main())


@pytest.mark.parametrize("end", ["close", "abort"])
def test_end_inside_get_buffer_at_the_end_of_the_stream(run, end):
    """The read under way finds the end of the stream: asyncio tells of it although the transport is closing."""

    async def main():
        protocol = BufferedRecorder(get_buffer=lambda p: getattr(p.transport, end)())
        async with attached(protocol) as (_, _, peer):
            peer.shutdown(socket.SHUT_WR)
            await protocol.until_event("connection_lost")
            assert protocol.events == ["connection_made", "get_buffer", "eof_received", "connection_lost"]

    run(main())


def test_write_inside_get_buffer(run):
    async def main():
        protocol = BufferedRecorder(get_buffer=lambda p: p.transport.write(b"reply"))
        async with attached(protocol) as (transport, _, peer):
            peer.sendall(b"x")
            await protocol.until_bytes(1)
            transport.close()
            assert await receive_all(peer) == b"reply"

    run(main())


def test_switch_inside_get_buffer(run):
    """The read that asked is completed on the protocol set meanwhile, as asyncio does."""

    async def main():
        second = BufferedRecorder()
        first = BufferedRecorder()
        first.reactions["get_buffer"] = lambda p: p.transport.set_protocol(second)
        async with attached(first) as (transport, _, peer):
            second.buffer = first.buffer
            peer.sendall(b"abc")
            await second.until_bytes(3)
            assert first.events == ["connection_made", "get_buffer"]
            assert second.events == ["buffer_updated"]
            transport.close()
            await second.until_event("connection_lost")
            first.events.append("connection_lost")  # attached() waits for it

    run(main())


def test_plain_to_buffered_and_back(loop, run):
    async def main():
        plain, buffered, last = Recorder(), BufferedRecorder(), Recorder()
        with tcp_pair() as (left, right):
            transport, _ = await loop.create_connection(lambda: plain, sock=left)
            right.sendall(b"one")
            await plain.until_bytes(3)
            transport.set_protocol(buffered)
            right.sendall(b"two")
            await buffered.until_bytes(3)
            buffered.reactions["buffer_updated"] = lambda p: transport.set_protocol(last)
            right.sendall(b"three")
            await buffered.until_bytes(8)
            right.sendall(b"four")
            await last.until_bytes(4)
            transport.close()
            await last.until_event("connection_lost")
        assert bytes(plain.data) == b"one" and bytes(buffered.data) == b"twothree" and bytes(last.data) == b"four"
        assert not plain.is_lost and not buffered.is_lost

    run(main())


def test_buffer_is_not_held_between_reads(run):
    """A bytearray that the transport still exported could not change its size."""

    async def main():
        protocol = BufferedRecorder(size=8)
        async with attached(protocol) as (_, _, peer):
            peer.sendall(b"x")
            await protocol.until_bytes(1)
            protocol.buffer.append(0)
            protocol.reactions["buffer_updated"] = lambda p: p.buffer.append(0)
            peer.sendall(b"y")
            await protocol.until_bytes(2)

    run(main())


@pytest.mark.parametrize("keep", [True, False])
def test_eof_received(run, keep):
    async def main():
        async with attached(BufferedRecorder(eof_received=lambda p: keep)) as (transport, protocol, peer):
            peer.shutdown(socket.SHUT_WR)
            await protocol.until_event("eof_received")
            assert transport.is_closing() is not keep
            transport.write(b"after")
            transport.close()
            await protocol.until_event("connection_lost")
            assert (await receive_all(peer) == b"after") is keep

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="__buffer__() is new in 3.12")
def test_buffer_whose_memory_dies_with_its_export(run):
    class Exporter:
        def __len__(self):
            return 1 << 20

        def __buffer__(self, flags):
            return memoryview(bytearray(1 << 20))

        def __release_buffer__(self, view):
            view.release()

    async def main():
        counts = []
        protocol = BufferedRecorder()
        protocol.reactions["get_buffer"] = lambda p: Exporter()
        protocol.buffer_updated = counts.append
        async with attached(protocol) as (_, _, peer):
            peer.sendall(bytes(50_000))
            peer.shutdown(socket.SHUT_WR)
            await protocol.until_event("connection_lost")
        assert sum(counts) == 50_000

    run(main())


def test_plain_protocol_after_a_read_that_found_nothing(loop, run):
    async def main():
        plain = Recorder()
        protocol = BufferedRecorder()

        def steal(protocol):
            assert loop_socket.recv(100) == b"stolen"
            loop.call_soon(switch)

        def switch():
            transport.set_protocol(plain)
            peer.sendall(b"seen")

        protocol.reactions["get_buffer"] = steal
        with tcp_pair() as (loop_socket, peer):
            transport, _ = await loop.create_connection(lambda: protocol, sock=loop_socket)
            peer.sendall(b"stolen")
            await plain.until_bytes(4)
            assert plain.data == b"seen"
            assert "buffer_updated" not in protocol.events
            transport.close()
            await plain.until_event("connection_lost")

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="__buffer__() is called since 3.12")
def test_buffer_that_comes_and_goes_is_refused(run, reported):
    class Flaky:
        asked = 0

        def __len__(self):
            return 5

        def __buffer__(self, flags):
            self.asked += 1
            if self.asked == 1:
                raise ValueError("not now")
            return memoryview(bytearray(10))

    async def main():
        flaky = Flaky()
        async with attached(BufferedRecorder(get_buffer=lambda _: flaky)) as (_, protocol, peer):
            peer.sendall(b"hello")
            await protocol.until_event("connection_lost")
            assert isinstance(protocol.lost_with, TypeError)

    run(main())
    assert [type(context["exception"]) for context in reported] == [TypeError]


def test_empty_buffer_with_a_length_of_its_own_is_the_end(run):
    class Lying(bytearray):
        def __len__(self):
            return 5

    async def main():
        async with attached(BufferedRecorder(get_buffer=lambda _: Lying())) as (_, protocol, peer):
            peer.sendall(b"hello")
            await protocol.until_event("connection_lost")
            assert [event for event in protocol.events if event != "get_buffer"] == [
                "connection_made",
                "eof_received",
                "connection_lost",
            ]

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="__release_buffer__() is called since 3.12")
def test_release_of_a_buffer_that_ends_the_transport(loop, run, reported):
    class Ends:
        memory = bytearray(10)

        def __len__(self):
            return 10

        def __buffer__(self, flags):
            return memoryview(self.memory)

        def __release_buffer__(self, view):
            if transport._sock is not None:
                transport._call_connection_lost(None)

    transport = None

    async def main():
        nonlocal transport
        async with attached(BufferedRecorder(get_buffer=lambda _: Ends())) as (transport, protocol, peer):
            peer.sendall(b"hello")
            await protocol.until_event("connection_lost")

    run(main())
    assert {type(context["exception"]) for context in reported} <= {AttributeError}
