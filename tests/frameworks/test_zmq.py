# SPDX-License-Identifier: MIT
"""ZeroMQ: its descriptors tell only of changes, and pyzmq reads them through add_reader()."""

import asyncio
import contextlib

import pytest
from stories import outcome

zmq = pytest.importorskip("zmq")
zmq_asyncio = pytest.importorskip("zmq.asyncio")

MESSAGES = 2000


@contextlib.contextmanager
def pair(kind, other_kind, **options):
    """A bound and a connected socket."""
    with zmq_asyncio.Context() as context, context.socket(kind) as bound, context.socket(other_kind) as connected:
        for sock in (bound, connected):
            sock.linger = 0
            for name, value in options.items():
                setattr(sock, name, value)
        port = bound.bind_to_random_port("tcp://127.0.0.1")
        connected.connect(f"tcp://127.0.0.1:{port}")
        yield bound, connected


def test_questions_and_answers(same_story):
    async def scene():
        with pair(zmq.REP, zmq.REQ) as (server, client):

            async def answer():
                for _ in range(200):
                    await server.send((await server.recv()).upper())

            answering = asyncio.ensure_future(answer())
            story = []
            for number in range(200):
                await client.send(b"question %d" % number)
                story.append(await client.recv())
            await answering
            return story

    assert same_story(scene) == [b"QUESTION %d" % n for n in range(200)]


def test_stream_with_a_full_queue(same_story):
    async def scene():
        with pair(zmq.PULL, zmq.PUSH, sndhwm=10, rcvhwm=10) as (drain, source):

            async def push():
                for number in range(MESSAGES):
                    await source.send_multipart([b"%d" % number, bytes(1000)])

            pushing = asyncio.ensure_future(push())
            numbers = [int((await drain.recv_multipart())[0]) for _ in range(MESSAGES)]
            await pushing
            return numbers

    assert same_story(scene) == list(range(MESSAGES))


def test_publishing(same_story):
    async def scene():
        with pair(zmq.XPUB, zmq.SUB) as (publisher, subscriber):
            subscriber.subscribe(b"news")
            assert await publisher.recv() == b"\1news"  # now the subscription counts
            for number in range(100):
                await publisher.send(b"other %d" % number)
                await publisher.send(b"news %d" % number)
            return [await subscriber.recv() for _ in range(100)]

    assert same_story(scene) == [b"news %d" % n for n in range(100)]


def test_cancelled_and_timed_out_reads_lose_no_message(same_story):
    async def scene():
        with pair(zmq.PAIR, zmq.PAIR) as (left, right):
            reading = asyncio.ensure_future(left.recv())
            await asyncio.sleep(0.01)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(left.recv(), 0.01)
            await right.send(b"first")
            await right.send(b"second")
            story = [await left.recv(), await left.recv()]
            left.rcvtimeo = 10
            story.append(await outcome(left.recv()))
            left.rcvtimeo = -1
            story.append(await left.poll(10))
            await right.send(b"third")
            story += [await left.poll(10_000), await left.recv()]
            return story

    assert same_story(scene) == [b"first", b"second", "Again", 0, zmq.POLLIN, b"third"]


def test_poller(same_story):
    async def scene():
        with pair(zmq.PAIR, zmq.PAIR) as (left, right), pair(zmq.PAIR, zmq.PAIR) as (quiet, _):
            poller = zmq_asyncio.Poller()
            poller.register(left, zmq.POLLIN)
            poller.register(quiet, zmq.POLLIN)
            polling = asyncio.ensure_future(poller.poll())
            await right.send(b"hello")
            return [(sock is left, event) for sock, event in await polling]

    assert same_story(scene) == [(True, zmq.POLLIN)]
