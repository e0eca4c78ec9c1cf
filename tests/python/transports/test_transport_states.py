# SPDX-License-Identifier: MIT
"""What each call does in each state of a transport: open, paused, closing with something to send, lost, closed."""

import asyncio
import gc
import logging
import re
import socket
import sys
import warnings
import weakref

import pytest
from recorder import Recorder, attached, fill, receive_all, reset, tcp_sockets, turns

STATES = ("open", "paused", "draining", "paused and draining", "losing", "closed")
sends_last_words = pytest.mark.skipif(sys.version_info >= (3, 14), reason="asyncio loses what connection_lost() writes since 3.14")
LASTING_STATES = ("open", "paused", "draining", "losing")


async def connect(protocol):
    """(transport, peer), which the test has to end itself."""
    left, right = tcp_sockets()
    transport, _ = await asyncio.get_running_loop().create_connection(lambda: protocol, sock=left)
    return transport, right


def bring_to(state, transport):
    """Brings an open transport to `state`; the peer does not read."""
    if "paused" in state:
        transport.pause_reading()
    if "draining" in state:
        fill(transport)
        transport.close()
    if state == "losing":
        transport.abort()


async def reach(state, transport, protocol):
    """As bring_to(), "closed" as well."""
    bring_to("losing" if state == "closed" else state, transport)
    if state == "closed":
        await protocol.until_event("connection_lost")
        await turns()


def flags(transport):
    return transport.is_closing(), transport.is_reading(), transport._paused


@pytest.mark.parametrize("state", STATES)
def test_reading_is_paused_and_resumed_in_every_state(run, state):
    closing = state not in ("open", "paused")

    async def main():
        async with attached() as (transport, protocol, _):
            await reach(state, transport, protocol)
            was_paused = "paused" in state
            assert flags(transport) == (closing, state == "open", was_paused)
            transport.pause_reading()
            transport.pause_reading()
            assert flags(transport) == (closing, False, was_paused or not closing)
            transport.resume_reading()
            transport.resume_reading()
            assert flags(transport) == (closing, not closing, was_paused and closing)

    run(main())


@pytest.mark.parametrize("last", ["close", "abort"])
@pytest.mark.parametrize("state", STATES)
def test_connection_is_lost_once_from_every_state(run, state, last):
    async def main():
        async with attached() as (transport, protocol, peer):
            await reach(state, transport, protocol)
            getattr(transport, last)()
            getattr(transport, last)()
            assert transport.is_closing()
            assert protocol.is_lost == (state == "closed")
            if "draining" in state and last == "close":
                await turns()
                assert not protocol.is_lost
                await receive_all(peer)
            await protocol.until_event("connection_lost")
            await turns()
            assert protocol.events.count("connection_lost") == 1
            assert protocol.lost_with is None

    run(main())


@pytest.mark.parametrize("state", STATES)
def test_repr_tells_the_state(run, state):
    async def main():
        async with attached() as (transport, protocol, _):
            await reach(state, transport, protocol)
            loop = "" if state == "closed" else r" read=(polling|idle) write=<(polling|idle), bufsize=\d+>"
            shown = "" if state in ("open", "paused") else " closed" if state == "closed" else " closing"
            found = re.fullmatch(rf"<\w+{shown} fd={transport._sock_fd}{loop}>", repr(transport))
            assert found, repr(transport)
            if loop:
                assert found.groups() == ("polling" if state == "open" else "idle", "polling" if "draining" in state else "idle")

    run(main())


def test_abort_after_close_drops_the_full_queue(run):
    async def main():
        async with attached() as (transport, protocol, peer):
            fill(transport)
            transport.close()
            transport.abort()
            assert transport.get_write_buffer_size() == 0
            assert not protocol.is_lost
            await turns(2)
            assert protocol.is_lost
            assert await receive_all(peer)

    run(main())


@pytest.mark.parametrize("call", ["close", "abort", "pause_reading", "resume_reading", "get_write_buffer_size"])
def test_call_inside_connection_lost_does_nothing(run, reported, call):
    async def main():
        seen = []
        protocol = Recorder(connection_lost=lambda p: seen.append((getattr(p.transport, call)(), flags(p.transport))))
        async with attached(protocol) as (transport, _, _peer):
            transport.abort()
            await protocol.until_event("connection_lost")
            await turns()
            assert protocol.events.count("connection_lost") == 1
            assert seen == [(0 if call == "get_write_buffer_size" else None, (True, False, False))]
            assert reported == []

    run(main())


def test_writes_of_a_lost_connection_are_counted_and_logged_from_the_fifth_on(run, caplog):
    async def main():
        async with attached() as (transport, _, _peer):
            assert transport._conn_lost == 0
            transport.abort()
            counts = [transport._conn_lost]
            logged = []
            for _ in range(6):
                transport.write(b"lost")
                counts.append(transport._conn_lost)
                logged.append(len(caplog.records))
            transport.abort()
            transport.close()
            assert counts == [1, 2, 3, 4, 5, 6, 7]
            assert logged == [0, 0, 0, 0, 1, 2]
            assert {record.getMessage() for record in caplog.records} == {"socket.send() raised exception."}
            assert transport._conn_lost == 7

    with caplog.at_level(logging.WARNING, "asyncio"):
        run(main())


def test_empty_write_and_writes_while_draining_are_not_lost(run):
    async def main():
        async with attached() as (transport, protocol, peer):
            written = fill(transport)
            transport.close()
            transport.write(b"")
            transport.write(b"behind")
            assert transport._conn_lost == 0
            data = await receive_all(peer)
            assert len(data) == written + 6 and data.endswith(b"behind")
            await protocol.until_event("connection_lost")

    run(main())


@sends_last_words
@pytest.mark.parametrize("chunk", [b"last words", bytearray(b"last words" * 1000)], ids=["small", "large"])
def test_last_words_of_connection_lost_reach_the_peer_of_a_drained_connection(run, reported, chunk):
    async def main():
        seen = []

        def say_last_words(p):
            seen.append((p.transport._conn_lost, p.transport.is_closing()))
            p.transport.write(chunk)
            p.transport.close()
            p.transport.write_eof()
            seen.append((p.transport._conn_lost, p.transport.get_write_buffer_size()))

        protocol = Recorder(connection_lost=say_last_words)
        async with attached(protocol) as (transport, _, peer):
            written = fill(transport)
            transport.close()
            data = await receive_all(peer)
            assert len(data) == written + len(chunk) and data.endswith(chunk)
            await turns()
            assert seen == [(0, True), (0, 0)]
            assert protocol.events.count("connection_lost") == 1
            assert reported == []

    run(main())


@sends_last_words
def test_more_last_words_than_the_kernel_takes_end_with_the_connection(run, reported):
    async def main():
        protocol = Recorder(connection_lost=lambda p: p.transport.write(bytes(64 << 20)))
        async with attached(protocol) as (transport, _, peer):
            written = fill(transport)
            transport.close()
            data = await receive_all(peer)
            assert written < len(data) < written + (64 << 20)
            assert protocol.events.count("connection_lost") == 1
            assert reported == []

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 14), reason="asyncio sends them before 3.14")
def test_last_words_of_connection_lost_are_lost_and_counted(run, reported):
    async def main():
        seen = []

        def say_last_words(p):
            seen.append(p.transport._conn_lost)
            p.transport.write(b"last words")
            p.transport.close()
            p.transport.abort()
            seen.append(p.transport._conn_lost)

        protocol = Recorder(connection_lost=say_last_words)
        async with attached(protocol) as (transport, _, peer):
            written = fill(transport)
            transport.close()
            assert len(await receive_all(peer)) == written
            await turns()
            assert seen == [1, 2]
            assert protocol.events.count("connection_lost") == 1
            assert reported == []

    run(main())


@sends_last_words
@pytest.mark.cxxloop_only("asyncio calls connection_lost() a second time, on no protocol, and reports that")
def test_abort_inside_connection_lost_of_a_drained_connection_ends_it(run, reported):
    async def main():
        protocol = Recorder(connection_lost=lambda p: (p.transport.write(b"last"), p.transport.abort(), p.transport.write(b"lost")))
        async with attached(protocol) as (transport, _, peer):
            written = fill(transport)
            transport.close()
            data = await receive_all(peer)
            assert len(data) == written + 4 and data.endswith(b"last")
            await turns()
            assert protocol.events.count("connection_lost") == 1
            assert transport._conn_lost == 2
            assert reported == []

    run(main())


def test_error_while_draining_is_told(run, reported):
    async def main():
        async with attached() as (transport, protocol, peer):
            fill(transport)
            transport.close()
            assert transport._conn_lost == 0
            reset(peer)
            await protocol.until_event("connection_lost")
            assert isinstance(protocol.lost_with, ConnectionError)
            assert reported == []

    run(main())


@pytest.mark.parametrize("state", LASTING_STATES)
def test_loop_closed_in_every_state(loop_factory, state):
    """Nothing more is called; what would need the loop is refused once, as if the loop ran."""
    loop = loop_factory()
    protocol = Recorder()
    transport, peer = loop.run_until_complete(connect(protocol))
    bring_to(state, transport)
    loop.close()
    closing = state in ("draining", "losing")
    assert flags(transport) == (closing, state == "open", state == "paused")
    refused = []
    for call in (transport.pause_reading, transport.close, transport.close, transport.abort, transport.abort):
        try:
            call()
        except RuntimeError as error:
            refused.append((call.__name__, str(error)))
    # An open transport with an empty queue would schedule connection_lost() in close(), one that drains in abort().
    expected = {"open": ["close"], "paused": ["close"], "draining": ["abort"], "losing": []}[state]
    assert refused == [(name, "Event loop is closed") for name in expected]
    assert transport._conn_lost == 1 and transport.is_closing() and not protocol.is_lost
    transport._sock.close()
    peer.close()


class Alone(asyncio.Protocol):
    """Does not refer to its transport."""

    def __init__(self):
        self.lost = asyncio.get_running_loop().create_future()

    def connection_lost(self, exc):
        self.lost.set_result(exc)


@pytest.mark.parametrize("state", LASTING_STATES)
def test_transport_lives_while_the_loop_may_call_it(run, state):
    """A paused transport that nobody holds dies with a warning; any other lives until connection_lost()."""

    async def main():
        protocol = Alone()
        transport, peer = await connect(protocol)
        await turns()
        gc.collect()  # what earlier tests have left
        bring_to(state, transport)
        if state == "paused":
            await turns()  # until the kernel has let go of the read
        alive = weakref.ref(transport)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del transport
            gc.collect()
        warned = any("unclosed transport" in str(warning.message) for warning in caught)
        caught.clear()  # a warning refers to its transport
        assert warned == (state == "paused")
        assert warned or alive() is not None
        with peer:
            if state == "open":
                peer.shutdown(socket.SHUT_WR)
            elif state == "draining":
                await receive_all(peer)
            if state != "paused":
                await protocol.lost
        await turns()
        gc.collect()
        assert alive() is None

    run(main())
