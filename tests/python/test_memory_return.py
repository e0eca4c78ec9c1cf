# SPDX-License-Identifier: MIT
"""What happens to the rest of a program when a loop gives back the memory of a flood of TLS connections."""

import asyncio
import json
import sys

import pytest
from tls_peer import write_certificate

from cxxloop import _memory

FLOOD_SOURCE = """
    import gc, json, os, resource, socket, ssl, sys, warnings, weakref

    certificate, mode = sys.argv[1:]
    warnings.simplefilter("ignore", ResourceWarning)
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    events = []

    class Cycle:
        def __init__(self):
            self.itself = self
        def __del__(self):
            events.append("finalized")
            loop.call_soon(events.append, "called")
            raise ValueError("from a finalizer")

    async def bystander():
        await asyncio.Event().wait()

    async def flood():
        socks = [socket.create_connection(server.sockets[0].getsockname()) for _ in range(2500)]
        while len(os.listdir("/proc/self/fd")) < 5000:
            await asyncio.sleep(0.01)
        for sock in socks:
            sock.close()
        while len(os.listdir("/proc/self/fd")) > 100:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)

    async def main():
        global server
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=context, backlog=4000)
        task = asyncio.create_task(bystander())
        await asyncio.sleep(0)
        gc.collect()
        if mode == "gc disabled":
            gc.disable()
        elif mode == "large heap":
            global kept
            kept = [[number] for number in range(200_000)]
            gc.collect()
        gc.set_threshold(100_000, 1000, 1000)  # so that no collection is Python's own
        Cycle()
        before = gc.get_stats()[2]["collections"]
        await flood()
        is_known = task in asyncio.all_tasks()
        print(json.dumps([events, gc.get_stats()[2]["collections"] - before, is_known]))
        task.cancel()
        server.close()

    loop = new_loop()
    loop.run_until_complete(main())
    loop.close()
"""


@pytest.mark.cxxloop_only("asyncio gives nothing back")
@pytest.mark.parametrize(
    ("mode", "collections"), [("small heap", 1), ("gc disabled", 0), ("large heap", 0)], ids=lambda value: str(value)
)
def test_a_collection_after_a_flood_runs_finalizers_as_any_other(run_script, tmp_path, mode, collections):
    result = run_script(FLOOD_SOURCE, write_certificate(tmp_path), mode)
    events, collected, is_known = json.loads(result.stdout)
    assert collected == collections
    assert events == ["finalized", "called"] * collections
    assert result.stderr.count("ValueError: from a finalizer") == collections
    assert is_known


def test_tasks_and_connections_stay_known(loop, run):
    class Client(asyncio.Protocol):
        def connection_lost(self, exc):
            ended.set_result(exc)

    async def main():
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        await loop.create_connection(Client, *server.sockets[0].getsockname())
        task = loop.create_task(asyncio.sleep(100))
        await asyncio.sleep(0.01)
        before = asyncio.all_tasks()
        _memory.tidy_up_after_flood([server], 1)
        assert asyncio.all_tasks() == before
        late = loop.create_task(asyncio.sleep(0))
        assert late in asyncio.all_tasks()
        await late
        task.cancel()
        await asyncio.wait([task])
        assert asyncio.all_tasks() == before - {task}
        server.close()
        if sys.version_info >= (3, 13):
            server.abort_clients()
            await ended

    ended = loop.create_future()
    run(main())


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="asyncio keeps no weak set of tasks since 3.14")
def test_a_walk_over_all_tasks_is_not_disturbed(loop, run):
    async def main():
        tasks = [loop.create_task(asyncio.sleep(100)) for _ in range(50)]
        await asyncio.sleep(0)
        registry = asyncio.tasks._all_tasks if sys.version_info < (3, 12) else asyncio.tasks._scheduled_tasks
        walk = iter(registry)
        met = [next(walk)]
        _memory.tidy_up_after_flood([], 1)
        met += walk
        assert set(met) >= set(tasks)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    run(main())


def test_the_cost_of_a_collection_is_bounded():
    blocks = sys.getallocatedblocks()
    assert _memory.tidy_up_after_flood([], blocks) is True
    assert _memory.tidy_up_after_flood([], blocks // 1000) is False
