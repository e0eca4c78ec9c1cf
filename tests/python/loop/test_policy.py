# SPDX-License-Identifier: MIT
"""The public names of cxxloop, its policy, install() and build_info()."""

import asyncio
import copy
import gc
import inspect
import pickle
import sys
import warnings

import pytest

pytestmark = pytest.mark.cxxloop_only("the package's own names")
needs_policies = pytest.mark.skipif(sys.version_info >= (3, 16), reason="3.16 has no policies")


@pytest.fixture
def cxxloop(loop_name):
    import cxxloop

    return cxxloop


@pytest.fixture
def no_warnings():
    gc.collect()  # what an earlier test has left unclosed is not told here
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


async def running_loop():
    return asyncio.get_running_loop()


async def fail():
    raise ZeroDivisionError


def outcome(function, *args, **kwargs):
    try:
        return function(*args, **kwargs)
    except Exception as exc:
        return type(exc), str(exc)


# run


def test_the_signature_of_run(cxxloop):
    parameters = inspect.signature(cxxloop.run).parameters
    assert [(p.name, p.kind.name, p.default) for p in parameters.values()] == [
        ("main", "POSITIONAL_OR_KEYWORD", inspect.Parameter.empty),
        ("debug", "KEYWORD_ONLY", None),
        ("loop_factory", "KEYWORD_ONLY", None),
    ]


def test_run_runs_on_cxxloop(cxxloop):
    loop = cxxloop.run(running_loop())
    assert isinstance(loop, cxxloop.Loop)
    assert loop.is_closed()


def test_run_raises_what_main_raises(cxxloop):
    with pytest.raises(ZeroDivisionError):
        cxxloop.run(fail())


def test_debug_of_run(cxxloop):
    async def debug():
        return asyncio.get_running_loop().get_debug()

    assert cxxloop.run(debug(), debug=True) is True
    assert cxxloop.run(debug(), debug=False) is False


def test_the_loop_factory_of_run(cxxloop):
    made = []

    def factory():
        made.append(asyncio.SelectorEventLoop())
        return made[0]

    assert cxxloop.run(running_loop(), loop_factory=factory) is made[0]


@pytest.mark.parametrize("main", [None, 5, running_loop, [1]], ids=repr)
def test_run_refuses_what_asyncio_refuses(cxxloop, main):
    assert outcome(cxxloop.run, main) == outcome(asyncio.run, main)


def test_run_inside_a_running_loop_is_refused_as_asyncio_does(cxxloop):
    async def main(run):
        coroutine = running_loop()
        try:
            return outcome(run, coroutine)
        finally:
            coroutine.close()

    expected = cxxloop.run(main(asyncio.run))
    assert expected[0] is RuntimeError
    assert cxxloop.run(main(cxxloop.run)) == expected


def test_run_cancels_what_is_left_and_shuts_down(cxxloop):
    seen = []

    async def forever():
        try:
            await asyncio.sleep(3600)
        finally:
            seen.append("cancelled")

    async def generator():
        try:
            yield
        finally:
            seen.append("closed")

    kept = generator()

    async def main():
        task = asyncio.create_task(forever())
        await kept.__anext__()
        await asyncio.sleep(0)
        assert not task.done()
        await asyncio.to_thread(int)

    cxxloop.run(main())
    assert seen == ["cancelled", "closed"]


# Loops


def test_names_of_loops(cxxloop):
    assert cxxloop.EventLoop is cxxloop.Loop
    for make in (cxxloop.new_event_loop, cxxloop.Loop):
        loop = make()
        assert type(loop) is cxxloop.Loop
        assert isinstance(loop, asyncio.SelectorEventLoop)
        loop.close()
    assert cxxloop.Loop.__module__.split(".")[0] == "cxxloop"


def test_runner_takes_both_names_as_its_factory(cxxloop):
    for factory in (cxxloop.new_event_loop, cxxloop.Loop):
        with asyncio.Runner(loop_factory=factory) as runner:
            assert type(runner.run(running_loop())) is cxxloop.Loop


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio.run has a loop_factory since 3.12")
def test_asyncio_run_takes_it_as_its_factory(cxxloop):
    assert type(asyncio.run(running_loop(), loop_factory=cxxloop.new_event_loop)) is cxxloop.Loop


def test_all_names_exist(cxxloop):
    for name in cxxloop.__all__:
        assert getattr(cxxloop, name) is not None
    assert set(cxxloop.__all__) <= set(dir(cxxloop))


def test_build_info(cxxloop):
    info = cxxloop.build_info()
    assert info.version == cxxloop.__version__
    assert "libev" in str(info)
    assert cxxloop.build_info() == info


def test_unknown_name(cxxloop):
    with pytest.raises(AttributeError, match="^module 'cxxloop' has no attribute 'nothing'$"):
        cxxloop.nothing  # noqa: B018  # the look is the test


# Policies


@needs_policies
def test_the_policy_makes_cxxloop_loops(cxxloop, no_warnings):
    assert cxxloop.EventLoopPolicy is cxxloop.Policy
    policy = cxxloop.Policy()
    loop = policy.new_event_loop()
    assert type(loop) is cxxloop.Loop
    policy.set_event_loop(loop)
    assert policy.get_event_loop() is loop
    policy.set_event_loop(None)
    loop.close()


@needs_policies
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_set_event_loop_policy(cxxloop):
    previous = asyncio.get_event_loop_policy()
    asyncio.set_event_loop_policy(cxxloop.EventLoopPolicy())
    try:
        assert type(asyncio.run(running_loop())) is cxxloop.Loop
        loop = asyncio.new_event_loop()
        assert type(loop) is cxxloop.Loop
        loop.close()
    finally:
        asyncio.set_event_loop_policy(previous)
    assert type(asyncio.run(running_loop())) is not cxxloop.Loop


@pytest.mark.skipif(sys.version_info < (3, 16), reason="policies exist")
def test_without_policies_their_names_say_so(cxxloop):
    for name in ("Policy", "EventLoopPolicy"):
        with pytest.raises(AttributeError, match="3.16"):
            getattr(cxxloop, name)
        assert name not in dir(cxxloop)


# install and uninstall


@pytest.fixture
def installed(cxxloop):
    with pytest.warns(DeprecationWarning, match="run"):
        cxxloop.install()
    yield cxxloop
    cxxloop.uninstall()
    assert type(asyncio.run(running_loop())) is not cxxloop.Loop


def test_install_makes_every_new_loop_a_cxxloop_one(installed, no_warnings):
    assert type(asyncio.run(running_loop())) is installed.Loop
    loop = asyncio.new_event_loop()
    assert type(loop) is installed.Loop
    loop.close()
    with asyncio.Runner() as runner:
        assert type(runner.run(running_loop())) is installed.Loop


def test_install_twice_is_undone_once(installed):
    with pytest.warns(DeprecationWarning):
        installed.install()
    installed.uninstall()
    assert type(asyncio.run(running_loop())) is not installed.Loop
    installed.uninstall()


@needs_policies
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_uninstall_restores_the_policy_that_was_there(cxxloop):
    class Mine(type(asyncio.get_event_loop_policy())):
        pass

    before = asyncio.get_event_loop_policy()
    mine = Mine()
    asyncio.set_event_loop_policy(mine)
    cxxloop.install()
    assert asyncio.get_event_loop_policy() is not mine
    cxxloop.uninstall()
    assert asyncio.get_event_loop_policy() is mine
    asyncio.set_event_loop_policy(before)


@needs_policies
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_uninstall_keeps_a_policy_set_later(cxxloop):
    before = asyncio.get_event_loop_policy()
    cxxloop.install()
    later = cxxloop.Policy()
    asyncio.set_event_loop_policy(later)
    cxxloop.uninstall()
    assert asyncio.get_event_loop_policy() is later
    asyncio.set_event_loop_policy(before)


def test_uninstall_without_install_does_nothing(cxxloop):
    cxxloop.uninstall()
    assert type(asyncio.run(running_loop())) is not cxxloop.Loop


# Importing


def test_importing_warns_of_nothing(run_script):
    run_script("loop = new_loop()\nloop.close()\n", options=("-W", "error"))


def test_importing_loads_only_what_it_needs(run_script):
    result = run_script("import sys\nprint(*sys.modules)")
    modules = set(result.stdout.split())
    ours = {name for name in modules if name.partition(".")[0] == "cxxloop"}
    assert not ours & {"cxxloop._policy", "cxxloop.gunicorn", "cxxloop.launch", "cxxloop.__main__"}
    assert not modules & {"uvicorn", "gunicorn", "aiohttp", "pybind11", "typing_extensions"}


def test_build_info_is_a_value(cxxloop):
    info = cxxloop.build_info()
    assert all(pickle.loads(pickle.dumps(info, protocol)) == info for protocol in range(pickle.HIGHEST_PROTOCOL + 1))
    assert copy.copy(info) == info == copy.deepcopy(info) and hash(info) == hash(cxxloop.build_info())
    with pytest.raises(AttributeError):
        info.version = "another"


def test_package_is_imported_anew_after_it_was_forgotten(run_script):
    program = """
        import sys
        import cxxloop
        for name in [name for name in sys.modules if name.partition(".")[0] == "cxxloop"]:
            del sys.modules[name]
        import cxxloop as again
        assert again is not cxxloop
        async def main():
            return 1
        assert again.run(main()) == 1
        print("twice")
    """
    assert run_script(program).stdout.strip() == "twice"
