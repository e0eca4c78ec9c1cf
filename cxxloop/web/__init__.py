# SPDX-License-Identifier: MIT
"""An ASGI and WSGI server on cxxloop's event loop, with uvicorn's settings.

    import cxxloop.web
    cxxloop.web.run("app:app", port=8000)        # as uvicorn.run()
    await cxxloop.web.serve(app)                 # inside a program that runs on cxxloop

The same on the command line: `python -m cxxloop serve app:app`.
"""

from .config import Config
from .error import ConfigError, ImportFromStringError, ListenError, StartupError
from .server import Server, run, serve
from .static import StaticFiles

__all__ = (
    "Config",
    "ConfigError",
    "ImportFromStringError",
    "ListenError",
    "Server",
    "StartupError",
    "StaticFiles",
    "run",
    "serve",
)
