# SPDX-License-Identifier: MIT
"""ASGI's lifespan protocol (asgiref, specs/lifespan.rst, version 2.0), with uvicorn's modes and log."""

import asyncio
import logging
from typing import Any

from .application import Application, Message

_WRONG_STATE = "Got invalid state transition on lifespan protocol."

_logger = logging.getLogger("cxxloop.error")


class Lifespan:
    """Starts and ends one application. Used on one event loop.

    Args:
        application: an ASGI 3 callable.
        mode: "auto": an application that raises has no lifespan; "on": it has failed to start; "off": nothing is called.

    Attributes:
        state: what the application has put into scope["state"]; each request gets a copy of it.
        should_exit: True exactly when the application has failed to start or to end.
    """

    def __init__(self, application: Application, mode: str) -> None:
        self.state: dict[str, Any] = {}
        self.should_exit = False
        self._application = application
        self._mode = mode
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._started = asyncio.Event()
        self._ended = asyncio.Event()
        self._has_raised = False
        self._startup_failed = False
        self._shutdown_failed = False
        self._task: asyncio.Task[None] | None = None

    async def startup(self) -> None:
        """Tell the application to start, and wait until it has. should_exit says whether it failed."""
        if self._mode == "off":
            return
        _logger.info("Waiting for application startup.")
        self._messages.put_nowait({"type": "lifespan.startup"})
        self._task = asyncio.get_running_loop().create_task(self._run())
        await self._started.wait()
        if self._startup_failed or (self._has_raised and self._mode == "on"):
            _logger.error("Application startup failed. Exiting.")
            self.should_exit = True
        else:
            _logger.info("Application startup complete.")

    async def shutdown(self) -> None:
        """Tell the application to end, and wait until it has. Nothing happens if it was not started or has raised before."""
        if self._task is None or self._has_raised:
            return
        _logger.info("Waiting for application shutdown.")
        self._messages.put_nowait({"type": "lifespan.shutdown"})
        await self._ended.wait()
        if self._shutdown_failed or (self._has_raised and self._mode == "on"):
            _logger.error("Application shutdown failed. Exiting.")
            self.should_exit = True
        else:
            _logger.info("Application shutdown complete.")

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        try:
            await self._application(scope, self._messages.get, self._send)
        except BaseException as error:
            self._has_raised = True
            if self._startup_failed or self._shutdown_failed:
                return  # the application has said so itself
            if isinstance(error, asyncio.CancelledError) and self._started.is_set():
                return  # a forced end: the loop cancels what is left
            if self._mode == "auto":
                _logger.info("ASGI 'lifespan' protocol appears unsupported.")
            else:
                _logger.error("Exception in 'lifespan' protocol\n", exc_info=error)
        finally:
            self._started.set()
            self._ended.set()

    async def _send(self, message: Message) -> None:
        kind, _, outcome = message["type"].removeprefix("lifespan.").partition(".")
        if kind not in ("startup", "shutdown") or outcome not in ("complete", "failed"):
            raise AssertionError(f"Got unexpected message {message['type']!r} on lifespan protocol.")
        is_startup = kind == "startup"
        if self._ended.is_set() or self._started.is_set() == is_startup:
            raise AssertionError(_WRONG_STATE)
        if outcome == "failed":
            if is_startup:
                self._startup_failed = True
            else:
                self._shutdown_failed = True
            if message.get("message"):
                _logger.error(message["message"])
        (self._started if is_startup else self._ended).set()
