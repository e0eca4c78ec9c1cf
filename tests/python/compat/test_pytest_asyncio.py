# SPDX-License-Identifier: MIT
"""The loops under pytest-asyncio: its oldest way (an event_loop fixture), its newer ones (policy, factories)."""

import importlib.metadata

import pytest

PLUGIN_VERSION = tuple(int(part) for part in importlib.metadata.version("pytest-asyncio").split(".")[:2])

TESTS = """
import asyncio
import pytest

EXPECTED = {loop_name!r}

@pytest.fixture
def value():
    return 42

@pytest.mark.asyncio
async def test_loop():
    loop = asyncio.get_running_loop()
    assert type(loop).__module__.split(".")[0] == EXPECTED
    await asyncio.sleep(0.001)

@pytest.mark.asyncio
async def test_fixture(value):
    assert value == 42
    reader_end = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(reader_end.set_result, value)
    assert await reader_end == 42

@pytest.mark.asyncio
async def test_server():
    async def echo(reader, writer):
        writer.write(await reader.readline())
        writer.close()
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"hello\\n")
        assert await reader.read() == b"hello\\n"
        writer.close()
        await writer.wait_closed()
"""

EVENT_LOOP_FIXTURE = """
import pytest
{import_source}

@pytest.fixture
def event_loop():
    loop = new_loop()
    yield loop
    loop.close()
"""

POLICY_FIXTURE = """
import asyncio
import pytest
{import_source}

class Policy(asyncio.DefaultEventLoopPolicy):
    _loop_factory = staticmethod(new_loop)

@pytest.fixture
def event_loop_policy():
    return Policy()
"""

FACTORIES_HOOK = """
{import_source}

def pytest_asyncio_loop_factories(config, item):
    return {{"ours": new_loop}}
"""

WAYS = {
    "event_loop fixture": (EVENT_LOOP_FIXTURE, lambda version: version < (0, 22)),
    "event_loop_policy fixture": (POLICY_FIXTURE, lambda version: version >= (0, 23)),
    "loop factories hook": (FACTORIES_HOOK, lambda version: version >= (1, 4)),
}


@pytest.mark.parametrize("way", WAYS)
def test_suite_runs(run_script, loop_name, tmp_path, way):
    conftest, supports = WAYS[way]
    if not supports(PLUGIN_VERSION):
        pytest.skip(f"pytest-asyncio {PLUGIN_VERSION} has no {way}")
    suite = tmp_path / "suite"
    suite.mkdir()
    import_source = {
        "asyncio": "import asyncio\nnew_loop = asyncio.SelectorEventLoop",
        "cxxloop": "import cxxloop\nnew_loop = cxxloop.new_event_loop",
    }[loop_name]
    (suite / "pytest.ini").write_text("[pytest]\n")
    (suite / "conftest.py").write_text(conftest.format(import_source=import_source))
    (suite / "test_suite.py").write_text(TESTS.format(loop_name=loop_name))
    result = run_script(
        """
        import sys, pytest
        arguments = ["-q", "-p", "no:cacheprovider", "-W", "ignore::DeprecationWarning", sys.argv[1]]
        sys.exit(pytest.main(arguments))
        """,
        str(suite),
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "3 passed" in result.stdout
