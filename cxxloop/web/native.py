# SPDX-License-Identifier: MIT
"""The settings as the native server wants them."""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .error import ConfigError

if TYPE_CHECKING:
    from .config import Config

# Option of the native server: setting.
_SAME = {
    "head_seconds": "timeout_head_seconds",
    "body_seconds": "timeout_body_seconds",
    "handler_seconds": "timeout_handler_seconds",
    "idle_seconds": "timeout_keep_alive",
    "write_seconds": "timeout_write_seconds",
    "handshake_seconds": "timeout_handshake_seconds",
    "body_rate_min": "limit_body_rate_bytes_per_second",
    "body_rate_grace_seconds": "timeout_body_rate_grace_seconds",
    "body_bytes_max": "limit_body_bytes",
    "body_buffer_bytes": "limit_body_buffer_bytes",
    "write_buffer_bytes": "limit_write_buffer_bytes",
    "line_bytes_max": "limit_request_line_bytes",
    "head_bytes_max": "limit_head_bytes",
    "headers_max": "limit_headers",
    "requests_per_connection_max": "limit_requests_per_connection",
    "connections_max": "limit_connections",
    "connections_per_address_max": "limit_connections_per_address",
    "websocket_message_bytes_max": "ws_max_size",
    "websocket_queue_messages_max": "ws_max_queue",
    "websocket_ping_seconds": "ws_ping_interval",
    "websocket_pong_seconds": "ws_ping_timeout",
    "websocket_close_seconds": "ws_close_seconds",
    "websocket_deflate": "ws_per_message_deflate",
    "root_path": "root_path",
    "date_header": "date_header",
    "health_path": "health_path",
    "proxies": "forwarded_allow_ips",
    "proxy_protocol": "proxy_protocol",
}


def import_native() -> ModuleType:
    """Import the native server.

    Raises:
        ConfigError: this build of cxxloop has none.
    """
    try:
        return importlib.import_module("cxxloop._web")
    except ImportError as error:
        raise ConfigError("cxxloop.web", f"this build of cxxloop has no web server: {error}") from None


def native_options(config: "Config", tls: Any) -> dict[str, Any]:
    """Make the options of the native server.

    Args:
        config: the settings.
        tls: the SSLContext, or None.
    """
    options = {name: getattr(config, setting) for name, setting in _SAME.items()}
    options["concurrency_max"] = config.limit_concurrency or 0
    options["scheme"] = "https" if tls is not None else "http"
    headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in config.headers]
    options["headers"] = headers
    has_own_server = any(name == b"server" for name, _ in headers)
    options["server_header"] = "cxxloop" if config.server_header and not has_own_server else None
    options["websockets"] = config.ws != "none"
    options["trusted"] = config.forwarded_allow_ips if config.proxy_headers else []
    options["tls"] = tls
    options["tls_engine"] = config.ssl_engine
    return options
