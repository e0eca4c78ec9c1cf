# SPDX-License-Identifier: MIT
"""ci/instructions fails a path that grew, and never passes what it could not compare."""

import importlib.machinery
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SWITCH = ROOT / "ci" / "callgrind_switch.cc"
# A function that spends 10 itself and calls another library's, which spends 7; names are numbered when they first appear.
PROFILE = """\
events: Ir
summary: 17

ob=(1) /usr/lib/python
fn=(1) call
3 10
cob=(2) /lib/libssl.so.3
cfn=(2) encrypt
calls=1 0
3 7

ob=(2)
fn=(2)
+1 4
* 3
"""


@pytest.fixture
def gate(monkeypatch, tmp_path):
    loader = importlib.machinery.SourceFileLoader("instructions_of_ci", str(ROOT / "ci" / "instructions"))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, loader.name, module)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader.exec_module(module)
    monkeypatch.setattr(module, "NUMBERS", tmp_path / "instructions.json")
    monkeypatch.setattr(module, "which", lambda _: "/usr/bin/valgrind")
    monkeypatch.setattr(module, "prepare", lambda: None)
    monkeypatch.setattr(module, "known_paths", lambda: ["echo", "timer"])
    monkeypatch.setattr(module, "key_of_this_machine", lambda: "this machine")
    return module


@pytest.fixture
def run_gate(gate, monkeypatch):
    """Runs the gate on a machine where the paths have so many instructions."""

    def run_gate(counts, *arguments):
        counted = {path: gate.Count(total, total / 2) for path, total in counts.items()}
        monkeypatch.setattr(gate, "count_all", lambda paths, tree: {path: counted[path] for path in paths})
        return gate.main(list(arguments))

    return run_gate


def numbers(gate):
    return json.loads(gate.NUMBERS.read_text())["numbers"]["this machine"]


def test_what_a_callee_spent_counts_for_its_own_library_only(gate):
    assert gate.instructions_by_object(PROFILE.splitlines()) == {"/usr/lib/python": 10, "/lib/libssl.so.3": 7}
    assert gate.NOT_COUNTED.search("/lib/libssl.so.3")
    assert not gate.NOT_COUNTED.search("/usr/lib/python3.13/lib-dynload/_ssl.cpython-313.so")


def test_a_path_that_grew_by_more_than_two_percent_fails(run_gate, capsys):
    assert run_gate({"echo": 1000.0, "timer": 100.0}, "--write") == 0
    assert run_gate({"echo": 1019.0, "timer": 100.0}) == 0
    assert run_gate({"echo": 1021.0, "timer": 100.0}) == 1
    assert "more than 2% above the number: echo" in capsys.readouterr().out


def test_numbers_only_fall(gate, run_gate):
    run_gate({"echo": 1000.0, "timer": 100.0}, "--write")
    assert run_gate({"echo": 1015.0, "timer": 90.0}, "--write") == 0
    assert numbers(gate) == {"echo": 1000.0, "timer": 90.0}
    assert run_gate({"echo": 1100.0, "timer": 90.0}, "--write") == 1
    assert numbers(gate) == {"echo": 1000.0, "timer": 90.0}


def test_a_number_rises_with_a_reason_that_is_kept(gate, run_gate):
    run_gate({"echo": 1000.0, "timer": 100.0}, "--write")
    assert run_gate({"echo": 1100.0, "timer": 101.0}, "--write", "--accept", "correctness") == 0
    assert numbers(gate) == {"echo": 1100.0, "timer": 100.0}
    assert json.loads(gate.NUMBERS.read_text())["accepted"] == [{"paths": ["echo"], "reason": "correctness"}]


def test_a_machine_without_numbers_is_left_out_not_passed(gate, run_gate, capsys):
    assert run_gate({"echo": 1000.0, "timer": 100.0}) == gate.LEFT_OUT
    assert "left out" in capsys.readouterr().out


def test_a_new_path_without_a_number_fails(run_gate, capsys):
    run_gate({"echo": 1000.0}, "--write", "echo")
    assert run_gate({"echo": 1000.0, "timer": 100.0}) == 1
    assert "no number for timer" in capsys.readouterr().out


def test_without_valgrind_the_gate_is_left_out(gate, run_gate, monkeypatch):
    monkeypatch.setattr(gate, "which", lambda _: None)
    assert run_gate({"echo": 1000.0, "timer": 100.0}) == gate.LEFT_OUT


@pytest.mark.skipif(not Path("/usr/include/valgrind/callgrind.h").exists(), reason="no headers of valgrind")
def test_every_path_does_its_operation_outside_of_valgrind_too(tmp_path):
    library, certificate = tmp_path / "switch.so", tmp_path / "certificate.pem"
    subprocess.run(["c++", "-shared", "-fPIC", "-o", library, SWITCH], check=True)
    trustme = pytest.importorskip("trustme")
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    program = [sys.executable, str(ROOT / "ci" / "hot_paths.py")]
    paths = subprocess.run([*program, "--list"], check=True, capture_output=True, text=True).stdout.split()
    assert len(paths) > 15
    for path in paths:
        arguments = [path, "160", "--switch", str(library), "--certificate", str(certificate)]
        subprocess.run([*program, *arguments], check=True, timeout=60)
