# SPDX-License-Identifier: MIT
"""`pytest -p cxxloop.pytest_plugin`: foreign suites run on cxxloop, whatever plugin drives them, and keep their choices."""

import importlib.metadata
import sys

import cxxloop
import pytest

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.any_backend("which loop a suite runs on, not how")

PYTEST_ASYNCIO = tuple(int(part) for part in importlib.metadata.version("pytest-asyncio").split(".")[:2])
PYTEST_ASYNCIO_SETTINGS = "asyncio_mode = auto\n"
if PYTEST_ASYNCIO >= (0, 24):
    PYTEST_ASYNCIO_SETTINGS += "asyncio_default_fixture_loop_scope = function\n"
CXXLOOP = ("-p", "cxxloop.pytest_plugin")

COMMON = """
import asyncio
import unittest
import pytest

def loop_name():
    return type(asyncio.get_running_loop()).__module__.partition(".")[0]

async def running():
    return loop_name()
"""

PYTEST_ASYNCIO_SUITE = """
@pytest.fixture
async def of_fixture():
    yield loop_name()

@pytest.mark.asyncio
async def test_function(of_fixture):
    assert [loop_name(), of_fixture] == [EXPECTED] * 2

class TestMethods:
    @pytest.mark.asyncio
    async def test_method(self):
        assert loop_name() == EXPECTED
"""

ANYIO_SUITE = """
import sniffio

@pytest.fixture
async def backend_of_fixture():
    yield sniffio.current_async_library()

@pytest.mark.anyio
async def test_parametrized(anyio_backend_name, backend_of_fixture):
    assert sniffio.current_async_library() == backend_of_fixture == anyio_backend_name
    if anyio_backend_name == "asyncio":
        assert loop_name() == EXPECTED
"""

PLAIN_SUITE = """
class Case(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.of_set_up = loop_name()

    async def test_case(self):
        self.assertEqual([loop_name(), self.of_set_up], [EXPECTED] * 2)

def test_run():
    assert asyncio.run(running()) == EXPECTED

def test_runner():
    with asyncio.Runner() as runner:
        assert runner.run(running()) == EXPECTED

def test_new_event_loop():
    loop = asyncio.new_event_loop()
    assert loop.run_until_complete(running()) == EXPECTED
    loop.close()
"""

AIOHTTP_SUITE = """
from aiohttp import web

async def name(request):
    return web.Response(text=loop_name())

async def test_client_and_server(aiohttp_client):
    app = web.Application()
    app.router.add_get("/", name)
    client = await aiohttp_client(app)
    answer = await client.get("/")
    assert [await answer.text(), loop_name()] == [EXPECTED] * 2
"""


@pytest.fixture
def play(pytester):
    """Runs a suite in a process of its own, without warnings; `EXPECTED` in it is the loop that must run."""

    def play(suite, *options, expected="cxxloop", conftest=None, passed=None, **outcomes):
        pytester.makepyfile(f"{COMMON}\nEXPECTED = {expected!r}\n{suite}")
        if conftest is not None:
            pytester.makeconftest(COMMON + conftest)
        settings = PYTEST_ASYNCIO_SETTINGS if "no:asyncio" not in options else ""
        pytester.makeini("[pytest]\n" + settings)
        result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-W", "error", *options)
        result.assert_outcomes(passed=suite.count("def test_") if passed is None else passed, **outcomes)
        return result

    return play


@pytest.mark.parametrize("options, expected", [((), "asyncio"), (CXXLOOP, "cxxloop")], ids=["without", "with"])
@pytest.mark.parametrize("suite", [PYTEST_ASYNCIO_SUITE, PLAIN_SUITE], ids=["pytest-asyncio", "plain"])
def test_the_plugin_alone_makes_the_difference(play, suite, options, expected):
    play(suite, *options, expected=expected)


def test_aiohttp_plugin(play):
    pytest.importorskip("aiohttp")
    # Its deprecation tells of its successor, which is the same code on top of pytest-asyncio.
    options = ["-p", "aiohttp.pytest_plugin", "-p", "no:asyncio", "-W", "ignore::DeprecationWarning"]
    play(AIOHTTP_SUITE, *CXXLOOP, *options)


def test_anyio_plugin_and_trio(play):
    pytest.importorskip("trio")
    play(ANYIO_SUITE, *CXXLOOP, "-p", "no:asyncio", passed=2)


def test_without_pytest_asyncio(play):
    play(PLAIN_SUITE, *CXXLOOP, "-p", "no:asyncio")


def test_wider_scopes_of_pytest_asyncio(play):
    suite = """
import pytest_asyncio

@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def session_loop():
    yield asyncio.get_running_loop()

@pytest.mark.asyncio(loop_scope="session")
async def test_session(session_loop):
    assert session_loop is asyncio.get_running_loop()
    assert loop_name() == EXPECTED
"""
    if PYTEST_ASYNCIO < (0, 24):
        pytest.skip("this pytest-asyncio has no loop scopes")
    play(suite, *CXXLOOP)


def test_the_header_names_loop_and_backend(play):
    result = play(PLAIN_SUITE, *CXXLOOP)
    info = cxxloop.build_info()
    result.stdout.fnmatch_lines([f"cxxloop: {info.version}, backend * ({info.poller}), loop cxxloop.Loop"])


# What a suite says in its conftest.py, and what then runs its pytest-asyncio tests.
POLICY = """
class Policy(asyncio.DefaultEventLoopPolicy):
    _loop_factory = asyncio.SelectorEventLoop
"""
CHOICES = {
    "policy": (POLICY + "asyncio.set_event_loop_policy(Policy())", (0, 0)),
    "event_loop_policy": (POLICY + "@pytest.fixture\ndef event_loop_policy():\n    return Policy()", (0, 23)),
    "loop factories": (
        "def pytest_asyncio_loop_factories(config, item):\n    return {'own': asyncio.SelectorEventLoop}",
        (1, 4),
    ),
}


@pytest.mark.parametrize("choice", CHOICES)
def test_the_choice_of_a_suite_is_respected(play, choice):
    conftest, since = CHOICES[choice]
    if since > PYTEST_ASYNCIO:
        pytest.skip(f"pytest-asyncio {PYTEST_ASYNCIO} has no {choice}")
    result = play(PYTEST_ASYNCIO_SUITE, *CXXLOOP, "-W", "ignore", conftest=conftest, expected="asyncio")
    if choice == "policy":
        result.stdout.fnmatch_lines(["cxxloop: *, not in use: the suite's default event loop is asyncio.unix_events.*"])


def test_loops_chosen_in_tests_are_respected(play):
    suite = """
class Case(unittest.IsolatedAsyncioTestCase):
    loop_factory = asyncio.SelectorEventLoop

    @unittest.skipIf(sys.version_info < (3, 13), "no loop_factory")
    async def test_case(self):
        self.assertEqual(loop_name(), EXPECTED)

def test_runner():
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        assert runner.run(running()) == EXPECTED

@pytest.mark.parametrize("anyio_backend", [("asyncio", {"loop_factory": asyncio.SelectorEventLoop})])
@pytest.mark.anyio
async def test_anyio(anyio_backend):
    assert loop_name() == EXPECTED
"""
    unsupported = sys.version_info < (3, 13)
    options = [*CXXLOOP, "-p", "no:asyncio"]
    play(f"import sys\n{suite}", *options, expected="asyncio", passed=3 - unsupported, skipped=int(unsupported))


@pytest.mark.skipif(sys.version_info >= (3, 16), reason="no event loop policies")
def test_suite_may_reset_the_policy(play):
    suite = """
@pytest.mark.parametrize("time", [1, 2])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_reset(time):
    assert asyncio.run(running()) == EXPECTED
    asyncio.set_event_loop_policy(None)
"""
    play(suite, *CXXLOOP, passed=2)


def test_loaded_by_a_conftest(play):
    conftest = "pytest_plugins = ['cxxloop.pytest_plugin']\n"
    play(PLAIN_SUITE, conftest=conftest)


def test_the_backend_option(play, monkeypatch):
    monkeypatch.delenv("CXXLOOP_BACKEND", raising=False)
    for backend in cxxloop.build_info().backends:
        suite = f"""
import subprocess, sys

def test_backend():
    source = "import cxxloop; print(cxxloop.Loop()._backend_name())"
    child = subprocess.run([sys.executable, "-W", "ignore", "-c", source], capture_output=True, text=True)
    assert child.stdout.strip() == asyncio.new_event_loop()._backend_name() == {backend!r}
"""
        result = play(suite, *CXXLOOP, f"--cxxloop-backend={backend}", "-W", "ignore")
        result.stdout.fnmatch_lines([f"cxxloop: *, backend {backend} (*"])


def test_unknown_backend_is_a_usage_error(pytester):
    result = pytester.runpytest_subprocess(*CXXLOOP, "--cxxloop-backend=steam")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--cxxloop-backend: invalid choice: 'steam'*"])


def test_the_process_is_left_as_it_was(pytester):
    source = """
        import asyncio, pytest, cxxloop
        pytest.main(["-q", "-p", "cxxloop.pytest_plugin", "--version"])
        pytest.main(["-q", "-p", "cxxloop.pytest_plugin", "--collect-only"])
        loop = asyncio.new_event_loop()
        assert not isinstance(loop, cxxloop.Loop)
        loop.close()
        """
    result = pytester.runpython_c("\n".join(line.strip() for line in source.splitlines()))
    assert result.ret == 0
