# SPDX-License-Identifier: MIT
"""python -m cxxloop: programs run as python runs them, on cxxloop."""

import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.cxxloop_only("the package's own launcher")

WHICH_LOOP = """
import asyncio
async def main():
    print(type(asyncio.get_running_loop()).__module__.split(".")[0])
asyncio.run(main())
"""


@pytest.fixture
def python(loop_name, tmp_path):
    """Runs python in a folder of its own; `options` come before the arguments."""

    def python(*arguments, options=(), stdin=None):
        path = os.pathsep.join(entry for entry in sys.path if entry)
        # What the launched programs find must not depend on how the tests are run.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"}
        return subprocess.run(
            [sys.executable, *options, *arguments],
            cwd=tmp_path,
            env=dict(environment, PYTHONPATH=path, PYTHONDONTWRITEBYTECODE="1"),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=30,
        )

    return python


@pytest.fixture
def write(tmp_path):
    def write(name, source):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(source))
        return str(path)

    return write


def same(python, *arguments):
    """Runs a program with and without the launcher; both must end alike. Returns the launcher's result."""
    plain, launched = python(*arguments), python("-m", "cxxloop", *arguments)
    assert (launched.returncode, launched.stdout) == (plain.returncode, plain.stdout), launched.stderr
    return launched


def test_script_runs_on_cxxloop(python, write):
    write("script.py", WHICH_LOOP)
    result = python("-m", "cxxloop", "script.py")
    assert (result.returncode, result.stdout, result.stderr) == (0, "cxxloop\n", "")


def test_module_runs_on_cxxloop(python, write):
    write("program.py", WHICH_LOOP)
    result = python("-m", "cxxloop", "-m", "program")
    assert (result.returncode, result.stdout, result.stderr) == (0, "cxxloop\n", "")


def test_command_runs_on_cxxloop(python):
    result = python("-m", "cxxloop", "-c", WHICH_LOOP)
    assert (result.returncode, result.stdout, result.stderr) == (0, "cxxloop\n", "")


def test_new_event_loop_and_a_runner_get_it_too(python, write):
    write(
        "script.py",
        """
        import asyncio
        loop = asyncio.new_event_loop()
        print(type(loop).__name__)
        loop.close()
        with asyncio.Runner() as runner:
            print(type(runner.get_loop()).__name__)
        """,
    )
    result = python("-m", "cxxloop", "script.py")
    assert result.stdout == "Loop\nLoop\n"


PROGRAM = """
import os, sys
print(__name__, sys.argv, __spec__ is None, __package__)
print(os.path.relpath(__file__) if "__file__" in globals() else None)
print([os.path.relpath(sys.path[0]) if sys.path[0] else ""])
print(sys.modules["__main__"].__dict__.get("marker"))
marker = 1
print(sys.modules["__main__"].__dict__.get("marker"))
import neighbour
"""


@pytest.mark.parametrize(
    "arguments",
    [("script.py", "-x", "--name", "value"), ("-m", "program", "-m", "x"), ("-c", PROGRAM, "a", "b")],
    ids=["script", "module", "command"],
)
def test_program_sees_what_it_would_see_under_python(python, write, arguments):
    write("script.py", PROGRAM)
    write("program.py", PROGRAM)
    write("neighbour.py", "print('neighbour')")
    same(python, *arguments)


def test_package_runs_its_main(python, write):
    write("package/__init__.py", "")
    write("package/__main__.py", "import sys\nprint(__name__, __package__, len(sys.argv))")
    same(python, "-m", "package", "x")


def test_script_in_another_folder_finds_its_neighbours(python, write):
    write("folder/script.py", "import beside\nprint(__name__)")
    write("folder/beside.py", "print('beside')")
    same(python, "folder/script.py")


@pytest.mark.parametrize(
    "body",
    [
        "raise SystemExit",
        "raise SystemExit(3)",
        "raise SystemExit('text')",
        "import sys; sys.exit(0)",
        "import os; os._exit(9)",
        "1 / 0",
        "raise KeyboardInterrupt",
        "import asyncio\nasync def main(): raise SystemExit(4)\nasyncio.run(main())",
    ],
)
@pytest.mark.parametrize("how", ["script", "module", "command"])
def test_exit_codes(python, write, body, how):
    write("program.py", body)
    same(python, *{"script": ("program.py",), "module": ("-m", "program"), "command": ("-c", body)}[how])


def test_traceback_ends_with_the_error(python, write):
    write("script.py", "def function():\n    1 / 0\nfunction()\n")
    result = python("-m", "cxxloop", "script.py")
    assert result.returncode == 1
    lines = result.stderr.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == "ZeroDivisionError: division by zero"
    assert any('script.py", line 2, in function' in line for line in lines)


def test_program_that_does_not_exist(python):
    for arguments in (("nothing.py",), ("-m", "nothing_at_all")):
        result = python("-m", "cxxloop", *arguments)
        assert result.returncode != 0
        assert "nothing" in result.stderr


def test_pickles_of_main_can_be_read_by_children(python, write):
    write(
        "script.py",
        """
        import multiprocessing
        def square(x):
            return x * x
        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.map(square, [1, 2, 3]))
        """,
    )
    same(python, "script.py")


def test_usage(python):
    help_result = python("-m", "cxxloop", "--help")
    assert help_result.returncode == 0 and help_result.stdout.startswith("usage: python -m cxxloop")
    for arguments in ((), ("-m",), ("-c",), ("--unknown",)):
        result = python("-m", "cxxloop", *arguments)
        assert result.returncode == 2
        assert result.stderr.startswith("usage: ")
    version = python("-m", "cxxloop", "--version")
    assert version.stdout.startswith("cxxloop ") and version.returncode == 0
