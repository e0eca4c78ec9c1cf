# SPDX-License-Identifier: MIT
"""loop.sendfile() on a TCP transport: by the kernel, by the fallback, and what it leaves behind."""

import asyncio
import io

import pytest
from recorder import attached, receive, receive_all, reset

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


def test_a_peer_that_leaves_ends_the_fallback(loop, run):
    async def main():
        async with attached() as (transport, protocol, peer):
            sending = asyncio.ensure_future(loop.sendfile(transport, io.BytesIO(CONTENT)))
            await receive(peer, 1024)
            reset(peer)
            with pytest.raises(ConnectionError):
                await sending
            await protocol.until_event("connection_lost")

    run(main())
