# SPDX-License-Identifier: MIT
"""The conformance run fails loops that are broken, and counts no test that never met the loop."""

import importlib.util
import json
import subprocess
import sys
import textwrap
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "conformance"
sys.path.insert(0, str(FOLDER))

import cases  # noqa: E402  # after sys.path says where it is

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("test") is None or importlib.util.find_spec(cases.PACKAGE) is None,
    reason=f"this Python has no {cases.PACKAGE}",
)

# What CPython runs on every loop it has.
MIXINS = [
    *cases.LOOP_METHODS,
    "test_ssl.TestSSL",
    "test_streams.StreamTests",
    "test_subprocess.SubprocessThreadedWatcherTests",
]


@pytest.fixture
def conform(tmp_path):
    """Runs CPython's tests on a class called Loop; returns the exit code, the outcomes and what was printed."""

    def conform(source, *options):
        (tmp_path / "broken_loop.py").write_text("import asyncio, os, time\n" + textwrap.dedent(source))
        path = [str(tmp_path), str(FOLDER)]
        program = f"import sys; sys.path[:0] = {path}; import run; sys.exit(run.main(sys.argv[1:]))"
        out = tmp_path / "out.json"
        done = subprocess.run(
            [sys.executable, "-c", program, "--loop", "broken_loop:Loop", "--jobs", "2", f"--out={out}", *options],
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert out.exists(), done.stderr
        return done.returncode, json.loads(out.read_text())["tests"], done.stdout

    return conform


def only(*names):
    return [f"--only={name}" for name in names]


def verdicts_of(tests):
    return {test["verdict"] for test in tests.values()}


def test_a_loop_that_cannot_be_made_passes_nothing(conform):
    code, tests, _ = conform(
        """
        class Loop(asyncio.SelectorEventLoop):
            def __init__(self):
                raise RuntimeError("broken on purpose")
            __del__ = None
        """,
        *only(*MIXINS),
    )
    assert code == 1
    assert {cases.class_of(name) for name, test in tests.items() if test["verdict"] == "failed"} == set(MIXINS)
    assert verdicts_of(tests) <= {"failed", "skipped"}


@pytest.mark.parametrize(
    ("defect", "test"),
    [
        ("async def sock_recv(self, sock, n): return b''", "test_sock_lowlevel.SelectEventLoopTests.test_sock_client_ops"),
        ("def time(self): return 0.0", "test_events.SelectEventLoopTests.test_call_later"),
        ("def call_soon_threadsafe(self, *_, **__): pass", "test_threads.ToThreadTests.test_to_thread"),
        ("async def start_tls(self, *_, **__): pass", "test_sslproto.*.test_start_tls_client_reg_proto_1"),
        ("async def subprocess_exec(self, *_, **__): pass", "test_subprocess.*.test_communicate"),
        ("async def create_unix_server(self, *_, **__): pass", "test_streams.StreamTests.test_start_unix_server"),
    ],
)
def test_a_defect_fails_the_test_of_what_it_breaks(conform, defect, test):
    code, tests, _ = conform(f"class Loop(asyncio.SelectorEventLoop):\n    {defect}\n", "--seconds=2", *only(test))
    assert code == 1
    assert tests and verdicts_of(tests) == {"failed"}


def test_a_crash_and_a_hang_are_failures(conform):
    sound = "test_sock_lowlevel.SelectEventLoopTests.test_create_connection_sock"
    crashing = "class Loop(asyncio.SelectorEventLoop):\n    def run_forever(self): os.abort()\n"
    hanging = "class Loop(asyncio.SelectorEventLoop):\n    def run_forever(self): time.sleep(60)\n"
    for source, status in ((crashing, "crashed"), (hanging, "hung")):
        code, tests, printed = conform(source, "--seconds=1", *only(sound))
        assert code == 1
        assert [(name, test["status"]) for name, test in tests.items()] == [(sound, status)]
        assert f"FAILED {sound}" in printed


def test_a_test_without_a_loop_is_not_counted(conform, tmp_path):
    report = tmp_path / "report.xml"
    patterns = only("test_events.HandleTests.test_handle_repr", "test_futures2.CFutureTests.test_future_traceback")
    sound = "class Loop(asyncio.SelectorEventLoop): pass\n"
    code, tests, printed = conform(sound, f"--junit={report}", *patterns)
    assert code == 0
    unconcerned = {name for name, test in tests.items() if test["verdict"] == "no loop"}
    assert unconcerned and all(name.startswith("test_events.HandleTests.") for name in unconcerned)
    counted = {f"{case.get('classname')}.{case.get('name')}" for case in ElementTree.parse(report).iter("testcase")}
    assert counted and counted == tests.keys() - unconcerned
    assert f"{len(counted)} passed, {len(unconcerned)} without this loop" in printed


def test_a_pass_that_was_said_to_be_impossible_fails(conform, tmp_path, monkeypatch):
    import expectations
    import isolate
    import run

    passed = isolate.Outcome(isolate.PASSED, 0.1)
    assert run.judge(passed, None)[0] == isolate.PASSED
    assert run.judge(passed, "a reason")[0] == isolate.FAILED
    assert run.judge(isolate.Outcome(isolate.FAILED, 0.1), "a reason") == (run.EXPECTED, "a reason")
    listed = tmp_path / "expectations.txt"
    listed.write_text("# a comment\ncxxloop 3.12-3.13 test_a.B.test_c it replaces os.waitpid\n")
    monkeypatch.setattr(expectations, "FILE", listed)
    assert expectations.load("cxxloop", (3, 13)) == {"test_a.B.test_c": "it replaces os.waitpid"}
    assert expectations.load("cxxloop", (3, 14)) == expectations.load("asyncio", (3, 13)) == {}


def test_every_file_runs_or_is_left_out_with_a_reason():
    package = Path(importlib.util.find_spec(cases.PACKAGE).origin).parent
    files = {path.stem for path in package.glob("test_*.py")}
    assert files - set(cases.MODULES) == cases.LEFT_OUT.keys()
