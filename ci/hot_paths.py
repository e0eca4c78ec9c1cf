# SPDX-License-Identifier: MIT
"""The hot paths whose instructions ci/instructions counts: one of them N times and then 2 N times, under callgrind.

Everything happens in one process and, but for one path, in one thread; peers of a connection are not counted.
"""

import argparse
import asyncio
import ctypes
import gc
import select
import socket
import ssl
import sys
import threading
import time
from collections.abc import Awaitable, Callable

CALLS_PER_TURN = 100
CONNECTIONS = 16
MESSAGE = bytes(range(256)) * 4
READ_BYTES = 64 * 1024
DATAGRAM_PEERS = 4  # Few enough that none shares its place in the cache of addresses.
DATAGRAM_PORT = 20200
SO_MEMINFO = 55  # Of Linux; Python has no name for it.
# No thread takes the GIL from another that has not given it away: who runs when would depend on the clock.
SWITCH_INTERVAL_SECONDS = 1000.0

Loop = asyncio.AbstractEventLoop
Repeat = Callable[[int], None]  # Does the operation so many times.


class Counter:
    """Callgrind's counting, by way of callgrind_switch.cc."""

    def __init__(self, library: str, certificate: str) -> None:
        switch = ctypes.PyDLL(library)  # Not CDLL, which would give the GIL away.
        self.prepare, self.toggle, self.write = switch.prepare_counting, switch.toggle_counting, switch.write_count
        self.certificate = certificate

    def count(self, repeat: Repeat, times: int) -> None:
        self.toggle()
        repeat(times)
        self.toggle()
        self.write()


PATHS: dict[str, Callable[[Loop, Counter], Repeat]] = {}


def hot_path(make: Callable[[Loop, Counter], Repeat]) -> Callable[[Loop, Counter], Repeat]:
    PATHS[make.__name__] = make
    return make


def nothing() -> None:
    pass


def nothing_of_three(first: object, second: object, third: object) -> None:
    pass


async def nothing_async() -> None:
    pass


def in_turns(loop: Loop, schedule: Callable[[], None]) -> Repeat:
    """`schedule` makes CALLS_PER_TURN calls in each turn of the loop."""

    def repeat(times: int) -> None:
        turns_left = times // CALLS_PER_TURN

        def turn() -> None:
            nonlocal turns_left
            if turns_left == 0:
                loop.stop()
                return
            turns_left -= 1
            schedule()
            loop.call_soon(turn)

        loop.call_soon(turn)
        loop.run_forever()

    return repeat


def in_task(loop: Loop, main: Callable[[int], Awaitable[None]]) -> Repeat:
    async def start(times: int) -> None:
        await main(times)

    return lambda times: loop.run_until_complete(start(times))


@hot_path
def call_soon(loop: Loop, _: Counter) -> Repeat:
    def schedule() -> None:
        for _ in range(CALLS_PER_TURN):
            loop.call_soon(nothing)

    return in_turns(loop, schedule)


@hot_path
def call_soon_3_args(loop: Loop, _: Counter) -> Repeat:
    def schedule() -> None:
        for _ in range(CALLS_PER_TURN):
            loop.call_soon(nothing_of_three, 1, 2, 3)

    return in_turns(loop, schedule)


@hot_path
def call_soon_chain(loop: Loop, _: Counter) -> Repeat:
    def repeat(times: int) -> None:
        def link() -> None:
            nonlocal times
            times -= 1
            if times:
                loop.call_soon(link)
            else:
                loop.stop()

        loop.call_soon(link)
        loop.run_forever()

    return repeat


@hot_path
def call_later_cancel(loop: Loop, _: Counter) -> Repeat:
    def schedule() -> None:
        for _ in range(CALLS_PER_TURN):
            loop.call_later(100, nothing).cancel()

    return in_turns(loop, schedule)


@hot_path
def call_later_0(loop: Loop, _: Counter) -> Repeat:
    def schedule() -> None:
        for _ in range(CALLS_PER_TURN):
            loop.call_later(0, nothing)

    return in_turns(loop, schedule)


@hot_path
def call_soon_threadsafe(loop: Loop, _: Counter) -> Repeat:
    def schedule() -> None:
        for _ in range(CALLS_PER_TURN):
            loop.call_soon_threadsafe(nothing)

    return in_turns(loop, schedule)


@hot_path
def call_soon_threadsafe_from_a_thread(loop: Loop, counter: Counter) -> Repeat:
    def repeat(times: int) -> None:
        turn_is_over = threading.Lock()
        turn_is_over.acquire()

        def call() -> None:
            counter.toggle()
            for _ in range(times // CALLS_PER_TURN):
                for _ in range(CALLS_PER_TURN):
                    loop.call_soon_threadsafe(nothing)
                loop.call_soon_threadsafe(turn_is_over.release)
                turn_is_over.acquire()
            loop.call_soon_threadsafe(loop.stop)
            counter.toggle()

        thread = threading.Thread(target=call)
        loop.call_soon(thread.start)
        loop.run_forever()
        thread.join()

    return repeat


@hot_path
def sleep_0(loop: Loop, _: Counter) -> Repeat:
    async def main(times: int) -> None:
        for _ in range(times):
            await asyncio.sleep(0)

    return in_task(loop, main)


@hot_path
def create_future(loop: Loop, _: Counter) -> Repeat:
    async def main(times: int) -> None:
        for _ in range(times):
            loop.create_future()

    return in_task(loop, main)


@hot_path
def create_task(loop: Loop, _: Counter) -> Repeat:
    async def main(times: int) -> None:
        for _ in range(times):
            await loop.create_task(nothing_async())

    return in_task(loop, main)


def eager_task(loop: Loop, _: Counter) -> Repeat:
    async def main(times: int) -> None:
        for _ in range(times):
            loop.create_task(nothing_async())

    loop.set_task_factory(asyncio.eager_task_factory)
    return in_task(loop, main)


if sys.version_info >= (3, 12):
    hot_path(eager_task)


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]  # asyncio gives the base class

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class BufferedEcho(asyncio.BufferedProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]  # asyncio gives the base class
        self.buffer = memoryview(bytearray(READ_BYTES))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(bytes(self.buffer[:nbytes]))


class DatagramEcho(asyncio.DatagramProtocol):
    echoes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.DatagramTransport = transport  # type: ignore[assignment]  # asyncio gives the base class

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.transport.sendto(data, addr)  # type: ignore[arg-type]  # typeshed's address is narrower
        self.echoes += 1


class Peer:
    """The other end of a connection: sends a message and wants it back."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.setblocking(False)

    def send(self) -> None:
        self.sock.send(MESSAGE)

    def has_echo(self) -> bool:
        try:
            received = self.sock.recv(READ_BYTES)
        except BlockingIOError:
            return False
        if received != MESSAGE:
            raise RuntimeError(f"{len(received)} bytes came back, not the message")
        return True


class TlsPeer(Peer):
    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing)

    async def shake_hands(self) -> None:
        while True:
            try:
                self.tls.do_handshake()
                self.sock.send(self.outgoing.read())
                return
            except ssl.SSLWantReadError:
                if self.outgoing.pending:
                    self.sock.send(self.outgoing.read())
            await asyncio.sleep(0.001)
            self.take()

    def take(self) -> None:
        try:
            self.incoming.write(self.sock.recv(READ_BYTES))
        except BlockingIOError:
            pass

    def send(self) -> None:
        self.tls.write(MESSAGE)
        self.sock.send(self.outgoing.read())

    def has_echo(self) -> bool:
        self.take()
        try:
            received = self.tls.read(READ_BYTES)
        except ssl.SSLWantReadError:
            return False
        if received != MESSAGE:
            raise RuntimeError(f"{len(received)} bytes came back, not the message")
        return True


class DatagramPeer(Peer):
    """Waits for what a busy kernel delivers late: the loop would see its datagrams in other turns each time."""

    def __init__(self, echo: DatagramEcho, number: int) -> None:
        super().__init__(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        # Not ports of the kernel: which peers share a place in the cache of addresses would change with them.
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.bind(("127.0.0.77", DATAGRAM_PORT + number))
        self.echo = echo
        self.echoes = 0
        self.server: socket.socket = echo.transport.get_extra_info("socket")
        self.sock.connect(self.server.getsockname())

    def server_queue_bytes(self) -> int:
        return int.from_bytes(self.server.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 36)[:4], sys.byteorder)

    def send(self) -> None:
        before = self.server_queue_bytes()
        super().send()
        while self.server_queue_bytes() == before:
            time.sleep(0)
        self.echoes += DATAGRAM_PEERS

    def has_echo(self) -> bool:
        if self.echo.echoes >= self.echoes:
            select.select([self.sock], [], [], 1)
        return super().has_echo()


def by_echoes(loop: Loop, counter: Counter, peers: list[Peer]) -> Repeat:
    """Every peer sends, the loop turns until every echo is back, every peer sends again."""

    def repeat(times: int) -> None:
        rounds_left = times // len(peers)
        waiting: list[Peer] = []

        def step() -> None:
            nonlocal rounds_left, waiting
            counter.toggle()
            waiting = [peer for peer in waiting if not peer.has_echo()]
            is_over = not waiting and rounds_left == 0
            if not waiting and not is_over:
                rounds_left -= 1
                waiting = list(peers)
                for peer in peers:
                    peer.send()
            counter.toggle()
            if is_over:
                loop.stop()
            else:
                loop.call_soon(step)

        loop.call_soon(step)
        loop.run_forever()

    return repeat


def socket_pairs() -> list[tuple[socket.socket, socket.socket]]:
    """Unix sockets: what one sends, the other has at once. Over TCP a busy kernel may deliver later."""
    pairs = [socket.socketpair() for _ in range(CONNECTIONS)]
    for ours, _ in pairs:
        ours.setblocking(False)
    return pairs


def with_protocol(loop: Loop, counter: Counter, factory: Callable[[], asyncio.BaseProtocol]) -> Repeat:
    pairs = socket_pairs()
    for ours, _ in pairs:
        loop.run_until_complete(loop.connect_accepted_socket(factory, ours))
    return by_echoes(loop, counter, [Peer(theirs) for _, theirs in pairs])


@hot_path
def protocol_echo(loop: Loop, counter: Counter) -> Repeat:
    return with_protocol(loop, counter, Echo)


@hot_path
def buffered_protocol_echo(loop: Loop, counter: Counter) -> Repeat:
    return with_protocol(loop, counter, BufferedEcho)


@hot_path
def streams_echo(loop: Loop, counter: Counter) -> Repeat:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(READ_BYTES):
            writer.write(data)
            await writer.drain()

    def factory() -> asyncio.BaseProtocol:
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(loop=loop), serve, loop=loop)

    return with_protocol(loop, counter, factory)


@hot_path
def sock_echo(loop: Loop, counter: Counter) -> Repeat:
    async def serve(sock: socket.socket) -> None:
        while data := await loop.sock_recv(sock, READ_BYTES):
            await loop.sock_sendall(sock, data)

    pairs = socket_pairs()
    tasks = [loop.create_task(serve(ours)) for ours, _ in pairs]
    repeat = by_echoes(loop, counter, [Peer(theirs) for _, theirs in pairs])
    repeat.__dict__["tasks"] = tasks  # A loop keeps its tasks weakly.
    return repeat


@hot_path
def add_reader_echo(loop: Loop, counter: Counter) -> Repeat:
    def serve(sock: socket.socket) -> None:
        sock.send(sock.recv(READ_BYTES))

    pairs = socket_pairs()
    for ours, _ in pairs:
        loop.add_reader(ours, serve, ours)
    return by_echoes(loop, counter, [Peer(theirs) for _, theirs in pairs])


@hot_path
def udp_echo(loop: Loop, counter: Counter) -> Repeat:
    endpoint = loop.create_datagram_endpoint(DatagramEcho, local_addr=("127.0.0.1", 0))
    _, echo = loop.run_until_complete(endpoint)
    return by_echoes(loop, counter, [DatagramPeer(echo, number) for number in range(DATAGRAM_PEERS)])


@hot_path
def tls_echo(loop: Loop, counter: Counter) -> Repeat:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(counter.certificate)
    peers: list[Peer] = []

    async def connect() -> None:
        for ours, theirs in socket_pairs():
            peer = TlsPeer(theirs)
            await asyncio.gather(loop.connect_accepted_socket(Echo, ours, ssl=context), peer.shake_hands())
            peers.append(peer)

    loop.run_until_complete(connect())
    return by_echoes(loop, counter, peers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", nargs="?", choices=PATHS)
    parser.add_argument("times", nargs="?", type=int, default=1600)
    parser.add_argument("--list", action="store_true", help="names of the paths this Python has")
    parser.add_argument("--switch", help="callgrind_switch.cc, compiled to a library")
    parser.add_argument("--certificate", default="", help="PEM file with key and certificates, for TLS")
    arguments = parser.parse_args()
    if arguments.list:
        print(*PATHS)
        return
    import cxxloop  # Built by then.

    sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
    counter = Counter(arguments.switch, arguments.certificate)
    repeat = PATHS[arguments.path](cxxloop.new_event_loop(), counter)
    repeat(arguments.times)  # What happens once only, and what the interpreter learns of its code, is over then.
    gc.collect()
    gc.freeze()
    gc.disable()
    counter.prepare()
    counter.count(repeat, arguments.times)
    counter.count(repeat, 2 * arguments.times)


if __name__ == "__main__":
    main()
