# SPDX-License-Identifier: MIT
"""Name look-ups that need no thread: the C library resolves numeric hosts and ports without a server or a file."""

import socket
from typing import Any

# A program or test that replaces one of these in the socket module gets its own function called, in the executor.
_getaddrinfo = socket.getaddrinfo
_getnameinfo = socket.getnameinfo


def _is_numeric_host(host: Any) -> bool:
    if type(host) is not str or "%" in host:
        return host is None
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return True
    return False


def _is_numeric_port(port: Any) -> bool:
    if isinstance(port, str):
        return port.isascii() and port.isdigit()
    return port is None or type(port) is int


def answers_getaddrinfo_at_once(host: Any, port: Any) -> bool:
    """True if socket.getaddrinfo(host, port, ...) asks no server and reads no file."""
    return socket.getaddrinfo is _getaddrinfo and _is_numeric_host(host) and _is_numeric_port(port)


def answers_getnameinfo_at_once(sockaddr: Any, flags: int) -> bool:
    """True if socket.getnameinfo(sockaddr, flags) asks no server and reads no file."""
    numeric = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
    if socket.getnameinfo is not _getnameinfo or type(flags) is not int or flags & numeric != numeric:
        return False
    return type(sockaddr) is tuple and len(sockaddr) >= 2 and type(sockaddr[0]) is str and _is_numeric_host(sockaddr[0])
