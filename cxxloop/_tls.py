# SPDX-License-Identifier: MIT
"""TLS: asyncio's own protocol between a connection and its transport, with native reading and writing."""

import types
from asyncio import sslproto, streams
from collections.abc import Callable
from typing import Any, cast

from . import _core


def with_globals(function: Callable[..., Any], **replacements: Any) -> Any:
    """Return a copy of a Python function that sees some of its module's names replaced.

    That is how asyncio's own code, as the running Python has it, makes objects of our classes.
    """
    assert isinstance(function, types.FunctionType) and function.__closure__ is None
    names = {**function.__globals__, **replacements}
    copy = types.FunctionType(function.__code__, names, function.__name__, function.__defaults__)
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__qualname__ = function.__qualname__
    copy.__doc__ = function.__doc__
    return copy


class _SSLProtocolTransport(sslproto._SSLProtocolTransport):
    """The transport of a TLS connection, as the program sees it."""

    write = _core._tls_transport_write

    @property
    def _sslcontext(self) -> Any:
        return cast(Any, self._ssl_protocol)._sslcontext


class SSLProtocol(_core.TlsProtocol, sslproto.SSLProtocol):
    """asyncio's SSLProtocol; what it does per packet is native."""

    def __init__(self, loop: Any, app_protocol: Any, *args: Any, **keywords: Any) -> None:
        super().__init__(loop, app_protocol, *args, **keywords)
        if self._server_side and isinstance(app_protocol, streams.StreamReaderProtocol):
            self._take_buffered(app_protocol)

    def _take_buffered(self, app_protocol: Any) -> None:
        # start_tls(): a client that did not wait for the upgrade has sent its first record, and the StreamReader has
        # buffered it. Since 3.14 asyncio moves those bytes itself.
        reader = getattr(app_protocol, "_stream_reader", None)
        if reader is not None and reader._buffer:
            self._incoming.write(reader._buffer)
            reader._buffer.clear()

    _get_app_transport = with_globals(
        cast(Any, sslproto.SSLProtocol)._get_app_transport, _SSLProtocolTransport=_SSLProtocolTransport
    )


# Stands for the module `sslproto` inside start_tls().
sslproto_with_ours = types.SimpleNamespace(**{**vars(sslproto), "SSLProtocol": SSLProtocol})
