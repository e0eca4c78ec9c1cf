# SPDX-License-Identifier: MIT
"""The scope of a request: uvicorn's, key by key, but for what the specification has added since."""

import asyncio
import itertools
import socket

import pytest
from asgi_peer import GET, text

pytestmark = pytest.mark.cxxloop_only("asyncio has no web server")

REQUESTS = {
    "plain": GET,
    "version 1.0": b"GET / HTTP/1.0\r\n\r\n",
    "query": b"GET /a/b?x=1&y=%20&&z HTTP/1.1\r\nHost: a\r\n\r\n",
    "empty query": b"GET /a? HTTP/1.1\r\nHost: a\r\n\r\n",
    "two question marks": b"GET /a?b?c HTTP/1.1\r\nHost: a\r\n\r\n",
    "encoded path": b"GET /caf%C3%A9/%2F/%41%zz%4 HTTP/1.1\r\nHost: a\r\n\r\n",
    "not UTF-8": b"GET /%ff%C3 HTTP/1.1\r\nHost: a\r\n\r\n",
    "absolute form": b"GET http://example.org/p/%41?q HTTP/1.1\r\nHost: example.org\r\n\r\n",
    "headers": b"GET / HTTP/1.1\r\nHost: a\r\nX-Thing:  one\r\nx-thing: two\r\nCookie: a=b\r\nCookie: c=d\r\nEmpty:\r\n\r\n",
    "latin-1 value": b"GET / HTTP/1.1\r\nHost: a\r\nX-Name: caf\xe9\r\n\r\n",
    "post": b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Type: text/plain\r\n\r\nabc",
    "delete": b"DELETE /p HTTP/1.1\r\nHost: a\r\n\r\n",
    "purge": b"PURGE /p HTTP/1.1\r\nHost: a\r\n\r\n",
    "many": b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"X-%d: %d\r\n" % (i, i) for i in range(90)) + b"\r\n",
    "forwarded": b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4, 10.0.0.1\r\nX-Forwarded-Proto: https\r\n\r\n",
}


def recorder():
    scopes = []

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            return
        scopes.append(scope)
        await text()(scope, receive, send)

    return app, scopes


async def scopes_of_uvicorn(requests, **options):
    import uvicorn

    app, scopes = recorder()
    with socket.create_server(("127.0.0.1", 0)) as sock:
        config = uvicorn.Config(app, lifespan="off", log_level="critical", http="httptools", ws="none", **options)
        server = uvicorn.Server(config)
        server.install_signal_handlers = lambda: None
        task = asyncio.create_task(server._serve(sockets=[sock]))
        while not server.started:
            await asyncio.sleep(0.01)
        for request in requests:
            reader, writer = await asyncio.open_connection(*sock.getsockname())
            writer.write(request)
            await reader.readuntil(b"\r\n\r\n")
            writer.close()
        port = sock.getsockname()[1]
        server.should_exit = True
        await task
    return [comparable(scope, port) for scope in scopes]


def comparable(scope, port):
    """Without what differs by nature: ports, and the keys of later versions of the specification."""
    scope = dict(scope)
    assert scope["server"] == ("127.0.0.1", port)
    assert type(scope["server"][1]) is int
    assert type(scope["client"][1]) is int
    assert scope.pop("asgi") == {"version": "3.0", "spec_version": scope.pop("expected_version", "2.3")}
    scope.pop("extensions", None)
    scope["server"] = scope["server"][0]
    scope["client"] = scope["client"][0]
    return scope


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize(
    "options",
    [{}, {"root_path": "/api"}, {"forwarded": "*"}, {"forwarded": ["10.0.0.0/8", "127.0.0.1"]}, {"forwarded": ["::1"]}],
    ids=["plain", "root_path", "trust all", "trust some", "trust others"],
)
def test_scope_is_that_of_uvicorn(run, serve_app, name, options):
    pytest.importorskip("uvicorn")
    pytest.importorskip("httptools")
    app, scopes = recorder()
    forwarded = options.get("forwarded", [])
    root_path = options.get("root_path", "")
    served = serve_app(app, state={}, root_path=root_path, trusted=forwarded)

    async def main():
        for _ in range(3):  # a head that comes again is made in another way
            await served.ask(REQUESTS[name])
        return await scopes_of_uvicorn(
            [REQUESTS[name]], root_path=root_path, proxy_headers=bool(forwarded), forwarded_allow_ips=forwarded
        )

    theirs = run(main())
    assert len(scopes) == 3
    types = {key: type(value) for key, value in theirs[0].items()}
    for scope in scopes:
        ours = comparable(dict(scope, expected_version="2.5"), served.sock.getsockname()[1])
        assert [ours] == theirs
        assert {key: type(value) for key, value in ours.items()} == types
        assert all(type(pair) is tuple and [type(part) for part in pair] == [bytes, bytes] for pair in scope["headers"])


@pytest.mark.parametrize(
    "forwarded_for, client",
    [
        ("1.2.3.4", ("1.2.3.4", 0)),
        ("1.2.3.4:80", ("1.2.3.4", 80)),
        ("[2001:db8::1]:443", ("2001:db8::1", 443)),
        ("2001:db8::1", ("2001:db8::1", 0)),
        ("9.9.9.9, 127.0.0.1", ("9.9.9.9", 0)),
        ("127.0.0.1", ("127.0.0.1", 0)),
        ("evil, 8.8.8.8:x", ("8.8.8.8:x", 0)),
        (" , ", None),
    ],
)
def test_forwarded_client(run, serve_app, forwarded_for, client):
    app, scopes = recorder()
    served = serve_app(app, trusted=["127.0.0.0/8"])
    run(served.ask(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: %s\r\n\r\n" % forwarded_for.encode()))
    if client is None:
        assert scopes[0]["client"][0] == "127.0.0.1"
    else:
        assert scopes[0]["client"] == client


def test_several_forwarded_headers_are_one_list(run, serve_app):
    app, scopes = recorder()
    served = serve_app(app, trusted=["127.0.0.1", "10.0.0.0/8"])
    run(served.ask(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\nX-Forwarded-For: 10.1.1.1\r\n\r\n"))
    assert scopes[0]["client"] == ("1.2.3.4", 0)


def test_unix_socket_has_a_path_and_no_client(run, serve_app, tmp_path):
    app, scopes = recorder()
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(tmp_path / "socket"))
    sock.listen()
    served = serve_app(app, sock=sock)
    run(served.ask())
    assert scopes[0]["server"] == (str(tmp_path / "socket"), None)
    assert scopes[0]["client"] is None


def test_ipv6_addresses_have_two_parts(run, serve_app):
    app, scopes = recorder()
    try:
        sock = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 here")
    served = serve_app(app, sock=sock)
    run(served.ask())
    assert scopes[0]["server"] == sock.getsockname()[:2]
    assert scopes[0]["client"][0] == "::1"
    assert len(scopes[0]["client"]) == 2


def test_state_is_a_copy_for_each_request(run, serve_app):
    app, scopes = recorder()
    state = {"pool": object(), "list": []}
    served = serve_app(app, state=state)
    run(served.ask_many(GET * 2, 2))
    first, second = (scope["state"] for scope in scopes)
    assert first == second == state
    assert first is not second
    assert first is not state
    assert first["list"] is state["list"]
    state["later"] = 1
    run(served.ask())
    assert scopes[2]["state"]["later"] == 1


def test_scope_has_no_state_without_lifespan(run, serve_app):
    app, scopes = recorder()
    served = serve_app(app)
    run(served.ask())
    assert "state" not in scopes[0]


def test_scopes_share_nothing_that_an_application_writes_to(run, serve_app):
    scopes = []

    async def app(scope, receive, send):
        scopes.append({key: dict(scope[key]) for key in ("asgi", "extensions")} | {"headers": list(scope["headers"])})
        scopes[-1]["keys"] = list(scope)
        scopes[-1]["path"] = scope["path"]
        scope["asgi"]["x"] = scope["extensions"]["x"] = 1
        scope["headers"].append((b"x", b"y"))
        scope["new"] = 1
        scope["path"] = "/elsewhere"
        del scope["raw_path"]
        await text()(scope, receive, send)

    served = serve_app(app, trusted="*")
    run(served.ask_many(GET * 4, 4))
    assert scopes[0] == scopes[1] == scopes[2] == scopes[3]


def test_heads_that_differ_by_a_byte_are_not_taken_for_each_other(run, serve_app):
    app, scopes = recorder()
    served = serve_app(app)
    requests = [b"GET /%s HTTP/1.1\r\nHost: a\r\nX-A: %s\r\n\r\n" % words for words in ((b"a", b"1"), (b"b", b"1"), (b"b", b"2"))]
    run(served.ask_many(b"".join(request * 3 for request in requests), 9))
    assert [(scope["path"], scope["raw_path"], scope["headers"][1]) for scope in scopes] == [
        *[("/a", b"/a", (b"x-a", b"1"))] * 3,
        *[("/b", b"/b", (b"x-a", b"1"))] * 3,
        *[("/b", b"/b", (b"x-a", b"2"))] * 3,
    ]


def test_extensions_are_what_the_server_can(run, serve_app):
    app, scopes = recorder()
    served = serve_app(app)
    run(served.ask())
    assert scopes[0]["extensions"] == {
        "http.response.trailers": {},
        "http.response.early_hint": {},
        "http.response.pathsend": {},
        "http.response.zerocopysend": {},
    }


def test_header_tuples_are_reused_but_secrets_are_not_kept(run, serve_app):
    app, scopes = recorder()
    served = serve_app(app)
    request = b"GET / HTTP/1.1\r\nHost: a\r\nAccept: x\r\nCookie: secret\r\nAuthorization: secret\r\n\r\n"
    run(served.ask_many(request * 4, 4))
    headers = [dict(zip("hacs", scope["headers"], strict=True)) for scope in scopes]
    for first, second in itertools.combinations(headers, 2):
        assert first == second
        assert first["a"] is second["a"]
        assert first["c"] is not second["c"]
        assert first["s"] is not second["s"]


def test_scheme_and_headers_of_options(run, serve_app):
    app, scopes = recorder()
    served = serve_app(app, scheme="https", headers=[(b"X-Default", b"1")], server_header=None, date_header=False)
    response = run(served.ask())
    assert scopes[0]["scheme"] == "https"
    assert response.headers == [(b"X-Default", b"1"), (b"content-type", b"text/plain"), (b"content-length", b"5")]
