# SPDX-License-Identifier: MIT
"""What libraries read, call and replace beyond the documented interface of loops, servers and transports."""

import asyncio
import contextlib
import contextvars
import signal
import socket
import sys
import threading
from asyncio import base_events, constants, trsock

import pytest

VARIABLE = contextvars.ContextVar("variable", default="unset")


class Recorder(asyncio.Protocol):
    """Keeps what arrives, and the transport."""

    def __init__(self):
        self.received = bytearray()
        self.contexts = []
        self.transport = None
        self.lost = False

    def connection_lost(self, exc):
        self.lost = True

    def connection_made(self, transport):
        self.transport = transport
        self.contexts.append(VARIABLE.get())

    def data_received(self, data):
        self.received += data
        self.contexts.append(VARIABLE.get())


@pytest.fixture
def stream(loop, run, socket_pair):
    """(transport, protocol, socket of the peer)"""
    ours, theirs = socket_pair()
    transport, protocol = run(loop.create_connection(Recorder, sock=ours))
    yield transport, protocol, theirs
    transport.abort()
    run(asyncio.sleep(0))


async def until(condition):
    while not condition():
        await asyncio.sleep(0)


# Private methods and names of the loop


def test_one_turn_can_be_asked_for(loop):
    seen = []
    loop.call_soon(lambda: (seen.append("first"), loop.call_soon(seen.append, "second")))
    loop._run_once()
    assert seen == ["first"]
    loop._run_once()
    assert seen == ["first", "second"]


def test_the_root_task_is_known_by_its_callback(loop):
    async def callbacks():
        return [callback for callback, _ in asyncio.current_task()._callbacks or ()]

    assert base_events._run_until_complete_cb in loop.run_until_complete(callbacks())


def test_the_loop_has_what_asyncio_keeps_in_it(loop):
    assert loop._default_executor is None
    assert loop._thread_id is None
    assert loop._debug is False
    assert loop._closed is False
    assert loop._stopping is False
    assert loop._task_factory is None
    assert loop._exception_handler is None
    assert loop.slow_callback_duration == 0.1
    assert len(loop._ready) == len(loop._scheduled) == 0
    assert loop._selector.get_map() is not None


def test_names_of_the_loop_tell_what_happens(loop, run):
    async def look():
        assert loop._thread_id == threading.get_ident()
        loop.call_soon(int)
        timer = loop.call_later(60, int)
        lengths = len(loop._ready), len(loop._scheduled)
        timer.cancel()
        await loop.run_in_executor(None, int)
        return lengths

    before = len(loop._scheduled)
    ready, scheduled = loop.run_until_complete(look())
    assert (ready, scheduled) == (1, before + 1)
    assert loop._default_executor is not None
    run(loop.shutdown_default_executor())
    loop.close()
    assert loop._closed is True


def test_names_of_the_loop_can_be_assigned(loop, turn, asyncio_records, logged_errors):
    loop._debug = True
    assert loop.get_debug()
    loop.slow_callback_duration = 0.0
    loop.call_soon(int)
    turn()
    assert any(text.startswith("Executing <Handle int()") for _, text in asyncio_records.records)
    loop._debug = False
    assert not loop.get_debug()
    loop.anything = 7
    assert loop.anything == vars(loop)["anything"] == 7


@pytest.mark.cxxloop_only("for speed: see Loop.__slots__")
def test_the_loops_own_attributes_leave_its_dict_empty(loop, run, tmp_path):
    async def main():
        loop.add_signal_handler(signal.SIGUSR1, int)
        server = await loop.create_unix_server(asyncio.Protocol, tmp_path / "server")
        await loop.run_in_executor(None, int)
        server.close()

    run(main())
    loop.set_exception_handler(None)
    loop.set_debug(True)
    run(asyncio.sleep(0))
    assert vars(loop) == {}


def test_methods_replaced_on_the_loop_are_called(loop, run):
    """As libraries do that put their own transports under every loop."""
    prefixes = ("create_", "connect_", "sock_", "add_", "remove_")
    replaceable = [name for name in dir(asyncio.AbstractEventLoop) if name.startswith(prefixes)]
    assert len(replaceable) >= 17
    calls = []

    def wrap(name):
        original = getattr(loop, name)

        def wrapped(*args, **keywords):
            calls.append(name)
            return original(*args, **keywords)

        return wrapped

    for name in replaceable:
        setattr(loop, name, wrap(name))

    async def use():
        server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await reader.read() == b""
        writer.close()
        server.close()

    run(use())
    assert {"create_server", "create_connection", "create_task"} <= set(calls)
    for name in replaceable:
        delattr(loop, name)


def test_property_in_the_place_of_a_method_is_not_read_before_it_is_needed(loop):
    class Clocked(type(loop)):
        def __init__(self):
            super().__init__()
            self.clock = lambda: 5.0

        @property
        def time(self):
            return self.clock

    clocked = Clocked()
    assert clocked.time() == 5.0
    assert clocked.run_until_complete(asyncio.sleep(0, 7)) == 7
    clocked.close()


def test_clock_set_on_the_loop_moves_its_timers(loop, turn):
    now = 1000.0
    loop.time = lambda: now
    seen = []
    loop.call_later(50, seen.append, "later")
    loop.call_at(1020, seen.append, "at")
    seen_at = []
    for now in (1000.0, 1030.0, 1060.0):
        turn()
        seen_at.append(tuple(seen))
    assert seen_at == [(), ("at",), ("at", "later")]


# Servers


def test_server_has_asyncios_private_names(loop, run, tls_contexts):
    server = run(loop.create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=tls_contexts[0]))
    assert server._ssl_context is tls_contexts[0]
    assert [type(sock) for sock in server._sockets] == [socket.socket]
    assert type(server.sockets) is tuple
    assert [type(sock) for sock in server.sockets] == [trsock.TransportSocket]
    server.close()
    assert server.sockets == ()
    assert server._sockets is None


# Transports


def test_transport_has_asyncios_private_names(loop, stream):
    transport, protocol, _ = stream
    assert transport._loop is loop
    assert transport._protocol is protocol
    assert transport._extra["socket"] is transport.get_extra_info("socket")
    assert transport._sock.fileno() == transport._sock_fd
    assert isinstance(transport.get_extra_info("socket"), trsock.TransportSocket)
    assert transport._start_tls_compatible is True
    assert transport._sendfile_compatible is constants._SendfileMode.TRY_NATIVE
    assert transport.max_size == 256 * 1024


def test_the_write_buffer_can_be_looked_at(stream):
    transport, _, _ = stream
    buffer_type = type(transport._buffer)
    assert not transport._buffer
    while not transport._buffer:
        transport.write(bytes(64 * 1024))
    transport.write(b"the end")
    buffer = transport._buffer
    assert type(buffer) is buffer_type
    joined = bytes(buffer) if buffer_type is bytearray else b"".join(bytes(chunk) for chunk in buffer)
    assert len(joined) == transport.get_write_buffer_size()
    assert joined.endswith(b"the end")
    transport.abort()
    assert not transport._buffer


@contextlib.asynccontextmanager
async def tls_connection(loop, contexts):
    """Transport and protocol of a client."""
    server_side = Recorder()
    server = await loop.create_server(lambda: server_side, "127.0.0.1", 0, ssl=contexts[0])
    address = server.sockets[0].getsockname()
    transport, protocol = await loop.create_connection(Recorder, *address, ssl=contexts[1], server_hostname="localhost")
    try:
        yield transport, protocol
    finally:
        transport.abort()
        server.close()
        await until(lambda: protocol.lost and server_side.lost)


def test_tls_transport_has_asyncios_private_names(loop, run, tls_contexts):
    async def use():
        async with tls_connection(loop, tls_contexts) as (transport, protocol):
            assert transport._ssl_protocol._sslcontext is tls_contexts[1]
            assert transport._ssl_protocol._extra["sslcontext"] is tls_contexts[1]
            assert transport._loop is loop
            assert transport._ssl_protocol._app_protocol is protocol
            assert transport._start_tls_compatible is True
            assert transport._sendfile_compatible is constants._SendfileMode.FALLBACK

    run(use())


@pytest.mark.cxxloop_only(reason="libraries written for older asyncio read it; uvloop has it")
def test_tls_transport_knows_its_context(loop, run, tls_contexts):
    async def use():
        async with tls_connection(loop, tls_contexts) as (transport, _):
            assert transport._sslcontext is tls_contexts[1]

    run(use())


def test_write_can_be_replaced_on_one_transport(run, stream):
    transport, _, peer = stream
    written = []
    transport.write = written.append
    transport.write(b"kept")
    assert written == [b"kept"]
    del transport.write
    transport.write(b"sent")
    run(asyncio.sleep(0))
    assert peer.recv(100) == b"sent"


def test_get_extra_info_can_be_replaced_on_the_class(stream, monkeypatch):
    transport, _, _ = stream
    monkeypatch.setattr(asyncio.BaseTransport, "get_extra_info", lambda self, name, default=None: ("patched", name))
    assert transport.get_extra_info("peername") == ("patched", "peername")


def test_writes_after_the_end_raise_nothing(run, stream, asyncio_records):
    transport, _, _ = stream
    transport.abort()
    run(asyncio.sleep(0))
    for _ in range(10):
        transport.write(b"x")
    assert any(text == "socket.send() raised exception." for _, text in asyncio_records.records)


def test_drain_after_the_end_raises_connection_reset(loop, run, socket_pair):
    async def use():
        ours, theirs = socket_pair()
        _, writer = await asyncio.open_connection(sock=ours)
        writer.transport.abort()
        await asyncio.sleep(0)
        writer.write(b"x")
        with pytest.raises(ConnectionResetError, match="^Connection lost$"):
            await writer.drain()

    run(use())


@pytest.mark.parametrize("end", ["close", "abort"])
def test_start_tls_on_a_transport_that_closes_returns_none(loop, run, stream, tls_contexts, end):
    transport, protocol, _ = stream

    async def use():
        getattr(transport, end)()
        return await loop.start_tls(transport, protocol, tls_contexts[1], server_hostname="localhost")

    assert run(use()) is None


def test_start_tls_on_a_transport_that_was_closed_gets_no_answer(loop, run, stream, tls_contexts):
    transport, protocol, _ = stream
    transport.close()
    run(asyncio.sleep(0))
    with pytest.raises(asyncio.TimeoutError):
        run(loop.start_tls(transport, protocol, tls_contexts[1], server_hostname="localhost"), timeout=0.1)


# Contexts


def test_callbacks_of_a_client_run_in_the_context_it_was_made_in(loop, run, socket_pair):
    async def use():
        ours, theirs = socket_pair()
        VARIABLE.set("of the connect")
        transport, protocol = await loop.create_connection(Recorder, sock=ours)
        VARIABLE.set("changed since")
        theirs.send(b"x")
        await until(lambda: protocol.received)
        transport.abort()
        await asyncio.sleep(0)
        return protocol.contexts

    assert run(use()) == ["of the connect"] * 2


def test_callbacks_of_a_server_run_in_the_context_asyncio_gives_them(loop, run):
    async def use():
        protocols = []

        def factory():
            protocols.append(Recorder())
            return protocols[-1]

        VARIABLE.set("of the server")
        server = await loop.create_server(factory, "127.0.0.1", 0)
        VARIABLE.set("changed since")
        with socket.create_connection(server.sockets[0].getsockname()) as client:
            client.send(b"x")
            await until(lambda: protocols and protocols[0].received)
        protocols[0].transport.abort()
        server.close()
        await asyncio.sleep(0)
        return protocols[0].contexts

    assert run(use()) == ["of the server"] * 2


# Handles


@pytest.mark.skipif(sys.version_info < (3, 14), reason="before 3.14 handles are those of call_soon()")
def test_cancel_waits_for_a_callback_that_runs_in_another_thread(loop):
    started, go_on, order = threading.Event(), threading.Event(), []

    def callback():
        started.set()
        go_on.wait(10)
        order.append("callback ends")

    def cancel():
        handle = loop.call_soon_threadsafe(callback)
        assert isinstance(handle, asyncio.Handle)
        started.wait(10)
        threading.Timer(0.05, go_on.set).start()
        handle.cancel()
        order.append("cancel returns")
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=cancel)
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    assert order == ["callback ends", "cancel returns"]


# Orders of set_event_loop(), task factories, signals


@contextlib.contextmanager
def policy_kept():
    try:
        yield
    finally:
        asyncio.set_event_loop(None)


def test_the_current_loop_can_be_unset_and_set_in_any_order(loop, run):
    with policy_kept():
        asyncio.set_event_loop(None)
        assert run(current()) is loop
        asyncio.set_event_loop(loop)
        assert asyncio.get_event_loop() is loop
        assert run(current()) is loop
        asyncio.set_event_loop(None)
        loop.close()
        asyncio.set_event_loop(None)


async def current():
    assert asyncio.get_event_loop() is asyncio.get_running_loop()
    return asyncio.get_running_loop()


def keywords_of_a_task_factory(loop):
    seen = []

    def factory(loop, coro, **keywords):
        seen.append(keywords)
        return asyncio.Task(coro, loop=loop, **keywords)

    async def use():
        await loop.create_task(asyncio.sleep(0))
        await loop.create_task(asyncio.sleep(0), name="named")
        await loop.create_task(asyncio.sleep(0), context=None)
        await asyncio.ensure_future(asyncio.sleep(0))

    loop.set_task_factory(factory)
    loop.run_until_complete(use())
    return seen


def test_task_factory_gets_the_keywords_of_this_python(loop):
    with contextlib.closing(asyncio.SelectorEventLoop()) as reference:
        expected = keywords_of_a_task_factory(reference)
    assert keywords_of_a_task_factory(loop) == expected
    assert len(expected) == 5


def test_handler_of_sigchld_is_allowed(loop, run):
    seen = []
    loop.add_signal_handler(signal.SIGCHLD, seen.append, "child")

    async def use():
        process = await asyncio.create_subprocess_exec("true")
        assert await process.wait() == 0
        await until(lambda: seen)

    run(use())
    assert loop.remove_signal_handler(signal.SIGCHLD)
    assert set(seen) == {"child"}


# Sockets


OPERATIONS = {
    "sock_accept": (),
    "sock_connect": (("127.0.0.1", 1),),
    "sock_recv": (1,),
    "sock_recv_into": (bytearray(1),),
    "sock_recvfrom": (1,),
    "sock_sendall": (b"x",),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_debug_mode_refuses_blocking_sockets(loop, run, operation):
    loop.set_debug(True)
    with socket.socket() as sock:
        with pytest.raises(ValueError, match="^the socket must be non-blocking$"):
            run(getattr(loop, operation)(sock, *OPERATIONS[operation]))


def test_getaddrinfo_replaced_in_the_module_is_asked(loop, run, monkeypatch):
    answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.9", 80))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **keywords: answer)
    assert run(loop.getaddrinfo("127.0.0.1", 80)) == answer
    run(loop.shutdown_default_executor())
