# SPDX-License-Identifier: MIT
"""loop.sendfile() on a TCP transport: by the kernel, by the fallback, and what it leaves behind."""

import asyncio
import contextlib
import io
import socket

import pytest
from recorder import Recorder, attached, receive, receive_all, reset

CONTENT = bytes(range(256)) * 4 * 4096  # 4 MiB, more than a kernel takes at once


def make_file(kind, path):
    if kind == "memory":
        return io.BytesIO(CONTENT)
    path.write_bytes(CONTENT)
    return path.open("rb")


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_sendfile_between_writes(loop, run, tmp_path, kind):
    async def main():
        async with attached() as (transport, protocol, peer):
            with make_file(kind, tmp_path / "file") as file:
                transport.write(b"head")
                expected = 4 + len(CONTENT)
                sent, received = await asyncio.gather(loop.sendfile(transport, file), receive(peer, expected))
                assert sent == len(CONTENT)
                assert received == b"head" + CONTENT
                assert await loop.sendfile(transport, file, 10, 5) == 5
                assert file.tell() == 15
            transport.write(b"tail")
            assert await receive(peer, 9) == CONTENT[10:15] + b"tail"
            assert transport.get_protocol() is protocol
            assert transport.is_reading()
            await loop.sock_sendall(peer, b"still read")
            await protocol.until_bytes(10)

    run(main(), timeout=30)


def test_without_fallback_what_is_no_file_is_refused(loop, run):
    async def main():
        async with attached() as (transport, _, peer):
            with pytest.raises(asyncio.SendfileNotAvailableError):
                await loop.sendfile(transport, io.BytesIO(CONTENT), fallback=False)
            transport.close()
            assert await receive_all(peer) == b""

    run(main())


def test_peer_that_leaves_ends_the_fallback(loop, run):
    async def main():
        async with attached() as (transport, protocol, peer):
            sending = asyncio.ensure_future(loop.sendfile(transport, io.BytesIO(CONTENT)))
            await receive(peer, 1024)
            reset(peer)
            with pytest.raises(ConnectionError):
                await sending
            await protocol.until_event("connection_lost")

    run(main())


def sending_file(loop, transport, path):
    """loop.sendfile() of more than the kernel takes at once, as a task."""
    path.write_bytes(CONTENT)

    async def send():
        with path.open("rb") as file:
            return await loop.sendfile(transport, file)

    return loop.create_task(send())


async def end_while_sending(loop, path, end):
    ours, peer = socket.socketpair()
    with peer:
        peer.setblocking(False)
        transport, protocol = await loop.create_connection(Recorder, sock=ours)
        sending = sending_file(loop, transport, path)
        await receive(peer, 1024)
        with contextlib.suppress(BlockingIOError):  # there is room: the loop is about to send on
            while True:
                peer.recv(1 << 20)
        getattr(transport, end)()
        with pytest.raises(OSError, match="Bad file descriptor"):
            await sending
        await protocol.until_event("connection_lost")
        assert protocol.lost_with is None


def check_reports(reported):
    # asyncio tells the waiter of the queue a second time, which is drained since sendfile() began.
    assert [type(context["exception"]) for context in reported] == [asyncio.InvalidStateError]
    assert "Transport._call_connection_lost(" in reported[0]["message"]


def test_abort_ends_sendfile(loop, run, tmp_path, reported):
    run(end_while_sending(loop, tmp_path / "file", "abort"))
    check_reports(reported)


@pytest.mark.cxxloop_only("asyncio's close() stops watching, and sendfile() waits for ever")
def test_close_ends_sendfile(loop, run, tmp_path, reported):
    run(end_while_sending(loop, tmp_path / "file", "close"))
    check_reports(reported)


def test_second_sendfile_is_refused_and_harms_nothing(loop, run, tmp_path):
    async def main():
        async with attached() as (transport, protocol, peer):
            sending = sending_file(loop, transport, tmp_path / "file")
            await receive(peer, 1024)
            with (tmp_path / "file").open("rb") as file, pytest.raises(KeyError):
                await loop.sendfile(transport, file)
            await receive(peer, len(CONTENT) - 1024)
            assert await sending == len(CONTENT)
            transport.write(b"tail")
            assert await receive(peer, 4) == b"tail"
            assert transport.is_reading()
            peer.send(b"still read")
            await protocol.until_bytes(10)

    run(main())


def test_peer_that_leaves_ends_sendfile_and_the_connection(loop, run, tmp_path):
    async def main():
        async with attached() as (transport, protocol, peer):
            sending = sending_file(loop, transport, tmp_path / "file")
            await receive(peer, 1024)
            reset(peer)
            with pytest.raises(ConnectionError):
                await sending
            await protocol.until_event("connection_lost")

    run(main())


def test_loop_may_be_closed_while_a_file_is_sent(run_script):
    run_script(
        """
        import gc, os, socket, tempfile
        loop = new_loop()
        a, b = socket.socketpair()

        async def main():
            transport, _ = await loop.create_connection(asyncio.Protocol, sock=a)
            transport.write(b"x" * 4_000_000)  # the file waits behind it
            file = tempfile.TemporaryFile()
            file.write(b"y" * 1000)
            sending.append(loop.create_task(loop.sendfile(transport, file)))
            await asyncio.sleep(0.01)

        sending = []
        loop.run_until_complete(main())
        loop.close()
        del loop
        sending.clear()
        gc.collect()
        """
    )
