# SPDX-License-Identifier: MIT
"""An ASGI and WSGI server on cxxloop's event loop, with uvicorn's settings.

    import cxxloop.web
    cxxloop.web.run("app:app", port=8000)        # as uvicorn.run()
    await cxxloop.web.serve(app)                 # inside a program that runs on cxxloop

The same on the command line: `python -m cxxloop serve app:app`. An application may be any ASGI or WSGI one, or an App of plain handlers.
"""

from .app import App
from .config import Config
from .error import ConfigError, ImportFromStringError, ListenError, StartupError
from .request import ClientDisconnected, Request
from .response import JSON, File, HTTPError, Response, Streaming
from .server import Server, run, serve
from .static import StaticFiles

__all__ = (
    "App",
    "ClientDisconnected",
    "Config",
    "ConfigError",
    "File",
    "HTTPError",
    "ImportFromStringError",
    "JSON",
    "ListenError",
    "Request",
    "Response",
    "Server",
    "StartupError",
    "StaticFiles",
    "Streaming",
    "run",
    "serve",
)
