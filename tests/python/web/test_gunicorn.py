# SPDX-License-Identifier: MIT
"""cxxloop's own server as a worker class of gunicorn."""

import contextlib
import signal
import sys

import pytest
from program import APPLICATION, Program, write

pytestmark = pytest.mark.any_backend("its processes have the ordinary backend")


@pytest.fixture
def gunicorn(tmp_path):
    """Starts gunicorn with our worker class; returns the program and its port."""
    pytest.importorskip("gunicorn")
    pytest.importorskip("cxxloop._web")
    write(tmp_path, "app.py", APPLICATION)
    with contextlib.ExitStack() as stack:

        def gunicorn(*flags, target="app:app"):
            arguments = ["-m", "gunicorn", "-k", "cxxloop.gunicorn.WebWorker", "-b", "127.0.0.1:0", *flags, target]
            program = Program(tmp_path, [sys.executable, *arguments])
            stack.callback(program.close)
            return program

        yield gunicorn


def serving(program, count=1):
    program.wait_for("Application startup complete", count)
    return int(program.wait_for(r"Listening at: http://127\.0\.0\.1:(\d+)")[1])


def test_asgi_application_is_served_and_drained(gunicorn):
    program = gunicorn("--access-logfile", "-")
    port = serving(program)
    status, pid = program.get("/", port)
    assert status == 200 and int(pid) != program.process.pid
    program.wait_for('"GET / HTTP/1.1" 200')
    held = program.get_later("/hold", port)
    program.wait_for("^holding")
    program.send(signal.SIGTERM)
    program.wait_for("Waiting for connections to close")
    program.let_go()
    assert held()[0] == 200
    assert program.wait() == 0


def test_wsgi_application_is_served(gunicorn, tmp_path):
    source = "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [environ['PATH_INFO'].encode()]\n"
    write(tmp_path, "classic.py", source)
    program = gunicorn("--threads", "3", target="classic:app")
    assert program.get("/x", serving(program)) == (200, "/x")


def test_quick_signal_waits_for_nobody(gunicorn):
    program = gunicorn()
    port = serving(program)
    program.get_later("/hold", port)
    program.wait_for("^holding")
    assert program.end(signal.SIGQUIT) == 0


def test_worker_is_replaced_after_its_requests(gunicorn):
    program = gunicorn("--max-requests", "2")
    port = serving(program)
    first = {program.get("/", port)[1] for _ in range(2)}
    serving(program, 2)
    assert program.get("/", port)[1] not in first


def test_blocked_worker_is_replaced(gunicorn):
    program = gunicorn("--timeout", "2")
    port = serving(program)
    program.get_later("/block", port)
    program.wait_for("^blocking")
    program.wait_for("WORKER TIMEOUT")
    serving(program, 2)
    assert program.get("/", port)[0] == 200


def test_failed_start_ends_gunicorn(gunicorn, tmp_path):
    write(tmp_path, "failing.py", "async def app(scope, receive, send):\n    await receive()\n    await send({'type': 'lifespan.startup.failed'})\n")
    program = gunicorn(target="failing:app")
    assert program.wait() == 3
    program.wait_for("Application startup failed. Exiting.")


def test_worker_whose_gunicorn_was_killed_ends(gunicorn):
    program = gunicorn()
    serving(program)
    program.process.kill()
    assert program.wait() == -signal.SIGKILL  # also waits until no process holds the log open
    program.wait_for("Finished server process")
