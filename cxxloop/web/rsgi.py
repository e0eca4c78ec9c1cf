# SPDX-License-Identifier: MIT
"""RSGI applications (granian's docs/spec/RSGI.md, version 1.6) as ASGI ones."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from . import application as asgi
from .application import Receive, Send
from .error import StartupError
from .rsgi_http import HTTPProtocol, HTTPStreamTransport
from .rsgi_outbox import Outbox, ProtocolClosed, ProtocolError
from .rsgi_scope import Headers, Scope
from .rsgi_websocket import WebsocketMessage, WebsocketMessageType, WebsocketProtocol, WebsocketTransport

__all__ = [
    "HTTPProtocol",
    "HTTPStreamTransport",
    "Headers",
    "ProtocolClosed",
    "ProtocolError",
    "RSGIApplication",
    "Scope",
    "WebsocketMessage",
    "WebsocketMessageType",
    "WebsocketProtocol",
    "WebsocketTransport",
]

_logger = logging.getLogger("cxxloop.error")

RSGICallable = Callable[[Scope, Any], Awaitable[Any]]


class RSGIApplication:
    """An ASGI 3 callable that runs an RSGI application.

    Args:
        application: an object with __rsgi__(scope, protocol), or a callable of these two.
    """

    def __init__(self, application: Any) -> None:
        self._call: RSGICallable = getattr(application, "__rsgi__", application)
        self._application = application
        self._is_started = False  # True exactly from start() to end()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Call __rsgi_init__(loop), if the application has it. The loop must not run where that is to run it.

        Raises:
            StartupError: it has failed, and the log says why.
        """
        try:
            self._call_hook("__rsgi_init__", loop)
        except Exception as error:
            _logger.error("Exception in __rsgi_init__()\n", exc_info=error)
            raise StartupError("application startup failed") from None
        self._is_started = True

    def end(self, loop: asyncio.AbstractEventLoop) -> None:
        """Call __rsgi_del__(loop), if the application has it; the log says if it fails."""
        self._is_started = False
        try:
            self._call_hook("__rsgi_del__", loop)
        except Exception as error:
            _logger.error("Exception in __rsgi_del__()\n", exc_info=error)

    async def __call__(self, scope: asgi.Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._run_lifespan(receive, send)
            return
        outbox = Outbox(send)
        make_protocol = HTTPProtocol if scope["type"] == "http" else WebsocketProtocol
        protocol = make_protocol(scope, receive, outbox)
        try:
            await self._call(Scope(scope), protocol)
            protocol.end()
            await outbox.flush()
        except ProtocolClosed:
            pass  # nobody is left to answer
        except Exception:
            with contextlib.suppress(OSError):  # what was answered before counts
                await outbox.flush()
            raise
        finally:
            outbox.close()

    def _call_hook(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        hook = getattr(self._application, name, None)
        if hook is not None:
            hook(loop)

    async def _run_lifespan(self, receive: Receive, send: Send) -> None:
        # Inside a program the loop runs already: only then is it left to the lifespan.
        is_left_to_us = not self._is_started
        loop = asyncio.get_running_loop()
        await receive()
        if is_left_to_us:
            try:
                self.start(loop)
            except StartupError:
                await send({"type": "lifespan.startup.failed", "message": ""})
                return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if is_left_to_us:
            self.end(loop)
        await send({"type": "lifespan.shutdown.complete"})
