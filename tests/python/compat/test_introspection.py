# SPDX-License-Identifier: MIT
"""`python -m asyncio ps` and `pstree` see the tasks of a loop from another process."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.version_info < (3, 14), reason="new in Python 3.14")

PROGRAM = """
async def inner():
    print("ready", flush=True)
    await asyncio.Event().wait()

async def middle():
    await inner()

async def main():
    async with asyncio.TaskGroup() as group:
        group.create_task(middle(), name="worker of the program")

loop = new_loop()
loop.run_until_complete(main())
"""


@pytest.fixture
def look_at_tasks(script):
    """Runs a command of asyncio on a process with tasks; returns what it prints."""

    def look_at_tasks(command):
        child = script(PROGRAM)
        assert child.stdout.readline() == "ready\n"
        looked = subprocess.run(
            [sys.executable, "-m", "asyncio", command, str(child.pid)], capture_output=True, text=True, timeout=30
        )
        if "insufficient permissions" in looked.stdout + looked.stderr:
            pytest.skip("this user may not look into another process")
        assert looked.returncode == 0, looked.stderr
        return looked.stdout

    return look_at_tasks


def test_ps_lists_the_tasks(look_at_tasks):
    lines = look_at_tasks("ps").splitlines()
    worker = next(line for line in lines if "worker of the program" in line)
    assert "middle" in worker and "inner" in worker
    assert "Task-1" in worker  # who waits for it
    assert any("main" in line and "worker of the program" not in line for line in lines)


def test_pstree_shows_who_waits_for_whom(look_at_tasks):
    tree = look_at_tasks("pstree")
    positions = [tree.index(text) for text in ("Task-1", "main", "worker of the program", "middle", "inner")]
    assert positions == sorted(positions)
