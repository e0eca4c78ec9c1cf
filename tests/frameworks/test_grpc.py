# SPDX-License-Identifier: MIT
"""grpc.aio: its own poller thread, which tells the loop through add_reader(). Client and server share the loop."""

import asyncio
import contextlib

import pytest

grpc = pytest.importorskip("grpc")

BIG = 3 << 20  # below gRPC's own limit of 4 MiB


class Service(grpc.GenericRpcHandler):
    """Methods on bytes: no generated code."""

    def __init__(self):
        self.hanging = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.handlers = {
            "/test/Echo": grpc.unary_unary_rpc_method_handler(self.echo),
            "/test/Count": grpc.unary_stream_rpc_method_handler(self.count),
            "/test/Sum": grpc.stream_unary_rpc_method_handler(self.sum),
            "/test/Talk": grpc.stream_stream_rpc_method_handler(self.talk),
            "/test/Hang": grpc.unary_unary_rpc_method_handler(self.hang),
            "/test/Abort": grpc.unary_unary_rpc_method_handler(self.abort),
        }

    def service(self, details):
        return self.handlers.get(details.method)

    async def echo(self, request, context):
        return request

    async def count(self, request, context):
        for number in range(int(request)):
            yield b"%d" % number

    async def sum(self, requests, context):
        return b"%d" % sum([int(request) async for request in requests])

    async def talk(self, requests, context):
        async for request in requests:
            yield request + b"!"

    async def hang(self, request, context):
        self.hanging.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def abort(self, request, context):
        await context.abort(grpc.StatusCode.ALREADY_EXISTS, "twice")


@contextlib.asynccontextmanager
async def serving():
    """A server, and a channel to it."""
    older_tasks = asyncio.all_tasks()
    server, service = grpc.aio.server(), Service()
    server.add_generic_rpc_handlers((service,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield service, channel
    finally:
        await server.stop(None)
        await end_of_tasks(older_tasks)


async def end_of_tasks(older_tasks):
    """Waits for the tasks that gRPC made: stop() returns when its core has no call left, turns before they end."""
    async with asyncio.timeout(5):
        while tasks := asyncio.all_tasks() - older_tasks:
            await asyncio.wait(tasks)


@pytest.fixture
def play(run):
    def play(scene, *, timeout=20):
        async def main():
            async with serving() as (service, channel):
                return await scene(service, channel)

        return run(main(), timeout=timeout)

    return play


def test_unary_calls_at_once(play):
    async def scene(service, channel):
        echo = channel.unary_unary("/test/Echo")
        words = [b"%d" % n for n in range(200)]
        assert await asyncio.gather(*(echo(word) for word in words)) == words
        big = bytes(range(256)) * (BIG // 256)
        assert await echo(big) == big

    play(scene)


def test_streams_of_the_server(play):
    async def scene(service, channel):
        async def count(length):
            return [int(answer) async for answer in channel.unary_stream("/test/Count")(b"%d" % length)]

        lengths = [0, 1, 10, 1000]
        assert await asyncio.gather(*(count(length) for length in lengths)) == [list(range(n)) for n in lengths]

    play(scene)


def test_stream_of_the_client(play):
    async def scene(service, channel):
        async def numbers():
            for number in range(500):
                yield b"%d" % number

        assert await channel.stream_unary("/test/Sum")(numbers()) == b"%d" % sum(range(500))

    play(scene)


def test_conversations(play):
    async def scene(service, channel):
        async def talk(number):
            call = channel.stream_stream("/test/Talk")()
            for turn in range(50):
                word = b"%d/%d" % (number, turn)
                await call.write(word)
                assert await call.read() == word + b"!"
            await call.done_writing()
            assert await call.read() is grpc.aio.EOF
            return await call.code()

        assert await asyncio.gather(*(talk(n) for n in range(10))) == [grpc.StatusCode.OK] * 10

    play(scene)


def test_cancelled_call_reaches_the_server(play):
    async def scene(service, channel):
        call = channel.unary_unary("/test/Hang")(b"")
        await service.hanging.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await call.code() is grpc.StatusCode.CANCELLED
        await service.cancelled.wait()

    play(scene)


def test_deadline(play):
    async def scene(service, channel):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await channel.unary_unary("/test/Hang")(b"", timeout=0.05)
        assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await service.cancelled.wait()

    play(scene)


def test_errors_of_the_server(play):
    async def scene(service, channel):
        for method, code in (("Abort", grpc.StatusCode.ALREADY_EXISTS), ("Nowhere", grpc.StatusCode.UNIMPLEMENTED)):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await channel.unary_unary(f"/test/{method}")(b"")
            assert raised.value.code() is code

    play(scene)


def test_server_that_goes_away(run):
    async def main():
        async with serving() as (service, channel):
            hanging = asyncio.ensure_future(channel.unary_unary("/test/Hang")(b"").code())
            await service.hanging.wait()
        # The channel is closed first: its calls are cancelled.
        assert await hanging is grpc.StatusCode.CANCELLED

    run(main(), timeout=20)


def test_loops_one_after_the_other_in_one_process(loop_factory):
    async def main():
        async with serving() as (_, channel):
            return await channel.unary_unary("/test/Echo")(b"again")

    for _ in range(3):
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            assert runner.run(main()) == b"again"
