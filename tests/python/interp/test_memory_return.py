# SPDX-License-Identifier: MIT
"""What happens to the rest of a program when a loop gives back the memory of a flood of TLS connections."""

import asyncio
import json
import sys
import threading

import pytest
from tls_peer import write_certificate

from cxxloop import _memory

with_arenas = pytest.mark.skipif(sys.getallocatedblocks() == 0, reason="Python allocates by malloc(): it has no arenas")

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
        gc.set_threshold(1_000_000, 1000, 1000)  # so that no collection is Python's own
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


@with_arenas
@pytest.mark.cxxloop_only("asyncio gives nothing back")
@pytest.mark.parametrize(
    ("mode", "collects"), [("small heap", True), ("gc disabled", False), ("large heap", False)], ids=lambda value: str(value)
)
def test_collection_after_a_flood_runs_finalizers_as_any_other(run_script, tmp_path, mode, collects):
    result = run_script(FLOOD_SOURCE, write_certificate(tmp_path), mode)
    events, collected, is_known = json.loads(result.stdout)
    assert collected in ((1, 2) if collects else (0,))  # two, if the last clients are seen to leave by themselves
    assert events == ["finalized", "called"] * collects
    assert result.stderr.count("ValueError: from a finalizer") == collects
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
def test_walk_over_all_tasks_is_not_disturbed(loop, run):
    async def main():
        tasks = [loop.create_task(asyncio.sleep(100)) for _ in range(5000)]
        await asyncio.sleep(0)
        for task in tasks[50:]:
            task.cancel()
        await asyncio.wait(tasks[50:])
        del tasks[50:]
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


def test_tasks_that_other_threads_make_meanwhile_stay_known(loop):
    """The interpreter changes threads between any two bytecodes."""
    lost = []

    async def make_tasks():
        for _ in range(300):
            task = asyncio.ensure_future(asyncio.sleep(100))
            await asyncio.sleep(0)
            if task not in asyncio.all_tasks():
                lost.append(task)
            task.cancel()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=lambda: asyncio.run(make_tasks())) for _ in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        _memory.tidy_up_after_flood([], 1)
    for thread in threads:
        thread.join()
    sys.setswitchinterval(interval)
    assert lost == []


END_OF_FLOOD_SOURCE = """
    import gc, sys
    from cxxloop import _core

    class Cycle:
        def __init__(self):
            self.itself = self
        def __del__(self):
            loop.close()

    def end_flood():
        protocols = [_core.TlsProtocol() for _ in range(3000)]
        protocols.clear()

    loop = new_loop()
"""


@pytest.mark.cxxloop_only("asyncio tidies up nothing")
def test_finalizer_may_close_a_loop_that_makes_single_turns(run_script):
    result = run_script(
        END_OF_FLOOD_SOURCE
        + """
    loop._after_flood = lambda servers, connections: True
    gc.collect()
    end_flood()
    Cycle()
    try:
        loop._run_once()
    except RuntimeError as error:
        print(error, loop.is_closed())
    """
    )
    assert result.stdout == "Event loop is closed True\n"


@pytest.mark.cxxloop_only("asyncio tidies up nothing")
def test_error_while_tidying_up_is_reported_and_an_exit_leaves(run_script):
    result = run_script(
        END_OF_FLOOD_SOURCE
        + """
    def fail(servers, connections):
        raise errors.pop(0)

    errors = [LookupError("first"), KeyboardInterrupt("second")]
    loop._after_flood = fail
    loop.set_exception_handler(lambda loop, context: print(context["message"], repr(context["exception"])))
    end_flood()
    loop.run_until_complete(asyncio.sleep(0.01))
    end_flood()
    try:
        loop.run_until_complete(asyncio.sleep(0.01))
    except KeyboardInterrupt as interrupt:
        print(repr(interrupt))
    loop.close()
    """
    )
    assert result.stdout.splitlines() == [
        "Exception in Loop._after_flood() LookupError('first')",
        "KeyboardInterrupt('second')",
    ]


@with_arenas
def test_the_cost_of_a_collection_is_bounded():
    blocks = sys.getallocatedblocks()
    assert _memory.tidy_up_after_flood([], blocks) is True
    assert _memory.tidy_up_after_flood([], blocks // 1000) is False
