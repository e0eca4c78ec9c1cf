# SPDX-License-Identifier: MIT
"""What a request asks of a file besides its path: conditions, a range, a coding (RFC 9110, 12.5.3, 13 and 14)."""

import calendar
import email.utils
import enum
import functools
import re
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

# Request headers that matter, and whether several lines of one make one list (RFC 9110, 5.3).
_LOOKED_AT = {
    b"accept-encoding": True,
    b"if-match": True,
    b"if-modified-since": False,
    b"if-none-match": True,
    b"if-range": False,
    b"if-unmodified-since": False,
    b"range": False,
}


class Validators(NamedTuple):
    """What tells one version of a file from another."""

    etag: bytes  # strong, with its quotes
    modified: int  # seconds since 1970


class Outcome(enum.Enum):
    """What the conditions of a request come to."""

    SEND = 200
    NOT_MODIFIED = 304
    FAILED = 412


class Part(NamedTuple):
    """Bytes of a file. size 0: the range that was asked for lies behind the end."""

    offset: int
    size: int


def pick_headers(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """The headers that this module looks at, by name. A field that must be there once is left out if it is there twice."""
    picked: dict[bytes, bytes] = {}
    repeated: list[bytes] = []
    for name, value in headers:
        is_list = _LOOKED_AT.get(name)
        if is_list is None:
            continue
        if name not in picked:
            picked[name] = value
        elif is_list:
            picked[name] += b", " + value
        else:
            repeated.append(name)
    for name in repeated:
        picked.pop(name, None)
    return picked


# --- dates ---------------------------------------------------------------------------------------------------------------

_DATE = re.compile(
    r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT"
    r"|[A-Z][a-z]+, \d\d-[A-Z][a-z]{2}-\d\d \d\d:\d\d:\d\d GMT"
    r"|[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4}"
)


@functools.lru_cache(1024)
def format_date(seconds: int) -> bytes:
    """An HTTP date (RFC 9110, 5.6.7), from seconds since 1970."""
    return email.utils.formatdate(seconds, usegmt=True).encode()


def parse_date(value: bytes) -> int | None:
    """Seconds since 1970 of an HTTP date in one of its three forms; None if it is none."""
    text = value.decode("latin-1")
    parts = email.utils.parsedate(text) if _DATE.fullmatch(text) else None
    if parts is None:
        return None
    try:
        return calendar.timegm(parts)
    except (ValueError, OverflowError):
        return None


# --- conditions ----------------------------------------------------------------------------------------------------------

_ETAG = re.compile(rb'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')


def _matches(value: bytes, etag: bytes, *, is_weak: bool) -> bool:
    value = value.strip(b" \t")
    if value == b"*":
        return True
    if _ETAG.sub(b"", value).translate(None, b" \t,"):
        return False  # more than tags and commas
    return any(found[2] == etag and (is_weak or not found[1]) for found in _ETAG.finditer(value))


def check_conditions(headers: dict[bytes, bytes], validators: Validators) -> Outcome:
    """Evaluate the conditions of a GET or HEAD for a file that is there, in the order of RFC 9110, 13.2.2.

    A condition that cannot be read is left out if it is a date, and matches nothing if it is an entity tag.
    """
    etag, modified = validators
    if (value := headers.get(b"if-match")) is not None:
        if not _matches(value, etag, is_weak=False):
            return Outcome.FAILED
    elif (value := headers.get(b"if-unmodified-since")) is not None:
        date = parse_date(value)
        if date is not None and modified > date:
            return Outcome.FAILED
    if (value := headers.get(b"if-none-match")) is not None:
        return Outcome.NOT_MODIFIED if _matches(value, etag, is_weak=True) else Outcome.SEND
    if (value := headers.get(b"if-modified-since")) is not None:
        if value == format_date(modified):
            return Outcome.NOT_MODIFIED
        date = parse_date(value)
        if date is not None and modified <= date:
            return Outcome.NOT_MODIFIED
    return Outcome.SEND


# --- ranges --------------------------------------------------------------------------------------------------------------

_RANGE = re.compile(rb"bytes=[ \t]*(\d*)-(\d*)[ \t]*", re.IGNORECASE)
_DIGITS_MAX = 18  # more than any file has; int() refuses thousands of digits


def find_part(headers: dict[bytes, bytes], validators: Validators, size: int) -> Part | None:
    """The part of a file that a GET asks for.

    None is the whole file: there is no Range, it cannot be read, it has several ranges or another unit, If-Range names another
    version, or the file is empty.

    Args:
        size: of the file, in bytes.
    """
    value = headers.get(b"range")
    if value is None or size == 0 or not _holds_if_range(headers, validators):
        return None
    found = _RANGE.fullmatch(value)
    if not found or not (found[1] or found[2]):
        return None
    first, last = _number(found[1]), _number(found[2])
    if not found[1]:
        last = min(last, size)
        return Part(size - last, last)
    if not found[2]:
        last = size - 1
    elif last < first:
        return None  # no valid range: RFC 9110, 14.1.1
    return Part(first, max(0, min(last, size - 1) - first + 1))


def _number(digits: bytes) -> int:
    return int(digits or b"0") if len(digits) <= _DIGITS_MAX else 10**_DIGITS_MAX


def _holds_if_range(headers: dict[bytes, bytes], validators: Validators) -> bool:
    value = headers.get(b"if-range")
    if value is None:
        return True
    if b'"' in value:
        return value == validators.etag
    # A date is a strong validator only if the file could not change again within its second (RFC 9110, 8.8.2.2).
    return parse_date(value) == validators.modified and time.time() - validators.modified > 1


# --- codings -------------------------------------------------------------------------------------------------------------

_CODING = re.compile(r"[ \t]*([!#$%&'*+\-.^_`|~0-9A-Za-z]+)[ \t]*(?:;[ \t]*[qQ]=(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)[ \t]*)?")


def rank_codings(accept_encoding: bytes, offered: Sequence[str]) -> list[str]:
    """The content codings that a client takes, the one it likes best first; of equals, the first offered one.

    Args:
        accept_encoding: the header's value.
        offered: names of codings, in lower case.

    Returns:
        Those of `offered` that are acceptable, and no less than the file as it is, where the client says how much it likes that.
    """
    qualities: dict[str, float] = {}
    for item in accept_encoding.decode("latin-1").split(","):
        found = _CODING.fullmatch(item)
        if found:
            qualities[found[1].lower().removeprefix("x-")] = float(found[2] or 1)
    least = qualities.get("identity", 0.0)
    liked = [(qualities.get(name, qualities.get("*", 0.0)), name) for name in offered]
    return [name for quality, name in sorted(liked, key=lambda pair: -pair[0]) if quality > 0 and quality >= least]
