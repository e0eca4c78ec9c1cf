# SPDX-License-Identifier: MIT
"""Requests that two servers could read in two ways are refused: each row of the list is one test, over a real connection.

The rules are those of RFC 9110 and 9112. An application that echoes what it was given stands behind the server, so that a
second request hidden in the first would be seen.
"""

import re
import socket
import subprocess
import sys
from dataclasses import dataclass

import pytest

pytestmark = pytest.mark.cxxloop_only("the server")

APPLICATION = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("http only")
    body, more = b"", scope["path"] != "/unread"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message.get("body", b"")
        more = message.get("more_body", False)
    answers = {
        "/split": [(b"x-a", b"b\\r\\nx-c: d")],
        "/split-name": [(b"x-a\\r\\nx-c", b"b")],
        "/nul": [(b"x-a", b"b\\x00")],
    }
    status = {"/204": 204, "/304": 304}.get(scope["path"], 200)
    answer = b"" if status != 200 else b"%s %s %s" % (scope["method"].encode(), scope["raw_path"], body)
    hosts = [(b"x-host", value) for name, value in scope["headers"] if name == b"host"]
    await send({"type": "http.response.start", "status": status, "headers": answers.get(scope["path"], hosts)})
    await send({"type": "http.response.body", "body": answer})
"""


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    folder = tmp_path_factory.mktemp("application")
    (folder / "echo_app.py").write_text(APPLICATION)
    command = [sys.executable, "-m", "cxxloop", "serve", "echo_app:app", "--app-dir", str(folder), "--port", "0", "--no-access-log"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        for line in server.stderr:
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                break
        else:
            pytest.fail("the server did not start")
        yield int(found[1])
        server.terminate()
        server.stderr.read()


@dataclass
class Answer:
    statuses: list[int]
    text: bytes


def converse(port, *pieces, timeout=5):
    """Everything the server answers until it closes the connection; the client sends no more after `pieces`."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as client:
        for piece in pieces:
            client.sendall(piece)
        client.shutdown(socket.SHUT_WR)
        text = b""
        while received := client.recv(65536):
            text += received
    return Answer([int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", text)], text)


def request(*lines, body=b"", method=b"POST", target=b"/", version=b"HTTP/1.1", host=True):
    head = [b" ".join((method, target, version)), *([b"Host: a"] if host else []), *lines]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"

REFUSED = {
    # 1 to 3: one length, and a plain number
    "both lengths": (400, request(b"Content-Length: 4", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n")),
    "both lengths, the other order": (400, request(b"Transfer-Encoding: chunked", b"Content-Length: 4", body=b"0\r\n\r\n")),
    "two lengths": (400, request(b"Content-Length: 1", b"Content-Length: 2", body=b"ab")),
    "two equal lengths": (400, request(b"Content-Length: 1", b"Content-Length: 1", body=b"a")),
    "a list of lengths": (400, request(b"Content-Length: 5, 5", body=b"abcde")),
    "length with a plus": (400, request(b"Content-Length: +5", body=b"abcde")),
    "length with a minus": (400, request(b"Content-Length: -5", body=b"abcde")),
    "length in hexadecimal": (400, request(b"Content-Length: 0x5", body=b"abcde")),
    "length with an underscore": (400, request(b"Content-Length: 5_0", body=b"abcde")),
    "empty length": (400, request(b"Content-Length:", body=b"abcde")),
    "length with junk": (400, request(b"Content-Length: 5 6", body=b"abcde")),
    "length beyond 64 bits": (400, request(b"Content-Length: 18446744073709551617", body=b"a")),
    # 4, 5: the transfer coding
    "coding that does not end in chunked": (400, request(b"Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n")),
    "chunked twice": (400, request(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n")),
    "two fields of chunked": (400, request(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n")),
    "xchunked": (400, request(b"Transfer-Encoding: xchunked", body=b"0\r\n\r\n")),
    "chunked with a vertical tab": (400, request(b"Transfer-Encoding: chunked\x0b", body=b"0\r\n\r\n")),
    "unknown coding": (501, request(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n")),
    "chunked in HTTP/1.0": (400, request(b"Transfer-Encoding: chunked", version=b"HTTP/1.0", body=b"0\r\n\r\n")),
    # 6: chunks
    "chunk size with a sign": (400, request(b"Transfer-Encoding: chunked", body=b"+1\r\na\r\n0\r\n\r\n")),
    "chunk size with 0x": (400, request(b"Transfer-Encoding: chunked", body=b"0x1\r\na\r\n0\r\n\r\n")),
    "chunk size with a space": (400, request(b"Transfer-Encoding: chunked", body=b" 1\r\na\r\n0\r\n\r\n")),
    "empty chunk size": (400, request(b"Transfer-Encoding: chunked", body=b"\r\na\r\n0\r\n\r\n")),
    "chunk size that is too long": (400, request(b"Transfer-Encoding: chunked", body=b"0" * 17 + b"1\r\na\r\n0\r\n\r\n")),
    "chunk size that overflows": (400, request(b"Transfer-Encoding: chunked", body=b"FFFFFFFFFFFFFFFFF\r\na\r\n0\r\n\r\n")),
    "chunk extension without an end": (400, request(b"Transfer-Encoding: chunked", body=b"1;" + b"x" * 9000)),
    "bare LF after a chunk size": (400, request(b"Transfer-Encoding: chunked", body=b"1\na\r\n0\r\n\r\n")),
    "bare CR in an extension": (400, request(b"Transfer-Encoding: chunked", body=b"1;a\rb\r\na\r\n0\r\n\r\n")),
    "no CRLF behind the data": (400, request(b"Transfer-Encoding: chunked", body=b"1\r\nab\r\n0\r\n\r\n")),
    # 7: trailers
    "length in a trailer": (400, request(b"Transfer-Encoding: chunked", body=b"0\r\nContent-Length: 5\r\n\r\n")),
    "coding in a trailer": (400, request(b"Transfer-Encoding: chunked", body=b"0\r\nTransfer-Encoding: chunked\r\n\r\n")),
    "host in a trailer": (400, request(b"Transfer-Encoding: chunked", body=b"0\r\nHost: b\r\n\r\n")),
    "authorization in a trailer": (400, request(b"Transfer-Encoding: chunked", body=b"0\r\nAuthorization: b\r\n\r\n")),
    # 8: lines
    "bare LF": (400, b"GET / HTTP/1.1\nHost: a\n\n"),
    "bare LF in the fields": (400, b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n"),
    "bare CR": (400, b"GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n"),
    "folded line": (400, b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n"),
    "NUL in a value": (400, request(b"X: a\x00b", method=b"GET")),
    "control in a value": (400, request(b"X: a\x01b", method=b"GET")),
    "DEL in a value": (400, request(b"X: a\x7fb", method=b"GET")),
    "space before the colon": (400, request(b"X : a", method=b"GET")),
    "tab before the colon": (400, request(b"X\t: a", method=b"GET")),
    "empty name": (400, request(b": a", method=b"GET")),
    "name that is no token": (400, request(b"X(Y: a", method=b"GET")),
    "space before the first field": (400, b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
    "no colon": (400, request(b"X", method=b"GET")),
    # 9: host and target
    "no host": (400, request(method=b"GET", host=False)),
    "two hosts": (400, request(b"Host: b", method=b"GET")),
    "two equal hosts": (400, request(b"Host: a", method=b"GET")),
    "host with user information": (400, request(b"Host: u@a", method=b"GET", host=False)),
    "host with a path": (400, request(b"Host: a/b", method=b"GET", host=False)),
    "host with a port that is no number": (400, request(b"Host: a:b", method=b"GET", host=False)),
    "host with a space": (400, request(b"Host: a b", method=b"GET", host=False)),
    "authority-form": (400, request(method=b"GET", target=b"a:80")),
    "relative target": (400, request(method=b"GET", target=b"a/b")),
    "asterisk for GET": (400, request(method=b"GET", target=b"*")),
    "fragment in the target": (400, request(method=b"GET", target=b"/a#b")),
    # 10: the request line
    "method that is no token": (400, request(method=b"G(ET")),
    "space inside the target": (400, b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
    "two spaces": (400, b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
    "no version": (400, b"GET /\r\nHost: a\r\n\r\n"),
    "HTTP/2.0": (505, request(method=b"GET", version=b"HTTP/2.0")),
    "HTTP/0.9": (505, request(method=b"GET", version=b"HTTP/0.9")),
    "HTTP/1.10": (400, request(method=b"GET", version=b"HTTP/1.10")),
    "http in lower case": (400, request(method=b"GET", version=b"http/1.1")),
    "target without an end": (414, b"GET /" + b"a" * 70_000),
    "field without an end": (431, request(method=b"GET")[:-2] + b"X: " + b"a" * 140_000),
    "fields without number": (431, request(*[b"X: y"] * 1000, method=b"GET")),
    # 12: expectations
    "other expectation": (417, request(b"Expect: the-best", b"Content-Length: 0")),
    # 18, 19
    "two content types": (400, request(b"Content-Type: a/b", b"Content-Type: c/d", b"Content-Length: 0")),
}


@pytest.mark.parametrize("name", REFUSED)
def test_request_is_refused_and_the_connection_ends(port, name):
    status, text = REFUSED[name]
    answer = converse(port, text, HIDDEN)
    assert answer.statuses == [status]
    assert b"/hidden" not in answer.text
    assert b"connection: close" in answer.text.lower()


@pytest.mark.parametrize("name", REFUSED)
def test_answers_before_a_refused_request_are_not_overtaken(port, name):
    status, text = REFUSED[name]
    answer = converse(port, request(method=b"GET", target=b"/first") + request(method=b"GET", target=b"/second") + text + HIDDEN)
    assert answer.statuses == [200, 200, status]
    assert answer.text.index(b"GET /first") < answer.text.index(b"GET /second")


TRUNCATED = {
    "body": request(b"Content-Length: 10", body=b"abc"),
    "chunk": request(b"Transfer-Encoding: chunked", body=b"5\r\nabc"),
    "end of the chunks": request(b"Transfer-Encoding: chunked", body=b"3\r\nabc\r\n0\r\n"),
    "head": b"GET / HTTP/1.1\r\nHost: a\r\n",
}


@pytest.mark.parametrize("name", TRUNCATED)
def test_truncated_request_is_never_complete(port, name):
    assert 200 not in converse(port, TRUNCATED[name]).statuses


SERVED = {
    "empty lines before the request": (b"\r\n\r\n" + request(method=b"GET"), b"GET /"),
    "host in an absolute target wins": (request(method=b"GET", target=b"http://b/p"), b"GET /p"),
    "chunks": (request(b"Transfer-Encoding: chunked", body=b"1\r\na\r\n2;x=y\r\nbc\r\n0\r\n\r\n"), b"POST / abc"),
    "chunked in capitals": (request(b"Transfer-Encoding: CHUNKED", body=b"1\r\na\r\n0\r\n\r\n"), b"POST / a"),
    "encoded path": (request(method=b"GET", target=b"/a%2Fb%20c"), b"GET /a%2Fb%20c"),
    "upgrade that nobody asked to be named": (request(b"Upgrade: websocket", method=b"GET"), b"GET /"),
    "upgrade to what is unknown": (request(b"Connection: upgrade", b"Upgrade: teapot", method=b"GET"), b"GET /"),
}


@pytest.mark.parametrize("name", SERVED)
def test_request_is_served(port, name):
    text, echoed = SERVED[name]
    answer = converse(port, text + request(b"Connection: close", method=b"GET", target=b"/next"))
    assert answer.statuses == [200, 200]
    assert echoed in answer.text and b"GET /next" in answer.text


@pytest.mark.parametrize("name", [*SERVED, *REFUSED])
def test_byte_by_byte_is_the_same(port, name):
    text = SERVED[name][0] if name in SERVED else REFUSED[name][1]
    if len(text) > 2000:
        pytest.skip("one system call a byte")
    whole = converse(port, text)
    split = converse(port, *[text[i : i + 1] for i in range(len(text))])
    assert split.statuses == whole.statuses


def test_host_of_an_absolute_target_wins(port):
    answer = converse(port, request(b"Connection: close", method=b"GET", target=b"http://b:81/p"))
    assert re.findall(rb"x-host: (.*)\r", answer.text) == [b"b:81"]


def test_nothing_behind_a_connect_becomes_a_request(port):
    answer = converse(port, request(method=b"CONNECT", target=b"a:80") + request(method=b"GET", target=b"/next"))
    assert answer.statuses == [200]


@pytest.mark.parametrize("target", [b"/204", b"/304"])
def test_status_without_a_body(port, target):
    answer = converse(port, request(method=b"GET", target=target) + request(method=b"GET", target=b"/next"))
    assert answer.statuses == [int(target[1:]), 200]
    assert b"transfer-encoding" not in answer.text.lower()


def test_head_has_no_body(port):
    answer = converse(port, request(method=b"HEAD", target=b"/head") + request(method=b"GET", target=b"/next"))
    assert answer.statuses == [200, 200] and b"HEAD /head" not in answer.text


@pytest.mark.parametrize("target", [b"/split", b"/split-name", b"/nul"])
def test_application_cannot_split_a_response(port, target):
    answer = converse(port, request(method=b"GET", target=target))
    assert answer.statuses == [500] and b"x-c" not in answer.text


def test_http_1_0_gets_no_chunks_and_is_closed(port):
    answer = converse(port, request(method=b"GET", version=b"HTTP/1.0", host=False))
    assert answer.statuses == [200] and b"transfer-encoding" not in answer.text.lower()


@pytest.mark.parametrize("option", [b"close", b"Close", b"foo, CLOSE", b"close, foo"])
def test_connection_close_is_found_in_a_list(port, option):
    answer = converse(port, request(b"Connection: " + option, method=b"GET") + HIDDEN)
    assert answer.statuses == [200] and b"/hidden" not in answer.text


def test_unread_body_does_not_become_a_request(port):
    hidden = request(method=b"GET", target=b"/hidden")
    answer = converse(port, request(b"Content-Length: %d" % len(hidden), target=b"/unread", body=hidden))
    assert answer.statuses == [200] and b"GET /hidden" not in answer.text
