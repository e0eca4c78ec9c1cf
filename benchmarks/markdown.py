# SPDX-License-Identifier: MIT
"""Write results files of compare.py as Markdown, or bring a document's tables up to date with them.

python benchmarks/markdown.py benchmarks/results/echo.json
python benchmarks/markdown.py --update benchmarks/README.md

In a document a table stands between `<!-- FILE -->` or `<!-- FILE: UNIT -->`, for the rows of one unit, and `<!-- end -->`; FILE is
relative to the document.
"""

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from _contest import Contestant, Row
from _report import noise_percent, significant

BASES = ("uvloop", "uvicorn-uvloop")  # Whose values are 1: the first that took part.
BETTER = {"more": ", more is better", "near zero": ", near 0 is better"}
PLACE = re.compile(r"(<!-- (\S+\.json)(?:: ([^\n]+))? -->\n).*?(<!-- end -->)", re.DOTALL)


def markdown_row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def markdown_table(heads: list[str], rows: list[list[str]]) -> list[str]:
    return [markdown_row(heads), f"|{'---|' * len(heads)}", *map(markdown_row, rows)]


def rows_of(record: dict[str, Any]) -> list[Row]:
    known = ("case", "unit", "best", "better", "samples", "failures")
    return [Row(**{name: row[name] for name in known}) for row in record["rows"]]


def value_cells(row: Row, labels: list[str]) -> Iterator[str]:
    for label in labels:
        value = row.value(label)
        yield ("failed" if label in row.failures else "-") if value is None else significant(value)


def values_table(rows: list[Row], labels: list[str]) -> list[str]:
    lines = []
    for row in rows:
        noise = noise_percent(row, labels[0])
        unit = row.unit + BETTER.get(row.better, "")
        lines.append([row.case, unit, *value_cells(row, labels), "-" if noise is None else f"{noise:.1f} %"])
    return markdown_table(["case", "unit", *labels, "noise"], lines)


def ratios_table(rows: list[Row], labels: list[str]) -> list[str]:
    base = next((label for label in BASES if label in labels), BASES[0])
    others = [label for label in labels[:-1] if label != base]
    lines = []
    for row in rows:
        ratios = [row.ratio(label, base) for label in others]
        if any(ratios):
            lines.append([row.case, *("-" if ratio is None else f"{ratio:.2f}" for ratio in ratios)])
    if not lines:
        return []
    words = f"Divided by {base}'s (below 1 is cheaper; where more is better, above 1 is better):"
    return ["", words, "", *markdown_table(["case", *others], lines)]


def machine_words(record: dict[str, Any]) -> str:
    machine = record["machine"]
    loops = ", ".join(f"{loop} {version}" for loop, version in record["versions"].items())
    return (
        f"{machine['kernel']}, {machine['cores']} x {machine['cpu']}, CPython {record['python'].split()[0]}; "
        f"{record['settings']['rounds']} rounds, finished {record['finished'][:10]}. {loops}."
    )


def as_markdown(record: dict[str, Any], unit: str | None = None) -> str:
    """Of all rows, or those of one unit."""
    labels = [Contestant(**contestant).label for contestant in record["contestants"]]
    rows = [row for row in rows_of(record) if unit in (None, row.unit)]
    lines = [*values_table(rows, labels), *ratios_table(rows, labels), "", machine_words(record)]
    return "\n".join(lines) + "\n"


def update(document: Path) -> None:
    def table(found: re.Match[str]) -> str:
        record = json.loads((document.parent / found[2]).read_text())
        return f"{found[1]}{as_markdown(record, found[3])}{found[4]}"

    document.write_text(PLACE.sub(table, document.read_text()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="*")
    parser.add_argument("--update", type=Path, metavar="DOCUMENT", help="replace the tables of this document")
    arguments = parser.parse_args()
    for path in arguments.results:
        print(as_markdown(json.loads(path.read_text())))
    if arguments.update:
        update(arguments.update)


if __name__ == "__main__":
    main()
