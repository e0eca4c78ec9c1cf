# SPDX-License-Identifier: MIT
"""QUIC and HTTP/3 through aioquic: a client and a server on datagrams, with timers for what gets lost."""

import asyncio

import pytest
import trustme
from stories import outcome

pytest.importorskip("aioquic")

from aioquic.asyncio import QuicConnectionProtocol, connect, serve  # noqa: E402  # after importorskip()
from aioquic.h3.connection import H3_ALPN, H3Connection  # noqa: E402  # after importorskip()
from aioquic.h3.events import DataReceived, HeadersReceived  # noqa: E402  # after importorskip()
from aioquic.quic.configuration import QuicConfiguration  # noqa: E402  # after importorskip()

BIG = 512 << 10


class HttpServer(QuicConnectionProtocol):
    """Sends the body of each request back."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.http = H3Connection(self._quic)
        self.bodies = {}

    def quic_event_received(self, event):
        for happened in self.http.handle_event(event):
            body = self.bodies.setdefault(happened.stream_id, bytearray())
            if isinstance(happened, DataReceived):
                body += happened.data
            if happened.stream_ended:
                self.http.send_headers(happened.stream_id, [(b":status", b"200")])
                self.http.send_data(happened.stream_id, bytes(body), end_stream=True)
                self.transmit()


class HttpClient(QuicConnectionProtocol):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.http = H3Connection(self._quic)
        self.answers = {}

    def quic_event_received(self, event):
        for happened in self.http.handle_event(event):
            status, body, ended = self.answers[happened.stream_id]
            if isinstance(happened, HeadersReceived):
                status.append(dict(happened.headers)[b":status"])
            elif isinstance(happened, DataReceived):
                body += happened.data
            if happened.stream_ended:
                ended.set_result((status[0], bytes(body)))

    async def post(self, body):
        stream = self._quic.get_next_available_stream_id()
        ended = asyncio.get_running_loop().create_future()
        self.answers[stream] = ([], bytearray(), ended)
        names = {b":method": b"POST", b":scheme": b"https", b":authority": b"localhost", b":path": b"/"}
        self.http.send_headers(stream, list(names.items()))
        self.http.send_data(stream, body, end_stream=True)
        self.transmit()
        return await ended


@pytest.fixture(scope="module")
def configurations(tmp_path_factory):
    """Make the configurations of a server and of its clients."""
    folder = tmp_path_factory.mktemp("quic")
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(folder / "key")
    certificate.cert_chain_pems[0].write_to_path(folder / "certificate")
    authority.cert_pem.write_to_path(folder / "authority")

    def configurations(protocols):
        server = QuicConfiguration(is_client=False, alpn_protocols=protocols)
        server.load_cert_chain(folder / "certificate", folder / "key")
        client = QuicConfiguration(alpn_protocols=protocols, server_name="localhost")
        client.load_verify_locations(str(folder / "authority"))
        return server, client

    return configurations


async def listen(configuration, **options):
    """A server, and the port it got."""
    server = await serve("127.0.0.1", 0, configuration=configuration, **options)
    return server, server._transport.get_extra_info("sockname")[1]


def test_http3(same_story, configurations):
    async def scene():
        server_configuration, client_configuration = configurations(H3_ALPN)
        server, port = await listen(server_configuration, create_protocol=HttpServer)

        async def visit(number):
            async with connect(
                "127.0.0.1", port, configuration=client_configuration, create_protocol=HttpClient
            ) as client:
                return await asyncio.gather(*(client.post(b"%d/%d" % (number, turn)) for turn in range(20)))

        answers = await asyncio.gather(*(visit(number) for number in range(5)))
        server.close()
        return answers

    assert same_story(scene) == [[(b"200", b"%d/%d" % (n, turn)) for turn in range(20)] for n in range(5)]


def test_big_streams(same_story, configurations):
    payload = bytes(range(256)) * (BIG // 256)

    async def scene():
        server_configuration, client_configuration = configurations(["echo"])
        echoing = set()

        async def echo(reader, writer):
            writer.write(await reader.read())
            writer.write_eof()

        def accept(reader, writer):
            task = asyncio.ensure_future(echo(reader, writer))
            echoing.add(task)

        server, port = await listen(server_configuration, stream_handler=accept)
        async with connect("127.0.0.1", port, configuration=client_configuration) as client:
            reader, writer = await client.create_stream()
            writer.write(payload)
            writer.write_eof()
            back = await reader.read()
            await asyncio.gather(*echoing)
        server.close()
        return back == payload

    assert same_story(scene) is True


def test_nobody_answers(same_story, configurations):
    async def scene():
        server_configuration, client_configuration = configurations(["echo"])
        server, port = await listen(server_configuration)
        server.close()
        client_configuration.idle_timeout = 0.3

        async def visit():
            async with connect("127.0.0.1", port, configuration=client_configuration) as client:
                await client.ping()

        return await outcome(visit())

    assert same_story(scene) == "ConnectionError"
