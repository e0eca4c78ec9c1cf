# SPDX-License-Identifier: MIT
"""Logging: uvicorn's configuration and formatters, under the names cxxloop, cxxloop.error, cxxloop.access and cxxloop.asgi."""

import configparser
import copy
import http
import json
import logging
import logging.config
import os
import sys
from typing import TYPE_CHECKING, Any, Literal

from .error import ConfigError

if TYPE_CHECKING:
    from .config import Config

TRACE_LOG_LEVEL = 5
LOG_LEVELS = {
    "critical": logging.CRITICAL,
    "error": logging.ERROR,
    "warning": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": TRACE_LOG_LEVEL,
}

LOGGING_CONFIG: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "default": {
            "()": "cxxloop.web.logging.DefaultFormatter",
            "fmt": "%(levelprefix)s %(message)s",
            "use_colors": None,
        },
        "access": {
            "()": "cxxloop.web.logging.AccessFormatter",
            "fmt": '%(levelprefix)s %(client_addr)s - "%(request_line)s" %(status_code)s',
        },
    },
    "handlers": {
        "default": {"formatter": "default", "class": "logging.StreamHandler", "stream": "ext://sys.stderr"},
        "access": {"formatter": "access", "class": "logging.StreamHandler", "stream": "ext://sys.stdout"},
    },
    "loggers": {
        "cxxloop": {"handlers": ["default"], "level": "INFO", "propagate": False},
        "cxxloop.error": {"level": "INFO"},
        "cxxloop.access": {"handlers": ["access"], "level": "INFO", "propagate": False},
    },
}

_COLOURS = {
    "red": 31,
    "green": 32,
    "yellow": 33,
    "blue": 34,
    "cyan": 36,
    "bright_red": 91,
    "bright_white": 97,
}
_LEVEL_COLOURS = {
    TRACE_LOG_LEVEL: "blue",
    logging.DEBUG: "cyan",
    logging.INFO: "green",
    logging.WARNING: "yellow",
    logging.ERROR: "red",
    logging.CRITICAL: "bright_red",
}
_STATUS_COLOURS = {1: "bright_white", 2: "green", 3: "yellow", 4: "red", 5: "bright_red"}


def style(text: str, colour: str | None = None, *, bold: bool = False) -> str:
    """Wrap a text in the terminal's codes of a colour and of bold type."""
    codes = ([f"\x1b[{_COLOURS[colour]}m"] if colour else []) + (["\x1b[1m"] if bold else [])
    return "".join(codes) + text + "\x1b[0m" if codes else text


class ColourizedFormatter(logging.Formatter):
    """Adds %(levelprefix)s, coloured where the log goes to a terminal. Named as uvicorn's, with its parameters.

    Args:
        fmt: the format, with %(levelprefix)s in it.
        datefmt: of %(asctime)s.
        style: of fmt.
        use_colors: None: if stdout is a terminal.
    """

    def __init__(
        self,
        fmt: str | None = None,
        datefmt: str | None = None,
        style: Literal["%", "{", "$"] = "%",
        use_colors: bool | None = None,
    ) -> None:
        super().__init__(fmt=fmt, datefmt=datefmt, style=style)
        self.use_colors = self.should_use_colors() if use_colors is None else use_colors

    def should_use_colors(self) -> bool:
        """Whether to colour if nobody says so."""
        return _is_terminal(sys.stdout)

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Format a record; its attribute color_message replaces the text where the log is coloured."""
        record = copy.copy(record)
        padding = " " * (8 - len(record.levelname))
        level = record.levelname
        if self.use_colors:
            level = style(level, _LEVEL_COLOURS.get(record.levelno))
            if "color_message" in record.__dict__:
                record.msg = record.__dict__["color_message"]
                record.message = record.getMessage()
        record.__dict__["levelprefix"] = f"{level}:{padding}"
        return super().formatMessage(record)


class DefaultFormatter(ColourizedFormatter):
    """Of the server's own log, which goes to stderr."""

    def should_use_colors(self) -> bool:
        """Whether to colour if nobody says so."""
        return _is_terminal(sys.stderr)


class AccessFormatter(ColourizedFormatter):
    """Of the access log. Knows %(client_addr)s, %(request_line)s and %(status_code)s, as uvicorn's.

    A line that was made by access_log_format is whole already, and is written as it is.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Format a record of the access log."""
        if not isinstance(record.args, tuple) or len(record.args) != 5:
            return record.getMessage()
        client, method, path, http_version, status = record.args
        request_line = f"{method} {path} HTTP/{http_version}"
        record = copy.copy(record)
        record.__dict__["client_addr"] = client
        record.__dict__["request_line"] = style(request_line, bold=True) if self.use_colors else request_line
        record.__dict__["status_code"] = self._status_text(int(str(status)))
        return super().formatMessage(record)

    def _status_text(self, status: int) -> str:
        try:
            phrase = http.HTTPStatus(status).phrase
        except ValueError:
            phrase = ""
        text = f"{status} {phrase}"
        return style(text, _STATUS_COLOURS.get(status // 100)) if self.use_colors else text


def _is_terminal(stream: Any) -> bool:
    return stream is not None and not stream.closed and bool(stream.isatty())


def configure(config: "Config") -> None:
    """Apply the settings of logging to the process's loggers, in uvicorn's order."""
    logging.addLevelName(TRACE_LOG_LEVEL, "TRACE")
    if config.log_config is not None:
        try:
            _apply(config.log_config, config.use_colors)
        except ConfigError:
            raise
        except Exception as error:  # the file is the user's: missing, no JSON, unknown keys
            raise ConfigError("log_config", f"cannot use {config.log_config!r}: {_one_line(error)}") from None
    if config.log_level is not None:
        level = config.log_level if isinstance(config.log_level, int) else LOG_LEVELS[config.log_level]
        for name in ("cxxloop.error", "cxxloop.access", "cxxloop.asgi"):
            logging.getLogger(name).setLevel(level)
    if not config.access_log:
        access = logging.getLogger("cxxloop.access")
        access.handlers = []
        access.propagate = False


def _apply(log_config: Any, use_colors: bool | None) -> None:
    if isinstance(log_config, dict):
        if use_colors is not None:
            log_config = copy.deepcopy(log_config)
            for name in ("default", "access"):
                if name in log_config.get("formatters", {}):
                    log_config["formatters"][name]["use_colors"] = use_colors
        logging.config.dictConfig(log_config)
        return
    path = os.fspath(log_config) if isinstance(log_config, os.PathLike) else log_config
    if isinstance(path, str) and path.endswith(".json"):
        with open(path, encoding="utf-8") as file:
            logging.config.dictConfig(json.load(file))
    elif isinstance(path, str) and path.endswith((".yaml", ".yml")):
        logging.config.dictConfig(_load_yaml(path))
    elif isinstance(path, str) and not os.path.exists(path):
        raise FileNotFoundError("no such file")  # fileConfig() of Python 3.11 says KeyError: 'formatters'
    else:
        source: str | configparser.RawConfigParser = path
        logging.config.fileConfig(source, disable_existing_loggers=False)


def _load_yaml(path: str) -> Any:
    try:
        import yaml
    except ImportError:
        raise ConfigError("log_config", "a YAML file needs PyYAML: pip install 'cxxloop[web]'") from None
    with open(path, encoding="utf-8") as file:
        return yaml.safe_load(file)


def _one_line(error: Exception) -> str:
    cause = error.__cause__ or error
    text = " ".join(str(cause).split())
    return f"{type(cause).__name__}: {text}" if text else type(cause).__name__
