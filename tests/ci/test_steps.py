# SPDX-License-Identifier: MIT
"""ci/test counts every case of a step, and tells what failed from what was left out."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "ci" / "test_steps.py"


@pytest.fixture
def ci_steps(monkeypatch):
    spec = importlib.util.spec_from_file_location("test_steps_of_ci", SOURCE)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def summarize(ci_steps, monkeypatch, capfd, tmp_path):
    """Runs commands as the one step there is; returns the exit code and the line about the step."""

    def summarize(*commands):
        monkeypatch.setattr(ci_steps, "REPORTS", tmp_path)
        monkeypatch.setattr(ci_steps, "steps", lambda: {"only": list(commands)})
        code = ci_steps.main([])
        line = next(line for line in capfd.readouterr().out.splitlines() if line.startswith("only "))
        return code, line.partition(" s  ")[2]

    return summarize


def python(source, *arguments):
    return [sys.executable, "-c", source, *map(str, arguments)]


def test_a_command_is_a_case(ci_steps, summarize):
    assert summarize(ci_steps.Command("fine", python("pass"))) == (0, "ok: 1 passed")
    assert summarize(ci_steps.Command("bad", python("raise SystemExit(1)"))) == (1, "FAILED (bad): 1 failed")


def test_the_cases_of_a_report_are_counted(ci_steps, summarize, tmp_path):
    report = tmp_path / "report.xml"
    cases = "<testcase/><testcase><skipped/></testcase><testcase><failure/></testcase>"
    write = python("import sys; open(sys.argv[1], 'w').write(f'<testsuite>{sys.argv[2]}</testsuite>')", report, cases)
    code, line = summarize(ci_steps.Command("reporting", write, report))
    assert line.endswith("1 failed, 1 passed, 1 skipped")


def test_a_command_without_its_report_fails(ci_steps, summarize, tmp_path):
    command = ci_steps.Command("crashed", python("import os; os.abort()"), tmp_path / "none.xml")
    assert summarize(command) == (1, "FAILED (crashed): 1 failed")


def test_what_this_machine_cannot_run_is_left_out_not_passed(ci_steps, summarize):
    left_out = ci_steps.Command("absent", python("raise SystemExit(3)"), may_be_left_out=True)
    assert summarize(left_out) == (0, "left out (absent): 1 skipped")
    assert summarize(ci_steps.Command("broken", python("raise SystemExit(3)"))) == (1, "FAILED (broken): 1 failed")


def test_the_conformance_run_is_left_out_without_cpythons_tests(ci_steps, tmp_path):
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "__init__.py").write_text("")
    hide = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import runpy; sys.argv = sys.argv[1:]; "
    script, *options = ci_steps.conformance().arguments[1:]
    path = f"sys.path.insert(0, {str((SOURCE.parents[1] / script).parent)!r}); "
    run = f"runpy.run_path({str(SOURCE.parents[1] / script)!r}, run_name='__main__')"
    command = ci_steps.Command("conformance", python(hide + path + run, script, *options), may_be_left_out=True)
    assert ci_steps.run(command).left_out == ["conformance"]


def test_what_needs_a_command_runs_after_it(ci_steps, summarize, tmp_path):
    mark = tmp_path / "built"
    build = ci_steps.Command("build", python("import pathlib, sys; pathlib.Path(sys.argv[1]).touch()", mark))
    check = python("import pathlib, sys; sys.exit(not pathlib.Path(sys.argv[1]).exists())", mark)
    assert summarize(ci_steps.Command("check", check, after="build"), build) == (0, "ok: 2 passed")


def test_what_needs_a_command_that_failed_is_not_run_and_fails(ci_steps, summarize):
    build = ci_steps.Command("build", python("raise SystemExit(1)"))
    code, line = summarize(build, ci_steps.Command("check", python("pass"), after="build"))
    assert (code, line) == (1, "FAILED (build, check (not run)): 2 failed")


def test_a_command_that_does_not_exist_fails_alone(ci_steps, summarize):
    commands = [ci_steps.Command("absent", ["./no-such-program"]), ci_steps.Command("fine", python("pass"))]
    assert summarize(*commands) == (1, "FAILED (absent): 1 failed, 1 passed")


def test_a_compiling_command_runs_beside_one_that_tests(ci_steps, summarize, tmp_path):
    """Each waits for the other, through a FIFO."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    compiling = ci_steps.Command("compiling", python("import sys; open(sys.argv[1], 'w').close()", fifo), compiles=True)
    testing = ci_steps.Command("testing", python("import sys; open(sys.argv[1]).close()", fifo))
    assert summarize(compiling, testing) == (0, "ok: 2 passed")


def test_a_command_that_failed_shows_what_it_said(ci_steps, monkeypatch, capfd, tmp_path):
    monkeypatch.setattr(ci_steps, "REPORTS", tmp_path)
    commands = [
        ci_steps.Command("bad", python("print('why it failed'); raise SystemExit(1)")),
        ci_steps.Command("fine", python("print('nobody wants to know')")),
    ]
    monkeypatch.setattr(ci_steps, "steps", lambda: {"only": commands})
    ci_steps.main([])
    shown = capfd.readouterr().out
    assert "why it failed" in shown
    assert "nobody wants to know" not in shown


def test_the_halves_of_the_behaviour_tests_are_all_of_them(ci_steps):
    rooms = {f"tests/python/{room}" for room in ci_steps.HALF_OF_ROOMS}
    assert all((SOURCE.parents[1] / room).is_dir() for room in rooms)
    halves = ci_steps.halves()
    assert set(halves["first"]) == rooms
    assert halves["second"] == ["tests/python", *(f"--ignore={room}" for room in halves["first"])]


@pytest.mark.parametrize("command", ["demo", "test"])
def test_help_of_a_command_needs_no_setup(command, tmp_path):
    environment = os.environ | {"VENV": str(tmp_path / "venv"), "PYTHON": "/no/such/python"}
    script = SOURCE.with_name(command)
    answer = subprocess.run([script, "--help"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert f"ci/{command} [" in answer.stdout


def test_help_names_every_step(ci_steps):
    answer = subprocess.run([SOURCE.with_name("test"), "--help"], capture_output=True, text=True, check=True)
    named = answer.stdout.partition("[")[2].partition(" ...]")[0].split("|")
    assert named == ["quick", *ci_steps.steps()]
