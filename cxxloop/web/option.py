# SPDX-License-Identifier: MIT
"""What one setting of the server is: its kind of value, its flag, its variable and its line of help.

Config declares each setting once; the command and the documentation are made of these declarations.
"""

import copy
import dataclasses
import functools
import os
from collections.abc import Iterable
from typing import Any, Protocol

VARIABLE_PREFIX = "CXXLOOP_"


class Kind(Protocol):
    """A kind of value: checks what code gives, and parses what a flag or a variable gives."""

    @property
    def metavar(self) -> str:
        """Stands for the value in the help."""

    def parse(self, text: str) -> Any:
        """Make a value of text.

        Raises:
            ValueError: the text is none; the message goes on where "--flag: " ends.
        """

    def check(self, value: Any) -> Any:
        """Return the value in its final form.

        Raises:
            ValueError: a wrong value; the message goes on where "setting: " ends.
        """


@dataclasses.dataclass(frozen=True)
class Integer:
    """A whole number from `minimum` to `maximum`."""

    minimum: int = 0
    maximum: int = 2**63 - 1
    metavar: str = "NUMBER"

    def parse(self, text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ValueError(f"must be a whole number, not {text!r}") from None
        return self.check(value)

    def check(self, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"must be a whole number, not {value!r}")
        if not self.minimum <= value <= self.maximum:
            at_most = "" if self.maximum == 2**63 - 1 else f" and at most {self.maximum}"
            raise ValueError(f"must be at least {self.minimum}{at_most}, not {value}")
        return value


@dataclasses.dataclass(frozen=True)
class Number:
    """A number from `minimum` to `maximum`, both included."""

    minimum: float = 0.0
    maximum: float = 1e9
    metavar: str = "SECONDS"

    def parse(self, text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"must be a number, not {text!r}") from None
        return self.check(value)

    def check(self, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"must be a number, not {value!r}")
        if not self.minimum <= value <= self.maximum:  # not a number is refused, too
            raise ValueError(f"must be from {self.minimum:g} to {self.maximum:g}, not {value}")
        return value


@dataclasses.dataclass(frozen=True)
class Text:
    """Any text."""

    metavar: str = "TEXT"

    def parse(self, text: str) -> str:
        return self.check(text)

    def check(self, value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError(f"must be a string, not {value!r}")
        if "\0" in value:
            raise ValueError("must not contain a null character")
        return value


@dataclasses.dataclass(frozen=True)
class Address:
    """A host and a port: a pair in code, HOST:PORT as text; an IPv6 address stands in brackets there."""

    metavar: str = "HOST:PORT"

    def parse(self, text: str) -> tuple[str, int]:
        return self.check(text)

    def check(self, value: Any) -> tuple[str, int]:
        if isinstance(value, str):
            host, _, port = value.rpartition(":")
            if host.startswith("[") and host.endswith("]"):
                host = host[1:-1]
            elif ":" in host:
                raise ValueError(f"must be HOST:PORT, an IPv6 address in brackets, not {value!r}")
            if not host or not port.isascii() or not port.isdigit():
                raise ValueError(f"must be HOST:PORT, not {value!r}")
            value = (host, int(port))
        if not isinstance(value, tuple) or len(value) != 2:
            raise ValueError(f"must be HOST:PORT or a pair (host, port), not {value!r}")
        return Text().check(value[0]), Integer(0, 65535).check(value[1])


@dataclasses.dataclass(frozen=True)
class File:
    """The path of a file or folder. `must_exist`: one that is there when the server is configured."""

    must_exist: bool = False
    metavar: str = "PATH"

    def parse(self, text: str) -> str:
        return self.check(text)

    def check(self, value: Any) -> str:
        if not isinstance(value, (str, os.PathLike)):
            raise ValueError(f"must be a path, not {value!r}")
        path = os.fspath(value)
        if not isinstance(path, str) or not path or "\0" in path:
            raise ValueError(f"must be a path, not {path!r}")
        if self.must_exist and not os.path.exists(path):
            raise ValueError(f"{path!r} does not exist")
        return path


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of a few names."""

    names: tuple[str, ...]

    @property
    def metavar(self) -> str:
        return "[" + "|".join(self.names) + "]"

    def parse(self, text: str) -> str:
        return self.check(text)

    def check(self, value: Any) -> str:
        if not isinstance(value, str) or value.lower() not in self.names:
            raise ValueError(f"must be one of {', '.join(self.names)}, not {value!r}")
        return value.lower()


@dataclasses.dataclass(frozen=True)
class Flag:
    """On or off. `takes_value`: the flag is followed by true or false, as uvicorn's is, instead of having a --no- twin."""

    takes_value: bool = False
    metavar: str = "BOOLEAN"

    def parse(self, text: str) -> bool:
        match text.strip().lower():
            case "1" | "true" | "t" | "yes" | "y" | "on":
                return True
            case "0" | "false" | "f" | "no" | "n" | "off" | "":
                return False
        raise ValueError(f"must be true or false, not {text!r}")

    def check(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueError(f"must be True or False, not {value!r}")
        return value


@dataclasses.dataclass(frozen=True)
class Texts:
    """Some texts: a flag that may be given several times; its variable holds one on each line."""

    metavar: str = "TEXT"
    paths_exist: bool = False

    def parse(self, text: str) -> list[str]:
        return self.check(text)

    def check(self, value: Any) -> list[str]:
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, Iterable):
            raise ValueError(f"must be a list of strings, not {value!r}")
        texts = list(texts)
        for text in texts:
            if not isinstance(text, str):
                raise ValueError(f"must be a list of strings, not {value!r}")
            if self.paths_exist and not os.path.exists(text):
                raise ValueError(f"{text!r} does not exist")
        return texts


@dataclasses.dataclass(frozen=True)
class Headers:
    """Header fields: pairs in code, NAME:VALUE as a flag, one on each line of the variable."""

    metavar: str = "NAME:VALUE"

    def parse(self, text: str) -> list[tuple[str, str]]:
        name, colon, value = text.partition(":")
        if not colon:
            raise ValueError(f"must be NAME:VALUE, not {text!r}")
        return self.check([(name, value)])

    def check(self, value: Any) -> list[tuple[str, str]]:
        try:
            pairs = [(name, content) for name, content in value]
        except (TypeError, ValueError):
            raise ValueError(f"must be a list of pairs (name, value), not {value!r}") from None
        return [_check_header(name, content) for name, content in pairs]


@dataclasses.dataclass(frozen=True)
class Folders:
    """Folders by the URL path they are served under: pairs in code, MOUNT=FOLDER as a flag, one on each line of the variable."""

    metavar: str = "MOUNT=FOLDER"

    def parse(self, text: str) -> list[tuple[str, str]]:
        mount, equals, folder = text.partition("=")
        if not equals:
            raise ValueError(f"must be MOUNT=FOLDER, not {text!r}")
        return self.check([(mount, folder)])

    def check(self, value: Any) -> list[tuple[str, str]]:
        try:
            pairs = [(mount, os.fspath(folder)) for mount, folder in value]
        except (TypeError, ValueError):
            raise ValueError(f"must be a list of pairs (mount, folder), not {value!r}") from None
        for mount, folder in pairs:
            if not isinstance(mount, str) or not mount.startswith("/") or "//" in mount:
                raise ValueError(f"{mount!r} is no path of a URL: it must begin with '/'")
            if not os.path.isdir(folder):
                raise ValueError(f"{folder!r} is no folder")
        return pairs


_TOKEN = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")  # RFC 9110 5.6.2
_FRAMING = ("connection", "content-length", "keep-alive", "transfer-encoding", "upgrade")


def _check_header(name: Any, value: Any) -> tuple[str, str]:
    if not isinstance(name, str) or not isinstance(value, str):
        raise ValueError(f"must be pairs of strings, not {(name, value)!r}")
    if not name or not _TOKEN.issuperset(name):
        raise ValueError(f"{name!r} is no name of a header")
    if name.lower() in _FRAMING:
        raise ValueError(f"{name!r} is the server's own to send")
    value = value.strip(" \t")
    if any(ord(char) > 255 or (ord(char) < 32 and char != "\t") or ord(char) == 127 for char in value):
        raise ValueError(f"{value!r} is no value of a header")
    return name, value


@dataclasses.dataclass(frozen=True)
class Anything:
    """What only code can give, or what is not looked at."""

    metavar: str = "TEXT"

    def parse(self, text: str) -> str:
        return text

    def check(self, value: Any) -> Any:
        return value


@dataclasses.dataclass(frozen=True)
class Option:
    """One setting, as Config declares it."""

    default: Any
    kind: Kind
    group: str
    help: str
    flag: str | None  # None: made of the name
    shown_default: str | None  # None: made of the default
    in_code_only: bool
    is_optional: bool  # None is a value, too

    def flag_of(self, name: str) -> str:
        """The flag of the setting `name`: --ws-max-size of ws_max_size."""
        return self.flag or "--" + name.replace("_", "-")


def variable_of(name: str) -> str:
    """The environment variable of the setting `name`: CXXLOOP_WS_MAX_SIZE of ws_max_size."""
    return VARIABLE_PREFIX + name.upper()


def option(
    default: Any,
    kind: Kind,
    group: str,
    help: str,
    *,
    flag: str | None = None,
    shown_default: str | None = None,
    in_code_only: bool = False,
    optional: bool = False,
) -> Any:
    """Declare a setting: a field of the dataclass Config.

    Args:
        default: its value unless told otherwise; None makes None a value.
        kind: checks and parses its values.
        group: the heading under which the help lists it.
        help: its line of help.
        flag: its flag, if it is not made of its name.
        shown_default: what the help and the documentation say of the default, if it is not the value itself.
        in_code_only: it has neither flag nor variable.
        optional: None is a value, though not the default.
    """
    metadata = {"option": Option(default, kind, group, help, flag, shown_default, in_code_only, optional or default is None)}
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=functools.partial(copy.deepcopy, default), kw_only=True, metadata=metadata)
    return dataclasses.field(default=default, kw_only=True, metadata=metadata)


def options_of(config_class: Any) -> dict[str, Option]:
    """The settings of a dataclass, by name, in the order of their declaration."""
    fields = dataclasses.fields(config_class)
    return {field.name: field.metadata["option"] for field in fields if "option" in field.metadata}
