# SPDX-License-Identifier: MIT
"""The sockets that a server listens on: bound by address or path, inherited by descriptor or from systemd."""

import contextlib
import ctypes
import os
import socket
import stat
import struct
from typing import TYPE_CHECKING, Any

from .error import ListenError
from .logging import style

if TYPE_CHECKING:
    from .config import Config

# SO_ATTACH_FILTER of asm-generic/socket.h: the module socket has no name for it.
_SO_ATTACH_FILTER = 26
# Classic BPF on what arrives for a listening TCP socket: drop segments with the flag SYN, take all others. As struct sock_filter:
# code, jump if true, jump if false, operand.
_DROP_SYN = (
    (0x30, 0, 0, 13),  # load the byte of the flags
    (0x45, 0, 1, 0x02),  # SYN?
    (0x06, 0, 0, 0),  # drop
    (0x06, 0, 0, 0xFFFFFFFF),  # take
)

# systemd passes its descriptors from this one on (sd_listen_fds(3)).
_SYSTEMD_FIRST_FD = 3


class Listeners:
    """Bound stream sockets, not listening yet unless they were inherited so. Close them with close().

    Args:
        config: says where; with reuse_port several can be made for one port.
        port: instead of config.port.

    Raises:
        ListenError: one line that says what cannot be listened on, and why.
    """

    def __init__(self, config: "Config", port: int | None = None) -> None:
        self.sockets: list[socket.socket] = []
        self._uds: tuple[str, int, int] | None = None  # path, device and inode of the socket file we have made
        self._is_inherited = False
        self._config = config
        try:
            self._bind(config.port if port is None else port)
            for sock in self.sockets:
                sock.setblocking(False)
        except BaseException:
            self.close()
            raise

    def refuse_new(self) -> None:
        """Have the kernel take no new connections. Those that it has taken wait to be accepted: close() would reset them.

        A client that connects meanwhile sends its SYN again after a second and is refused then, or meets another socket of the port.
        No effect on sockets that were inherited: their owner keeps them for whoever comes next.
        """
        if self._uds is not None:
            return self._remove_file()
        if self._is_inherited:
            return
        program = b"".join(struct.pack("HBBI", *instruction) for instruction in _DROP_SYN)
        memory = ctypes.create_string_buffer(program, len(program))
        fprog = struct.pack("HP", len(_DROP_SYN), ctypes.addressof(memory))
        for sock in self.sockets:
            with contextlib.suppress(OSError):  # a sandbox that has no filters
                sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, fprog)

    def close(self) -> None:
        """Close the sockets, and remove the UNIX socket's file unless it has been replaced by another one."""
        for sock in self.sockets:
            sock.close()
        self._remove_file()

    def _remove_file(self) -> None:
        if self._uds is None:
            return
        path, device, inode = self._uds
        self._uds = None  # another server may bind the path now
        with contextlib.suppress(OSError):
            found = os.stat(path)
            if (found.st_dev, found.st_ino) == (device, inode):
                os.remove(path)

    @property
    def port(self) -> int | None:
        """The port that was bound, also if it was chosen by the kernel; None: no port."""
        address = self.sockets[0].getsockname()
        return int(address[1]) if isinstance(address, tuple) else None

    def started_message(self, *, is_tls: bool) -> tuple[str, str]:
        """What the log says once they listen: plain, and for a terminal."""
        first = self.sockets[0].getsockname()
        if self._is_inherited:
            where = f"socket {first}"
        elif self._config.uds is not None:
            where = f"unix socket {self._config.uds}"
        else:
            host = self._config.host or "0.0.0.0"
            host = f"[{host}]" if ":" in host else host
            where = f"{'https' if is_tls else 'http'}://{host}:{first[1]}"
        ending = "(Press CTRL+C to quit)"
        return f"cxxloop serving on {where} {ending}", f"cxxloop serving on {style(where, bold=True)} {ending}"

    def _bind(self, port: int) -> None:
        config = self._config
        inherited = [] if config.fd is not None or config.uds is not None else _systemd_fds()
        if config.fd is not None:
            inherited = [config.fd]
        self._is_inherited = bool(inherited)
        if inherited:
            self.sockets = [_inherit(fd) for fd in inherited]
        elif config.uds is not None:
            self.sockets = [_bind_unix(config.uds, config.uds_permissions)]
            made = os.stat(config.uds)
            self._uds = (config.uds, made.st_dev, made.st_ino)
        else:
            bind_addresses(self.sockets, config.host, port, reuse_port=config.reuse_port)


def bind_addresses(sockets: list[socket.socket], host: str, port: int, *, reuse_port: bool = False) -> None:
    """Bind a stream socket to each address of a host.

    Args:
        sockets: they are appended here, also before an error.
        host, port: where; a port of 0 is chosen by the kernel, the same for all.
        reuse_port: others may be bound beside them.

    Raises:
        ListenError: one line that says what cannot be listened on, and why.
    """
    for family, kind, protocol, _, address in _resolve(host, port):
        sock = socket.socket(family, kind, protocol)
        sockets.append(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # Or "::" would take IPv4's port, too, and the socket of "0.0.0.0" could not be bound.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            sock.bind((address[0], port, *address[2:]))
        except OSError as error:
            raise _listen_error(error, f"{host}:{port}") from None
        port = sock.getsockname()[1]  # of port 0: the same for all addresses of the host


def _resolve(host: str, port: int) -> list[tuple[Any, ...]]:
    flags = socket.AI_PASSIVE
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=flags)
    except OSError as error:  # gaierror is one
        raise ListenError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from None
    return list(dict.fromkeys(found))


def _listen_error(error: OSError, where: str) -> ListenError:
    return ListenError(error.errno, f"cannot listen on {where}: {(error.strerror or str(error)).lower()}")


def _systemd_fds() -> list[int]:
    """The descriptors that systemd has passed to this process. Its variables are removed: no child of ours is meant."""
    pid, count = os.environ.get("LISTEN_PID"), os.environ.get("LISTEN_FDS", "")
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    return list(range(_SYSTEMD_FIRST_FD, _SYSTEMD_FIRST_FD + int(count)))


def _inherit(fd: int) -> socket.socket:
    try:
        duplicate = os.dup(fd)
    except OSError as error:
        raise _listen_error(error, f"descriptor {fd}") from None
    try:
        sock = socket.socket(fileno=duplicate)
    except OSError as error:
        os.close(duplicate)
        raise _listen_error(error, f"descriptor {fd}") from None
    if sock.type != socket.SOCK_STREAM or _is_connected(sock):
        sock.close()
        raise ListenError(None, f"cannot listen on descriptor {fd}: no listening stream socket")
    return sock


def _is_connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def _bind_unix(path: str, permissions: str | None) -> socket.socket:
    mode = 0o666 if permissions is None else int(permissions, 8)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        replaced = _remove_stale(path)
        if replaced is not None and permissions is None:
            mode = replaced
        sock.bind(path)
        os.chmod(path, mode)  # before listen(): nobody can connect in between
    except OSError as error:
        sock.close()
        if isinstance(error, ListenError):
            raise
        raise _listen_error(error, f"unix socket {path}") from None
    return sock


def _remove_stale(path: str) -> int | None:
    """Remove a socket file that nobody listens on any more. Returns its permissions; None: there was none."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    if not stat.S_ISSOCK(found.st_mode):
        raise ListenError(None, f"cannot listen on unix socket {path}: a file that is no socket is there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.remove(path)
            return stat.S_IMODE(found.st_mode)
        except BlockingIOError:
            pass  # its queue is full: somebody listens
    raise ListenError(None, f"cannot listen on unix socket {path}: a server listens there")
