# SPDX-License-Identifier: MIT
"""The measurements of `compare.py web`."""

import json
import os
import resource
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from _contest import MeasurementFailed, Row, Table
from _cpu import Cores, pinned, separate_cores, tree_cpu_ns, tree_pids, tree_rss_bytes
from _run import Run
from _servers import Server, build_websocket_client, last_words, run_load_client
from _web_cases import WEB_CASES, WebCase
from _web_checks import check_answers
from _web_servers import STATIC_PREFIX, WEB_SERVERS, WebServer, web_server
from serve.web_app import BODIES

HERE = Path(__file__).parent
# Descriptors of the server and its client that are no connections.
DESCRIPTORS_BESIDE = 256
WRK_TIMEOUT_SECONDS = 10
WRK_SECONDS_BESIDE = 60
IDLE_RUN_SECONDS_MAX = 300

# What a case measures: the row's name after the case's, unit, and which is better.
QUANTITIES = {
    "per_cpu": ("", "k requests/CPU s", "more"),
    "rate": ("rate", "k requests/s", "more"),
    "p50": ("p50", "us", "less"),
    "p95": ("p95", "us", "less"),
    "p99": ("p99", "us", "less"),
    "p99.9": ("p99.9", "us", "less"),
    "rss": ("RSS", "MiB", "less"),
    "idle_rss": ("RSS of one", "KiB", "less"),
}


PERCENTILES = ("p50", "p95", "p99", "p99.9")


def quantities_of(case: WebCase) -> list[str]:
    if case.kind == "idle":
        return ["rss", "idle_rss"]
    # wrk corrects latencies for what it could not ask in time, and takes every answer of a pipeline for a question of its own.
    percentiles = PERCENTILES if case.depth == 1 else ()
    return ["per_cpu", "rate", *percentiles, "rss"]


def connections_possible(wanted: int) -> int:
    """As many as one process may have open, after raising its own limit as far as it may; servers inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard - DESCRIPTORS_BESIDE)


def run_wrk(url: str, cores: Cores, case: WebCase, seconds: int) -> dict[str, float]:
    """The report of net/web_load.lua; anything but answers with success fails the measurement."""
    command = ["wrk", "-t1", f"-c{case.connections}", f"-d{seconds}s", "--latency", "--timeout", f"{WRK_TIMEOUT_SECONDS}s"]
    kind = "get" if case.kind == "static" else case.kind
    command += ["-s", str(HERE / "net" / "web_load.lua"), url, "--", kind, str(case.size), str(case.depth)]
    try:
        done = subprocess.run(
            pinned(command, cores.client, batch=cores.shared), capture_output=True, text=True, timeout=seconds + WRK_SECONDS_BESIDE
        )
    except subprocess.TimeoutExpired:
        raise MeasurementFailed("wrk does not come to its end") from None
    lines = done.stdout.splitlines()
    if done.returncode or not lines or not lines[-1].startswith("{"):
        raise MeasurementFailed(f"wrk: {last_words(done)}")
    report = json.loads(lines[-1])
    errors = {name: count for name, count in report.pop("errors").items() if count}
    if errors:
        raise MeasurementFailed(f"wrk: {', '.join(f'{count} {name} errors' for name, count in errors.items())}")
    if not report["requests"] or report["bytes"] < report["requests"] * case.size:
        raise MeasurementFailed(f"wrk: {report['requests']} answers of {report['bytes']} bytes together")
    return dict(report)


@dataclass
class WebRun:
    """One run: what it was told, its file to serve, and what is known of the servers already."""

    run: Run
    cores: Cores
    folder: Path  # Of the native clients.
    root: Path  # Holds the one file that is served.
    checked: set[tuple[str, str]] = field(default_factory=set)  # (server, case)
    refused: dict[tuple[str, str], str] = field(default_factory=dict)  # Why a server cannot do a case.

    @property
    def file(self) -> Path:
        return next(self.root.iterdir())

    def measure(self, case: WebCase, name: str) -> dict[str, float]:
        """What QUANTITIES names, of one server that was started for it."""
        if reason := self.refused.get((name, case.name)):
            raise MeasurementFailed(reason)
        definition = WEB_SERVERS[name]
        with web_server(definition, case.kind, self.run.arguments.python, self.cores, self.root) as server:
            if case.kind == "websocket":
                return self.measure_websocket(case, server)
            if case.kind == "idle":
                return self.measure_idle(case, server)
            return self.measure_requests(case, definition, server)

    def check(self, case: WebCase, path: str, name: str, server: Server) -> None:
        if (name, case.name) in self.checked:
            return
        try:
            check_answers(case, path, server.port, self.file)
        except MeasurementFailed as failure:
            self.refused[name, case.name] = str(failure)
            raise
        self.checked.add((name, case.name))

    def measure_requests(self, case: WebCase, definition: WebServer, server: Server) -> dict[str, float]:
        path = f"{STATIC_PREFIX}/{self.file.name}" if case.kind == "static" and definition.static else case.path
        self.check(case, path, definition.name, server)
        url = f"http://127.0.0.1:{server.port}{path}"
        run_wrk(url, self.cores, case, max(1, round(self.run.arguments.warmup)))
        before_ns = tree_cpu_ns(server.pid)
        report = run_wrk(url, self.cores, case, max(1, round(self.run.arguments.duration)))
        cpu_ns = tree_cpu_ns(server.pid) - before_ns
        return {
            "per_cpu": report["requests"] / cpu_ns * 1e6,
            "rate": report["requests"] / report["seconds"] / 1e3,
            "rss": tree_rss_bytes(server.pid) / 2**20,
            **{quantile: report[quantile] for quantile in PERCENTILES},
        }

    def measure_websocket(self, case: WebCase, server: Server) -> dict[str, float]:
        load = {"size": case.size, "connections": case.connections, "depth": case.depth, "path": case.path}
        load |= {"warmup": self.run.arguments.warmup, "duration": self.run.arguments.duration}
        result = run_load_client(self.folder / "websocket_client", server, self.cores, load, pids=tree_pids(server.pid))
        return {
            "per_cpu": result["messages"] / result["server_cpu_ns"] * 1e6,
            "rate": result["messages"] / result["seconds"] / 1e3,
            "rss": tree_rss_bytes(server.pid) / 2**20,
            **{quantile: result["latency_us"][quantile] for quantile in PERCENTILES},
        }

    def measure_idle(self, case: WebCase, server: Server) -> dict[str, float]:
        connections = connections_possible(case.connections)
        command = [self.run.arguments.python, str(HERE / "net" / "idle_connections.py"), "--port", str(server.port)]
        command += ["--server-pid", str(server.pid), "--connections", str(connections)]
        command += ["--path", case.path, "--body", BODIES[case.path].decode()]
        try:
            done = subprocess.run(
                pinned(command, self.cores.client, batch=False), capture_output=True, text=True, timeout=IDLE_RUN_SECONDS_MAX
            )
        except subprocess.TimeoutExpired:
            raise MeasurementFailed(f"{connections} connections are not served within {IDLE_RUN_SECONDS_MAX} s") from None
        if done.returncode:
            raise MeasurementFailed(last_words(done))
        result = json.loads(done.stdout)
        grown_bytes = result["rss_after_bytes"] - result["rss_before_bytes"]
        return {"rss": result["rss_after_bytes"] / 2**20, "idle_rss": grown_bytes / connections / 1024}


def title_of(case: WebCase) -> str:
    if case.kind == "idle":
        return f"{connections_possible(case.connections):,} idle connections"
    return case.title


def rows_of(table: Table, cases: list[WebCase]) -> Iterator[tuple[str, str, Row]]:
    """(case, quantity, row), quantity by quantity: those of one unit stand together."""
    for quantity, (suffix, unit, better) in QUANTITIES.items():
        for case in cases:
            if quantity in quantities_of(case):
                yield case.name, quantity, table.row(", ".join(filter(None, [title_of(case), suffix])), unit, better=better)


def web(run: Run) -> Table:
    table = Table()
    cases = [WEB_CASES[name] for name in run.arguments.cases]
    rows = {(case, quantity): row for case, quantity, row in rows_of(table, cases)}
    for case in cases:
        if case.kind == "idle" and connections_possible(case.connections) < case.connections:
            run.console.print(f"{case.name}: this machine lets a process have {connections_possible(case.connections)} connections")
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as root:
        if any(case.kind == "websocket" for case in cases):
            build_websocket_client(Path(name))
        file = Path(root) / "50k.bin"
        file.write_bytes(os.urandom(WEB_CASES["static-50k"].size))
        measuring = WebRun(run, separate_cores(), Path(name), Path(root))
        for name_of_case, contestant in run.steps([case.name for case in cases]):
            case = WEB_CASES[name_of_case]
            try:
                result = measuring.measure(case, contestant.loop)
            except (MeasurementFailed, OSError) as failure:
                for quantity in quantities_of(case):
                    rows[case.name, quantity].failures[contestant.label] = str(failure)
                continue
            for quantity in quantities_of(case):
                rows[case.name, quantity].add(contestant.label, result[quantity])
    return table
