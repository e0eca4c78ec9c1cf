# SPDX-License-Identifier: MIT
"""The tables of a document are those of the results files."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def row(case, better, samples, **failures):
    return {"case": case, "unit": "us", "best": "median", "better": better, "samples": samples, "failures": failures}


@pytest.fixture
def document(tmp_path):
    loops = ["cxxloop", "uvloop", "rloop"]
    record = {
        "rows": [
            row("echo", "less", {"cxxloop": [1.0, 3.0, 2.0], "uvloop": [4.0], "cxxloop (again)": [2.5]}, rloop="crashed"),
            row("late", "near zero", {"cxxloop": [1.0], "uvloop": [2.0], "rloop": [30.5], "cxxloop (again)": [1.0]}),
        ],
        "contestants": [{"label": loop, "loop": loop} for loop in loops] + [{"label": "cxxloop (again)", "loop": "cxxloop"}],
        "machine": {"kernel": "Linux 6", "cores": 2, "cpu": "EPYC"},
        "settings": {"rounds": 3},
        "python": "3.14.1 (main)",
        "finished": "2026-11-27T10:00:00Z",
        "versions": {"cxxloop": "0.1.0"},
    }
    (tmp_path / "echo.json").write_text(json.dumps(record))
    path = tmp_path / "README.md"
    path.write_text("before\n<!-- echo.json -->\nold\n<!-- end -->\nafter\n")
    return path


def update(document):
    subprocess.run([sys.executable, BENCHMARKS / "markdown.py", "--update", document], check=True)
    return document.read_text().splitlines()


def test_tables_replace_what_stood_there(document):
    lines = update(document)
    assert "old" not in lines
    assert lines[:2] == ["before", "<!-- echo.json -->"]
    assert lines[-2:] == ["<!-- end -->", "after"]
    assert update(document) == lines


def test_values_have_their_noise_and_failures_are_named(document):
    lines = update(document)
    assert "| case | unit | cxxloop | uvloop | rloop | cxxloop (again) | noise |" in lines
    assert "| echo | us | 2.00 | 4.00 | failed | 2.50 | 25.0 % |" in lines
    assert "| late | us, near 0 is better | 1.00 | 2.00 | 30.5 | 1.00 | - |" in lines


def test_ratios_are_to_uvloop_where_they_mean_something(document):
    lines = update(document)
    assert "| echo | 0.50 | - |" in lines
    assert not any(line.startswith("| late | ") and line.count("|") == 4 for line in lines)


def test_machine_stands_below_the_tables(document):
    assert "Linux 6, 2 x EPYC, CPython 3.14.1; 3 rounds, finished 2026-11-27. cxxloop 0.1.0." in update(document)


def test_table_of_one_unit_has_the_rows_of_no_other(document):
    record = json.loads((document.parent / "echo.json").read_text())
    record["rows"][1]["unit"] = "k requests/CPU s"
    (document.parent / "echo.json").write_text(json.dumps(record))
    document.write_text("<!-- echo.json: k requests/CPU s -->\n<!-- end -->\n")
    lines = update(document)
    assert [line for line in lines if line.startswith("| late ")] and not [line for line in lines if line.startswith("| echo ")]
    assert update(document) == lines


def test_ratios_of_web_servers_are_to_uvicorn_on_uvloop(document):
    text = (document.parent / "echo.json").read_text()
    (document.parent / "echo.json").write_text(text.replace('"uvloop"', '"uvicorn-uvloop"'))
    lines = update(document)
    assert "Divided by uvicorn-uvloop's (below 1 is cheaper; where more is better, above 1 is better):" in lines
    assert "| echo | 0.50 | - |" in lines


def test_tables_of_the_benchmarks_are_those_of_their_results(tmp_path):
    readme = BENCHMARKS / "README.md"
    copy = tmp_path / "README.md"
    copy.write_text(readme.read_text())
    (tmp_path / "results").symlink_to(BENCHMARKS / "results")
    update(copy)
    assert copy.read_text() == readme.read_text()
