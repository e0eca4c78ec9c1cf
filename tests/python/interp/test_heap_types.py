# SPDX-License-Identifier: MIT
"""Every native type shows the garbage collector all that its objects refer to, and lets go of it in a cycle."""

import asyncio
import contextvars
import gc
import sys
import weakref

import pytest

from cxxloop import _core

pytestmark = pytest.mark.cxxloop_only("the types are ours")


class Node:
    """What the objects of the tests refer to; it may refer back to them."""

    def __call__(self, *args):
        raise AssertionError("nobody calls it")

    def connection_lost(self, exc):
        pass


def assert_shows(native, *expected):
    """The collector sees the type of `native`, which must be a native one or derived from it, and all that is expected."""
    found = gc.get_referents(native)
    assert [wanted for wanted in (type(native), *expected) if not any(wanted is one for one in found)] == []


def referent_of_type(native, name):
    (found,) = (one for one in gc.get_referents(native) if type(one).__name__ == name)
    return found


def assert_collected(make):
    """make(node) returns a native object that refers to the node; closed into a cycle, both are collected."""
    node = Node()
    node.native = make(node)
    died = weakref.ref(node)
    del node
    assert died() is not None
    gc.collect()
    assert died() is None


# --- handles --------------------------------------------------------------------------------------------------

SCHEDULERS = {
    "Handle": lambda loop, *args, **keywords: loop.call_soon(*args, **keywords),
    "TimerHandle": lambda loop, *args, **keywords: loop.call_later(1e9, *args, **keywords),
    "_ThreadSafeHandle": lambda loop, *args, **keywords: loop.call_soon_threadsafe(*args, **keywords),
}
ARGUMENT_COUNTS = [0, 1, 3, 4, 7]  # up to three lie in the handle itself
each_scheduler = pytest.mark.parametrize("schedule", SCHEDULERS.values(), ids=SCHEDULERS)


@each_scheduler
@pytest.mark.parametrize("count", ARGUMENT_COUNTS)
def test_handle_shows_callback_arguments_context_and_loop(loop, schedule, count):
    callback, context, args = Node(), contextvars.Context(), [Node() for _ in range(count)]
    handle = schedule(loop, callback, *args, context=context)
    assert_shows(handle, callback, context, loop)
    if count <= 3:
        assert_shows(handle, *args)
    else:
        assert referent_of_type(handle, "tuple") == tuple(args)
    handle.cancel()
    assert not any(one is gone for gone in (callback, *args) for one in gc.get_referents(handle))


def test_timer_shows_when(loop):
    when = loop.time() + 1e9
    timer = loop.call_at(when, Node())
    assert_shows(timer, when)
    timer.cancel()


@each_scheduler
def test_handle_shows_where_it_was_made(loop, schedule):
    loop.set_debug(True)
    handle = schedule(loop, Node())
    assert_shows(handle, handle._source_traceback)
    handle.cancel()


@each_scheduler
@pytest.mark.parametrize("count", ARGUMENT_COUNTS)
def test_handle_in_a_cycle_through_each_reference_is_collected(loop_factory, schedule, count):
    variable = contextvars.ContextVar("variable")

    def made_by(arrange):
        """A handle that its loop has let go of without a call."""

        def make(node):
            context, callback, args = contextvars.Context(), Node(), [Node() for _ in range(count)]
            callback, args = arrange(node, context, callback, args)
            loop = loop_factory()
            handle = schedule(loop, callback, *args, context=context)
            loop.close()
            return handle

        return make

    assert_collected(made_by(lambda node, context, callback, args: (node, args)))
    assert_collected(made_by(lambda node, context, callback, args: (context.run(variable.set, node), (callback, args))[1]))
    for index in range(count):
        assert_collected(made_by(lambda node, context, callback, args: (callback, [*args[:index], node, *args[index + 1 :]])))


@each_scheduler
def test_handle_in_a_cycle_with_its_loop_is_collected(loop_factory, schedule):
    def make(node):
        loop = loop_factory()
        handle = schedule(loop, Node())
        loop.close()
        loop.set_task_factory(node)
        return handle

    assert_collected(make)


# --- the loop -------------------------------------------------------------------------------------------------


def test_loop_shows_what_is_queued_and_watched(loop, socket_pair, listener):
    left, right = socket_pair()
    factory = Node()
    loop.set_task_factory(factory)
    server = loop.run_until_complete(asyncio.Task(loop.create_server(asyncio.Protocol, sock=listener), loop=loop))
    loop.add_reader(left, Node())
    loop.add_writer(right, Node())
    handles = [schedule(loop, Node()) for schedule in SCHEDULERS.values()]
    assert_shows(loop, factory, left, right, *handles)
    assert len([one for one in gc.get_referents(loop) if isinstance(one, asyncio.Handle)]) == 5  # two of them of the watches
    assert_shows(referent_of_type(loop, "Listener"), listener, server, asyncio.Protocol)
    server.close()
    for handle in handles:
        handle.cancel()


def test_loop_shows_the_transports_that_are_polled(loop, socket_pair, run):
    left, _ = socket_pair()
    transport, _ = run(loop.connect_accepted_socket(asyncio.Protocol, left))
    assert_shows(loop, transport)
    transport.pause_reading()
    assert transport not in gc.get_referents(loop)
    transport.abort()


@pytest.mark.filterwarnings("ignore:unclosed event loop:ResourceWarning")
@pytest.mark.parametrize("closes", [True, False])
def test_loop_in_a_cycle_through_each_reference_is_collected(loop_factory, socket_pair, closes):
    def made_by(arrange):
        def make(node):
            loop = loop_factory()
            arrange(loop, node)
            if closes:
                loop.close()
            return loop

        return make

    left, _ = socket_pair()
    assert_collected(made_by(lambda loop, node: loop.set_task_factory(node)))
    assert_collected(made_by(lambda loop, node: loop.set_exception_handler(node)))
    if closes:
        return  # close() lets go of the rest
    for schedule in SCHEDULERS.values():
        assert_collected(made_by(lambda loop, node, schedule=schedule: schedule(loop, node)))
    assert_collected(made_by(lambda loop, node: loop.add_reader(left, node)))


# --- transports -----------------------------------------------------------------------------------------------


@pytest.fixture
def stream(loop, socket_pair, run):
    """A stream transport that is not polled: nobody but the test holds it."""
    transport, _ = run(loop.connect_accepted_socket(asyncio.Protocol, socket_pair()[0]))
    transport.pause_reading()
    yield transport
    transport.abort()


@pytest.fixture
def datagrams(loop, run):
    transport, _ = run(loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)))
    yield transport
    transport.abort()


def assert_shows_as_transport(transport):
    transport.note = Node()
    shared = transport._loop, transport._sock, transport._protocol, transport._extra
    assert_shows(transport, *shared, transport.__dict__)


def test_stream_transport_shows_its_parts(stream):
    assert type(stream) is _core.StreamTransport
    assert_shows_as_transport(stream)
    waiter = stream._make_empty_waiter()
    assert_shows(stream, waiter)
    stream._reset_empty_waiter()


def test_accepted_transport_shows_its_server(loop, run):
    accepted = loop.create_future()

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport):
            accepted.set_result(transport)

    async def main():
        server = await loop.create_server(Protocol, "127.0.0.1", 0)
        async with server:
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            transport = await accepted
            assert_shows(transport, server)
            transport.abort()
            writer.close()
            await writer.wait_closed()

    run(main())


def test_datagram_transport_shows_its_parts(loop, datagrams, run):
    assert type(datagrams) is _core.DatagramTransport
    assert_shows_as_transport(datagrams)

    async def main():
        remote = datagrams.get_extra_info("sockname")
        connected, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=remote)
        assert_shows(connected, connected._address)
        connected.abort()

    run(main())


@pytest.mark.parametrize("place", ["protocol", "extra", "attribute"])
@pytest.mark.parametrize("kind", ["stream", "datagrams"])
@pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning")
def test_transport_in_a_cycle_is_collected(loop, run, socket_pair, kind, place):
    async def open_transport():
        if kind == "stream":
            transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, socket_pair()[0])
            transport.pause_reading()
        else:
            transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
            transport.pause_reading()
        return transport

    def make(node):
        transport = run(open_transport())
        if place == "protocol":
            transport.set_protocol(node)
        elif place == "extra":
            transport._extra["node"] = node
        else:
            transport.note = node
        return transport

    assert_collected(make)


# --- sock_* ---------------------------------------------------------------------------------------------------


def test_sock_op_shows_its_parts(loop, socket_pair):
    sock, _ = socket_pair()
    buffer = bytearray(8)
    op = loop._native_sock_recv_into(sock, buffer)
    assert type(op).__name__ == "SockOp"
    assert_shows(op, loop, sock, op.future, buffer)
    op.release()
    op = loop._native_sock_recv(sock, 8)
    assert_shows(op, loop, sock, op.future)
    op.release()


@pytest.mark.filterwarnings("ignore:unclosed event loop:ResourceWarning")
def test_sock_op_in_a_cycle_is_collected(loop_factory, socket_pair):
    sock, _ = socket_pair()

    def make(node):
        loop = loop_factory()
        op = loop._native_sock_recv(sock, 8)
        op.future.add_done_callback(node)
        op.release()
        loop.close()
        return op

    def make_waiting(node):
        loop = loop_factory()
        op = loop._native_sock_recv(sock, 8)
        loop.set_task_factory(node)
        return op

    assert_collected(make)
    assert_collected(make_waiting)


# --- TLS ------------------------------------------------------------------------------------------------------

TLS_FIELDS = ("_loop _state _sslobj _incoming _outgoing _transport _app_protocol _app_transport _write_backlog "
              "_outgoing_high_water _outgoing_low_water _incoming_high_water _incoming_low_water").split()


def make_tls_protocol(loop, server_context):
    from cxxloop._tls import SSLProtocol

    return SSLProtocol(loop, asyncio.Protocol(), server_context, loop.create_future(), server_side=True)


@pytest.mark.parametrize("field", TLS_FIELDS)
def test_tls_protocol_shows_each_field(loop, server_context, field):
    protocol = make_tls_protocol(loop, server_context)
    node = Node()
    setattr(protocol, field, node)
    assert_shows(protocol, node, sys.modules["cxxloop._core"])


@pytest.mark.parametrize("field", TLS_FIELDS)
def test_tls_protocol_in_a_cycle_through_each_field_is_collected(loop, server_context, field):
    def make(node):
        protocol = make_tls_protocol(loop, server_context)
        setattr(protocol, field, node)
        return protocol

    assert_collected(make)


# --- all of them ----------------------------------------------------------------------------------------------


def test_no_type_escapes_this_file():
    candidates = [*vars(_core).values(), *object.__subclasses__()]  # some are no attributes of the module
    types = {t.__name__ for t in candidates if isinstance(t, type) and getattr(t, "__module__", "") == "cxxloop._core"}
    tested = {*SCHEDULERS, "Loop", "Listener", "StreamTransport", "DatagramTransport", "SockOp", "TlsProtocol"}
    no_objects_of_their_own = {"SocketTransport", "NativeProtocol", "ReadPipe", "WritePipe"}
    refers_to_bytes_only = {"PipeBuffer"}
    if sys.version_info < (3, 14):
        tested -= {"_ThreadSafeHandle"}
    assert types == tested | no_objects_of_their_own | refers_to_bytes_only
