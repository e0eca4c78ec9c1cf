# SPDX-License-Identifier: MIT
"""Child processes: how they start, what they inherit, how their end is noticed, signals."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

PIPE = subprocess.PIPE
SIGKILLED = -signal.SIGKILL


def python(source, *args, **options):
    return asyncio.create_subprocess_exec(sys.executable, "-I", "-S", "-c", source, *args, **options)


async def output_of(source, *args, **options):
    process = await python(source, *args, stdout=PIPE, **options)
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode().strip()


# --- starting -----------------------------------------------------------------------------------------------------


def test_input_and_output_go_through_pipes(run):
    async def main():
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        data = bytes(range(256)) * 16384
        output, _ = await process.communicate(data)
        assert output == data
        assert process.returncode == 0

    run(main())


def test_streams_of_a_child(run):
    async def main():
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        for number in range(100):
            process.stdin.write(b"%d\n" % number)
            await process.stdin.drain()
            assert await process.stdout.readline() == b"%d\n" % number
        process.stdin.close()
        assert await process.wait() == 0
        assert await process.stdout.read() == b""

    run(main())


def test_errors_into_the_output(run):
    async def main():
        process = await asyncio.create_subprocess_shell("echo out; echo err >&2", stdout=PIPE, stderr=subprocess.STDOUT)
        output, errors = await process.communicate()
        assert (output, errors) == (b"out\nerr\n", None)

    run(main())


def test_options_of_popen(run, tmp_path):
    async def main():
        assert await output_of("import os; print(os.getcwd())", cwd=tmp_path) == str(tmp_path)
        assert await output_of("import os; print(os.environ.get('CHOSEN'))", env={"CHOSEN": "yes"}) == "yes"
        assert await output_of("import os; print(len(os.environ.keys() - {'LC_CTYPE'}))", env={}) == "0"
        assert await output_of("import os; print(os.getpid() == os.getsid(0))", start_new_session=True) == "True"
        assert await output_of("import os; print(os.getpid() == os.getpgrp())", process_group=0) == "True"
        assert await output_of("import os; print(oct(os.umask(0)))", umask=0o27) == "0o27"
        assert await output_of("import os; print(os.nice(0))", preexec_fn=lambda: os.nice(3)) == str(os.nice(0) + 3)

    run(main())


@pytest.mark.skipif(os.getuid() != 0, reason="only root changes users")
def test_user_and_group(run):
    async def main():
        script = "id -u; id -g; id -G"
        process = await asyncio.create_subprocess_shell(script, stdout=PIPE, user=1, group=2, extra_groups=[])
        assert (await process.communicate())[0].split() == [b"1", b"2", b"2"]

    run(main())


def test_child_inherits_what_it_is_given_and_nothing_else(run, pipe, open_fds):
    inheritable = {0, 1, 2} | {fd for fd in open_fds() if os.get_inheritable(fd)}
    listing = """
import os
def is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
print(*filter(is_open, range(256)))
"""

    async def main():
        other = await asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
        assert await output_of(listing, stdin=PIPE, stderr=PIPE) == "0 1 2"
        # Nothing of ours is inheritable, so that even a child that keeps descriptors gets none.
        assert await output_of(listing, stdin=PIPE, stderr=PIPE, close_fds=False) == " ".join(
            map(str, sorted(inheritable))
        )
        assert await output_of(listing, pass_fds=[pipe[1]]) == f"0 1 2 {pipe[1]}"
        assert await other.communicate(b"") == (b"", None)

    run(main())


def test_program_that_cannot_start_leaves_nothing(run, open_fds):
    async def main():
        for _ in range(3):
            with pytest.raises(FileNotFoundError):
                await asyncio.create_subprocess_exec("no-such-program-there", stdin=PIPE, stdout=PIPE)
        with pytest.raises(ValueError, match="null byte"):
            await asyncio.create_subprocess_exec("true", "a\0b", stdout=PIPE)
        with pytest.raises(FileNotFoundError):
            await asyncio.create_subprocess_exec("true", cwd="/no/such/folder")

    gc.collect()
    before = open_fds()
    run(main())
    gc.collect()
    assert open_fds() <= before


@pytest.mark.parametrize("closed", ["0", "0 2", "0 1 2"])
def test_standard_descriptors_may_be_closed(run_script, tmp_path, closed):
    """The child's pipes may then have the very numbers they have to go to."""
    answer = tmp_path / "answer"
    run_script(
        """
        import os, sys
        for number in sys.argv[1].split():
            os.close(int(number))

        async def main():
            process = await asyncio.create_subprocess_exec("cat", stdin=-1, stdout=-1)
            output, _ = await process.communicate(b"through")
            with open(sys.argv[2], "w") as answer:
                print(output.decode(), process.returncode, file=answer)

        loop = new_loop()
        loop.run_until_complete(main())
        loop.close()
        """,
        closed,
        str(answer),
    )
    assert answer.read_text() == "through 0\n"


def test_children_of_a_loop_in_a_thread(loop_factory):
    codes = []

    def body():
        loop = loop_factory()

        async def main():
            process = await asyncio.create_subprocess_shell("exit 7")
            codes.append(await process.wait())

        loop.run_until_complete(main())
        loop.close()

    thread = threading.Thread(target=body)
    thread.start()
    thread.join(10)
    assert codes == [7]


# --- the end ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 41", 41), ("kill -9 $$", -9), ("kill -15 $$", -15)])
def test_exit_status(run, script, code):
    async def main():
        process = await asyncio.create_subprocess_shell(script)
        assert await process.wait() == code
        assert process.returncode == code
        assert process._transport.get_returncode() == code

    run(main())


class Watcher(asyncio.SubprocessProtocol):
    def __init__(self):
        self.events = []
        self.done = asyncio.get_running_loop().create_future()
        self.exited = asyncio.get_running_loop().create_future()

    def pipe_data_received(self, fd, data):
        self.events.append((fd, data))

    def pipe_connection_lost(self, fd, exc):
        self.events.append(("lost", fd))

    def process_exited(self):
        self.events.append("exited")
        self.exited.set_result(None)

    def connection_lost(self, exc):
        self.events.append(("connection_lost", exc))
        self.done.set_result(None)


def test_the_exit_may_come_before_the_end_of_the_pipes(run):
    """A grandchild keeps the pipe: the exit is told at once, the connection is lost with the pipe."""

    async def main():
        script = "sleep 60 & echo $!"
        transport, protocol = await asyncio.get_running_loop().subprocess_shell(Watcher, script, stdin=None, stderr=None)
        await protocol.exited
        assert transport.get_returncode() == 0
        assert not protocol.done.done()
        while len(protocol.events) < 2:  # "exited" and the grandchild's number, in either order
            await asyncio.sleep(0)
        [(_, pid)] = [event for event in protocol.events if event != "exited"]
        os.kill(int(pid), signal.SIGKILL)
        await protocol.done
        assert protocol.events[-2:] == [("lost", 1), ("connection_lost", None)]
        transport.close()

    run(main())


def test_many_children_leave_no_descriptor(run, open_fds):
    async def one():
        process = await asyncio.create_subprocess_exec("true", stdin=PIPE, stdout=PIPE)
        await process.communicate()
        assert process.returncode == 0

    async def main():
        await one()
        before = open_fds()
        for _ in range(5):
            await asyncio.gather(*(one() for _ in range(10)))
        gc.collect()
        assert open_fds() == before

    run(main(), timeout=30)


def test_cancelling_the_start_kills_and_leaves_nothing(run, loop, open_fds):
    async def main():
        before = open_fds()
        task = loop.create_task(asyncio.create_subprocess_exec("sleep", "60", stdin=PIPE, stdout=PIPE))
        await asyncio.sleep(0)  # started, its pipes are not connected
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        del task
        gc.collect()
        while open_fds() != before:  # the pipes are closed a turn after the exit
            await asyncio.sleep(0)

    run(main())


def test_closing_the_transport_kills(run):
    async def main():
        transport, protocol = await asyncio.get_running_loop().subprocess_exec(Watcher, "sleep", "60", stdin=None)
        transport.close()
        await protocol.done
        assert transport.get_returncode() == SIGKILLED

    run(main())


@pytest.mark.cxxloop_only(reason="asyncio's pidfd watcher never closes its descriptor then")
def test_closed_loop_forgets_its_child(loop, open_fds):
    gc.collect()
    before = open_fds()

    async def main():
        return await asyncio.create_subprocess_exec("sleep", "60")

    process = loop.run_until_complete(main())
    popen = process._transport.get_extra_info("subprocess")
    loop.close()
    popen.kill()
    popen.wait()
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        del process
        gc.collect()
    assert open_fds() <= before


@pytest.mark.cxxloop_only(reason="asyncio of Python 3.11 has a thread for each child")
def test_no_thread_and_no_signal_handler(run):
    async def main():
        threads = threading.active_count()
        process = await asyncio.create_subprocess_exec("sleep", "60")
        assert threading.active_count() == threads
        assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL
        process.kill()
        assert await process.wait() == SIGKILLED

    run(main())


def test_program_with_its_own_sigchld_handler(run):
    calls = []
    previous = signal.signal(signal.SIGCHLD, lambda number, frame: calls.append(number))
    try:

        async def main():
            process = await asyncio.create_subprocess_shell("exit 5")
            assert await process.wait() == 5

        run(main())
    finally:
        signal.signal(signal.SIGCHLD, previous)
    assert calls == [signal.SIGCHLD]


def test_status_read_by_somebody_else_is_255(run, asyncio_records, loop_name):
    if loop_name == "asyncio" and sys.version_info < (3, 12):
        pytest.skip("a thread of asyncio's is faster")

    async def main():
        process = await asyncio.create_subprocess_exec("sleep", "60", stdout=PIPE)
        os.kill(process.pid, signal.SIGKILL)
        os.waitpid(process.pid, 0)
        assert await process.wait() == 255

    run(main())
    assert any("will report returncode 255" in text for text in asyncio_records.texts(30))


@pytest.mark.cxxloop_only(reason="up to 3.12 asyncio's pidfd watcher keeps its descriptor then")
def test_status_read_by_somebody_else_leaves_no_descriptor(run, open_fds):
    async def main():
        before = open_fds()
        for _ in range(5):
            process = await asyncio.create_subprocess_exec("sleep", "60")
            os.kill(process.pid, signal.SIGKILL)
            os.waitpid(process.pid, 0)
            await process.wait()
        del process
        gc.collect()
        assert open_fds() == before

    run(main())


@pytest.mark.cxxloop_only(reason="asyncio's pidfd watcher fails if the child is gone")
def test_children_nobody_waits_for(run_script):
    """With SIGCHLD ignored the kernel keeps no status."""
    result = run_script(
        """
        import signal
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)

        async def main():
            for command in ("true", "sleep 0.05"):
                process = await asyncio.create_subprocess_shell(command, stdout=-1)
                print(await process.wait())

        loop = new_loop()
        loop.run_until_complete(main())
        loop.close()
        """
    )
    assert result.stdout == "255\n255\n"


@pytest.mark.cxxloop_only(reason="asyncio says 255 if Popen has read the status, or asks for a descriptor it cannot have")
def test_status_that_popen_has_read_is_kept(run, asyncio_records):
    async def main():
        process = await asyncio.create_subprocess_exec("sleep", "60")
        popen = process._transport.get_extra_info("subprocess")
        os.kill(process.pid, signal.SIGTERM)
        popen.wait()
        assert await process.wait() == -signal.SIGTERM

    run(main())
    assert asyncio_records.texts(30) == []


@pytest.mark.cxxloop_only(reason="asyncio's pidfd watcher fails and loses the child")
def test_without_descriptors_a_thread_waits(run):
    async def main():
        def refuse(pid, flags=0):
            raise OSError(24, "Too many open files")

        original, os.pidfd_open = os.pidfd_open, refuse
        try:
            process = await asyncio.create_subprocess_shell("exit 9")
        finally:
            os.pidfd_open = original
        assert await process.wait() == 9

    run(main())


def test_child_that_ends_at_once_is_noticed_at_once(run):
    async def main():
        delays = []
        for _ in range(20):
            process = await asyncio.create_subprocess_exec("sleep", "60")
            waiting = asyncio.ensure_future(process.wait())
            await asyncio.sleep(0)
            started = time.monotonic()
            process.kill()
            await waiting
            delays.append(time.monotonic() - started)
        assert sorted(delays)[len(delays) // 2] < 0.05

    run(main())


# --- signals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "number"), [("terminate", signal.SIGTERM), ("kill", signal.SIGKILL)])
def test_signals(run, method, number):
    async def main():
        process = await asyncio.create_subprocess_exec("sleep", "60")
        getattr(process, method)()
        assert await process.wait() == -number
        with pytest.raises(ProcessLookupError):
            process.send_signal(number)

    run(main())


def test_wrong_signal_is_an_error(run):
    async def main():
        process = await asyncio.create_subprocess_exec("sleep", "60")
        with pytest.raises(OSError):
            process.send_signal(4711)
        process.kill()
        await process.wait()

    run(main())


@pytest.mark.cxxloop_only(reason="asyncio's Popen takes the status away from its watcher, up to Python 3.13")
def test_signal_between_the_end_and_its_notice_loses_no_status(run, asyncio_records):
    async def main():
        process = await asyncio.create_subprocess_exec("sleep", "60")
        os.kill(process.pid, signal.SIGTERM)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        process._transport.send_signal(signal.SIGKILL)
        process._transport.close()
        assert await process.wait() == -signal.SIGTERM

    run(main())
    assert asyncio_records.texts(30) == []


@pytest.mark.cxxloop_only(reason="asyncio signals by number")
def test_process_with_a_used_number_is_left_alone(run, monkeypatch):
    """After somebody else has read the status, the number may belong to anybody."""

    async def main():
        process = await asyncio.create_subprocess_exec("sleep", "60")
        os.kill(process.pid, signal.SIGKILL)
        os.waitpid(process.pid, 0)
        killed = []
        monkeypatch.setattr(os, "kill", lambda pid, number: killed.append(pid))
        process._transport.send_signal(signal.SIGKILL)
        process._transport.kill()
        process._transport.close()
        assert killed == []
        assert await process._transport._wait() == 255

    run(main())
