# SPDX-License-Identifier: MIT
"""The comparison of web servers: true answers are measured, wrong ones are noticed before."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import tomllib
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

for module in ("httptools", "rich", "uvicorn"):
    pytest.importorskip(module)

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import _web  # noqa: E402  # after sys.path says where it is
import _web_checks  # noqa: E402  # as above
from _contest import MeasurementFailed  # noqa: E402  # as above
from _cpu import separate_cores, tree_pids, tree_rss_bytes  # noqa: E402  # as above
from _run import Run  # noqa: E402  # as above
from _servers import build_websocket_client  # noqa: E402  # as above
from _web_cases import WEB_CASES, WebCase  # noqa: E402  # as above
from _web_checks import check_answers  # noqa: E402  # as above
from _web_servers import WEB_SERVERS, command_of, gather_web_facts, uvicorn, web_server  # noqa: E402  # as above
from rich.console import Console  # noqa: E402  # after it is known to be there
from serve.web_app import BODIES  # noqa: E402  # after sys.path says where it is

UVICORN = uvicorn("asyncio")
needs_two_cores = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="server and client on a core each")
needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="no wrk")
CHECKED_CASES = [name for name, case in WEB_CASES.items() if case.kind not in ("websocket", "idle", "static")]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root")
    (folder / "file.bin").write_bytes(os.urandom(50 * 1024))
    return folder


@pytest.fixture(scope="module")
def port(root: Path) -> Iterator[int]:
    with web_server(UVICORN, "get", sys.executable, separate_cores(), root) as server:
        yield server.port


@needs_two_cores
@pytest.mark.parametrize("name", CHECKED_CASES)
def test_application_answers_every_case(name: str, port: int, root: Path) -> None:
    case = WEB_CASES[name]
    check_answers(case, case.path, port, root / "file.bin")


@needs_two_cores
def test_server_without_static_files_and_pathsend_is_told(port: int, root: Path) -> None:
    case = WEB_CASES["static-50k"]
    with pytest.raises(MeasurementFailed, match="501 b'no http.response.pathsend'"):
        check_answers(case, case.path, port, root / "file.bin")


Answer = Callable[[str, bytes], tuple[int, bytes]]


def serve_connection(sock: socket.socket, answer: Answer) -> None:
    with suppress(ConnectionError), sock, sock.makefile("rb") as stream:
        while (line := stream.readline()).startswith((b"GET ", b"POST ")):
            path, size = line.split()[1].decode(), 0
            while (header := stream.readline()) != b"\r\n":
                if header.lower().startswith(b"content-length:"):
                    size = int(header.split(b":")[1])
            status, body = answer(path, stream.read(size))
            sock.sendall(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))


@contextmanager
def wrong_server(answer: Answer) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept_forever() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=serve_connection, args=(listener.accept()[0], answer), daemon=True).start()

        thread = threading.Thread(target=accept_forever, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize(
    ("name", "answer", "words"),
    [
        pytest.param("get-10", lambda path, body: (500, BODIES[path]), "answered with 500", id="status"),
        pytest.param("get-10", lambda path, body: (200, BODIES[path][:-1]), "comes as another one of 9", id="short"),
        pytest.param("get-1k", lambda path, body: (200, BODIES[path][::-1]), "comes as another one", id="reversed"),
        pytest.param("json", lambda path, body: (200, b'{"message": "Hello, World!"}'), "the JSON differs", id="JSON"),
        pytest.param("json", lambda path, body: (200, b"{"), "JSONDecodeError", id="no JSON"),
        pytest.param("echo-1k", lambda path, body: (200, bytes(len(body))), "comes as another one", id="zeros"),
        pytest.param("pipelined-16", lambda path, body: (200, BODIES["/bytes/10"]), "comes as another one of 10", id="order"),
        pytest.param("stream-100k", lambda path, body: (200, b""), "transfer-encoding None", id="not streamed"),
    ],
)
def test_wrong_answer_is_noticed(name: str, answer: Answer, words: str, tmp_path: Path) -> None:
    case = WEB_CASES[name]
    with wrong_server(answer) as port, pytest.raises(MeasurementFailed, match=words):
        check_answers(case, case.path, port, tmp_path)


def test_stream_that_waits_for_the_whole_body_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_web_checks, "ANSWER_SECONDS_MAX", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(MeasurementFailed, match="before the last chunk is sent"):
        check_answers(WEB_CASES["stream-100k"], "/stream", listener.getsockname()[1], tmp_path)


def test_connection_that_is_closed_is_noticed(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: listener.accept()[0].close())
        thread.start()
        with pytest.raises(MeasurementFailed, match="closed|reset"):
            check_answers(WEB_CASES["get-10"], "/bytes/10", listener.getsockname()[1], tmp_path)
        thread.join()


def small(name: str) -> WebCase:
    return replace(WEB_CASES[name], connections=30)


@pytest.fixture(scope="module")
def web_run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> _web.WebRun:
    folder = tmp_path_factory.mktemp("clients")
    build_websocket_client(folder)
    arguments = Namespace(python=sys.executable, warmup=0.05, duration=0.1, rounds=1)
    return _web.WebRun(Run(arguments, Console(), []), separate_cores(), folder, root)


@needs_two_cores
@needs_wrk
@pytest.mark.parametrize("name", ["get-10", "stream-100k", "pipelined-16", "websocket-1k", "idle-10000"])
def test_measurement_yields_every_quantity_of_the_case(name: str, web_run: _web.WebRun, monkeypatch: pytest.MonkeyPatch) -> None:
    if name.startswith("websocket"):
        pytest.importorskip("websockets")
    monkeypatch.setitem(WEB_SERVERS, UVICORN.name, UVICORN)
    case = small(name)
    result = web_run.measure(case, UVICORN.name)
    for quantity in _web.quantities_of(case):
        assert result[quantity] > 0, quantity
    if "p50" in _web.quantities_of(case):
        assert result["p50"] <= result["p99"] <= result["p99.9"]


@needs_two_cores
def test_server_that_fails_its_check_is_not_started_again(web_run: _web.WebRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WEB_SERVERS, UVICORN.name, UVICORN)
    with pytest.raises(MeasurementFailed, match="501"):
        web_run.measure(WEB_CASES["static-50k"], UVICORN.name)
    monkeypatch.setitem(WEB_SERVERS, UVICORN.name, replace(UVICORN, command=("-c", "")))
    with pytest.raises(MeasurementFailed, match="501"):
        web_run.measure(WEB_CASES["static-50k"], UVICORN.name)


@needs_two_cores
def test_server_that_does_not_start_is_told_with_its_last_words(root: Path) -> None:
    broken = replace(UVICORN, command=("-c", "import os; os.write(2, b'\\xe6\\n'); raise SystemExit('no such flag')"))
    with pytest.raises(MeasurementFailed, match="did not start; the server's last words: no such flag"):
        with web_server(broken, "get", sys.executable, separate_cores(), root):
            pass


@pytest.mark.parametrize("name", WEB_SERVERS)
@pytest.mark.parametrize("kind", ["get", "idle", "static"])
def test_command_line_has_its_places_filled(name: str, kind: str) -> None:
    command = command_of(WEB_SERVERS[name], kind, "python3", 8123, Path("/srv"))
    assert command[0] == "python3" and any("8123" in word for word in command)
    assert not any("{" in word for word in command)


def test_everything_that_servers_need_is_installed_by_ci_bench() -> None:
    extras = tomllib.loads((BENCHMARKS.parent / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    installed = {line.split(">=")[0].lower() for name in ("bench", "bench-web", "test") for line in extras[name]}
    assert {package for server in WEB_SERVERS.values() for package in (*server.packages, *server.uses)} <= installed | {"cxxloop"}


def test_absent_server_is_told_with_the_reason(tmp_path: Path) -> None:
    fake = tmp_path / "python"
    probe = 'import json; print(json.dumps({"python": "3", "versions": {"weft-server": "1"}, "absent": {"h2corn": "none"}, "serve": False}))'
    fake.write_text(f"#!/bin/sh\nexec {sys.executable} -c '{probe}'\n")
    fake.chmod(0o755)
    facts = gather_web_facts(str(fake), ["weft", "h2corn"])
    assert facts.versions == {"weft": "1"} and facts.absent == {"h2corn": "none"}


def test_memory_and_cpu_are_those_of_the_children_too() -> None:
    command = [sys.executable, "-c", "import os; pid = os.fork(); pid and print(pid, flush=True); os.read(0, 1)"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None and parent.stdin is not None
        child = int(parent.stdout.readline())
        assert tree_pids(parent.pid) == [parent.pid, child]
        assert tree_rss_bytes(parent.pid) > tree_rss_bytes(child) > 0
        parent.stdin.write(b"xx")


@needs_two_cores
@needs_wrk
def test_servers_take_turns_and_failures_have_their_reason(tmp_path: Path) -> None:
    pytest.importorskip("uvloop")
    out = tmp_path / "web.json"
    command = [sys.executable, str(BENCHMARKS / "compare.py"), "web", "--servers", "uvicorn-uvloop", "--cases", "get-10", "static-50k"]
    command += ["--rounds", "1", "--duration", "1", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", env=dict(os.environ, COLUMNS="200"), timeout=100)
    assert done.returncode == 1, done.stdout + done.stderr  # for the file
    record = json.loads(out.read_text())
    rows = {row["case"]: row for row in record["rows"]}
    both = ["uvicorn-uvloop", "uvicorn-uvloop (again)"]
    assert list(rows["GET 10 B"]["samples"]) == list(rows["GET 10 B, p99.9"]["samples"]) == both
    assert not rows["static file 50 KiB"]["samples"] and list(rows["static file 50 KiB"]["failures"]) == both
    assert "serve.web_app:app" in record["builds"]["uvicorn-uvloop"]
