# SPDX-License-Identifier: MIT
"""Pipe transports: asyncio's own, with native reading and writing in front."""

from asyncio import unix_events
from asyncio.log import logger
from typing import Any

from . import _core

_unix_events: Any = unix_events  # typeshed does not know its private classes


class ReadPipeTransport(_core.ReadPipe, _unix_events._UnixReadPipeTransport):
    """The reading end of a pipe, FIFO, socket or terminal."""

    def _end_of_file(self) -> None:
        if self._loop.get_debug():
            logger.info("%r was closed by peer", self)
        self._closing = True
        self._loop._remove_reader(self._fileno)
        self._loop.call_soon(self._protocol.eof_received)
        self._loop.call_soon(self._call_connection_lost, None)

    def _read_failed(self, failure: Exception) -> None:
        try:
            raise failure
        except Exception as exc:  # debug mode logs the exception that is being handled
            self._fatal_error(exc, "Fatal read error on pipe transport")

    def _call_connection_lost(self, exc: BaseException | None) -> None:
        if self._pipe is None:  # asyncio may call it twice, for an end of file and a close()
            return
        # A close() in connection_made() comes before the reader is added.
        self._loop._remove_reader(self._fileno)
        super()._call_connection_lost(exc)


class WritePipeTransport(_core.WritePipe, _unix_events._UnixWritePipeTransport):
    """The writing end of a pipe, FIFO, socket or character device."""

    # asyncio's own counts and warns once the connection is lost.
    _write_lost = _unix_events._UnixWritePipeTransport.write

    def __init__(self, loop: Any, pipe: Any, protocol: Any, waiter: Any = None, extra: Any = None) -> None:
        super().__init__(loop, pipe, protocol, waiter, extra)
        self._buffer = _core.PipeBuffer()

    def _drained(self) -> None:
        """Called when everything was written; does what asyncio does at the end of its _write_ready()."""
        self._loop._remove_writer(self._fileno)
        self._maybe_resume_protocol()  # may write again, and close
        if self._closing and not self._buffer:
            self._loop._remove_reader(self._fileno)
            self._call_connection_lost(None)

    def _write_failed(self, failure: Exception) -> None:
        self._buffer.clear()
        self._conn_lost += 1
        self._loop._remove_writer(self._fileno)
        try:
            raise failure
        except Exception as exc:  # debug mode logs the exception that is being handled
            self._fatal_error(exc, "Fatal write error on pipe transport")

    def _close(self, exc: BaseException | None = None) -> None:
        if self._pipe is not None:  # None if abort() is called after the end
            super()._close(exc)

    def _call_connection_lost(self, exc: BaseException | None) -> None:
        if self._pipe is None:  # scheduled twice: by close() and by abort(), or by the peer's end
            return
        # A close() in connection_made() comes before the watch for the peer's end is added.
        self._loop._remove_reader(self._fileno)
        super()._call_connection_lost(exc)
