# SPDX-License-Identifier: MIT
"""HTTPS and WSS: by libssl itself, and through ssl.SSLObject where that has to be."""

import asyncio
import concurrent.futures
import contextlib
import http.client
import signal
import socket
import ssl

import pytest
from asgi_peer import GET, LAST_GET, Served, read_response, text

trustme = pytest.importorskip("trustme")

pytestmark = pytest.mark.cxxloop_only("asyncio has no web server")

VERSIONS = {0x0303: ssl.TLSVersion.TLSv1_2, 0x0304: ssl.TLSVersion.TLSv1_3}


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture(params=["libssl", "python"])
def engine(request):
    _web = pytest.importorskip("cxxloop._web")
    if request.param == "libssl" and _web.Server.tls_library() is None:
        pytest.skip("the libssl of this Python can be used through the module ssl only")
    return request.param


@pytest.fixture
def server_context(authority):
    return make_server_context(authority)


def make_server_context(authority, *names):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*(names or ("localhost", "127.0.0.1"))).configure_cert(context)
    context.set_alpn_protocols(["http/1.1"])
    return context


def make_client_context(authority, version=None, identity=None):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.set_alpn_protocols(["h2", "http/1.1"])
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if identity is not None:
        identity.configure_cert(context)
    return context


@pytest.fixture(params=VERSIONS, ids=["TLSv1.2", "TLSv1.3"])
def version(request):
    return request.param


@pytest.fixture
def client_context(authority, version):
    return make_client_context(authority, VERSIONS[version])


class Secured(Served):
    """A server of HTTPS, and clients that trust it."""

    def __init__(self, loop, app, context, client_context, engine="auto", **options):
        self.client_context = client_context
        super().__init__(loop, app, tls=context, tls_engine=engine, scheme="https", **options)

    async def connect(self, name="localhost"):
        return await asyncio.open_connection(*self.sock.getsockname()[:2], ssl=self.client_context, server_hostname=name)


@pytest.fixture
def secure(loop, server_context, client_context, engine):
    """Serves an application by HTTPS on the loop of the test."""
    servers = []

    def secure(app, **options):
        given = {"context": server_context, "client_context": client_context, "engine": engine, **options}
        servers.append(Secured(loop, app, **given))
        return servers[-1]

    yield secure
    for server in servers:
        server.close()


def recording():
    scopes = []

    async def app(scope, receive, send):
        scopes.append(scope)
        await text()(scope, receive, send)

    return app, scopes


async def echo(scope, receive, send):
    body = b""
    while (event := await receive()).get("more_body"):
        body += event["body"]
    body += event["body"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


def test_scope_says_what_secures_it(run, secure, engine, version, server_context):
    app, scopes = recording()

    async def main():
        served = secure(app)
        reader, writer = await served.connect()
        for _ in range(2):
            writer.write(GET)
            assert (await read_response(reader)).body == b"hello"
        tls = writer.get_extra_info("ssl_object")
        assert tls.selected_alpn_protocol() == "http/1.1"
        writer.close()
        return tls.cipher(), tls.getpeercert(True)

    cipher, certificate = run(main())
    (suite,) = (suite["id"] & 0xFFFF for suite in server_context.get_ciphers() if suite["name"] == cipher[0])
    assert [scope["scheme"] for scope in scopes] == ["https", "https"]
    first, second = (scope["extensions"]["tls"] for scope in scopes)
    assert first == second and first is not second
    assert first == {
        "server_cert": ssl.DER_cert_to_PEM_cert(certificate) if engine == "libssl" else None,
        "client_cert_chain": [],
        "client_cert_name": None,
        "client_cert_error": None,
        "tls_version": version,
        "cipher_suite": suite,
    }


def test_plain_connection_has_no_tls_in_its_scope(run, serve_app):
    app, scopes = recording()
    run(serve_app(app).ask())
    assert "tls" not in scopes[0]["extensions"]


def test_pipelined_requests_are_answered_in_order(run, secure):
    async def app(scope, receive, send):
        await text(scope["path"].encode())(scope, receive, send)

    requests = b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(200))
    responses = run(secure(app).ask_many(requests, 200))
    assert [response.body for response in responses] == [b"/%d" % number for number in range(200)]


@pytest.mark.parametrize("size", [0, 1, 16383, 16384, 16385, 2_000_000])
def test_body_comes_back(run, secure, size):
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)
    request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (size, body)
    assert run(secure(echo).ask(request)).body == body


def test_request_in_records_of_one_byte(run, secure):
    async def main():
        reader, writer = await secure(echo).connect()
        for byte in b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello":
            writer.write(bytes([byte]))
            await asyncio.sleep(0)
        response = await read_response(reader)
        writer.close()
        return response.body

    assert run(main()) == b"hello"


def test_slow_reader_keeps_application_waiting(run, secure):
    sent = 0

    async def app(scope, receive, send):
        nonlocal sent
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"20000000")]})
        for _ in range(200):
            await send({"type": "http.response.body", "body": b"x" * 100_000, "more_body": True})
            sent += 1
        await send({"type": "http.response.body"})

    async def main():
        reader, writer = await secure(app).connect()
        writer.transport.pause_reading()
        writer.write(GET)
        before = -1
        while sent > before or not sent:  # until nothing moves any more
            before = sent
            await asyncio.sleep(0.05)
        assert 0 < sent < 200
        writer.transport.resume_reading()
        assert len((await read_response(reader)).body) == 20_000_000
        writer.close()

    run(main(), timeout=30)


@pytest.mark.parametrize("size", [0, 10, 3_000_000])
def test_file_of_pathsend(run, secure, tmp_path, size):
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * (size // 256) + bytes(size % 256))

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % size)]})
        await send({"type": "http.response.pathsend", "path": str(path)})

    responses = run(secure(app).ask_many(GET * 3, 3), timeout=20)
    assert [response.body for response in responses] == [path.read_bytes()] * 3


def test_websocket(run, secure):
    client = pytest.importorskip("websockets.asyncio.client")
    scopes = []

    async def app(scope, receive, send):
        scopes.append(scope)
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "bytes": event["bytes"]})

    async def main():
        served = secure(app)
        host, port = served.sock.getsockname()
        url = f"wss://localhost:{port}/"
        async with client.connect(url, host=host, ssl=served.client_context, compression=None) as websocket:
            for size in (0, 5, 70_000, 1_000_000):
                await websocket.send(b"w" * size)
                assert await websocket.recv() == b"w" * size

    run(main())
    assert scopes[0]["scheme"] == "wss"
    assert scopes[0]["extensions"]["tls"]["tls_version"] in VERSIONS


def test_client_shows_its_certificate(run, secure, authority, server_context, version):
    identity = authority.issue_cert("me@example.org", common_name="Mü, ller", organization_name="Acme")
    authority.configure_trust(server_context)
    server_context.verify_mode = ssl.CERT_REQUIRED
    app, scopes = recording()
    run(secure(app, client_context=make_client_context(authority, VERSIONS[version], identity)).ask())
    tls = scopes[0]["extensions"]["tls"]
    assert tls["client_cert_chain"][0] == identity.cert_chain_pems[0].bytes().decode()
    assert tls["client_cert_name"].startswith("CN=Mü\\, ller,") and ",O=Acme" in tls["client_cert_name"]
    assert tls["client_cert_error"] is None


def test_both_engines_name_a_client_alike(run, loop, authority, server_context):
    identity = authority.issue_cert("me@example.org", common_name='#a+b <"c\\> ', organization_unit_name="unit; one")
    authority.configure_trust(server_context)
    server_context.verify_mode = ssl.CERT_OPTIONAL
    app, scopes = recording()
    client_context = make_client_context(authority, identity=identity)
    servers = [Secured(loop, app, server_context, client_context, engine) for engine in ("auto", "python")]
    for served in servers:
        run(served.ask())
    for served in servers:
        served.close()
    ours, pythons = ({**scope["extensions"]["tls"], "server_cert": None} for scope in scopes)
    assert ours == pythons


def test_client_without_its_certificate_is_refused(run, secure, authority, server_context):
    authority.configure_trust(server_context)
    server_context.verify_mode = ssl.CERT_REQUIRED
    app, scopes = recording()
    served = secure(app)

    async def main():
        with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
            await served.ask()
        await served.quiet()

    run(main())
    assert scopes == [] and served.server.counters()["handshakes_failed"] == 1


def test_name_chooses_the_certificate(run, secure, authority, server_context):
    other = make_server_context(authority, "other.example")
    names = []

    def choose(connection, name, context):
        names.append(name)
        assert context is server_context
        if name == "other.example":
            connection.context = other

    server_context.sni_callback = choose

    async def main():
        served = secure(text(), engine="auto")
        for name in ("other.example", "localhost"):
            reader, writer = await served.connect(name)
            assert ("DNS", name) in writer.get_extra_info("peercert")["subjectAltName"]
            writer.write(LAST_GET)
            assert (await read_response(reader)).body == b"hello"
            writer.close()

    run(main())
    assert names == ["other.example", "localhost"]


def test_callback_for_names_may_be_set_while_handshakes_are_under_way(run, secure, server_context, authority):
    names = []

    async def main():
        served = secure(text())
        early = socket.create_connection(served.sock.getsockname())
        early.setblocking(False)
        while served.server.counters()["connections"] == 0:
            await asyncio.sleep(0.001)
        server_context.sni_callback = lambda connection, name, context: names.append(name)
        reader, writer = await asyncio.open_connection(sock=early, ssl=served.client_context, server_hostname="localhost")
        writer.write(LAST_GET)
        assert (await read_response(reader)).body == b"hello"
        writer.close()
        assert (await served.ask()).body == b"hello"

    run(main())
    assert names == ["localhost", "localhost"]


def test_keys_are_logged(run, secure, server_context, tmp_path):
    server_context.keylog_filename = str(tmp_path / "keys")
    run(secure(text()).ask())
    assert (tmp_path / "keys").read_text().count("CLIENT_") >= 1


def contexts_without_certificates():
    """Of a server and a client that know each other by a key."""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    for context in (server, client):
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("PSK")
    return server, client


@pytest.mark.skipif(not hasattr(ssl.SSLContext, "set_psk_server_callback"), reason="new in Python 3.13")
def test_key_that_both_sides_know(run, secure):
    server, client = contexts_without_certificates()
    asked = []
    server.set_psk_server_callback(lambda identity: asked.append(identity) or b"secret")
    client.set_psk_client_callback(lambda hint: ("me", b"secret"))
    assert run(secure(text(), context=server, client_context=client).ask()).body == b"hello"
    assert asked == ["me"]


@pytest.mark.skipif(not hasattr(ssl.SSLContext, "set_psk_server_callback"), reason="new in Python 3.13")
def test_function_of_the_context_may_write_to_another_connection(run, secure):
    """What it writes must not be mixed with what the handshake that has called it writes."""
    server, client = contexts_without_certificates()
    streams = []

    async def app(scope, receive, send):
        if scope["path"] == "/":
            return await text()(scope, receive, send)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"400001")]})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        streams.append(send)
        await receive()
        await receive()

    def key_of(identity):
        for send in streams:
            with contextlib.suppress(StopIteration):  # what would have to wait is written, too
                send({"type": "http.response.body", "body": b"b" * 200_000, "more_body": True}).__await__().send(None)
        return b"secret"

    server.set_psk_server_callback(key_of)
    client.set_psk_client_callback(lambda hint: ("me", b"secret"))

    async def main():
        served = secure(app, context=server, client_context=client)
        reader, writer = await served.connect()
        writer.write(GET.replace(b"/", b"/stream", 1))
        await reader.readuntil(b"\r\n\r\na")
        assert (await served.ask()).body == b"hello"
        assert (await served.ask()).body == b"hello"
        assert await reader.readexactly(400_000) == b"b" * 400_000
        writer.close()

    run(main())


def test_session_is_resumed(run, secure, version, authority):
    reused = []

    # asyncio cannot resume a session: a client in a thread.
    def ask(address, context, session):
        with socket.create_connection(address, timeout=10) as plain:
            with context.wrap_socket(plain, server_hostname="localhost", session=session) as client:
                client.sendall(LAST_GET)
                while client.recv(4096):
                    pass
                reused.append(client.session_reused)
                return client.session

    async def main():
        served = secure(text())
        session = None
        for _ in range(2):
            session = await asyncio.to_thread(ask, served.sock.getsockname(), served.client_context, session)

    run(main())
    assert reused == [False, True]


def test_end_is_told_by_close_notify(run, secure):
    def ask(address, context):
        with socket.create_connection(address, timeout=10) as plain:
            with context.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False) as client:
                client.sendall(LAST_GET)
                data = b""
                while piece := client.recv(4096):
                    data += piece
                return data

    async def main():
        served = secure(text())
        return await asyncio.to_thread(ask, served.sock.getsockname(), served.client_context)

    assert run(main()).endswith(b"hello")


def test_client_that_has_ended_its_side_gets_its_answer(run, secure):
    def ask(address, context):
        with socket.create_connection(address, timeout=10) as plain:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
            is_secured = False
            while not is_secured:
                try:
                    client.do_handshake()
                    is_secured = True
                except ssl.SSLWantReadError:
                    plain.sendall(outgoing.read())
                    incoming.write(plain.recv(65536))
            client.write(GET)
            with pytest.raises(ssl.SSLWantReadError):
                client.unwrap()
            plain.sendall(outgoing.read())
            answer = b""
            while not answer.endswith(b"hello"):
                incoming.write(plain.recv(65536) or pytest.fail("no answer"))
                try:
                    answer += client.read()
                except ssl.SSLWantReadError:
                    pass
            return answer

    async def main():
        served = secure(text())
        return await asyncio.to_thread(ask, served.sock.getsockname(), served.client_context)

    if ssl.OPENSSL_VERSION_INFO < (1, 1, 1):
        pytest.skip("its clients do not read after they have ended their side")
    assert run(main()).startswith(b"HTTP/1.1 200 ")


async def read_raw(served, data):
    reader, writer = await asyncio.open_connection(*served.sock.getsockname())
    writer.write(data)
    try:
        return await reader.read()
    finally:
        writer.close()


def test_plain_http_is_told_so(run, secure):
    answer = run(read_raw(secure(text()), GET))
    assert answer.startswith(b"HTTP/1.1 400 ") and b"HTTPS" in answer


def test_rubbish_ends_with_an_alert(run, secure):
    served = secure(text())
    assert run(read_raw(served, b"\x16\x03\x01\x00\x05\xff\xff\xff\xff\xff"))[:1] == b"\x15"
    assert served.server.counters()["handshakes_failed"] == 1
    assert run(served.ask()).body == b"hello"


def test_handshake_that_takes_too_long_is_ended(run, secure):
    served = secure(text(), handshake_seconds=0.1)
    assert run(read_raw(served, b"\x16\x03")) == b""
    assert served.server.counters()["limit_handshake_time"] == 1


def test_many_connections_at_once(run, secure):
    async def main():
        served = secure(echo)
        request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n" + b"m" * 50_000
        responses = await asyncio.gather(*(served.ask(request) for _ in range(40)))
        assert all(response.body == b"m" * 50_000 for response in responses)
        await served.quiet()

    run(main(), timeout=30)


def test_server_closes_under_open_connections(run, secure):
    async def main():
        served = secure(text())
        reader, writer = await served.connect()
        writer.write(GET)
        await read_response(reader)
        served.server.close()
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError, ssl.SSLError)):
            writer.write(GET)
            await read_response(reader)
        writer.close()

    run(main())


def test_changed_certificate_is_shown_to_the_next_client(run, secure, server_context, authority):
    async def main():
        served = secure(text())
        certificates = []
        for _ in range(2):
            _, writer = await served.connect()
            certificates.append(writer.get_extra_info("ssl_object").getpeercert(True))
            writer.close()
            authority.issue_cert("localhost", "127.0.0.1").configure_cert(server_context)
        return certificates

    first, second = run(main())
    assert first != second


class OwnContext(ssl.SSLContext):
    """Makes connections by itself."""

    made = 0

    def wrap_bio(self, *args, **keywords):
        self.made += 1
        return super().wrap_bio(*args, **keywords)


def test_context_of_a_class_of_its_own_makes_the_connections(run, loop, authority):
    context = OwnContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    served = Secured(loop, text(), context, make_client_context(authority))
    before = context.made
    assert run(served.ask()).body == b"hello"
    assert context.made == before + 1
    served.close()


def test_libssl_is_pythons(loop):
    from cxxloop import _web

    assert _web.Server.tls_library() in (ssl.OPENSSL_VERSION, None)


@pytest.mark.parametrize(
    ("tls", "error"), [(object(), TypeError), (ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLError)], ids=["object", "client"]
)
def test_wrong_context_is_refused(loop, tls, error):
    with pytest.raises(error):
        Served(loop, text(), tls=tls)


# --- the command -------------------------------------------------------------------------------------------------------------


def write_identity(authority, folder):
    identity = authority.issue_cert("localhost")
    identity.private_key_pem.write_to_path(folder / "key.pem")
    (folder / "cert.pem").write_bytes(b"".join(pem.bytes() for pem in identity.cert_chain_pems))
    return identity.cert_chain_pems[0].bytes().decode()


def ask_securely(authority, port):
    """(body, the server's certificate)"""
    connection = http.client.HTTPSConnection("localhost", port, timeout=20, context=make_client_context(authority))
    try:
        connection.request("GET", "/")
        certificate = ssl.DER_cert_to_PEM_cert(connection.sock.getpeercert(True))
        return connection.getresponse().read().decode(), certificate
    finally:
        connection.close()


FLAGS = ("--ssl-certfile", "cert.pem", "--ssl-keyfile", "key.pem", "--host", "localhost")


def test_command_serves_https(serve, authority, tmp_path, engine):
    certificate = write_identity(authority, tmp_path)
    program = serve(*FLAGS, "--ssl-engine", engine)
    port = int(program.wait_for(r"serving on https://localhost:(\d+) \(Press")[1])
    body, shown = ask_securely(authority, port)
    assert body == str(program.process.pid) and shown == certificate


def test_sighup_reads_the_certificate_anew(serve, authority, tmp_path):
    write_identity(authority, tmp_path)
    program = serve(*FLAGS, "--workers", "1")
    port = int(program.wait_for(r"serving on https://localhost:(\d+) \(Press")[1])
    before, _ = ask_securely(authority, port)
    certificate = write_identity(authority, tmp_path)
    program.send(signal.SIGHUP)
    program.wait_for("Finished server process")
    after, shown = ask_securely(authority, port)
    assert after != before and shown == certificate
    assert program.end() == 0


def test_program_gives_its_own_context(script, authority, tmp_path):
    write_identity(authority, tmp_path)
    program = script(
        """
        import ssl
        import cxxloop.web
        from app import app

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain("cert.pem", "key.pem")
        cxxloop.web.run(app, host="localhost", port=0, ssl_context=context)
        """
    )
    port = int(program.wait_for(r"serving on https://localhost:(\d+) \(Press")[1])
    assert ask_securely(authority, port)[0] == str(program.process.pid)


def make_established_pair(server_context, client_context):
    """Two ends of a connection that Python's ssl has made, without a socket."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname="localhost")
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    for end in (client, server, client, server):
        with contextlib.suppress(ssl.SSLWantReadError):
            end.do_handshake()
    return client, server


def test_a_client_that_speaks_no_tls_is_no_error_of_another_connection_of_the_thread(run, secure, server_context, client_context):
    client, server = make_established_pair(server_context, client_context)

    async def main():
        served = secure(text())
        reader, writer = await asyncio.open_connection(*served.sock.getsockname()[:2])
        writer.write(b"\x16\x03\x01\x00\x05hello")
        await reader.read()
        writer.close()
        await served.quiet()

    run(main())
    for end in (server, client):
        with pytest.raises(ssl.SSLWantReadError):
            end.read(1)


def test_request_is_not_overwritten_by_one_that_comes_while_its_application_turns_the_loop(loop, secure, client_context):
    def app(scope, receive, send):
        if scope["path"] == "/outer":
            clients.append(threads.submit(ask, b"POST /inner HTTP/1.1\r\nHost: a\r\nContent-Length: 400\r\nConnection: close\r\n\r\n" + b"s" * 400))
            while not paths:
                loop._run_once()
        paths.append(scope["path"])
        return answer(scope, receive, send)

    async def answer(scope, receive, send):
        await echo(scope, receive, send)
        if scope["path"] == "/last":
            loop.call_soon(loop.stop)

    def ask(requests):
        with (
            socket.create_connection(served.sock.getsockname()[:2], timeout=10) as raw,
            client_context.wrap_socket(raw, server_hostname="localhost") as client,
        ):
            client.sendall(requests)
            with client.makefile("rb") as answers:
                return answers.read()

    paths = []
    served = secure(app)
    outer = b"POST /outer HTTP/1.1\r\nHost: a\r\nContent-Length: 26\r\n\r\nabcdefghijklmnopqrstuvwxyz"
    last = b"POST /last HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: close\r\n\r\n123"
    with concurrent.futures.ThreadPoolExecutor() as threads:
        clients = [threads.submit(ask, outer + last)]
        loop.run_forever()
        loop.run_until_complete(asyncio.sleep(0))
        served.close()
        own, other = (client.result(10) for client in clients)
    assert paths == ["/inner", "/outer", "/last"]
    assert b"\r\n\r\nabcdefghijklmnopqrstuvwxyz" in own
    assert own.endswith(b"\r\n\r\n123")
    assert other.endswith(b"\r\n\r\n" + b"s" * 400)
