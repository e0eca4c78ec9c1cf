# SPDX-License-Identifier: MIT
"""Load on a TLS echo server over blocking sockets. Prints the operations done and the server's CPU time for them.

echo: a message on each connection, then all the answers. handshake: connect, echo one message, say farewell.
"""

import argparse
import json
import socket
import ssl
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from _cpu import tree_cpu_ns


ANSWER_SECONDS_MAX = 10  # A server that takes longer hangs: the loop has failed the case.


def make_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def connect(context: ssl.SSLContext, port: int) -> ssl.SSLSocket:
    sock = socket.create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS_MAX)  # of each answer, too
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context.wrap_socket(sock)


def expect(sock: ssl.SSLSocket, message: bytes) -> None:
    received = b""
    while len(received) < len(message):
        chunk = sock.recv(len(message) - len(received))
        if not chunk:
            raise SystemExit("the server closed the connection")
        received += chunk
    if received != message:
        raise SystemExit("the server sent something else")


def make_echo(port: int, connections: int, message: bytes) -> Callable[[], int]:
    context = make_context()
    socks = [connect(context, port) for _ in range(connections)]

    def echo() -> int:
        for sock in socks:
            sock.sendall(message)
        for sock in socks:
            expect(sock, message)
        return len(socks)

    return echo


def make_handshake(port: int, connections: int, message: bytes) -> Callable[[], int]:
    context = make_context()

    def handshake() -> int:
        for _ in range(connections):
            sock = connect(context, port)
            sock.sendall(message)
            expect(sock, message)
            sock.unwrap().close()
        return connections

    return handshake


MODES = {"echo": make_echo, "handshake": make_handshake}


def repeat(step: Callable[[], int], seconds: float) -> int:
    operations, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        operations += step()
    return operations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--server-pid", type=int, required=True)
    parser.add_argument("--mode", choices=MODES, required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--warmup", type=float, required=True)
    parser.add_argument("--duration", type=float, required=True)
    arguments = parser.parse_args()
    step = MODES[arguments.mode](arguments.port, arguments.connections, bytes(arguments.size))
    repeat(step, arguments.warmup)
    before_ns = tree_cpu_ns(arguments.server_pid)
    operations = repeat(step, arguments.duration)
    print(json.dumps({"operations": operations, "server_cpu_ns": tree_cpu_ns(arguments.server_pid) - before_ns}))


if __name__ == "__main__":
    main()
