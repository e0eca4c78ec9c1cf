# SPDX-License-Identifier: MIT
"""What programs do to a TLS connection inside its callbacks: close it, replace its parts, leave the loop, collect garbage."""

import asyncio
import contextlib
import gc
import ssl
import weakref

import pytest
from recorder import BufferedRecorder, Recorder
from tls_peer import connecting, make_client_context


@pytest.fixture(scope="module")
def client_context():
    return make_client_context(ssl.TLSVersion.TLSv1_3)


# --- lines that do more than to be written ---------------------------------------------------------------------


@pytest.mark.parametrize(("end", "sent"), [("close", b"first"), ("abort", b"")])
def test_lines_that_end_the_connection(run, connect, reported, end, sent):
    def lines(transport):
        yield b"first"
        getattr(transport, end)()
        yield b"second"

    async def main():
        async with connect() as (served, peer):
            served.transport.writelines(lines(served.transport))
            received = b""
            with contextlib.suppress(EOFError, ConnectionResetError):
                received = await peer.read(11)
            assert received == sent
            if end == "close":
                await peer.send(peer.close_notify())
            await served.until_event("connection_lost")
            assert served.lost_with is None
        assert reported == []

    run(main())


def test_lines_that_write(run, connect):
    def lines(transport):
        yield b"first "
        transport.write(b"inner ")
        yield b"second"

    async def main():
        async with connect() as (served, peer):
            served.transport.writelines(lines(served.transport))
            assert await peer.read(18) == b"first inner second"

    run(main())


def test_lines_that_fail(run, connect):
    def lines():
        yield b"first "
        raise LookupError("no more")

    async def main():
        async with connect() as (served, peer):
            with pytest.raises(LookupError, match="no more"):
                served.transport.writelines(lines())
            served.transport.write(b"second")
            assert await peer.read(12) == b"first second"

    run(main())


@pytest.mark.parametrize("lines", [None, 5, [b"data", 5]], ids=repr)
def test_what_are_no_lines(run, connect, lines):
    async def main():
        async with connect() as (served, _):
            with pytest.raises(TypeError):
                served.transport.writelines(lines)

    run(main())


# --- parts replaced under way ----------------------------------------------------------------------------------


class Stranger:
    """An object in the place of an SSLObject that delivers ten bytes and then nothing."""

    def __init__(self, original):
        self.original = original
        self.left = 10

    def read(self, size, buffer=None):
        if self.left == 0:
            raise ssl.SSLWantReadError
        count, self.left = min(size, self.left), 0
        if buffer is None:
            return b"s" * count
        buffer[:count] = b"s" * count
        return count

    def __getattr__(self, name):
        return getattr(self.original, name)


def give_buffer(recorder):
    return memoryview(recorder.buffer)


def test_the_tls_object_is_replaced_in_get_buffer(run, connect):
    def replace(recorder):
        protocol = recorder.transport._ssl_protocol
        if type(protocol._sslobj) is not Stranger:
            protocol._sslobj = Stranger(protocol._sslobj)
        return memoryview(recorder.buffer)

    async def main():
        served = BufferedRecorder(100, get_buffer=give_buffer)
        async with connect(served) as (served, peer):
            served.reactions["get_buffer"] = replace
            await peer.send(peer.encrypted(b"data"))
            await served.until_bytes(10)
            assert bytes(served.data) == b"s" * 10

    run(main())


def clear(owner, name):
    setattr(owner, name, None)


@pytest.mark.parametrize("remove", [clear, delattr], ids=lambda remove: remove.__name__)
@pytest.mark.parametrize("name", ["_incoming", "_sslobj"])
@pytest.mark.parametrize("event", ["get_buffer", "buffer_updated"])
def test_part_is_missing_after_a_callback(run, connect, reported, event, name, remove):
    def take_away(recorder):
        if hasattr(recorder.transport._ssl_protocol, name):
            remove(recorder.transport._ssl_protocol, name)
        return memoryview(recorder.buffer)

    async def main():
        served = BufferedRecorder(100, get_buffer=give_buffer)
        async with connect(served) as (served, peer):
            served.reactions[event] = take_away
            await peer.send(peer.encrypted(b"data"))
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(served.until_event("connection_lost"), 0.1)
            if not served.is_lost:  # asyncio has not noticed yet
                await peer.send(peer.encrypted(b"more"))
                await served.until_event("connection_lost")
        assert {type(context["exception"]) for context in reported} == {AttributeError}
        reported.clear()

    run(main())


# --- exits -----------------------------------------------------------------------------------------------------


def leave(recorder):
    raise KeyboardInterrupt("enough")


@pytest.mark.parametrize("kind", [Recorder, lambda **r: BufferedRecorder(100, **r)], ids=["Protocol", "BufferedProtocol"])
@pytest.mark.parametrize("event", ["connection_made", "data_received", "eof_received", "pause_writing", "connection_lost"])
def test_exit_inside_a_callback_leaves_the_loop(loop, run, server_context, client_context, kind, event):
    if kind is not Recorder and event == "data_received":
        event = "buffer_updated"
    reactions = {"get_buffer": lambda recorder: memoryview(recorder.buffer)} if kind is not Recorder else {}
    served = kind(**reactions, **{event: leave})
    stack = contextlib.AsyncExitStack()

    async def main():
        _, peer = await stack.enter_async_context(connecting(server_context, client_context, served))
        await peer.handshake()
        await peer.send(peer.encrypted(b"data"))
        if event in ("eof_received", "connection_lost"):
            await peer.send(peer.close_notify())
        if event == "pause_writing":
            await served.until_event("connection_made")
            for _ in range(2):
                served.transport.write(bytes(4 << 20))
        await asyncio.sleep(5)

    task = loop.create_task(main())
    with pytest.raises(KeyboardInterrupt, match="enough"):
        loop.run_until_complete(task)

    async def end():
        assert await asyncio.sleep(0, "the loop works on") == "the loop works on"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if served.transport is not None:
            served.transport.abort()
        with contextlib.suppress(asyncio.TimeoutError):
            await stack.aclose()

    if event == "pause_writing":
        # The exit came out of write(), inside the task, and is its result.
        with contextlib.suppress(KeyboardInterrupt):
            run(end())
    else:
        run(end())


# --- garbage ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", ["connection_made", "data_received", "eof_received", "pause_writing"])
def test_garbage_is_collected_inside_a_callback(run, connect, event):
    async def main():
        served = Recorder(**{event: lambda _: gc.collect() and None})
        async with connect(served) as (served, peer):
            await peer.send(peer.encrypted(b"data"))
            await served.until_bytes(4)
            for _ in range(2):
                served.transport.write(bytes(1 << 20))
            assert len(await peer.read(2 << 20)) == 2 << 20
            await peer.send(peer.close_notify())
            await served.until_event("connection_lost")

    run(main(), timeout=20)


def test_connection_dies_with_its_last_reference(loop, run, server_context, client_context):
    async def main():
        async with connecting(server_context, client_context) as (served, peer):
            await peer.handshake()
            await served.until_event("connection_made")
            dead = [weakref.ref(served.transport), weakref.ref(served.transport._ssl_protocol)]
            served.transport.abort()
            await served.until_event("connection_lost")
            served.transport = None
        await asyncio.sleep(0)
        gc.collect()
        assert [ref() for ref in dead] == [None, None]

    run(main())


def test_exit_inside_get_buffer_loses_no_bytes(loop, run, server_context, client_context):
    armed = []

    def give(recorder):
        if armed:
            armed.pop()
            raise KeyboardInterrupt("enough")
        return memoryview(recorder.buffer)

    served = BufferedRecorder(100, get_buffer=give)
    stack = contextlib.AsyncExitStack()

    async def begin():
        _, peer = await stack.enter_async_context(connecting(server_context, client_context, served))
        await peer.handshake()
        await served.until_event("connection_made")
        return peer

    peer = run(begin())
    armed.append(1)

    async def send(data):
        await peer.send(peer.encrypted(data))
        await served.until_bytes(100)

    first = loop.create_task(send(b"first"))
    with pytest.raises(KeyboardInterrupt, match="enough"):
        loop.run_until_complete(first)

    async def end():
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await peer.send(peer.encrypted(b"second"))
        await served.until_bytes(11)
        assert bytes(served.data) == b"firstsecond"
        await stack.aclose()

    run(end())


@pytest.mark.cxxloop_only("asyncio feeds what is left in its own buffer")
def test_bytes_in_the_buffer_of_a_replaced_protocol_may_move_while_they_are_read(run, connect):
    buffer = bytearray()

    class Replaced(asyncio.BufferedProtocol):
        def get_buffer(self, sizehint):
            below.set_protocol(tls)
            buffer.extend(bytes(200_000))
            return buffer

    served = BufferedRecorder(100_000, get_buffer=lambda _: buffer.clear())

    async def main():
        nonlocal below, tls
        async with connect(served) as (_, peer):
            tls = served.transport._ssl_protocol
            below = tls._transport
            below.set_protocol(Replaced())
            await peer.send(peer.encrypted(b"hello" * 3000))
            await served.until_bytes(15_000)
            assert bytes(served.data) == b"hello" * 3000
            assert not buffer

    below = tls = None
    run(main())


@pytest.mark.cxxloop_only("asyncio goes round and round")
@pytest.mark.parametrize("count", [-5, 10_000_000])
def test_ssl_object_of_the_program_that_miscounts(run, reported, connect, count):
    class Miscounting:
        def __init__(self, real):
            self.real = real

        def read(self, *args):
            return count

        def __getattr__(self, name):
            return getattr(self.real, name)

    async def main():
        async with connect() as (served, peer):
            protocol = served.transport._ssl_protocol
            wrapped = protocol._sslobj
            wrapped._sslobj = Miscounting(wrapped._sslobj)
            protocol._sslobj = wrapped
            await peer.send(peer.encrypted(b"data"))
            await served.until_event("connection_lost")
        assert [type(context["exception"]) for context in reported] == [ValueError]
        reported.clear()

    run(main())
