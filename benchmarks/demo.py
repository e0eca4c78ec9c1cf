# SPDX-License-Identifier: MIT
"""The demo: real servers on cxxloop, checked by real clients, then measured against the other loops and servers in one run."""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from _contest import MeasurementFailed
from _cpu import Cores, pinned, tree_cpu_ns
from _http_checks import CHECKS, WrongResponse, run_check
from _machine import machine_line
from _servers import Server, last_line, run_wrk, stop
from _web import run_wrk as run_web_wrk
from _web_cases import WEB_CASES
from _web_checks import check_answers
from _web_servers import WEB_SERVERS, gather_web_facts, web_server
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

HERE = Path(__file__).parent
SERVER_TITLES = {"uvicorn": "uvicorn (httptools)", "aiohttp": "aiohttp.web"}
CONNECTIONS = 64
WEB_TITLES = {"uvicorn-uvloop": "uvicorn (httptools, uvloop)", "cxxloop": "cxxloop serve"}
WEB_CASE = WEB_CASES["get-10"]
WEB_SECONDS_MAX = 2
console = Console(highlight=False)


@dataclass
class Samples:
    per_second: list[float] = field(default_factory=list)
    per_cpu_second: list[float] = field(default_factory=list)


def choose_cores() -> Cores:
    available = sorted(os.sched_getaffinity(0))
    return Cores(available[0], available[-1])


@contextmanager
def http_server(loop: str, server: str, cores: Cores) -> Iterator[Server]:
    script = str(HERE / "serve" / "http_server.py")
    command = pinned([sys.executable, script, "--loop", loop, "--server", server], cores.server, batch=False)
    with (
        tempfile.TemporaryFile("w+") as stderr,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True) as process,
    ):
        assert process.stdout is not None
        try:
            announcement = process.stdout.readline()
            if not announcement:
                raise MeasurementFailed(f"{server} on {loop} did not start: {last_line(stderr)}")
            yield Server(process.pid, json.loads(announcement)["port"])
        finally:
            stop(process)


def check_servers(subject: str, servers: list[str], cores: Cores) -> None:
    """Clients on asyncio and on the subject itself, against the servers on the subject."""
    console.print(f"[bold]1. Every response checked[/]: servers on {subject}, clients on asyncio and on {subject}")
    responses = 0
    for server in servers:
        title = SERVER_TITLES[server]
        with http_server(subject, server, cores) as running:
            for client in ("asyncio", subject):
                factory = importlib.import_module(client).new_event_loop
                for name, check in CHECKS.items():
                    with console.status(f"{title}: {name}, client on {client}"):
                        started = time.perf_counter()
                        checked = run_check(check, running.port, factory)
                    responses += checked
                    elapsed_ms = (time.perf_counter() - started) * 1e3
                    console.print(f"  {title:20} client on {client:8} {name:16} {checked:4} ok {elapsed_ms:6.0f} ms")
    console.print(f"  [green]{responses} responses, all right[/]\n")


def measure_once(loop: str, server: str, cores: Cores, seconds: int) -> tuple[float, float]:
    with http_server(loop, server, cores) as running:
        url = f"http://127.0.0.1:{running.port}/"
        run_wrk(url, cores, CONNECTIONS, 1)  # warm up
        cpu_ns, started = tree_cpu_ns(running.pid), time.perf_counter()
        requests = run_wrk(url, cores, CONNECTIONS, seconds)
        elapsed = time.perf_counter() - started
        used_ns = tree_cpu_ns(running.pid) - cpu_ns
    return requests / elapsed, requests / (used_ns / 1e9)


def measure(loops: list[str], servers: list[str], cores: Cores, seconds: int) -> dict[str, dict[str, Samples]]:
    """Loops in turn, A B C D D C B A: a machine drifts, and the drift should meet everybody alike."""
    turns = [(server, loop) for server in servers for loop in (*loops, *reversed(loops))]
    results: dict[str, dict[str, Samples]] = defaultdict(lambda: defaultdict(Samples))
    columns = (TextColumn("  {task.description:34}"), BarColumn(), TextColumn("{task.fields[last]}"), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=len(turns) * (seconds + 1), last="")
        for server, loop in turns:
            progress.update(task, description=f"{SERVER_TITLES[server]} on {loop}")
            done = progress.tasks[0].completed
            with ticking(progress, task, seconds):
                per_second, per_cpu_second = measure_once(loop, server, cores, seconds)
            results[server][loop].per_second.append(per_second)
            results[server][loop].per_cpu_second.append(per_cpu_second)
            progress.update(task, completed=done + seconds + 1, last=f"{loop}: {per_second:,.0f} requests/s")
            if not console.is_terminal:
                console.print(f"  {SERVER_TITLES[server]:20} on {loop:8} {per_second:9,.0f} requests/s")
    return results


@contextmanager
def ticking(progress: Progress, task: object, seconds: int) -> Iterator[None]:
    """Moves the bar while a measurement runs; asleep but for one wake-up a second."""
    over = threading.Event()

    def tick() -> None:
        for _ in range(seconds):
            if over.wait(1):
                return
            progress.advance(task)  # type: ignore[arg-type]

    ticker = threading.Thread(target=tick)
    ticker.start()
    try:
        yield
    finally:
        over.set()
        ticker.join()


def print_table(results: dict[str, dict[str, Samples]], baseline: str, subject: str) -> None:
    table = Table(title=f"GET 10 B, wrk -t1 -c{CONNECTIONS}; mean of two turns")
    for column in ("server", "loop"):
        table.add_column(column, no_wrap=True)
    for column in ("requests/s", "requests per\nserver-CPU-second", f"against\n{baseline}"):
        table.add_column(column, justify="right", no_wrap=True)
    for server, by_loop in results.items():
        reference = statistics.mean(by_loop[baseline].per_cpu_second)
        for loop, samples in by_loop.items():
            efficiency = statistics.mean(samples.per_cpu_second)
            table.add_row(
                SERVER_TITLES[server],
                loop,
                f"{statistics.mean(samples.per_second):,.0f}",
                f"{efficiency:,.0f}",
                f"{efficiency / reference:.2f}",
                style="bold" if loop == subject else "",
            )
        table.add_section()
    console.print(table)


def measure_web_server(name: str, cores: Cores, seconds: int) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "file"
        file.touch()
        with web_server(WEB_SERVERS[name], WEB_CASE.kind, sys.executable, cores, Path(folder)) as running:
            check_answers(WEB_CASE, WEB_CASE.path, running.port, file)
            url = f"http://127.0.0.1:{running.port}{WEB_CASE.path}"
            run_web_wrk(url, cores, WEB_CASE, 1)  # warm up
            cpu_ns = tree_cpu_ns(running.pid)
            report = run_web_wrk(url, cores, WEB_CASE, seconds)
            used_ns = tree_cpu_ns(running.pid) - cpu_ns
    return report["requests"] / report["seconds"], report["requests"] / (used_ns / 1e9)


def show_web_server(cores: Cores, seconds: int) -> None:
    """cxxloop's own server against uvicorn: the same ASGI application, one worker each, in turn."""
    absent = gather_web_facts(sys.executable, list(WEB_TITLES)).absent
    names = [name for name in WEB_TITLES if name not in absent]
    for name, reason in absent.items():
        console.print(f"{WEB_TITLES[name]}: left out, {reason}")
    if not names:
        return
    results: dict[str, Samples] = defaultdict(Samples)
    for name in (*names, *reversed(names)):
        with console.status(WEB_TITLES[name]):
            per_second, per_cpu_second = measure_web_server(name, cores, seconds)
        results[name].per_second.append(per_second)
        results[name].per_cpu_second.append(per_cpu_second)
    table = Table(title=f"one ASGI application, one worker; {WEB_CASE.title}, wrk -t1 -c{WEB_CASE.connections}; mean of two turns")
    table.add_column("server", no_wrap=True)
    for column in ("requests/s", "requests per\nserver-CPU-second", "against\nthe first"):
        table.add_column(column, justify="right", no_wrap=True)
    reference = statistics.mean(results[names[0]].per_cpu_second)
    for name, samples in results.items():
        efficiency = statistics.mean(samples.per_cpu_second)
        rate = statistics.mean(samples.per_second)
        style = "bold" if name == "cxxloop" else ""
        table.add_row(WEB_TITLES[name], f"{rate:,.0f}", f"{efficiency:,.0f}", f"{efficiency / reference:.2f}", style=style)
    console.print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loops", nargs="+", default=["asyncio", "uvloop", "rloop", "cxxloop"])
    parser.add_argument("--servers", nargs="+", choices=SERVER_TITLES, default=list(SERVER_TITLES))
    parser.add_argument("--subject", default="cxxloop", help="the loop that is checked first")
    parser.add_argument("--seconds", type=int, default=3, help="length of one measurement")
    options = parser.parse_args()
    absent = [loop for loop in options.loops if importlib.util.find_spec(loop) is None]
    loops = [loop for loop in options.loops if loop not in absent]
    if absent:
        console.print(f"not installed here, left out: {', '.join(absent)}")
    cores = choose_cores()
    try:
        check_servers(options.subject, options.servers, cores)
        console.print(f"[bold]2. Measured in turn[/]: {' '.join((*loops, *reversed(loops)))}")
        print_table(measure(loops, options.servers, cores, options.seconds), loops[0], options.subject)
        console.print("\n[bold]3. cxxloop's own web server[/]: the application runs on it without uvicorn")
        show_web_server(cores, min(options.seconds, WEB_SECONDS_MAX))
    except (WrongResponse, MeasurementFailed) as failure:
        console.print(f"[red bold]failed:[/] {failure}")
        return 1
    console.print(machine_line(), soft_wrap=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
