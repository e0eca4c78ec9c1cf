# SPDX-License-Identifier: MIT
"""create_connection, create_unix_connection, connect_accepted_socket: what they take, refuse and leave behind."""

import asyncio
import contextlib
import gc
import os
import pathlib
import re
import secrets
import socket
import ssl
import sys

import pytest
from recorder import LOOPBACK, Recorder, receive, tcp_pair


@pytest.fixture
def listener():
    with socket.create_server((LOOPBACK, 0)) as sock:
        yield sock


@pytest.fixture
def refused_port():
    """A port nobody listens on: bound, so that nobody else gets it meanwhile."""
    with socket.socket() as sock:
        sock.bind((LOOPBACK, 0))
        yield sock.getsockname()[1]


@pytest.fixture
def resolve(loop, monkeypatch):
    """Makes the loop's resolver answer with the given addresses."""

    def resolve(*addresses):
        async def getaddrinfo(host, port, **_):
            family = {True: socket.AF_INET6, False: socket.AF_INET}
            return [(family[":" in a[0]], socket.SOCK_STREAM, socket.IPPROTO_TCP, "", a) for a in addresses]

        monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)

    return resolve


async def finish(transport, protocol):
    transport.abort()
    await protocol.until_event("connection_lost")


def test_by_name_and_by_number(loop, run, listener):
    async def main():
        port = listener.getsockname()[1]
        for host, given in ((LOOPBACK, port), ("localhost", port), (LOOPBACK, str(port))):
            transport, protocol = await loop.create_connection(Recorder, host, given, family=socket.AF_INET)
            assert protocol.transport is transport
            assert transport.get_extra_info("peername") == (LOOPBACK, port)
            await finish(transport, protocol)

    run(main())


def test_local_addr(loop, run, listener):
    async def main():
        address = listener.getsockname()
        transport, protocol = await loop.create_connection(Recorder, *address, local_addr=("127.0.0.2", 0))
        assert transport.get_extra_info("sockname")[0] == "127.0.0.2"
        accepted, peername = listener.accept()
        accepted.close()
        assert peername[0] == "127.0.0.2"
        await finish(transport, protocol)

    run(main())


def test_local_addr_that_cannot_be_bound(loop, run, listener, open_fds):
    async def main():
        before = open_fds()
        address = listener.getsockname()
        text = f"error while attempting to bind on address {address!r}: "
        with pytest.raises(OSError, match=re.escape(text)) as caught:
            await loop.create_connection(Recorder, *address, local_addr=address)
        assert "address already in use" in str(caught.value)
        assert open_fds() == before

    run(main())


def test_given_socket(loop, run):
    async def main():
        with tcp_pair() as (left, right):
            left.setblocking(True)
            transport, protocol = await loop.create_connection(Recorder, sock=left)
            assert left.gettimeout() == 0
            transport.write(b"x")
            assert await receive(right, 1) == b"x"
            await finish(transport, protocol)
            await asyncio.sleep(0)
            assert left.fileno() == -1

    run(main())


def test_given_unix_socket(loop, run, socket_pair):
    async def main():
        left, right = socket_pair()
        transport, protocol = await loop.create_connection(Recorder, sock=left)
        right.send(b"hello")
        await protocol.until_bytes(5)
        await finish(transport, protocol)

    run(main())


def test_refused(loop, run, refused_port, open_fds):
    async def main():
        before = open_fds()
        with pytest.raises(ConnectionRefusedError) as caught:
            await loop.create_connection(Recorder, LOOPBACK, refused_port)
        assert str(caught.value) == f"[Errno 111] Connect call failed ('127.0.0.1', {refused_port})"
        assert caught.value.errno == 111
        assert open_fds() == before

    run(main())


def test_next_address_is_tried(loop, run, listener, refused_port, resolve):
    async def main():
        resolve((LOOPBACK, refused_port), listener.getsockname())
        transport, protocol = await loop.create_connection(Recorder, "two.test", 80)
        assert transport.get_extra_info("peername") == listener.getsockname()
        await finish(transport, protocol)

    run(main())


def test_errors_of_all_addresses(loop, run, refused_port, resolve):
    async def main():
        resolve((LOOPBACK, refused_port), ("127.0.0.2", refused_port))
        texts = [f"[Errno 111] Connect call failed ('{a}', {refused_port})" for a in (LOOPBACK, "127.0.0.2")]
        with pytest.raises(OSError, match=re.escape(f"Multiple exceptions: {texts[0]}, {texts[1]}")):
            await loop.create_connection(Recorder, "two.test", 80)
        resolve((LOOPBACK, refused_port), (LOOPBACK, refused_port))
        with pytest.raises(ConnectionRefusedError, match=re.escape(texts[0])):
            await loop.create_connection(Recorder, "same.test", 80)

    run(main())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="new in Python 3.12")
def test_all_errors(loop, run, refused_port, resolve):
    async def main():
        resolve((LOOPBACK, refused_port), ("127.0.0.2", refused_port))
        with pytest.raises(ExceptionGroup, match="create_connection failed") as caught:
            await loop.create_connection(Recorder, "two.test", 80, all_errors=True)
        assert [type(e) for e in caught.value.exceptions] == [ConnectionRefusedError] * 2

    run(main())


def test_no_address(loop, run, resolve):
    async def main():
        resolve()
        with pytest.raises(OSError, match=re.escape("getaddrinfo() returned empty list")):
            await loop.create_connection(Recorder, "none.test", 80)

    run(main())


def test_unknown_name(loop, run):
    async def main():
        with pytest.raises(socket.gaierror):
            await loop.create_connection(Recorder, "no-such-host.invalid", 80)

    run(main())


def test_happy_eyeballs_starts_the_next_before_the_first_ends(loop, run, listener, resolve, open_fds):
    """A listener whose queue is full answers nothing: only the second address can win."""

    async def main():
        with socket.create_server(("127.0.0.3", 0), backlog=0) as deaf, contextlib.ExitStack() as stack:
            for _ in range(3):
                filler = stack.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(deaf.getsockname())
            resolve(deaf.getsockname(), listener.getsockname())
            before = open_fds()
            transport, protocol = await loop.create_connection(Recorder, "two.test", 80, happy_eyeballs_delay=0.02)
            assert transport.get_extra_info("peername") == listener.getsockname()
            await finish(transport, protocol)
            await asyncio.sleep(0)
            assert open_fds() == before

    run(main())


def test_happy_eyeballs_with_errors_only(loop, run, refused_port, resolve, open_fds):
    async def main():
        before = open_fds()
        resolve((LOOPBACK, refused_port), ("127.0.0.2", refused_port))
        with pytest.raises(OSError, match="Multiple exceptions"):
            await loop.create_connection(Recorder, "two.test", 80, happy_eyeballs_delay=5)
        assert open_fds() == before

    run(main())


def test_interleave(loop, run, monkeypatch, resolve):
    async def main():
        resolve(*[(f"127.0.0.{i}", 1) for i in (2, 3)], *[(f"::{i}", 1, 0, 0) for i in (2, 3)])
        tried = []

        async def sock_connect(sock, address):
            tried.append(address[0])
            raise OSError(f"no way to {address[0]}")

        monkeypatch.setattr(loop, "sock_connect", sock_connect)
        with pytest.raises(OSError, match="Multiple exceptions"):
            await loop.create_connection(Recorder, "four.test", 80)
        assert tried == ["127.0.0.2", "127.0.0.3", "::2", "::3"]
        tried.clear()
        with pytest.raises(OSError, match="Multiple exceptions"):
            await loop.create_connection(Recorder, "four.test", 80, interleave=1)
        assert tried == ["127.0.0.2", "::2", "127.0.0.3", "::3"]

    run(main())


@contextlib.contextmanager
def deaf_address():
    """An address that neither accepts nor refuses: its queue of connections is full."""
    with contextlib.ExitStack() as stack:
        deaf = stack.enter_context(socket.create_server((LOOPBACK, 0), backlog=0))
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(deaf.getsockname())
        yield deaf.getsockname()


def test_cancel_while_connecting_leaves_nothing(loop, run, open_fds):
    async def main():
        with deaf_address() as address:
            before = open_fds()
            protocols = []
            connect = asyncio.ensure_future(
                loop.create_connection(lambda: protocols.append(Recorder()) or protocols[-1], *address)
            )
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(connect, 0.05)
            assert protocols == []
            # The number is free again at once: a second close of it would hit this socket.
            with socket.socket() as other:
                gc.collect()
                await asyncio.sleep(0)
                os.fstat(other.fileno())
            assert open_fds() == before

    run(main())


def test_cancel_before_connection_made_is_told(loop, run, open_fds):
    async def main():
        before = open_fds()
        with tcp_pair() as (left, _):
            protocol = Recorder()
            connect = asyncio.ensure_future(loop.create_connection(lambda: protocol, sock=left))
            await asyncio.sleep(0)
            connect.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connect
            await protocol.until_event("connection_lost")
            await asyncio.sleep(0)
            assert protocol.events == ["connection_made", "connection_lost"]
        assert open_fds() == before

    run(main())


def test_factory_that_raises(loop, run, listener, open_fds):
    def factory():
        raise ZeroDivisionError("no protocol")

    async def main():
        before = open_fds()
        with pytest.raises(ZeroDivisionError, match="no protocol") as caught:
            await loop.create_connection(factory, *listener.getsockname())
        del caught
        gc.collect()
        # asyncio leaves the close of the socket to its destructor.
        assert open_fds() == before

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "unraisablehook", lambda unraisable: None)
        run(main())


CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
BAD_ARGUMENTS = [
    (dict(host="a", port=1, server_hostname="x"), "server_hostname is only meaningful with ssl"),
    (dict(ssl=CONTEXT), "You must set server_hostname when using ssl without a host"),
    (dict(host="", port=1, ssl=True), "You must set server_hostname when using ssl without a host"),
    (dict(host="a", port=1, ssl_handshake_timeout=1), "ssl_handshake_timeout is only meaningful with ssl"),
    (dict(host="a", port=1, ssl_shutdown_timeout=1), "ssl_shutdown_timeout is only meaningful with ssl"),
    (dict(), "host and port was not specified and no sock specified"),
]


@pytest.mark.parametrize(("arguments", "text"), BAD_ARGUMENTS)
def test_bad_arguments(loop, run, arguments, text):
    async def main():
        with pytest.raises(ValueError, match=re.escape(text)):
            await loop.create_connection(Recorder, **arguments)

    run(main())


def test_bad_sockets(loop, run):
    async def main():
        with socket.socket() as sock, socket.socket(type=socket.SOCK_DGRAM) as datagram:
            with pytest.raises(ValueError, match="host/port and sock can not be specified at the same time"):
                await loop.create_connection(Recorder, LOOPBACK, 1, sock=sock)
            with pytest.raises(ValueError, match=re.escape(f"A Stream Socket was expected, got {datagram!r}")):
                await loop.create_connection(Recorder, sock=datagram)
            with pytest.raises(ValueError, match="A Stream Socket was expected"):
                await loop.connect_accepted_socket(Recorder, datagram)
            with pytest.raises(ValueError, match="A UNIX Domain Stream Socket was expected"):
                await loop.create_unix_connection(Recorder, sock=sock)
        wrapped = CONTEXT.wrap_socket(socket.socket(), do_handshake_on_connect=False, server_hostname="x")
        with wrapped, pytest.raises(TypeError, match=re.escape("Socket cannot be of type SSLSocket")):
            await loop.create_connection(Recorder, sock=wrapped)

    run(main())


def test_connect_accepted_socket(loop, run, listener):
    async def main():
        with socket.create_connection(listener.getsockname()) as client:
            client.setblocking(False)
            accepted, address = listener.accept()
            transport, protocol = await loop.connect_accepted_socket(Recorder, accepted)
            assert transport.get_extra_info("peername") == address
            client.sendall(b"hi")
            await protocol.until_bytes(2)
            transport.write(b"there")
            assert await receive(client, 5) == b"there"
            await finish(transport, protocol)
            with pytest.raises(ValueError, match="ssl_handshake_timeout is only meaningful with ssl"):
                await loop.connect_accepted_socket(Recorder, client, ssl_handshake_timeout=1)

    run(main())


@pytest.mark.parametrize("kind", [str, pathlib.Path, os.fsencode, "abstract", "abstract bytes"])
def test_unix_connection(loop, run, tmp_path, kind):
    if callable(kind):
        path = kind(str(tmp_path / "socket"))
    else:
        path = "\0cxxloop-test-" + secrets.token_hex(8)
        path = path.encode() if kind == "abstract bytes" else path

    async def main():
        served = Recorder()
        server = await loop.create_unix_server(lambda: served, path)
        transport, protocol = await loop.create_unix_connection(Recorder, path)
        transport.write(b"hello")
        await served.until_bytes(5)
        assert transport.get_extra_info("socket").family == socket.AF_UNIX
        assert os.fsencode(transport.get_extra_info("peername")) == os.fsencode(path)
        assert transport.get_extra_info("sockname") == ""
        transport.close()
        await served.until_event("connection_lost")
        server.close()
        await server.wait_closed()

    run(main())


def test_unix_connection_over_a_socket(loop, run, socket_pair):
    async def main():
        left, right = socket_pair()
        transport, protocol = await loop.create_unix_connection(Recorder, sock=left)
        transport.write(b"x")
        assert await receive(right, 1) == b"x"
        await finish(transport, protocol)

    run(main())


def test_unix_connection_errors(loop, run, tmp_path, open_fds):
    async def main():
        before = open_fds()
        with pytest.raises(FileNotFoundError):
            await loop.create_unix_connection(Recorder, tmp_path / "nothing")
        (tmp_path / "file").write_text("")
        with pytest.raises(ConnectionRefusedError):
            await loop.create_unix_connection(Recorder, str(tmp_path / "file"))
        with pytest.raises(OSError, match="too long"):
            await loop.create_unix_connection(Recorder, str(tmp_path / ("x" * 200)))
        with pytest.raises(ValueError, match="no path and sock were specified"):
            await loop.create_unix_connection(Recorder)
        with pytest.raises(ValueError, match="you have to pass server_hostname when using ssl"):
            await loop.create_unix_connection(Recorder, "x", ssl=CONTEXT)
        with pytest.raises(ValueError, match="server_hostname is only meaningful with ssl"):
            await loop.create_unix_connection(Recorder, "x", server_hostname="x")
        with socket.socket(socket.AF_UNIX) as sock:
            with pytest.raises(ValueError, match="path and sock can not be specified at the same time"):
                await loop.create_unix_connection(Recorder, "x", sock=sock)
        assert open_fds() == before

    run(main())


def test_debug_log_of_a_connect(loop, run, asyncio_records, listener):
    async def main():
        loop.set_debug(True)
        address = listener.getsockname()
        transport, protocol = await loop.create_connection(Recorder, *address)
        assert any(f" connected to {LOOPBACK}:{address[1]}: (" in t for t in asyncio_records.texts(10))
        await finish(transport, protocol)

    run(main())
