# SPDX-License-Identifier: MIT
"""ci/matrix tells a version that failed from one that this machine cannot have."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

MATRIX = Path(__file__).resolve().parents[2] / "ci" / "matrix"
SETUP = 'mkdir -p "$VENV/bin" && cp "$PYTHON" "$VENV/bin/python" && [ ! -e setup-fails ]'
PYTHON = 'case "$*" in *run.py*) [ ! -e conformance-fails ] ;; *pytest*) [ ! -e tests-fail ] ;; esac'


@pytest.fixture
def matrix(tmp_path):
    """Runs ci/matrix in a checkout where everything but itself is a stand-in; returns its exit code and last lines."""

    def write(name, body):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def matrix(*versions, broken=()):
        for name in broken:
            (tmp_path / name).touch()
        environment = dict(os.environ, PYENV_ROOT=str(tmp_path / "pyenv"), CXXLOOP_CACHE=str(tmp_path / "cache"))
        command = [tmp_path / "ci" / "matrix", *versions]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout.partition("--- summary\n")[2].splitlines()

    (tmp_path / "ci").mkdir()
    shutil.copy(MATRIX, tmp_path / "ci" / "matrix")
    write("ci/setup", SETUP)
    write("ci/build", "true")
    for version in ("3.97", "3.98"):
        write(f"pyenv/versions/{version}.0/bin/python3", PYTHON)
    return matrix


def test_all_passed(matrix):
    assert matrix("3.97", "3.98") == (0, ["3.97  passed", "3.98  passed"])


@pytest.mark.parametrize("broken", ["setup-fails", "conformance-fails", "tests-fail"])
def test_a_failure(matrix, broken):
    assert matrix("3.97", broken=[broken]) == (1, ["3.97  failed"])


def test_a_version_that_is_not_there_is_left_out_with_the_reason(matrix):
    reason = "left out: no CPython 3.99 with headers and its test package on this machine"
    assert matrix("3.97", "3.99") == (3, ["3.97  passed", f"3.99  {reason}"])


def test_a_version_that_cxxloop_does_not_support_is_left_out(matrix):
    code, (line,) = matrix("3.10")
    assert code == 3
    assert line == "3.10  left out: cxxloop needs CPython 3.11 or newer"


def test_a_failure_outweighs_what_was_left_out(matrix):
    code, lines = matrix("3.99", "3.98", broken=["tests-fail"])
    assert code == 1
    assert [line.split(":")[0] for line in lines] == ["3.99  left out", "3.98  failed"]
