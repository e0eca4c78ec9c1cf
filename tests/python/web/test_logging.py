# SPDX-License-Identifier: MIT
"""uvicorn's logging configuration under our names, and the formats of the access log."""

import io
import json
import logging
import re

import pytest

from cxxloop.web import Config, ConfigError
from cxxloop.web.access_log import make_on_access
from cxxloop.web.logging import LOGGING_CONFIG, AccessFormatter, DefaultFormatter

SCOPE = {
    "type": "http",
    "http_version": "1.1",
    "method": "GET",
    "path": "/a b/\u00e9",
    "raw_path": b"/a%20b/%C3%A9",
    "query_string": b"q=1",
    "client": ("192.0.2.1", 4711),
    "headers": [(b"user-agent", b'agent "7"'), (b"referer", b"http://x/")],
}


@pytest.fixture(autouse=True)
def loggers():
    """Takes back what a test has configured."""
    names = ("", "cxxloop", "cxxloop.error", "cxxloop.access", "cxxloop.asgi")
    before = {name: (log := logging.getLogger(name), log.level, list(log.handlers), log.propagate) for name in names}
    yield
    for logger, level, handlers, propagate in before.values():
        logger.level, logger.handlers[:], logger.propagate = level, handlers, propagate
        logger.manager._clear_cache()


@pytest.fixture
def access_lines():
    """Makes on_access() of settings, and returns it with a function that returns the lines it has written."""

    def access_lines(**settings):
        config = Config("a:b", use_colors=False, **settings)
        config.configure_logging()
        stream = io.StringIO()
        logging.getLogger("cxxloop.access").handlers[0].setStream(stream)
        return make_on_access(config), lambda: stream.getvalue().splitlines()

    return access_lines


def test_shape_is_uvicorns():
    uvicorn = pytest.importorskip("uvicorn.config")
    renamed = json.loads(
        json.dumps(uvicorn.LOGGING_CONFIG).replace("uvicorn.logging", "cxxloop.web.logging").replace("uvicorn", "cxxloop")
    )
    assert LOGGING_CONFIG == renamed


def record(level, text, *arguments, **extra):
    made = logging.LogRecord("cxxloop.error", level, __file__, 1, text, arguments, None)
    made.__dict__.update(extra)
    return made


def test_level_prefix_is_padded():
    formatter = DefaultFormatter("%(levelprefix)s %(message)s", use_colors=False)
    assert formatter.format(record(logging.INFO, "a %d", 1)) == "INFO:     a 1"
    assert formatter.format(record(logging.WARNING, "b")) == "WARNING:  b"


def test_terminal_gets_colour_message():
    formatter = DefaultFormatter("%(levelprefix)s %(message)s", use_colors=True)
    line = formatter.format(record(logging.INFO, "a %d", 1, color_message="A \x1b[36m%d\x1b[0m"))
    assert line == "\x1b[32mINFO\x1b[0m:     A \x1b[36m1\x1b[0m"


@pytest.mark.parametrize("use_colors", [False, True])
def test_access_line_is_uvicorns(use_colors):
    uvicorn = pytest.importorskip("uvicorn.logging")
    arguments = ("192.0.2.1:1", "GET", "/x", "1.1", 404)
    made = logging.LogRecord("n", logging.INFO, __file__, 1, '%s - "%s %s HTTP/%s" %d', arguments, None)
    form = '%(levelprefix)s %(client_addr)s - "%(request_line)s" %(status_code)s'
    ours = AccessFormatter(form, use_colors=use_colors).format(made)
    assert ours == uvicorn.AccessFormatter(form, use_colors=use_colors).format(made)
    assert use_colors or ours == 'INFO:     192.0.2.1:1 - "GET /x HTTP/1.1" 404 Not Found'


def test_default_access_log_is_uvicorns_line(access_lines):
    on_access, lines = access_lines()
    on_access(SCOPE, 200, 10, 0.5)
    on_access({**SCOPE, "client": None, "query_string": b""}, 299, 10, 0.5)
    assert lines() == [
        'INFO:     192.0.2.1:4711 - "GET /a%20b/%C3%A9?q=1 HTTP/1.1" 200 OK',
        'INFO:      - "GET /a%20b/%C3%A9 HTTP/1.1" 299 ',
    ]


def test_websocket_has_a_line(access_lines):
    on_access, lines = access_lines()
    scope = {name: value for name, value in SCOPE.items() if name != "method"}
    on_access({**scope, "type": "websocket"}, 101, 0, 0.5)
    assert lines() == ['INFO:     192.0.2.1:4711 - "GET /a%20b/%C3%A9?q=1 HTTP/1.1" 101 Switching Protocols']


def test_atoms_are_gunicorns(access_lines):
    form = '%(h)s %(l)s %(u)s "%(r)s" %(s)s %(b)s %(B)d "%(f)s" "%(a)s" %(T)s %(D)s %(M)s %(L)s %(m)s %(U)s %(q)s %(H)s %(p)s'
    on_access, lines = access_lines(access_log_format=form + " %({User-Agent}i)s %({x}o)s %({x-none}i)s %%")
    on_access(SCOPE, 200, 10, 1.25)
    assert re.sub("<[0-9]+>", "<PID>", lines()[0]) == (
        '192.0.2.1 - - "GET /a%20b/%C3%A9?q=1 HTTP/1.1" 200 10 10 "http://x/" "agent \\"7\\"" 1 1250000 1250 1.250000'
        ' GET /a b/\u00e9 q=1 HTTP/1.1 <PID> agent \\"7\\" - - %'
    )


def test_variable_is_an_atom(access_lines, monkeypatch):
    monkeypatch.setenv("SHELL_OF_TEST", "zsh")
    on_access, lines = access_lines(access_log_format="%({shell_of_test}e)s %(t)s")
    on_access(SCOPE, 200, 0, 0)
    assert re.fullmatch(r"zsh \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]", lines()[0])


@pytest.mark.parametrize("settings", [{}, {"access_log_format": "%(r)s %(U)s %(h)s"}, {"access_log_format": "json"}])
def test_request_cannot_write_a_line_of_its_own(access_lines, settings):
    on_access, lines = access_lines(**settings)
    on_access({**SCOPE, "path": "/\r\nINFO: forged\x1b[31m\x85"}, 200, 0, 0)
    assert len(lines()) == 1 and "\x1b" not in lines()[0]


def test_json_line(access_lines):
    on_access, lines = access_lines(access_log_format="json")
    on_access(SCOPE, 200, 10, 0.25)
    line = json.loads(lines()[0])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time")) and line.pop("pid") > 0
    assert line == {
        "client": "192.0.2.1",
        "port": 4711,
        "method": "GET",
        "path": "/a b/\u00e9",
        "query": "q=1",
        "http_version": "1.1",
        "status": 200,
        "bytes": 10,
        "seconds": 0.25,
        "referer": "http://x/",
        "user_agent": 'agent "7"',
    }


def test_sampling_keeps_every_error_of_the_server(access_lines):
    on_access, lines = access_lines(access_log_sample=0.0)
    on_access(SCOPE, 200, 0, 0)
    on_access(SCOPE, 503, 0, 0)
    assert [line[-23:] for line in lines()] == ["503 Service Unavailable"]
    on_access, lines = access_lines(access_log_sample=0.5)
    for _ in range(1000):
        on_access(SCOPE, 200, 0, 0)
    assert 350 < len(lines()) < 650


@pytest.mark.parametrize("settings", [{"access_log": False}, {"log_level": "warning"}, {"log_config": None}])
def test_no_callback_where_nobody_reads(settings):
    logging.getLogger("cxxloop.access").handlers.clear()
    logging.getLogger("cxxloop.access").propagate = False
    config = Config("a:b", **settings)
    config.configure_logging()
    assert make_on_access(config) is None


def test_level_is_set():
    Config("a:b", log_level="debug").configure_logging()
    assert logging.getLogger("cxxloop.error").level == logging.DEBUG
    Config("a:b", log_level=35).configure_logging()
    assert logging.getLogger("cxxloop.access").level == 35
    Config("a:b", log_level="TRACE").configure_logging()
    assert logging.getLogger("cxxloop.asgi").level == 5 and logging.getLevelName(5) == "TRACE"


FILE = {"version": 1, "disable_existing_loggers": False, "loggers": {"cxxloop.error": {"level": 33}}}
INI = """
[loggers]
keys=root,server
[handlers]
keys=
[formatters]
keys=
[logger_root]
level=WARNING
handlers=
[logger_server]
qualname=cxxloop.error
level=CRITICAL
handlers=
"""


@pytest.mark.parametrize(
    ("name", "text", "level"),
    [
        ("log.json", json.dumps(FILE), 33),
        ("log.yaml", json.dumps(FILE), 33),  # JSON is YAML
        ("log.yml", json.dumps(FILE), 33),
        ("log.ini", INI, logging.CRITICAL),
    ],
)
def test_configuration_file(tmp_path, name, text, level):
    if name.endswith(("yaml", "yml")):
        pytest.importorskip("yaml")
    (tmp_path / name).write_text(text)
    Config("a:b", log_config=str(tmp_path / name)).configure_logging()
    assert logging.getLogger("cxxloop.error").level == level


def test_log_file_is_opened_once(tmp_path):
    file = {"class": "logging.FileHandler", "filename": str(tmp_path / "log"), "mode": "w"}
    loggers = {"cxxloop.error": {"handlers": ["file"], "level": "INFO"}}
    config = Config("a:b", log_config={**FILE, "handlers": {"file": file}, "loggers": loggers})
    config.configure_logging()
    logging.getLogger("cxxloop.error").info("kept")
    config.configure_logging()
    logging.getLogger("cxxloop.error").handlers[0].close()
    assert (tmp_path / "log").read_text() == "kept\n"


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("none.json", None, "FileNotFoundError"),
        ("none.ini", None, "FileNotFoundError: no such file"),
        ("bad.json", "{", "JSONDecodeError"),
        ("bad2.json", '{"version": 1, "handlers": {"a": {"class": "no.such"}}}', ""),
    ],
)
def test_wrong_configuration_file_is_one_line(tmp_path, name, text, line):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError) as caught:
        Config("a:b", log_config=str(tmp_path / name)).configure_logging()
    assert str(caught.value).startswith(f"log_config: cannot use '{tmp_path / name}': {line}")
    assert "\n" not in str(caught.value)


def test_yaml_without_pyyaml_is_one_line(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "yaml", None)
    with pytest.raises(ConfigError, match=r"^log_config: a YAML file needs PyYAML: pip install 'cxxloop\[web\]'$"):
        Config("a:b", log_config="log.yaml").configure_logging()
