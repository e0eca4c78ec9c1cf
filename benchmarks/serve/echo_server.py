# SPDX-License-Identifier: MIT
"""One echo server for every loop and every way asyncio offers to read and write.

Prints {"port": N} and serves until its stdin closes or SIGTERM comes, so it cannot outlive the runner that started it.
"""

import argparse
import asyncio
import contextlib
import json
import os
import pkgutil
import socket
import threading
from collections.abc import Awaitable, Callable

HOST = "127.0.0.1"
BACKLOG = 1024
READ_BYTES = 64 * 1024
BUFFER_BYTES = 128 * 1024  # Takes the largest message of the suite whole.


class EchoProtocol(asyncio.Protocol):
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class BufferedEchoProtocol(asyncio.BufferedProtocol):
    transport: asyncio.Transport

    def __init__(self) -> None:
        self.buffer = memoryview(bytearray(BUFFER_BYTES))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        # A copy: what the socket does not take at once is still queued when the next read fills the buffer again.
        self.transport.write(bytes(self.buffer[:nbytes]))


class DatagramEcho(asyncio.DatagramProtocol):
    transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(data, addr)


class ReadinessEcho:
    """One connection served by add_reader, and by add_writer while the peer does not take its echo."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> None:
        self.loop = loop
        self.sock = sock
        self.fd = sock.fileno()  # Not every loop takes the socket itself.
        self.unsent = b""
        loop.add_reader(self.fd, self.on_readable)

    def on_readable(self) -> None:
        try:
            data = self.sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if not data:
            self.loop.remove_reader(self.fd)
            self.sock.close()
            return
        sent = self.sock.send(data)
        if sent < len(data):
            self.unsent = data[sent:]
            self.loop.remove_reader(self.fd)
            self.loop.add_writer(self.fd, self.on_writable)

    def on_writable(self) -> None:
        self.unsent = self.unsent[self.sock.send(self.unsent) :]
        if not self.unsent:
            self.loop.remove_writer(self.fd)
            self.loop.add_reader(self.fd, self.on_readable)


def announce(port: int) -> None:
    print(json.dumps({"port": port}), flush=True)


async def serve_forever(server: asyncio.Server) -> None:
    announce(server.sockets[0].getsockname()[1])
    # Not server.serve_forever(): rloop starts serving a second time there, and stops listening.
    await asyncio.get_running_loop().create_future()


async def accept_forever(serve: Callable[[socket.socket], None]) -> None:
    loop = asyncio.get_running_loop()
    with socket.create_server((HOST, 0), backlog=BACKLOG) as listener:
        listener.setblocking(False)
        announce(listener.getsockname()[1])
        while True:
            sock, _ = await loop.sock_accept(listener)
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            serve(sock)


async def serve_protocol(size: int) -> None:
    loop = asyncio.get_running_loop()
    await serve_forever(await loop.create_server(EchoProtocol, HOST, 0, backlog=BACKLOG))


async def serve_buffered(size: int) -> None:
    loop = asyncio.get_running_loop()
    await serve_forever(await loop.create_server(BufferedEchoProtocol, HOST, 0, backlog=BACKLOG))


async def serve_streams(size: int) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(READ_BYTES):
            writer.write(data)
            await writer.drain()
        writer.close()

    await serve_forever(await asyncio.start_server(echo, HOST, 0, backlog=BACKLOG))


async def serve_streams_exactly(size: int) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(await reader.readexactly(size))
                await writer.drain()
        except asyncio.IncompleteReadError:
            writer.close()

    await serve_forever(await asyncio.start_server(echo, HOST, 0, backlog=BACKLOG))


async def serve_sock(size: int) -> None:
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()

    async def echo(sock: socket.socket) -> None:
        with sock:
            while data := await loop.sock_recv(sock, READ_BYTES):
                await loop.sock_sendall(sock, data)

    def start(sock: socket.socket) -> None:
        task = loop.create_task(echo(sock))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    await accept_forever(start)


async def serve_reader(size: int) -> None:
    loop = asyncio.get_running_loop()

    def start(sock: socket.socket) -> None:
        ReadinessEcho(loop, sock)  # Kept alive by its registration in the loop.

    await accept_forever(start)


def bound_udp_socket() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    # Room for a message of every client: what the kernel drops is not the loop's fault, but distorts the comparison.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    sock.bind((HOST, 0))
    return sock


async def serve_udp(size: int) -> None:
    loop = asyncio.get_running_loop()
    sock = bound_udp_socket()
    await loop.create_datagram_endpoint(DatagramEcho, sock=sock)
    announce(sock.getsockname()[1])
    await loop.create_future()


async def serve_sock_udp(size: int) -> None:
    loop = asyncio.get_running_loop()
    with bound_udp_socket() as sock:
        announce(sock.getsockname()[1])
        while True:
            data, address = await loop.sock_recvfrom(sock, READ_BYTES)
            await loop.sock_sendto(sock, data, address)


MODES: dict[str, Callable[[int], Awaitable[None]]] = {
    "protocol": serve_protocol,
    "buffered": serve_buffered,
    "streams": serve_streams,
    "streams-exactly": serve_streams_exactly,
    "sock": serve_sock,
    "reader": serve_reader,
    "udp": serve_udp,
    "sock-udp": serve_sock_udp,
}


def cancel_when_stdin_closes(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]) -> None:
    def wait() -> None:
        # Not sys.stdin: its lock, held by this thread, would abort an interpreter that ends for another reason.
        while os.read(0, 4096):
            pass
        loop.call_soon_threadsafe(task.cancel)

    threading.Thread(target=wait, daemon=True).start()


async def serve(mode: str, size: int) -> None:
    task = asyncio.current_task()
    assert task is not None
    cancel_when_stdin_closes(asyncio.get_running_loop(), task)
    await MODES[mode](size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loop", required=True, help="module with new_event_loop(): asyncio, uvloop, rloop, cxxloop...")
    parser.add_argument("--mode", required=True, choices=MODES)
    parser.add_argument("--size", type=int, default=1024, help="bytes of a message, for streams-exactly")
    arguments = parser.parse_args()
    factory = pkgutil.resolve_name(f"{arguments.loop}:new_event_loop")
    with asyncio.Runner(loop_factory=factory) as runner, contextlib.suppress(asyncio.CancelledError):
        runner.run(serve(arguments.mode, arguments.size))


if __name__ == "__main__":
    main()
