# SPDX-License-Identifier: MIT
"""sock_recvfrom, sock_recvfrom_into and sock_sendto: answers, waiting, cancelling, what is refused."""

import asyncio
import contextlib
import errno
import socket

import pytest

from datagram_recorder import bound_socket, drain, unused_address
from recorder import LOOPBACK

RECEIVE = {
    "sock_recvfrom": lambda loop, sock: loop.sock_recvfrom(sock, 100),
    "sock_recvfrom_into": lambda loop, sock: loop.sock_recvfrom_into(sock, bytearray(100)),
}


def send_soon(loop, sock, data, address):
    loop.call_soon(lambda: loop.call_soon(sock.sendto, data, address))


@pytest.mark.parametrize("data", [b"hello", b"", bytes(60_000)])
@pytest.mark.parametrize("waits", [False, True])
def test_recvfrom(loop, run, data, waits):
    with bound_socket() as sock, bound_socket() as peer:
        if waits:
            send_soon(loop, peer, data, sock.getsockname())
        else:
            peer.sendto(data, sock.getsockname())
        assert run(loop.sock_recvfrom(sock, 65536)) == (data, peer.getsockname())


@pytest.mark.parametrize("waits", [False, True])
def test_recvfrom_into(loop, run, waits):
    with bound_socket() as sock, bound_socket() as peer:
        for nbytes, expected in ((0, b"hello"), (3, b"hel")):
            if waits:
                send_soon(loop, peer, b"hello", sock.getsockname())
            else:
                peer.sendto(b"hello", sock.getsockname())
            buffer = bytearray(10)
            assert run(loop.sock_recvfrom_into(sock, buffer, nbytes)) == (len(expected), peer.getsockname())
            assert buffer == expected + bytes(10 - len(expected))


@pytest.mark.parametrize("size", [0, 3])
def test_datagram_is_cut_off_at_the_size_asked_for(loop, run, size):
    with bound_socket() as sock, bound_socket() as peer:
        peer.sendto(b"hello", sock.getsockname())
        assert run(loop.sock_recvfrom(sock, size)) == (b"hello"[:size], peer.getsockname())
        with pytest.raises(BlockingIOError):
            sock.recv(10)


def test_stream_has_no_sender(loop, run, socket_pair):
    ours, theirs = socket_pair()
    theirs.send(b"hello")
    assert run(loop.sock_recvfrom(ours, 10)) == (b"hello", None)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_sendto(loop, run, kind):
    with bound_socket() as sock, bound_socket() as peer:
        assert run(loop.sock_sendto(sock, kind(b"hello"), peer.getsockname())) == 5
        assert run(loop.sock_sendto(sock, kind(b""), peer.getsockname())) == 0
        assert run(loop.sock_sendto(sock, kind(b"named"), ("localhost", peer.getsockname()[1]))) == 5
        assert drain(peer) == [b"hello", b"", b"named"]


def test_the_answer_goes_to_the_sender(loop, run):
    async def main():
        with bound_socket() as sock, bound_socket() as peer:
            for number in range(10):
                peer.sendto(b"%d" % number, sock.getsockname())
                data, address = await loop.sock_recvfrom(sock, 10)
                await loop.sock_sendto(sock, data, address)
            assert drain(peer) == [b"%d" % number for number in range(10)]

    run(main())


def test_unix_datagrams_wait_for_room(loop, run, tmp_path):
    path = str(tmp_path / "peer")
    with bound_socket(path, socket.AF_UNIX) as peer, bound_socket(str(tmp_path / "own"), socket.AF_UNIX) as sock:
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                sock.sendto(b"x", path)
                sent += 1

        async def main():
            task = asyncio.ensure_future(loop.sock_sendto(sock, b"last", path))
            await asyncio.sleep(0.01)
            assert not task.done()
            received = drain(peer)
            assert await task == 4
            assert received + drain(peer) == [b"x"] * sent + [b"last"]
            peer.sendto(b"back", str(tmp_path / "own"))
            assert await loop.sock_recvfrom(sock, 10) == (b"back", path)

        run(main())


@pytest.mark.parametrize("operation", RECEIVE)
def test_cancelled_receive_takes_no_datagram(loop, run, operation):
    async def main():
        with bound_socket() as sock, bound_socket() as peer:
            task = asyncio.ensure_future(RECEIVE[operation](loop, sock))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            peer.sendto(b"hello", sock.getsockname())
            await asyncio.sleep(0)
            assert await RECEIVE[operation](loop, sock) in (
                (b"hello", peer.getsockname()),
                (5, peer.getsockname()),
            )

    run(main())


@pytest.mark.parametrize("operation", RECEIVE)
def test_error_of_an_earlier_datagram_is_raised(loop, run, operation):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect(unused_address())
        sock.send(b"x")
        with pytest.raises(ConnectionRefusedError):
            run(RECEIVE[operation](loop, sock))


def test_datagram_that_is_too_large_is_an_error(loop, run):
    with bound_socket() as sock:
        with pytest.raises(OSError) as info:
            run(loop.sock_sendto(sock, bytes(70_000), unused_address()))
        assert info.value.errno == errno.EMSGSIZE


WRONG = {
    "a negative size": (ValueError, lambda loop, sock: loop.sock_recvfrom(sock, -1)),
    "a size that is no number": (TypeError, lambda loop, sock: loop.sock_recvfrom(sock, "1")),
    "a size beyond any": (OverflowError, lambda loop, sock: loop.sock_recvfrom(sock, 1 << 100)),
    "a buffer that is none": (TypeError, lambda loop, sock: loop.sock_recvfrom_into(sock, "text")),
    "a read-only buffer": (TypeError, lambda loop, sock: loop.sock_recvfrom_into(sock, b"text")),
    "a buffer that is too small": (ValueError, lambda loop, sock: loop.sock_recvfrom_into(sock, bytearray(3), 4)),
    "a negative number of bytes": (ValueError, lambda loop, sock: loop.sock_recvfrom_into(sock, bytearray(3), -1)),
    "data that is text": (TypeError, lambda loop, sock: loop.sock_sendto(sock, "text", (LOOPBACK, 9))),
    "a view with gaps": (BufferError, lambda loop, sock: loop.sock_sendto(sock, memoryview(b"abc")[::2], (LOOPBACK, 9))),
    "a port that is none": (OverflowError, lambda loop, sock: loop.sock_sendto(sock, b"x", (LOOPBACK, 1 << 20))),
    "an address that is none": (TypeError, lambda loop, sock: loop.sock_sendto(sock, b"x", None)),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_arguments(loop, run, what):
    error, call = WRONG[what]
    with bound_socket() as sock, bound_socket() as peer:
        peer.sendto(b"kept", sock.getsockname())
        with pytest.raises(error) as expected:
            reference = asyncio.SelectorEventLoop()
            try:
                reference.run_until_complete(call(reference, sock))
            finally:
                reference.close()
        with pytest.raises(error) as info:
            run(call(loop, sock))
        assert str(info.value) == str(expected.value)
        assert sock.recv(10) == b"kept"


def test_subclass_of_socket_keeps_its_methods(loop, run):
    class Shouting(socket.socket):
        def recvfrom(self, size):
            data, address = super().recvfrom(size)
            return data.upper(), address

    with Shouting(socket.AF_INET, socket.SOCK_DGRAM) as sock, bound_socket() as peer:
        sock.setblocking(False)
        sock.bind((LOOPBACK, 0))
        peer.sendto(b"hello", sock.getsockname())
        assert run(loop.sock_recvfrom(sock, 10)) == (b"HELLO", peer.getsockname())


def test_the_descriptor_of_a_transport_is_refused(loop, run):
    async def main():
        with bound_socket() as sock:
            transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, sock=sock)
            for receive in RECEIVE.values():
                with pytest.raises(RuntimeError, match="is used by transport"):
                    await receive(loop, sock)
            transport.abort()
            await asyncio.sleep(0)

    run(main())
