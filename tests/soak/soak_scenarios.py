# SPDX-License-Identifier: MIT
"""What tests/soak/soak.py plays: each scenario is a coroutine that uses the loop, checks every byte, and leaves nothing."""

import asyncio
import concurrent.futures
import contextlib
import functools
import hashlib
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import threading

import trustme

LOOPBACK = "127.0.0.1"
RESET = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # SO_LINGER: on, for no time
GONE = (ConnectionError, ssl.SSLError, EOFError)
FLUSH_SECONDS_MAX = 2  # for what is unsent when a client leaves


class Echo(asyncio.Protocol):
    """Sends back what comes; stops reading while its own peer does not read."""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)

    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()


class BufferedEcho(Echo, asyncio.BufferedProtocol):
    def connection_made(self, transport):
        super().connection_made(transport)
        self.buffer = bytearray(5000)

    def get_buffer(self, sizehint):
        return self.buffer

    def buffer_updated(self, nbytes):
        self.transport.write(self.buffer[:nbytes])


async def echo_stream(reader, writer):
    with contextlib.suppress(*GONE):
        while data := await reader.read(30_000):
            writer.write(data)
            await writer.drain()
    writer.close()
    with contextlib.suppress(*GONE):
        await writer.wait_closed()


class EchoDatagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.transport.sendto(data, addr)


class World:
    """The servers all scenarios talk to."""

    def __init__(self, folder):
        self.folder = folder
        self.bytes_checked = 0
        self.signalled = asyncio.Event()
        self.signal_lock = asyncio.Lock()

    async def __aenter__(self):
        loop = asyncio.get_running_loop()
        authority = trustme.CA()
        server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost", LOOPBACK).configure_cert(server_context)
        self.client_context = ssl.create_default_context()
        authority.configure_trust(self.client_context)
        self.unix_path = str(self.folder / "echo")
        self.file = self.folder / "file"
        self.file.write_bytes(random.Random(0).randbytes(3_000_000))
        self.servers = [
            await loop.create_server(Echo, LOOPBACK, 0, backlog=500),
            await loop.create_server(BufferedEcho, LOOPBACK, 0, backlog=500),
            await asyncio.start_server(echo_stream, LOOPBACK, 0, backlog=500),
            await asyncio.start_unix_server(echo_stream, self.unix_path, backlog=500),
            await asyncio.start_server(echo_stream, LOOPBACK, 0, ssl=server_context),
            await loop.create_server(Echo, LOOPBACK, 0, ssl=server_context),
        ]
        self.plain_addresses = [server.sockets[0].getsockname() for server in self.servers[:3]]
        self.tls_addresses = [server.sockets[0].getsockname() for server in self.servers[4:]]
        self.datagrams, _ = await loop.create_datagram_endpoint(EchoDatagrams, local_addr=(LOOPBACK, 0))
        await self._start_threads(loop)
        loop.add_signal_handler(signal.SIGUSR1, self.signalled.set)
        return self

    async def _start_threads(self, loop):
        """All of the executor's, so that their number does not grow later."""
        count = 4
        loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(count))
        barrier = threading.Barrier(count)
        await asyncio.gather(*(loop.run_in_executor(None, barrier.wait) for _ in range(count)))

    async def __aexit__(self, *_):
        asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR1)
        self.datagrams.close()
        for server in self.servers:
            server.close()
            await server.wait_closed()

    def check(self, received, sent):
        """What arrived is the beginning of what was sent."""
        assert received == sent[: len(received)], f"{len(received)} of {len(sent)} bytes, but others"
        self.bytes_checked += len(received)


def chunks_of(dice):
    """Some data to send, as one would: many small pieces, or few large ones."""
    largest = dice.choice((10, 1000, 60_000, 400_000))
    return [dice.randbytes(dice.randint(1, largest)) for _ in range(dice.randint(1, 12))]


async def pause(dice):
    match dice.randrange(4):
        case 0:
            await asyncio.sleep(0)
        case 1:
            await asyncio.sleep(dice.random() / 100)


async def send(writer, chunks, dice):
    for chunk in chunks:
        writer.writelines([chunk[:7], chunk[7:]]) if dice.random() < 0.2 else writer.write(chunk)
        await writer.drain()
        await pause(dice)


async def receive(reader, into, size):
    while len(into) < size:
        data = await reader.read(50_000)
        if not data:
            raise EOFError
        into += data


def end(writer, dice):
    """Leaves, well mannered or not."""
    match dice.randrange(5):
        case 0:
            writer.transport.abort()
        case 1:
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()
        case 2 if writer.can_write_eof():
            writer.write_eof()
    writer.close()


async def closed(writer, seconds_max):
    """Waits until the connection has ended; one that cannot is ended after a while.

    A server that echoes cannot take what we have still to send when we do not read any more: with enough of it both wait for
    ever, on every loop.
    """
    waiting = asyncio.ensure_future(writer.wait_closed())
    done, _ = await asyncio.wait([waiting], timeout=seconds_max)
    if not done:
        writer.transport.abort()
    with contextlib.suppress(*GONE):
        await waiting


async def converse(world, dice, reader, writer):
    """Sends and reads at once; checks all of it, or leaves in the middle and checks what came."""
    chunks = chunks_of(dice)
    sent, received = b"".join(chunks), bytearray()
    leaves_early = dice.random() < 0.25
    sending = asyncio.ensure_future(send(writer, chunks, dice))
    try:
        await receive(reader, received, dice.randrange(len(sent)) if leaves_early else len(sent))
        if not leaves_early:
            await sending
    finally:
        world.check(received, sent)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        end(writer, dice)
        await closed(writer, FLUSH_SECONDS_MAX if leaves_early else None)
    assert leaves_early or len(received) == len(sent)


async def tcp(world, dice):
    await converse(world, dice, *await asyncio.open_connection(*dice.choice(world.plain_addresses)))


async def unix(world, dice):
    await converse(world, dice, *await asyncio.open_unix_connection(world.unix_path))


async def tls(world, dice):
    address = dice.choice(world.tls_addresses)
    await converse(world, dice, *await asyncio.open_connection(*address, ssl=world.client_context))


async def broken_handshake(world, dice):
    """A stranger at the TLS port: silence, garbage, the end or a reset."""
    with socket.create_connection(dice.choice(world.tls_addresses)) as sock:
        sock.send(dice.choice((b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.0\r\n\r\n", dice.randbytes(50))))
        await pause(dice)
        if dice.random() < 0.5:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


async def short_visits(world, dice):
    """Connections that come and go, without a loop at their end."""
    address = dice.choice(world.plain_addresses)
    for _ in range(dice.randint(1, 20)):
        with socket.create_connection(address) as sock:
            sock.send(dice.randbytes(dice.randint(1, 5000)))
            if dice.random() < 0.5:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        await pause(dice)


async def sendfile(world, dice):
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection(*dice.choice((world.plain_addresses[0], world.plain_addresses[2])))
    content = world.file.read_bytes()
    offset, count = dice.randrange(1_000_000), dice.randint(1, 1_000_000)
    received = bytearray()
    with world.file.open("rb") as file:
        sending = asyncio.ensure_future(loop.sendfile(writer.transport, file, offset, count))
        while len(received) < count:  # sendfile() stops the transport from reading: what it sends comes back later
            received += await reader.read(50_000)
        assert await sending == count
    world.check(received, content[offset : offset + count])
    end(writer, dice)
    with contextlib.suppress(*GONE):
        await writer.wait_closed()


class Answers(asyncio.DatagramProtocol):
    def __init__(self):
        self.queue = asyncio.Queue()
        self.lost = asyncio.get_running_loop().create_future()

    def datagram_received(self, data, addr):
        self.queue.put_nowait(data)

    def error_received(self, exc):
        self.queue.put_nowait(exc)

    def connection_lost(self, exc):
        self.lost.set_result(exc)


async def udp(world, dice):
    address = world.datagrams.get_extra_info("sockname")
    options = {"remote_addr": address} if dice.random() < 0.5 else {"local_addr": (LOOPBACK, 0)}
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(Answers, **options)
    try:
        for _ in range(dice.randint(1, 30)):
            data = dice.randbytes(dice.choice((1, 500, 9000)))
            while True:
                transport.sendto(data, None if "remote_addr" in options else address)
                try:
                    answer = await asyncio.wait_for(protocol.queue.get(), 0.5)
                except TimeoutError:
                    continue  # lost: the kernel may
                if answer == data:
                    world.bytes_checked += len(data)
                    break
    finally:
        transport.close()
        await protocol.lost


async def unreachable(world, dice):
    """Nobody is there: the connection is refused, and the datagram too."""
    with socket.socket() as sock, socket.socket(type=socket.SOCK_DGRAM) as deaf:
        sock.bind((LOOPBACK, 0))  # taken, and nobody listens
        try:
            await asyncio.open_connection(*sock.getsockname())
        except ConnectionRefusedError:
            pass
        else:
            raise AssertionError("a connection to nobody")
        deaf.bind((LOOPBACK, 0))
        deaf.connect(sock.getsockname())  # it hears nobody else, and nobody else gets its number
        transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
            Answers, remote_addr=deaf.getsockname()
        )
        try:
            transport.sendto(b"anybody?")
            assert isinstance(await protocol.queue.get(), ConnectionRefusedError)
        finally:
            transport.close()
            await protocol.lost


async def sockets(world, dice):
    """sock_sendall() against sock_recv() and sock_recv_into(), some of them cancelled while they wait."""
    loop = asyncio.get_running_loop()
    sent, received = dice.randbytes(dice.randint(1, 500_000)), bytearray()
    left, right = socket.socketpair()
    with left, right:
        for sock in (left, right):
            sock.setblocking(False)
        if dice.random() < 0.3:
            task = asyncio.ensure_future(loop.sock_recv(right, 100))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        sending = asyncio.ensure_future(loop.sock_sendall(left, sent))
        buffer = bytearray(20_000)
        while len(received) < len(sent):
            if dice.random() < 0.5:
                received += await loop.sock_recv(right, 40_000)
            else:
                received += buffer[: await loop.sock_recv_into(right, buffer)]
        await sending
    assert len(received) == len(sent)
    world.check(received, sent)


async def sock_accept(world, dice):
    loop = asyncio.get_running_loop()
    with socket.create_server((LOOPBACK, 0)) as listener, socket.socket() as client:
        listener.setblocking(False)
        client.setblocking(False)
        (accepted, _), _ = await asyncio.gather(
            loop.sock_accept(listener), loop.sock_connect(client, listener.getsockname())
        )
        with accepted:
            data = dice.randbytes(1000)
            await loop.sock_sendall(client, data)
            world.check(await loop.sock_recv(accepted, 2000), data)


async def pipes(world, dice):
    loop = asyncio.get_running_loop()
    read_end, write_end = os.pipe()
    reader = asyncio.StreamReader()
    reading, _ = await loop.connect_read_pipe(
        functools.partial(asyncio.StreamReaderProtocol, reader), os.fdopen(read_end, "rb", 0)
    )
    writing, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, os.fdopen(write_end, "wb", 0))
    writer = asyncio.StreamWriter(writing, protocol, None, loop)
    chunks = chunks_of(dice)
    sending = asyncio.ensure_future(send(writer, chunks, dice))
    received = bytearray()
    await receive(reader, received, sum(map(len, chunks)))
    await sending
    writing.close()
    assert await reader.read() == b""
    reading.close()
    world.check(received, b"".join(chunks))


async def child(world, dice):
    data = dice.randbytes(dice.choice((0, 100, 200_000)))
    process = await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    output, _ = await process.communicate(data)
    assert process.returncode == 0 and len(output) == len(data)
    world.check(output, data)


async def killed_child(world, dice):
    """Killed at any moment, with its pipes in any state."""
    source = dice.choice(("while True: print('x' * 9999)", "import time; time.sleep(60)", "pass"))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-ISc", source, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    process.stdin.write(bytes(dice.randrange(300_000)))
    await asyncio.sleep(dice.random() / 10)
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    with contextlib.suppress(*GONE):
        await process.communicate()
    assert await process.wait() in (0, -signal.SIGKILL)


async def executor(world, dice):
    data = dice.randbytes(dice.randint(1, 1_000_000))
    digests = [asyncio.get_running_loop().run_in_executor(None, hashlib.sha256, data) for _ in range(dice.randint(1, 8))]
    if dice.random() < 0.2:
        digests.pop().cancel()
    assert {digest.digest() for digest in await asyncio.gather(*digests)} <= {hashlib.sha256(data).digest()}


async def threads(world, dice):
    """Calls of each thread arrive, once and in order."""
    loop = asyncio.get_running_loop()
    count, seen, done = dice.randint(1, 500), [[] for _ in range(3)], asyncio.Event()
    total = count * len(seen)

    def note(thread, number):
        seen[thread].append(number)
        if sum(map(len, seen)) == total:
            done.set()

    def call(thread):
        for number in range(count):
            loop.call_soon_threadsafe(note, thread, number)

    callers = [threading.Thread(target=call, args=(thread,)) for thread in range(len(seen))]
    for caller in callers:
        caller.start()
    await done.wait()
    for caller in callers:
        caller.join()
    assert all(numbers == list(range(count)) for numbers in seen)


async def timers(world, dice):
    """Never early, each once, in the order of their deadlines; the cancelled ones never."""
    loop = asyncio.get_running_loop()
    fired, expected, done = [], [], asyncio.Event()

    def fire(deadline, number):
        assert loop.time() >= deadline
        fired.append((deadline, number))

    for number in range(dice.randint(1, 200)):
        deadline = loop.time() + dice.choice((0, 0.001, 0.02, dice.random() / 20))
        handle = loop.call_at(deadline, fire, deadline, number)
        if dice.random() < 0.5:
            handle.cancel()
        else:
            expected.append((deadline, number))
    loop.call_later(0.1, done.set)
    await done.wait()
    assert fired == sorted(expected)


async def signals(world, dice):
    async with world.signal_lock:  # two of a kind may arrive as one
        for _ in range(dice.randint(1, 5)):
            world.signalled.clear()
            os.kill(os.getpid(), signal.SIGUSR1)
            await world.signalled.wait()


async def cancellations(world, dice):
    """Trees of tasks that wait for each other, cancelled from anywhere."""

    async def branch(depth):
        if depth == 0:
            return await asyncio.sleep(dice.random() / 20)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(
                asyncio.gather(*(branch(depth - 1) for _ in range(dice.randint(1, 3)))), dice.random() / 10
            )

    task = asyncio.ensure_future(branch(3))
    await pause(dice)
    if dice.random() < 0.5:
        task.cancel()
    await asyncio.wait([task])
    reader, writer = await asyncio.open_connection(*world.plain_addresses[0])
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.01)
    writer.write(b"alive")
    assert await reader.readexactly(5) == b"alive"
    end(writer, dice)
    with contextlib.suppress(*GONE):
        await writer.wait_closed()


ALL = (
    *[tcp] * 5,
    *[unix] * 3,
    *[tls] * 3,
    broken_handshake,
    short_visits,
    sendfile,
    *[udp] * 2,
    unreachable,
    *[sockets] * 3,
    sock_accept,
    *[pipes] * 2,
    child,
    killed_child,
    executor,
    threads,
    *[timers] * 2,
    signals,
    cancellations,
)
