# SPDX-License-Identifier: MIT
"""Buffers other than bytes: what the kernel does not take at once is kept as asyncio of the running Python keeps it."""

import array
import asyncio
import contextlib
import gc
import mmap
import socket
import sys
import tempfile
import warnings
import weakref

import pytest
from recorder import Recorder, attached, fill, receive, receive_all

SIZE = 10_000_000
keeps_views = pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio copies before 3.12")


def write(transport, data):
    transport.write(data)


def writelines(transport, data):
    transport.writelines([b"", data])


WRITES = [write, pytest.param(writelines, marks=keeps_views)]


@keeps_views
@pytest.mark.parametrize("writing", [write, writelines])
@pytest.mark.parametrize("as_given", [lambda data: data, memoryview], ids=["bytearray", "memoryview"])
def test_large_buffer_is_kept_by_reference_until_it_was_sent(run, writing, as_given):
    async def main():
        async with attached() as (transport, protocol, peer):
            data = bytearray(b"x") * SIZE
            writing(transport, as_given(data))
            assert transport.get_write_buffer_size() > 0
            with pytest.raises(BufferError):
                data.append(0)
            assert await receive(peer, SIZE) == data
            await protocol.until(lambda _: transport.get_write_buffer_size() == 0)
            data.append(0)

    run(main())


class Array(array.array):
    pass


class Bytes(bytearray):
    pass


class Exporter:
    """Exports its memory as any class of the program may; calls back when the export ends."""

    def __init__(self, on_release=lambda: None, size=SIZE):
        self.memory = bytearray(b"x") * size
        self.on_release = on_release

    def __buffer__(self, flags):
        return memoryview(self.memory)

    def __release_buffer__(self, view):
        view.release()
        self.on_release()

    def append(self, item):
        self.memory.append(item)


@keeps_views
@pytest.mark.parametrize("writing", [write, writelines])
@pytest.mark.parametrize("make", [lambda: Array("B", b"x" * SIZE), lambda: Bytes(b"x" * SIZE), Exporter])
def test_large_view_of_any_exporter_is_kept_by_reference_until_it_was_sent(run, writing, make):
    async def main():
        async with attached() as (transport, protocol, peer):
            exporter = make()
            writing(transport, memoryview(exporter))
            assert transport.get_write_buffer_size() > 0
            with pytest.raises(BufferError):
                exporter.append(0)
            assert await receive(peer, SIZE) == b"x" * SIZE
            await protocol.until(lambda _: transport.get_write_buffer_size() == 0)
            exporter.append(0)

    run(main())


@keeps_views
def test_large_bytearray_of_a_derived_class_is_kept_by_reference(run):
    async def main():
        async with attached() as (transport, _, peer):
            data = Bytes(b"x" * SIZE)
            transport.write(data)
            with pytest.raises(BufferError):
                data.append(0)
            assert await receive(peer, SIZE) == b"x" * SIZE

    run(main())


@keeps_views
def test_buffer_can_be_resized_in_resume_writing(run):
    async def main():
        data = bytearray(b"x") * SIZE
        protocol = Recorder(resume_writing=lambda _: data.clear())
        async with attached(protocol) as (transport, _, peer):
            transport.set_write_buffer_limits(high=0)
            transport.write(data)
            assert await receive(peer, SIZE) == b"x" * SIZE
            await protocol.until_event("resume_writing")
            assert not data

    run(main())


@keeps_views
@pytest.mark.parametrize("writing", [write, writelines])
@pytest.mark.parametrize("ending", ["abort", "close"])
def test_buffer_may_end_the_connection_when_it_was_sent(run, writing, ending, logged_errors):
    async def main():
        async with attached() as (transport, protocol, peer):
            writing(transport, memoryview(Exporter(getattr(transport, ending))))
            assert await receive(peer, SIZE) == b"x" * SIZE
            assert await receive_all(peer) == b""
            await protocol.until_event("connection_lost")

    run(main())


@keeps_views
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # asyncio's transport ends before its queue
@pytest.mark.parametrize("writing", [write, writelines])
def test_buffer_may_end_the_connection_with_others_behind_it(run, writing, logged_errors):
    async def main():
        async with attached() as (transport, protocol, peer):
            for _ in range(3):
                writing(transport, memoryview(Exporter(transport.abort)))
            assert await receive(peer, SIZE) == b"x" * SIZE
            with contextlib.suppress(ConnectionResetError):
                assert len(await receive_all(peer)) < 2 * SIZE
            await protocol.until_event("connection_lost")

    run(main())


@keeps_views
@pytest.mark.prompt_only("the kernel may read the bytes until it has let go")
@pytest.mark.parametrize("writing", [write, writelines])
def test_buffer_may_write_when_abort_lets_go_of_it(run, writing):
    async def main():
        async with attached() as (transport, protocol, _):
            released = []

            def on_release():
                transport.write(b"too late")
                released.append(transport)

            for _ in range(3):
                writing(transport, memoryview(Exporter(on_release)))
            transport.abort()
            assert len(released) == 3
            await protocol.until_event("connection_lost")
            assert protocol.events.count("connection_lost") == 1

    run(main())


@keeps_views
@pytest.mark.prompt_only("the kernel may read the bytes until it has let go")
@pytest.mark.parametrize("writing", [write, writelines])
def test_what_abort_lets_go_of_schedules_before_connection_lost(run, writing):
    async def main():
        order = []
        loop = asyncio.get_running_loop()
        protocol = Recorder(connection_lost=lambda _: order.append("connection_lost"))
        async with attached(protocol) as (transport, _, _peer):
            writing(transport, memoryview(Exporter(lambda: loop.call_soon(order.append, "let go"))))
            transport.abort()
            await protocol.until_event("connection_lost")
            assert order == ["let go", "connection_lost"]

    run(main())


@keeps_views
@pytest.mark.prompt_only("the kernel may read the bytes until it has let go")
@pytest.mark.parametrize("writing", [write, writelines])
def test_buffer_may_close_the_loop_when_abort_lets_go_of_it(loop_factory, writing):
    loop = loop_factory()
    ours, theirs = socket.socketpair()
    with ours, theirs, warnings.catch_warnings(action="ignore"):
        ours.setblocking(False)
        transport, _ = loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=ours))
        for _ in range(3):
            writing(transport, memoryview(Exporter(loop.close)))
        with contextlib.suppress(RuntimeError):  # asyncio schedules connection_lost() behind it
            transport.abort()
        assert loop.is_closed()
        del transport


@keeps_views
def test_closing_the_loop_lets_go_of_the_buffer(loop_factory):
    loop = loop_factory()
    ours, theirs = socket.socketpair()
    released = []
    with ours, theirs, warnings.catch_warnings(action="ignore"):
        ours.setblocking(False)
        transport, _ = loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=ours))
        transport.write(memoryview(Exporter(lambda: released.append(True))))
        assert transport.get_write_buffer_size() > 0
        loop.close()
        transport.write(b"behind")
        del transport
    gc.collect()
    assert len(released) == 1


@keeps_views
def test_queued_buffer_that_refers_to_its_transport_is_collected_with_it(loop_factory):
    loop = loop_factory()
    ours, theirs = socket.socketpair()
    with ours, theirs, warnings.catch_warnings(action="ignore"):
        ours.setblocking(False)
        transport, _ = loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=ours))
        exporter = Exporter()
        exporter.transport = transport
        transport.write(memoryview(exporter))
        assert transport.get_write_buffer_size() > 0
        gone = weakref.ref(exporter)
        del exporter, transport, loop
        gc.collect()
        assert gone() is None


@keeps_views
@pytest.mark.cxxloop_only("asyncio ends the connection when its view was released")
@pytest.mark.parametrize("writing", [write, writelines])
def test_view_that_is_being_sent_cannot_be_released_by_who_finds_it(run, writing):
    async def main():
        async with attached() as (transport, _, peer):
            data = bytearray(b"x") * SIZE
            writing(transport, data)
            [view] = [found for found in gc.get_referents(transport) if isinstance(found, memoryview)]
            with pytest.raises(BufferError):
                view.release()
            with pytest.raises(BufferError):
                data.clear()
            del view
            assert await receive(peer, SIZE) == b"x" * SIZE
            data.clear()

    run(main())


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="asyncio keeps a view since 3.12")
def test_large_buffer_is_copied(run):
    async def main():
        async with attached() as (transport, _, peer):
            data = bytearray(b"x") * SIZE
            transport.write(data)
            assert transport.get_write_buffer_size() > 0
            data.clear()
            assert await receive(peer, SIZE) == b"x" * SIZE

    run(main())


@pytest.mark.prompt_only("the kernel may read the bytes until it has let go")
@pytest.mark.parametrize("writing", WRITES)
def test_abort_lets_go_of_the_buffer(run, writing):
    async def main():
        async with attached() as (transport, protocol, _):
            data = bytearray(SIZE)
            writing(transport, data)
            transport.abort()
            data.clear()
            await protocol.until_event("connection_lost")

    run(main())


def test_bytearray_behind_other_data_can_be_resized(run):
    async def main():
        async with attached() as (transport, _, peer):
            written = fill(transport)
            data = bytearray(b"behind" * 10_000)
            transport.write(data)
            data += b"."
            del data[60_000:]
            assert (await receive(peer, written + 60_000))[written:] == b"behind" * 10_000

    run(main())


@keeps_views
def test_view_behind_other_data_is_kept(run):
    async def main():
        async with attached() as (transport, _, peer):
            written = fill(transport)
            data = bytearray(b"behind" * 10_000)
            transport.write(memoryview(data))
            with pytest.raises(BufferError):
                data.clear()
            assert (await receive(peer, written + 60_000))[written:] == b"behind" * 10_000

    run(main())


@keeps_views
def test_what_was_not_sent_yet_can_still_be_changed(run):
    async def main():
        async with attached() as (transport, _, peer):
            data = bytearray(b"a") * SIZE
            transport.write(data)
            data[-5:] = b"later"
            assert (await receive(peer, SIZE))[-6:] == b"alater"

    run(main())


@pytest.mark.parametrize("writing", [write, writelines])
@pytest.mark.parametrize("size", [10, 5_000, 60_000])
@pytest.mark.parametrize("before", [0, 1, 200])
def test_what_the_kernel_takes_can_be_changed_and_resized_at_once(run, writing, size, before):
    async def main():
        async with attached() as (transport, _, peer):
            for _ in range(before):
                transport.write(b"<")
            data = bytearray(b"a") * size
            writing(transport, data)
            data[:] = b"changed"
            data.clear()
            assert await receive(peer, before + size) == b"<" * before + b"a" * size

    run(main())


@pytest.mark.parametrize("writing", WRITES)
def test_view_can_be_released_after_it_was_written(run, writing):
    async def main():
        async with attached() as (transport, _, peer):
            with memoryview(b"x" * SIZE) as view:
                writing(transport, view)
            assert await receive(peer, SIZE) == b"x" * SIZE

    run(main())


@pytest.mark.parametrize("writing", WRITES)
def test_mapped_file(run, writing):
    async def main():
        async with attached() as (transport, _, peer):
            with tempfile.TemporaryFile() as file:
                file.truncate(SIZE)
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                writing(transport, memoryview(mapped))
            assert await receive(peer, SIZE) == bytes(SIZE)

    run(main())


@pytest.mark.parametrize("writing", WRITES)
def test_buffer_of_a_programs_own_class_may_do_anything_when_it_is_let_go_of(run, writing, logged_errors):
    async def main():
        async with attached() as (transport, protocol, peer):

            class Buffer(bytearray):
                def __del__(self):
                    transport.abort()

            writing(transport, memoryview(Buffer(b"x" * SIZE)))
            try:
                await receive(peer, SIZE)
            except (EOFError, ConnectionResetError):
                pass  # let go of before all of it was sent
            await protocol.until_event("connection_lost")

    run(main())


@keeps_views
@pytest.mark.parametrize("writing", [write, writelines])
def test_buffer_that_writes_when_it_is_let_go_of_loses_nothing(run, writing):
    async def main():
        async with attached() as (transport, _, peer):

            class Buffer:
                def __init__(self):
                    self.memory = bytearray(b"x" * 400_000)

                def __buffer__(self, flags):
                    return memoryview(self.memory)

                def __release_buffer__(self, view):
                    view.release()
                    transport.write(b"released")

            written = fill(transport)
            for _ in range(4):
                writing(transport, memoryview(Buffer()))
            received = await receive(peer, written + 4 * (400_000 + len(b"released")))
            assert received.count(b"x" * 400_000) == received.count(b"released") == 4

    run(main())


@keeps_views
@pytest.mark.parametrize("method", ["__buffer__", "__release_buffer__"])
def test_buffer_that_closes_the_loop_during_its_write(loop_factory, method):
    loop = loop_factory()
    ours, theirs = socket.socketpair()

    class Buffer(bytearray):
        def __buffer__(self, flags):
            if method == "__buffer__":
                loop.close()
            return memoryview(b"x" * len(self))

        def __release_buffer__(self, view):
            view.release()
            if method == "__release_buffer__":
                loop.close()

    with ours, theirs, warnings.catch_warnings(action="ignore"):
        ours.setblocking(False)
        transport, _ = loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=ours))
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            transport.write(Buffer(SIZE))
        del transport
