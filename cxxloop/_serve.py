# SPDX-License-Identifier: MIT
"""Servers: listening, the connections of TLS servers up to the end of their handshake, running out of descriptors."""

import contextvars
import errno
import functools
import socket
from asyncio import constants, trsock
from collections.abc import Callable
from typing import Any

from . import _core
from ._memory import without_iterator

_OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Serving(_core.Loop):
    """What asyncio's Server asks of a loop."""

    __slots__ = ()

    def _start_serving(
        self,
        protocol_factory: Callable[[], Any],
        sock: socket.socket,
        sslcontext: Any = None,
        server: Any = None,
        backlog: int = 100,
        *timeouts_and_context: Any,
        **keywords: Any,
    ) -> None:
        if not self._is_plain_socket(sock):
            asyncio_loop: Any = super()
            asyncio_loop._start_serving(
                protocol_factory, sock, sslcontext, server, backlog, *timeouts_and_context, **keywords
            )
            return
        context = keywords.pop("context", timeouts_and_context[2] if len(timeouts_and_context) > 2 else None)
        on_accepted = None
        if sslcontext is not None:
            timeouts = dict(zip(("ssl_handshake_timeout", "ssl_shutdown_timeout"), timeouts_and_context), **keywords)
            connect = functools.partial(
                _accept_tls, self, protocol_factory, sslcontext=sslcontext, server=server, **timeouts
            )
            on_accepted = functools.partial(self._start_handshake, connect, context is not None)
        self._start_listening(sock, protocol_factory, server, backlog, context, on_accepted)

    def _start_handshake(
        self, connect: Callable[..., Any], has_context: bool, conn: socket.socket, address: Any
    ) -> None:
        # Called in the connection's own copy of create_server()'s context.
        context = {"context": contextvars.copy_context()} if has_context else {}
        self.create_task(connect(conn, extra={"peername": address}, **context), **context)

    def _stop_serving(self, sock: socket.socket) -> None:
        self._stop_listening(sock)
        asyncio_loop: Any = super()
        asyncio_loop._stop_serving(sock)

    def _accept_failed(
        self,
        exc: OSError,
        sock: socket.socket,
        protocol_factory: Callable[[], Any],
        server: Any,
        context: contextvars.Context | None,
        on_accepted: Callable[..., Any] | None,
    ) -> None:
        """Out of resources: stop listening for a while, as asyncio does. Other errors are reported."""
        loop: Any = self  # with asyncio's methods
        is_out = exc.errno in _OUT_OF_RESOURCES
        message = "socket.accept() out of system resource"
        if not is_out:
            message = "Exception in callback BaseSelectorEventLoop._accept_connection()"
        loop.call_exception_handler({"message": message, "exception": exc, "socket": trsock.TransportSocket(sock)})
        if not is_out or sock.fileno() < 0:  # the exception handler may have closed the server
            return
        self._stop_listening(sock)
        self.call_later(
            constants.ACCEPT_RETRY_DELAY, self._listen_again, sock, protocol_factory, server, context, on_accepted
        )

    def _listen_again(
        self,
        sock: socket.socket,
        protocol_factory: Callable[[], Any],
        server: Any,
        context: contextvars.Context | None,
        on_accepted: Callable[..., Any] | None,
    ) -> None:
        if sock.fileno() >= 0:  # the server may have been closed meanwhile
            backlog = server._backlog if server is not None else 100
            self._start_listening(sock, protocol_factory, server, backlog, context, on_accepted)


async def _accept_tls(
    loop: Any,
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
        transport = loop._make_ssl_transport(
            conn, protocol, sslcontext, waiter=waiter, server_side=True, **options
        )
        try:
            await without_iterator(waiter)
        except BaseException:
            transport.close()
            del waiter  # The waiter holds the exception of a failed handshake, which would form a cycle with this frame.
            raise
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as exc:
        if loop.get_debug():
            message = "Error on transport creation for incoming connection"
            made = {"protocol": protocol, "transport": transport}
            made = {name: value for name, value in made.items() if value is not None}
            loop.call_exception_handler({"message": message, "exception": exc, **made})


# The name that all_tasks() and log messages show.
_accept_tls.__qualname__ = "BaseSelectorEventLoop._accept_connection2"
