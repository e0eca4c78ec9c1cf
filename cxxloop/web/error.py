# SPDX-License-Identifier: MIT
"""Errors of users: each is one clear line and an exit code."""

# uvicorn's code for an application whose start-up failed.
STARTUP_FAILURE = 3
# Everything else that keeps the server from serving: the import of the application, a taken port, a wrong file.
FAILURE = 1


class ConfigError(ValueError):
    """A setting has a wrong value.

    Attributes:
        name: the setting.
        reason: what is wrong with its value, without the name.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name = name
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


class ImportFromStringError(Exception):
    """The application cannot be found under its import string. Named as uvicorn's."""


class ListenError(OSError):
    """A socket cannot be bound or inherited; the text says which, and why. `errno` is None if no system call has failed."""

    def __str__(self) -> str:
        return str(self.strerror) if self.errno is None else super().__str__()


class StartupError(Exception):
    """The application's lifespan failed to start; the log says why. The command exits with STARTUP_FAILURE."""
