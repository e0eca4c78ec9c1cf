# SPDX-License-Identifier: MIT
"""The loop: native where it runs per callback or per packet, the running Python's own asyncio everywhere else."""

import asyncio
import contextvars
import os
import selectors
import socket
from asyncio import trsock
from collections.abc import Callable, Mapping
from typing import Any, TypeVarTuple, cast

from . import _core
from ._debug import step_of
from ._sendfile import FlowControlled
from ._dns import answers_getaddrinfo_at_once, answers_getnameinfo_at_once
from ._memory import tidy_up_after_flood
from ._patches import Patches
from ._pipes import ReadPipeTransport, WritePipeTransport
from ._serve import Serving
from ._signals import SignalWakeup
from ._subprocess import can_watch_exits, start_process
from ._tls import SSLProtocol, sslproto_with_ours, with_globals

# Keep the class under a name of our own: the launcher assigns Loop to asyncio.SelectorEventLoop.
_SelectorEventLoop = asyncio.SelectorEventLoop

_Ts = TypeVarTuple("_Ts")

# The families whose addresses native code can read and write.
_KNOWN_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)


def _name_of(getter: Callable[[], Any]) -> Any:
    """Call getsockname() or getpeername(); None if the kernel has no answer."""
    try:
        return getter()
    except OSError:
        return None


class _Poller(selectors.BaseSelector):
    """What asyncio's transports ask a loop's selector when they describe themselves."""

    def __init__(self, loop: "Loop") -> None:
        self._loop = loop

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        events = self._loop._watched_events(fileobj)
        if not events:
            raise KeyError(f"{fileobj!r} is not registered")
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        return selectors.SelectorKey(fileobj, fd, events, None)

    def close(self) -> None:
        pass

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        raise NotImplementedError("use loop.add_reader() and loop.add_writer()")

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        raise NotImplementedError("use loop.remove_reader() and loop.remove_writer()")

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        raise NotImplementedError("the loop polls by itself")


class Loop(Serving, _SelectorEventLoop):
    """An asyncio event loop whose scheduling, polling and stream transports are native.

    Args:
        backend: "auto" (the best one) or one of `build_info().backends`; else the environment variable CXXLOOP_BACKEND says.

    Raises:
        ValueError: the backend is unknown.
        OSError: the kernel has no descriptors left for the poller.
    """

    # asyncio's attributes in slots keep the __dict__ of a loop empty. Python then finds the loop's methods by its type alone,
    # which makes each call 30 ns cheaper.
    __slots__ = (
        "_asyncgens",
        "_asyncgens_shutdown_called",
        "_clock_resolution",
        "_coroutine_origin_tracking_enabled",
        "_coroutine_origin_tracking_saved_depth",
        "_csock",
        "_current_handle",
        "_default_executor",
        "_exception_handler",
        "_executor_shutdown_called",
        "_internal_fds",
        "_old_agen_hooks",
        "_selector",
        "_signal_handlers",
        "_signal_wakeup",
        "_ssock",
        "_timer_cancelled_count",
        "_transports",
        "_unix_server_sockets",
        "_watcher",
        "slow_callback_duration",
    )

    # asyncio's own, which typeshed does not know.
    _internal_fds: int
    _signal_handlers: dict[int, asyncio.Handle]

    def __init__(self, *, backend: str | None = None) -> None:
        if backend is None:
            backend = os.environ.get("CXXLOOP_BACKEND", "auto")
        self._open(backend)
        _SelectorEventLoop.__init__(self, _Poller(self))

    # What asyncio's own methods call, when a program has replaced and wrapped those.
    def _call_soon(
        self, callback: Callable[..., object], args: tuple[Any, ...], context: contextvars.Context | None
    ) -> asyncio.Handle:
        return _core.Loop.call_soon(self, callback, *args, context=context)

    def _follow_patches(self) -> None:
        _PATCHES.follow()

    # --- life -------------------------------------------------------------------------------------------------

    def _make_self_pipe(self) -> None:
        # Threads wake the poller directly; signals get a socket pair when the first handler is added.
        self._ssock = self._csock = None
        self._internal_fds += 1  # the poller's, as asyncio counts its own
        self._signal_wakeup = SignalWakeup()

    def _close_self_pipe(self) -> None:
        self._signal_wakeup.close(self)
        self._internal_fds -= 1

    def close(self) -> None:
        """Close the loop; see asyncio.loop.close()."""
        if self.is_running():
            raise RuntimeError("Cannot close a running event loop")
        if self.is_closed():
            return
        super().close()
        self._close_core()

    def __repr__(self) -> str:
        return (
            f"<{self.__class__.__name__} running={self.is_running()} "
            f"closed={self.is_closed()} debug={self.get_debug()}>"
        )

    # --- signals ----------------------------------------------------------------------------------------------

    def add_signal_handler(self, sig: int, callback: Callable[[*_Ts], object], *args: *_Ts) -> None:
        """Call callback(*args) when the signal arrives; see asyncio.loop.add_signal_handler()."""
        with self._signal_wakeup.adding(self):
            super().add_signal_handler(sig, callback, *args)

    def remove_signal_handler(self, sig: int) -> bool:
        """Remove the handler of a signal; see asyncio.loop.remove_signal_handler().

        The wakeup descriptor that was set before the first handler is set again with the last one.
        """
        removed = super().remove_signal_handler(sig)
        if removed and not self._signal_handlers:
            self._signal_wakeup.restore()
        return removed

    # --- names ------------------------------------------------------------------------------------------------

    async def getaddrinfo(
        self,
        host: bytes | str | None,
        port: bytes | str | int | None,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        """Resolve a host and a port; see asyncio.loop.getaddrinfo(). Numeric ones are answered without a thread."""
        if self.get_debug() or not answers_getaddrinfo_at_once(host, port):
            return await super().getaddrinfo(host, port, family=family, type=type, proto=proto, flags=flags)
        return socket.getaddrinfo(host, port, family, type, proto, flags)

    async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> tuple[str, str]:
        """Name an address; see asyncio.loop.getnameinfo(). Numeric answers need no thread."""
        if not answers_getnameinfo_at_once(sockaddr, flags):
            return await super().getnameinfo(sockaddr, flags)
        return socket.getnameinfo(sockaddr, flags)

    # --- sockets ----------------------------------------------------------------------------------------------

    def _native_socket(self, sock: Any) -> bool:
        if not self._is_plain_socket(sock):
            return False
        if self.get_debug() and sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")
        return True

    # Each coroutine waits by itself: a shared one makes a call that waits 0.1 us slower.

    async def sock_recv(self, sock: socket.socket, n: int) -> bytes:
        """Receive up to n bytes; see asyncio.loop.sock_recv()."""
        if not self._native_socket(sock):
            return await super().sock_recv(sock, n)
        result = self._native_sock_recv(sock, n)
        if isinstance(result, bytes):
            return result
        try:
            return await result.future
        finally:
            result.release()

    async def sock_recv_into(self, sock: socket.socket, buf: Any) -> int:
        """Receive into a writable buffer, return the number of bytes; see asyncio.loop.sock_recv_into()."""
        if not self._native_socket(sock):
            return await super().sock_recv_into(sock, buf)
        result = self._native_sock_recv_into(sock, buf)
        if isinstance(result, int):
            return result
        try:
            return await result.future
        finally:
            result.release()

    async def sock_sendall(self, sock: socket.socket, data: Any) -> None:
        """Send all of data; see asyncio.loop.sock_sendall()."""
        if not self._native_socket(sock):
            return await super().sock_sendall(sock, data)
        result = self._native_sock_sendall(sock, data)
        if result is None:
            return
        try:
            await result.future
        finally:
            result.release()

    # --- transports -------------------------------------------------------------------------------------------

    def _make_socket_transport(
        self,
        sock: socket.socket,
        protocol: Any,
        waiter: Any = None,
        *,
        extra: Any = None,
        server: Any = None,
        context: contextvars.Context | None = None,
    ) -> asyncio.Transport:
        if not self._is_plain_socket(sock):
            asyncio_loop: Any = super()
            given = {} if context is None else {"context": context}  # a parameter of newer versions
            transport = asyncio_loop._make_socket_transport(sock, protocol, waiter, extra=extra, server=server, **given)
            return cast(asyncio.Transport, transport)
        return self._make_stream_transport(sock, protocol, waiter, extra, server, context)

    def _make_ssl_transport(
        self,
        rawsock: socket.socket,
        protocol: Any,
        sslcontext: Any,
        waiter: Any = None,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        extra: Any = None,
        server: Any = None,
        context: contextvars.Context | None = None,
        **timeouts: Any,
    ) -> asyncio.Transport:
        ssl_protocol = SSLProtocol(self, protocol, sslcontext, waiter, server_side, server_hostname, **timeouts)
        self._make_socket_transport(rawsock, ssl_protocol, extra=extra, server=server, context=context)
        return cast(asyncio.Transport, ssl_protocol._app_transport)

    def _make_datagram_transport(
        self, sock: socket.socket, protocol: Any, address: Any = None, waiter: Any = None, extra: Any = None
    ) -> asyncio.DatagramTransport:
        if not self._is_plain_socket(sock) or sock.family not in _KNOWN_FAMILIES:
            asyncio_loop: Any = super()  # typeshed does not know the method
            transport = asyncio_loop._make_datagram_transport(sock, protocol, address, waiter, extra)
            return cast(asyncio.DatagramTransport, transport)
        names = {} if extra is None else extra
        names["socket"] = trsock.TransportSocket(sock)
        names["sockname"] = _name_of(sock.getsockname)
        if "peername" not in names:
            names["peername"] = _name_of(sock.getpeername)
        return self._make_native_datagram_transport(sock, protocol, address, waiter, names)

    start_tls = with_globals(_SelectorEventLoop.start_tls, sslproto=sslproto_with_ours)

    async def _sendfile_native(self, transp: Any, file: Any, offset: int, count: int | None) -> int:
        if not isinstance(transp, _core.StreamTransport):
            asyncio_loop: Any = super()
            return cast(int, await asyncio_loop._sendfile_native(transp, file, offset, count))
        self._forget_transport(transp)
        resume_reading = transp.is_reading()
        try:
            transp.pause_reading()
            await transp._make_empty_waiter()
            return await self.sock_sendfile(transp._sock, file, offset, count, fallback=False)
        finally:
            transp._reset_empty_waiter()
            if resume_reading:
                transp.resume_reading()
            self._remember_transport(transp)

    async def _sendfile_fallback(self, transp: Any, file: Any, offset: int, count: int | None) -> int:
        if isinstance(transp, _core.StreamTransport):
            transp = FlowControlled(transp)
        asyncio_loop: Any = super()
        return cast(int, await asyncio_loop._sendfile_fallback(transp, file, offset, count))

    # --- pipes and processes ----------------------------------------------------------------------------------

    def _make_read_pipe_transport(
        self, pipe: Any, protocol: Any, waiter: Any = None, extra: Any = None
    ) -> asyncio.ReadTransport:
        return ReadPipeTransport(self, pipe, protocol, waiter, extra)

    def _make_write_pipe_transport(
        self, pipe: Any, protocol: Any, waiter: Any = None, extra: Any = None
    ) -> asyncio.WriteTransport:
        return WritePipeTransport(self, pipe, protocol, waiter, extra)

    async def _make_subprocess_transport(self, *args: Any, **kwargs: Any) -> asyncio.SubprocessTransport:
        if not can_watch_exits(self):
            asyncio_loop: Any = super()
            return cast(asyncio.SubprocessTransport, await asyncio_loop._make_subprocess_transport(*args, **kwargs))
        return await start_process(self, *args, **kwargs)

    # --- what native code asks for ---------------------------------------------------------------------------

    def _step_of(self, transport: Any, sends: bool) -> Callable[[], None]:
        return step_of(transport, sends)

    def _after_flood(self, servers: list[Any], connections: int) -> bool:
        return tidy_up_after_flood(servers, connections)


_PATCHES = Patches(Loop, _SelectorEventLoop, _core.Loop)
