# SPDX-License-Identifier: MIT
"""Other servers, started as their users start them: gunicorn and hypercorn."""

import asyncio
import signal

import pytest
from http_wire import BIG, connected, free_address, request, response, until_listening

# The first worker's loop is asyncio's by name: the loop of UvicornWorker is uvloop where that is installed.
GUNICORN_WORKER = {"asyncio": "uvicorn_worker.UvicornH11Worker", "cxxloop": "cxxloop.gunicorn.UvicornWorker"}
LAUNCHER = {"asyncio": [], "cxxloop": ["cxxloop", "-m"]}


def check_server(run, process, address, loop_name):
    """Every request is answered, by the right loop, and the server ends when it is told to."""

    async def main():
        await until_listening(process, address)
        async with connected(address) as (reader, writer):
            for _ in range(10):
                writer.write(request("/loop"))
                status, _, body = await response(reader)
                assert (status, body) == (200, loop_name.encode())
            writer.write(request("/size", bytes(BIG)))
            assert (await response(reader))[2] == b"%d" % BIG
        process.send_signal(signal.SIGTERM)
        await asyncio.get_running_loop().run_in_executor(None, process.wait, 15)

    run(main(), timeout=30)
    assert process.returncode in (0, -signal.SIGTERM)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_gunicorn(run, server_process, loop_name, workers):
    address = free_address()
    bind = f"{address[0]}:{address[1]}"
    process = server_process(
        "gunicorn", "http_wire:application", "-b", bind, "-k", GUNICORN_WORKER[loop_name], "-w", workers,
        "--no-control-socket",
    )  # fmt: skip
    check_server(run, process, address, loop_name)


@pytest.mark.parametrize("workers", ["0", "1"])  # in this process; in a spawned one
def test_hypercorn(run, server_process, loop_name, workers):
    address = free_address()
    bind = f"{address[0]}:{address[1]}"
    process = server_process(*LAUNCHER[loop_name], "hypercorn", "http_wire:application", "-b", bind, "-w", workers)
    check_server(run, process, address, loop_name)


def test_uvicorn_through_the_launcher(run, server_process, loop_name):
    address = free_address()
    process = server_process(
        *LAUNCHER[loop_name], "uvicorn", "http_wire:application", "--port", str(address[1]), "--loop", "none"
    )
    check_server(run, process, address, loop_name)
