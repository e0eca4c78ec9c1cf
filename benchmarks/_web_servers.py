# SPDX-License-Identifier: MIT
"""The servers of `compare.py web`: their command lines, and starting them. One worker each, no access log, else their defaults."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _contest import MeasurementFailed
from _cpu import Cores, pinned
from _machine import Facts, machine_facts
from _servers import STOP_SECONDS, Server, last_line

HERE = Path(__file__).parent
START_SECONDS_MAX = 20
# An idle connection lives longer than the idle case takes.
IDLE_SECONDS = 600
IDLE_CONNECTIONS_MAX = 20_000
STATIC_PREFIX = "/static"


@dataclass(frozen=True)
class WebServer:
    """What follows `python` to serve one application on 127.0.0.1; {port} and the like are filled in by command_of()."""

    name: str
    packages: tuple[str, ...]  # Distributions it needs, whose versions name it: its own first.
    command: tuple[str, ...]
    uses: tuple[str, ...] = ()  # Distributions that it runs on when they are there.
    idle: tuple[str, ...] = ()  # Also in the idle case: keep IDLE_CONNECTIONS_MAX for IDLE_SECONDS.
    static: tuple[str, ...] = ()  # Also in the static case: serve {root} at STATIC_PREFIX. Without: http.response.pathsend.


APP = "serve.web_app:app"
# It is a script's entry point and no module.
FASTPYSGI = "import fastpysgi; fastpysgi.run_from_cli()"


def uvicorn(loop: str) -> WebServer:
    return WebServer(
        f"uvicorn-{loop}",
        ("uvicorn", loop),
        ("-m", "uvicorn", APP, "--port", "{port}", "--http", "httptools", "--loop", f"{loop}:new_event_loop", "--no-access-log"),
        idle=("--timeout-keep-alive", "{idle}"),
    )


def handlers(kind: str) -> WebServer:
    """Plain handlers instead of the ASGI application: what a function costs, and what a coroutine function."""
    return WebServer(
        f"cxxloop-{kind}",
        ("cxxloop",),
        ("-m", "cxxloop", "serve", f"serve.web_handlers:{kind}", "--port", "{port}", "--no-access-log"),
        idle=("--timeout-keep-alive", "{idle}"),
    )


WEB_SERVERS = {
    server.name: server
    for server in (
        WebServer(
            "cxxloop",
            ("cxxloop",),
            ("-m", "cxxloop", "serve", APP, "--port", "{port}", "--no-access-log"),
            idle=("--timeout-keep-alive", "{idle}"),
            static=("--static", STATIC_PREFIX + "={root}"),
        ),
        handlers("functions"),
        handlers("coroutines"),
        uvicorn("uvloop"),
        uvicorn("zuvloop"),
        uvicorn("cxxloop"),
        WebServer(
            "granian",
            ("granian",),
            ("-m", "granian", APP, "--port", "{port}", "--interface", "asgi", "--no-access-log"),
            uses=("uvloop",),
            idle=("--backpressure", "{connections}"),
            static=("--static-path-route", STATIC_PREFIX, "--static-path-mount", "{root}"),
        ),
        WebServer(
            "weft",
            ("weft-server",),
            ("-m", "weft", APP, "--port", "{port}", "--workers", "1"),
            idle=("--keep-alive", "{idle}", "--max-connections", "{connections}"),
            static=("--static-dir", STATIC_PREFIX + "={root}"),
        ),
        WebServer(
            "peregrine",
            ("peregrine-server",),
            ("-m", "peregrine", APP, "--port", "{port}", "--workers", "1"),
            uses=("uvloop",),
            idle=("--keep-alive", "{idle_ms}", "--max-connections", "{connections}"),
            static=("--static-dir", STATIC_PREFIX + "={root}"),
        ),
        WebServer(
            "h2corn",
            ("h2corn",),
            ("-m", "h2corn", APP, "--port", "{port}", "--workers", "1", "--no-access-log"),
            uses=("uvloop",),
            idle=("--timeout-keep-alive", "{idle}"),
        ),
        WebServer("fastpysgi", ("fastpysgi",), ("-c", FASTPYSGI, APP, "--host", "127.0.0.1", "--port", "{port}")),
        WebServer(
            "hypercorn",
            ("hypercorn", "uvloop"),
            ("-m", "hypercorn", APP, "--bind", "127.0.0.1:{port}", "--workers", "1", "--worker-class", "uvloop"),
            idle=("--keep-alive", "{idle}"),
        ),
    )
}

# Runs in the interpreter under test: the versions of distributions, or why a module cannot be used.
PROBE = """
import importlib.metadata, importlib.util, json, sys
answer = {"python": sys.version, "versions": {}, "absent": {}}
for name in sys.argv[1:]:
    try:
        answer["versions"][name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        # A checkout that is imported in place has no metadata, but says its version.
        try:
            answer["versions"][name] = __import__(name).__version__
        except (ImportError, AttributeError) as error:
            answer["absent"][name] = f"{type(error).__name__}: {error}"
answer["serve"] = importlib.util.find_spec("cxxloop._web") is not None if "cxxloop" in answer["versions"] else False
print(json.dumps(answer))
"""


def environment() -> dict[str, str]:
    """In which `serve.web_app` can be imported by every server, and what PYTHONPATH names, from any folder."""
    paths = [str(HERE), *(str(Path(path).resolve()) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path)]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


def version_words(server: WebServer, versions: dict[str, str]) -> str:
    own, *needed = server.packages
    others = [*needed, *(name for name in server.uses if name in versions)]
    return " ".join([versions[own], *(f"with {other} {versions[other]}" for other in others)])


def gather_web_facts(python: str, names: list[str]) -> Facts:
    packages = sorted({package for name in names for package in WEB_SERVERS[name].packages + WEB_SERVERS[name].uses})
    # In the folder of the servers: what they find is what counts.
    probe = subprocess.run(
        [python, "-c", PROBE, *packages], capture_output=True, text=True, timeout=60, env=environment(), cwd=HERE
    )
    if probe.returncode:
        raise SystemExit(f"{python} cannot be asked about its servers:\n{probe.stderr}")
    answer: dict[str, Any] = json.loads(probe.stdout.splitlines()[-1])
    absent = {}
    for name in names:
        missing = [answer["absent"][package] for package in WEB_SERVERS[name].packages if package in answer["absent"]]
        if name == "cxxloop" and not missing and not answer["serve"]:
            missing = ["this build has no cxxloop._web"]
        if missing:
            absent[name] = missing[0]
    return Facts(
        machine=machine_facts(),
        python=answer["python"],
        versions={name: version_words(WEB_SERVERS[name], answer["versions"]) for name in names if name not in absent},
        builds={name: shlex.join(["python", *WEB_SERVERS[name].command]) for name in names if name not in absent},
        absent=absent,
    )


def command_of(server: WebServer, kind: str, python: str, port: int, root: Path) -> list[str]:
    words = [*server.command, *{"idle": server.idle, "static": server.static}.get(kind, ())]
    values = {"port": port, "root": root, "idle": IDLE_SECONDS, "idle_ms": IDLE_SECONDS * 1000, "connections": IDLE_CONNECTIONS_MAX}
    return [python, *(word.format(**values) for word in words)]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def await_answer(process: subprocess.Popen[Any], port: int) -> None:
    """No server says in the same way that it is ready, and some listen before they are: ask for an answer."""
    deadline = time.monotonic() + START_SECONDS_MAX
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=START_SECONDS_MAX) as sock:
            sock.sendall(b"GET /bytes/10 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            if sock.recv(1):
                return
        time.sleep(0.02)
    raise MeasurementFailed("the server did not start")


def stop_group(process: subprocess.Popen[Any]) -> None:
    """SIGTERM to the server; what is left of it and its children afterwards is killed."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def last_complaint(output: Any) -> str:
    """Of a server that goes on: what it says otherwise is how it starts and stops."""
    output.seek(0)
    lines = [line for line in output.read().splitlines() if re.search(r"\b(\w*Error|ERROR|Exception)\b", line)]
    return lines[-1] if lines else ""


@contextmanager
def web_server(server: WebServer, kind: str, python: str, cores: Cores, root: Path) -> Iterator[Server]:
    """The server of one case; `root` is the folder of the static one."""
    port = free_port()
    command = pinned(command_of(server, kind, python, port, root), cores.server, batch=cores.shared)
    variables = environment() | {"WEB_BENCHMARK_FILE": str(next(root.iterdir()))}
    with (
        tempfile.TemporaryFile("w+", errors="replace") as output,  # One has logged a request's body.
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, text=True, env=variables, cwd=HERE, start_new_session=True
        ) as process,
    ):
        try:
            await_answer(process, port)
            yield Server(process.pid, port)
            if process.poll() is not None:
                raise MeasurementFailed(f"the server ended with {process.returncode}")
        except MeasurementFailed as failure:
            # What the client saw may be only a consequence of what the server has to say.
            words = last_line(output) if process.poll() is not None else last_complaint(output)
            raise MeasurementFailed(f"{failure}; the server's last words: {words}" if words else str(failure)) from None
        finally:
            stop_group(process)
