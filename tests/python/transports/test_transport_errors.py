# SPDX-License-Identifier: MIT
"""What goes wrong on a TCP transport: protocols that raise, peers that reset, exits that leave run_forever."""

import asyncio
import contextlib
import errno
import gc
import logging
import socket
import sys
import warnings
import weakref

import pytest
from recorder import BufferedRecorder, Recorder, attached, fill, receive, receive_all, reset, tcp_pair, turns


def failing(error):
    def react(_):
        raise error

    return react


FATAL = {
    "data_received": (Recorder, "Fatal error: protocol.data_received() call failed."),
    "eof_received": (Recorder, "Fatal error: protocol.eof_received() call failed."),
    "get_buffer": (BufferedRecorder, "Fatal error: protocol.get_buffer() call failed."),
    "buffer_updated": (BufferedRecorder, "Fatal error: protocol.buffer_updated() call failed."),
}


def provoke(callback, peer):
    if callback == "eof_received":
        peer.shutdown(socket.SHUT_WR)
    else:
        peer.sendall(b"x")


@pytest.mark.parametrize("callback", FATAL)
def test_protocol_that_raises_loses_its_connection(run, reported, callback):
    kind, message = FATAL[callback]
    error = ZeroDivisionError("protocol bug")

    async def main():
        async with attached(kind(**{callback: failing(error)})) as (transport, protocol, peer):
            provoke(callback, peer)
            await protocol.until_event("connection_lost")
            assert protocol.lost_with is error
            assert protocol.events.count(callback) == 1
            with contextlib.suppress(ConnectionResetError):  # What was not read makes the close a reset.
                assert await receive_all(peer) == b""
            [context] = reported
            assert set(context) == {"message", "exception", "transport", "protocol"}
            assert context["message"] == message
            assert context["exception"] is error
            assert context["transport"] is transport
            assert context["protocol"] is protocol

    run(main())


@pytest.mark.parametrize("callback", ["data_received", "eof_received"])
def test_os_error_of_a_protocol_is_not_reported(run, reported, callback):
    """asyncio takes any OSError for one of the connection."""
    error = PermissionError("a file of the protocol")

    async def main():
        async with attached(Recorder(**{callback: failing(error)})) as (_, protocol, peer):
            provoke(callback, peer)
            await protocol.until_event("connection_lost")
            assert protocol.lost_with is error
            assert reported == []

    run(main())


def test_protocol_that_raises_after_close(run, reported):
    error = ZeroDivisionError("after close")

    def close_and_fail(protocol):
        protocol.transport.close()
        raise error

    async def main():
        async with attached(Recorder(data_received=close_and_fail)) as (_, protocol, peer):
            peer.sendall(b"x")
            await protocol.until_event("connection_lost")
            await asyncio.sleep(0)
            assert protocol.lost_with is None
            assert protocol.events.count("connection_lost") == 1
            assert [c["exception"] for c in reported] == [error]

    run(main())


def test_connection_made_that_raises_is_reported_and_the_connection_lives(run, reported):
    error = ZeroDivisionError("made")

    async def main():
        async with attached(Recorder(connection_made=failing(error))) as (transport, protocol, peer):
            [context] = reported
            assert context["exception"] is error
            assert context["message"].startswith("Exception in callback ")
            assert "connection_made" in context["message"]
            assert isinstance(context["handle"], asyncio.Handle)
            transport.write(b"alive")
            assert await receive(peer, 5) == b"alive"
            peer.sendall(b"too")
            await protocol.until_bytes(3)

    run(main())


def test_connection_lost_that_raises_is_reported(loop, run, reported, open_fds):
    error = ZeroDivisionError("lost")

    async def main():
        async with attached(Recorder(connection_lost=failing(error))) as (transport, protocol, _):
            fd = transport.get_extra_info("socket").fileno()
            transport.close()
            await protocol.until_event("connection_lost")
            await asyncio.sleep(0)
            assert fd not in open_fds()
            [context] = reported
            assert context["exception"] is error
            assert context["message"].startswith("Exception in callback ")

    run(main())


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("callback", ["data_received", "eof_received", "connection_lost", "connection_made"])
def test_exits_leave_run_forever_and_the_loop_works_on(loop, reported, raised, callback):
    later = []

    def leave(protocol):
        del protocol.reactions[callback]  # asyncio tells of the end of a stream again after an exit
        loop.call_soon(later.append, "kept")
        raise raised("out")

    with tcp_pair() as (left, right):
        protocol = Recorder()
        protocol.reactions[callback] = leave
        if callback == "connection_made":
            connect = loop.create_task(loop.create_connection(lambda: protocol, sock=left))
        else:
            loop.run_until_complete(loop.create_connection(lambda: protocol, sock=left))
        if callback == "connection_lost":
            protocol.transport.close()
        elif callback != "connection_made":
            provoke(callback, right)
        with pytest.raises(raised, match="out"):
            loop.run_forever()
        assert not loop.is_running()
        assert protocol.events[-1] == callback
        loop.run_until_complete(asyncio.sleep(0))
        assert later == ["kept"]
        if callback == "connection_made":
            loop.run_until_complete(connect)
        if not protocol.is_lost:
            protocol.transport.abort()
            loop.run_until_complete(protocol.until_event("connection_lost"))
    assert reported == []


@pytest.mark.parametrize("kind", [Recorder, BufferedRecorder])
def test_reset_by_the_peer(run, reported, kind):
    async def main():
        async with attached(kind()) as (_, protocol, peer):
            reset(peer)
            await protocol.until_event("connection_lost")
            assert type(protocol.lost_with) is ConnectionResetError
            assert protocol.lost_with.errno == 104
            assert "eof_received" not in protocol.events
            assert reported == []

    run(main())


def test_reset_while_a_write_waits(run, reported):
    async def main():
        async with attached() as (transport, protocol, peer):
            fill(transport)
            reset(peer)
            await protocol.until_event("connection_lost")
            assert isinstance(protocol.lost_with, (ConnectionResetError, BrokenPipeError))
            assert transport.get_write_buffer_size() == 0
            assert "resume_writing" not in protocol.events
            assert reported == []

    run(main())


def test_write_eof_on_a_reset_connection_raises(run):
    """The error of shutdown() is the caller's, as in asyncio; the connection is lost when it is read next."""

    async def main():
        async with attached() as (transport, protocol, peer):
            transport.pause_reading()
            await asyncio.sleep(0)
            reset(peer)
            with pytest.raises(OSError, match="Transport endpoint is not connected") as caught:
                transport.write_eof()
            assert caught.value.errno == 107
            assert not transport.is_closing()
            transport.resume_reading()
            await protocol.until_event("connection_lost")
            assert isinstance(protocol.lost_with, ConnectionResetError)

    run(main())


def test_write_to_a_closed_peer_breaks_the_connection(run, reported):
    async def main():
        async with attached(Recorder(eof_received=lambda p: True)) as (transport, protocol, peer):
            peer.close()
            await protocol.until_event("eof_received")
            while not transport.is_closing():
                transport.write(b"x")
                await asyncio.sleep(0)
            await protocol.until_event("connection_lost")
            assert isinstance(protocol.lost_with, (BrokenPipeError, ConnectionResetError))
            assert reported == []

    run(main())


def test_reset_is_logged_in_debug_only(loop, run, asyncio_records):
    async def main():
        for debug in (False, True):
            loop.set_debug(debug)
            asyncio_records.records.clear()
            async with attached() as (_, protocol, peer):
                reset(peer)
                await protocol.until_event("connection_lost")
                texts = asyncio_records.texts(logging.DEBUG)
                told = [t for t in texts if t.endswith(": Fatal read error on socket transport")]
                assert len(told) == (1 if debug else 0)

    run(main())


def test_debug_log_of_reading(loop, run, asyncio_records):
    async def main():
        loop.set_debug(True)
        async with attached() as (transport, protocol, peer):
            transport.pause_reading()
            transport.resume_reading()
            peer.close()
            await protocol.until_event("connection_lost")
            texts = asyncio_records.texts(logging.DEBUG)
            for end in (" pauses reading", " resumes reading", " received EOF"):
                assert sum(t.endswith(end) for t in texts) == 1, end

    run(main())


def test_error_reports_name_the_transport_in_the_log(run, logged_errors):
    async def main():
        async with attached(Recorder(data_received=failing(ZeroDivisionError("bug")))) as (_, protocol, peer):
            peer.sendall(b"x")
            await protocol.until_event("connection_lost")
            [text] = logged_errors()
            lines = text.splitlines()
            assert lines[0] == "Fatal error: protocol.data_received() call failed."
            assert lines[1].startswith("protocol: <recorder.Recorder object")
            assert lines[2].startswith("transport: <")

    run(main())


def test_protocol_freed_after_its_error(loop, run, reported):
    async def main():
        async with attached(Recorder(data_received=failing(ZeroDivisionError()))) as (transport, protocol, peer):
            peer.sendall(b"x")
            await protocol.until_event("connection_lost")
            await asyncio.sleep(0)
            return weakref.ref(protocol), weakref.ref(transport)

    references = run(main())
    reported.clear()
    gc.collect()
    assert [r() for r in references] == [None, None]


def test_last_reference_dropped_inside_a_callback(loop, run):
    async def main():
        holders = []

        def forget(protocol):
            holders.clear()
            transport, protocol.transport = protocol.transport, None
            transport.abort()
            del transport
            gc.collect()

        with tcp_pair() as (left, right):
            lost = loop.create_future()
            protocol = Recorder(data_received=forget, connection_lost=lambda _: lost.set_result(None))
            holders.append(await loop.create_connection(lambda: protocol, sock=left))
            del protocol
            right.sendall(b"x")
            await lost
            assert await loop.sock_recv(right, 1) == b""

    run(main())


def test_one_that_raises_does_not_stop_the_others(loop, run, reported):
    async def main():
        async with (
            attached(Recorder(data_received=failing(ZeroDivisionError()))) as (_, broken, peer),
            attached() as (_, sound, other),
        ):
            peer.sendall(b"x")
            other.sendall(b"y")
            await sound.until_bytes(1)
            await broken.until_event("connection_lost")
            other.sendall(b"z")
            await sound.until_bytes(2)
            assert len(reported) == 1

    run(main())


def test_loop_closed_with_an_open_transport(loop_factory, recwarn):
    loop = loop_factory()
    with tcp_pair() as (left, _):
        fd = left.fileno()
        transport, protocol = loop.run_until_complete(loop.create_connection(Recorder, sock=left))
        loop.close()
        assert protocol.events == ["connection_made"]
        assert f"fd={fd}" in repr(transport)
        del transport, protocol, loop
        gc.collect()
        left.detach()
    texts = [str(w.message) for w in recwarn.list if w.category is ResourceWarning]
    assert any(t.startswith("unclosed transport ") for t in texts)


class Destructor:
    def __init__(self, call):
        self.call = call

    def __del__(self):
        self.call()


USES_AFTER_COLLECTION = {
    "write": (lambda transport: transport.write(b"x"), errno.EBADF),
    "write of a buffer": (lambda transport: transport.write(bytearray(10_000)), errno.EBADF),
    "writelines": (lambda transport: transport.writelines([b"x", b"y"]), errno.EBADF),
    "close": (lambda transport: transport.close(), None),
    "abort": (lambda transport: transport.abort(), None),
}


@pytest.mark.parametrize("use", USES_AFTER_COLLECTION)
def test_destructor_may_use_a_transport_that_was_collected_before_it(loop, run, use):
    call, error_number = USES_AFTER_COLLECTION[use]

    async def main():
        with tcp_pair() as (left, right):
            transport, protocol = await loop.create_connection(Recorder, sock=left)
            transport.pause_reading()  # nothing but its own cycle holds it
            await asyncio.sleep(0)
            # Younger than the transport: the collector calls it later.
            protocol.younger = Destructor(lambda transport=transport: call(transport))
            lost = []
            protocol.reactions["connection_lost"] = lambda recorder: lost.append(recorder.lost_with)
            del transport, protocol
            with pytest.warns(ResourceWarning, match="unclosed transport"):
                gc.collect()
            while not lost:
                await asyncio.sleep(0)
            await turns()
            assert [error and error.errno for error in lost] == [error_number]
            assert await loop.sock_recv(right, 1) == b""
            left.detach()

    run(main())


@pytest.mark.parametrize("use", ["write_eof", "resume_reading"])
def test_destructor_is_told_that_the_socket_of_its_transport_is_closed(loop, run, use):
    errors = []

    def fails(transport):
        with pytest.raises(OSError) as caught:
            getattr(transport, use)()
        errors.append(caught.value.errno)

    async def main():
        with tcp_pair() as (left, _):
            transport, protocol = await loop.create_connection(Recorder, sock=left)
            transport.pause_reading()
            await asyncio.sleep(0)
            protocol.younger = Destructor(lambda transport=transport: fails(transport))
            del transport, protocol
            with pytest.warns(ResourceWarning, match="unclosed transport"):
                gc.collect()
            left.detach()

    run(main())
    assert errors == [errno.EBADF]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio 3.11 takes a second transport on one descriptor")
def test_second_transport_on_one_socket_is_refused(loop, run):
    async def main():
        async with attached() as (transport, _, _peer):
            sock = transport.get_extra_info("socket")._sock
            with pytest.raises(RuntimeError, match=r"File descriptor .* is used by transport <"):
                await loop.create_connection(Recorder, sock=sock)

    run(main())


@pytest.mark.parametrize("call", ["close", "abort", "resume_reading"])
def test_what_needs_the_loop_is_refused_once_it_is_closed(loop_factory, call):
    loop = loop_factory()
    left, right = socket.socketpair()
    transport, _ = loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=left))
    if call == "resume_reading":
        transport.pause_reading()
    loop.close()
    with pytest.raises(RuntimeError, match="^Event loop is closed$"):
        getattr(transport, call)()
    right.close()
    left.close()
    with contextlib.suppress(RuntimeError), warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del transport
        gc.collect()


def test_exit_in_eof_received_does_not_lose_the_end_of_the_stream(loop, run, reported):
    def leave(protocol):
        del protocol.reactions["eof_received"]
        raise KeyboardInterrupt

    with tcp_pair() as (left, right):
        protocol = Recorder(eof_received=leave)
        run(loop.create_connection(lambda: protocol, sock=left))
        right.shutdown(socket.SHUT_WR)
        with pytest.raises(KeyboardInterrupt):
            run(protocol.until_event("connection_lost"))
        run(protocol.until_event("connection_lost"))
        assert protocol.events.count("eof_received") == 2
    assert reported == []


@pytest.mark.cxxloop_only(reason="asyncio's transport never closes: its writer trips over the empty queue for ever")
def test_exit_in_resume_writing_does_not_keep_a_closing_transport_open(loop, run, reported):
    def leave(protocol):
        raise KeyboardInterrupt

    with tcp_pair() as (left, right):
        protocol = Recorder(resume_writing=leave)
        transport, _ = run(loop.create_connection(lambda: protocol, sock=left))
        fill(transport)
        transport.close()
        receiver = loop.create_task(receive_all(right))
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(receiver)
        run(protocol.until_event("connection_lost"))
        run(receiver)
    assert reported == []


def test_socket_closed_under_its_transport_gives_nothing_to_the_next_owner_of_its_number(run):
    async def main():
        loop = asyncio.get_running_loop()
        protocol = Recorder()
        left, peer = socket.socketpair()
        transport, _ = await loop.create_connection(lambda: protocol, sock=left)
        number = left.fileno()
        left.close()
        stranger, other_end = socket.socketpair()
        assert number in (stranger.fileno(), other_end.fileno())
        stranger.setblocking(False)
        other_end.setblocking(False)
        transport.write(b"secret")
        await protocol.until_event("connection_lost")
        assert isinstance(protocol.lost_with, OSError)
        assert protocol.lost_with.errno == errno.EBADF
        for end in (stranger, other_end):
            with pytest.raises(BlockingIOError):
                end.recv(100)
        for end in (stranger, other_end, peer):
            end.close()

    run(main())


def test_transport_whose_socket_was_closed_ends_beside_the_next_owner_of_its_number(loop, run):
    async def main():
        left, peer = socket.socketpair()
        left.setblocking(False)
        transport, protocol = await loop.create_connection(Recorder, sock=left)
        transport.close()
        number = left.fileno()
        left.close()
        ends = socket.socketpair()
        stranger, friend = ends if ends[0].fileno() == number else ends[::-1]
        assert stranger.fileno() == number
        received = loop.create_future()
        loop.add_reader(stranger, lambda: received.set_result(stranger.recv(100)))
        await protocol.until_event("connection_lost")
        friend.send(b"for the stranger")
        assert await received == b"for the stranger"
        assert loop.remove_reader(stranger)
        for end in (stranger, friend, peer):
            end.close()

    run(main())
