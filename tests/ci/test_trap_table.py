# SPDX-License-Identifier: MIT
"""Every test that docs/testing.md names for a trap exists."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def named_tests():
    """(file, function or None) for each name in the table's second column."""
    table = (ROOT / "docs" / "testing.md").read_text().partition("## Traps and their tests")[2]
    for row in re.findall(r"^\| (?!trap)(.*) \|$", table, re.MULTILINE):
        file = None
        for name in re.findall(r"`((?:\w+/)?test_\w+(?:\.py)?)`", row.rpartition(" | ")[2]):
            if name.endswith(".py"):
                file = ROOT / "tests" / "python" / name
                yield file, None
            else:
                yield file, name


def test_the_table_names_tests_that_exist():
    named = list(named_tests())
    assert len(named) > 150
    missing = [
        f"{file}: {name}"
        for file, name in named
        if file is None or not file.exists() or (name and f"def {name}(" not in file.read_text())
    ]
    assert missing == []
