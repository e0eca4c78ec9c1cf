# SPDX-License-Identifier: MIT
"""pause_writing() and resume_writing(): when they come, in pairs, and what a protocol may do inside them."""

import re
import socket

import pytest
from recorder import Recorder, attached, fill, receive, receive_all

MANY = bytes(range(256)) * (10 * 4096)  # 10 MiB, more than a kernel takes at once


def test_write_limits(run):
    async def main():
        async with attached() as (transport, _, _peer):
            assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
            transport.set_write_buffer_limits(high=1000)
            assert transport.get_write_buffer_limits() == (250, 1000)
            transport.set_write_buffer_limits(low=1000)
            assert transport.get_write_buffer_limits() == (1000, 4000)
            transport.set_write_buffer_limits(high=10, low=10)
            assert transport.get_write_buffer_limits() == (10, 10)
            transport.set_write_buffer_limits(0)
            assert transport.get_write_buffer_limits() == (0, 0)
            transport.set_write_buffer_limits()
            assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)
            for high, low in ((10, 11), (-1, None), (None, -1), (5, -5)):
                shown_high = 4 * low if high is None else high
                shown_low = high // 4 if low is None else low
                text = f"high ({shown_high!r}) must be >= low ({shown_low!r}) must be >= 0"
                with pytest.raises(ValueError, match=re.escape(text)):
                    transport.set_write_buffer_limits(high=high, low=low)
            assert transport.get_write_buffer_limits() == (16 * 1024, 64 * 1024)

    run(main())


def test_pause_comes_inside_write_and_resume_after_the_peer_reads(run):
    async def main():
        async with attached() as (transport, protocol, peer):
            transport.set_write_buffer_limits(high=64 * 1024, low=1024)
            sizes = []
            protocol.reactions["resume_writing"] = lambda p: sizes.append(p.transport.get_write_buffer_size())
            transport.write(MANY)
            assert protocol.events == ["connection_made", "pause_writing"]
            transport.write(b"more")
            assert protocol.events == ["connection_made", "pause_writing"]
            await receive(peer, len(MANY) + 4)
            await protocol.until_event("resume_writing")
            assert protocol.events == ["connection_made", "pause_writing", "resume_writing"]
            assert sizes[0] <= 1024

    run(main())


def test_lower_limit_pauses_at_once(run):
    async def main():
        async with attached() as (transport, protocol, _):
            transport.set_write_buffer_limits(high=1 << 30)
            fill(transport)
            assert "pause_writing" not in protocol.events
            transport.set_write_buffer_limits(high=0)
            assert "pause_writing" in protocol.events

    run(main())


def test_limit_zero_pauses_on_the_first_queued_byte(run):
    async def main():
        async with attached() as (transport, protocol, peer):
            transport.set_write_buffer_limits(high=0)
            transport.write(b"small")
            assert protocol.events == ["connection_made"]
            sent = 5 + fill(transport)
            assert protocol.events == ["connection_made", "pause_writing"]
            await receive(peer, sent)
            await protocol.until_event("resume_writing")

    run(main())


def test_resume_writing_that_writes_again(run):
    rounds = 5

    async def main():
        def refill(protocol):
            if protocol.events.count("resume_writing") < rounds:
                protocol.transport.write(MANY)

        async with attached(Recorder(resume_writing=refill)) as (transport, protocol, peer):
            # A buffer the kernel makes larger while it is read takes a later round whole, and nobody is paused.
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            transport.write(MANY)
            assert await receive(peer, rounds * len(MANY)) == MANY * rounds
            await protocol.until_event("resume_writing", rounds)
            flow = [e for e in protocol.events if e.endswith("writing")]
            assert flow == ["pause_writing", "resume_writing"] * rounds

    run(main(), timeout=30)


def test_no_resume_after_abort_inside_pause_writing(run):
    async def main():
        protocol = Recorder(pause_writing=lambda p: p.transport.abort())
        async with attached(protocol) as (transport, _, peer):
            transport.write(MANY)
            transport.write(b"never")
            assert len(await receive_all(peer)) < len(MANY)
            await protocol.until_event("connection_lost")
            assert protocol.events == ["connection_made", "pause_writing", "connection_lost"]

    run(main())


def test_close_inside_pause_writing_sends_everything(run):
    async def main():
        protocol = Recorder(pause_writing=lambda p: p.transport.close())
        async with attached(protocol) as (transport, _, peer):
            transport.write(MANY)
            assert await receive_all(peer) == MANY
            await protocol.until_event("connection_lost")
            assert protocol.events[:2] == ["connection_made", "pause_writing"]
            assert protocol.events[-1] == "connection_lost"

    run(main())


def test_last_words_in_resume_writing_of_a_closing_transport(run):
    async def main():
        protocol = Recorder(resume_writing=lambda p: p.transport.write(b"bye"))
        async with attached(protocol) as (transport, _, peer):
            transport.write(MANY)
            transport.close()
            assert await receive_all(peer) == MANY + b"bye"
            await protocol.until_event("connection_lost")

    run(main())


def test_pause_writing_that_raises_is_reported(run, reported):
    async def main():
        def fail(_):
            raise RuntimeError("cannot pause")

        async with attached(Recorder(pause_writing=fail)) as (transport, protocol, peer):
            transport.write(MANY)
            assert await receive(peer, len(MANY)) == MANY
            [context] = reported
            assert context["message"] == "protocol.pause_writing() failed"
            assert str(context["exception"]) == "cannot pause"
            assert context["transport"] is transport and context["protocol"] is protocol

    run(main())


def test_resume_writing_that_raises_is_reported(run, reported):
    async def main():
        def fail(_):
            raise RuntimeError("cannot resume")

        async with attached(Recorder(resume_writing=fail)) as (transport, protocol, peer):
            transport.write(MANY)
            await receive(peer, len(MANY))
            await protocol.until_event("resume_writing")
            transport.write(b"still here")
            assert await receive(peer, 10) == b"still here"
            [context] = reported
            assert context["message"] == "protocol.resume_writing() failed"

    run(main())
