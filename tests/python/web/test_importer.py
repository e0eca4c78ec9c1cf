# SPDX-License-Identifier: MIT
"""Import strings, factories, and what kind of application was found."""

import logging
import textwrap

import pytest

from cxxloop.web import Config, ImportFromStringError
from cxxloop.web.importer import import_from_string


@pytest.fixture
def module(monkeypatch, tmp_path):
    """Writes a module that can be imported during the test; returns its name."""
    monkeypatch.syspath_prepend(tmp_path)
    names = []

    def module(source, name=None):
        name = name or f"web_importer_{len(names)}"
        names.append(name)
        path = tmp_path / (name.replace(".", "/") + ".py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(source))
        monkeypatch.delitem(__import__("sys").modules, name, raising=False)
        return name

    return module


def test_attribute_of_attribute_is_found(module):
    name = module("class a:\n    class b:\n        c = 5\n")
    assert import_from_string(f"{name}:a.b.c") == 5


def test_what_is_no_string_is_returned():
    assert import_from_string(len) is len


@pytest.mark.parametrize(
    ("string", "line"),
    [
        ("app", 'Import string "app" must be in format "<module>:<attribute>".'),
        (":app", 'Import string ":app" must be in format "<module>:<attribute>".'),
        ("app:", 'Import string "app:" must be in format "<module>:<attribute>".'),
        ("web_none:app", 'Could not import module "web_none".'),
        ("web_none.sub.sub:app", 'Could not import module "web_none.sub.sub".'),
        ("json.web_none:app", 'Could not import module "json.web_none".'),
        (".relative:app", 'Could not import module ".relative": the name must not be relative.'),
        ("json:loads.web_none", 'Attribute "loads.web_none" not found in module "json".'),
    ],
)
def test_wrong_import_string_is_one_line(string, line):
    with pytest.raises(ImportFromStringError) as caught:
        import_from_string(string)
    assert str(caught.value) == line


def test_error_inside_module_is_its_own(module):
    name = module("import web_none_inside\n")
    with pytest.raises(ModuleNotFoundError, match="web_none_inside"):
        import_from_string(f"{name}:app")
    name = module("1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        import_from_string(f"{name}:app")


INTERFACES = """
import functools

async def asgi3(scope, receive, send): ...
def plain_asgi3(scope, receive, send): return asgi3(scope, receive, send)
class CallableAsgi3:
    async def __call__(self, scope, receive, send): ...
callable_asgi3 = CallableAsgi3()
class ClassAsgi3:
    def __init__(self, scope, receive, send): ...
    def __await__(self): yield
partial_asgi3 = functools.partial(asgi3)

def asgi2(scope): return asgi3
class ClassAsgi2:
    def __init__(self, scope): ...
    async def __call__(self, receive, send): ...

def wsgi(environ, start_response): return []
class CallableWsgi:
    def __call__(self, environ, start_response): return []
callable_wsgi = CallableWsgi()
def anything(*arguments): return asgi3
"""


@pytest.mark.parametrize(
    ("attribute", "interface"),
    [
        ("asgi3", "asgi3"),
        ("plain_asgi3", "asgi3"),
        ("callable_asgi3", "asgi3"),
        ("ClassAsgi3", "asgi3"),
        ("partial_asgi3", "asgi3"),
        ("asgi2", "asgi2"),
        ("ClassAsgi2", "asgi2"),
        ("wsgi", "wsgi"),
        ("callable_wsgi", "wsgi"),
    ],
)
def test_interface_is_found_out(module, attribute, interface):
    config = Config(f"{module(INTERFACES)}:{attribute}")
    config.load()
    assert config.interface == interface


def test_interface_that_is_named_is_not_doubted(module):
    config = Config(f"{module(INTERFACES)}:asgi3", interface="asgi2")
    config.load()
    assert config.interface == "asgi2"


def test_asgi2_application_is_called_in_two_steps(loop_factory, run):
    calls = []

    def application(scope):
        calls.append(scope)

        async def instance(receive, send):
            calls.append((receive, send))

        return instance

    scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.5"}}
    run(Config(application).load()(scope, "receive", "send"))
    assert calls == [{"type": "http", "asgi": {"version": "2.0", "spec_version": "2.5"}}, ("receive", "send")]
    assert scope["asgi"]["version"] == "3.0"  # it is the server's, and other requests have it, too


FACTORIES = """
async def application(scope, receive, send): ...
def make(): return application
def make_with_argument(settings): return application
def make_badly(): raise TypeError("from inside")
number = 5
"""


def test_factory_is_called(module, caplog):
    name = module(FACTORIES)
    config = Config(f"{name}:make", factory=True)
    assert config.load().__name__ == "application" and config.load() is config.loaded_app
    assert caplog.text == ""


def test_factory_is_detected(module, monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("cxxloop"), "propagate", True)
    assert Config(f"{module(FACTORIES)}:make").load().__name__ == "application"
    assert "ASGI app factory detected. Using it, but please consider setting the --factory flag explicitly." in caplog.text


def test_wrapper_that_takes_anything_is_no_factory():
    calls = []
    Config(lambda *arguments: calls.append(arguments), interface="wsgi").load()
    assert calls == []


@pytest.mark.parametrize(
    ("attribute", "line"),
    [
        ("make_with_argument", "The factory cannot be called: make_with_argument() missing 1 required"),
        ("make_badly", "The factory cannot be called: from inside"),
        ("number", "The application is no callable but int."),
    ],
)
def test_wrong_factory_is_one_line(module, attribute, line):
    with pytest.raises(ImportFromStringError) as caught:
        Config(f"{module(FACTORIES)}:{attribute}", factory=True).load()
    assert str(caught.value).startswith(line)
