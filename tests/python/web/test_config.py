# SPDX-License-Identifier: MIT
"""cxxloop.web.Config: uvicorn's settings and ours, checked one by one."""

import inspect
import pickle
import re
import ssl
from pathlib import Path

import pytest

from cxxloop.web import Config, ConfigError
from cxxloop.web.native import native_options
from cxxloop.web.option import options_of
from cxxloop.web.tls import check_engine, make_context

ROOT = Path(__file__).resolve().parents[3]


def test_every_keyword_of_uvicorn_is_a_setting():
    uvicorn = pytest.importorskip("uvicorn")
    # No setting of a user, but of the worker class for gunicorn; HTTP/2 is refused by name.
    left_out = {"self", "app", "callback_notify", "timeout_notify", "http2"}
    keywords = set(inspect.signature(uvicorn.Config.__init__).parameters) - left_out
    assert keywords <= set(options_of(Config)), keywords - set(options_of(Config))


def test_defaults_of_uvicorn_are_kept():
    uvicorn = pytest.importorskip("uvicorn")
    ours, theirs = Config("a:b"), uvicorn.Config("a:b")
    # We say 2 minutes where uvicorn waits for ever, and None where it keeps what the variables say.
    different = {"timeout_graceful_shutdown", "log_config", "workers", "forwarded_allow_ips", "reload_dirs"}
    for name in set(options_of(Config)) - different:
        if hasattr(theirs, name):
            assert getattr(ours, name) == getattr(theirs, name), name


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"port": 70000}, "port: must be at least 0 and at most 65535, not 70000"),
        ({"port": "80"}, "port: must be a whole number, not '80'"),
        ({"port": True}, "port: must be a whole number, not True"),
        ({"host": None}, "host: must be a string, not None"),
        ({"workers": 0}, "workers: must be at least 1, not 0"),
        ({"lifespan": "perhaps"}, "lifespan: must be one of auto, on, off, not 'perhaps'"),
        ({"access_log": 1}, "access_log: must be True or False, not 1"),
        ({"timeout_keep_alive": -1}, "timeout_keep_alive: must be from 0 to 1e+09, not -1"),
        ({"timeout_keep_alive": float("nan")}, "timeout_keep_alive: must be from 0 to 1e+09, not nan"),
        ({"reload_delay": 0}, "reload_delay: must be from 0.01 to 3600, not 0"),
        ({"reload_dirs": ["/no/such/folder"]}, "reload_dirs: '/no/such/folder' does not exist"),
        ({"headers": [("X-A",)]}, "headers: must be a list of pairs (name, value), not [('X-A',)]"),
        ({"headers": [("X A", "b")]}, "headers: 'X A' is no name of a header"),
        ({"headers": [("X-A", "b\r\nX-B: c")]}, "headers: 'b\\r\\nX-B: c' is no value of a header"),
        ({"headers": [("Content-Length", "1")]}, "headers: 'Content-Length' is the server's own to send"),
        ({"uds": "a", "fd": 3}, "fd: cannot be given together with uds"),
        ({"uds": "a", "reuse_port": True}, "reuse_port: is for ports, not for uds or fd"),
        ({"admin": 9000}, "admin: must be HOST:PORT or a pair (host, port), not 9000"),
        ({"admin": ("::1", 70000)}, "admin: must be at least 0 and at most 65535, not 70000"),
        ({"uds_permissions": "888"}, "uds_permissions: must be octal digits like 660, not '888'"),
        ({"root_path": "api"}, "root_path: must begin with '/', not 'api'"),
        ({"env_file": "no.env"}, "env_file: 'no.env' does not exist"),
        ({"log_level": "loud"}, "log_level: must be one of critical, error, warning, info, debug, trace, not 'loud'"),
        ({"forwarded_allow_ips": 5}, "forwarded_allow_ips: must be addresses, not 5"),
        ({"access_log_format": "%(h)s %z"}, "access_log_format: has a '%' that begins no atom like %(h)s: '%(h)s %z'"),
        ({"access_log_format": "%(x)s"}, "access_log_format: has no atom %(x)s"),
        ({"limit_headers": 257}, "limit_headers: must be at least 1 and at most 256, not 257"),
    ],
)
def test_wrong_value_is_one_line(settings, line):
    with pytest.raises(ConfigError) as caught:
        Config("app:app", **settings)
    assert str(caught.value) == line


def test_unknown_keyword_is_refused():
    with pytest.raises(TypeError, match="unexpected keyword argument 'prot'"):
        Config("app:app", prot=1)


def test_workers_come_from_web_concurrency(monkeypatch):
    monkeypatch.setenv("WEB_CONCURRENCY", "3")
    assert Config("a:b").worker_count == 3
    assert Config("a:b", workers=2).worker_count == 2
    monkeypatch.setenv("WEB_CONCURRENCY", "many")
    with pytest.raises(ConfigError, match="^WEB_CONCURRENCY: must be a whole number, not 'many'$"):
        Config("a:b")
    assert Config("a:b", workers=2).worker_count == 2


def test_trusted_proxies(monkeypatch):
    monkeypatch.delenv("FORWARDED_ALLOW_IPS", raising=False)
    assert Config("a:b").forwarded_allow_ips == ["127.0.0.1", "::1"]
    assert Config("a:b", forwarded_allow_ips="10.0.0.0/8, 192.0.2.1").forwarded_allow_ips == ["10.0.0.0/8", "192.0.2.1"]
    assert Config("a:b", forwarded_allow_ips=["*"]).forwarded_allow_ips == "*"
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    assert Config("a:b").forwarded_allow_ips == "*"
    assert native_options(Config("a:b", proxy_headers=False), None)["trusted"] == []


def test_env_file_is_read_before_variables(monkeypatch, tmp_path):
    pytest.importorskip("dotenv")
    monkeypatch.setenv("WEB_CONCURRENCY", "1")  # so that monkeypatch takes back what the file sets
    monkeypatch.delenv("WEB_CONCURRENCY")
    (tmp_path / "a.env").write_text("WEB_CONCURRENCY=5\n")
    assert Config("a:b", env_file=tmp_path / "a.env").worker_count == 5


def test_env_file_without_dotenv_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "dotenv", None)
    (tmp_path / "a.env").write_text("A=1\n")
    with pytest.raises(ConfigError, match=r"^env_file: needs python-dotenv: pip install 'cxxloop\[web\]'$"):
        Config("a:b", env_file=tmp_path / "a.env")


def test_config_survives_pickling():
    config = pickle.loads(pickle.dumps(Config("a:b", port=1, headers=[("X-A", "1")])))
    assert (config.port, config.headers, config.forwarded_allow_ips) == (1, [("X-A", "1")], ["127.0.0.1", "::1"])


def test_native_options_hold_every_limit():
    options = native_options(Config("a:b", limit_connections=10, limit_concurrency=7, headers=[("X-A", " b ")]), None)
    assert (options["connections_max"], options["concurrency_max"]) == (10, 7)
    assert options["headers"] == [(b"x-a", b"b")]
    assert options["server_header"] == "cxxloop" and options["scheme"] == "http" and options["tls"] is None
    assert options["websockets"] and options["websocket_deflate"] and options["websocket_ping_seconds"] == 20
    assert not native_options(Config("a:b", ws="none"), None)["websockets"]
    assert native_options(Config("a:b", server_header=False), None)["server_header"] is None
    assert native_options(Config("a:b", headers=[("Server", "mine")]), None)["server_header"] is None


@pytest.mark.parametrize(
    ("header", "struct", "prefix", "count"),
    [
        ("request_head.h", "HeadLimits", "", 3),
        ("limits.h", "Limits", "", 15),
        ("websocket_limits.h", "WebSocketLimits", "websocket_", 5),
    ],
)
def test_defaults_are_those_of_native_limits(header, struct, prefix, count):
    """A program in C++ that uses the core without Python has the limits that the documentation promises."""
    path = ROOT / "src/web/core" / header
    if not path.exists():
        pytest.skip("the sources of the core are not here")
    source = path.read_text().partition(f"struct {struct} {{")[2].partition("\n};")[0]
    declared = re.findall(r"^\s*(?:u?int\d+_t|size_t) (\w+) = ([^;]+);", source, re.MULTILINE)
    options = native_options(Config("a:b"), None)
    for name, text in declared:
        value = eval(text.replace("uint64_t{1}", "1").replace("second_ns", "10**9").replace("'", "_"))  # of our own header
        if name.endswith("_ns"):
            assert options[f"{prefix}{name.removesuffix('_ns')}_seconds"] * 10**9 == value, name
        else:
            assert options[prefix + name] == value, name
    assert len(declared) == count


# --- TLS: the context, which is made although nothing serves it yet -----------------------------------------------------


@pytest.fixture
def pem(tmp_path):
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    leaf = authority.issue_cert("localhost")
    leaf.private_key_pem.write_to_path(tmp_path / "key.pem")
    leaf.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    return tmp_path


def test_tls_context_is_made_of_files(pem):
    config = Config(
        "a:b", ssl_certfile=pem / "cert.pem", ssl_keyfile=pem / "key.pem", ssl_ca_certs=pem / "ca.pem", ssl_cert_reqs=2
    )
    context = make_context(config)
    assert context.verify_mode is ssl.CERT_REQUIRED and len(context.get_ca_certs()) == 1


def test_tls_context_of_factory(pem):
    def factory(config, make_default):
        context = make_default()
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        return context

    config = Config("a:b", ssl_certfile=pem / "cert.pem", ssl_keyfile=pem / "key.pem", ssl_context_factory=factory)
    assert make_context(config).minimum_version is ssl.TLSVersion.TLSv1_3
    with pytest.raises(ConfigError, match="^ssl_context_factory: must return an ssl.SSLContext, not NoneType$"):
        make_context(Config("a:b", ssl_context_factory=lambda config, make_default: None))


def test_tls_context_of_program():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    config = Config("a:b", ssl_context=context)
    assert make_context(config) is context and config.is_tls


@pytest.mark.parametrize(("engine", "has_libssl", "is_right"), [("libssl", False, False), ("libssl", True, True), ("auto", False, True)])
def test_tls_engine_that_is_not_there_is_one_line(engine, has_libssl, is_right):
    config, context = Config("a:b", ssl_engine=engine), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if is_right:
        return check_engine(config, context, has_libssl)
    with pytest.raises(ConfigError, match="^ssl_engine: the libssl of this Python can be used through the module ssl only"):
        check_engine(config, context, has_libssl)


def test_no_tls_without_certificate():
    assert make_context(Config("a:b")) is None
    with pytest.raises(ConfigError, match="^ssl_keyfile: needs ssl_certfile$"):
        make_context(Config("a:b", ssl_keyfile="key.pem"))


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"ssl_certfile": "no.pem"}, "ssl_certfile: cannot read 'no.pem': No such file or directory"),
        ({"ssl_keyfile": "no.pem"}, "ssl_keyfile: cannot read 'no.pem': No such file or directory"),
        ({"ssl_keyfile": "ca.pem"}, "ssl_certfile: cannot use 'cert.pem': "),
        ({"ssl_ca_certs": "no.pem"}, "ssl_ca_certs: cannot read 'no.pem': No such file or directory"),
        ({"ssl_ciphers": "none such"}, "ssl_ciphers: cannot use 'none such': "),
        ({"ssl_version": 99}, "ssl_version: 99 is no protocol of the module ssl"),
        ({"ssl_version": int(ssl.PROTOCOL_TLS_CLIENT)}, "ssl_version: must be an ssl.SSLContext of servers, not of clients"),
        ({"ssl_context": "context"}, "ssl_context: must be an ssl.SSLContext, not str"),
    ],
)
def test_wrong_tls_setting_is_one_line(pem, monkeypatch, settings, line):
    monkeypatch.chdir(pem)
    with pytest.raises(ConfigError) as caught:
        make_context(Config("a:b", **{"ssl_certfile": "cert.pem", "ssl_keyfile": "key.pem", **settings}))
    assert str(caught.value).startswith(line) and "\n" not in str(caught.value)
