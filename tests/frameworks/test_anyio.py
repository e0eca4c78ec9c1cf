# SPDX-License-Identifier: MIT
"""AnyIO, which brings its own idea of cancellation, streams and threads: on both loops."""

import asyncio
import signal
import ssl

import anyio
import pytest
import trustme
from anyio.abc import SocketAttribute
from anyio.from_thread import start_blocking_portal
from anyio.streams.tls import TLSListener, TLSStream
from http_wire import CHUNK


async def echo(stream):
    async with stream:
        async for data in stream:
            await stream.send(data)


async def receive_exactly(stream, size):
    received = bytearray()
    while len(received) < size:
        received += await stream.receive()
    return bytes(received)


def test_anyio_backend_option(loop_factory):
    async def main():
        kind = type(asyncio.get_running_loop())
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:

            async def serve(stream):
                async with stream:
                    async for data in stream:
                        await stream.send(data)

            async with anyio.create_task_group() as group:
                group.start_soon(listener.serve, serve)
                port = listener.extra(anyio.abc.SocketAttribute.local_port)
                async with await anyio.connect_tcp("127.0.0.1", port) as client:
                    for chunk in (b"small", CHUNK):
                        await client.send(chunk)
                        received = b""
                        while len(received) < len(chunk):
                            received += await client.receive()
                        assert received == chunk
                    with anyio.move_on_after(0.02) as scope:
                        await client.receive()
                    assert scope.cancelled_caught
                group.cancel_scope.cancel()
        return kind

    loop = loop_factory()
    expected = type(loop)
    loop.close()
    assert anyio.run(main, backend_options={"loop_factory": loop_factory}) is expected


def test_anyio_udp_unix_and_threads(loop_factory, tmp_path):
    async def main():
        async with await anyio.create_udp_socket(local_host="127.0.0.1") as here:
            port = here.extra(anyio.abc.SocketAttribute.local_port)
            async with await anyio.create_connected_udp_socket("127.0.0.1", port) as there:
                await there.send(b"datagram")
                assert (await here.receive())[0] == b"datagram"
        path = str(tmp_path / "socket")
        async with await anyio.create_unix_listener(path) as listener:
            async with anyio.create_task_group() as group:

                async def accept():
                    async with await listener.accept() as stream:
                        await stream.send(await stream.receive())

                group.start_soon(accept)
                async with await anyio.connect_unix(path) as client:
                    await client.send(b"over a path")
                    assert await client.receive() == b"over a path"
        assert await anyio.to_thread.run_sync(lambda: anyio.from_thread.run(anyio.sleep, 0)) is None
        process = await anyio.run_process(["cat"], input=b"through a process")
        assert process.stdout == b"through a process"

    anyio.run(main, backend_options={"loop_factory": loop_factory})


def test_tls_streams(same_story):
    authority = trustme.CA()
    server_context, client_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server_context)
    authority.configure_trust(client_context)

    async def scene():
        story = []
        plain = await anyio.create_tcp_listener(local_host="127.0.0.1")
        async with TLSListener(plain, server_context) as listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, echo)
            host, port = plain.extra(SocketAttribute.local_address)

            async def talk(number):
                stream = await anyio.connect_tcp(host, port, tls=True, ssl_context=client_context, tls_hostname="localhost")
                async with stream:
                    payload = bytes([number]) * 300_000
                    async with anyio.create_task_group() as both:
                        both.start_soon(stream.send, payload)
                        story.append(await receive_exactly(stream, len(payload)) == payload)

            async with anyio.create_task_group() as talks:
                for number in range(5):
                    talks.start_soon(talk, number)
            raw = await anyio.connect_tcp(host, port)
            async with await TLSStream.wrap(raw, hostname="localhost", ssl_context=client_context) as stream:
                await stream.send(b"wrapped")
                story.append(await stream.receive())
            group.cancel_scope.cancel()
        return story

    assert same_story(scene) == [True] * 5 + [b"wrapped"]


def test_cancel_scopes(same_story):
    async def scene():
        story = []

        async def sleeper(name):
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0)
                story.append(name)

        with anyio.move_on_after(0.01):
            async with anyio.create_task_group() as group:
                for name in "abc":
                    group.start_soon(sleeper, name)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(sleeper, "d")
                await anyio.lowlevel.checkpoint()
                raise ZeroDivisionError
        except* ZeroDivisionError:
            story.append("failed")
        try:
            with anyio.fail_after(0.01):
                await anyio.sleep_forever()
        except TimeoutError:
            story.append("timeout")
        return sorted(story[:3]) + story[3:]

    assert same_story(scene) == ["a", "b", "c", "d", "failed", "timeout"]


def test_processes(same_story):
    async def scene():
        async with await anyio.open_process(["cat"]) as process:
            story = []
            for number in range(20):
                await process.stdin.send(b"%d" % number)
                story.append(await process.stdout.receive())
            await process.stdin.aclose()
            story.append(await process.wait())
        with anyio.move_on_after(0.05):
            await anyio.run_process(["sleep", "60"])
        failed = await anyio.run_process("echo wrong >&2; exit 3", check=False)
        return [*story, failed.returncode, failed.stderr]

    assert same_story(scene) == [*(b"%d" % n for n in range(20)), 0, 3, b"wrong\n"]


def test_signals(same_story):
    async def scene():
        with anyio.open_signal_receiver(signal.SIGUSR1, signal.SIGUSR2) as signals:
            story = []
            for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGUSR1):
                signal.raise_signal(number)
                story.append(await anext(signals))
            return story

    assert same_story(scene) == [signal.SIGUSR1, signal.SIGUSR2, signal.SIGUSR1]


def test_threads_call_the_loop(same_story):
    async def scene():
        async def double(number):
            await anyio.sleep(0)
            return number * 2

        async def ask(number):
            doubled = await anyio.to_thread.run_sync(anyio.from_thread.run, double, number)
            answers.append(doubled)

        answers = []
        async with anyio.create_task_group() as group:
            for number in range(50):
                group.start_soon(ask, number)
        return sorted(answers)

    assert same_story(scene) == [n * 2 for n in range(50)]


def test_blocking_portal(loop_factory):
    async def kind():
        return type(asyncio.get_running_loop())

    loop = loop_factory()
    loop.close()
    with start_blocking_portal(backend_options={"loop_factory": loop_factory}) as portal:
        assert portal.call(kind) is type(loop)
        with pytest.raises(ZeroDivisionError):
            portal.call(lambda: 1 / 0)
