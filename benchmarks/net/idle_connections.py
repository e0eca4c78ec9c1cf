# SPDX-License-Identifier: MIT
"""Opens keep-alive connections, one request on each, and reports the server's memory before and after as one JSON line.

Then every connection asks once more: one that the server has closed or forgotten fails the run.
"""

import argparse
import json
import socket
import struct
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from _cpu import tree_rss_bytes

ANSWER_SECONDS_MAX = 10
# A server's limit per client address, and the ports of one, do not end the run.
CONNECTIONS_PER_ADDRESS = 2000
WARMUP_REQUESTS = 200
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def connect(port: int, number: int) -> socket.socket:
    source = f"127.0.0.{2 + number // CONNECTIONS_PER_ADDRESS}"
    sock = socket.create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS_MAX, source_address=(source, 0))
    # Nothing of these connections is left in the kernel afterwards.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    return sock


def ask(sock: socket.socket, request: bytes, body_end: bytes) -> None:
    sock.sendall(request)
    received = b""
    while not received.endswith(body_end):
        data = sock.recv(65_536)
        if not data:
            raise ConnectionError("the server closed it")
        received += data
    if b" 200 " not in received.partition(b"\r\n")[0]:
        raise ConnectionError(f"answered with {received[:80]!r}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--server-pid", type=int, required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--body", required=True, help="of the answer")
    parser.add_argument("--connections", type=int, required=True)
    arguments = parser.parse_args()
    request = f"GET {arguments.path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    body_end = b"\r\n\r\n" + arguments.body.encode()
    socks: list[socket.socket] = []
    try:
        first = connect(arguments.port, 0)
        for _ in range(WARMUP_REQUESTS):
            ask(first, request, body_end)
        before_bytes = tree_rss_bytes(arguments.server_pid)
        for number in range(arguments.connections):
            socks.append(connect(arguments.port, number))
            ask(socks[-1], request, body_end)
        after_bytes = tree_rss_bytes(arguments.server_pid)
        for sock in socks:
            ask(sock, request, body_end)
    except OSError as error:
        raise SystemExit(f"with {len(socks)} connections: {type(error).__name__}: {error}") from None
    print(json.dumps({"connections": len(socks), "rss_before_bytes": before_bytes, "rss_after_bytes": after_bytes}))


if __name__ == "__main__":
    main()
