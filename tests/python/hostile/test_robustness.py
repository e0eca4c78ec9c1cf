# SPDX-License-Identifier: MIT
"""Callbacks that do everything they may, at random: nothing crashes, nothing is told out of order, nothing leaks."""

import asyncio
import gc
import os
import random
import socket
import warnings
import weakref

import pytest

SEEDS = 200
SEEDS_PER_TEST = 20
ROUNDS = 60
TURNS_MAX = 500


class ProtocolBug(Exception):
    pass


class Story:
    """What one transport has told its protocols; complains when it could not have come next."""

    def __init__(self):
        self.state = "new"
        self.paused = False

    def tell(self, event):
        legal = {
            "new": {"made"},
            "open": {"data", "eof", "lost"},
            "ended": {"eof", "lost"},  # resumed after its end of file, asyncio tells it again
            "lost": set(),
        }
        if event in ("pause", "resume"):
            assert self.state in ("open", "ended"), f"{event} when {self.state}"
            assert self.paused == (event == "resume"), f"{event} twice"
            self.paused = event == "pause"
            return
        assert event in legal[self.state], f"{event} when {self.state}"
        self.state = {"made": "open", "data": "open", "eof": "ended", "lost": "lost"}[event]


class Chaos:
    """A loop, its transports, and dice to decide what happens to them."""

    def __init__(self, loop, seed):
        self.loop = loop
        self.dice = random.Random(seed)
        self.stories = []
        self.transports = []  # strong references, which may be dropped at any time
        self.witnesses = []  # weak references to everything made
        self.dropped = []  # stories that may end without connection_lost(): nobody holds their transport
        self.broken = []
        self.reports = []  # errors that are not of our making
        self.watched = []  # pairs of sockets with a reader or writer
        self.calm = False
        self.depth = 0
        self.in_get_buffer = False
        loop.set_exception_handler(self.on_report)

    def on_report(self, loop, context):
        error = context.get("exception")
        if not isinstance(error, (ProtocolBug, OSError)):
            self.reports.append(f"{context['message']}: {error!r}")

    def tell(self, story, event):
        try:
            story.tell(event)
        except AssertionError as error:
            self.broken.append(str(error))

    def make_protocol(self, story=None):
        if story is None:
            story = Story()
            self.stories.append(story)
        protocol = self.dice.choice((ChaosProtocol, ChaosBufferedProtocol))(self, story)
        self.witnesses.append(weakref.ref(protocol))
        return protocol

    def connect(self):
        for sock in socket.socketpair():
            sock.setblocking(False)
            self.loop.create_task(self.loop.connect_accepted_socket(self.make_protocol, sock)).add_done_callback(
                lambda task: task.cancelled() or task.exception()
            )

    def watch(self):
        near, far = socket.socketpair()
        self.watched.append((near, far))
        far.send(b"x")
        self.loop.add_reader(near, self.react)
        self.loop.add_writer(near, self.unwatch, near)

    def unwatch(self, near):
        self.loop.remove_writer(near)
        self.react()

    def react(self, *_):
        """Any deed, in the middle of a callback. May raise."""
        if not self.calm and self.depth < 3 and self.dice.random() < 0.5:
            self.act()

    def act(self):
        self.depth += 1
        try:
            self.dice.choice(DEEDS)(self)
        finally:
            self.depth -= 1

    def any_transport(self):
        return self.dice.choice(self.transports) if self.transports else None

    def turn(self):
        self.loop.call_soon(self.loop.stop)
        try:
            self.loop.run_forever()
        except SystemExit:
            pass

    def play(self):
        for _ in range(3):
            self.connect()
        for _ in range(ROUNDS):
            try:
                self.act()
            except (ProtocolBug, SystemExit):
                pass
            self.turn()
        self.calm = True
        for _ in range(TURNS_MAX):
            for transport in self.transports:
                transport.abort()
            self.transports.clear()
            self.turn()
            gc.collect(0)
            if all(story.state == "lost" for story in self.stories) and not asyncio.all_tasks(self.loop):
                break
        lost = [story for story in self.stories if story.state == "lost" or story in self.dropped]
        if len(lost) < len(self.stories):
            self.broken.append("connection_lost() was never called")
        for near, far in self.watched:
            self.loop.remove_reader(near)
            self.loop.remove_writer(near)
            near.close()
            far.close()
        self.watched.clear()


class ChaosBase:
    transport = None

    def __init__(self, chaos, story):
        self.chaos = chaos
        self.story = story

    def connection_made(self, transport):
        self.chaos.tell(self.story, "made")
        self.chaos.transports.append(transport)
        self.chaos.witnesses.append(weakref.ref(transport))
        self.transport = transport
        self.chaos.react()

    def eof_received(self):
        self.chaos.tell(self.story, "eof")
        self.chaos.react()
        return self.chaos.dice.random() < 0.5

    def connection_lost(self, exc):
        self.chaos.tell(self.story, "lost")
        if self.transport in self.chaos.transports:
            self.chaos.transports.remove(self.transport)
        self.chaos.react()

    def pause_writing(self):
        self.chaos.tell(self.story, "pause")
        self.chaos.react()

    def resume_writing(self):
        self.chaos.tell(self.story, "resume")
        self.chaos.react()


class ChaosProtocol(ChaosBase, asyncio.Protocol):
    def data_received(self, data):
        assert data
        self.chaos.tell(self.story, "data")
        self.chaos.react()


class ChaosBufferedProtocol(ChaosBase, asyncio.BufferedProtocol):
    def get_buffer(self, sizehint):
        self.chaos.in_get_buffer = True
        try:
            self.chaos.react()
        finally:
            self.chaos.in_get_buffer = False
        return bytearray(self.chaos.dice.choice((1, 100, 10_000)))

    def buffer_updated(self, nbytes):
        assert nbytes > 0
        self.chaos.tell(self.story, "data")
        self.chaos.react()


def on_transport(deed):
    def on_any(chaos):
        transport = chaos.any_transport()
        if transport is not None:
            deed(chaos, transport)

    return on_any


def write(chaos, transport):
    if not transport.is_closing():
        try:
            transport.write(bytes(chaos.dice.choice((1, 1000, 70_000, 500_000))))
        except RuntimeError:
            pass  # after write_eof()


def write_lines(chaos, transport):
    if not transport.is_closing():
        try:
            transport.writelines([b"one", bytearray(5000), memoryview(b"three")])
        except RuntimeError:
            pass


def set_limits(chaos, transport):
    if transport.get_protocol() is not None:
        transport.set_write_buffer_limits(high=chaos.dice.choice((0, 10, 1000, 64 * 1024)))


def change_protocol(chaos, transport):
    old = transport.get_protocol()
    # The protocol that gave a buffer is not asked whether it is still there when the buffer is full.
    if isinstance(old, ChaosBase) and not transport.is_closing() and not chaos.in_get_buffer:
        new = chaos.make_protocol(old.story)
        new.transport = transport
        transport.set_protocol(new)


def end(chaos, transport):
    try:
        transport.write_eof()
    except OSError:
        pass  # the peer has gone; asyncio tells whoever ends


def drop(chaos):
    """The last reference of ours; the loop may have others."""
    if chaos.transports and chaos.dice.random() < 0.3:
        transport = chaos.any_transport()
        chaos.transports.remove(transport)
        chaos.dropped.append(transport.get_protocol().story)


def close_loop(chaos):
    if chaos.loop.is_running():
        with pytest.raises(RuntimeError):
            chaos.loop.close()


def fail(chaos):
    raise ProtocolBug("bug")


def leave(chaos):
    if chaos.dice.random() < 0.3:
        raise SystemExit


DEEDS = (
    *[on_transport(write)] * 5,
    on_transport(write_lines),
    on_transport(set_limits),
    on_transport(change_protocol),
    on_transport(end),
    on_transport(lambda chaos, transport: transport.pause_reading()),
    on_transport(lambda chaos, transport: transport.resume_reading()),
    on_transport(lambda chaos, transport: transport.resume_reading()),
    on_transport(lambda chaos, transport: transport.close()),
    on_transport(lambda chaos, transport: transport.abort()),
    on_transport(lambda chaos, transport: repr(transport) and transport.get_write_buffer_size()),
    lambda chaos: len(chaos.stories) < 16 and chaos.connect(),
    lambda chaos: len(chaos.watched) < 4 and chaos.watch(),
    lambda chaos: chaos.watched and chaos.loop.remove_reader(chaos.dice.choice(chaos.watched)[0]),
    lambda chaos: chaos.loop.call_soon(chaos.react),
    lambda chaos: chaos.loop.call_later(0, chaos.react),
    lambda chaos: chaos.loop.call_later(0.001, chaos.react).cancel(),
    lambda chaos: chaos.loop.call_soon_threadsafe(chaos.react),
    lambda chaos: chaos.loop.stop() if chaos.loop.is_running() else None,
    lambda chaos: gc.collect(chaos.dice.choice((0, 0, 0, 1))),
    drop,
    close_loop,
    fail,
    leave,
)


def descriptors():
    return set(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("first_seed", range(0, SEEDS, SEEDS_PER_TEST))
def test_callbacks_may_do_everything(loop_name, loop_factory, first_seed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # transports are dropped on purpose
        for seed in range(first_seed, first_seed + SEEDS_PER_TEST):
            gc.collect()
            before = descriptors()
            loop = loop_factory()
            loop.set_debug(False)
            chaos = Chaos(loop, seed)
            chaos.play()
            loop.set_exception_handler(None)
            loop.close()
            assert chaos.broken == [], f"seed {seed}"
            # asyncio's own transport trips over itself now and then: it closes a socket twice or sends nothing.
            assert chaos.reports == [] or loop_name == "asyncio", f"seed {seed}"
            stories, witnesses = chaos.stories, chaos.witnesses
            del chaos, loop
            gc.collect()
            assert [w() for w in witnesses if w() is not None] == [], f"seed {seed}: objects leak"
            assert descriptors() <= before, f"seed {seed}: descriptors leak"
            assert len(stories) >= 6
