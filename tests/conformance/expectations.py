# SPDX-License-Identifier: MIT
"""The tests that cannot pass on cxxloop, each with its reason: expectations.txt."""

from pathlib import Path

FILE = Path(__file__).with_name("expectations.txt")


def load(loop: str, version: tuple[int, int]) -> dict[str, str]:
    """Name and reason of every test that is expected to fail on this loop and Python."""
    expected: dict[str, str] = {}
    for number, line in enumerate(FILE.read_text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            loops, versions, name, reason = line.split(maxsplit=3)
            applies = loop in loops.split(",") and _holds(versions, version)
        except ValueError:
            raise SystemExit(f"{FILE}:{number}: not 'loops versions test reason': {line}") from None
        if applies:
            expected[name] = reason
    return expected


def _holds(versions: str, version: tuple[int, int]) -> bool:
    """Whether a version is in a range: 3.11-3.13, 3.14- or 3.12."""
    first, dash, last = versions.partition("-")
    if not dash:
        last = first
    return _parse(first) <= version and (not last or version <= _parse(last))


def _parse(text: str) -> tuple[int, int]:
    major, minor = text.split(".")
    return int(major), int(minor)
