# SPDX-License-Identifier: MIT
"""A connection of a TLS server, from accept() to the end of its handshake."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from ._memory import without_iterator


async def accept_tls(
    loop: asyncio.AbstractEventLoop,
    protocol_factory: Callable[[], Any],
    conn: socket.socket,
    sslcontext: Any,
    **options: Any,
) -> None:
    """What asyncio's BaseSelectorEventLoop._accept_connection2() does for a connection with TLS.

    Args:
        loop: that of the server.
        protocol_factory: makes the protocol of the connection.
        conn: the connection; it ends with the transport.
        sslcontext: a context, or True.
        **options: what _make_ssl_transport() takes besides.
    """
    protocol = transport = None
    try:
        protocol = protocol_factory()
        waiter = loop.create_future()
        transport = loop._make_ssl_transport(  # type: ignore[attr-defined]  # asyncio's own hook
            conn, protocol, sslcontext, waiter=waiter, server_side=True, **options
        )
        try:
            await without_iterator(waiter)
        except BaseException:
            transport.close()
            del waiter  # A failed handshake's exception is in it, and with that a cycle.
            raise
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as exc:
        if loop.get_debug():
            message = "Error on transport creation for incoming connection"
            made = {"protocol": protocol, "transport": transport}
            made = {name: value for name, value in made.items() if value is not None}
            loop.call_exception_handler({"message": message, "exception": exc, **made})


# What all_tasks() and log messages call it.
accept_tls.__qualname__ = "BaseSelectorEventLoop._accept_connection2"
