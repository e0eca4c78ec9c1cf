# SPDX-License-Identifier: MIT
"""How TLS connections end: resets, aborts, ends without a farewell; and messages between the data."""

import asyncio
import contextlib
import shutil
import socket
import ssl
import subprocess
import tracemalloc

import pytest
from recorder import LOOPBACK, Recorder, reset, turns
from tls_peer import connecting, make_client_context, make_server_context


def fill(transport):
    """More than both the transport below and TLS itself queue gladly."""
    for _ in range(2):
        transport.write(bytes(4 << 20))


# --- the peer goes ---------------------------------------------------------------------------------------------


def test_end_without_farewell(run, connect, reported):
    async def main():
        async with connect() as (served, peer):
            await peer.send(peer.encrypted(b"last words"))
            peer.sock.shutdown(socket.SHUT_WR)
            await served.until_event("connection_lost")
            assert served.events == ["connection_made", "data_received", "eof_received", "connection_lost"]
            assert served.lost_with is None
        assert reported == []

    run(main())


def test_reset(run, connect, reported):
    async def main():
        async with connect() as (served, peer):
            reset(peer.sock)
            await served.until_event("connection_lost")
            assert served.events == ["connection_made", "connection_lost"]
            assert type(served.lost_with) is ConnectionResetError
        assert reported == []

    run(main())


def test_reset_while_a_write_waits(run, connect, reported):
    async def main():
        async with connect() as (served, peer):
            fill(served.transport)
            assert served.events == ["connection_made", "pause_writing"]
            reset(peer.sock)
            await served.until_event("connection_lost")
            assert isinstance(served.lost_with, (ConnectionResetError, BrokenPipeError))
            assert served.transport.is_closing()
        assert reported == []

    run(main())


def test_reset_in_the_shutdown(run, connect, reported):
    async def main():
        async with connect() as (served, peer):
            served.transport.close()
            await turns(3)
            assert served.events == ["connection_made"]
            reset(peer.sock)
            await served.until_event("connection_lost")
            assert served.events == ["connection_made", "connection_lost"]
            assert type(served.lost_with) is ConnectionResetError
        assert reported == []

    run(main())


def test_farewell_with_data_in_front_and_a_reset_behind(run, connect, reported):
    async def main():
        async with connect() as (served, peer):
            await peer.send(peer.encrypted(b"last ", b"words") + peer.close_notify())
            await served.until_event("eof_received")
            reset(peer.sock)
            await served.until_event("connection_lost")
            assert served.events == ["connection_made", "data_received", "eof_received", "connection_lost"]
            assert bytes(served.data) == b"last words"
        assert reported == []

    run(main())


def test_data_behind_a_farewell_is_not_received(run, connect, reported):
    async def main():
        async with connect() as (served, peer):
            late = peer.encrypted(b"late")
            await peer.send(peer.close_notify() + late)
            await served.until_event("connection_lost")
            assert not served.data
        reported.clear()

    run(main())


def test_answer_to_a_farewell(run, connect):
    def answer(recorder):
        recorder.transport.write(b"good bye")

    async def main():
        async with connect(Recorder(eof_received=answer)) as (served, peer):
            await peer.send(peer.encrypted(b"bye") + peer.close_notify())
            assert await peer.read(8) == b"good bye"
            await served.until_event("connection_lost")
            assert served.lost_with is None

    run(main())


# --- we go -----------------------------------------------------------------------------------------------------


def abort(recorder):
    recorder.transport.abort()


def close_and_abort(recorder):
    recorder.transport.close()
    recorder.transport.abort()


def write_and_abort(recorder):
    recorder.transport.write(bytes(1 << 20))
    recorder.transport.abort()


@pytest.mark.parametrize("end", [abort, close_and_abort, write_and_abort], ids=lambda end: end.__name__)
@pytest.mark.parametrize("event", ["connection_made", "data_received", "eof_received", "pause_writing"])
def test_abort_inside_a_callback_waits_for_nobody(run, server_context, client_context, reported, event, end):
    async def main():
        served = Recorder(**{event: end})
        async with connecting(server_context, client_context, served) as (_, peer):
            with contextlib.suppress(ConnectionResetError, EOFError, ssl.SSLError):
                await peer.handshake()
                if event == "pause_writing":
                    await served.until_event("connection_made")
                    fill(served.transport)
                else:
                    await peer.send(peer.encrypted(b"data") + peer.close_notify())
            await asyncio.wait_for(served.until_event("connection_lost"), 2)
            assert served.lost_with is None
            assert served.events.count(event) == served.events.count("connection_lost") == 1
        assert reported == []

    run(main())


def test_abort_in_the_shutdown(run, connect, reported):
    async def main():
        async with connect() as (served, _):
            served.transport.close()
            await turns(2)
            served.transport.abort()
            await asyncio.wait_for(served.until_event("connection_lost"), 2)
            assert served.lost_with is None
        assert reported == []

    run(main())


def test_calls_after_the_end_are_harmless(run, connect, asyncio_records):
    async def main():
        async with connect() as (served, _):
            transport = served.transport
            transport.abort()
            await served.until_event("connection_lost")
            transport.write(b"nobody")
            transport.writelines([b"no", b"body"])
            transport.pause_reading()
            transport.resume_reading()
            transport.abort()
            transport.close()
            assert transport.is_closing()
            await turns(2)
            assert served.events == ["connection_made", "connection_lost"]

    run(main())


@pytest.mark.parametrize("event", ["connection_made", "data_received", "eof_received"])
def test_protocol_that_is_replaced_inside_its_callback(run, server_context, client_context, event):
    async def main():
        successor = Recorder()
        served = Recorder(**{event: lambda recorder: recorder.transport.set_protocol(successor)})
        async with connecting(server_context, client_context, served) as (_, peer):
            await peer.handshake()
            await served.until_event("connection_made")
            await peer.send(peer.encrypted(b"first"))
            await (successor if event == "connection_made" else served).until_bytes(5)
            await peer.send(peer.encrypted(b"second") + peer.close_notify())
            await successor.until_event("connection_lost")
            assert "connection_lost" not in served.events
            assert bytes(served.data + successor.data) == b"firstsecond"

    run(main())


# --- between the data ------------------------------------------------------------------------------------------


def test_many_session_tickets(loop, run):
    server_context, client_context = make_server_context(), make_client_context(ssl.TLSVersion.TLSv1_3)
    server_context.num_tickets = 20

    async def main():
        served = Recorder(data_received=lambda recorder: recorder.transport.write(bytes(recorder.data)))
        server = await loop.create_server(lambda: served, LOOPBACK, 0, ssl=server_context)
        transport, client = await loop.create_connection(
            Recorder, *server.sockets[0].getsockname(), ssl=client_context
        )
        transport.write(b"through the tickets")
        await client.until_bytes(19)
        assert client.events == ["connection_made", "data_received"]
        assert transport.get_extra_info("ssl_object").session.has_ticket
        transport.close()
        await served.until_event("connection_lost")
        server.close()
        await server.wait_closed()

    run(main())


ALLOW_CLIENT_RENEGOTIATION = 1 << 8  # the ssl module has no name for it


@pytest.mark.skipif(shutil.which("openssl") is None, reason="Python's ssl can neither update keys nor renegotiate")
@pytest.mark.parametrize(
    ("version", "command", "answer"),
    [("-tls1_3", "K", b"KEYUPDATE\n"), ("-tls1_3", "k", b"KEYUPDATE\n"), ("-tls1_2", "R", b"RENEGOTIATING\n")],
)
def test_new_keys_between_the_data(loop, run, version, command, answer):
    server_context = make_server_context()
    server_context.options &= ~ssl.OP_NO_RENEGOTIATION
    server_context.options |= ALLOW_CLIENT_RENEGOTIATION

    async def main():
        served = Recorder(data_received=lambda recorder: recorder.transport.write(b"got it\n"))
        server = await loop.create_server(lambda: served, LOOPBACK, 0, ssl=server_context)
        host, port = server.sockets[0].getsockname()
        client = subprocess.Popen(
            ["openssl", "s_client", "-connect", f"{host}:{port}", version],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        with client:
            for number in range(1, 4):
                client.stdin.write(b"line\n")
                client.stdin.flush()
                await served.until_bytes(5 * number)
                client.stdin.write(command.encode() + b"\n")
                client.stdin.flush()
                # s_client takes a command only from the beginning of what it reads: the next line has to come later.
                while await loop.run_in_executor(None, client.stderr.readline) != answer:
                    pass
            assert bytes(served.data) == b"line\n" * 3
            client.kill()
        await served.until_event("connection_lost")
        server.close()
        await server.wait_closed()

    run(main())


# --- memory ----------------------------------------------------------------------------------------------------


@pytest.mark.cxxloop_only("asyncio makes a buffer of 256 KiB for each read")
def test_reads_allocate_what_they_deliver(run, connect):
    async def main():
        async with connect() as (served, peer):
            await peer.send(peer.encrypted(b"warm up"))
            await served.until_bytes(7)
            words = peer.encrypted(bytes(1000))
            tracemalloc.start()
            try:
                await peer.send(words)
                tracemalloc.reset_peak()
                await served.until_bytes(1007)
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            assert peak < 32 * 1024

    run(main())
