# SPDX-License-Identifier: MIT
"""create_unix_server: paths that are stale, taken, abstract, and what stays of them after close()."""

import errno
import logging
import os
import re
import secrets
import socket
import ssl
import stat
import sys

import pytest
from recorder import LOOPBACK, Recorder

python_313 = pytest.mark.skipif(sys.version_info < (3, 13), reason="new in Python 3.13")


async def close(server):
    server.close()
    await server.wait_closed()


async def exchange(loop, path, served):
    """One client connects, says a word and leaves."""
    transport, client = await loop.create_unix_connection(Recorder, path)
    transport.write(b"word")
    await served.until_bytes(4)
    transport.close()
    await served.until_event("connection_lost")


@pytest.mark.parametrize("kind", [str, os.fsencode, lambda path: path])
def test_serves_on_a_path(loop, run, tmp_path, kind):
    path = tmp_path / "socket"

    async def main():
        served = Recorder()
        server = await loop.create_unix_server(lambda: served, kind(path))
        assert stat.S_ISSOCK(path.stat().st_mode)
        [sock] = server.sockets
        assert sock.family == socket.AF_UNIX
        assert sock.getsockname() == str(path)
        await exchange(loop, str(path), served)
        assert served.transport.get_extra_info("sockname") == str(path)
        assert served.transport.get_extra_info("peername") == ""
        await close(server)

    run(main())


def test_stale_path_is_replaced(loop, run, tmp_path):
    path = str(tmp_path / "socket")

    async def main():
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(path)
        served = Recorder()
        server = await loop.create_unix_server(lambda: served, path)
        await exchange(loop, path, served)
        await close(server)

    run(main())


def test_path_of_another_file(loop, run, tmp_path, open_fds):
    path = tmp_path / "file"
    path.write_text("keep me")

    async def main():
        before = open_fds()
        with pytest.raises(OSError, match=re.escape(f"Address {str(path)!r} is already in use")) as caught:
            await loop.create_unix_server(Recorder, str(path))
        assert caught.value.errno == errno.EADDRINUSE
        assert path.read_text() == "keep me"
        with pytest.raises(FileNotFoundError):
            await loop.create_unix_server(Recorder, str(tmp_path / "no" / "socket"))
        assert open_fds() == before

    run(main())


@pytest.mark.parametrize("kind", [str, str.encode])
def test_abstract_address(loop, run, kind):
    path = kind("\0cxxloop-test-" + secrets.token_hex(8))

    async def main():
        served = Recorder()
        server = await loop.create_unix_server(lambda: served, path)
        assert server.sockets[0].getsockname() == (path if isinstance(path, bytes) else path.encode())
        await exchange(loop, path, served)
        with pytest.raises(OSError) as caught:
            await loop.create_unix_server(Recorder, path)
        assert caught.value.errno == errno.EADDRINUSE
        await close(server)

    run(main())


def test_given_socket(loop, run, tmp_path):
    path = str(tmp_path / "socket")

    async def main():
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(path)
        served = Recorder()
        server = await loop.create_unix_server(lambda: served, sock=sock)
        await exchange(loop, path, served)
        await close(server)
        assert sock.fileno() == -1

    run(main())


def test_bad_arguments(loop, run, tmp_path):
    async def main():
        with socket.socket(socket.AF_UNIX) as sock, socket.socket() as tcp:
            for arguments, kind, text in (
                (dict(), ValueError, "path was not specified, and no sock specified"),
                (dict(path="x", sock=sock), ValueError, "path and sock can not be specified at the same time"),
                (dict(sock=tcp), ValueError, f"A UNIX Domain Stream Socket was expected, got {tcp!r}"),
                (dict(path="x", ssl=False), TypeError, "ssl argument must be an SSLContext or None"),
                (dict(path="x", ssl_handshake_timeout=1), ValueError, "ssl_handshake_timeout is only meaningful"),
                (dict(path="x", ssl_shutdown_timeout=1), ValueError, "ssl_shutdown_timeout is only meaningful"),
            ):
                with pytest.raises(kind, match=re.escape(text)):
                    await loop.create_unix_server(Recorder, **arguments)

    run(main())


@python_313
def test_path_is_removed_at_close(loop, run, tmp_path):
    path = tmp_path / "socket"

    async def main():
        await close(await loop.create_unix_server(Recorder, str(path)))
        assert not path.exists()
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(path))
        await close(await loop.create_unix_server(Recorder, sock=sock))
        assert not path.exists()

    run(main())


@python_313
def test_path_is_kept_on_request(loop, run, tmp_path):
    path = tmp_path / "socket"

    async def main():
        await close(await loop.create_unix_server(Recorder, str(path), cleanup_socket=False))
        assert path.exists()

    run(main())


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="the rule up to Python 3.12")
def test_path_stays_after_close(loop, run, tmp_path):
    path = tmp_path / "socket"

    async def main():
        await close(await loop.create_unix_server(Recorder, str(path)))
        assert path.exists()

    run(main())


@python_313
def test_path_of_a_successor_is_kept(loop, run, tmp_path):
    path = tmp_path / "socket"

    async def main():
        first = await loop.create_unix_server(Recorder, str(path))
        kept = tmp_path / "kept"
        path.rename(kept)  # Its inode stays taken: the successor cannot get the same number.
        served = Recorder()
        second = await loop.create_unix_server(lambda: served, str(path))
        await close(first)
        assert path.exists()
        await exchange(loop, str(path), served)
        await close(second)
        assert not path.exists()

    run(main())


@python_313
def test_path_gone_before_close(loop, run, tmp_path):
    path = tmp_path / "socket"

    async def main():
        server = await loop.create_unix_server(Recorder, str(path))
        path.unlink()
        await close(server)

    run(main())


def test_stale_path_that_cannot_be_checked(loop, run, tmp_path, asyncio_records, monkeypatch):
    path = str(tmp_path / "socket")
    real_stat = os.stat

    def deny(given, *args, **kwargs):
        if given == path and not denied:
            denied.append(given)
            raise PermissionError("not for you")
        return real_stat(given, *args, **kwargs)

    denied = []

    async def main():
        monkeypatch.setattr(os, "stat", deny)
        server = await loop.create_unix_server(Recorder, path)
        text = f"Unable to check or remove stale UNIX socket {path!r}: PermissionError('not for you')"
        assert asyncio_records.texts(logging.ERROR) == [text]
        await close(server)

    run(main())
    asyncio_records.records.clear()  # the loop fixture takes any error for unexpected


def test_tcp_and_unix_of_one_process(loop, run, tmp_path):
    path = str(tmp_path / "socket")

    async def main():
        served = Recorder()
        unix = await loop.create_unix_server(lambda: served, path)
        tcp = await loop.create_server(Recorder, LOOPBACK, 0)
        await close(tcp)
        await exchange(loop, path, served)
        await close(unix)

    run(main())


def test_tls_argument_is_taken(loop, run, tmp_path):
    async def main():
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server = await loop.create_unix_server(
            Recorder, str(tmp_path / "socket"), ssl=context, ssl_handshake_timeout=1, ssl_shutdown_timeout=1
        )
        await close(server)

    run(main())
