# SPDX-License-Identifier: MIT
"""Runs the steps of ci/test, all of them even when one fails, and sums up.

Two commands run at a time: one that compiles beside one that tests, which mostly waits, as long as there are both.
What a command says is kept in build/reports, and shown when it fails.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REPORTS = ROOT / "build" / "reports"
BIN = Path(sys.executable).parent
COMMAND_SECONDS_MAX = 1500  # A command that runs longer hangs.
LEFT_OUT = 3  # Exit code of a check that this machine cannot run: it says why.
LINES_SHOWN_MAX = 300  # Of a command that failed; its file has all.
SIMULATED_SEEDS = 10_000
# Freed memory is kept back under AddressSanitizer, so that a growing process proves nothing.
ASAN_IGNORES = ["--ignore=tests/python/interp/test_leaks.py"]
# The rooms of tests/python that take about half of the time together; what is new goes to the other half.
HALF_OF_ROOMS = ("compat", "datagrams", "hostile")
STUBTEST_OPTIONS = ["--mypy-config-file=pyproject.toml", "--allowlist=ci/stubtest.allow", "--ignore-unused-allowlist"]


@dataclass(frozen=True)
class Command:
    """One check of a step. With a JUnit report its cases are counted, without one the command itself is the case.

    may_be_left_out: the exit code LEFT_OUT is a skip, not a failure.
    compiles: it keeps a core busy.
    after: the name of a command that has to pass before, where that is asked for as well.
    """

    name: str
    arguments: list[str]
    report: Path | None = None
    may_be_left_out: bool = False
    compiles: bool = False
    after: str = ""


@dataclass
class Outcome:
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    broken: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def add(self, other: "Outcome") -> None:
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.broken += other.broken
        self.left_out += other.left_out

    @property
    def verdict(self) -> str:
        if self.broken:
            return f"FAILED ({', '.join(self.broken)})"
        return f"left out ({', '.join(self.left_out)})" if self.left_out else "ok"

    def __str__(self) -> str:
        counts = [(self.failed, "failed"), (self.passed, "passed"), (self.skipped, "skipped")]
        return ", ".join(f"{count} {name}" for count, name in counts if count) or "nothing ran"


def pytest(name: str, *arguments: str) -> Command:
    report = REPORTS / f"{name}.xml"
    return Command(name, [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *arguments], report)


def halves() -> dict[str, list[str]]:
    """tests/python in two parts that take as long as each other, for two processes."""
    first = [f"tests/python/{room}" for room in HALF_OF_ROOMS]
    return {"first": first, "second": ["tests/python", *(f"--ignore={room}" for room in first)]}


def asan(step: str, kind: str) -> list[Command]:
    """tests/python on the extension module with AddressSanitizer; kind: what ci/sanitize calls it."""
    build = f"{step}-build"
    # After the other build, which makes the same tree, where that is asked for as well.
    commands = [Command(build, ["ci/sanitize", "build"], compiles=True, after="" if step == "asan" else "asan-build")]
    for part, arguments in halves().items():
        report = REPORTS / f"{step}-{part}.xml"
        run_part = ["ci/sanitize", kind, *arguments, *ASAN_IGNORES, "-q", f"--junitxml={report}"]
        commands.append(Command(f"{step}-{part}", run_part, report, after=build))
    return commands


def cpp(name: str, sanitizer: str, folder: str) -> Command:
    report = ROOT / "build" / folder / "meson-logs" / "testlog.junit.xml"
    return Command(name, ["ci/sanitize", sanitizer], report, compiles=True)


def conformance() -> Command:
    report = REPORTS / "conformance.xml"
    arguments = [sys.executable, "tests/conformance/run.py", "--loop", "cxxloop", "--jobs", "2", "--junit", str(report)]
    return Command("conformance", arguments, report, may_be_left_out=True)


def late_conformance() -> Command:
    report = REPORTS / "late-conformance.xml"
    arguments = ["ci/sanitize", "late-conformance", "--jobs", "2", "--junit", str(report)]
    return Command("late-conformance", arguments, report, may_be_left_out=True, after="late-build")


def steps() -> dict[str, list[Command]]:
    return {
        "cpp": [cpp("address", "address", "asan-cpp"), cpp("thread", "thread", "tsan-cpp")],
        "python": [
            pytest("python-cxxloop", "tests/python", "--loop", "cxxloop"),
            pytest("python-asyncio", "tests/python", "--loop", "asyncio"),
        ],
        "soak": [Command("soak", [sys.executable, "tests/soak/soak.py", "--seconds", "60"])],
        "conformance": [conformance()],
        "frameworks": [pytest("frameworks", "tests/frameworks")],
        "asan": asan("asan", "python"),
        "late": [*asan("late", "late"), late_conformance()],
        "instructions": [
            Command("instructions", [sys.executable, "ci/instructions"], may_be_left_out=True, compiles=True)
        ],
        "tidy": [Command("tidy", ["ci/tidy"]), pytest("ci", "tests/ci"), pytest("benchmarks", "tests/benchmarks")],
        "types": [
            Command("mypy", [str(BIN / "mypy"), "--strict", "cxxloop"], compiles=True),
            Command("stubtest", [str(BIN / "stubtest"), "cxxloop._core", "cxxloop._web", *STUBTEST_OPTIONS], compiles=True),
        ],
    }


def quick_step() -> list[Command]:
    """What a developer runs after each change: few seeds, no sanitizer, cxxloop alone."""
    parts = [pytest(f"quick-{part}", *arguments, "--loop", "cxxloop") for part, arguments in halves().items()]
    return [cpp("plain", "plain", "plain-cpp"), *parts, Command("tidy", ["ci/tidy"])]


def count_cases(report: Path) -> Outcome:
    outcome = Outcome()
    for case in ElementTree.parse(report).iter("testcase"):
        kinds = {child.tag for child in case}
        if kinds & {"failure", "error"}:
            outcome.failed += 1
        elif "skipped" in kinds:
            outcome.skipped += 1
        else:
            outcome.passed += 1
    return outcome


class Processes:
    """The commands that run: each is a session of its own, so that what hangs ends with everything it started."""

    def __init__(self) -> None:
        self.running: set[int] = set()
        self.lock = threading.Lock()

    @contextmanager
    def started(self, command: Command, output: Path) -> Iterator[subprocess.Popen[bytes]]:
        environment = {"CXXLOOP_SIM_SEEDS": str(SIMULATED_SEEDS), "JOBS": "1"} | os.environ
        with output.open("wb") as log:
            process = subprocess.Popen(
                command.arguments, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        with self.lock:
            self.running.add(process.pid)
        try:
            yield process
        finally:
            with self.lock:
                self.running.discard(process.pid)

    def kill(self) -> None:
        with self.lock:
            for pid in self.running:
                os.killpg(pid, signal.SIGKILL)


def run(command: Command, processes: Processes | None = None) -> Outcome:
    if command.report is not None:
        command.report.unlink(missing_ok=True)
    REPORTS.mkdir(parents=True, exist_ok=True)
    output = REPORTS / f"{command.name}.log"
    with (processes or Processes()).started(command, output) as process:
        try:
            code = process.wait(COMMAND_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
            with output.open("a") as log:
                log.write(f"{command.name}: no end after {COMMAND_SECONDS_MAX} s\n")
    if code == LEFT_OUT and command.may_be_left_out:
        return Outcome(skipped=1, left_out=[command.name])
    counted = command.report is not None and command.report.exists()
    outcome = count_cases(command.report) if counted and command.report else Outcome(passed=int(code == 0))
    if code != 0:
        # A crash may leave no report, or one without a failure in it.
        outcome.failed = max(outcome.failed, 1)
        outcome.broken.append(command.name)
    return outcome


class Run:
    """Commands of the chosen steps on two threads: the first prefers what compiles, the second what does not."""

    def __init__(self, chosen: dict[str, list[Command]]) -> None:
        self.waiting = [command for commands in chosen.values() for command in commands]
        self.names = {command.name for command in self.waiting}
        self.outcomes: dict[str, Outcome] = {}
        self.seconds: dict[str, float] = {}
        self.changed = threading.Condition()
        self.processes = Processes()

    def is_ready(self, command: Command) -> bool:
        return command.after not in self.names or command.after in self.outcomes

    def take(self, prefers_compiling: bool) -> Command | None:
        """The next command, when there is one that need not wait for another; None at the end."""
        with self.changed:
            while self.waiting:
                ready = [command for command in self.waiting if self.is_ready(command)]
                if ready:
                    command = min(ready, key=lambda command: command.compiles != prefers_compiling)
                    self.waiting.remove(command)
                    return command
                self.changed.wait()
            return None

    def work(self, prefers_compiling: bool) -> None:
        while (command := self.take(prefers_compiling)) is not None:
            started = time.monotonic()
            before = self.outcomes.get(command.after)
            if before is not None and before.broken:
                outcome = Outcome(failed=1, broken=[f"{command.name} (not run)"])
            else:
                print(f"  {command.name} ...", flush=True)
                outcome = self.run(command)
            with self.changed:
                self.outcomes[command.name] = outcome
                self.seconds[command.name] = time.monotonic() - started
                self.show(command, outcome)
                self.changed.notify_all()

    def run(self, command: Command) -> Outcome:
        try:
            return run(command, self.processes)
        except OSError as error:
            (REPORTS / f"{command.name}.log").write_text(f"{command.arguments[0]}: {error}\n")
            return Outcome(failed=1, broken=[command.name])

    def show(self, command: Command, outcome: Outcome) -> None:
        output = REPORTS / f"{command.name}.log"
        if (outcome.broken or outcome.left_out) and output.exists():
            lines = output.read_text(errors="replace").splitlines()
            print(headline(command.name, "-"), *lines[-LINES_SHOWN_MAX:], sep="\n")
        print(f"  {command.name:20} {self.seconds[command.name]:7.1f} s  {outcome.verdict}: {outcome}", flush=True)

    def finish(self) -> None:
        workers = [threading.Thread(target=self.work, args=(prefers,), daemon=True) for prefers in (True, False)]
        for worker in workers:
            worker.start()
        try:
            for worker in workers:
                worker.join()
        except BaseException:
            self.processes.kill()
            raise


def headline(text: str, mark: str) -> str:
    return f" {text} ".center(shutil.get_terminal_size((100, 24)).columns, mark)


def main(names: list[str]) -> int:
    known = steps()
    unknown = [name for name in names if name not in (*known, "quick")]
    if unknown:
        print(f"usage: ci/test [quick|{'|'.join(known)} ...]; there is no step {unknown[0]!r}", file=sys.stderr)
        return 2
    chosen = {name: known[name] if name in known else quick_step() for name in names or known}
    started = time.monotonic()
    run_of_all = Run(chosen)
    run_of_all.finish()
    total, lines = Outcome(), []
    for name, commands in chosen.items():
        step = Outcome()
        for command in commands:
            step.add(run_of_all.outcomes[command.name])
        total.add(step)
        seconds = sum(run_of_all.seconds[command.name] for command in commands)
        lines.append(f"{name:12} {seconds:7.1f} s  {step.verdict}: {step}")
    print(headline("summary", "-"), *lines, sep="\n")
    print(headline(f"{total} in {time.monotonic() - started:.2f}s", "="))
    return 1 if total.broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
