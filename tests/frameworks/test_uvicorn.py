# SPDX-License-Identifier: MIT
"""uvicorn, in the test's process and in its own, on both loops."""

import asyncio
import contextlib
import signal

import pytest
import uvicorn
from http_suite import HttpServerSuite
from http_wire import application, connected, free_address, request, response, until_listening

LOOP_OPTION = {"asyncio": "asyncio", "cxxloop": "cxxloop:new_event_loop"}


class Server(uvicorn.Server):
    """Says when it is ready, and leaves the signals of the test's process alone."""

    def __init__(self, config):
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets=None):
        await super().startup(sockets)
        self.ready.set()

    @contextlib.contextmanager
    def capture_signals(self):
        yield


@contextlib.asynccontextmanager
async def serving(http):
    config = uvicorn.Config(
        application, port=0, loop="none", http=http, log_level="critical", timeout_graceful_shutdown=2
    )
    server = Server(config)
    task = asyncio.ensure_future(server.serve())
    await server.ready.wait()
    try:
        yield server.servers[0].sockets[0].getsockname()
    finally:
        server.should_exit = True
        await task


class TestHttptools(HttpServerSuite):
    def serving(self):
        return serving("httptools")


class TestH11(HttpServerSuite):
    def serving(self):
        return serving("h11")


@pytest.mark.parametrize("options", [[], ["--http", "h11"]])
def test_process(run, server_process, loop_name, options):
    async def main():
        address = free_address()
        process = server_process(
            "uvicorn", "http_wire:application", "--port", str(address[1]), "--loop", LOOP_OPTION[loop_name], *options
        )
        await until_listening(process, address)
        async with connected(address) as (reader, writer):
            writer.write(request("/loop") * 10)
            for _ in range(10):
                assert (await response(reader))[2] == loop_name.encode()
        process.send_signal(signal.SIGTERM)
        assert await asyncio.get_running_loop().run_in_executor(None, process.wait, 10) in (0, -signal.SIGTERM)

    run(main(), timeout=30)


def test_process_of_several_workers(run, server_process, loop_name):
    async def main():
        address = free_address()
        process = server_process(
            "uvicorn", "http_wire:application", "--port", str(address[1]), "--loop", LOOP_OPTION[loop_name],
            "--workers", "2",
        )  # fmt: skip
        await until_listening(process, address)
        for _ in range(20):
            async with connected(address) as (reader, writer):
                writer.write(request("/loop"))
                assert (await response(reader))[2] == loop_name.encode()

    run(main(), timeout=30)
