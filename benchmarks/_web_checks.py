# SPDX-License-Identifier: MIT
"""What a web server answers is checked before it is measured: status, body and order; of echoes with random bodies."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from _contest import MeasurementFailed
from _web_cases import WebCase
from serve.web_app import ANSWER, BODIES, USERS

ANSWER_SECONDS_MAX = 10
CHUNK_BYTES = 8 * 1024
ANSWERS = BODIES | {"/json": b"", "/sleep": b"slept", f"{USERS}17": b"17"}  # Of /json see expect().
TIMES = 3  # On one connection: the second request finds what the first has left behind.


@contextmanager
def connected(port: int) -> Iterator[tuple[socket.socket, BinaryIO]]:
    with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS_MAX) as sock, sock.makefile("rb") as stream:
        yield sock, stream


def line_of(stream: BinaryIO) -> bytes:
    line = stream.readline()
    if not line.endswith(b"\r\n"):
        raise MeasurementFailed("the server closed the connection")
    return line[:-2]


def exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise MeasurementFailed("the server closed the connection within a body")
    return data


def read_head(stream: BinaryIO) -> tuple[int, dict[str, str]]:
    status = int(line_of(stream).split()[1])
    headers = {}
    while line := line_of(stream):
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    return status, headers


def chunks_of(stream: BinaryIO) -> Iterator[bytes]:
    while size := int(line_of(stream), 16):
        yield exactly(stream, size)
        line_of(stream)
    while line_of(stream):
        pass


def read_answer(stream: BinaryIO) -> tuple[int, bytes]:
    status, headers = read_head(stream)
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return status, b"".join(chunks_of(stream))
    return status, exactly(stream, int(headers["content-length"]))


def request(method: str, path: str, *headers: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


def expect(path: str, got: tuple[int, bytes], body: bytes) -> None:
    if got[0] != 200:
        raise MeasurementFailed(f"{path} is answered with {got[0]} {got[1][:80]!r}")
    if path == "/json":
        if json.loads(got[1]) != ANSWER:
            raise MeasurementFailed(f"{path}: the JSON differs: {got[1][:80]!r}")
    elif got[1] != body:
        raise MeasurementFailed(f"{path}: the body of {len(body)} bytes comes as another one of {len(got[1])}")


def check_get(port: int, path: str, body: bytes) -> None:
    with connected(port) as (sock, stream):
        for _ in range(TIMES):
            sock.sendall(request("GET", path))
            expect(path, read_answer(stream), body)


def check_post(port: int, path: str, size: int) -> None:
    with connected(port) as (sock, stream):
        for body in (os.urandom(size), os.urandom(1), os.urandom(size)):
            sock.sendall(request("POST", path, f"Content-Length: {len(body)}") + body)
            expect(path, read_answer(stream), body)


def check_stream(port: int, path: str, size: int) -> None:
    """The body goes out in chunks; some of it comes back before the last one is sent."""
    with connected(port) as (sock, stream):
        for _ in range(TIMES):
            body = os.urandom(size)
            *chunks, last = (body[start : start + CHUNK_BYTES] for start in range(0, size, CHUNK_BYTES))
            sock.sendall(request("POST", path, "Transfer-Encoding: chunked"))
            for chunk in chunks:
                sock.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            try:
                pieces = stream_of(stream, path)
                came = next(pieces, b"")
            except TimeoutError:
                raise MeasurementFailed(f"{path}: nothing comes back before the last chunk is sent") from None
            sock.sendall(b"%x\r\n%s\r\n0\r\n\r\n" % (len(last), last))
            expect(path, (200, came + b"".join(pieces)), body)


def stream_of(stream: BinaryIO, path: str) -> Iterator[bytes]:
    status, headers = read_head(stream)
    if status != 200 or headers.get("transfer-encoding", "").lower() != "chunked":
        raise MeasurementFailed(f"{path} is answered with {status}, transfer-encoding {headers.get('transfer-encoding')}")
    return chunks_of(stream)


def check_pipeline(port: int, depth: int) -> None:
    """Bodies of two sizes in turn, so that answers out of order are noticed."""
    paths = [("/bytes/10", "/bytes/1024")[number % 2] for number in range(depth)]
    with connected(port) as (sock, stream):
        for _ in range(TIMES):
            sock.sendall(b"".join(request("GET", path) for path in paths))
            for path in paths:
                expect(path, read_answer(stream), BODIES[path])


def check_answers(case: WebCase, path: str, port: int, file: Path) -> None:
    """Raises MeasurementFailed. WebSockets and idle connections are checked by their clients, in every measurement."""
    try:
        if case.depth > 1:
            check_pipeline(port, case.depth)
        elif case.kind == "get":
            check_get(port, path, ANSWERS[path])
        elif case.kind == "post":
            check_post(port, path, case.size)
        elif case.kind == "chunked":
            check_stream(port, path, case.size)
        elif case.kind == "static":
            check_get(port, path, file.read_bytes())
    except TimeoutError:
        raise MeasurementFailed(f"{path}: no answer within {ANSWER_SECONDS_MAX} s") from None
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise MeasurementFailed(f"{path}: {type(error).__name__}: {error}") from None
