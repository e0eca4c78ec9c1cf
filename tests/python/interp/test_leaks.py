# SPDX-License-Identifier: MIT
"""Five hundred lives of a loop, after a thousand others, leave no descriptor, no object and no memory behind."""

import json

# A loop keeps dead handles for the next ones, so that the memory of an interpreter settles after several hundred loops.
WARM_UP, CYCLES = 1000, 500

# The counts are taken in a process of their own: what a test run has loaded or kept is not counted.
SOURCE = """
    import collections, gc, json, os, sys, threading
    from weighing import resident_kib

    def open_fds():
        gc.collect()  # a loop closed while the kernel has not let go leaves its last sockets to the collector
        return len(os.listdir("/proc/self/fd"))

    WATCHED = ("Loop", "Task", "Future", "Handle", "TimerHandle", "Transport", "Server", "Protocol", "socket")

    def watched_objects():
        gc.collect()
        counts = collections.Counter(type(o).__name__ for o in gc.get_objects())
        return {n: c for n, c in counts.items() if n.endswith(WATCHED)}

    {scenario}

    def cycles(count):
        for _ in range(count):
            loop = new_loop()
            loop.run_until_complete(asyncio.wait_for(cycle(loop), 10))
            loop.close()

    cycles({warm_up})
    before = open_fds(), watched_objects(), resident_kib()
    cycles({cycles})
    after = open_fds(), watched_objects(), resident_kib()
    print(json.dumps([before, after]))
"""

TCP = """
    class Echo(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport
        def data_received(self, data):
            self.transport.write(data)

    class Client(asyncio.Protocol):
        def __init__(self, loop):
            self.done = loop.create_future()
            self.lost = loop.create_future()
        def connection_made(self, transport):
            self.transport = transport
            transport.write(b"x" * 1000)
        def data_received(self, data):
            if not self.done.done():
                self.done.set_result(None)
        def connection_lost(self, exc):
            self.lost.set_result(None)

    async def cycle(loop):
        server = await loop.create_server(Echo, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        clients = [(await loop.create_connection(lambda: Client(loop), *address))[1] for _ in range(3)]
        for client in clients:
            await client.done
        clients[0].transport.close()
        clients[1].transport.abort()
        clients[2].transport.write(bytes(100_000))
        clients[2].transport.close()
        for client in clients:
            await client.lost
        server.close()
"""

STREAMS = """
    async def handler(reader, writer):
        while data := await reader.read(1000):
            writer.write(data)
        writer.close()
        await writer.wait_closed()

    async def cycle(loop):
        server = await asyncio.start_server(handler, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"line\\n")
        await reader.readline()
        writer.write_eof()
        await reader.read()
        writer.close()
        await writer.wait_closed()
        server.close()
"""

ABANDONED = """
    import warnings
    warnings.simplefilter("ignore")

    async def cycle(loop):
        # The loop is closed with everything open: only the collector is left to clean up.
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        transport, _ = await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname())
        transport.write(b"never mind")
        loop.call_later(3600, print)
        loop.create_future().add_done_callback(print)
        loop.call_soon(loop.call_soon, int)
        await loop.run_in_executor(None, int)
        await loop.shutdown_default_executor()
        server.close()
        transport.abort()
        for _ in range(3):
            await asyncio.sleep(0)
"""


def check(run_script, scenario):
    source = SOURCE
    for name, value in (("scenario", scenario.strip()), ("warm_up", WARM_UP), ("cycles", CYCLES)):
        source = source.replace("{" + name + "}", str(value))
    (fds, objects, kib), (fds_after, objects_after, kib_after) = json.loads(run_script(source).stdout)
    assert fds_after == fds
    grown = {n: c - objects.get(n, 0) for n, c in objects_after.items() if c > objects.get(n, 0) + 2}
    assert grown == {}
    # Allocators keep some; a connection or a loop that stays would be several KiB a cycle.
    assert kib_after - kib < CYCLES


def test_tcp_cycles(run_script):
    check(run_script, TCP)


def test_stream_cycles(run_script):
    check(run_script, STREAMS)


def test_busy_loops_closed(run_script):
    check(run_script, ABANDONED)


FLOOD_SOURCE = """
    import json, socket
    from weighing import resident_kib

    async def flood():
        near, far = socket.socketpair()
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=near)
        for _ in range(200):
            transport.write(bytes(1 << 20))
        queued = transport.get_write_buffer_size()
        transport.abort()
        await asyncio.sleep(0.01)
        far.close()
        return queued

    loop = new_loop()
    loop.run_until_complete(flood())
    before = resident_kib()
    queued = loop.run_until_complete(flood())
    print(json.dumps([queued, resident_kib() - before]))
    loop.close()
"""


def test_flood_of_writes_is_given_back(run_script):
    queued, grown_kib = json.loads(run_script(FLOOD_SOURCE).stdout)
    assert queued > 190 << 20
    assert grown_kib < 8 << 10
