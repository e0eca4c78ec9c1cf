# SPDX-License-Identifier: MIT
"""`python -m cxxloop serve` as a process: its log is waited for line by line, its port is found in it."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time

WAIT_S = 35  # whatever has not happened by then does not happen

# What the tests serve. Held requests end when the test lets go of the other end of the pipe named "gate".
APPLICATION = """
import asyncio, os

async def pass_gate(gate):
    is_open = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(gate, is_open.set)
    try:
        await is_open.wait()
    finally:
        loop.remove_reader(gate)

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    path = scope["path"]
    if path in ("/hold", "/block"):
        gate = os.open("gate", os.O_RDONLY | os.O_NONBLOCK)
        os.set_blocking(gate, path == "/block")
        os.write(1, path[1:].encode() + b"ing\\n")  # at once: print() of two processes would share a line
        if path == "/block":
            os.read(gate, 1)
        else:
            await pass_gate(gate)
        os.close(gate)
    body = str(os.getpid()).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""


class UnixConnection(http.client.HTTPConnection):
    """A connection to a UNIX socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=WAIT_S)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(WAIT_S)
        self.sock.connect(self._path)


class Program:
    """A process and its output so far, stdout and stderr together."""

    def __init__(self, folder, arguments, *, env=None, pass_fds=()):
        gate = folder / "gate"
        if not gate.exists():
            os.mkfifo(gate)
        self._gate = os.open(gate, os.O_RDWR)
        path = os.pathsep.join(entry for entry in sys.path if entry)
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("CXXLOOP_", "WEB_"))}
        self.process = subprocess.Popen(
            arguments,
            cwd=folder,
            env={**environment, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            pass_fds=pass_fds,
        )
        self.lines = []
        self._changed = threading.Condition()
        self._is_over = False  # True exactly when the last process that holds the pipe has ended
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    @property
    def log(self):
        return "\n".join(self.lines)

    def wait_for(self, pattern, count=1):
        """Wait until `count` lines match; returns the match of the last of them."""
        deadline = time.monotonic() + WAIT_S
        with self._changed:
            while True:
                found = [match for line in self.lines if (match := re.search(pattern, line))]
                if len(found) >= count:
                    return found[count - 1]
                assert not self._is_over, f"ended without {pattern!r}:\n{self.log}"
                assert self._changed.wait(deadline - time.monotonic()), f"no {pattern!r} in:\n{self.log}"

    def port(self):
        return int(self.wait_for(r"serving on \w+://\S+:(\d+) \(Press")[1])

    def wait(self):
        """Wait for the end of the process and of its children; returns its exit code."""
        code = self.process.wait(WAIT_S)
        self._reader.join(WAIT_S)
        assert not self._reader.is_alive(), f"a child is left:\n{self.log}"
        return code

    def send(self, number):
        self.process.send_signal(number)

    def end(self, number=signal.SIGTERM):
        self.send(number)
        return self.wait()

    def get(self, path="/", port=None):
        """(status, body) of a GET on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port(), timeout=WAIT_S)
        return _get(connection, path)

    def get_unix(self, socket_path, path="/"):
        return _get(UnixConnection(socket_path), path)

    def get_later(self, path, port=None):
        """A GET in a thread; the returned function waits for its (status, body), or raises its error."""
        results = []
        port = port or self.port()

        def run():
            try:
                results.append(self.get(path, port))
            except Exception as error:
                results.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()

        def result():
            thread.join(WAIT_S)
            assert results, f"no response to {path}:\n{self.log}"
            if isinstance(results[0], Exception):
                raise results[0]
            return results[0]

        return result

    def let_go(self):
        """Let requests of /hold and /block end."""
        if self._gate >= 0:
            os.close(self._gate)
        self._gate = -1

    def close(self):
        self.let_go()  # or workers would drain for as long as a test holds a request
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(WAIT_S)
        self.process.stdout.close()


def _get(connection, path):
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def write(folder, name, source):
    """Write a file of Python; its time of change is later than that of any file before it."""
    path = folder / name
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(textwrap.dedent(source))
    return path
