# SPDX-License-Identifier: MIT
"""What servers are measured with. A new case is one line here; the scheduling rows are the functions of micro/scheduling.py."""

from dataclasses import dataclass

ECHO = ("echo", "latency")
TLS = ("tls",)


@dataclass(frozen=True)
class Case:
    name: str
    commands: tuple[str, ...]  # Of compare.py, which run it.
    mode: str  # Of the server (serve/echo_server.py) or of the TLS load (net/tls_client.py).
    size: int  # Bytes of a message.
    connections: int


CASES = {
    case.name: case
    for case in (
        Case("protocol-1k-100", ECHO, "protocol", 1024, 100),
        Case("protocol-1k-1", ECHO, "protocol", 1024, 1),
        Case("protocol-10k-100", ECHO, "protocol", 10 * 1024, 100),
        Case("protocol-100k-20", ECHO, "protocol", 100 * 1024, 20),
        Case("buffered-100k-20", ECHO, "buffered", 100 * 1024, 20),
        Case("streams-1k-100", ECHO, "streams", 1024, 100),
        Case("streams-exactly-1k-100", ECHO, "streams-exactly", 1024, 100),
        Case("sock-1k-100", ECHO, "sock", 1024, 100),
        Case("reader-1k-100", ECHO, "reader", 1024, 100),
        Case("udp-1k-100", ECHO, "udp", 1024, 100),
        Case("udp-1k-1", ECHO, "udp", 1024, 1),
        Case("sock-udp-1k-100", ECHO, "sock-udp", 1024, 100),
        Case("tls-echo-1k-20", TLS, "echo", 1024, 20),
        Case("tls-echo-10k-20", TLS, "echo", 10 * 1024, 20),
        Case("tls-echo-100k-4", TLS, "echo", 100 * 1024, 4),
        Case("tls-handshake", TLS, "handshake", 64, 1),
    )
}


def cases_of(command: str) -> list[str]:
    return [case.name for case in CASES.values() if command in case.commands]
