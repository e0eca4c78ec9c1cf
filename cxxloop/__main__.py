# SPDX-License-Identifier: MIT
"""python -m cxxloop: run a program with cxxloop as its event loop, without changing the program."""

import io
import os
import runpy
import sys
import zipfile
from types import ModuleType

from . import __version__
from .launch._adopt import adopt_process

USAGE = """\
usage: python -m cxxloop [-m module | -c command | script] [argument ...]
       python -m cxxloop serve module:attribute [option ...]

Runs the program as python would, with cxxloop's event loop wherever it asks for the default one.

    python -m cxxloop -m uvicorn app:app
    python -m cxxloop server.py --port 8000

`serve` is cxxloop's own web server: python -m cxxloop serve --help
"""


def main(arguments: list[str]) -> int:
    match arguments:
        case ["-h" | "--help", *_]:
            print(USAGE, end="")
            return 0
        case ["-V" | "--version", *_]:
            print(f"cxxloop {__version__}")
            return 0
        case ["serve", *rest]:
            return _serve(rest)
        case ["-m", module, *rest]:
            adopt_process()
            sys.argv[:] = [module, *rest]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
            return 0
        case ["-c", command, *rest]:
            adopt_process()
            sys.argv[:] = ["-c", *rest]
            _replace_first_path("")
            _run_as_main(command, "<string>")
            return 0
        case [script, *rest] if not script.startswith("-"):
            return _run_script(script, rest)
    print(USAGE, end="", file=sys.stderr)
    return 2


def _serve(arguments: list[str]) -> int:
    try:
        import click as _  # the one thing that the command needs and the loop does not
    except ImportError:
        print("cxxloop: serve needs click: pip install 'cxxloop[web]'", file=sys.stderr)
        return 1
    from .web.command import main as serve

    return serve(arguments, "cxxloop serve")


def _replace_first_path(path: str) -> None:
    # `python -m` has put the current folder first; -P (safe_path) means that no folder is put there.
    if not sys.flags.safe_path:
        sys.path[0] = path


def _run_script(script: str, arguments: list[str]) -> int:
    sys.argv[:] = [script, *arguments]
    if os.path.isdir(script) or zipfile.is_zipfile(script):
        adopt_process()
        runpy.run_path(script, run_name="__main__")
        return 0
    path = os.path.abspath(script)
    try:
        with io.open_code(path) as file:
            source = file.read()
    except OSError as error:
        print(f"cxxloop: can't open file {path!r}: [Errno {error.errno}] {error.strerror}", file=sys.stderr)
        return 2
    adopt_process()
    _replace_first_path(os.path.dirname(os.path.realpath(script)))
    _run_as_main(source, path)
    return 0


def _run_as_main(source: str | bytes, filename: str) -> None:
    # A module of its own, as python makes it: the program must not see this file's names in __main__.
    module = ModuleType("__main__")
    if not filename.startswith("<"):
        module.__file__ = filename
    sys.modules["__main__"] = module
    exec(compile(source, filename, "exec"), module.__dict__)


def run_command() -> int:
    """The console script `cxxloop`. Returns its exit code."""
    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
