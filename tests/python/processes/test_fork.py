# SPDX-License-Identifier: MIT
"""os.fork while loops exist: the child gets loops of its own, the parent notices nothing."""

import sys

import pytest

# The child runs `child()` and leaves without cleaning up; the parent goes on when it has ended well.
FORK = """
import os, socket, sys, threading

def fork(child):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            child()
            code = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return pid

def join(pid):
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

def run_own_loop():
    loop = new_loop()
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    async def main():
        assert asyncio.get_running_loop() is loop
        thread = threading.Timer(0.02, loop.call_soon_threadsafe, (right.send, b"x"))
        thread.start()
        assert await loop.sock_recv(left, 1) == b"x"
        await asyncio.sleep(0.01)
        thread.join()
        return 42
    assert loop.run_until_complete(main()) == 42
    loop.close()
"""




@pytest.fixture
def run_forking(run_script):
    def run_forking(source):
        result = run_script(FORK + source, options=("-W", "ignore::DeprecationWarning"))
        assert result.stderr == ""
        return result.stdout

    return run_forking


def test_child_runs_a_loop_of_its_own(run_forking):
    run_forking(
        """
inherited = new_loop()
inherited.run_until_complete(asyncio.sleep(0))
join(fork(run_own_loop))
inherited.run_until_complete(asyncio.sleep(0.01))
inherited.close()
"""
    )


def test_child_made_inside_a_callback_runs_a_loop_of_its_own(run_forking):
    out = run_forking(
        """
def child():
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        print("no running loop", flush=True)
    run_own_loop()

async def main():
    join(fork(child))
    await asyncio.sleep(0.01)

loop = new_loop()
loop.run_until_complete(main())
loop.close()
"""
    )
    assert out == "no running loop\n"


def test_the_loop_of_the_parent_is_undisturbed(run_forking):
    out = run_forking(
        """
loop = new_loop()
left, right = socket.socketpair()
left.setblocking(False)

async def main():
    readable = asyncio.Event()
    loop.add_reader(left, readable.set)
    timer = loop.create_task(asyncio.sleep(0.05, "timer"))
    join(fork(run_own_loop))
    right.send(b"x")
    await readable.wait()
    loop.remove_reader(left)
    print(await timer)
    print(await loop.run_in_executor(None, lambda: "thread"))

loop.run_until_complete(main())
loop.close()
"""
    )
    assert out == "timer\nthread\n"


@pytest.mark.cxxloop_only("asyncio's child takes the wakeup socket out of the epoll it shares with the parent")
def test_child_may_close_the_inherited_loop(run_forking):
    out = run_forking(
        """
loop = new_loop()
left, right = socket.socketpair()
left.setblocking(False)

def child():
    loop.close()
    assert loop.is_closed()
    run_own_loop()

async def main():
    task = loop.create_task(loop.sock_recv(left, 1))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    threading.Timer(0.1, loop.call_soon_threadsafe, (right.send, b"x")).start()
    print(await task)

loop.run_until_complete(asyncio.sleep(0))
join(fork(child))
loop.run_until_complete(main())
loop.close()
"""
    )
    assert out == "b'x'\n"


@pytest.mark.cxxloop_only("asyncio lets the child disturb the parent")
@pytest.mark.parametrize(
    "use",
    [
        "loop.run_forever()",
        "loop.run_until_complete(loop.create_future())",
        "loop.add_reader(sock, int)",
        "loop.add_writer(sock, int)",
    ],
)
def test_using_the_inherited_loop_is_refused(run_forking, use):
    out = run_forking(
        f"""
loop = new_loop()
sock, peer = socket.socketpair()
loop.run_until_complete(asyncio.sleep(0))

def child():
    try:
        {use}
    except RuntimeError as exc:
        print("refused:", exc, flush=True)

join(fork(child))
loop.close()
"""
    )
    assert out.startswith("refused: ")
    assert "fork" in out


def test_grandchild_runs_a_loop_of_its_own(run_forking):
    run_forking(
        """
inherited = new_loop()

def child():
    own = new_loop()
    own.run_until_complete(asyncio.sleep(0))
    join(fork(run_own_loop))
    own.run_until_complete(asyncio.sleep(0))
    own.close()

join(fork(child))
inherited.run_until_complete(asyncio.sleep(0))
inherited.close()
"""
    )


def test_multiprocessing_by_fork(run_forking):
    out = run_forking(
        """
import multiprocessing

async def answer():
    await asyncio.sleep(0.01)
    return 42

def work(queue):
    with asyncio.Runner(loop_factory=new_loop) as runner:
        queue.put(runner.run(answer()))

async def main():
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    workers = [context.Process(target=work, args=(queue,)) for _ in range(3)]
    for worker in workers:
        worker.start()
    results = [queue.get() for _ in workers]
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    print(results)

with asyncio.Runner(loop_factory=new_loop) as runner:
    runner.run(main())
"""
    )
    assert out == "[42, 42, 42]\n"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio resets the wakeup descriptor of a child since 3.12")
def test_signal_to_the_child_stays_there(run_forking):
    out = run_forking(
        """
import signal
loop = new_loop()
seen = []
loop.add_signal_handler(signal.SIGUSR1, seen.append, 1)

def child():
    signal.signal(signal.SIGUSR1, lambda number, frame: print("child", flush=True))
    os.kill(os.getpid(), signal.SIGUSR1)

join(fork(child))
loop.call_later(0.02, loop.stop)
loop.run_forever()
loop.close()
print(seen)
"""
    )
    assert out == "child\n[]\n"
