# SPDX-License-Identifier: MIT
"""The demo runs to its end with figures in its table, and fails when a server is not what it should be."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

for needed in ("aiohttp", "httptools", "httpx", "rich", "uvicorn"):
    pytest.importorskip(needed)

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from _http_checks import CHECKS  # noqa: E402  # after sys.path says where it is

# Each is a module with a new_event_loop(), as the demo's --subject and --loops expect one.
SWAPS_TWO_BYTES = """
import asyncio

def new_event_loop():
    loop = asyncio.SelectorEventLoop()
    make_transport = loop._make_socket_transport

    def make_wrong_transport(*args, **kwargs):
        transport = make_transport(*args, **kwargs)
        write = transport.write
        transport.write = lambda data: write(bytes(data).replace(b"0123456789", b"0123456798"))
        transport.writelines = lambda pieces: transport.write(b"".join(pieces))
        return transport

    loop._make_socket_transport = make_wrong_transport
    return loop
"""
CANNOT_START = """
def new_event_loop():
    raise OSError("no loop today")
"""


def run_demo(*arguments: str, modules: Path | None = None) -> subprocess.CompletedProcess[str]:
    paths = [str(modules)] if modules else []
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(paths + [p for p in sys.path if p]), PYTHONUTF8="1", COLUMNS="100")
    command = [sys.executable, str(BENCHMARKS / "demo.py"), "--seconds", "1", *arguments]
    return subprocess.run(command, capture_output=True, encoding="utf-8", env=environment, timeout=100)


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="the kernel tells nobody how much CPU a server used")
def test_the_demo_checks_responses_and_fills_its_table() -> None:
    done = run_demo("--servers", "uvicorn", "--loops", "asyncio", "cxxloop")
    assert done.returncode == 0, done.stdout + done.stderr
    counts = [int(count) for count in re.findall(r" (\d+) ok ", done.stdout)]
    assert len(counts) == 2 * len(CHECKS) and min(counts) > 0
    assert f"\n  {sum(counts)} responses, all right\n" in done.stdout
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.stdout.splitlines() if line.startswith("│")]
    loops, servers = rows[:2], rows[2:]
    assert [row[:2] for row in loops] == [["uvicorn (httptools)", loop] for loop in ("asyncio", "cxxloop")]
    assert [row[0] for row in servers] == ["uvicorn (httptools, uvloop)", "cxxloop serve"]
    figures = [*(cell for row in loops for cell in row[2:]), *(cell for row in servers for cell in row[1:])]
    assert all(float(cell.replace(",", "")) > 0 for cell in figures)
    assert rows[0][4] == "1.00"


@pytest.mark.parametrize(
    ("server", "source", "complaint"),
    [
        ("uvicorn", SWAPS_TWO_BYTES, "failed: GET /: got (200, b'0123456798')"),
        ("aiohttp", SWAPS_TWO_BYTES, "failed: GET /: got (200, b'0123456798')"),
        ("uvicorn", CANNOT_START, "failed: uvicorn on broken_loop did not start: OSError: no loop today"),
    ],
    ids=["wrong answers of uvicorn", "wrong answers of aiohttp", "no start"],
)
def test_a_broken_server_fails_the_demo(tmp_path: Path, server: str, source: str, complaint: str) -> None:
    (tmp_path / "broken_loop.py").write_text(source)
    done = run_demo("--servers", server, "--loops", "asyncio", "--subject", "broken_loop", modules=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert complaint in done.stdout and "all right" not in done.stdout
