# SPDX-License-Identifier: MIT
"""What is served: an application of any interface, made into an ASGI 3 callable."""

import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from .error import ImportFromStringError

if TYPE_CHECKING:
    from .config import Config

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_logger = logging.getLogger("cxxloop.error")


def make_application(found: Any, config: "Config") -> Application:
    """Make an ASGI 3 callable of what an import string names: call a factory, find out the interface, wrap.

    Sets config.interface to the interface that was found out.

    Raises:
        ImportFromStringError: config.factory is set, and the factory cannot be called.
    """
    application = _call_factory(found, config.factory)
    if config.interface == "auto":
        config.interface = _interface_of(application)
    if config.interface == "wsgi":
        from .wsgi import WSGIApplication

        return WSGIApplication(application, threads=config.wsgi_threads, is_multiprocess=config.worker_count > 1)
    if config.interface == "asgi2":
        application = _Asgi2(application)
    if _logger.getEffectiveLevel() <= 5:
        from .trace import MessageLogger

        return MessageLogger(application)
    wrapped: Application = application
    return wrapped


def _call_factory(found: Any, is_factory: bool) -> Any:
    # uvicorn calls whatever can be called without arguments: a factory that nobody has called one is found out so.
    if not callable(found):
        raise ImportFromStringError(f"The application is no callable but {type(found).__name__}.")
    if not is_factory and (not _takes(found, 0) or _takes(found, 9)):  # what takes any number is a wrapped application
        return found
    try:
        application = found()
    except TypeError as error:
        if is_factory:
            raise ImportFromStringError(f"The factory cannot be called: {error}") from error
        return found
    if not is_factory:
        _logger.warning("ASGI app factory detected. Using it, but please consider setting the --factory flag explicitly.")
    return application


def _takes(found: Any, count: int) -> bool:
    try:
        inspect.signature(found).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:  # a builtin without a signature
        return count == 0
    return True


def _interface_of(application: Any) -> str:
    """uvicorn's rule; where that says ASGI 2, the number of arguments tells a WSGI application and a plain function apart."""
    if _is_asgi3(application):
        return "asgi3"
    match [count for count in (1, 2, 3) if _takes(application, count)]:
        case [2]:
            return "wsgi"
        case [3]:
            return "asgi3"
    return "asgi2"


def _is_asgi3(application: Any) -> bool:
    if inspect.isclass(application):
        return hasattr(application, "__await__")
    if inspect.isfunction(application):
        return inspect.iscoroutinefunction(application)
    return inspect.iscoroutinefunction(getattr(application, "__call__", None))


class _Asgi2:
    """An application of two steps: application(scope) returns what is awaited with (receive, send)."""

    def __init__(self, application: Callable[[Scope], Callable[[Receive, Send], Awaitable[None]]]) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        versions = {**scope.get("asgi", {}), "version": "2.0"}
        await self._application({**scope, "asgi": versions})(receive, send)
