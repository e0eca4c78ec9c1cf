# SPDX-License-Identifier: MIT
"""Thousands of random addresses: what a datagram endpoint makes of each is what the socket module makes of it.

A library in front of libc catches what the kernel would be given, so that any address can be sent to, and keeps the
resolver from asking anybody.
"""

import json
import os
import shutil
import subprocess

import pytest

INTERPOSER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>

static unsigned char address[sizeof(struct sockaddr_storage)];
static int size = -1;

ssize_t sendto(int fd, const void* data, size_t length, int flags, const struct sockaddr* to, socklen_t to_size) {
  size = to == NULL ? 0 : (int)to_size;
  if (to != NULL) memcpy(address, to, to_size);
  return (ssize_t)length;
}

int take_address(unsigned char* into) {
  const int taken = size;
  size = -1;
  if (taken > 0) memcpy(into, address, (size_t)taken);
  return taken;
}

int getaddrinfo(const char* host, const char* port, const struct addrinfo* hints, struct addrinfo** result) {
  struct addrinfo numeric;
  memset(&numeric, 0, sizeof(numeric));
  if (hints != NULL) numeric = *hints;
  numeric.ai_flags |= AI_NUMERICHOST;
  int (*real)(const char*, const char*, const struct addrinfo*, struct addrinfo**) = dlsym(RTLD_NEXT, "getaddrinfo");
  return real(host, port, &numeric, result);
}
"""

SOURCE = r"""
    import collections, ctypes, json, pathlib, random, socket, sys

    libc = ctypes.CDLL(None)
    buffer = ctypes.create_string_buffer(128)

    def take_address():
        size = libc.take_address(buffer)
        return None if size < 0 else buffer.raw[:size].hex()

    class Index:
        def __init__(self, number):
            self.number = number
        def __index__(self):
            return self.number
        def __repr__(self):
            return f"Index({self.number})"

    class Text(str):
        pass

    class Number(int):
        pass

    Pair = collections.namedtuple("Pair", "host port")

    def octet(dice):
        return dice.choice([str(dice.randrange(256)), str(dice.randrange(300)), "0", "00", "07", "0x7f", "", " 1", "+1", "1 "])

    def ipv4(dice):
        return ".".join(octet(dice) if dice.random() < 0.3 else str(dice.randrange(256)) for _ in range(dice.choice([4, 4, 4, 4, 3, 5, 1])))

    def ipv6(dice):
        groups = [f"{dice.randrange(1 << 16):x}" for _ in range(dice.choice([8, 8, 7, 9, 2]))]
        if dice.random() < 0.5:
            groups[dice.randrange(len(groups))] = ""
        text = ":".join(groups)
        return dice.choice([text, text, "::1", "::", "fe80::1%lo", "fe80::1%1", "::ffff:" + ipv4(dice), text.upper(), f"[{text}]"])

    def host(dice):
        text = dice.choice([ipv4, ipv6])(dice)
        if dice.random() < 0.25:
            at = dice.randrange(len(text) + 1)
            text = text[:at] + dice.choice(["\0", "\n", " ", "é", "１", "٣", "\ud800", "%", ".", ":"]) + text[at:]
        return dice.choice([text, text, text, text, Text(text), text.encode("utf-8", "surrogatepass"), bytearray(b"127.0.0.1"),
                            "", "<broadcast>", None, 1, memoryview(b"::1")])

    def number(dice, most):
        value = dice.choice([dice.randrange(most + 1), 0, 1, most, most + 1, -1, 1 << 31, (1 << 31) - 1, 1 << 32, (1 << 32) - 1, 1 << 63, -(1 << 63) - 1])
        return dice.choice([value, value, value, value, Number(value), Index(value), float(value), str(value), None, True])

    def inet(dice, family):
        parts = [host(dice), number(dice, 65535), number(dice, 0xFFFFF), number(dice, 5)][: dice.choice([2, 2, 2, 2, 4, 4, 3, 1, 0])]
        if dice.random() < 0.5:  # mostly right
            right = ipv4 if family == socket.AF_INET else ipv6
            parts = [right(dice), dice.randrange(65536), dice.randrange(0x100000), dice.randrange(5)][: dice.choice([2, 2, 2, 3, 4])]
        return parts

    def path(dice):
        text = "".join(dice.choice("abc/é\udc80") for _ in range(dice.choice([0, 1, 20, 50, 106, 107, 108, 109, 200])))
        text = dice.choice(["", "\0", "\0"]) + text if dice.random() < 0.5 else text
        if dice.random() < 0.1:
            text = text[:3] + "\0" + text[3:]
        raw = text.encode("utf-8", "surrogateescape")
        return dice.choice([text, text, raw, raw, Text(text), bytearray(raw), memoryview(raw), pathlib.PurePosixPath("/tmp/x")])

    def address(dice, family):
        chance = dice.random()
        if chance < 0.04:
            return dice.choice([None, (), [], "", b"", 5, "127.0.0.1", object, {}, ((), ()), float("nan")])
        if chance < 0.1:
            return path(dice) if family != socket.AF_UNIX else tuple(inet(dice, family))
        if family == socket.AF_UNIX:
            return path(dice)
        parts = inet(dice, family)
        if chance < 0.15:
            return parts
        return Pair(*parts) if chance < 0.2 and len(parts) == 2 else tuple(parts)

    def words(error):
        return [type(error).__name__, str(error)]

    def of_socket(sock, to):
        try:
            sock.sendto(b"x", to)
        except Exception as error:
            return words(error)
        return take_address()

    class Protocol(asyncio.DatagramProtocol):
        error = None
        def error_received(self, error):
            self.error = error

    async def main(family, seeds):
        loop = asyncio.get_running_loop()
        outcome = []
        loop.set_exception_handler(lambda loop, context: outcome.append(context))
        transport, differing, sent = None, [], 0
        with socket.socket(family, socket.SOCK_DGRAM) as plain:
            plain.setblocking(False)
            for seed in seeds:
                if transport is None or transport.is_closing():
                    sock = socket.socket(family, socket.SOCK_DGRAM)
                    transport, protocol = await loop.create_datagram_endpoint(Protocol, sock=sock)
                to = address(random.Random(f"{family.name} {seed}"), family)
                expected = of_socket(plain, to)
                protocol.error = None
                outcome.clear()
                try:
                    transport.sendto(b"x", to)
                except Exception as error:
                    actual = ["raised"] + words(error)
                else:
                    error = protocol.error or (outcome[0]["exception"] if outcome else None)
                    actual = take_address() if error is None else words(error)
                sent += isinstance(expected, str)
                if actual != expected:
                    differing.append([seed, repr(to), expected, actual])
            transport.close()
            await asyncio.sleep(0)
        return sent, differing

    family = getattr(socket, sys.argv[1])
    loop = new_loop()
    loop.set_debug(False)
    print(json.dumps(loop.run_until_complete(main(family, range(int(sys.argv[2]))))))
    loop.close()
"""
SEEDS = 5000


@pytest.fixture(scope="module")
def interposer(tmp_path_factory):
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("interposer")
    (folder / "catch.c").write_text(INTERPOSER)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / "catch.so", folder / "catch.c", "-ldl"], check=True)
    return folder / "catch.so"


@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6", "AF_UNIX"])
def test_native_addresses_are_the_socket_modules(run_script, interposer, family):
    preloaded = [*os.environ.get("LD_PRELOAD", "").split(), str(interposer)]  # a sanitizer's library comes first
    environment = {"LD_PRELOAD": " ".join(preloaded)}
    sent, differing = json.loads(run_script(SOURCE, family, str(SEEDS), env=environment).stdout)
    assert differing == []
    assert sent > SEEDS // 10  # and not everything is an error
