# SPDX-License-Identifier: MIT
"""The private names and layouts of CPython and asyncio that cxxloop stands on are tried when it is imported."""

import os
import subprocess
import sys

import pytest

from cxxloop import _asyncio

pytestmark = pytest.mark.cxxloop_only("asyncio does not check itself")

TRY_TO_IMPORT = """
try:
    import cxxloop
except ImportError as exc:
    print(type(exc).__name__, exc)
"""
# Not members of enumerations, which cannot be deleted.
NAMES = [(module, name) for module, names in _asyncio.PRIVATE_NAMES.items() for name in names if not name.split(".")[-1].isupper()]


@pytest.fixture
def import_after(loop_name):
    """Runs a few lines in a new Python, imports cxxloop and returns what the ImportError says; "" if there is none."""

    def import_after(source):
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join(p for p in sys.path if p))
        command = [sys.executable, "-c", source + TRY_TO_IMPORT]
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout

    return import_after


def test_nothing_is_missing(import_after):
    assert _asyncio.find_missing() == []
    assert import_after("") == ""


@pytest.mark.parametrize(("module", "name"), NAMES[::8], ids=lambda value: value)
def test_private_name_that_asyncio_lost_is_named_by_the_import_error(import_after, module, name):
    text = import_after(
        f"import functools, importlib, sys\n"
        f"*path, last = {name!r}.split('.')\n"
        f"owner = functools.reduce(getattr, path, importlib.import_module({module!r}))\n"
        f"for place in getattr(owner, '__mro__', (owner,)):\n"
        f"    if last in vars(place): type.__delattr__(place, last) if isinstance(place, type) else delattr(place, last)\n"
    )
    assert f"{module}.{name}" in text
    assert text.startswith("ImportError cxxloop: ")


def test_several_lost_names_are_told_at_once(monkeypatch):
    monkeypatch.setattr(_asyncio, "PRIVATE_NAMES", {"asyncio.events": ("Handle._run", "Handle._walk", "_fly")})
    with pytest.raises(ImportError, match=r"asyncio\.events\.Handle\._walk, asyncio\.events\._fly$"):
        _asyncio.check_asyncio()


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("import _pyio, io; io.FileIO = _pyio.FileIO\n", "where io.FileIO keeps its descriptor"),
        ("import socket; socket.socket._closed = property()\n", "how socket.socket is made and where it keeps"),
    ],
    ids=["layout of a file", "attributes of a socket"],
)
def test_what_changed_in_cpython_is_named_by_the_import_error(import_after, source, what):
    assert what in import_after(source)
