# SPDX-License-Identifier: MIT
"""create_datagram_endpoint(): receiving, addresses, closing."""

import asyncio
import contextlib
import contextvars
import errno
import gc
import os
import re
import socket
import sys
import warnings
import weakref

import pytest

from datagram_recorder import DatagramRecorder, bound_socket, endpoint, unused_address
from recorder import LOOPBACK


def has_ipv6():
    try:
        with bound_socket(("::1", 0), socket.AF_INET6):
            return True
    except OSError:
        return False


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this machine")
pauses_reading = pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio cannot pause before 3.12")


def test_the_transport_is_a_datagram_transport(run):
    async def main():
        async with endpoint() as (transport, protocol):
            assert isinstance(transport, asyncio.DatagramTransport) or sys.version_info < (3, 12)
            assert isinstance(transport, asyncio.Transport)
            assert protocol.events == ["connection_made"]
            assert protocol.transport is transport
            assert transport.get_protocol() is protocol
            assert not transport.is_closing()
            with pytest.raises(NotImplementedError):
                transport.write(b"x")

    run(main())


def test_extra_info_names_the_socket(run):
    async def main():
        async with endpoint() as (transport, _):
            sockname = transport.get_extra_info("sockname")
            assert transport.get_extra_info("socket").getsockname() == sockname
            assert transport.get_extra_info("peername", "absent") is None
            async with endpoint(remote_addr=sockname) as (connected, _):
                assert connected.get_extra_info("peername") == sockname

    run(main())


def test_datagrams_come_with_their_sender_and_keep_their_borders(run):
    async def main():
        async with endpoint() as (transport, protocol):
            address = transport.get_extra_info("sockname")
            with bound_socket() as one, bound_socket() as other:
                one.sendto(b"first", address)
                other.sendto(b"second", address)
                one.sendto(b"third", address)
                await protocol.until_received(3)
                assert protocol.received == [
                    (b"first", one.getsockname()),
                    (b"second", other.getsockname()),
                    (b"third", one.getsockname()),
                ]
                assert {type(data) for data in protocol.payloads} == {bytes}
                assert {type(addr) for _, addr in protocol.received} == {tuple}

    run(main())


def test_the_answer_goes_to_the_address_a_datagram_came_from(run):
    async def main():
        echo = DatagramRecorder(datagram_received=lambda self: self.transport.sendto(*self.received[-1]))
        async with endpoint(echo) as (transport, _):
            address = transport.get_extra_info("sockname")
            async with endpoint() as (one, ones), endpoint() as (other, others):
                for number in range(20):
                    one.sendto(b"one %d" % number, address)
                    other.sendto(b"other %d" % number, address)
                await ones.until_received(20)
                await others.until_received(20)
            assert ones.received == [(b"one %d" % number, address) for number in range(20)]
            assert others.received == [(b"other %d" % number, address) for number in range(20)]

    run(main())


def test_empty_datagram_is_received(run):
    async def main():
        async with endpoint() as (transport, protocol):
            with bound_socket() as sock:
                sock.sendto(b"", transport.get_extra_info("sockname"))
                await protocol.until_received(1)
                assert protocol.received == [(b"", sock.getsockname())]

    run(main())


def test_the_largest_datagram(run):
    async def main():
        payload = os.urandom(65507)
        async with endpoint() as (transport, protocol):
            async with endpoint(remote_addr=transport.get_extra_info("sockname")) as (sender, _):
                sender.sendto(payload)
                await protocol.until_received(1)
            assert protocol.payloads == [payload]

    run(main())


def test_what_a_datagram_schedules_runs_before_the_next_one(run, loop):
    order = []

    def on_datagram(self):
        number = len(self.received)
        order.append(f"datagram {number}")
        loop.call_soon(order.append, f"callback {number}")

    async def main():
        async with endpoint(DatagramRecorder(datagram_received=on_datagram)) as (transport, protocol):
            with bound_socket() as sock:
                for _ in range(5):
                    sock.sendto(b"x", transport.get_extra_info("sockname"))
                await protocol.until_received(5)
                await asyncio.sleep(0)

    run(main())
    assert order == [f"{what} {number}" for number in range(1, 6) for what in ("datagram", "callback")]


def test_waiting_task_sees_every_datagram(run, loop):
    """A protocol that keeps one future for the next datagram: two in a row without a turn between would break it."""
    seen = []

    class OneAtATime(DatagramRecorder):
        next_datagram = None

        def datagram_received(self, data, addr):
            self.next_datagram.set_result(data)

    async def main():
        protocol = OneAtATime()
        protocol.next_datagram = loop.create_future()
        async with endpoint(protocol) as (transport, _):
            with bound_socket() as sock:
                for number in range(50):
                    sock.sendto(b"%d" % number, transport.get_extra_info("sockname"))
                while len(seen) < 50:
                    seen.append(await protocol.next_datagram)
                    protocol.next_datagram = loop.create_future()

    run(main())
    assert seen == [b"%d" % number for number in range(50)]


def test_flood_of_datagrams_does_not_keep_a_timer_waiting(run, loop):
    async def main():
        fired = loop.create_future()

        def send_again(self):
            self.transport.sendto(b"x", self.transport.get_extra_info("sockname"))

        async with endpoint(DatagramRecorder(datagram_received=send_again)) as (transport, protocol):
            for _ in range(50):
                send_again(protocol)
            loop.call_later(0.02, fired.set_result, None)
            await fired
            await protocol.until_received(len(protocol.received) + 50)  # it goes on

    run(main())


def test_callbacks_run_in_the_context_the_endpoint_was_made_in(run):
    variable = contextvars.ContextVar("variable", default="nothing")
    seen = []

    def note(self):
        seen.append((self.events[-1], variable.get()))
        variable.set("of the callback")

    async def main():
        protocol = DatagramRecorder(connection_made=note, datagram_received=note)
        variable.set("of the caller")
        async with endpoint(protocol) as (transport, _):
            variable.set("changed later")
            with bound_socket() as sock:
                sock.sendto(b"x", transport.get_extra_info("sockname"))
                sock.sendto(b"y", transport.get_extra_info("sockname"))
                await protocol.until_received(2)

    run(main())
    assert seen == [
        ("connection_made", "of the caller"),
        ("datagram_received", "of the caller"),
        ("datagram_received", "of the callback"),
    ]


def test_failure_of_the_protocol_is_reported_and_the_endpoint_lives(run, reported):
    def fail(self):
        if len(self.received) == 1:
            raise ValueError("cannot read this")

    async def main():
        async with endpoint(DatagramRecorder(datagram_received=fail)) as (transport, protocol):
            with bound_socket() as sock:
                sock.sendto(b"x", transport.get_extra_info("sockname"))
                sock.sendto(b"y", transport.get_extra_info("sockname"))
                await protocol.until_received(2)
            assert not transport.is_closing()

    run(main())
    (context,) = reported
    assert re.fullmatch(r"Exception in callback \w*DatagramTransport\._read_ready\(\)", context["message"])
    assert str(context["exception"]) == "cannot read this"


@pytest.mark.parametrize("exit_type", [SystemExit, KeyboardInterrupt])
def test_exit_of_the_protocol_leaves_the_loop(loop, exit_type):
    def leave(self):
        raise exit_type

    async def start():
        return await loop.create_datagram_endpoint(
            lambda: DatagramRecorder(datagram_received=leave), local_addr=(LOOPBACK, 0)
        )

    transport, protocol = loop.run_until_complete(start())
    with bound_socket() as sock:
        sock.sendto(b"x", transport.get_extra_info("sockname"))
        with pytest.raises(exit_type):
            loop.run_forever()
    transport.abort()
    loop.run_until_complete(protocol.until_event("connection_lost"))


@pauses_reading
def test_pause_and_resume_reading(run):
    async def main():
        def pause(self):
            self.transport.pause_reading()

        async with endpoint(DatagramRecorder(datagram_received=pause)) as (transport, protocol):
            assert transport.is_reading()
            with bound_socket() as sock:
                for data in (b"a", b"b", b"c"):
                    sock.sendto(data, transport.get_extra_info("sockname"))
                await protocol.until_received(1)
                await asyncio.sleep(0.01)
                assert protocol.payloads == [b"a"]
                assert not transport.is_reading()
                transport.pause_reading()  # again: nothing
                protocol.reactions.clear()
                transport.resume_reading()
                transport.resume_reading()
                await protocol.until_received(3)
            assert protocol.payloads == [b"a", b"b", b"c"]

    run(main())


def test_nothing_is_received_after_close(run):
    async def main():
        async with endpoint(DatagramRecorder(datagram_received=lambda self: self.transport.close())) as (
            transport,
            protocol,
        ):
            with bound_socket() as sock:
                for _ in range(3):
                    sock.sendto(b"x", transport.get_extra_info("sockname"))
                await protocol.until_event("connection_lost")
            await asyncio.sleep(0)
        assert protocol.events == ["connection_made", "datagram_received", "connection_lost"]
        assert protocol.lost_with is None

    run(main())


@pytest.mark.parametrize("close", ["close", "abort"])
def test_closing_closes_the_socket_and_tells_once(run, open_fds, close):
    async def main():
        before = open_fds()
        async with endpoint() as (transport, protocol):
            getattr(transport, close)()
            assert transport.is_closing()
            getattr(transport, close)()
            assert protocol.events == ["connection_made"]
            await protocol.until_event("connection_lost")
            transport.close()
            await asyncio.sleep(0)
        assert protocol.events == ["connection_made", "connection_lost"]
        assert open_fds() == before
        assert transport.get_protocol() is None

    run(main())


def test_repr_tells_the_state(run):
    async def main():
        async with endpoint() as (transport, protocol):
            fd = transport.get_extra_info("socket").fileno()
            await asyncio.sleep(0)
            assert re.fullmatch(
                rf"<\w*DatagramTransport fd={fd} read=polling write=<idle, bufsize=0>>", repr(transport)
            )
            transport.close()
            assert re.fullmatch(
                rf"<\w*DatagramTransport closing fd={fd} read=idle write=<idle, bufsize=0>>", repr(transport)
            )
            await protocol.until_event("connection_lost")
            assert re.fullmatch(rf"<\w*DatagramTransport closed fd={fd}.*>", repr(transport))

    run(main())


def test_forgotten_endpoint_warns_and_closes_its_socket(loop):
    async def start():
        await loop.create_datagram_endpoint(DatagramRecorder, local_addr=(LOOPBACK, 0))

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loop.run_until_complete(start())
        loop.close()
        gc.collect()
    assert [str(w.message) for w in caught if "DatagramTransport" in str(w.message)]
    assert {w.category for w in caught} == {ResourceWarning}


def test_closed_endpoint_leaves_no_garbage(run):
    async def main():
        async with endpoint() as (transport, protocol):
            return weakref.ref(transport), weakref.ref(protocol)

    references = run(main())
    gc.collect()
    assert [reference() for reference in references] == [None, None]


def test_the_descriptor_belongs_to_the_transport(run, loop):
    async def main():
        async with endpoint() as (transport, protocol):
            fd = transport.get_extra_info("socket").fileno()
            for method in (loop.add_reader, loop.add_writer):
                with pytest.raises(RuntimeError, match=f"File descriptor {fd} is used by transport"):
                    method(fd, print)

    run(main())


# --- a socket that was closed under its transport ------------------------------------------------------------------


@contextlib.contextmanager
def stranger_with_the_number_of(sock):
    """Closes a socket; a connected pair of UNIX datagram sockets, one of which has its number now."""
    number = sock.fileno()
    sock.close()
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with one, other:
        assert number in (one.fileno(), other.fileno())
        one.setblocking(False)
        other.setblocking(False)
        yield (one, other) if one.fileno() == number else (other, one)


def has_nothing_to_read(sock):
    try:
        sock.recv(100)
    except BlockingIOError:
        return True
    return False


@pytest.mark.parametrize("connected", [False, True])
def test_socket_closed_under_its_transport_sends_nothing_to_the_next_owner_of_its_number(run, connected):
    async def main():
        own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        own.setblocking(False)
        if connected:
            own.connect(unused_address())
        else:
            own.bind((LOOPBACK, 0))
        async with endpoint(sock=own) as (transport, protocol):
            with stranger_with_the_number_of(own) as (stranger, friend):
                transport.sendto(b"secret", None if connected else unused_address())
                assert [error.errno for error in protocol.errors] == [errno.EBADF]
                assert has_nothing_to_read(friend)
                transport.close()
                await protocol.until_event("connection_lost")
                assert protocol.lost_with is None
                friend.send(b"still open")
                assert stranger.recv(100) == b"still open"

    run(main())


def test_socket_closed_under_its_transport_takes_nothing_from_the_next_owner_of_its_number(run):
    """A duplicate keeps the poller reporting the old number."""

    async def main():
        protocol = DatagramRecorder(error_received=lambda self: self.transport.abort())
        own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        own.setblocking(False)
        own.bind((LOOPBACK, 0))
        with own.dup() as duplicate:
            async with endpoint(protocol, sock=own):
                with stranger_with_the_number_of(own) as (stranger, friend), bound_socket() as sender:
                    friend.send(b"for the stranger")
                    sender.sendto(b"x", duplicate.getsockname())
                    await protocol.until_event("connection_lost")
                    assert {error.errno for error in protocol.errors} == {errno.EBADF}
                    assert protocol.received == []
                    assert stranger.recv(100) == b"for the stranger"

    run(main())


@pytest.mark.prompt_only("error_received() tells")
@pauses_reading
def test_reading_from_a_socket_closed_under_its_transport_is_not_resumed(run):
    async def main():
        own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        own.setblocking(False)
        own.bind((LOOPBACK, 0))
        async with endpoint(sock=own) as (transport, protocol):
            transport.pause_reading()
            own.close()
            with pytest.raises(OSError) as info:
                transport.resume_reading()
            assert info.value.errno == errno.EBADF

    run(main())


def test_socket_of_the_callers_own(run):
    async def main():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((LOOPBACK, 0))
            async with endpoint(sock=sock) as (transport, protocol):
                with bound_socket() as peer:
                    peer.sendto(b"x", sock.getsockname())
                    await protocol.until_received(1)
                    transport.sendto(b"y", peer.getsockname())
                    assert peer.recv(10) == b"y"
            assert sock.fileno() == -1

    run(main())


def test_subclass_of_socket_keeps_its_methods(run):
    class Counting(socket.socket):
        sent = 0

        def sendto(self, *args):
            Counting.sent += 1
            return super().sendto(*args)

    async def main():
        sock = Counting(socket.AF_INET, socket.SOCK_DGRAM)
        async with endpoint(sock=sock) as (transport, _):
            transport.sendto(b"x", unused_address())
        assert Counting.sent == 1

    run(main())


@needs_ipv6
def test_ipv6_addresses_have_four_parts(run):
    async def main():
        async with endpoint(local_addr=("::1", 0)) as (transport, protocol):
            address = transport.get_extra_info("sockname")
            assert len(address) == 4
            async with endpoint(local_addr=("::1", 0)) as (sender, answers):
                sender.sendto(b"long", address)
                sender.sendto(b"short", address[:2])
                await protocol.until_received(2)
                assert protocol.received == [
                    (b"long", sender.get_extra_info("sockname")),
                    (b"short", sender.get_extra_info("sockname")),
                ]
                transport.sendto(b"answer", protocol.received[0][1])
                await answers.until_received(1)
                assert answers.received == [(b"answer", address)]

    run(main())


@needs_ipv6
def test_connected_ipv6_endpoint_may_name_its_peer(run):
    async def main():
        async with endpoint(local_addr=("::1", 0)) as (transport, protocol):
            address = transport.get_extra_info("sockname")
            async with endpoint(remote_addr=address[:2]) as (sender, _):
                sender.sendto(b"unnamed")
                sender.sendto(b"named", address)
                await protocol.until_received(2)

    run(main())


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_unix_datagrams(run, tmp_path, kind):
    def name(part):
        if kind == "abstract":
            return f"\0cxxloop-{os.getpid()}-{tmp_path.name}-{part}"
        return str(tmp_path / part)

    def as_received(part):
        return name(part).encode() if kind == "abstract" else name(part)

    async def main():
        async with endpoint(family=socket.AF_UNIX, local_addr=name("one")) as (transport, protocol):
            async with endpoint(family=socket.AF_UNIX, local_addr=name("other")) as (other, answers):
                other.sendto(b"question", name("one"))
                await protocol.until_received(1)
                assert protocol.received == [(b"question", as_received("other"))]
                transport.sendto(b"answer", protocol.received[0][1])
                await answers.until_received(1)
                assert answers.received == [(b"answer", as_received("one"))]

    run(main())


def test_unix_sender_without_a_name(run, tmp_path):
    async def main():
        path = str(tmp_path / "named")
        async with endpoint(family=socket.AF_UNIX, local_addr=path) as (transport, protocol):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.sendto(b"x", path)
                await protocol.until_received(1)
            assert protocol.received == [(b"x", None)]

    run(main())
