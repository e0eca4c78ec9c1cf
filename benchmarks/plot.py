# SPDX-License-Identifier: MIT
"""Draw a results file of compare.py as bars: every case relative to one loop, so that cases of different size share a chart."""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402  # after the backend is chosen


BASES = ("uvloop", "uvicorn-uvloop")  # Whose values are 1: the first that took part.


def relative_values(record: dict[str, Any], labels: list[str], base: str, unit: str | None) -> dict[str, list[float]]:
    """Value of every contestant divided by that of `base`, by case. Cases without a meaningful ratio are left out."""
    relative: dict[str, list[float]] = {}
    for row in record["rows"]:
        values = row["values"]
        if row["better"] != "near zero" and values.get(base) and unit in (None, row["unit"]):
            relative[row["case"]] = [(values.get(label) or 0.0) / values[base] for label in labels]
    return relative


def draw(record: dict[str, Any], base: str | None, unit: str | None, out: Path) -> None:
    labels = [contestant["label"] for contestant in record["contestants"]]
    base = base or next((label for label in BASES if label in labels), labels[0])
    cases = relative_values(record, labels, base, unit)
    if not cases:
        raise SystemExit(f"No case has a value for {base}.")
    figure, axes = plt.subplots(figsize=(9, 1 + 0.18 * len(labels) * len(cases)), layout="constrained")
    bar = 0.8 / len(labels)
    for index, label in enumerate(labels):
        places = [place + bar * index for place in range(len(cases))]
        axes.barh(places, [values[index] for values in cases.values()], height=bar, label=label)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks([place + 0.4 - bar / 2 for place in range(len(cases))], list(cases))
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel(f"{unit}, relative to {base}" if unit else f"relative to {base}")
    facts = f"compare.py {record['command']}, Python {record['python'].split()[0]}, {record['machine']['cpu']}"
    figure.suptitle(facts, fontsize="small")
    figure.legend(loc="outside lower center", ncols=4)  # beside the bars, not over them
    figure.savefig(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--base", help="the loop or server that is 1; default: uvloop, or uvicorn on it, or the first")
    parser.add_argument("--unit", help="only the rows of this unit")
    parser.add_argument("--out", type=Path, help="default: the results file with the suffix .svg")
    arguments = parser.parse_args()
    out = arguments.out or arguments.results.with_suffix(".svg")
    draw(json.loads(arguments.results.read_text()), arguments.base, arguments.unit, out)


if __name__ == "__main__":
    main()
