# SPDX-License-Identifier: MIT
"""What a program does with a loop, for the sweep over failing allocations (no_memory_sweep.py).

A scene is called with the loop, and with arm(), from whose call on allocations are counted. It need not clean up: the process ends.
"""

import asyncio
import contextlib
import contextvars
import os
import signal
import socket
import ssl
import sys
import tempfile
import threading

import trustme

GUARD_SECONDS = 0.4  # what waits longer than this has lost its wake-up
LARGE = b"x" * 400_000
VARIABLE = contextvars.ContextVar("VARIABLE")
SCENES = {}


def scene(function):
    SCENES[function.__name__] = function
    return function


def coroutine_scene(function):
    def play(loop, arm):
        task = loop.create_task(function(loop, arm))
        task.add_done_callback(lambda _: loop.stop())
        loop.call_later(GUARD_SECONDS, loop.stop)
        loop.run_forever()
        if task.done() and not task.cancelled():
            task.result()

    SCENES[function.__name__] = play
    return function


def make_tls_contexts():
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trustme.CA().issue_cert("localhost").configure_cert(server)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    return server, client


SERVER_TLS, CLIENT_TLS = make_tls_contexts()


KEPT = []  # CPython 3.13 may die where it warns of an unclosed socket without memory


def keep_free_pairs():
    """CPython dies when an iterator over dict.items() has no memory for its pair: it finds one here."""
    pairs = [(n, n) for n in range(100)]
    del pairs


async def debug_without_origins(loop):
    """CPython 3.13 dies when a new coroutine has no memory for where it comes from, which debug mode asks of it."""
    loop.set_debug(True)
    await asyncio.sleep(0)  # debug mode of a running loop begins with its next turn
    sys.set_coroutine_origin_tracking_depth(0)


def keep_socket(sock):
    KEPT.append(sock)
    sock.setblocking(False)
    return sock


def pair():
    return tuple(keep_socket(end) for end in socket.socketpair())


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        KEPT.append(transport)
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class Buffered(asyncio.BufferedProtocol):
    def connection_made(self, transport):
        KEPT.append(transport)
        self.transport = transport
        self.buffer = bytearray(65536)

    def get_buffer(self, sizehint):
        return memoryview(self.buffer)[:1000]

    def buffer_updated(self, count):
        self.transport.write(self.buffer[:count])


async def receive(loop, sock, count):
    while count > 0:
        data = await loop.sock_recv(sock, 1 << 20)
        if not data:
            break
        count -= len(data)


# --- scheduling -----------------------------------------------------------------------------------------------


@scene
def schedule(loop, arm):
    context = contextvars.copy_context()
    loop.call_later(0.01, loop.stop)
    arm()
    for args in (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4):
        loop.call_soon(print, *args)
        loop.call_soon(len, *args)  # most of them raise
    loop.call_soon(print, context=context)
    repr(loop.call_soon(print)).encode()
    loop.call_soon(print).cancel()
    loop.run_forever()


@scene
def schedule_in_context(loop, arm):
    VARIABLE.set(1)
    context = contextvars.copy_context()
    token = context.run(VARIABLE.set, 2)  # CPython dies when set() has memory neither for the token nor for the value
    loop.call_later(0.01, loop.stop)
    arm()
    loop.call_soon(VARIABLE.reset, token, context=context)
    loop.call_soon(lambda: [loop.call_soon(VARIABLE.get) for _ in range(20)])
    loop.call_later(0, VARIABLE.get)
    loop.run_forever()


@scene
def timers(loop, arm):
    loop.call_later(0.02, loop.stop)
    arm()
    handles = [loop.call_later(delay, print, delay) for delay in (0, 0, 0.001, 0.001, 5, 6, 7)]
    handles += [loop.call_at(loop.time() + 0.002, print, 1, 2, 3, 4), loop.call_at(0, int)]
    for handle in handles[4:7]:
        handle.cancel()
        repr(handle)
        handle.when()
    loop.run_forever()


@scene
def many_at_once(loop, arm):
    loop.call_later(0.02, loop.stop)
    arm()
    for _ in range(300):
        loop.call_later(0.001, int)
        loop.call_soon(int)
    loop.run_forever()


@scene
def threadsafe(loop, arm):
    armed = threading.Event()

    def call():
        armed.wait(5)
        for n in range(5):
            loop.call_soon_threadsafe(print, n, n, n, n)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    loop.call_later(0.02, loop.stop)
    loop.call_soon(armed.set)
    arm()
    loop.call_soon_threadsafe(print)
    loop.run_forever()
    thread.join(1)


@coroutine_scene
async def tasks(loop, arm):
    async def child(future):
        with contextlib.suppress(ZeroDivisionError):
            await asyncio.wait_for(future, 1)
        await asyncio.sleep(0.0001)
        raise ValueError

    arm()
    futures = [loop.create_future() for _ in range(3)]
    children = [loop.create_task(child(future), name="child") for future in futures]
    await asyncio.sleep(0)
    futures[0].set_result(1)
    futures[1].set_exception(ZeroDivisionError())
    children[2].cancel()
    await asyncio.gather(*children, return_exceptions=True)
    await loop.run_in_executor(None, int)


@scene
def failing_callbacks(loop, arm):
    def fail():
        raise ValueError

    def leave():
        raise KeyboardInterrupt

    arm()
    loop.call_soon(fail)
    loop.call_soon(leave)
    loop.call_later(0.001, fail)
    with contextlib.suppress(KeyboardInterrupt):
        loop.call_later(0.01, loop.stop)
        loop.run_forever()
    loop.call_soon(loop.stop)
    loop.run_forever()


@scene
def debug_mode(loop, arm):
    loop.set_debug(True)
    loop.slow_callback_duration = 0
    loop.call_later(0.02, loop.stop)
    arm()
    for _ in range(2):
        loop.call_soon(print, 1)
        loop.call_later(0.001, print, 1)
        loop.call_later(5, print, 1).cancel()
        loop.call_soon_threadsafe(print, 1)
    loop.run_forever()


@scene
def life(loop, arm):
    keep_free_pairs()
    arm()
    other = type(loop)()
    other.call_soon(int)
    other.call_later(0, other.stop)
    other.call_later(5, int)
    other.run_forever()
    other.close()


@scene
def signals(loop, arm):
    loop.call_later(0.02, loop.stop)
    arm()
    loop.add_signal_handler(signal.SIGUSR1, print, "signal")
    os.kill(os.getpid(), signal.SIGUSR1)
    loop.run_forever()
    loop.remove_signal_handler(signal.SIGUSR1)


# --- descriptors ----------------------------------------------------------------------------------------------


@coroutine_scene
async def watches(loop, arm):
    a, b = pair()
    arm()
    ready = asyncio.Event()
    loop.add_reader(a, ready.set)
    loop.add_writer(a, print, 1, 2, 3, 4)
    b.send(b"x")
    await ready.wait()
    loop.add_reader(a, print)
    await asyncio.sleep(0.001)
    loop.remove_reader(a)
    loop.remove_writer(a)
    loop.add_reader(b.fileno(), int)
    with contextlib.suppress(OSError, ValueError):
        loop.add_reader(10_000, int)


@coroutine_scene
async def sock_operations(loop, arm):
    listener = keep_socket(socket.create_server(("127.0.0.1", 0)))
    client = keep_socket(socket.socket())
    arm()
    accepting = loop.create_task(loop.sock_accept(listener))
    await loop.sock_connect(client, listener.getsockname())
    server, _ = await accepting
    receiving = loop.create_task(loop.sock_recv(server, 100))
    await asyncio.sleep(0)
    await loop.sock_sendall(client, b"x" * 10)
    await receiving
    receiving = loop.create_task(loop.sock_recv_into(server, bytearray(100)))
    await asyncio.sleep(0)
    await loop.sock_sendall(client, b"x" * 10)
    await receiving
    sending = loop.create_task(loop.sock_sendall(client, LARGE * 20))
    await receive(loop, server, len(LARGE) * 20)
    await sending
    receiving = loop.create_task(loop.sock_recv(server, 100))
    await asyncio.sleep(0)
    receiving.cancel()
    await asyncio.sleep(0)


@coroutine_scene
async def names(loop, arm):
    arm()
    for host in "127.0.0.1", "::1", b"127.0.0.1":
        await loop.getaddrinfo(host, 80, type=socket.SOCK_STREAM)
    await loop.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)


# --- streams --------------------------------------------------------------------------------------------------


@coroutine_scene
async def stream(loop, arm):
    a, b = pair()
    arm()
    transport, _ = await loop.create_connection(Echo, sock=a)
    repr(transport)
    transport.get_extra_info("peername")
    await loop.sock_sendall(b, b"x" * 1000)
    await receive(loop, b, 1000)
    transport.writelines([b"a", b"b", bytearray(b"c"), memoryview(b"d")])
    await receive(loop, b, 4)
    transport.pause_reading()
    await loop.sock_sendall(b, b"x" * 1000)
    await asyncio.sleep(0)
    transport.resume_reading()
    await receive(loop, b, 1000)
    transport.set_protocol(Echo())
    transport.close()
    await asyncio.sleep(0)
    transport.write(b"late")


@coroutine_scene
async def buffered(loop, arm):
    a, b = pair()
    arm()
    transport, _ = await loop.create_connection(Buffered, sock=a)
    await loop.sock_sendall(b, b"x" * 5000)
    await receive(loop, b, 5000)
    b.close()
    await asyncio.sleep(0.001)


async def _write_much(loop, arm, write):
    a, b = pair()
    transport, _ = await loop.create_connection(Echo, sock=a)
    keep = [contextvars.copy_context() for _ in range(300)]  # Python has no spare contexts left
    arm()
    transport.set_write_buffer_limits(1000)
    write(transport)
    transport.get_write_buffer_size()
    await receive(loop, b, len(LARGE))
    write(transport)
    transport.close()
    await receive(loop, b, len(LARGE) + 1)
    return keep


@coroutine_scene
async def write_bytes(loop, arm):
    await _write_much(loop, arm, lambda transport: transport.write(LARGE))


@coroutine_scene
async def write_buffers(loop, arm):
    def write(transport):
        transport.write(bytearray(LARGE[:200_000]))
        transport.write(memoryview(LARGE)[200_000:])

    await _write_much(loop, arm, write)


@coroutine_scene
async def write_lines(loop, arm):
    lines = [LARGE[i * 4000 : (i + 1) * 4000] for i in range(100)]
    await _write_much(loop, arm, lambda transport: transport.writelines(lines))


@coroutine_scene
async def write_before_the_loop_runs(loop, arm):
    a, b = pair()
    transport, _ = await loop.create_connection(Echo, sock=a)
    loop.call_later(0.01, loop.stop)
    loop.stop()
    arm()
    transport.write(LARGE)


async def _end(loop, arm, end):
    a, b = pair()
    transport, _ = await loop.create_connection(Echo, sock=a)
    arm()
    transport.write(b"x")
    end(transport, b)
    await asyncio.sleep(0.002)


@coroutine_scene
async def write_eof(loop, arm):
    await _end(loop, arm, lambda transport, peer: transport.write_eof())


@coroutine_scene
async def close(loop, arm):
    await _end(loop, arm, lambda transport, peer: (transport.close(), transport.close()))


@coroutine_scene
async def abort(loop, arm):
    await _end(loop, arm, lambda transport, peer: (transport.write(LARGE), transport.abort()))


@coroutine_scene
async def close_with_a_full_queue(loop, arm):
    def end(transport, peer):
        transport.write(LARGE)
        transport.close()
        loop.call_soon(peer.recv, 1 << 20)
        loop.call_later(0.001, peer.recv, 1 << 20)

    await _end(loop, arm, end)


@coroutine_scene
async def end_by_the_peer(loop, arm):
    await _end(loop, arm, lambda transport, peer: peer.close())


@coroutine_scene
async def half_close_by_the_peer(loop, arm):
    await _end(loop, arm, lambda transport, peer: peer.shutdown(socket.SHUT_WR))


@coroutine_scene
async def loss_while_a_write_waits(loop, arm):
    def end(transport, peer):
        transport.write(LARGE)
        loop.call_later(0.001, peer.close)

    await _end(loop, arm, end)


@coroutine_scene
async def failing_protocols(loop, arm):
    class Failing(asyncio.Protocol):
        def data_received(self, data):
            raise ValueError

        def eof_received(self):
            raise ValueError

        def pause_writing(self):
            raise ValueError

        def connection_lost(self, exc):
            raise ValueError

    arm()
    for end in lambda peer: peer.send(b"x"), lambda peer: peer.close():
        a, b = pair()
        transport, _ = await loop.create_connection(Failing, sock=a)
        transport.set_write_buffer_limits(0)
        transport.write(LARGE)
        end(b)
        await asyncio.sleep(0.001)


@coroutine_scene
async def stream_in_debug_mode(loop, arm):
    await debug_without_origins(loop)
    a, b = pair()
    arm()
    transport, _ = await loop.create_connection(Echo, sock=a)
    b.send(b"x")
    await asyncio.sleep(0.001)
    transport.pause_reading()
    transport.resume_reading()
    b.close()
    await asyncio.sleep(0.001)


@coroutine_scene
async def sendfile(loop, arm):
    with tempfile.TemporaryFile() as file:
        file.write(LARGE)
        a, b = pair()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=a)
        arm()
        receiving = loop.create_task(receive(loop, b, len(LARGE)))
        await loop.sendfile(transport, file)
        await receiving


@coroutine_scene
async def streams_api(loop, arm):
    async def serve(reader, writer):
        writer.write(await reader.readexactly(100))
        await writer.drain()
        writer.close()

    arm()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"x" * 100)
    await writer.drain()
    await reader.read()
    writer.close()
    server.close()


# --- servers --------------------------------------------------------------------------------------------------


class Greeter(asyncio.Protocol):
    def connection_made(self, transport):
        transport.write(b"hello")
        transport.close()


async def _serve(loop, arm, connect, address):
    arm()
    server = await connect()
    for _ in range(2):
        client = keep_socket(socket.socket(server.sockets[0].family))
        await loop.sock_connect(client, address or server.sockets[0].getsockname())
        await receive(loop, client, 5)
        client.close()
    server.close()
    await server.wait_closed()


@coroutine_scene
async def server(loop, arm):
    await _serve(loop, arm, lambda: loop.create_server(Greeter, "127.0.0.1", 0), None)


@coroutine_scene
async def server_ipv6(loop, arm):
    await _serve(loop, arm, lambda: loop.create_server(Greeter, "::1", 0), None)


@coroutine_scene
async def server_unix(loop, arm):
    path = f"/tmp/cxxloop-no-memory-{os.getpid()}"
    try:
        await _serve(loop, arm, lambda: loop.create_unix_server(Greeter, path), path)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)


@coroutine_scene
async def server_in_debug_mode(loop, arm):
    await debug_without_origins(loop)
    await _serve(loop, arm, lambda: loop.create_server(Greeter, "127.0.0.1", 0), None)


@coroutine_scene
async def failing_factory(loop, arm):
    await debug_without_origins(loop)
    with contextlib.suppress(ConnectionError):
        await _serve(loop, arm, lambda: loop.create_server(lambda: 1 / 0, "127.0.0.1", 0), None)


# --- datagrams ------------------------------------------------------------------------------------------------


class Received(asyncio.DatagramProtocol):
    def __init__(self, future):
        self.future = future

    def datagram_received(self, data, address):
        if not self.future.done():
            self.future.set_result(data)


@coroutine_scene
async def datagrams(loop, arm):
    arm()
    received = loop.create_future()
    receiver, _ = await loop.create_datagram_endpoint(lambda: Received(received), local_addr=("127.0.0.1", 0))
    sender, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
    sender.sendto(b"x" * 100, receiver.get_extra_info("sockname"))
    await received
    connected, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=receiver.get_extra_info("sockname")
    )
    connected.sendto(bytearray(b"x"))
    await asyncio.sleep(0)
    sender.close()
    receiver.abort()
    connected.sendto(b"refused")
    await asyncio.sleep(0.001)
    connected.sendto(b"refused")
    await asyncio.sleep(0.001)


@coroutine_scene
async def datagrams_queued(loop, arm):
    with tempfile.TemporaryDirectory() as folder:
        ours, peer = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
        path = os.path.join(folder, "peer")
        peer.bind(path)
        keep_socket(peer)
        transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, sock=ours)
        transport.set_write_buffer_limits(0)
        keep = [contextvars.copy_context() for _ in range(300)]
        arm()
        for n in range(30):
            transport.sendto(b"x" * 10_000 if n % 2 else bytearray(10_000), path)
        transport.close()
        for _ in range(30):
            await loop.sock_recv(peer, 100_000)
        del keep


# --- pipes and processes --------------------------------------------------------------------------------------


@coroutine_scene
async def pipes(loop, arm):
    reading, writing = os.pipe()
    arm()
    reader = asyncio.StreamReader()
    read_transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb", 0)
    )
    write_transport, _ = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, os.fdopen(writing, "wb", 0))
    write_transport.write(LARGE)
    write_transport.write(bytearray(b"end"))
    write_transport.close()
    await reader.readexactly(len(LARGE) + 3)
    read_transport.close()
    await asyncio.sleep(0)


@coroutine_scene
async def subprocess(loop, arm):
    arm()
    process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
    await process.communicate(b"x")


# --- TLS ------------------------------------------------------------------------------------------------------


@coroutine_scene
async def tls_echo(loop, arm):
    server = await loop.create_server(Echo, "127.0.0.1", 0, ssl=SERVER_TLS)
    arm()
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), ssl=CLIENT_TLS)
    for data in b"x", LARGE:
        writer.write(data)
        await reader.readexactly(len(data))
    writer.writelines([b"x", b"y"])
    await reader.readexactly(2)
    writer.close()
    await writer.wait_closed()
    server.close()


@coroutine_scene
async def tls_buffered(loop, arm):
    server = await loop.create_server(Buffered, "127.0.0.1", 0, ssl=SERVER_TLS)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), ssl=CLIENT_TLS)
    arm()
    writer.write(b"x" * 5000)
    await reader.readexactly(5000)
    writer.transport.abort()
    server.close()
    await asyncio.sleep(0.001)


@coroutine_scene
async def start_tls(loop, arm):
    a, b = pair()
    client, _ = await loop.create_connection(asyncio.Protocol, sock=a)
    served, _ = await loop.create_connection(Echo, sock=b)
    arm()
    upgrade = loop.create_task(loop.start_tls(served, served.get_protocol(), SERVER_TLS, server_side=True))
    transport = await loop.start_tls(client, client.get_protocol(), CLIENT_TLS, server_hostname="localhost")
    await upgrade
    transport.write(b"x")
    await asyncio.sleep(0.001)
    transport.close()
    await asyncio.sleep(0.001)
