# SPDX-License-Identifier: MIT
"""Runs the steps of ci/test one after the other, all of them even when one fails, and sums up."""

import os
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REPORTS = ROOT / "build" / "reports"
BIN = Path(sys.executable).parent
COMMAND_SECONDS_MAX = 900  # A command that runs longer hangs.
LEFT_OUT = 3  # Exit code of a check that this machine cannot run: it says why.
SIMULATED_SEEDS = 10_000
# Freed memory is kept back under AddressSanitizer, so that a growing process proves nothing.
ASAN_IGNORES = ["--ignore=tests/python/interp/test_leaks.py"]
STUBTEST_OPTIONS = ["--mypy-config-file=pyproject.toml", "--allowlist=ci/stubtest.allow", "--ignore-unused-allowlist"]


@dataclass(frozen=True)
class Command:
    """One check of a step. With a JUnit report its cases are counted, without one the command itself is the case.

    may_be_left_out: the exit code LEFT_OUT is a skip, not a failure.
    """

    name: str
    arguments: list[str]
    report: Path | None = None
    may_be_left_out: bool = False


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


def sanitized_cpp(name: str, sanitizer: str, folder: str) -> Command:
    report = ROOT / "build" / folder / "meson-logs" / "testlog.junit.xml"
    return Command(name, ["ci/sanitize", sanitizer], report)


def conformance() -> Command:
    report = REPORTS / "conformance.xml"
    arguments = [sys.executable, "tests/conformance/run.py", "--loop", "cxxloop", "--jobs", "2", "--junit", str(report)]
    return Command("conformance", arguments, report, may_be_left_out=True)


def steps() -> dict[str, list[Command]]:
    asan_report = REPORTS / "asan.xml"
    return {
        "cpp": [
            sanitized_cpp("address", "address", "asan-cpp"),
            sanitized_cpp("thread", "thread", "tsan-cpp"),
        ],
        "python": [pytest("python", "tests/python")],
        "soak": [Command("soak", [sys.executable, "tests/soak/soak.py", "--seconds", "60"])],
        "conformance": [conformance()],
        "frameworks": [pytest("frameworks", "tests/frameworks")],
        "asan": [Command("asan", ["ci/sanitize", "python", "tests/python", *ASAN_IGNORES, "-q", f"--junitxml={asan_report}"], asan_report)],
        "instructions": [Command("instructions", [sys.executable, "ci/instructions"], may_be_left_out=True)],
        "tidy": [Command("tidy", ["ci/tidy"]), pytest("ci", "tests/ci"), pytest("benchmarks", "tests/benchmarks")],
        "types": [
            Command("mypy", [str(BIN / "mypy"), "--strict", "cxxloop"]),
            Command("stubtest", [str(BIN / "stubtest"), "cxxloop._core", *STUBTEST_OPTIONS]),
        ],
    }


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


def run(command: Command) -> Outcome:
    if command.report is not None:
        command.report.unlink(missing_ok=True)
    environment = dict(os.environ, CXXLOOP_SIM_SEEDS=str(SIMULATED_SEEDS))
    # A session of its own: what hangs is ended with everything it started.
    with subprocess.Popen(command.arguments, cwd=ROOT, env=environment, start_new_session=True) as process:
        try:
            code = process.wait(COMMAND_SECONDS_MAX)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            print(f"{command.name}: no end after {COMMAND_SECONDS_MAX} s", flush=True)
            code = -signal.SIGKILL
    if code == LEFT_OUT and command.may_be_left_out:
        return Outcome(skipped=1, left_out=[command.name])
    counted = command.report is not None and command.report.exists()
    outcome = count_cases(command.report) if counted and command.report else Outcome(passed=int(code == 0))
    if code != 0:
        # A crash may leave no report, or one without a failure in it.
        outcome.failed = max(outcome.failed, 1)
        outcome.broken.append(command.name)
    return outcome


def headline(text: str, mark: str) -> str:
    return f" {text} ".center(shutil.get_terminal_size((100, 24)).columns, mark)


def main(names: list[str]) -> int:
    known = steps()
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"usage: ci/test [{'|'.join(known)} ...]; there is no step {unknown[0]!r}", file=sys.stderr)
        return 2
    REPORTS.mkdir(parents=True, exist_ok=True)
    total, lines, started = Outcome(), [], time.monotonic()
    for name in names or known:
        print(headline(f"step {name}", "-"), flush=True)
        step, step_started = Outcome(), time.monotonic()
        for command in known[name]:
            step.add(run(command))
        total.add(step)
        lines.append(f"{name:12} {time.monotonic() - step_started:7.1f} s  {step.verdict}: {step}")
        print(lines[-1], flush=True)
    print(headline("summary", "-"), *lines, sep="\n")
    print(headline(f"{total} in {time.monotonic() - started:.2f}s", "="))
    return 1 if total.broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
