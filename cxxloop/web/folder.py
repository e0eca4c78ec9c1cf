# SPDX-License-Identifier: MIT
"""Folder: opens the regular files of one folder and nothing outside of it, whoever changes the folder meanwhile.

The kernel itself keeps the way to a file inside the folder (openat2() with RESOLVE_BENEATH, Linux 5.6). Where that call is missing
or forbidden, each component is opened by itself, relative to the one before, with O_NOFOLLOW. Nothing is checked by its path before
it is opened: what is opened is looked at by its descriptor.
"""

import errno
import os
import stat
import struct
import time
from collections.abc import Callable

# How often the folder's own path is looked at: another folder may have taken its place.
_LOOK_SECONDS = 1.0
_LINKS_MAX = 40  # as the kernel's

# A FIFO that nobody writes to must not block, and a terminal must not become ours.
_FILE_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_FOLDER_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC

# linux/openat2.h
_SYS_OPENAT2 = 437
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_BENEATH = 0x08
_RESOLVE_CACHED = 0x20

# The path leads to nothing that may be read here. EXDEV: it leaves the folder; ENXIO: a socket, or a device without a driver.
_ABSENT = frozenset(
    (
        errno.EACCES,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENODEV,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.ENXIO,
        errno.EPERM,
        errno.EXDEV,
    )
)


class OpenFile:
    """A regular file that can be read, as it was when it was opened. Closed by close(), or with its last reference.

    A file that another thread reads must not be closed: drop the reference instead, the thread holds its own.

    Attributes:
        inode, size, mtime_ns: of the file; the size in bytes.
    """

    __slots__ = ("_fd", "inode", "mtime_ns", "size")

    def __init__(self, fd: int, facts: os.stat_result) -> None:
        self._fd = fd
        self.inode = facts.st_ino
        self.size = facts.st_size
        self.mtime_ns = facts.st_mtime_ns

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor. A second call does nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def fileno(self) -> int:
        """The descriptor, which stays the file's own; -1 if it is closed."""
        return self._fd

    def read(self, size: int, offset: int) -> bytes:
        """Read at most `size` bytes from `offset` on; b"" at the end. May wait for the disk."""
        return os.pread(self._fd, size, offset)

    def read_cached(self, size: int, offset: int) -> bytes:
        """As read(), of what the kernel holds in memory.

        Raises:
            BlockingIOError: the first byte must come from the disk, or this file system cannot tell.
        """
        buffer = bytearray(size)
        try:
            count = os.preadv(self._fd, [buffer], offset, os.RWF_NOWAIT)
        except OSError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.ENOSYS):
                raise BlockingIOError(errno.EAGAIN, "no reads without waiting") from None
            raise
        del buffer[count:]
        return bytes(buffer)


def open_file(path: str) -> OpenFile:
    """Open a file by a path that is trusted: it may lead anywhere. May wait for the disk.

    Raises:
        FileNotFoundError: there is none, it may not be read, or it is neither file nor folder.
        IsADirectoryError: the path is a folder.
        OSError: the system is at its limits.
    """
    try:
        fd = os.open(path, _FILE_FLAGS)
    except OSError as error:
        raise _error_of(error.errno) from None
    return _make_open_file(fd)


class _Root:
    """The descriptor of a folder, closed with the last reference: a thread that resolves a path holds one."""

    __slots__ = ("fd", "identity")

    def __init__(self, path: str) -> None:
        self.fd = -1
        self.fd = os.open(path, _FOLDER_FLAGS)
        self.identity = _identity(os.fstat(self.fd))

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)


def _identity(facts: os.stat_result) -> tuple[int, int]:
    return facts.st_dev, facts.st_ino


class Folder:
    """Opens files of one folder. If another folder takes the place of its path, that one is read, after a second at most.

    Args:
        path: of the folder; may be a symbolic link.
        follow_links: follow symbolic links that are relative and stay inside; else none at all, not even to folders.
        is_portable: do not use openat2().

    Raises:
        OSError: the path is no folder, or may not be read.
    """

    def __init__(self, path: str, *, follow_links: bool = False, is_portable: bool = False) -> None:
        self.path = os.path.abspath(path)
        self._follow_links = follow_links
        self._root = _Root(self.path)
        self._next_look = time.monotonic() + _LOOK_SECONDS
        self._openat2 = None if is_portable else _make_openat2(self._root.fd, follow_links)

    def open(self, path: bytes) -> OpenFile:
        """Open a file. May wait for the disk; safe in any thread.

        Args:
            path: relative, without empty components, "." and ".."; components are separated by "/".

        Raises:
            FileNotFoundError: there is none: it is missing, outside, forbidden, or neither file nor folder.
            IsADirectoryError: the path is a folder.
            OSError: the system is at its limits.
        """
        root = self._current_root()
        if self._openat2 is not None:
            return _make_open_file(self._openat2(root.fd, path, False))
        try:
            fd = _open_beneath(root.fd, path, self._follow_links)
        except OSError as error:
            raise _error_of(error.errno) from None
        return _make_open_file(fd)

    def open_cached(self, path: bytes) -> OpenFile:
        """As open(), if the kernel knows the way by heart.

        Raises:
            BlockingIOError: it does not, or nobody can tell.
        """
        if self._openat2 is None:
            raise BlockingIOError(errno.EAGAIN, "no look-up without waiting")
        return _make_open_file(self._openat2(self._current_root().fd, path, True))

    def _current_root(self) -> _Root:
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + _LOOK_SECONDS
            try:
                if _identity(os.stat(self.path)) != self._root.identity:
                    self._root = _Root(self.path)
            except OSError:
                pass  # between two folders there may be none: the old one is still right
        return self._root


def _error_of(number: int | None) -> OSError:
    if number in _ABSENT:
        return FileNotFoundError(errno.ENOENT, "no such file here")
    return OSError(number, os.strerror(number or 0))


def _make_open_file(fd: int) -> OpenFile:
    facts = os.fstat(fd)
    if stat.S_ISREG(facts.st_mode):
        return OpenFile(fd, facts)
    os.close(fd)
    if stat.S_ISDIR(facts.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    raise FileNotFoundError(errno.ENOENT, "no regular file")


# --- openat2 -------------------------------------------------------------------------------------------------------------

# (descriptor of a folder, path, whether only what is cached may be looked at) -> descriptor
_OpenAt2 = Callable[[int, bytes, bool], int]


def _make_openat2(root_fd: int, follow_links: bool) -> _OpenAt2 | None:
    """None: this system has no openat2(), or forbids it."""
    try:
        import ctypes

        syscall = ctypes.CDLL(None, use_errno=True).syscall
    except (ImportError, OSError, AttributeError):
        return None
    syscall.restype = ctypes.c_long
    syscall.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_size_t)
    resolve = _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS | (0 if follow_links else _RESOLVE_NO_SYMLINKS)
    how = struct.pack("=QQQ", _FILE_FLAGS, 0, resolve)
    how_cached = struct.pack("=QQQ", _FILE_FLAGS, 0, resolve | _RESOLVE_CACHED)
    how_bytes = len(how)

    def openat2(folder: int, path: bytes, is_cached: bool) -> int:
        fd: int = syscall(_SYS_OPENAT2, folder, path, how_cached if is_cached else how, how_bytes)
        if fd < 0:
            raise _error_of(ctypes.get_errno())
        return fd

    try:
        os.close(openat2(root_fd, b".", False))
        _probe_cached(openat2, root_fd)
    except OSError:
        return None
    return openat2


def _probe_cached(openat2: _OpenAt2, root_fd: int) -> None:
    # Linux 5.6 to 5.11 have openat2() without RESOLVE_CACHED, and answer EINVAL.
    try:
        os.close(openat2(root_fd, b".", True))
    except BlockingIOError:
        pass


# --- component by component ----------------------------------------------------------------------------------------------


def _open_beneath(root_fd: int, path: bytes, follow_links: bool) -> int:
    """What openat2() does with RESOLVE_BENEATH, as far as it is needed here. Links of links are followed up to the kernel's 40."""
    folders: list[int] = []  # the way from the root; a ".." of a link goes back on it, wherever the folders are moved
    names = path.split(b"/")[::-1]
    links = 0
    try:
        while True:
            name = names.pop() if names else b"."
            if name == b"..":
                if not folders:
                    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
                os.close(folders.pop())
                continue
            if names and name in (b"", b"."):
                continue
            parent = folders[-1] if folders else root_fd
            flags = _FOLDER_FLAGS if names else _FILE_FLAGS
            try:
                fd = os.open(name or b".", flags | os.O_NOFOLLOW, dir_fd=parent)
            except OSError as error:
                links += 1
                names += _target_of_link(name, parent, error, follow_links and links <= _LINKS_MAX)
                continue
            if not names:
                return fd
            folders.append(fd)
    finally:
        for fd in folders:
            os.close(fd)


def _target_of_link(name: bytes, parent: int, error: OSError, may_follow: bool) -> list[bytes]:
    """The components of a link's target, the first one last. Raises `error` if there is no link to follow."""
    # What O_NOFOLLOW says of a link, without O_DIRECTORY and with it.
    if not may_follow or error.errno not in (errno.ELOOP, errno.ENOTDIR):
        raise error
    try:
        target = os.readlink(name, dir_fd=parent)
    except OSError:
        raise error from None
    if target.startswith(b"/"):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
    return target.split(b"/")[::-1]
