# SPDX-License-Identifier: MIT
"""The private names of asyncio that cxxloop stands on, looked up when it is imported.

They change between versions of CPython. One that is gone is told here, by one ImportError that lists all of them,
instead of by an AttributeError in the middle of a program.
"""

import importlib
import sys

# What native code and the modules of this package call, derive from, override or run with other names, by module.
PRIVATE_NAMES = {
    "asyncio.base_events": (
        "_format_handle",
        "BaseEventLoop._add_callback",
        "BaseEventLoop._check_callback",
        "BaseEventLoop._check_closed",
        "BaseEventLoop._run_once",
        "BaseEventLoop._timer_handle_cancelled",
        "Server._attach",
        "Server._detach",
    ),
    "asyncio.constants": ("_SendfileMode.TRY_NATIVE", "LOG_THRESHOLD_FOR_CONNLOST_WRITES"),
    "asyncio.events": ("Handle._run", "_get_running_loop"),
    "asyncio.format_helpers": ("_format_callback_source", "extract_stack"),
    "asyncio.futures": ("_set_result_unless_cancelled",),
    "asyncio.selector_events": (
        "BaseSelectorEventLoop._add_reader",
        "BaseSelectorEventLoop._add_writer",
        "BaseSelectorEventLoop._ensure_fd_no_transport",
        "BaseSelectorEventLoop._make_socket_transport",
        "BaseSelectorEventLoop._make_ssl_transport",
        "BaseSelectorEventLoop._process_self_data",
        "BaseSelectorEventLoop._remove_reader",
        "BaseSelectorEventLoop._remove_writer",
        "BaseSelectorEventLoop._sendfile_native",
        "BaseSelectorEventLoop._start_serving",
        "BaseSelectorEventLoop._stop_serving",
        "BaseSelectorEventLoop._write_to_self",
    ),
    "asyncio.sslproto": (
        "SSLProtocol._do_flush",
        "SSLProtocol._do_read",
        "SSLProtocol._do_shutdown",
        "SSLProtocol._do_write",
        "SSLProtocol._fatal_error",
        "SSLProtocol._get_app_transport",
        "SSLProtocol._process_outgoing",
        "SSLProtocol._write_appdata",
        "SSLProtocolState.WRAPPED",
        "_SSLProtocolTransport",
    ),
    "asyncio.transports": ("_FlowControlMixin._maybe_pause_protocol",),
    "asyncio.trsock": ("TransportSocket",),
    "asyncio.unix_events": (
        "_UnixReadPipeTransport._call_connection_lost",
        "_UnixReadPipeTransport._read_ready",
        "_UnixSelectorEventLoop._make_read_pipe_transport",
        "_UnixSelectorEventLoop._make_subprocess_transport",
        "_UnixSelectorEventLoop._make_write_pipe_transport",
        "_UnixSubprocessTransport",
        "_UnixWritePipeTransport._write_ready",
    ),
}


def find_missing() -> list[str]:
    """Return what asyncio does not have, as `module.name`."""
    missing: list[str] = []
    for module, names in PRIVATE_NAMES.items():
        for name in names:
            found: object = importlib.import_module(module)
            for attribute in name.split("."):
                found = getattr(found, attribute, None)
            if found is None:
                missing.append(f"{module}.{name}")
    return missing


def check_asyncio() -> None:
    missing = find_missing()
    if missing:
        version = sys.version.split()[0]
        raise ImportError(f"cxxloop: asyncio of this Python ({version}) lacks what it was made for: {', '.join(missing)}")


check_asyncio()
