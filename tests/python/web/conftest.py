# SPDX-License-Identifier: MIT
"""Fixtures of the server's tests."""

import contextlib
import os
import subprocess
import sys

import pytest
from program import APPLICATION, Program, write


@pytest.fixture
def serve(tmp_path):
    """Starts `cxxloop serve` with flags in a folder of its own, where app.py is the application of the tests."""
    pytest.importorskip("click")
    pytest.importorskip("cxxloop._web")
    write(tmp_path, "app.py", APPLICATION)
    with contextlib.ExitStack() as stack:

        def serve(*flags, target="app:app", port="0", env=None, pass_fds=()):
            where = () if port is None else ("--port", port)
            arguments = [sys.executable, "-m", "cxxloop", "serve", target, *where, *flags]
            program = Program(tmp_path, arguments, env=env, pass_fds=pass_fds)
            stack.callback(program.close)
            return program

        yield serve


@pytest.fixture
def script(tmp_path):
    """Starts a Python script of the given source in a folder of its own."""
    pytest.importorskip("cxxloop._web")
    write(tmp_path, "app.py", APPLICATION)
    with contextlib.ExitStack() as stack:

        def script(source, *arguments):
            path = write(tmp_path, "script.py", source)
            # The script imports app.py beside it, also where the test itself runs without such a place in sys.path.
            program = Program(tmp_path, [sys.executable, str(path), *arguments], env={"PYTHONSAFEPATH": ""})
            stack.callback(program.close)
            return program

        yield script


@pytest.fixture
def command(tmp_path):
    """Runs `cxxloop serve` with flags to its end; for what ends by itself."""
    pytest.importorskip("click")

    def command(*arguments, env=None):
        path = os.pathsep.join(entry for entry in sys.path if entry)
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("CXXLOOP_", "WEB_"))}
        return subprocess.run(
            [sys.executable, "-m", "cxxloop", "serve", *arguments],
            cwd=tmp_path,
            env={**environment, "PYTHONPATH": path, **(env or {})},
            capture_output=True,
            text=True,
            timeout=30,
        )

    return command


@pytest.fixture
def serve_app(loop):
    """Serves ASGI applications natively on the loop of the test: serve_app(app, **options) is a Served."""
    pytest.importorskip("cxxloop._web")
    from asgi_peer import Served

    with contextlib.ExitStack() as stack:

        def serve_app(app, **options):
            served = Served(loop, app, **options)
            stack.callback(served.close)
            return served

        yield serve_app
