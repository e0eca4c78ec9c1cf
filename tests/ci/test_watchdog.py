# SPDX-License-Identifier: MIT
"""The watchdog of tests/python/conftest.py tells which test hangs, whatever pytest has captured."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "python" / "conftest.py"
TEST = """
import signal, time

def test_hang():
    {before}
    time.sleep(30)
"""


@pytest.fixture
def run_hanging_test(tmp_path):
    def run_hanging_test(before, stuck_s):
        source = CONFTEST.read_text()
        for name, seconds in ("HANG", 0.2), ("STUCK", stuck_s):
            source = re.sub(rf"(?m)^{name}_S = \d+", f"{name}_S = {seconds}", source)
        (tmp_path / "conftest.py").write_text(source)
        (tmp_path / "test_hang.py").write_text(TEST.format(before=before))
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_hang.py"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)

    return run_hanging_test


def test_test_that_hangs_fails(run_hanging_test):
    done = run_hanging_test("pass", stuck_s=60)
    assert done.returncode == 1
    assert "1 failed" in done.stdout and "no end after" in done.stdout


def test_hang_that_no_signal_ends_is_shown(run_hanging_test):
    done = run_hanging_test("signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])", stuck_s=0.4)
    assert done.returncode == 1
    assert "in test_hang" in done.stderr
