# SPDX-License-Identifier: MIT
"""Random programs on a transport: cxxloop has to tell the story that asyncio tells, event by event."""

import asyncio
import socket

import pytest
from differential import ProtocolBug, check_stories, settle
from recorder import BufferedRecorder, Recorder, reset, tcp_sockets

EVENTS = ("connection_made", "data_received", "buffer_updated", "get_buffer", "eof_received", "connection_lost")


def fail(_):
    raise ProtocolBug("bug")


REACTIONS = {
    "close": lambda p: p.transport.close(),
    "abort": lambda p: p.transport.abort(),
    "pause": lambda p: p.transport.pause_reading(),
    "resume": lambda p: p.transport.resume_reading(),
    "write": lambda p: p.transport.write(b"reply"),
    "write and close": lambda p: (p.transport.write(b"last"), p.transport.close())[1],
    "end": lambda p: p.transport.write_eof(),
    "raise": fail,
    "keep": lambda p: True,
}
# The result of "keep" is taken for the buffer. A write meets the error of a reset socket before the read does in
# asyncio, which sends at once, and after it in cxxloop, which sends at the end of the callback.
NOT_IN_GET_BUFFER = {"keep", "write", "write and close"}

STEPS = {
    "write": lambda p, peer: p.transport.write(b"hello"),
    "write nothing": lambda p, peer: p.transport.write(b""),
    # asyncio 3.12 to 3.14 fails in writelines() on a closed transport.
    "write lines": lambda p, peer: p.transport.is_closing() or p.transport.writelines([b"one", bytearray(b"two")]),
    "write wrong": lambda p, peer: p.transport.write("text"),
    "end": lambda p, peer: p.transport.write_eof(),
    "close": lambda p, peer: p.transport.close(),
    "abort": lambda p, peer: p.transport.abort(),
    "pause": lambda p, peer: p.transport.pause_reading(),
    "resume": lambda p, peer: p.transport.resume_reading(),
    "peer sends": lambda p, peer: peer.send(b"from the peer"),
    "peer ends": lambda p, peer: peer.shutdown(socket.SHUT_WR),
    "peer closes": lambda p, peer: peer.close(),
    "peer resets": lambda p, peer: reset(peer),
    "peer reads": lambda p, peer: peer.recv(100),
}
LATE_STEPS = ("close", "abort", "peer closes", "peer resets")


def make_program(dice):
    """(buffered?, reactions, steps): what the protocol does in its callbacks, and what happens to it."""
    buffered = dice.random() < 0.4
    reactions = {}
    for event in EVENTS:
        if dice.random() < 0.3:
            reaction = dice.choice(list(REACTIONS))
            if not (event == "get_buffer" and reaction in NOT_IN_GET_BUFFER):
                reactions[event] = reaction
    steps = dice.choices([s for s in STEPS if s not in LATE_STEPS], k=dice.randint(1, 6))
    steps += dice.choices(list(STEPS), k=dice.randint(1, 4))
    return buffered, reactions, steps


def result_of(step, protocol, peer):
    try:
        return STEPS[step](protocol, peer)
    except (OSError, RuntimeError, TypeError, AttributeError) as error:
        return type(error).__name__, str(error)


def state_of(transport):
    return transport.is_closing(), transport.is_reading(), transport.get_write_buffer_size()


def play(loop_factory, program):
    """The story of a program: its events, and the state after each step."""
    buffered, reactions, steps = program
    loop = loop_factory()
    reported = []
    loop.set_exception_handler(lambda _, context: reported.append(type(context["exception"]).__name__))
    calls = {event: REACTIONS[name] for event, name in reactions.items()}
    protocol = (BufferedRecorder if buffered else Recorder)(**calls)
    story = []

    async def main():
        left, right = tcp_sockets()
        with right:
            transport, _ = await loop.create_connection(lambda: protocol, sock=left)
            del left
            for step in ("start", *steps):
                result = result_of(step, protocol, right) if step != "start" else None
                await settle()
                story.append((step, result, list(protocol.events), *state_of(transport)))
            result_of("abort", protocol, right)
            await settle()
        story.append((protocol.events, bytes(protocol.data), type(protocol.lost_with).__name__, reported))

    loop.run_until_complete(asyncio.wait_for(main(), 20))
    loop.close()
    return story


@pytest.mark.cxxloop_only("compares cxxloop with asyncio")
@pytest.mark.parametrize("seed", range(10))
def test_same_story_as_asyncio(loop_factory, seed):
    check_stories(loop_factory, seed, make_program, play)
