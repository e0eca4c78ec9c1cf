# SPDX-License-Identifier: MIT
"""Worker classes for gunicorn: `gunicorn -k cxxloop.gunicorn.UvicornWorker app:app`.

Each class is made when it is first asked for, so that only the server it belongs to has to be installed.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from ._runner import new_event_loop

__all__ = ("ASGIWorker", "AiohttpWorker", "UvicornWorker", "WebWorker")


def _make_uvicorn_worker() -> type[Any]:
    try:
        from uvicorn_worker import UvicornWorker as Base
    except ImportError:
        from uvicorn.workers import UvicornWorker as Base

    class UvicornWorker(Base):
        """uvicorn under gunicorn. Needs uvicorn 0.36 or newer and uvicorn-worker."""

        CONFIG_KWARGS = {**Base.CONFIG_KWARGS, "loop": "cxxloop:new_event_loop"}

    return UvicornWorker


def _make_asgi_worker() -> type[Any]:
    from gunicorn.workers.gasgi import ASGIWorker as Base

    class ASGIWorker(Base):
        """gunicorn's own ASGI server."""

        def _setup_event_loop(self) -> None:
            self.loop = new_event_loop()
            asyncio.set_event_loop(self.loop)

    return ASGIWorker


def _make_aiohttp_worker() -> type[Any]:
    from aiohttp.worker import GunicornWebWorker as Base

    class AiohttpWorker(Base):
        """aiohttp's web server under gunicorn."""

        def init_process(self) -> None:
            self.loop = new_event_loop()
            asyncio.set_event_loop(self.loop)
            # Not Base's own: it would replace the loop.
            super(Base, self).init_process()

    return AiohttpWorker


def _make_web_worker() -> type[Any]:
    from .web.gunicorn_worker import WebWorker

    return WebWorker


_MAKERS: dict[str, Callable[[], type[Any]]] = {
    "ASGIWorker": _make_asgi_worker,
    "AiohttpWorker": _make_aiohttp_worker,
    "UvicornWorker": _make_uvicorn_worker,
    "WebWorker": _make_web_worker,
}


def __getattr__(name: str) -> type[Any]:
    if name not in _MAKERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    worker = _MAKERS[name]()
    worker.__qualname__ = name
    globals()[name] = worker
    return worker
