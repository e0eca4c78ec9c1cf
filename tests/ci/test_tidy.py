# SPDX-License-Identifier: MIT
"""ci/tidy finds each kind of violation, and nothing in a clean tree."""

import subprocess
import sys
from pathlib import Path

import pytest

TIDY = Path(__file__).resolve().parents[2] / "ci" / "tidy"
LICENCE = "// SPDX-License-Identifier: MIT\n"


@pytest.fixture
def tree(tmp_path):
    """Writes files into a small clean project and returns what tidy says about it."""

    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def tidy(**files):
        for name, text in files.items():
            write(name, text)
        done = subprocess.run([sys.executable, TIDY, tmp_path], capture_output=True, text=True)
        assert done.stderr == ""
        return done.returncode, done.stdout

    write("src/io/thing.cc", LICENCE + '#include "base/assert.h"\n#include "io/thing.h"\n')
    write("tests/cpp/io/thing_test.cc", LICENCE)
    return lambda files: tidy(**files)


def function_of(lines, head="void run(int a) noexcept {"):
    return head + "\n" + "  step();\n" * (lines - 2) + "}\n"


def test_a_clean_tree_passes(tree):
    code, output = tree({"src/python/loop/long.cc": LICENCE + function_of(70)})
    assert (code, output) == (0, "tidy: nothing to complain about\n")


VIOLATIONS = {
    "upward include": ("src/base/a.h", LICENCE + '#include "io/op.h"\n', "base must not include io"),
    "sideways include": ("src/io/a.h", LICENCE + '#include "python/ref.h"\n', "io must not include python"),
    "web core above": ("src/web/core/a.h", LICENCE + '#include "web/python/a.h"\n', "web/core must not include web/python"),
    "web without capsule": ("src/web/python/a.h", LICENCE + '#include "python/loop/loop.h"\n', "only interp and loop/loop_access.h"),
    "Python.h": ("src/net/a.h", LICENCE + "#include <Python.h>\n", "no Python below"),
    "pybind11 below": ("src/io/a.h", LICENCE + "#include <pybind11/pybind11.h>\n", "no Python below"),
    "pybind11 elsewhere": ("src/python/loop/a.cc", LICENCE + "#include <pybind11/pybind11.h>\n", "bindings.cc only"),
    "libev": ("src/io/a.h", LICENCE + "#include <ev.h>\n", "ev_*.cc and ev_*.h only"),
    "liburing": ("src/io/a.h", LICENCE + "#include <liburing.h>\n", "uring_*.cc only"),
    "PyGILState": ("src/python/loop/a.cc", LICENCE + "void f() { PyGILState_Ensure(); }\n", "PyGILState_"),
    "GIL given away": ("src/python/loop/a.cc", LICENCE + "auto s = PyEval_SaveThread();\n", "gil.released()"),
    "private in CPython": ("src/python/loop/a.cc", LICENCE + "auto t = type->tp_version_tag;\n", "interp/cpython.h"),
    "Py_VISIT": ("src/python/loop/a.cc", LICENCE + "int f() { Py_VISIT(op.sock); return 0; }\n", "list the reference in each_ref()"),
    "Py_CLEAR": ("src/python/loop/a.h", LICENCE + "void f() { Py_CLEAR(op.sock); }\n", "list the reference in each_ref()"),
    "table of its own": ("src/python/loop/a.cc", LICENCE + "PyMethodDef methods[] = {};\n", "interp/heap_type.h"),
    "cast of a function": ("src/python/loop/a.cc", LICENCE + "int flags = METH_FASTCALL;\n", "interp/heap_type.h"),
    "std::function": ("src/net/a.h", LICENCE + "std::function<void()> f;\n", "std::function"),
    "shared_ptr": ("src/net/a.h", LICENCE + "std::shared_ptr<int> p;\n", "std::shared_ptr"),
    "no licence": ("src/net/a.h", "#pragma once\n", "SPDX-License-Identifier"),
    "no licence in a script": ("ci/go", "#!/bin/sh\ntrue\n", "SPDX-License-Identifier"),
    "long file": ("src/net/a.h", LICENCE + "int x;\n" * 600, "601 lines"),
    "long test": ("tests/python/test_a.py", "# SPDX-License-Identifier: MIT\n" + "x = 1\n" * 900, "901 lines"),
    "long function": ("src/python/loop/a.cc", LICENCE + function_of(71), "a function of 71 lines"),
    "long method": ("src/net/a.h", LICENCE + "class A {\n" + "  void run() {\n" + "    step();\n" * 70 + "  }\n};\n",
                    "a function of 72 lines"),
    "long wrapped head": ("src/python/loop/a.cc", LICENCE + function_of(71, "void run(int a,\n         int b) {"),
                          "a function of"),
    "no mirrored test": ("src/net/a.cc", LICENCE, "no tests/cpp/net/a_test.cc"),
    "stale exception": ("ci/tidy.untested", "src/net/gone.cc reason\n", "src/net/gone.cc does not exist"),
    "include of a later room": ("src/python/handle/a.cc", LICENCE + '#include "python/loop/loop.h"\n',
                                "handle/a.cc:2: must not include python/loop/loop.h"),
    "flat beside module.cc": ("src/python/a.cc", LICENCE, "src/python/a.cc: not in one of the rooms"),
    "unknown room": ("src/python/attic/a.cc", LICENCE, "src/python/attic/a.cc: not in one of the rooms"),
    "machine path": ("README.md", "see /home/somebody/notes\n", "is a place on one machine"),
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_violation_is_found(tree, name):
    path, text, message = VIOLATIONS[name]
    code, output = tree({path: text})
    assert code == 1
    assert message in output
    assert path.split("/")[-1] in output or "gone.cc" in output


def test_a_listed_exception_is_accepted(tree):
    code, output = tree({
        "src/net/a.cc": LICENCE + function_of(90),
        "ci/tidy.untested": "src/net/a.cc covered elsewhere\n",
        "ci/tidy.long_functions": "src/net/a.cc 90\n",
    })
    assert (code, output) == (0, "tidy: nothing to complain about\n")


def test_words_in_comments_are_free(tree):
    code, output = tree({"src/net/a.h": LICENCE + "// Unlike std::function this never allocates.\n"})
    assert (code, output) == (0, "tidy: nothing to complain about\n")


def test_rooms_include_themselves_and_those_before_and_module_cc_includes_all(tree):
    includes = '#include "python/interp/ref.h"\n#include "python/loop/loop.h"\n'
    files = {"src/python/loop/a.cc": LICENCE + includes, "src/python/module.cc": LICENCE + '#include "python/tls/type.h"\n'}
    assert tree(files) == (0, "tidy: nothing to complain about\n")
