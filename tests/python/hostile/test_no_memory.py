# SPDX-License-Identifier: MIT
"""An allocation fails, anywhere: nobody dies, nobody hangs, and the loop works on.

no_memory_sweep.py does it, no_memory_scenes.py has what a program does meanwhile. CXXLOOP_NO_MEMORY=all lets each allocation fail
and not only a few of each scene; CXXLOOP_NO_MEMORY=200 about so many of each.
"""

import faulthandler
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import pytest
from no_memory_scenes import SCENES

FOLDER = pathlib.Path(__file__).parent
WHOLE = os.environ.get("CXXLOOP_NO_MEMORY", "")
# asyncio is the control where CPython itself dies or hangs, and not the reference: where it loses things, we may do better.
pytestmark = pytest.mark.cxxloop_only("a promise asyncio does not make")
NAMES = list(SCENES)
GROUPS = [NAMES[i : i + 8] for i in range(0, len(NAMES), 8)]


def runs_of_each_scene(few):
    return {"": str(few), "all": "0"}.get(WHOLE, WHOLE)


def sweep(loop_name, kind, runs_max, scenes, preload=None):
    """What has gone wrong, by scene."""
    # The sweep ends what hangs itself, and takes its time on a busy machine: conftest's watchdog would take it for a hang.
    signal.setitimer(signal.ITIMER_REAL, 0)
    faulthandler.cancel_dump_traceback_later()
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(path for path in sys.path if path))
    if preload is not None:
        environment["LD_PRELOAD"] = str(preload)
    command = [sys.executable, str(FOLDER / "no_memory_sweep.py"), loop_name, kind, runs_max, *scenes]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["scene"] for line in lines] == scenes and all(line["runs"] > 0 for line in lines)
    return {line["scene"]: line["bad"] for line in lines if line["bad"]}


def without_what_asyncio_does(bad, kind):
    """What asyncio's own run_forever() and run_until_complete() leave behind, which our loops inherit. A death never is."""
    control = sweep("asyncio", kind, "60", list(bad))
    left = {}
    for scene, found in bad.items():
        ours = {what: n for what, n in found.items() if what.startswith("SIG") or what not in control.get(scene, {})}
        if ours:
            left[scene] = ours
    return left


@pytest.mark.parametrize("scenes", GROUPS, ids=lambda scenes: scenes[0])
@pytest.mark.parametrize("kind", ["one", "forty"])
def test_allocation_of_python_fails(loop_name, kind, scenes):
    pytest.importorskip("_testcapi", reason="this Python lacks CPython's hooks for failing allocations")
    bad = sweep(loop_name, kind, runs_of_each_scene(4), scenes)
    assert (without_what_asyncio_does(bad, kind) if bad else bad) == {}


@pytest.fixture
def failing_allocations(tmp_path):
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    if "asan" in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("AddressSanitizer has the C library's allocator already")
    library = tmp_path / "fail_allocation.so"
    source = FOLDER / "fail_allocation.c"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-fno-builtin", "-o", library, source], check=True)
    return library


@pytest.mark.parametrize("scenes", GROUPS, ids=lambda scenes: scenes[0])
def test_allocation_of_ours_fails(loop_name, scenes, failing_allocations):
    assert sweep(loop_name, "core", "0", scenes, failing_allocations) == {}
