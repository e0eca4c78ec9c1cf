# SPDX-License-Identifier: MIT
"""Writes the tables of docs/compatibility.md from the reports of run.py --out.

    python tests/conformance/table.py build/conformance/*.json
"""

import argparse
import collections
import json
import sys
from pathlib import Path
from typing import Any

import cases

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "compatibility.md"
BEGIN, END = "<!-- begin: tests/conformance/table.py -->", "<!-- end: tests/conformance/table.py -->"
LOOPS = ("cxxloop", "asyncio", "uvloop")

Report = dict[str, Any]
Counts = dict[str, collections.Counter[str]]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", nargs="+", type=Path)
    reports = [json.loads(path.read_text()) for path in parser.parse_args(arguments).reports]
    before, begin, rest = DOCUMENT.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        print(f"{DOCUMENT} has no place for the tables", file=sys.stderr)
        return 1
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{tables(reports)}\n{END}{after}")
    return 0


def tables(reports: list[Report]) -> str:
    versions = sorted({report["python"] for report in reports}, key=minor_of)
    of_version = {
        version: [r for loop in LOOPS for r in reports if (r["python"], r["loop"]) == (version, loop)]
        for version in versions
    }
    parts = [f"{overview(of_version)}\n", *expected_failures(reports)]
    parts += [f"### Python {version}\n\n{table(of_version[version])}\n" for version in versions]
    return "\n".join(parts)


def overview(of_version: dict[str, list[Report]]) -> str:
    lines = [["Python", *LOOPS], ["---", *("---:" for _ in LOOPS)]]
    for version, reports in of_version.items():
        totals = {report["loop"]: cell(count(report)["total"]) for report in reports}
        lines.append([version, *(totals.get(loop, "-") for loop in LOOPS)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def expected_failures(reports: list[Report]) -> list[str]:
    """What cannot pass on cxxloop: the internal that each test replaces, and what is there instead."""
    reasons: dict[tuple[str, str], list[str]] = collections.defaultdict(list)
    for report in sorted(reports, key=lambda report: minor_of(report["python"])):
        for name, test in report["tests"].items():
            if report["loop"] == "cxxloop" and test["verdict"] == "expected":
                reasons[name, test["detail"]].append(".".join(report["python"].split(".")[:2]))
    if not reasons:
        return []
    lines = [f"- `{name}` ({', '.join(versions)}): {reason}." for (name, reason), versions in reasons.items()]
    return ["Expected to fail on cxxloop, and why:\n", "\n".join(lines) + "\n"]


def minor_of(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


def table(reports: list[Report]) -> str:
    counts = [count(report) for report in reports]
    rows = sorted(set().union(*counts) - {"total"})
    head = ["tests", *(name_of(report) for report in reports)]
    lines = [head, ["---", *("---:" for _ in reports)]]
    lines += [[f"`{row}`", *(cell(of_loop[row]) for of_loop in counts)] for row in rows]
    lines.append(["**all**", *(f"**{cell(of_loop['total'])}**" for of_loop in counts)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def name_of(report: Report) -> str:
    return " ".join(filter(None, (report["loop"], report["version"])))


def count(report: Report) -> Counts:
    """Verdicts of each row; a test that makes no loop says nothing about one."""
    counts: Counts = collections.defaultdict(collections.Counter)
    for name, test in report["tests"].items():
        if test["verdict"] == "no loop":
            continue
        counts[cases.row_of(name)][test["verdict"]] += 1
        counts["total"][test["verdict"]] += 1
    return counts


def cell(counts: collections.Counter[str]) -> str:
    """passed/run, and what is expected to fail or was skipped."""
    ran = counts.total() - counts["skipped"]
    if not counts:
        return "-"
    extras = [f"{counts[verdict]} {verdict}" for verdict in ("expected", "skipped") if counts[verdict]]
    return f"{counts['passed']}/{ran}" + (f" ({', '.join(extras)})" if extras else "")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
