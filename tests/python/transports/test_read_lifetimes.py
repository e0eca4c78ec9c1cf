# SPDX-License-Identifier: MIT
"""What dies, starts or stops while a read is under way: the protocol, its context, the last reference to the transport."""

import asyncio
import contextvars
import gc
import itertools
import socket
import weakref

import pytest
from recorder import BufferedRecorder, Recorder, attached, tcp_pair, turns

SIZE = 5000
variable = contextvars.ContextVar("variable", default=None)


class Clears:
    """Empties a bytearray with its last breath."""

    def __init__(self, target):
        self.target = target

    def __del__(self):
        self.target.clear()


def test_replaced_protocol_dies_before_its_buffer_is_measured(loop, run, reported):
    following = Recorder()
    buffer = bytearray(100_000)

    class Replaced(asyncio.BufferedProtocol):
        def connection_made(self, transport):
            self.transport = transport
            self.clears = Clears(buffer)

        def get_buffer(self, sizehint):
            self.transport.set_protocol(following)
            return buffer

    async def main():
        with tcp_pair() as (left, right):
            await loop.create_connection(Replaced, sock=left)
            right.sendall(bytes(SIZE))
            await following.until_event("connection_lost")

    run(main())
    assert str(following.lost_with) == "get_buffer() returned an empty buffer"
    assert [type(context["exception"]) for context in reported] == [RuntimeError]


def restart_in_another_context(transport):
    contextvars.Context().run(lambda: (transport.pause_reading(), transport.resume_reading()))


def test_context_of_a_read_lives_until_its_bytes_are_told(loop, run):
    buffer = bytearray(100_000)
    seen = []

    def restart(protocol):
        if len(buffer) == 0:
            return bytearray(10)
        if variable.get() is None:
            variable.set(Clears(buffer))
            restart_in_another_context(protocol.transport)
        return buffer

    protocol = BufferedRecorder(get_buffer=restart, buffer_updated=lambda _: seen.append(len(buffer)))
    stack = []

    async def connect():
        left, right = socket.socketpair()
        left.setblocking(False)
        await loop.create_connection(lambda: protocol, sock=left)
        stack.append(right)

    contextvars.Context().run(loop.run_until_complete, connect())
    [right] = stack
    right.send(bytes(SIZE))
    run(protocol.until_event("buffer_updated"))
    assert seen == [100_000]
    right.close()
    run(protocol.until_event("connection_lost"))


@pytest.mark.parametrize("event", ["buffer_updated", "eof_received"])
def test_read_is_told_in_the_context_that_its_buffer_was_asked_in(run, event):
    async def main():
        variable.set("outer")
        seen = []

        def restart(protocol):
            seen.append(variable.get())
            variable.set("of this read")
            restart_in_another_context(protocol.transport)

        protocol = BufferedRecorder(get_buffer=restart, **{event: lambda _: seen.append(variable.get())})
        async with attached(protocol) as (transport, _, peer):
            peer.send(b"x") if event == "buffer_updated" else peer.shutdown(socket.SHUT_WR)
            await protocol.until_event(event)
            assert seen == ["outer", "of this read"]
            transport.abort()
            await protocol.until_event("connection_lost")

    run(main())




STOPS = {"pause_reading": lambda transport: transport.pause_reading(), "abort": lambda transport: transport.abort()}


class Holder(asyncio.BufferedProtocol):
    """Has the only reference to the transport, stops it in get_buffer(), and goes."""

    def __init__(self, following, stop, buffer):
        self.following, self.stop, self.buffer = following, stop, buffer

    def connection_made(self, transport):
        self.transport = transport

    def get_buffer(self, sizehint):
        self.stop(self.transport)
        self.transport.set_protocol(self.following)
        return self.buffer


def connect_holder(loop, sock, *args):
    async def connect():
        transport, _ = await loop.create_connection(lambda: Holder(*args), sock=sock)
        return weakref.ref(transport)

    return loop.run_until_complete(connect())


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("make", [bytearray, lambda size: memoryview(bytearray(size))], ids=["bytearray", "memoryview"])
def test_last_reference_that_goes_in_get_buffer(loop, run, make, stop):
    """The read that is under way goes on, as asyncio's does; then the transport dies."""
    following = BufferedRecorder()
    following.buffer = make(100_000)
    left, right = socket.socketpair()
    left.setblocking(False)
    dead = connect_holder(loop, left, following, STOPS[stop], following.buffer)
    del left
    right.send(b"hello" * 1000)
    run(following.until_event("buffer_updated"))
    assert bytes(following.data) == b"hello" * 1000
    run(turns())
    gc.collect()
    assert dead() is None
    assert right.recv(1) == b""
    right.close()


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_last_reference_that_goes_in_get_buffer_with_nothing_to_read(loop, run):
    stolen = []

    def steal(transport):
        transport.pause_reading()
        stolen.append(left_number.recv(100))

    left, right = socket.socketpair()
    left.setblocking(False)
    left_number = left.dup()
    dead = connect_holder(loop, left, BufferedRecorder(), steal, bytearray(10))
    del left
    right.send(b"stolen")

    async def until_dead():
        while dead() is not None:
            await asyncio.sleep(0.001)
            gc.collect()

    run(until_dead())
    assert stolen == [b"stolen"]
    left_number.close()
    assert right.recv(1) == b""
    right.close()


# --- the end of the stream ------------------------------------------------------------------------------------

ACTS = ["pause_reading", "resume_reading", "close", "abort"]
PROGRAMS = [program for length in range(4) for program in itertools.product(ACTS, repeat=length)]


@pytest.mark.parametrize("kind", [Recorder, BufferedRecorder])
@pytest.mark.parametrize("keep", [True, False])
def test_end_of_the_stream_is_told_once_whatever_eof_received_does(run, kind, keep):
    async def main(program):
        def act(protocol):
            if protocol.events.count("eof_received") == 1:
                for method in program:
                    getattr(protocol.transport, method)()
            return keep

        async with attached(kind(eof_received=act)) as (transport, protocol, peer):
            peer.shutdown(socket.SHUT_WR)
            await protocol.until_event("eof_received")
            ends = not keep or "close" in program or "abort" in program
            assert transport.is_closing() is ends
            stays_paused = [act for act in program if act.endswith("_reading")][-1:] == ["pause_reading"]
            assert transport.is_reading() is not (ends or stays_paused)
            await turns(10)
            assert protocol.events.count("eof_received") == 1
            assert protocol.is_lost is ends
            if ends:
                return
            transport.pause_reading()
            transport.resume_reading()
            await protocol.until_event("eof_received", 2)
            transport.abort()
            await protocol.until_event("connection_lost")

    for program in PROGRAMS:
        run(main(program))
