# SPDX-License-Identifier: MIT
"""`cxxloop serve --static`: files over a real connection, and the server's descriptors."""

import os
import socket
import time

import pytest

pytestmark = pytest.mark.any_backend("its processes have the ordinary backend")

LONG = bytes(range(256)) * 1024  # longer than what leaves together with its head


@pytest.fixture
def public(tmp_path):
    """The folder that is served, beside a secret."""
    root = tmp_path / "public"
    (root / "docs").mkdir(parents=True)
    for name, content in {"a.txt": b"hello, world", "long.bin": LONG, "docs/index.html": b"<p>docs</p>", ".secret": b"secret"}.items():
        (root / name).write_bytes(content)
    (tmp_path / "secret.txt").write_bytes(b"secret")
    return root


def raw_get(port, *requests):
    """The responses to pipelined requests: (status, headers, body)."""
    answers = []
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock, sock.makefile("rb") as stream:
        sock.sendall("".join(f"{request}\r\nHost: localhost\r\n\r\n" for request in requests).encode("latin-1"))
        for request in requests:
            status = int(stream.readline().split()[1])
            headers = {}
            while (line := stream.readline().strip()):
                name, _, value = line.decode("latin-1").partition(": ")
                headers[name.lower()] = value
            has_body = not request.startswith("HEAD") and status != 304
            answers.append((status, headers, stream.read(int(headers["content-length"])) if has_body else b""))
    return answers


def test_served_by_the_command(serve, public):
    program = serve("--static", f"/s={public}", "--static", f"/docs={public / 'docs'}", "--no-access-log")
    port = program.port()
    long, short, part, head, index, redirect, missing, application = raw_get(
        port,
        "GET /s/long.bin HTTP/1.1",
        "GET /s/a.txt?x=1 HTTP/1.1",
        "GET /s/long.bin HTTP/1.1\r\nRange: bytes=100-200099",
        "HEAD /s/long.bin HTTP/1.1",
        "GET /docs/ HTTP/1.1",
        "GET /s/docs?a=b HTTP/1.1",
        "GET /s/nothing HTTP/1.1",
        "GET / HTTP/1.1",
    )
    assert (long[0], long[2]) == (200, LONG)
    assert (short[0], short[2]) == (200, b"hello, world")
    assert (part[0], part[1]["content-range"], part[2]) == (206, f"bytes 100-200099/{len(LONG)}", LONG[100:200100])
    assert (head[0], head[1]["content-length"]) == (200, str(len(LONG)))
    assert (index[0], index[2]) == (200, b"<p>docs</p>")
    assert (redirect[0], redirect[1]["location"]) == (301, "./docs/?a=b")
    assert missing[0] == 404
    assert (application[0], application[2]) == (200, str(program.process.pid).encode())
    unchanged = raw_get(port, f"GET /s/long.bin HTTP/1.1\r\nIf-None-Match: {long[1]['etag']}")
    assert unchanged[0][0] == 304


def test_nothing_outside_is_served_by_the_command(serve, public, tmp_path):
    (public / "out").symlink_to("../secret.txt")
    program = serve("--static", f"/s={public}", "--no-access-log")
    targets = [
        "/s/../secret.txt",
        "/s/%2e%2e/secret.txt",
        "/s/..%2fsecret.txt",
        "/s/%252e%252e/secret.txt",
        "/s/%c0%ae%c0%ae/secret.txt",
        "/s/..%5csecret.txt",
        "/s//etc/passwd",
        "/s/%2fetc%2fpasswd",
        "/s/a.txt%00",
        "/s/.secret",
        "/s/%2esecret",
        "/s/out",
    ]
    for target in targets:
        status, _, body = raw_get(program.port(), f"GET {target} HTTP/1.1")[0]
        assert status in (400, 404) and b"secret" not in body and b"root:" not in body, target


def test_open_descriptors_of_the_command_do_not_grow(serve, public):
    program = serve("--static", f"/s={public}", "--no-access-log")
    port = program.port()

    def count():
        return len(os.listdir(f"/proc/{program.process.pid}/fd"))

    requests = ["GET /s/long.bin HTTP/1.1", "GET /s/a.txt HTTP/1.1", "GET /s/nothing HTTP/1.1"] * 30
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        raw_get(port, *requests)
        before = count()
        for _ in range(5):
            raw_get(port, *requests)
            with socket.create_connection(("127.0.0.1", port), timeout=20) as gone:  # leaves in the midst of a file
                gone.sendall(b"GET /s/long.bin HTTP/1.1\r\nHost: localhost\r\n\r\n" * 10)
                gone.recv(1000)
        deadline = time.monotonic() + 20
        while count() > before:
            assert time.monotonic() < deadline
            raw_get(port, requests[0])
        sock.sendall(b"GET /s/a.txt HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert sock.recv(5) == b"HTTP/"
