# SPDX-License-Identifier: MIT
"""An ASGI and WSGI server on cxxloop's event loop, with uvicorn's settings."""

from .config import Config
from .error import ConfigError, ImportFromStringError

__all__ = ("Config", "ConfigError", "ImportFromStringError")
