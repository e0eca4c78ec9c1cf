# SPDX-License-Identifier: MIT
"""--reload: which files are watched, and the worker that is started again."""

import asyncio
import os
import signal

import pytest
from program import write

from cxxloop.web import Config
from cxxloop.web.reload import FileFilter, notified_changes, polled_changes

pytestmark = pytest.mark.any_backend("its processes have the ordinary backend")


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A project in the current folder."""
    for name in ("app.py", "page.html", ".env", "src/a.py", "src/.hidden.py", "src/deep/b.py", "other/c.py", ".venv/d.py", "x.pyc"):
        write(tmp_path, name, "")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def watched(**settings):
    found = FileFilter(Config("a:b", reload=True, **settings))
    return sorted(os.path.relpath(path) for path in found.files())


def test_python_files_are_watched(tree):
    assert watched() == ["app.py", "other/c.py", "src/a.py", "src/deep/b.py"]


def test_folders_are_named(tree):
    assert watched(reload_dirs=["src"]) == ["src/a.py", "src/deep/b.py"]
    assert watched(reload_dirs=["src", "src/deep", "other"]) == ["other/c.py", "src/a.py", "src/deep/b.py"]
    assert watched(reload_dirs="other") == ["other/c.py"]


def test_patterns_are_included(tree):
    assert watched(reload_includes=["*.html"]) == ["app.py", "other/c.py", "page.html", "src/a.py", "src/deep/b.py"]
    assert ".env" in watched(reload_includes=[".env"])
    assert watched(reload_includes=["src"]) == ["src/a.py", "src/deep/b.py"]  # a folder, as in uvicorn


def test_patterns_and_folders_are_excluded(tree):
    assert watched(reload_excludes=["src/deep"]) == ["app.py", "other/c.py", "src/a.py"]
    assert watched(reload_excludes=["a*.py"]) == ["other/c.py", "src/deep/b.py"]
    assert watched(reload_excludes=["*.py"]) == []


def test_default_exclude_is_lifted(tree):
    assert "src/.hidden.py" in watched(reload_includes=[".*"])


@pytest.fixture(params=[polled_changes, notified_changes])
def changes(request, tree):
    """The next set of changed files of the project."""
    if request.param is notified_changes:
        pytest.importorskip("watchfiles")

    async def changes(act):
        found = request.param(FileFilter(Config("a:b", reload=True)), 0.05)
        try:
            waiting = asyncio.ensure_future(anext(found))
            while not waiting.done():  # watchfiles does not say from when on it watches
                act()
                await asyncio.wait([waiting], timeout=0.2)
            return {os.path.relpath(path) for path in waiting.result()}
        finally:
            await found.aclose()

    return changes


def test_change_is_found(changes, run, tree):
    number = iter(range(1000))
    assert run(changes(lambda: write(tree, "src/a.py", f"# {next(number)}"))) == {"src/a.py"}


def test_new_file_is_found(changes, run, tree):
    number = iter(range(1000))
    assert run(changes(lambda: write(tree, f"src/new{next(number)}.py", ""))) & {f"src/new{n}.py" for n in range(10)}


def test_removed_file_is_found(changes, run, tree):
    def act():
        path = tree / "other/c.py"
        if path.exists():
            path.unlink()
        else:
            path.touch()

    assert run(changes(act)) == {"other/c.py"}


# --- the process ---------------------------------------------------------------------------------------------------------

ANSWER = """
async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ANSWER"})
"""


@pytest.fixture
def reloading(serve, tmp_path):
    """Starts the server with --reload; `edit(text)` changes what it answers."""

    def edit(answer):
        write(tmp_path, "edited.py", ANSWER.replace("ANSWER", answer))

    def reloading(*flags):
        edit("first")
        program = serve("--reload", "--reload-delay", "0.05", "--lifespan", "off", *flags, target="edited:app")
        program.port()
        return program, edit

    return reloading


def test_worker_is_started_again(reloading):
    program, edit = reloading("--workers", "2")
    program.wait_for('"workers" flag is ignored when reloading is enabled.')
    assert program.get() == (200, "first")
    edit("second time")
    program.wait_for(r"WARNING: +(WatchFiles|StatReload) detected changes in 'edited.py'. Reloading...")
    program.wait_for("cxxloop serving on", 2)
    assert program.get() == (200, "second time")
    assert program.end() == 0
    program.wait_for(rf"Stopping reloader process \[{program.process.pid}\]")


def test_broken_file_waits_for_the_next_change(reloading, tmp_path):
    program, edit = reloading()
    write(tmp_path, "edited.py", "1 / 0\n")
    program.wait_for(r"Child process \[\d+\] died \(exit code 1\), waiting for changes.")
    edit("mended")
    program.wait_for("cxxloop serving on", 2)
    assert program.get() == (200, "mended")
    assert program.end(signal.SIGINT) == 0


def test_excluded_file_is_left_alone(reloading, tmp_path):
    program, edit = reloading("--reload-exclude", "generated_*.py")
    write(tmp_path, "generated_1.py", "")
    write(tmp_path, "other.py", "")  # is found later than the one before it, or together with it
    line = program.wait_for(r"detected changes in (.*)\. Reloading")[1]
    assert line == "'other.py'"
