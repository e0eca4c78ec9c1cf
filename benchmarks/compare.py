# SPDX-License-Identifier: MIT
"""Compare event loops and web servers: one runner for servers, latency, scheduling and HTTP. The method is in README.md.

compare.py echo       server CPU per message; client and server share a core
compare.py latency    round-trip percentiles; client and server on a core each
compare.py micro      cost of scheduling, timer lateness, threads
compare.py http       requests per server-CPU-second of uvicorn; with --tls over https
compare.py tls        server CPU per TLS message and per handshake; client and server share a core
compare.py web        requests per server-CPU-second, latency and memory of web servers
"""

import argparse
import os
import sys
import tempfile
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from rich.console import Console

from _cases import CASES, cases_of
from _certificate import make_certificate, trusting_context
from _contest import MeasurementFailed, Table, contestants_of
from _cpu import Cores, separate_cores, shared_core, tree_cpu_ns
from _machine import RAW, gather_facts
from _report import print_facts, print_rows, write_record
from _run import Run
from _servers import (
    SchedulingWorker,
    build_load_client,
    build_raw_echo,
    echo_server,
    raw_echo_server,
    run_load_client,
    run_tls_client,
    run_wrk,
    tls_server,
    uvicorn_server,
)
from _web import web
from _web_cases import WEB_CASES
from _web_servers import WEB_SERVERS, gather_web_facts
from micro.scheduling import WORKLOADS

LOOPS = ["cxxloop", "uvloop", "zloop", "asyncio", "rloop", "rsloop", "zuvloop", "blazio"]
TLS_LOOPS = ["cxxloop", "uvloop", "aiofastnet_uvloop", "asyncio", "aiofastnet_asyncio", "rsloop", "zuvloop"]
SERVERS_HELP = "their command lines stand in _web_servers.py; the first present one runs twice"
LOOPS_HELP = f"modules; {RAW} is an echo server in C++ without a loop; the first present one runs twice"
MICRO_ROUNDS = 5
WRK_CONNECTIONS = 64

# More than so many datagrams lost of each that came back: the loops no longer did the same work.
LOST_SHARE_MAX = 0.01


def measure_echo(run: Run, folder: Path, name: str, loop: str, cores: Cores) -> dict[str, float]:
    """Server CPU in us per message, and the percentiles of latency in us."""
    case = CASES[name]
    load = {
        "size": case.size,
        "connections": case.connections,
        "depth": run.arguments.depth,
        "warmup": run.arguments.warmup,
        "duration": run.arguments.duration,
    }
    if loop == RAW:
        serving = raw_echo_server(folder / "raw_echo", cores)
    else:
        serving = echo_server(run.arguments.python, loop, case.mode, case.size, cores)
    with serving as server:
        result = run_load_client(run.arguments.client or folder / "echo_client", server, cores, load, datagrams=case.mode.endswith("udp"))
    if result["lost"] > LOST_SHARE_MAX * result["messages"]:
        raise MeasurementFailed(f"{result['lost']} of {result['messages']} datagrams were lost")
    return {"cpu": result["server_cpu_ns"] / result["messages"] / 1e3, **result["latency_us"]}


def echo_table(run: Run, cores: Cores, quantities: dict[str, str]) -> Table:
    """One row per case and quantity; `quantities` maps a result of measure_echo to its name in the table."""
    table = Table()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not run.arguments.client:
            build_load_client(folder)
        if any(contestant.loop == RAW for contestant in run.contestants):
            build_raw_echo(folder)
        for case, contestant in run.steps(run.arguments.cases):
            rows = {quantity: table.row(f"{case} {name}".strip(), "us") for quantity, name in quantities.items()}
            try:
                result = measure_echo(run, folder, case, contestant.loop, cores)
            except MeasurementFailed as failure:
                for row in rows.values():
                    row.failures[contestant.label] = str(failure)
                continue
            for quantity, row in rows.items():
                row.add(contestant.label, result[quantity])
    return table


def echo(run: Run) -> Table:
    return echo_table(run, shared_core(), {"cpu": ""})


def latency(run: Run) -> Table:
    return echo_table(run, separate_cores(), {quantile: quantile for quantile in ("p50", "p99", "p99.9")})


def micro(run: Run) -> Table:
    table = Table()
    with ExitStack() as stack:
        workers = {
            contestant.label: stack.enter_context(closing(SchedulingWorker(run.arguments.python, contestant.loop)))
            for contestant in run.contestants
        }
        for workload, contestant in run.steps(run.arguments.cases):
            try:
                measurements = workers[contestant.label].measure(workload)
            except MeasurementFailed as failure:
                table.row(workload, "").failures[contestant.label] = str(failure)
                continue
            for found in measurements:
                row = table.row(found["row"], found["unit"], found["best"], found["better"])
                row.add(contestant.label, found["value"])
    return table


def measure_http(run: Run, loop: str, cores: Cores, certificate: Path | None) -> float:
    """Thousands of requests per second of server CPU."""
    with uvicorn_server(run.arguments.python, loop, cores, certificate) as server:
        url = f"{'https' if certificate else 'http'}://127.0.0.1:{server.port}/"
        with urllib.request.urlopen(url, timeout=10, context=trusting_context() if certificate else None) as response:
            if response.read() != b"0123456789":
                raise MeasurementFailed("the body differs")
        run_wrk(url, cores, WRK_CONNECTIONS, 1)
        before_ns = tree_cpu_ns(server.pid)
        requests = run_wrk(url, cores, WRK_CONNECTIONS, max(1, round(run.arguments.duration)))
        return requests / (tree_cpu_ns(server.pid) - before_ns) * 1e6


def http(run: Run) -> Table:
    table = Table()
    cores = separate_cores()
    with tempfile.TemporaryDirectory() as folder:
        certificate = make_certificate(Path(folder)) if run.arguments.tls else None
        for case, contestant in run.steps([f"uvicorn httptools {'https ' if certificate else ''}GET 10 B"]):
            row = table.row(case, "k requests/CPU s", better="more")
            try:
                row.add(contestant.label, measure_http(run, contestant.loop, cores, certificate))
            except (MeasurementFailed, OSError) as failure:
                row.failures[contestant.label] = str(failure)
    return table


def tls(run: Run) -> Table:
    table = Table()
    cores = shared_core()
    with tempfile.TemporaryDirectory() as folder:
        certificate = make_certificate(Path(folder))
        for name, contestant in run.steps(run.arguments.cases):
            case, row = CASES[name], table.row(name, "us")
            load = {"mode": case.mode, "size": case.size, "connections": case.connections}
            load |= {"warmup": run.arguments.warmup, "duration": run.arguments.duration}
            try:
                with tls_server(run.arguments.python, contestant.loop, certificate, cores) as server:
                    result = run_tls_client(run.arguments.python, server, cores, load)
                row.add(contestant.label, result["server_cpu_ns"] / result["operations"] / 1e3)
            except MeasurementFailed as failure:
                row.failures[contestant.label] = str(failure)
    return table


COMMANDS: dict[str, tuple[Callable[[Run], Table], str]] = {
    "echo": (echo, "Server CPU per message, one core"),
    "latency": (latency, "Round trip, two cores"),
    "micro": (micro, "Scheduling"),
    "http": (http, "HTTP, server and client on a core each"),
    "tls": (tls, "Server CPU per TLS message and handshake, one core"),
    "web": (web, "Web servers, one worker; server and client on a core each"),
}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (_, title) in COMMANDS.items():
        command = commands.add_parser(name, help=title, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        command.add_argument("--python", default=sys.executable, help="the interpreter that has the loops installed")
        if name == "web":
            command.add_argument("--servers", nargs="+", default=list(WEB_SERVERS), choices=WEB_SERVERS, help=SERVERS_HELP)
        else:
            loops = {"tls": TLS_LOOPS, "echo": [*LOOPS, RAW]}.get(name, LOOPS)
            command.add_argument("--loops", nargs="+", default=loops, help=LOOPS_HELP)
        rounds = MICRO_ROUNDS if name == "micro" else 3
        command.add_argument("--rounds", type=int, default=rounds, help="turns of each loop; each gives a sample of a row")
        command.add_argument("--out", type=Path, help="JSON file of the results; default: a new one in results/")
        if name == "web":
            command.add_argument("--cases", nargs="+", default=list(WEB_CASES), choices=WEB_CASES)
            command.add_argument("--warmup", type=float, default=1.0, help="seconds before the measured window, whole ones for wrk")
        if name == "micro":
            command.add_argument("--cases", nargs="+", default=list(WORKLOADS), choices=WORKLOADS)
        else:
            command.add_argument("--duration", type=float, default=2.0 if name in ("http", "web") else 1.0, help="seconds")
        if name == "http":
            command.add_argument("--tls", action="store_true", help="https")
        if cases := cases_of(name):
            command.add_argument("--cases", nargs="+", default=cases, choices=cases)
            command.add_argument("--warmup", type=float, default=0.3, help="seconds before the measured window")
        if name in ("echo", "latency"):
            command.add_argument("--depth", type=int, default=1, help="messages in flight per connection")
            command.add_argument("--client", type=Path, help="a built echo_client; default: compile it now")
    return parser.parse_args()


def portable(value: Any) -> Any:
    """A setting without the folders of this machine."""
    return Path(value).name if isinstance(value, (str, Path)) and os.sep in str(value) else value


def main() -> None:
    arguments = parse_arguments()
    console = Console()
    if arguments.command == "web":
        facts = gather_web_facts(arguments.python, arguments.servers)
    else:
        facts = gather_facts(arguments.python, arguments.loops)
    print_facts(console, facts)
    if not facts.versions:
        raise SystemExit("None of the contestants is installed.")
    measure, title = COMMANDS[arguments.command]
    run = Run(arguments, console, contestants_of(list(facts.versions)))
    rows = list(measure(run).rows.values())
    print_rows(console, title, facts, rows, run.contestants)
    settings = {name: portable(value) for name, value in vars(arguments).items()}
    console.print(f"Written: {write_record(arguments.out, arguments.command, settings, facts, rows, run.contestants)}")
    if any(row.failures for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
