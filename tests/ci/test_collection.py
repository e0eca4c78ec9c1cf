# SPDX-License-Identifier: MIT
"""`python -m pytest` without arguments: the folders of tests are collected side by side, two conftest.py and all."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_all_folders_are_collected_at_once():
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    assert "tests/python/" in done.stdout and "tests/frameworks/" in done.stdout
