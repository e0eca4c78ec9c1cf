# SPDX-License-Identifier: MIT
"""The processes of a comparison: servers under test, load generators, and the workers of the scheduling rows."""

import json
import os
import re
import select
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _contest import MeasurementFailed
from _cpu import Cores, pinned
from _machine import COMPILER

HERE = Path(__file__).parent
STOP_SECONDS = 10
WORKLOAD_SECONDS_MAX = 60


@dataclass(frozen=True)
class Server:
    pid: int
    port: int


def stop(process: subprocess.Popen[str]) -> None:
    """Ask by closing stdin or by SIGTERM; a server that ignores both is killed."""
    if process.stdin is not None:
        process.stdin.close()
    else:
        process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def last_line(stderr: Any) -> str:
    stderr.seek(0)
    lines = [line for line in stderr.read().splitlines() if line.strip()]
    return lines[-1] if lines else "none"


@contextmanager
def announced_server(command: list[str], cores: Cores) -> Iterator[Server]:
    """A server that prints {"port": N} and serves until its stdin closes."""
    with (
        tempfile.TemporaryFile("w+") as stderr,
        subprocess.Popen(
            pinned(command, cores.server, batch=cores.shared),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        try:
            announcement = process.stdout.readline()
            if not announcement:
                raise MeasurementFailed("the server did not start")
            yield Server(process.pid, json.loads(announcement)["port"])
        except MeasurementFailed as failure:
            stop(process)
            # What the client saw may be only a consequence of what the server has to say.
            raise MeasurementFailed(f"{failure}; the server's last words: {last_line(stderr)}") from None
        finally:
            stop(process)


def echo_server(python: str, loop: str, mode: str, size: int, cores: Cores) -> AbstractContextManager[Server]:
    script = str(HERE / "serve" / "echo_server.py")
    return announced_server([python, script, "--loop", loop, "--mode", mode, "--size", str(size)], cores)


def raw_echo_server(program: Path, cores: Cores) -> AbstractContextManager[Server]:
    return announced_server([str(program)], cores)


def tls_server(python: str, loop: str, certificate: Path, cores: Cores) -> AbstractContextManager[Server]:
    script = str(HERE / "serve" / "tls_server.py")
    return announced_server([python, script, "--loop", loop, "--certificate", str(certificate)], cores)


@contextmanager
def uvicorn_server(python: str, loop: str, cores: Cores, certificate: Path | None) -> Iterator[Server]:
    command = [python, "-m", "uvicorn", "--app-dir", str(HERE / "serve"), "hello_app:app", "--port", "0"]
    command += ["--loop", f"{loop}:new_event_loop", "--http", "httptools", "--no-access-log", "--no-use-colors"]
    if certificate is not None:
        command += ["--ssl-keyfile", str(certificate), "--ssl-certfile", str(certificate)]
    with subprocess.Popen(pinned(command, cores.server, batch=cores.shared), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            line = "no message"
            for line in process.stderr:
                if started := re.search(r"running on https?://127\.0\.0\.1:(\d+)", line):
                    break
            else:
                raise MeasurementFailed(f"uvicorn did not start: {line.strip()}")
            yield Server(process.pid, int(started[1]))
        finally:
            stop(process)


def build_native(program: Path, *sources: str) -> Path:
    """Compiled afresh so that the program is never older than its source."""
    paths = [str(HERE / "net" / source) for source in sources]
    include = ["-I", str(HERE / "net"), "-I", str(HERE.parent / "src")]
    subprocess.run([*COMPILER, "-std=c++20", "-O2", *include, *paths, "-o", str(program)], check=True)
    return program


def build_load_client(folder: Path) -> Path:
    return build_native(folder / "echo_client", "echo_client.cc", "load_connection.cc", "load_options.cc", "load_socket.cc")


def build_websocket_client(folder: Path) -> Path:
    sources = ("websocket_client.cc", "websocket_connection.cc", "load_options.cc", "load_socket.cc")
    return build_native(folder / "websocket_client", *sources)


def build_raw_echo(folder: Path) -> Path:
    return build_native(folder / "raw_echo", "raw_echo.cc")


def run_load_client(
    client: Path, server: Server, cores: Cores, arguments: dict[str, Any], datagrams: bool = False, pids: list[int] | None = None
) -> dict[str, Any]:
    """`pids`: whose CPU is counted, if the server is more than one process."""
    command = [str(client), "--port", str(server.port), *(["--udp"] * datagrams)]
    command += [f"--server-pid={pid}" for pid in pids or [server.pid]]
    for name, value in arguments.items():
        command += [f"--{name}", str(value)]
    done = subprocess.run(pinned(command, cores.client, batch=cores.shared), capture_output=True, text=True)
    if done.returncode:
        raise MeasurementFailed(done.stderr.strip() or f"the client ended with {done.returncode}")
    result: dict[str, Any] = json.loads(done.stdout)
    if not result["messages"]:
        raise MeasurementFailed("no message came back within the window")
    return result


def last_words(done: subprocess.CompletedProcess[str]) -> str:
    """Of a client that has failed, perhaps without a word."""
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]


def run_tls_client(python: str, server: Server, cores: Cores, arguments: dict[str, Any]) -> dict[str, int]:
    command = [python, str(HERE / "net" / "tls_client.py"), "--port", str(server.port), "--server-pid", str(server.pid)]
    for name, value in arguments.items():
        command += [f"--{name}", str(value)]
    done = subprocess.run(pinned(command, cores.client, batch=cores.shared), capture_output=True, text=True)
    if done.returncode:
        raise MeasurementFailed(last_words(done))
    result: dict[str, int] = json.loads(done.stdout)
    return result


def run_wrk(url: str, cores: Cores, connections: int, seconds: int) -> int:
    """Requests answered with success; anything else fails the measurement."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", url]
    done = subprocess.run(pinned(command, cores.client, batch=cores.shared), capture_output=True, text=True)
    answered = re.search(r"(\d+) requests in", done.stdout)
    if done.returncode or not answered or re.search(r"Non-2xx|Socket errors", done.stdout):
        raise MeasurementFailed(f"wrk: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
    return int(answered[1])


class SchedulingWorker:
    """A process with one loop that runs the workloads it is told, one at a time. Replaced when it dies or hangs."""

    def __init__(self, python: str, loop: str) -> None:
        self.command = [python, str(HERE / "micro" / "scheduling.py"), "--loop", loop]
        self.process: subprocess.Popen[str] | None = None

    def measure(self, workload: str) -> list[dict[str, Any]]:
        if self.process is None:
            self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdin is not None and self.process.stdout is not None
        print(workload, file=self.process.stdin, flush=True)
        ready, _, _ = select.select([self.process.stdout], [], [], WORKLOAD_SECONDS_MAX)
        line = self.process.stdout.readline() if ready else ""
        if not line:
            self.close()
            raise MeasurementFailed("the worker died" if ready else f"no result within {WORKLOAD_SECONDS_MAX} s")
        answer = json.loads(line)
        if isinstance(answer, dict):
            raise MeasurementFailed(answer["error"])
        measurements: list[dict[str, Any]] = answer
        return measurements

    def close(self) -> None:
        if self.process is not None:
            with self.process:
                self.process.kill()
            self.process = None
