# SPDX-License-Identifier: MIT
"""PostgreSQL and Redis for the tests: each in a folder of its own and on a free port.

A server ends with the test process, however that ends: the kernel signals it. The folder a killed run leaves behind is
removed by the next run, and never one that is in use: its owner holds a lock in it.
"""

import contextlib
import fcntl
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import tempfile
import time

import trustme
from http_wire import free_address

FOLDER_PREFIX = "cxxloop-server-"
START_SECONDS = 20
START_ATTEMPTS = 3  # Somebody else may take the free port between our look and the server's bind().


class Missing(Exception):
    """The server is not installed; the text says what to do."""


class Server:
    """A server program in a private folder, which may be restarted: folder and port stay."""

    program: str
    package: str
    stop_signal: signal.Signals

    def __init__(self):
        self.executable = self.find_executable()
        self.user = self.find_user()
        remove_abandoned_folders()
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX))
        self.lock = (self.folder / "lock").open("w")
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        self.process = None
        try:
            if self.user is not None:
                os.chown(self.folder, self.user.pw_uid, self.user.pw_gid)
            self.prepare()
            self.start_on_free_port()
        except BaseException:
            self.close()
            raise

    def find_executable(self):
        path = shutil.which(self.program)
        if path is None:
            raise Missing(f"{self.program} is not installed (Debian: {self.package})")
        return path

    def find_user(self):
        """Who the server runs as, None: who we are."""
        return None

    def prepare(self):
        """Fills the folder before the first start."""

    def arguments(self):
        raise NotImplementedError

    def command(self, *arguments):
        user = [] if self.user is None else [f"--reuid={self.user.pw_uid}", f"--regid={self.user.pw_gid}", "--init-groups"]
        return ["setpriv", "--pdeathsig", self.stop_signal.name, *user, *map(str, arguments)]

    def start_on_free_port(self):
        for attempt in range(START_ATTEMPTS):
            self.address = free_address()
            try:
                return self.start()
            except RuntimeError:
                if attempt + 1 == START_ATTEMPTS:
                    raise

    def start(self):
        """From the main thread only: the kernel stops the server when the thread that started it ends."""
        log_path = self.folder / "log"
        with log_path.open("w") as log:
            self.process = subprocess.Popen(
                self.command(*self.arguments()), cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + START_SECONDS
        while "ready to accept connections" not in log_path.read_text().lower():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{self.program} did not start:\n{log_path.read_text()}")
            time.sleep(0.01)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(self.stop_signal)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def close(self):
        if self.process is not None:
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.lock.close()


class PostgreSQL(Server):
    program = "postgres"
    package = "postgresql"
    stop_signal = signal.SIGINT  # the fast shutdown: sessions are ended
    ways = ("tcp", "unix", "tls")

    def find_executable(self):
        # Debian keeps the programs of each version out of the path.
        installed = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
        return str(installed[-1]) if installed else super().find_executable()

    def find_user(self):
        # PostgreSQL refuses to run as root.
        try:
            return pwd.getpwnam("postgres") if os.getuid() == 0 else None
        except KeyError:
            raise Missing("PostgreSQL does not run as root and there is no user `postgres`") from None

    def prepare(self):
        self.data = self.folder / "data"
        initdb = pathlib.Path(self.executable).with_name("initdb")
        options = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-locale", "--no-sync"]
        made = subprocess.run(self.command(initdb, "-D", self.data, *options), cwd=self.folder, capture_output=True, text=True)
        if made.returncode != 0:
            raise RuntimeError(f"initdb failed:\n{made.stdout}{made.stderr}")
        self.authority = trustme.CA()
        certificate = self.authority.issue_cert("127.0.0.1", "localhost")
        certificate.cert_chain_pems[0].write_to_path(self.folder / "certificate")
        self.authority.cert_pem.write_to_path(self.folder / "authority")
        key = self.folder / "key"
        certificate.private_key_pem.write_to_path(key)
        key.chmod(0o600)
        if self.user is not None:
            os.chown(key, self.user.pw_uid, self.user.pw_gid)

    def arguments(self):
        settings = {
            "ssl": "on",
            "ssl_cert_file": self.folder / "certificate",
            "ssl_key_file": self.folder / "key",
            "fsync": "off",
            "max_connections": 40,
            "shared_buffers": "16MB",
        }
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        host, port = self.address
        return [self.executable, "-D", self.data, "-k", self.folder, "-h", host, "-p", port, *options]

    def host(self, way):
        return str(self.folder) if way == "unix" else self.address[0]


class Redis(Server):
    program = "redis-server"
    package = "redis-server"
    stop_signal = signal.SIGTERM

    def arguments(self):
        host, port = self.address
        options = {"bind": host, "port": port, "unixsocket": self.socket_path, "save": "", "dir": self.folder}
        return [self.executable, *(word for name, value in options.items() for word in (f"--{name}", value))]

    @property
    def socket_path(self):
        return str(self.folder / "socket")


def remove_abandoned_folders():
    for folder in pathlib.Path(tempfile.gettempdir()).glob(FOLDER_PREFIX + "*"):
        # Somebody else's, or removed at this very moment.
        with contextlib.suppress(OSError), (folder / "lock").open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
