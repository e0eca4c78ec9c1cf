# SPDX-License-Identifier: MIT
"""Every public method takes what asyncio's of the running Python takes, says so, and refuses what it refuses."""

import asyncio
import inspect
import os
import socket
import ssl
import sys
from asyncio import base_events, events, selector_events, sslproto, unix_events

import pytest
from recorder import turns

REFERENCE = {
    "loop": asyncio.SelectorEventLoop,
    "handle": events.Handle,
    "timer": events.TimerHandle,
    "threadsafe handle": getattr(events, "_ThreadSafeHandle", events.Handle),
    "server": base_events.Server,
    "stream": selector_events._SelectorSocketTransport,
    "datagram": selector_events._SelectorDatagramTransport,
    "tls": sslproto._SSLProtocolTransport,
    "reading pipe": unix_events._UnixReadPipeTransport,
    "writing pipe": unix_events._UnixWritePipeTransport,
    "process": unix_events._UnixSubprocessTransport,
}
ABSTRACT = {
    "loop": asyncio.AbstractEventLoop,
    "server": asyncio.AbstractServer,
    "stream": asyncio.Transport,
    # 3.11's own is none.
    "datagram": asyncio.DatagramTransport if sys.version_info >= (3, 12) else asyncio.BaseTransport,
    "tls": asyncio.Transport,
    "reading pipe": asyncio.ReadTransport,
    "writing pipe": asyncio.WriteTransport,
    "process": asyncio.SubprocessTransport,
}


every_kind = pytest.mark.parametrize("kind", REFERENCE)


def public_names(thing):
    return [name for name in dir(thing) if not name.startswith("_")]


def methods_of(kind):
    return [name for name in public_names(REFERENCE[kind]) if callable(getattr(REFERENCE[kind], name))]


def parameters(function):
    """Name, kind and default of each: the annotations are a type checker's business."""
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


@pytest.fixture
def make(loop, run, tmp_path):
    """Makes an object of a kind, as a program would get it from the loop."""
    makers = {
        "loop": lambda: loop,
        "handle": lambda: loop.call_soon(int),
        "timer": lambda: loop.call_later(60, int),
        "threadsafe handle": lambda: loop.call_soon_threadsafe(int),
        "server": lambda: run(loop.create_server(asyncio.Protocol, "127.0.0.1", 0)),
        "stream": lambda: run(loop.create_connection(asyncio.Protocol, sock=sockets[0]))[0],
        "datagram": lambda: run(loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0)))[0],
        "tls": lambda: sslproto_transport(loop),
        "reading pipe": lambda: run(loop.connect_read_pipe(asyncio.Protocol, pipe_files[0]))[0],
        "writing pipe": lambda: run(loop.connect_write_pipe(asyncio.BaseProtocol, pipe_files[1]))[0],
        "process": lambda: run(loop.subprocess_exec(asyncio.SubprocessProtocol, "cat"))[0],
    }
    sockets = socket.socketpair()
    pipe_files = [os.fdopen(fd, mode, 0) for fd, mode in zip(os.pipe(), ("rb", "wb"), strict=True)]
    made = []

    def make(kind):
        made.append(makers[kind]())
        return made[-1]

    yield make
    for thing in made:
        end = getattr(thing, "abort", None) or getattr(thing, "close", None) or thing.cancel
        if thing is not loop:
            end()
        if isinstance(thing, asyncio.SubprocessTransport):
            run(thing._wait())
    run(turns())
    for resource in (*sockets, *pipe_files):
        resource.close()


def sslproto_transport(loop):
    """The TLS transport of a connection that was refused at once: its class is what is asked about."""
    left, right = socket.socketpair()
    left.setblocking(False)
    context = ssl.create_default_context()
    transport = loop._make_ssl_transport(left, asyncio.Protocol(), context, server_hostname="localhost")
    right.close()
    return transport


@every_kind
def test_methods_have_asyncios_signatures(make, kind):
    thing = make(kind)
    for name in methods_of(kind):
        ours, theirs = getattr(thing, name), getattr(REFERENCE[kind], name)
        assert (name, parameters(ours)) == (name, parameters(theirs)[1:])
        assert (name, inspect.iscoroutinefunction(ours)) == (name, inspect.iscoroutinefunction(theirs))


@every_kind
def test_documented_methods_stay_documented(make, kind):
    thing = make(kind)
    documented = [name for name in methods_of(kind) if inspect.getdoc(getattr(REFERENCE[kind], name))]
    assert [name for name in documented if not inspect.getdoc(getattr(thing, name))] == []


@every_kind
def test_every_public_name_is_there_and_no_other(make, kind):
    of_each_loop = {"slow_callback_duration"}  # asyncio keeps it in the loop's __dict__, ours has a slot of the class
    assert [n for n in public_names(type(make(kind))) if n not in of_each_loop] == public_names(REFERENCE[kind])


@pytest.mark.parametrize("kind", ABSTRACT)
def test_objects_are_of_asyncios_classes(make, kind):
    assert isinstance(make(kind), ABSTRACT[kind])


def wrong_calls(method):
    """Arguments that cannot be right, whatever the values."""
    taken = inspect.signature(method).parameters.values()
    required = [p.name for p in taken if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    if not any(p.kind is p.VAR_KEYWORD for p in taken):
        yield [None] * len(required), {"nonsense": None}
    if not any(p.kind is p.VAR_POSITIONAL for p in taken):
        yield [None] * 20, {}
    if required:
        yield [], {}
        yield [None] * len(required), {required[0]: None}


@every_kind
def test_wrong_calls_are_type_errors(make, kind):
    thing = make(kind)
    for name in methods_of(kind):
        for args, keywords in wrong_calls(getattr(thing, name)):
            with pytest.raises(TypeError):
                pytest.fail(f"{name}(*{args}, **{keywords}) returned {getattr(thing, name)(*args, **keywords)!r}")


async def coroutine():
    return 1


# Every parameter by its name. Values that are wrong in themselves are as good: asyncio's own error shows that the name
# was understood.
BY_KEYWORD = {
    "loop": {
        "call_soon": {"callback": int, "context": None},
        "call_later": {"delay": 60, "callback": int, "context": None},
        "call_at": {"when": 1e9, "callback": int, "context": None},
        "call_soon_threadsafe": {"callback": int, "context": None},
        "add_reader": {"fd": -1, "callback": int},
        "add_writer": {"fd": -1, "callback": int},
        "remove_reader": {"fd": 2000},
        "remove_writer": {"fd": 2000},
        "set_debug": {"enabled": False},
        "set_task_factory": {"factory": None},
        "set_exception_handler": {"handler": None},
    },
    "stream": {
        "write": {"data": b"x"},
        "writelines": {"list_of_data": [b"x"]},
        "set_protocol": {"protocol": asyncio.Protocol()},
        "set_write_buffer_limits": {"high": 10, "low": 5},
        "get_extra_info": {"name": "nothing", "default": 7},
    },
    "datagram": {
        "sendto": {"data": b"x", "addr": ("127.0.0.1", 9)},
        "set_protocol": {"protocol": asyncio.DatagramProtocol()},
        "set_write_buffer_limits": {"high": 10, "low": 5},
        "get_extra_info": {"name": "nothing", "default": 7},
    },
    "tls": {
        "write": {"data": b""},
        "writelines": {"list_of_data": [b""]},
        "set_protocol": {"protocol": asyncio.Protocol()},
    },
    "writing pipe": {"write": {"data": b"x"}, "writelines": {"list_of_data": [b"x"]}},
    "process": {"send_signal": {"signal": 0}, "get_pipe_transport": {"fd": 0}},
}


@pytest.mark.parametrize("kind", BY_KEYWORD)
def test_parameters_have_asyncios_names(make, kind):
    thing, reference = make(kind), REFERENCE[kind]
    for name, keywords in BY_KEYWORD[kind].items():
        _, *taken = inspect.signature(getattr(reference, name)).parameters.values()
        assert keywords.keys() == {p.name for p in taken if p.kind is not p.VAR_POSITIONAL}
        try:
            getattr(thing, name)(**keywords)
        except (ValueError, OSError) as error:
            assert keywords.get("fd") == -1, error


def test_task_is_made_by_keyword(loop, run):
    keywords = {"name": "named", "context": None}
    task = loop.create_task(coro=coroutine(), **keywords)
    assert task.get_name() == "named"
    assert run(asyncio.wait_for(task, 5)) == 1


def test_the_server_is_asyncios_own(make):
    assert type(make("server")) is base_events.Server
