# SPDX-License-Identifier: MIT
"""The class of the sockets whose descriptors native code may use: Python's own, whatever socket.socket means by now."""

import _socket
import socket


def _find_plain_socket() -> type[_socket.socket]:
    # Proxies, tracers and mocks replace socket.socket, some of them before this module is imported.
    made_by_python = [
        cls for cls in _socket.socket.__subclasses__() if (cls.__module__, cls.__qualname__) == ("socket", "socket")
    ]
    return next(cls for cls in (socket.socket, *made_by_python) if cls in made_by_python)


plain_socket = _find_plain_socket()
