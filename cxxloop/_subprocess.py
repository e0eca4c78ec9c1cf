# SPDX-License-Identifier: MIT
"""Child processes: asyncio's transport and subprocess.Popen, the exit noticed by the poller through a pidfd.

No thread, no signal handler. A pidfd means one process for ever: signals and waiting go through it, so that a process
that got the number of an ended one is neither killed nor waited for.
"""

import asyncio
import functools
import os
import signal as signals
import sys
from asyncio import unix_events
from asyncio.log import logger
from typing import Any

_unix_events: Any = unix_events  # typeshed does not know its private classes
_ALREADY_REAPED = 255  # what asyncio reports if somebody else has read the exit status


@functools.cache
def _kernel_has_pidfds() -> bool:
    if not hasattr(os, "pidfd_open") or not hasattr(signals, "pidfd_send_signal"):
        return False
    try:
        pidfd = os.pidfd_open(os.getpid())
    except OSError:  # an old kernel, or a sandbox
        return False
    try:
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:  # expected: this process is not its own child
        return True
    except OSError:
        return False
    finally:
        os.close(pidfd)
    return True


def _has_own_watcher(loop: Any) -> bool:
    """True if the program has chosen a child watcher that is not one of asyncio's defaults."""
    if sys.version_info >= (3, 14):
        return not isinstance(loop._watcher, _unix_events._PidfdChildWatcher)
    watcher = getattr(asyncio.get_event_loop_policy(), "_watcher", None)
    defaults: Any = (unix_events.PidfdChildWatcher, unix_events.ThreadedChildWatcher)
    return watcher is not None and type(watcher) not in defaults


def can_watch_exits(loop: Any) -> bool:
    """True if the loop itself notices the exits of its children; False: asyncio's child watcher does."""
    return _kernel_has_pidfds() and not _has_own_watcher(loop)


class SubprocessTransport(_unix_events._UnixSubprocessTransport):
    """A child process and its pipes."""

    _pidfd: int | None = None  # open exactly while the loop waits for the exit

    def _watch_exit(self) -> None:
        """Watch for the exit: through the poller, or in a thread if no descriptor is left for a pidfd."""
        try:
            self._pidfd = os.pidfd_open(self._pid)
            self._loop._add_reader(self._pidfd, self._exit_ready)
        except ProcessLookupError:
            self._publish(self._read_elsewhere())
            self._loop.call_soon(self._loop._child_watcher_callback, self._pid, self._proc.returncode, self)
        except OSError:
            self._close_pidfd()
            self._watch_exit_by_thread()

    def _watch_exit_by_thread(self) -> None:
        name = "_ThreadedChildWatcher" if sys.version_info >= (3, 14) else "ThreadedChildWatcher"
        watcher = getattr(unix_events, name)()
        watcher.add_child_handler(self._pid, self._loop._child_watcher_callback, self)

    def _exit_ready(self) -> None:
        if not self._reap():
            return
        self._loop._remove_reader(self._pidfd)
        self._close_pidfd()
        self._loop._child_watcher_callback(self._pid, self._proc.returncode, self)

    def _reap(self) -> bool:
        """Read the exit status if there is one. True: the status is known, and Popen sends no more signals."""
        # Take Popen's lock, so that every thread with the Popen sees the status as soon as it is read. A thread inside
        # Popen.wait() holds the lock until the exit.
        if not self._proc._waitpid_lock.acquire(blocking=False):
            return False
        try:
            if self._proc.returncode is None:
                self._publish(self._exit_status())
            return self._proc.returncode is not None
        finally:
            self._proc._waitpid_lock.release()

    def _publish(self, returncode: int | None) -> None:
        if self._proc.returncode is None:
            self._proc.returncode = returncode

    def _exit_status(self) -> int | None:
        assert self._pidfd is not None
        try:
            info = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            return self._read_elsewhere()
        if info is None:
            return None
        return info.si_status if info.si_code == os.CLD_EXITED else -info.si_status

    def _read_elsewhere(self) -> int:
        logger.warning("child process pid %d exit status already read:  will report returncode 255", self._pid)
        return _ALREADY_REAPED

    def _close_pidfd(self) -> None:
        pidfd, self._pidfd = self._pidfd, None
        if pidfd is not None:
            os.close(pidfd)

    def send_signal(self, signal: int) -> None:
        """Send a signal. A signal to a process that has ended goes nowhere, even if another process has its number."""
        self._check_proc()
        if self._proc.returncode is not None:
            return
        if self._pidfd is None:
            super().send_signal(signal)
            return
        try:
            signals.pidfd_send_signal(self._pidfd, signal)
        except ProcessLookupError:
            pass

    def terminate(self) -> None:
        self.send_signal(signals.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signals.SIGKILL)

    def close(self) -> None:
        if self._pidfd is not None:
            self._reap()  # otherwise asyncio's close() would kill by number
        super().close()

    def __del__(self) -> None:
        try:
            super().__del__()
        finally:
            self._close_pidfd()


async def start_process(
    loop: Any,
    protocol: Any,
    args: Any,
    shell: bool,
    stdin: Any,
    stdout: Any,
    stderr: Any,
    bufsize: int,
    extra: Any = None,
    **popen_options: Any,
) -> SubprocessTransport:
    """asyncio's _make_subprocess_transport() with a transport that watches itself."""
    waiter = loop.create_future()
    transport = SubprocessTransport(
        loop, protocol, args, shell, stdin, stdout, stderr, bufsize, waiter=waiter, extra=extra, **popen_options
    )
    transport._watch_exit()
    try:
        await waiter
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException:
        transport.close()
        await asyncio.shield(transport._wait())
        raise
    return transport
