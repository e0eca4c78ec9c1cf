# SPDX-License-Identifier: MIT
"""The PROXY protocol: whose address an application sees. Every form of the header: tests/cpp/web/core/proxy_protocol_test.cc."""

import socket
import ssl
import struct

import pytest
from asgi_peer import GET, read_response

pytestmark = pytest.mark.cxxloop_only

LINE = b"PROXY TCP4 192.0.2.7 192.0.2.1 5000 80\r\n"
SIX = socket.inet_pton(socket.AF_INET6, "2001:db8::7")
BINARY = b"\r\n\r\n\0\r\nQUIT\n" + struct.pack("!BBH16s16sHH", 0x21, 0x21, 36, SIX, SIX, 5000, 80)
LOCAL = b"\r\n\r\n\0\r\nQUIT\n" + struct.pack("!BBH", 0x20, 0, 0)
OF_UNIX_SOCKET = b"\r\n\r\n\0\r\nQUIT\n" + struct.pack("!BBH", 0x21, 0x31, 216) + bytes(216)


async def show_client(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": repr(scope["client"]).encode()})


@pytest.fixture
def proxied(serve_app):
    """A server that trusts the proxies of the loopback address."""

    def proxied(**options):
        return serve_app(show_client, **{"proxy_protocol": True, "proxies": ["127.0.0.1"], **options})

    return proxied


@pytest.mark.parametrize(
    ("header", "client"),
    [
        (LINE, "('192.0.2.7', 5000)"),
        (BINARY, "('2001:db8::7', 5000)"),
        (OF_UNIX_SOCKET, "None"),
    ],
    ids=["line", "binary", "unix"],
)
def test_application_sees_the_client_of_the_proxy(loop, proxied, header, client):
    served = proxied()
    assert loop.run_until_complete(served.ask(header + GET)).body.decode() == client


@pytest.mark.parametrize("header", [LOCAL, b"PROXY UNKNOWN\r\n"], ids=["binary", "line"])
def test_proxy_that_speaks_for_itself_is_the_client(loop, proxied, header):
    async def main():
        reader, writer = await served.connect()
        writer.write(header + GET)
        response = await read_response(reader)
        assert response.body.decode() == repr(writer.get_extra_info("sockname"))
        writer.close()

    served = proxied()
    loop.run_until_complete(main())


def test_header_holds_for_all_requests_of_a_connection(loop, proxied):
    served = proxied()
    responses = loop.run_until_complete(served.ask_many(LINE + GET * 3, 3))
    assert [response.body for response in responses] == [b"('192.0.2.7', 5000)"] * 3


def test_connection_without_a_header_is_closed(loop, proxied):
    async def main():
        reader, writer = await served.connect()
        writer.write(GET)
        try:
            assert await reader.read() == b""
        except ConnectionResetError:
            pass
        writer.close()
        assert served.server.counters()["bad_requests"] == 1

    served = proxied()
    loop.run_until_complete(main())


@pytest.mark.parametrize("options", [{"proxies": ["192.0.2.9"]}, {"proxy_protocol": False}])
def test_nobody_else_is_believed(loop, proxied, options):
    served = proxied(**options)
    assert loop.run_until_complete(served.ask(LINE + GET)).status == 400


def test_x_forwarded_for_is_believed_by_the_client_of_the_header(loop, proxied):
    request = GET[:-2] + b"X-Forwarded-For: 203.0.113.5\r\n\r\n"
    served = proxied(trusted=["127.0.0.1"])
    assert loop.run_until_complete(served.ask(LINE + request)).body == b"('192.0.2.7', 5000)"
    served = proxied(trusted=["192.0.2.0/24"])
    assert loop.run_until_complete(served.ask(LINE + request)).body == b"('203.0.113.5', 0)"


def test_unix_socket_is_a_proxys(loop, proxied, tmp_path):
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(tmp_path / "s"))
    sock.listen()
    served = proxied(sock=sock)
    assert loop.run_until_complete(served.ask(LINE + GET)).body == b"('192.0.2.7', 5000)"


@pytest.mark.parametrize(("proxies", "refused"), [([], True), (["127.0.0.0/8"], False), (["*"], False), (["127.0.0.1"], False)])
def test_connections_of_proxies_do_not_count_for_their_address(loop, proxied, proxies, refused):
    async def main():
        connections = [await served.connect() for _ in range(3)]
        for _, writer in connections:
            writer.write(GET)
        statuses = [(await read_response(reader)).status for reader, _ in connections]
        for _, writer in connections:
            writer.close()
        return statuses

    served = proxied(proxies=proxies, proxy_protocol=False, connections_per_address_max=2)
    assert loop.run_until_complete(main()) == [200, 200, 503 if refused else 200]


def test_command_has_the_flag(serve):
    program = serve("--proxy-protocol", "--access-log")
    with socket.create_connection(("127.0.0.1", program.port())) as client:
        client.sendall(LINE + GET)
        program.wait_for(r'192\.0\.2\.7:5000 - "GET / HTTP/1\.1" 200')


@pytest.mark.parametrize("separately", [True, False])
def test_header_comes_before_the_handshake_of_tls(serve, tmp_path, separately):
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(tmp_path / "all.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    program = serve("--proxy-protocol", "--ssl-certfile", "all.pem")
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with socket.create_connection(("127.0.0.1", program.port())) as client:
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        if separately:
            client.sendall(LINE)
            client.sendall(outgoing.read())
        else:
            client.sendall(LINE + outgoing.read())
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                incoming.write(client.recv(65536))
        tls.write(GET)
        client.sendall(outgoing.read())
        program.wait_for(r'192\.0\.2\.7:5000 - "GET / HTTP/1\.1" 200')
