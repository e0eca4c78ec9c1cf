# SPDX-License-Identifier: MIT
"""Random programs on a datagram endpoint: cxxloop has to tell the story that asyncio tells, event by event."""

import asyncio
import contextlib
import socket
from itertools import pairwise

import pytest
from datagram_recorder import DatagramRecorder, bound_socket, drain
from differential import ProtocolBug, check_stories, settle
from recorder import LOOPBACK

PEERS = 3  # A connected endpoint knows the first.
# Three queued ones are above the high-water mark and one of them above the low one, whatever headers asyncio counts.
BIG = 30_000
ERRORS_MAX = 5
EVENTS = ("connection_made", "datagram_received", "error_received", "pause_writing", "resume_writing", "connection_lost")


class World:
    """An endpoint to be, with the sockets it talks to; UNIX sockets meet a full kernel, those of UDP a refusing one."""

    def __init__(self, family, connected, resources):
        address = (LOOPBACK, 0) if family == socket.AF_INET else b""
        sockets = [resources.enter_context(bound_socket(address, family)) for _ in range(PEERS + 1)]
        self.connected = connected
        self.ours, *self.peers = sockets
        self.address, *self.addresses = [sock.getsockname() for sock in sockets]
        if connected:
            self.ours.connect(self.addresses[0])
        self.sent = 0
        self.received = [[] for _ in self.peers]

    def next_datagram(self, size):
        self.sent += 1
        return b"%d " % self.sent + b"x" * size

    def send(self, protocol, peer, size=10):
        self.send_data(protocol, peer, self.next_datagram(size))

    def send_data(self, protocol, peer, data):
        # asyncio raises AttributeError after the end. Who answers errors with errors never ends.
        if not protocol.is_lost and len(protocol.errors) < ERRORS_MAX:
            protocol.transport.sendto(data, None if self.connected else self.addresses[peer])

    def fill(self, protocol):
        """Sends until a few are queued; a UDP socket is never full."""
        for _ in range(600):
            self.send(protocol, 0, BIG)
            if self.ours.family == socket.AF_INET or protocol.transport.is_closing() or protocol.errors:
                return
            if protocol.transport.get_write_buffer_size() > 2 * BIG:
                return
        raise AssertionError("the kernel takes everything")

    def peer_sends(self, peer, data=None):
        self.peers[peer].sendto(self.next_datagram(5) if data is None else data, self.address)

    def read(self, peer):
        if self.peers[peer].fileno() >= 0:
            self.received[peer] += drain(self.peers[peer])


def fail(*_):
    raise ProtocolBug("bug")


def abort(protocol):
    # asyncio's fails after an end that waited for the queue.
    if not protocol.is_lost:
        protocol.transport.abort()


DEEDS = {
    "close": lambda p, world: p.transport.close(),
    "abort": lambda p, world: abort(p),
    "pause": lambda p, world: p.transport.pause_reading(),
    "resume": lambda p, world: p.transport.resume_reading(),
    "send": lambda p, world: world.send(p, 0),
    "send to another": lambda p, world: world.send(p, 1),
    "send nothing": lambda p, world: world.send_data(p, 0, b""),
}
REACTIONS = DEEDS | {"raise": fail}
STEPS = DEEDS | {
    "send wrong": lambda p, world: p.transport.sendto("text"),
    "send to a third": lambda p, world: world.send(p, 2),
    "fill": lambda p, world: world.fill(p),
    "no limit": lambda p, world: p.transport.set_write_buffer_limits(high=10 * BIG),
    "peer sends": lambda p, world: world.peer_sends(0),
    "peer sends twice": lambda p, world: [world.peer_sends(0), world.peer_sends(0)],
    "peer sends nothing": lambda p, world: world.peer_sends(0, b""),
    "stranger sends": lambda p, world: world.peer_sends(1),
    "peer reads": lambda p, world: world.read(0),
    "other reads": lambda p, world: world.read(1),
    "peer goes away": lambda p, world: world.peers[0].close(),
    "other goes away": lambda p, world: world.peers[1].close(),
}
LATE_STEPS = ("close", "abort", "peer goes away", "other goes away")


def make_program(dice):
    """(family, connected?, reactions, steps): what the protocol does in its callbacks, and what happens to it."""
    family = dice.choice([socket.AF_INET, socket.AF_UNIX, socket.AF_UNIX])
    reactions = {event: dice.choice(list(REACTIONS)) for event in EVENTS if dice.random() < 0.3}
    if reactions.get("resume_writing") in ("close", "abort"):
        del reactions["resume_writing"]  # asyncio calls connection_lost() twice then.
    steps = dice.choices([step for step in STEPS if step not in LATE_STEPS], k=dice.randint(1, 8))
    steps += dice.choices(list(STEPS), k=dice.randint(1, 5))
    return family, dice.random() < 0.5, reactions, steps


def result_of(step, protocol, world):
    try:
        return STEPS[step](protocol, world)
    except (OSError, TypeError, ProtocolBug) as error:
        return type(error).__name__, str(error)


def short(data):
    return data if len(data) < 50 else (data[:10], len(data))


def check_story(protocol, world):
    """What must hold on any loop."""
    events = protocol.events
    assert events[0] == "connection_made"
    assert events.count("connection_lost") == 1 and events[-1] == "connection_lost"
    flow = [event for event in events if event in ("pause_writing", "resume_writing")]
    assert flow[:1] in ([], ["pause_writing"]) and all(one != other for one, other in pairwise(flow))
    for received in (*world.received, protocol.payloads):
        numbers = [int(data.split()[0]) for data in received if data]
        assert numbers == sorted(set(numbers))


def play(loop_factory, program):
    """The story of a program: its events, and the state after each step."""
    family, connected, reactions, steps = program
    loop = loop_factory()
    reported = []

    def report(_, context):
        # The name of the callback behind that is the transport's own.
        reported.append((context["message"].partition(" in callback")[0], type(context["exception"])))

    loop.set_exception_handler(report)
    story = []

    async def main(world):
        calls = {event: lambda p, deed=REACTIONS[name]: deed(p, world) for event, name in reactions.items()}
        protocol = DatagramRecorder(**calls)
        transport, _ = await loop.create_datagram_endpoint(lambda: protocol, sock=world.ours)
        for step in ("start", *steps):
            result = result_of(step, protocol, world) if step != "start" else None
            await settle()
            story.append((step, result, list(protocol.events), transport.is_closing()))
        # What is queued when all read is sent; what is not sent after that never will be.
        for _ in range(2):
            for peer in range(PEERS):
                world.read(peer)
            await settle()
        abort(protocol)
        await settle()
        for peer in range(PEERS):
            world.read(peer)
        check_story(protocol, world)
        senders = [world.addresses.index(sender) for _, sender in protocol.received]
        errors = [(type(error), str(error)) for error in protocol.errors]
        received = [[short(data) for data in datagrams] for datagrams in (protocol.payloads, *world.received)]
        story.append((received, senders, errors, type(protocol.lost_with), reported))

    with contextlib.ExitStack() as resources:
        loop.run_until_complete(asyncio.wait_for(main(World(family, connected, resources)), 20))
        loop.close()
    return story


@pytest.mark.cxxloop_only("compares cxxloop with asyncio")
@pytest.mark.parametrize("seed", range(10))
def test_same_story_as_asyncio(loop_factory, seed):
    check_stories(loop_factory, seed, make_program, play)
