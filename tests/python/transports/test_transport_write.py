# SPDX-License-Identifier: MIT
"""The writing side of a TCP transport: what is sent, what is kept, how it ends."""

import array
import asyncio
import contextlib
import logging
import re
import socket
import sys
import threading

import pytest
from recorder import Recorder, attached, fill, receive, receive_all, reset, tcp_pair

MANY = bytes(range(256)) * (10 * 4096)  # 10 MiB, more than a kernel takes at once


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_write_takes_bytes_like(run, kind):
    async def main():
        async with attached() as (transport, _, peer):
            assert transport.write(kind(b"hello")) is None
            assert await receive(peer, 5) == b"hello"

    run(main())


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_big_write_arrives_whole(run, kind):
    async def main():
        async with attached() as (transport, protocol, peer):
            transport.write(kind(MANY))
            assert await receive(peer, len(MANY)) == MANY
            await protocol.until_event("resume_writing")
            assert transport.get_write_buffer_size() == 0

    run(main())


def test_memoryview_of_wider_items_sends_all_bytes(run):
    async def main():
        async with attached() as (transport, _, peer):
            numbers = array.array("I", range(100))
            transport.write(memoryview(numbers))
            assert await receive(peer, 100 * numbers.itemsize) == numbers.tobytes()
            assert transport.get_write_buffer_size() == 0

    run(main())


def test_memoryview_slice(run):
    async def main():
        async with attached() as (transport, _, peer):
            transport.write(memoryview(b"..middle..")[2:-2])
            assert await receive(peer, 6) == b"middle"

    run(main())


def test_non_contiguous_memoryview_is_fatal(run, reported):
    async def main():
        async with attached() as (transport, protocol, peer):
            transport.write(memoryview(b"abcdef")[::2])
            await protocol.until_event("connection_lost")
            assert isinstance(protocol.lost_with, BufferError)
            assert await receive_all(peer) == b""
        [context] = reported
        assert context["message"] == "Fatal write error on socket transport"
        assert context["exception"] is protocol.lost_with

    run(main())


def test_bytearray_may_change_after_a_small_write(run):
    async def main():
        async with attached() as (transport, _, peer):
            data = bytearray(b"first")
            transport.write(data)
            data[:] = b"second and longer"
            view = bytearray(b"third")
            transport.write(memoryview(view)[1:])
            view[:] = b"XXXXX"
            assert await receive(peer, 9) == b"firsthird"

    run(main())


@pytest.mark.cxxloop_only("asyncio 3.12 and later sends what a queued bytearray holds by then")
def test_bytearray_may_change_while_queued(run):
    async def main():
        async with attached() as (transport, _, peer):
            sent = fill(transport)
            data = bytearray(b"a" * 1000)
            transport.write(data)
            transport.write(memoryview(data)[:10])
            data[:] = b"b"
            await receive(peer, sent)
            assert await receive(peer, 1010) == b"a" * 1010

    run(main())


@pytest.mark.parametrize("empty", [b"", bytearray(), memoryview(b"")])
def test_empty_write_is_nothing(run, empty):
    async def main():
        async with attached() as (transport, _, peer):
            transport.write(empty)
            assert transport.get_write_buffer_size() == 0
            transport.write(b"x")
            transport.write(empty)
            transport.close()
            assert await receive_all(peer) == b"x"

    run(main())


@pytest.mark.parametrize(
    "chunks",
    [
        [b"head", b"body"],
        (b"head", bytearray(b"bo"), memoryview(b"dy")),
        [b"head"] + [b"b", b"o", b"d", b"y"],
    ],
)
def test_writelines(run, chunks):
    async def main():
        async with attached() as (transport, _, peer):
            assert transport.writelines(chunks) is None
            assert await receive(peer, 8) == b"headbody"
            transport.writelines([])
            transport.close()
            assert await receive_all(peer) == b""

    run(main())


def test_writelines_of_a_generator(run):
    async def main():
        async with attached() as (transport, _, peer):
            transport.writelines(bytes([i]) for i in range(5))
            assert await receive(peer, 5) == bytes(range(5))

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="writelines() joins before 3.12")
@pytest.mark.parametrize("nothing", [None, 0, "", (), {}], ids=repr)
def test_writelines_of_what_is_false(run, nothing):
    async def main():
        async with attached() as (transport, _, peer):
            assert transport.writelines(nothing) is None
            transport.close()
            assert await receive_all(peer) == b""

    run(main())


def test_writelines_of_more_chunks_than_one_call_takes(run):
    async def main():
        async with attached() as (transport, _, peer):
            transport.writelines([i.to_bytes(4, "big") for i in range(5000)])
            expected = b"".join(i.to_bytes(4, "big") for i in range(5000))
            assert await receive(peer, len(expected)) == expected

    run(main())


def test_writelines_with_empty_chunks(loop_name, run):
    if loop_name == "asyncio" and (3, 12) <= sys.version_info < (3, 15):
        pytest.skip("this asyncio keeps empty chunks for ever")

    async def main():
        async with attached() as (transport, _, peer):
            transport.writelines([b"", b"a", b"", b"b", b""])
            assert await receive(peer, 2) == b"ab"
            transport.writelines([b"", bytearray()])
            transport.close()
            assert await receive_all(peer) == b""

    run(main())


def test_write_after_writelines_keeps_the_order(run):
    async def main():
        async with attached() as (transport, _, peer):
            sent = fill(transport)
            transport.writelines([b"1", b"2"])
            transport.write(b"3")
            await receive(peer, sent)
            assert await receive(peer, 3) == b"123"

    run(main())


def test_head_and_body_of_one_callback_arrive(loop, run):
    async def main():
        async with attached() as (transport, protocol, peer):
            protocol.reactions["data_received"] = lambda p: (p.transport.write(b"head"), p.transport.write(b"body"))
            peer.sendall(b"?")
            assert await receive(peer, 8) == b"headbody"
            loop.call_soon(transport.write, b"scheduled")
            assert await receive(peer, 9) == b"scheduled"

    run(main())


def test_write_in_connection_made(run):
    async def main():
        protocol = Recorder(connection_made=lambda p: p.transport.write(b"greeting"))
        async with attached(protocol) as (_, _, peer):
            assert await receive(peer, 8) == b"greeting"

    run(main())


def test_write_while_the_loop_does_not_run(loop):
    with tcp_pair() as (left, right):
        protocol = Recorder()
        transport, _ = loop.run_until_complete(loop.create_connection(lambda: protocol, sock=left))
        transport.write(b"outside")
        loop.run_until_complete(asyncio.sleep(0))
        right.settimeout(5)
        assert right.recv(100) == b"outside"
        transport.write(b"again")
        transport.close()
        loop.run_until_complete(protocol.until_event("connection_lost"))
        assert right.recv(100) == b"again"
        assert right.recv(100) == b""


def test_write_then_stop_reaches_the_peer(loop):
    with tcp_pair() as (left, right):
        protocol = Recorder()
        transport, _ = loop.run_until_complete(loop.create_connection(lambda: protocol, sock=left))
        loop.call_soon(transport.write, b"before stop")
        loop.call_soon(loop.stop)
        loop.run_forever()
        right.settimeout(5)
        assert right.recv(100) == b"before stop"
        transport.abort()
        loop.run_until_complete(protocol.until_event("connection_lost"))


def test_write_is_sent_before_a_later_callback_blocks(loop, run):
    async def main():
        async with attached() as (transport, _, peer):
            seen = []

            def block():
                peer.settimeout(5)
                seen.append(peer.recv(100))
                peer.setblocking(False)

            loop.call_soon(transport.write, b"in time")
            loop.call_soon(block)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert seen == [b"in time"]

    run(main())


def test_close_sends_what_is_queued(run):
    async def main():
        async with attached() as (transport, protocol, peer):
            transport.write(MANY)
            transport.write(b"end")
            transport.close()
            assert transport.is_closing()
            assert await receive_all(peer) == MANY + b"end"
            await protocol.until_event("connection_lost")
            assert protocol.lost_with is None
            assert transport.get_write_buffer_size() == 0

    run(main())


def test_small_write_then_close_in_one_callback(loop, run):
    async def main():
        async with attached() as (transport, _, peer):
            loop.call_soon(lambda: (transport.write(b"bye"), transport.close()))
            assert await receive_all(peer) == b"bye"

    run(main())


def test_abort_drops_what_is_queued(run):
    async def main():
        async with attached() as (transport, protocol, peer):
            written = fill(transport)
            transport.write(MANY)
            transport.abort()
            assert transport.get_write_buffer_size() == 0
            await protocol.until_event("connection_lost")
            assert protocol.lost_with is None
            assert len(await receive_all(peer)) < written

    run(main())


def test_small_write_then_abort_in_one_callback(loop, run):
    async def main():
        async with attached() as (transport, protocol, peer):
            loop.call_soon(lambda: (transport.write(b"sent at once"), transport.abort()))
            # asyncio hands a small write to the kernel inside write(): abort() cannot take it back.
            assert await receive_all(peer) == b"sent at once"
            await protocol.until_event("connection_lost")

    run(main())


def test_abort_after_close_with_queued_data(run):
    async def main():
        async with attached() as (transport, protocol, _):
            fill(transport)
            transport.close()
            await asyncio.sleep(0)
            assert not protocol.is_lost
            transport.abort()
            await protocol.until_event("connection_lost")
            await asyncio.sleep(0)
            assert protocol.events.count("connection_lost") == 1

    run(main())


def test_write_buffer_size_is_exact(run):
    async def main():
        async with attached() as (transport, protocol, peer):
            transport.write(b"x" * 1000)
            assert transport.get_write_buffer_size() == 0
            sent = 1000 + fill(transport)
            before = transport.get_write_buffer_size()
            assert 0 < before < sent
            transport.write(b"y" * 1234)
            assert transport.get_write_buffer_size() == before + 1234
            transport.write(bytearray(66))
            assert transport.get_write_buffer_size() == before + 1300
            await receive(peer, sent + 1300)
            if "pause_writing" in protocol.events:
                await protocol.until_event("resume_writing")
            assert transport.get_write_buffer_size() == 0

    run(main())


def test_write_eof_comes_after_queued_data(run):
    async def main():
        async with attached() as (transport, protocol, peer):
            transport.write(MANY)
            transport.write_eof()
            transport.write_eof()
            assert not transport.is_closing()
            assert await receive_all(peer) == MANY
            peer.sendall(b"still read")
            await protocol.until_bytes(10)

    run(main())


def test_write_after_eof_raises(run):
    async def main():
        async with attached() as (transport, _, _peer):
            transport.write_eof()
            with pytest.raises(RuntimeError, match=re.escape("Cannot call write() after write_eof()")):
                transport.write(b"x")
            text = "Cannot call writelines() after write_eof()"
            if sys.version_info < (3, 12):
                text = "Cannot call write() after write_eof()"
            with pytest.raises(RuntimeError, match=re.escape(text)):
                transport.writelines([b"x"])

    run(main())


@pytest.mark.parametrize("wrong", ["text", None, 5, [b"x"]])
def test_write_of_another_type_raises(run, wrong):
    expected = "a bytes, bytearray, or memoryview object" if sys.version_info >= (3, 14) else "a bytes-like object"

    async def main():
        async with attached() as (transport, _, peer):
            with pytest.raises(TypeError, match=f"data argument must be {expected}, not '{type(wrong).__name__}'"):
                transport.write(wrong)
            with pytest.raises(TypeError):
                transport.writelines([wrong or [1]])
            transport.write(b"fine")
            assert await receive(peer, 4) == b"fine"

    run(main())


def test_write_after_abort_is_silent_then_warns(run, asyncio_records):
    async def main():
        async with attached() as (transport, protocol, _):
            transport.abort()
            for _ in range(4):
                transport.write(b"lost")
            assert asyncio_records.texts(logging.WARNING) == []
            transport.write(b"lost")
            transport.write(b"lost")
            assert asyncio_records.texts(logging.WARNING) == ["socket.send() raised exception."] * 2
            await protocol.until_event("connection_lost")
            transport.write(b"lost")
            assert len(asyncio_records.texts(logging.WARNING)) == 3

    run(main())


@pytest.mark.parametrize("again", ["write", "close", "abort", "write_eof", "get_write_buffer_size", "is_closing"])
def test_calls_after_connection_lost_are_harmless(run, again):
    async def main():
        async with attached() as (transport, protocol, _):
            transport.close()
            await protocol.until_event("connection_lost")
            await asyncio.sleep(0)
            getattr(transport, again)(*([b"x"] if again == "write" else []))
            await asyncio.sleep(0)
            assert protocol.events == ["connection_made", "connection_lost"]

    run(main())


def test_writes_after_a_reset(run, asyncio_records):
    async def main():
        async with attached() as (transport, protocol, peer):
            transport.pause_reading()
            reset(peer)
            while not transport.is_closing():
                transport.write(b"x")
                await asyncio.sleep(0)
            await protocol.until_event("connection_lost")
            assert isinstance(protocol.lost_with, (ConnectionResetError, BrokenPipeError))
            for _ in range(10):
                transport.write(b"x")
            assert set(asyncio_records.texts(logging.WARNING)) == {"socket.send() raised exception."}

    run(main())


def test_many_small_writes_keep_their_order(run):
    async def main():
        async with attached() as (transport, _, peer):
            for i in range(20_000):
                transport.write(b"%08d" % i)
            expected = b"".join(b"%08d" % i for i in range(20_000))
            assert await receive(peer, len(expected)) == expected

    run(main())


def test_writes_from_other_threads_do_not_corrupt(loop, run):
    """Not allowed by asyncio, done by programs all the same: through call_soon_threadsafe each record is whole."""
    threads, records = 4, 500

    async def main():
        async with attached() as (transport, _, peer):

            def write(name):
                for i in range(records):
                    loop.call_soon_threadsafe(transport.write, b"%d:%06d;" % (name, i))

            writers = [threading.Thread(target=write, args=(n,)) for n in range(threads)]
            for writer in writers:
                writer.start()
            data = await receive(peer, threads * records * 9)
            for writer in writers:
                writer.join()
            for name in range(threads):
                mine = [r for r in data.split(b";") if r.startswith(b"%d:" % name)]
                assert mine == [b"%d:%06d" % (name, i) for i in range(records)]

    run(main())


# A loop that is closed: asyncio's transports go on without it until they would have to wait.


@pytest.fixture
def orphan(loop):
    """(transport, protocol, peer) of a connection whose loop is closed."""
    near, peer = socket.socketpair()
    peer.setblocking(False)
    transport, protocol = loop.run_until_complete(loop.create_connection(Recorder, sock=near))
    loop.close()
    yield transport, protocol, peer
    peer.close()
    near.close()


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_writes_are_sent_without_a_loop(orphan, kind):
    transport, _, peer = orphan
    transport.write(kind(b"one"))
    transport.writelines([kind(b"two"), kind(b"three")])
    assert peer.recv(100) == b"onetwothree"
    assert transport.get_write_buffer_size() == 0


def test_the_end_is_sent_without_a_loop(orphan):
    transport, _, peer = orphan
    transport.write(b"last")
    transport.write_eof()
    assert peer.recv(100) == b"last"
    assert peer.recv(100) == b""
    with pytest.raises(RuntimeError, match="after write_eof"):
        transport.write(b"more")


def test_what_the_kernel_does_not_take_fails_without_a_loop(orphan):
    transport, _, peer = orphan
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        transport.write(bytes(10_000_000))
    assert peer.recv(1 << 20)


def test_broken_connection_fails_without_a_loop(orphan):
    transport, protocol, peer = orphan
    peer.close()
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        transport.write(b"x")
    assert transport.is_closing()
    transport.write(b"y")
    assert not protocol.is_lost


def test_nothing_is_sent_past_what_was_queued_when_the_loop_was_closed(loop):
    near, peer = socket.socketpair()
    with near, peer:
        peer.setblocking(False)
        transport, _ = loop.run_until_complete(loop.create_connection(Recorder, sock=near))
        transport.write(bytes(10_000_000))
        loop.close()
        received = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                received += len(peer.recv(1 << 20))
        assert 0 < received < 10_000_000
        transport.write(b"behind")
        with pytest.raises(BlockingIOError):
            peer.recv(1 << 20)
