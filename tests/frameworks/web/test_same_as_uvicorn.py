# SPDX-License-Identifier: MIT
"""Sample applications of frameworks give clients what they give them on uvicorn, and the logs tell the same."""

import contextlib
import re

import pytest

pytest.importorskip("click")
pytest.importorskip("cxxloop._web")
pytest.importorskip("httptools")
pytest.importorskip("uvicorn")
pytest.importorskip("websockets.sync.client")

from scenes import SCENES  # noqa: E402  # needs websockets
from servers_side_by_side import COMMANDS, ServerProcess  # noqa: E402  # needs httptools

FRAMEWORKS = ["starlette", "fastapi", "quart", "litestar", "django", "sanic"]
LEFT_OUT = {
    ("django", "client_that_leaves"): "its streams end when the collector finds them",
    ("sanic", "client_that_leaves"): "on uvicorn its endless stream goes on without its client",
    ("sanic", "ends_of_connections"): "sends in one piece without a length, which uvicorn frames as a chunk",
}


@contextlib.contextmanager
def both(folder, framework, **options):
    """The two servers of a framework's application, by name."""
    pytest.importorskip(framework)
    with contextlib.ExitStack() as stack:
        servers = {name: ServerProcess(folder, name, f"on_{framework}:app", **options) for name in COMMANDS}
        for server in servers.values():
            stack.callback(server.close)
        yield servers


@pytest.fixture(scope="module", params=FRAMEWORKS)
def framework(request):
    return request.param


@pytest.fixture(scope="module")
def servers(framework, tmp_path_factory):
    with both(tmp_path_factory.mktemp(framework), framework) as servers:
        yield servers


@pytest.mark.parametrize("name", SCENES)
def test_clients_see_the_same(framework, servers, name):
    if reason := LEFT_OUT.get((framework, name)):
        pytest.skip(reason)
    seen = {server: SCENES[name](process.port()) for server, process in servers.items()}
    assert seen["cxxloop"] == seen["uvicorn"]
    assert name != "items" or seen["cxxloop"][0][0] == 200  # and not the same failure twice


def test_logs_tell_the_same(framework, servers):
    """After the scenes above."""
    for process in servers.values():
        process.end()
    ours, theirs = servers["cxxloop"], servers["uvicorn"]
    assert ours.accesses() == theirs.accesses()
    if framework != "sanic":  # speaks HTTP to WebSockets that it does not know: each server has its own words for that
        assert ours.errors() == theirs.errors()
    assert ours.log.count("ended") == theirs.log.count("ended")


def test_failed_start_is_told_and_ends(tmp_path, framework):
    with both(tmp_path, framework, env={"FAILS_TO_START": "1"}) as servers:
        codes = {name: server.wait() for name, server in servers.items()}
        logs = {name: [re.sub(r"\d{4,}", "PID", line) for line in server.errors()] for name, server in servers.items()}
    assert codes["cxxloop"] == codes["uvicorn"] != 0
    assert logs["cxxloop"] == logs["uvicorn"]
