# SPDX-License-Identifier: MIT
"""A TCP transport seen from its protocol: the order of callbacks, reading, closing, what it says of itself."""

import asyncio
import contextvars
import gc
import socket
import sys
import warnings
import weakref

import pytest
from recorder import LOOPBACK, Recorder, accept_one, attached, receive, receive_all, tcp_pair


def test_callbacks_come_in_order_and_once(loop, run):
    async def main():
        served, client = Recorder(), Recorder()
        server = await accept_one(loop, served, client)
        client.transport.write(b"hello")
        await served.until_bytes(5)
        client.transport.close()
        await served.until_event("connection_lost")
        await client.until_event("connection_lost")
        server.close()
        await server.wait_closed()
        assert served.events == ["connection_made", "data_received", "eof_received", "connection_lost"]
        assert client.events == ["connection_made", "connection_lost"]
        assert bytes(served.data) == b"hello"
        assert served.lost_with is None and client.lost_with is None

    run(main())


def test_data_and_end_that_arrive_together_are_told_apart(run):
    async def main():
        async with attached() as (_, protocol, peer):
            peer.sendall(b"last words")
            peer.shutdown(socket.SHUT_WR)
            await protocol.until_event("connection_lost")
            assert bytes(protocol.data) == b"last words"
            assert protocol.events == ["connection_made", "data_received", "eof_received", "connection_lost"]

    run(main())


def test_nothing_is_read_before_connection_made(loop, run):
    async def main():
        with tcp_pair() as (left, right):
            right.sendall(b"early")
            protocol = Recorder()
            transport, same = await loop.create_connection(lambda: protocol, sock=left)
            assert same is protocol
            assert protocol.events[0] == "connection_made"
            await protocol.until_bytes(5)
            transport.close()
            await protocol.until_event("connection_lost")

    run(main())


def test_big_stream_arrives_whole(loop, run):
    payload = bytes(range(256)) * (10 * 4096)

    async def main():
        async with attached() as (_, protocol, peer):
            await loop.sock_sendall(peer, payload)
            await protocol.until_bytes(len(payload))
            assert bytes(protocol.data) == payload

    run(main())


def test_connection_lost_is_not_called_from_inside_close(run):
    async def main():
        async with attached() as (transport, protocol, _):
            transport.close()
            assert not protocol.is_lost
            transport.close()
            transport.abort()
            await protocol.until_event("connection_lost")
            await asyncio.sleep(0)
            assert protocol.events == ["connection_made", "connection_lost"]
            assert protocol.lost_with is None

    run(main())


def test_socket_is_closed_after_connection_lost(run, open_fds):
    async def main():
        async with attached() as (transport, protocol, _):
            fd = transport.get_extra_info("socket").fileno()
            open_at_loss = []
            protocol.reactions["connection_lost"] = lambda _: open_at_loss.append(fd in open_fds())
            transport.close()
            await protocol.until_event("connection_lost")
            await asyncio.sleep(0)
            assert open_at_loss == [True]
            assert fd not in open_fds()

    run(main())


@pytest.mark.parametrize("end", ["close", "abort"])
def test_no_data_after_close(loop, run, end):
    async def main():
        async with attached() as (transport, protocol, peer):
            protocol.reactions["data_received"] = lambda p: getattr(p.transport, end)()
            peer.sendall(b"first")
            await protocol.until_event("data_received")
            peer.sendall(b"second")
            await protocol.until_event("connection_lost")
            assert protocol.events == ["connection_made", "data_received", "connection_lost"]
            assert bytes(protocol.data) == b"first"

    run(main())


def test_abort_in_connection_made(loop, run):
    async def main():
        protocol = Recorder(connection_made=lambda p: p.transport.abort())
        async with attached(protocol) as (transport, _, peer):
            assert transport.is_closing()
            await protocol.until_event("connection_lost")
            assert protocol.events == ["connection_made", "connection_lost"]
            assert await loop.sock_recv(peer, 1) == b""

    run(main())


def test_is_closing(run):
    async def main():
        async with attached() as (transport, _, _peer):
            assert transport.is_closing() is False
            transport.close()
            assert transport.is_closing() is True

    run(main())


def test_pause_and_resume_reading(loop, run):
    async def main():
        async with attached() as (transport, protocol, peer):
            assert transport.is_reading() is True
            transport.pause_reading()
            transport.pause_reading()
            assert transport.is_reading() is False
            peer.sendall(b"held")
            loop.call_later(0.02, transport.resume_reading)
            before = loop.time()
            await protocol.until_event("data_received")
            assert loop.time() - before >= 0.02
            assert transport.is_reading() is True
            transport.resume_reading()
            peer.sendall(b" twice")
            await protocol.until_bytes(10)
            assert bytes(protocol.data) == b"held twice"

    run(main())


def test_pause_reading_in_connection_made(loop_name, run):
    if loop_name == "asyncio" and sys.version_info < (3, 12):
        pytest.skip("asyncio 3.11 forgets a pause made in connection_made()")

    async def main():
        protocol = Recorder(connection_made=lambda p: p.transport.pause_reading())
        async with attached(protocol) as (transport, _, peer):
            peer.sendall(b"wait")
            await asyncio.sleep(0.02)
            assert protocol.events == ["connection_made"]
            transport.resume_reading()
            await protocol.until_bytes(4)

    run(main())


def test_pause_reading_in_data_received_holds_the_rest(loop, run):
    async def main():
        async with attached() as (transport, protocol, peer):
            protocol.reactions["data_received"] = lambda p: p.transport.pause_reading()
            for chunk in (b"one", b"two", b"three"):
                peer.sendall(chunk)
                before = len(protocol.data)
                transport.resume_reading()
                await protocol.until_bytes(before + len(chunk))
                assert not transport.is_reading()
            assert protocol.events.count("data_received") == 3

    run(main())


def test_pause_and_resume_in_one_callback_keeps_reading(run):
    async def main():
        async with attached() as (transport, protocol, peer):
            transport.pause_reading()
            transport.resume_reading()
            transport.pause_reading()
            transport.resume_reading()
            peer.sendall(b"x")
            await protocol.until_bytes(1)

    run(main())


def test_reading_state_of_a_closed_transport(run):
    async def main():
        async with attached() as (transport, protocol, _):
            transport.close()
            assert transport.is_reading() is False
            assert transport.pause_reading() is None
            assert transport.resume_reading() is None
            await protocol.until_event("connection_lost")
            assert transport.pause_reading() is None
            assert transport.resume_reading() is None
            assert transport.is_reading() is False

    run(main())


def test_end_while_paused_is_told_after_resume(run):
    async def main():
        async with attached() as (transport, protocol, peer):
            transport.pause_reading()
            peer.sendall(b"bye")
            peer.close()
            await asyncio.sleep(0.02)
            assert protocol.events == ["connection_made"]
            transport.resume_reading()
            await protocol.until_event("connection_lost")
            assert protocol.events == ["connection_made", "data_received", "eof_received", "connection_lost"]

    run(main())


def test_half_close_keeps_the_writing_side(loop, run):
    async def main():
        protocol = Recorder(eof_received=lambda p: True)
        async with attached(protocol) as (transport, _, peer):
            peer.sendall(b"question")
            peer.shutdown(socket.SHUT_WR)
            await protocol.until_event("eof_received")
            assert not transport.is_closing()
            transport.write(b"answer")
            assert await receive(peer, 6) == b"answer"
            transport.write_eof()
            assert await loop.sock_recv(peer, 1) == b""
            assert not protocol.is_lost
            transport.close()
            await protocol.until_event("connection_lost")
            assert protocol.events == ["connection_made", "data_received", "eof_received", "connection_lost"]

    run(main())


def test_write_in_eof_received_is_flushed_before_close(run):
    async def main():
        protocol = Recorder(eof_received=lambda p: p.transport.write(b"x" * 3_000_000))
        async with attached(protocol) as (_, _, peer):
            peer.shutdown(socket.SHUT_WR)
            assert len(await receive_all(peer)) == 3_000_000
            await protocol.until_event("connection_lost")
            assert protocol.lost_with is None

    run(main())


@pytest.mark.parametrize("proto", [0, socket.IPPROTO_TCP])
def test_nagle_is_switched_off_where_the_socket_says_tcp(loop, run, proto):
    def has_nodelay(transport):
        return transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    async def main():
        served, client = Recorder(), Recorder()
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, proto)
        listener.bind((LOOPBACK, 0))
        server = await loop.create_server(lambda: served, sock=listener)
        near = socket.socket(socket.AF_INET, socket.SOCK_STREAM, proto)
        near.connect(listener.getsockname())
        near.setblocking(False)
        await loop.create_connection(lambda: client, sock=near)
        await served.until_event("connection_made")
        expected = 1 if proto == socket.IPPROTO_TCP else 0
        assert has_nodelay(client.transport) == has_nodelay(served.transport) == expected
        client.transport.abort()
        served.transport.abort()
        server.close()

    run(main())


def test_extra_info(loop, run):
    async def main():
        served, client = Recorder(), Recorder()
        server = await accept_one(loop, served, client)
        here, there = client.transport, served.transport
        assert here.get_extra_info("peername") == there.get_extra_info("sockname")
        assert here.get_extra_info("sockname") == there.get_extra_info("peername")
        sock = here.get_extra_info("socket")
        assert isinstance(sock, asyncio.trsock.TransportSocket)
        assert here.get_extra_info("socket") is sock
        assert sock.getsockname() == here.get_extra_info("sockname")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        assert there.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        assert sock.family == socket.AF_INET and sock.type == socket.SOCK_STREAM
        assert here.get_extra_info("cipher") is None
        assert here.get_extra_info("nothing", 7) == 7
        assert here.get_extra_info("nothing", default=8) == 8
        assert here.get_extra_info(name="peername", default=None) == there.get_extra_info("sockname")
        here.close()
        there.close()
        server.close()
        await server.wait_closed()
        await client.until_event("connection_lost")
        assert here.get_extra_info("sockname") == there.get_extra_info("peername")

    run(main())


def test_second_init_raises_and_changes_nothing(loop, run):
    async def main():
        async with attached() as (transport, protocol, peer):
            sock = transport.get_extra_info("socket")
            with pytest.raises(TypeError):
                transport.__init__()
            with pytest.raises(TypeError):
                transport.__init__({"socket": None})
            assert sock is not None and transport.get_extra_info("socket") is sock
            peer.send(b"x")
            await protocol.until_bytes(1)

    run(main())


def test_get_and_set_protocol(run):
    async def main():
        async with attached() as (transport, first, peer):
            assert transport.get_protocol() is first
            second = Recorder()
            first.reactions["data_received"] = lambda p: p.transport.set_protocol(second)
            peer.sendall(b"a")
            await first.until_bytes(1)
            assert transport.get_protocol() is second
            peer.sendall(b"b")
            await second.until_bytes(1)
            transport.close()
            await second.until_event("connection_lost")
            assert first.events == ["connection_made", "data_received"]
            assert second.events == ["data_received", "connection_lost"]
            first.events.append("connection_lost")  # attached() waits for it

    run(main())


def test_callbacks_are_looked_up_when_the_protocol_is_given_an_attribute_later(run):
    async def main():
        async with attached() as (_, protocol, peer):
            seen = []
            peer.sendall(b"a")
            await protocol.until_bytes(1)
            waiter = asyncio.get_running_loop().create_future()
            protocol.data_received = lambda data: (seen.append(data), waiter.set_result(None))
            peer.sendall(b"b")
            await waiter
            assert seen == [b"b"]

    run(main())


def test_types(loop, run):
    async def main():
        async with attached() as (transport, _, _peer):
            assert isinstance(transport, asyncio.Transport)
            assert isinstance(transport, asyncio.ReadTransport)
            assert isinstance(transport, asyncio.WriteTransport)
            assert isinstance(transport, asyncio.BaseTransport)
            assert transport.can_write_eof() is True

    run(main())


def test_repr_tells_the_state(run):
    async def main():
        async with attached() as (transport, protocol, _):
            fd = transport.get_extra_info("socket").fileno()
            assert f"fd={fd} " in repr(transport)
            assert "read=polling" in repr(transport)
            assert "write=<idle, bufsize=0>" in repr(transport)
            transport.pause_reading()
            assert "read=idle" in repr(transport)
            transport.close()
            assert " closing " in repr(transport)
            await protocol.until_event("connection_lost")
            await asyncio.sleep(0)
            assert " closed " in repr(transport)

    run(main())


def test_weakref_and_attributes(run):
    async def main():
        async with attached() as (transport, protocol, peer):
            assert weakref.ref(transport)() is transport
            written = []
            transport.write = written.append
            protocol.transport.write(b"caught")
            assert written == [b"caught"]
            del transport.write
            transport.write(b"sent")
            assert await receive(peer, 4) == b"sent"
            transport.note = 5
            assert protocol.transport.note == 5

    run(main())


def test_unclosed_transport_warns_and_closes(loop, run, open_fds):
    async def main():
        with tcp_pair() as (left, right):
            fd = left.fileno()
            transport, protocol = await loop.create_connection(Recorder, sock=left)
            # The reader goes, as it would with a loop that stopped: then nothing but us holds the transport.
            transport.pause_reading()
            await asyncio.sleep(0)
            shown = repr(transport)
            protocol.transport = None
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                del transport, protocol
                gc.collect()
            texts = [str(w.message) for w in caught if w.category is ResourceWarning]
            assert texts == [f"unclosed transport {shown}"]
            assert await loop.sock_recv(right, 1) == b""
            assert fd not in open_fds()
            left.detach()

    run(main())


def test_closed_transport_is_freed(loop, run):
    async def main():
        async with attached() as (transport, protocol, _):
            reference = weakref.ref(transport)
            transport.close()
            await protocol.until_event("connection_lost")
            await asyncio.sleep(0)
        return reference

    reference = run(main())
    gc.collect()
    assert reference() is None


current = contextvars.ContextVar("current", default="none")


def test_client_callbacks_run_in_the_context_of_the_connect(loop, run):
    async def main():
        seen = []
        reactions = {
            name: lambda _, name=name: seen.append((name, current.get()))
            for name in ("connection_made", "data_received", "connection_lost")
        }

        async def connect(left):
            current.set("connect")
            return await loop.create_connection(lambda: Recorder(**reactions), sock=left)

        with tcp_pair() as (left, right):
            transport, protocol = await asyncio.create_task(connect(left))
            right.sendall(b"x")
            await protocol.until_bytes(1)
            current.set("closer")
            transport.close()
            await protocol.until_event("connection_lost")
        # Up to 3.14 the end of a connection runs in the context of whoever called close().
        last = "connect" if sys.version_info >= (3, 15) else "closer"
        assert seen == [("connection_made", "connect"), ("data_received", "connect"), ("connection_lost", last)]

    run(main())


def test_sock_callbacks_refuse_the_descriptor_of_a_transport(loop, run):
    async def main():
        async with attached() as (transport, _, _peer):
            fd = transport.get_extra_info("socket").fileno()
            with pytest.raises(RuntimeError, match=f"File descriptor {fd} is used by transport <"):
                loop.add_reader(fd, print)
            with pytest.raises(RuntimeError, match="is used by transport"):
                await loop.sock_recv(transport.get_extra_info("socket")._sock, 1)

    run(main())
