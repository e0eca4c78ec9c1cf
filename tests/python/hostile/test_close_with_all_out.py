# SPDX-License-Identifier: MIT
"""A loop is closed while the kernel has something of everything it serves: nothing may be freed that the kernel still has.

On the backend "late" under AddressSanitizer this finds an owner that does not wait.
"""

import asyncio
import contextlib
import gc
import os
import socket

import pytest
from recorder import BufferedRecorder, Recorder, tcp_sockets

BLOCK = b"x" * 100_000


async def fill_up(transport):
    """Writes until the kernel is full and more is queued."""
    while transport.get_write_buffer_size() == 0:
        transport.write(BLOCK)
    transport.write(BLOCK)


async def everything(loop, keep):
    """Leaves reads, sends, accepts, polls and datagrams out. `keep` closes the descriptors that nobody else does."""
    held = []
    for protocol in Recorder(), BufferedRecorder():
        near, far = tcp_sockets()
        keep.enter_context(far)
        transport, _ = await loop.create_connection(lambda protocol=protocol: protocol, sock=near)
        await fill_up(transport)
        held.append(transport)
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    client = keep.enter_context(socket.create_connection(server.sockets[0].getsockname()))
    client.sendall(b"unread")
    endpoint, _ = await loop.create_datagram_endpoint(Recorder, local_addr=("127.0.0.1", 0))
    endpoint.sendto(b"to myself", endpoint.get_extra_info("sockname"))
    watched, other = map(keep.enter_context, socket.socketpair())
    watched.setblocking(False)
    loop.add_reader(watched, print, "never")
    other.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            other.send(BLOCK)
    loop.add_writer(other, print, "never")
    receiving, _ = map(keep.enter_context, socket.socketpair())
    receiving.setblocking(False)
    task = loop.create_task(loop.sock_recv(receiving, 10))
    read_end, write_end = os.pipe()
    keep.callback(os.close, write_end)
    pipe, _ = await loop.connect_read_pipe(Recorder, os.fdopen(read_end, "rb", 0))
    await asyncio.sleep(0)
    return [*held, server, endpoint, task, pipe]


@pytest.mark.parametrize("last", ["nothing", "write", "pause", "close", "abort", "drop"])
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_loop_is_closed_with_everything_out(loop_factory, last, asyncio_records):
    with contextlib.ExitStack() as keep:
        loop = loop_factory()
        held = loop.run_until_complete(everything(loop, keep))
        streams = held[:2]
        for transport in streams:
            if last == "write":
                transport.write(b"more")
            elif last == "pause":
                transport.pause_reading()
            elif last in ("close", "abort"):
                getattr(transport, last)()
        if last == "drop":
            held.clear()
            streams.clear()
            gc.collect()
        loop.close()
        gc.collect()
        for transport in streams:
            assert "fd=" in repr(transport)
        held.clear()
        streams.clear()
        del transport, loop
        gc.collect()


def test_what_was_written_before_the_end_arrives(loop_factory):
    near, far = tcp_sockets()
    with far:
        loop = loop_factory()

        async def main():
            transport, _ = await loop.create_connection(Recorder, sock=near)
            return transport

        transport = loop.run_until_complete(main())
        loop.call_soon(transport.write, b"last words")
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()
        far.settimeout(10)
        assert far.recv(100) == b"last words"
        with pytest.warns(ResourceWarning, match="unclosed transport"):
            del transport
            gc.collect()
