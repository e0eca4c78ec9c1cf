# SPDX-License-Identifier: MIT
"""getaddrinfo and getnameinfo answer what the socket module answers, for every kind of argument."""

import asyncio
import itertools
import logging
import socket

import pytest

NUMERIC_HOSTS = [
    "127.0.0.1",
    b"127.0.0.1",
    "0.0.0.0",
    "127.1",
    "1",
    "0x7f.1",
    "::1",
    "::",
    "::ffff:1.2.3.4",
    "fe80::1%lo",
    "fe80::1%1",
    None,
    "",
]
BAD_HOSTS = [
    "256.1.1.1",
    "1.2.3.4.5",
    " 127.0.0.1",
    "127.0.0.1 ",
    ":::1",
    "fe80::1%nosuchinterface",
    "127.0.0.1\0",
    b"\xff\xfe",
    "a" * 64 + ".invalid",
    "..",
    5,
    1.5,
    object(),
    bytearray(b"127.0.0.1"),
]
PORTS = [0, 80, 65535, "80", b"80", "http", b"http", None, "", True]
BAD_PORTS = [-1, 65536, 10**20, "70000", "nosuchservice", "80x", 1.5, object(), " 80", "80\0"]
FAMILIES = [0, socket.AF_INET, socket.AF_INET6]
TYPES = [0, socket.SOCK_STREAM, socket.SOCK_DGRAM]
FLAGS = [0, socket.AI_PASSIVE, socket.AI_NUMERICHOST, socket.AI_NUMERICSERV, socket.AI_CANONNAME]


def outcome_of(function, *args, **kwargs):
    try:
        return function(*args, **kwargs)
    except Exception as exc:
        return type(exc), exc.args


async def outcome_of_await(awaitable):
    try:
        return await awaitable
    except Exception as exc:
        return type(exc), exc.args


def compare_getaddrinfo(loop, run, cases):
    """Each case is (host, port, family, type, proto, flags)."""

    async def main():
        different = []
        for case in cases:
            host, port, family, type, proto, flags = case
            expected = outcome_of(socket.getaddrinfo, host, port, family, type, proto, flags)
            got = await outcome_of_await(
                loop.getaddrinfo(host, port, family=family, type=type, proto=proto, flags=flags)
            )
            if got != expected:
                different.append((case, got, expected))
        return different

    assert run(main(), timeout=30) == []


@pytest.mark.parametrize("host", NUMERIC_HOSTS, ids=repr)
def test_numeric_hosts(loop, run, host):
    cases = itertools.product([host], PORTS, FAMILIES, TYPES, [0], FLAGS)
    compare_getaddrinfo(loop, run, cases)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "", None], ids=repr)
def test_unusual_types_protocols_and_families(loop, run, host):
    families = [*FAMILIES, socket.AF_UNIX, 12345, -1]
    types = [socket.SOCK_STREAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET, 99, -1]
    protos = [0, socket.IPPROTO_TCP, socket.IPPROTO_UDP, 132, 99, -1]
    compare_getaddrinfo(loop, run, itertools.product([host], [80, "http", None], families, types, protos, [0]))


def test_bad_flags(loop, run):
    cases = itertools.product(["127.0.0.1", "::1", None], [80], [0], [0], [0], [1 << 20, -1, 10**20])
    compare_getaddrinfo(loop, run, cases)


def test_bad_hosts(loop, run):
    flags = [socket.AI_NUMERICHOST]  # A literal that is none is not looked up by name.
    compare_getaddrinfo(loop, run, itertools.product(BAD_HOSTS, [80, None], FAMILIES, [0], [0], flags))


def test_bad_ports(loop, run):
    hosts = ["127.0.0.1", "::1", "", None]
    compare_getaddrinfo(loop, run, itertools.product(hosts, BAD_PORTS, [0], TYPES, [0], FLAGS[:2]))


def test_names(loop, run):
    cases = itertools.product(["localhost", b"localhost"], [80, "http"], FAMILIES[:2], TYPES, [0], [0])
    compare_getaddrinfo(loop, run, cases)


def test_name_that_does_not_exist(loop, run):
    async def main():
        with pytest.raises(socket.gaierror):
            await loop.getaddrinfo("name.invalid", 80)

    run(main(), timeout=30)  # A machine without a network waits for its resolver.


def test_results_have_the_enums_of_the_socket_module(loop, run):
    async def main():
        for host in ("127.0.0.1", "localhost"):
            family, type, *_ = (await loop.getaddrinfo(host, 80, type=socket.SOCK_STREAM))[0]
            assert isinstance(family, socket.AddressFamily)
            assert isinstance(type, socket.SocketKind)

    run(main())


def test_getaddrinfo_takes_keywords_only(loop, run):
    async def main():
        with pytest.raises(TypeError):
            await loop.getaddrinfo("127.0.0.1", 80, socket.AF_INET)
        with pytest.raises(TypeError):
            await loop.getaddrinfo("127.0.0.1")
        with pytest.raises(TypeError):
            await loop.getaddrinfo("127.0.0.1", 80, unknown=1)
        assert await loop.getaddrinfo(host="127.0.0.1", port=80, family=0, type=0, proto=0, flags=0)

    run(main())


def test_lookups_are_coroutines(loop):
    for coroutine in (loop.getaddrinfo("127.0.0.1", 80), loop.getnameinfo(("127.0.0.1", 80))):
        assert asyncio.iscoroutine(coroutine)
        coroutine.close()


def test_many_lookups_at_once(loop, run):
    async def main():
        hosts = ["127.0.0.1", "::1", "localhost", None] * 50
        results = await asyncio.gather(*(loop.getaddrinfo(host, 80) for host in hosts))
        assert results[:4] * 50 == results

    run(main())


# A program may put its own resolver in place of the one of the socket module


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "made.up", None])
def test_patched_getaddrinfo_is_asked(loop, run, monkeypatch, host):
    answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.1.2.3", 4))]
    calls = []

    def getaddrinfo(*args, **kwargs):
        calls.append(args)
        return answer

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    async def main():
        assert await loop.getaddrinfo(host, 80, type=socket.SOCK_STREAM) == answer

    run(main())
    assert [args[:2] for args in calls] == [(host, 80)]


def test_patched_getnameinfo_is_asked(loop, run, monkeypatch):
    monkeypatch.setattr(socket, "getnameinfo", lambda *args: ("made.up", str(args)))

    async def main():
        result = await loop.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST)
        assert result == ("made.up", str((("127.0.0.1", 80), socket.NI_NUMERICHOST)))

    run(main())


def test_overridden_getaddrinfo_is_used_by_connections(loop, run):
    asked = []

    async def getaddrinfo(host, port, **kwargs):
        asked.append((host, port))
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", listener.getsockname())]

    loop.getaddrinfo = getaddrinfo
    with socket.create_server(("127.0.0.1", 0)) as listener:

        async def main():
            transport, _ = await loop.create_connection(asyncio.Protocol, "made.up", 80)
            assert transport.get_extra_info("peername") == listener.getsockname()
            transport.abort()
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        run(main())
    assert asked == [("made.up", 80)]


# getnameinfo


def test_getnameinfo(loop, run):
    addresses = [
        ("127.0.0.1", 80),
        ("::1", 80, 0, 0),
        ("fe80::1", 80, 0, 1),
        ("::1", 80),
        ("fe80::1%lo", 80, 0, 0),
        ("127.0.0.1", 0),
        ("127.0.0.1", 65536),
        ("127.0.0.1", -1),
        ("name", 80),
        ("127.0.0.1",),
        "127.0.0.1",
        ("127.0.0.1", "80"),
        (127, 80),
        ("::1", 80, 10**10, 0),
        None,
    ]
    flag_sets = [
        socket.NI_NUMERICHOST | socket.NI_NUMERICSERV,
        socket.NI_NUMERICHOST,
        socket.NI_NUMERICHOST | socket.NI_DGRAM,
        socket.NI_NUMERICHOST | socket.NI_NAMEREQD,
    ]

    async def main():
        for address, flags in itertools.product(addresses, flag_sets):
            expected = outcome_of(socket.getnameinfo, address, flags)
            got = await outcome_of_await(loop.getnameinfo(address, flags))
            assert got == expected, (address, flags)
        assert await loop.getnameinfo(sockaddr=("127.0.0.1", 80), flags=flag_sets[0]) == ("127.0.0.1", "80")

    run(main())


def test_lookup_is_logged_in_debug_mode(loop, run, asyncio_records):
    loop.set_debug(True)
    run(loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM))
    texts = asyncio_records.texts(logging.DEBUG)
    assert f"Get address info 127.0.0.1:80, type={socket.SOCK_STREAM!r}" in texts
    assert any(text.startswith("Getting address info 127.0.0.1:80") for text in texts)
