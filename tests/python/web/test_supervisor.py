# SPDX-License-Identifier: MIT
"""Worker processes: shared sockets, replacement of dead and stuck ones, restarts without a lost request, the end."""

import contextlib
import http.client
import os
import re
import signal
import threading
import time

import pytest
from program import WAIT_S, write

pytestmark = pytest.mark.any_backend("its processes have the ordinary backend")


def kill_worker(program, number=signal.SIGKILL):
    """Sends a signal to some worker; returns its process id."""
    pid = int(program.get()[1])
    os.kill(pid, number)
    return pid


@pytest.fixture
def workers(serve):
    """Starts a parent with two workers that serve."""

    def workers(*flags, count=2, **keywords):
        program = serve("--workers", str(count), *flags, **keywords)
        program.port()
        program.wait_for("Application startup complete", count)
        return program

    return workers


class Outcomes(list):
    """What became of requests, in another thread."""

    def __init__(self):
        super().__init__()
        self._changed = threading.Condition()

    def append(self, outcome):
        with self._changed:
            super().append(outcome)
            self._changed.notify_all()

    def wait_for_more(self, count):
        with self._changed:
            enough = len(self) + count
            assert self._changed.wait_for(lambda: len(self) >= enough, WAIT_S)


@contextlib.contextmanager
def load(program, *, keep_alive=False):
    """Requests one after the other, on new connections or on one for as long as the server keeps it, while it is entered.

    Yields their outcomes.
    """
    outcomes = Outcomes()
    is_over = threading.Event()
    connection = http.client.HTTPConnection("127.0.0.1", program.port(), timeout=WAIT_S)

    def run():
        while not is_over.is_set():
            try:
                connection.request("GET", "/")  # connects again only after `connection: close`
                response = connection.getresponse()
                outcomes.append((response.status, response.read().decode()))
                if not keep_alive:
                    connection.close()
            except Exception as error:
                outcomes.append(error)
                connection.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield outcomes
    finally:
        is_over.set()
        thread.join(WAIT_S)
        connection.close()


def failed(outcomes):
    return [outcome for outcome in outcomes if isinstance(outcome, Exception) or outcome[0] != 200]


def test_workers_share_a_socket(workers):
    program = workers()
    blocked = program.get_later("/block")
    program.wait_for("^blocking")
    others = {program.get()[1] for _ in range(5)}  # whoever is free takes the connection
    program.let_go()
    assert len(others) == 1 and blocked()[1] not in others
    assert program.end() == 0


def test_workers_have_sockets_of_one_port(workers):
    program = workers("--reuse-port")
    pids = {program.get()[1] for _ in range(60)}  # the kernel chooses by the client's port
    assert len(pids) == 2
    assert program.end() == 0


def test_log_of_parent_is_uvicorns(workers):
    program = workers()
    pid = program.process.pid
    assert program.end() == 0
    for line in (
        f"Started parent process [{pid}]",
        "Received SIGTERM, exiting.",
        f"Stopping parent process [{pid}]",
    ):
        assert f"INFO:     {line}" in program.lines
    assert len([line for line in program.lines if "cxxloop serving on" in line]) == 1
    assert len([line for line in program.lines if re.search(r"Terminated child process \[\d+\]", line)]) == 2


def test_killed_worker_is_replaced_and_harms_no_other(workers):
    program = workers()
    blocked = program.get_later("/block")  # so that whoever answers now is the other one
    program.wait_for("^blocking")
    victim = kill_worker(program)
    program.wait_for(rf"Child process \[{victim}\] died \(signal SIGKILL\)")
    program.wait_for("Application startup complete", 3)
    assert program.get()[0] == 200
    program.let_go()
    assert int(blocked()[1]) != victim


def test_stopped_worker_is_replaced(workers):
    program = workers("--timeout-worker-healthcheck", "0.5")
    pid = kill_worker(program, signal.SIGSTOP)
    program.wait_for(rf"Child process \[{pid}\] does not answer, killing it")
    program.wait_for("Application startup complete", 3)


def test_blocked_worker_is_replaced(workers):
    program = workers("--timeout-worker-stuck-seconds", "0.2")
    program.get_later("/block")
    program.wait_for("^blocking")
    pid = int(program.wait_for(r"The event loop of child process \[(\d+)\] is stuck for \d+ s, killing it")[1])
    program.wait_for(rf"Child process \[{pid}\] died \(signal SIGKILL\)")
    program.wait_for("Application startup complete", 3)


def test_worker_that_cannot_start_ends_the_parent(serve, tmp_path):
    write(tmp_path, "failing.py", "async def app(scope, receive, send):\n    await receive()\n    await send({'type': 'lifespan.startup.failed'})\n")
    program = serve("--workers", "2", target="failing:app")
    assert program.wait() == 3
    program.wait_for(r"ERROR: +Child process \[\d+\] failed to start, stopping the parent process\.")
    program = serve("--workers", "2", target="nothing:app")
    assert program.wait() == 1
    program.wait_for('Error loading ASGI app. Could not import module "nothing".')


def test_start_is_tried_again_ever_more_slowly(workers, tmp_path):
    program = workers()
    source = (tmp_path / "app.py").read_text()
    write(tmp_path, "app.py", "1 / 0\n")
    pid = kill_worker(program)
    program.wait_for(rf"Child process \[{pid}\] died")
    program.wait_for(r"Child process \[\d+\] failed to start \(exit code 1\)")
    program.wait_for("Starting a new child process in 0.5 s")
    program.wait_for("Starting a new child process in 1.0 s")
    assert program.get()[0] == 200  # the other one
    write(tmp_path, "app.py", source)
    program.send(signal.SIGHUP)  # at once
    program.wait_for("Application startup complete", 4)
    assert program.end() == 0


@pytest.mark.parametrize("keep_alive", [False, True])
def test_hangup_restarts_without_a_lost_request(workers, keep_alive):
    program = workers()
    held = program.get_later("/hold")
    program.wait_for("^holding")
    with load(program, keep_alive=keep_alive) as outcomes:
        program.send(signal.SIGHUP)
        program.wait_for("Application startup complete", 4)
        program.wait_for(r"Terminated child process", 2)
        program.wait_for("Finished server process")
        outcomes.wait_for_more(20)
    assert failed(outcomes) == []
    program.let_go()
    assert held()[0] == 200  # of a worker that was told to end meanwhile
    program.wait_for("Finished server process", 2)
    old = {int(match) for match in re.findall(r"Terminated child process \[(\d+)\]", program.log)}
    assert int(program.get()[1]) not in old


def test_hangup_loads_new_code(workers, tmp_path):
    program = workers(count=2)
    source = (tmp_path / "app.py").read_text()
    write(tmp_path, "app.py", source.replace("str(os.getpid())", "'new code'"))
    program.send(signal.SIGHUP)
    program.wait_for("Terminated child process", 2)
    deadline = time.monotonic() + WAIT_S
    while program.get() != (200, "new code"):  # an old worker may have accepted before it heard of its end
        assert time.monotonic() < deadline, program.log


def test_hangup_keeps_old_workers_if_the_new_code_is_broken(workers, tmp_path):
    program = workers()
    write(tmp_path, "app.py", "1 / 0\n")
    program.send(signal.SIGHUP)
    program.wait_for(r"New child process \[\d+\] was not ready in time \(exit code 1\); keeping worker \[\d+\]\.")
    program.wait_for("Aborting the restart")
    assert program.get()[0] == 200
    assert "Terminated child process" not in program.log


def test_worker_that_starts_too_slowly_is_given_up(workers, tmp_path):
    program = workers("--timeout-worker-startup-seconds", "3")
    write(tmp_path, "app.py", "import time\ntime.sleep(1000)\n")
    program.send(signal.SIGHUP)
    program.wait_for(r"New child process \[\d+\] was not ready in time \(signal SIGKILL\)")
    assert program.get()[0] == 200


def test_more_and_fewer_workers(workers):
    program = workers()
    program.send(signal.SIGTTIN)
    program.wait_for("Received SIGTTIN, increasing the number of processes.")
    program.wait_for("Application startup complete", 3)
    for count in (1, 2):
        program.send(signal.SIGTTOU)
        program.wait_for("Finished server process", count)
    program.send(signal.SIGTTOU)
    program.wait_for("Already reached one process, cannot decrease the number of processes anymore.")
    assert program.get()[0] == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_end_drains_every_worker(workers, number):
    program = workers()
    held = [program.get_later("/hold") for _ in range(4)]
    program.wait_for("^holding", 4)
    program.send(number)
    program.wait_for("Terminated child process", 2)
    program.let_go()
    assert [response()[0] for response in held] == [200] * 4
    assert program.wait() == 0


def test_second_signal_forces(workers):
    program = workers()
    program.get_later("/hold")
    program.wait_for("^holding")
    program.send(signal.SIGTERM)
    program.wait_for("Waiting for connections to close")
    assert program.end() == 0


def test_third_signal_kills(workers):
    program = workers()
    program.get_later("/block")
    program.wait_for("^blocking")
    for count in (1, 2, 3):
        program.send(signal.SIGTERM)
        program.wait_for("Received SIGTERM, exiting.", count)
    assert program.wait() == 0


def test_workers_of_a_killed_parent_end(workers):
    program = workers()
    program.process.kill()
    assert program.wait() == -signal.SIGKILL  # also waits until no process holds the log open
    assert sum("Finished server process" in line for line in program.lines) == 2


@pytest.mark.parametrize("keep_alive", [False, True])
def test_worker_retires_after_its_requests(workers, keep_alive):
    program = workers("--limit-max-requests", "20", count=2)
    with load(program, keep_alive=keep_alive) as outcomes:
        program.wait_for("Maximum request limit of 20 exceeded. Terminating process.", 2)
        program.wait_for("Application startup complete", 4)
        program.wait_for("Finished server process", 2)
    assert failed(outcomes) == []
    assert len({pid for _, pid in outcomes}) >= 3


def test_run_with_workers_needs_no_guard_in_the_script(script):
    program = script('import cxxloop.web\n\ncxxloop.web.run("app:app", port=0, workers=2)\n')
    program.wait_for("Application startup complete", 2)
    assert program.get()[0] == 200
    assert program.end() == 0


def test_settings_that_cannot_be_pickled_are_one_line(script):
    program = script(
        """
        import cxxloop.web

        cxxloop.web.run("app:app", port=0, workers=2, loop=lambda: None)
        """
    )
    assert program.wait() == 1
    assert re.match("ERROR: +workers: a setting cannot be pickled for other processes: ", program.lines[-1])


def test_unix_socket_is_shared_and_removed(serve, tmp_path):
    program = serve("--workers", "2", "--uds", "app.sock", port=None)
    program.wait_for("serving on unix socket app.sock")
    path = tmp_path / "app.sock"
    assert program.get_unix(str(path))[0] == 200
    assert program.end() == 0
    assert not path.exists()
