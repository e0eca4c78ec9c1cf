# SPDX-License-Identifier: MIT
"""Runs CPython's own tests of asyncio on an event loop, each test in a process of its own.

    python tests/conformance/run.py --loop cxxloop
    python tests/conformance/run.py --loop cxxloop --only test_streams.StreamTests.test_read

The tests are those of the running Python: its `test` package has to be installed.
"""

import argparse
import collections
import importlib.util
import json
import os
import platform
import sys
import time
import unittest
from fnmatch import fnmatchcase
from pathlib import Path

import cases
import expectations
import isolate
import junit
import loops

EXPECTED = "expected"  # failed, and listed in expectations.txt
LEFT_OUT = 3  # exit code: there is nothing to run
EXPECTED_SECONDS_MAX = 10  # for a test that is expected to fail: it may hang
COLUMNS = (isolate.PASSED, EXPECTED, isolate.FAILED, isolate.SKIPPED, isolate.UNCONCERNED)


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loop", default="cxxloop", help=f"{', '.join(sorted(loops.CLASSES))} or module:Class")
    parser.add_argument("--backend", help="cxxloop's backend (default: what cxxloop chooses)")
    parser.add_argument("--only", action="append", metavar="TEST", help="a part of a test's name, or a pattern with *")
    parser.add_argument("--jobs", type=int, default=min(os.cpu_count() or 1, 8))
    parser.add_argument("--seconds", type=float, default=30, help="time limit of a test")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write every outcome")
    parser.add_argument("--junit", type=Path, metavar="FILE.xml", help="write a JUnit report")
    return parser.parse_args(arguments)


def debian_package() -> str:
    return "libpython{}.{}-testsuite".format(*sys.version_info)


def chosen(tests: list[unittest.TestCase], patterns: list[str] | None) -> list[unittest.TestCase]:
    if not patterns:
        return tests
    return [test for test in tests if any(fnmatchcase(cases.name_of(test), f"*{part}*") for part in patterns)]


def judge(outcome: isolate.Outcome, reason: str | None) -> tuple[str, str]:
    """The column an outcome counts in, and what to say about it."""
    if reason is None:
        if outcome.bad:
            return isolate.FAILED, f"{outcome.status} after {outcome.seconds:.1f} s\n{outcome.detail}"
        return outcome.status, outcome.detail
    if outcome.bad:
        return EXPECTED, reason
    return isolate.FAILED, f"{outcome.status}, but expectations.txt says that it cannot pass: {reason}"


def summary(verdicts: dict[str, str]) -> str:
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for name, verdict in verdicts.items():
        counts[cases.row_of(name)][verdict] += 1
        counts["total"][verdict] += 1
    rows = sorted(row for row in counts if row != "total")
    width = max(map(len, [*rows, "total"]))
    lines = [f"{'':{width}}" + "".join(f"{column:>10}" for column in (*COLUMNS, "total"))]
    for row in (*rows, "total"):
        cells = [*(counts[row][column] for column in COLUMNS), counts[row].total()]
        lines.append(f"{row:{width}}" + "".join(f"{cell:>10}" for cell in cells))
    return "\n".join(lines)


def closing_line(verdicts: dict[str, str], seconds: float) -> str:
    counts = collections.Counter(verdicts.values())
    names = {isolate.PASSED: "passed", isolate.FAILED: "failed", isolate.SKIPPED: "skipped", EXPECTED: "xfailed"}
    names[isolate.UNCONCERNED] = "without this loop"
    parts = [f"{counts[column]} {name}" for column, name in names.items() if counts[column] or name == "passed"]
    return f"{', '.join(parts)} in {seconds:.1f}s"


def main(arguments: list[str]) -> int:
    options = parse_arguments(arguments)
    if importlib.util.find_spec(cases.PACKAGE) is None:
        print(f"left out: {sys.executable} has no {cases.PACKAGE}; Debian has it in {debian_package()}", file=sys.stderr)
        return LEFT_OUT
    loop_class = loops.load_class(options.loop, options.backend)
    tests = chosen(cases.load(loop_class), options.only)
    if not tests:
        print(f"no test is called {options.only}", file=sys.stderr)
        return 2
    expected = expectations.load(options.loop, sys.version_info[:2])
    names = {cases.name_of(test) for test in tests}
    verdicts: dict[str, str] = {}
    outcomes: dict[str, dict[str, object]] = {}
    if not options.only:
        for name in expected.keys() - names:
            print(f"FAILED {name}: listed in expectations.txt, but there is no such test")
            verdicts[name] = isolate.FAILED
    started = time.monotonic()

    def seconds_max(test: unittest.TestCase) -> float:
        return EXPECTED_SECONDS_MAX if cases.name_of(test) in expected else options.seconds

    concerned = loops.watch_making(loop_class)
    for test, outcome in isolate.run(tests, options.jobs, seconds_max, concerned):
        name = cases.name_of(test)
        verdict, detail = judge(outcome, expected.get(name))
        verdicts[name] = verdict
        outcomes[name] = {"verdict": verdict, "status": outcome.status, "seconds": round(outcome.seconds, 3), "detail": detail}
        if verdict == isolate.FAILED:
            print(f"FAILED {name}: {detail}", flush=True)
    print(summary(verdicts))
    print(closing_line(verdicts, time.monotonic() - started))
    if options.junit is not None:
        junit.write(options.junit, outcomes)
    if options.out is not None:
        report = {
            "loop": options.loop,
            "version": loops.version_of(options.loop),
            "backend": options.backend,
            "python": platform.python_version(),
            "tests": dict(sorted(outcomes.items())),
        }
        options.out.write_text(json.dumps(report, indent=1) + "\n")
    return int(isolate.FAILED in verdicts.values())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
