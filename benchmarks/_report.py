# SPDX-License-Identifier: MIT
"""Tables for the eye and a JSON file for the record."""

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from _contest import Contestant, Row, twin_of
from _machine import Facts, machine_line

BASELINES = ("uvloop", "asyncio", "uvicorn-uvloop")
RESULTS = Path(__file__).parent / "results"


def significant(value: float) -> str:
    """Three digits; more would claim a precision nobody has here."""
    magnitude = abs(value)
    if magnitude >= 10_000:
        return f"{value / 1000:,.0f} k"
    return f"{value:.0f}" if magnitude >= 100 else f"{value:.1f}" if magnitude >= 10 else f"{value:.2f}"


def noise_percent(row: Row, first: str) -> float | None:
    """How far the two measurements of one loop lie apart. A difference below it means nothing."""
    ratio = row.ratio(twin_of(first), first)
    return None if ratio is None else abs(ratio - 1) * 100


def best_label(row: Row, labels: list[str]) -> str | None:
    values = {label: value for label in labels if (value := row.value(label)) is not None}
    if not values:
        return None
    if row.better == "more":
        return max(values, key=values.__getitem__)
    return min(values, key=lambda label: abs(values[label]) if row.better == "near zero" else values[label])


def cell(row: Row, label: str, best: str | None) -> str:
    value = row.value(label)
    if value is None:
        return "[red]failed[/]" if label in row.failures else "-"
    text = significant(value) + ("[red]*[/]" if label in row.failures else "")
    return f"[bold green]{text}[/]" if label == best else text


def values_table(title: str, rows: list[Row], contestants: list[Contestant]) -> RichTable:
    labels = [contestant.label for contestant in contestants]
    table = RichTable(title=title)
    table.add_column("case")
    table.add_column("unit")
    for label in labels:
        table.add_column(label, justify="right")
    table.add_column("noise", justify="right")
    for row in rows:
        best = best_label(row, labels[:-1])
        noise = noise_percent(row, labels[0])
        unit = row.unit + {"more": ", more is better", "near zero": ", near 0 is better"}.get(row.better, "")
        cells = [cell(row, label, best) for label in labels]
        table.add_row(row.case, unit, *cells, "-" if noise is None else f"{noise:.1f} %")
    return table


def ratios_table(rows: list[Row], contestants: list[Contestant]) -> RichTable | None:
    labels = [contestant.label for contestant in contestants[:-1]]
    pairs = [(label, base) for base in BASELINES if base in labels for label in labels if label != base]
    if not pairs:
        return None
    table = RichTable(title="Ratios")
    table.add_column("case")
    for label, base in pairs:
        table.add_column(f"{label}\n/ {base}", justify="right")
    for row in rows:
        ratios = [row.ratio(label, base) for label, base in pairs]
        if not any(ratios):
            continue
        table.add_row(row.case, *("-" if ratio is None else f"{ratio:.2f}" for ratio in ratios))
    return table if table.row_count else None


def print_facts(console: Console, facts: Facts) -> None:
    console.print(f"{machine_line(facts.python)}, load {facts.machine['load_1min_at_start']:.2f}", highlight=False, soft_wrap=True)
    for loop, version in facts.versions.items():
        console.print(f"  {loop} {version} {facts.builds.get(loop, '')}", highlight=False)
    for loop, reason in facts.absent.items():
        console.print(f"  [yellow]{loop} absent[/] ({reason})", highlight=False)


def print_rows(console: Console, title: str, facts: Facts, rows: list[Row], contestants: list[Contestant]) -> None:
    console.print(values_table(title, rows, contestants))
    console.print(machine_line(facts.python), highlight=False, soft_wrap=True)
    if (ratios := ratios_table(rows, contestants)) is not None:
        console.print(ratios)
        console.print(machine_line(facts.python), highlight=False, soft_wrap=True)
    said = set()  # A case with several quantities fails in all of them at once.
    for row in rows:
        for label, failure in row.failures.items():
            if (label, failure) not in said:
                console.print(f"[red]{row.case}, {label}:[/] {escape(failure)}", highlight=False)
            said.add((label, failure))


def as_record(row: Row, contestants: list[Contestant]) -> dict[str, Any]:
    labels = [contestant.label for contestant in contestants]
    values = {label: row.value(label) for label in labels}
    return asdict(row) | {"values": values, "noise_percent": noise_percent(row, labels[0])}


def write_record(
    path: Path | None, command: str, settings: dict[str, Any], facts: Facts, rows: list[Row], contestants: list[Contestant]
) -> Path:
    now = time.gmtime()
    path = path or RESULTS / f"{command}-{time.strftime('%Y%m%d-%H%M%S', now)}.json"
    record = {
        "format": 1,
        "command": command,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", now),
        "settings": settings,
        **asdict(facts),
        "contestants": [asdict(contestant) for contestant in contestants],
        "rows": [as_record(row, contestants) for row in rows],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n")
    return path
