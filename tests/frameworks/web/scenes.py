# SPDX-License-Identifier: MIT
"""What clients do to a sample application: each scene returns what they have seen of the server."""

import contextlib
import http.client
import os
import socket

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

WAIT_S = 30
BOUNDARY = "what-separates-the-parts"
UPLOAD_BYTES = int(float(os.environ.get("CXXLOOP_UPLOAD_MB", "4")) * 1_000_000)
# Of the server, or of the moment.
FIELDS_OF_SERVER = ("date", "expires", "server")
# How a body is delimited: the server may know the length of what the application sends in one piece, and need no chunks.
FIELDS_OF_FRAMING = ("content-length", "transfer-encoding")

SCENES = {}


def scene(function):
    SCENES[function.__name__] = function
    return function


def fields_of_application(fields):
    return [(name.lower(), value) for name, value in fields if name.lower() not in (*FIELDS_OF_SERVER, *FIELDS_OF_FRAMING)]


class Client:
    """One connection, and the answers to its requests."""

    def __init__(self, port):
        self._port = port
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)

    def ask(self, method, target, body=None, **fields):
        """(status, fields, body) of the response."""
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        self._connection.request(method, target, body, headers, encode_chunked=body is not None and not isinstance(body, bytes))
        response = self._connection.getresponse()
        fields = [(name, self._anonymous(value)) for name, value in fields_of_application(response.getheaders())]
        return response.status, response.reason, fields, self._anonymous(response.read().decode())

    def _anonymous(self, text):
        return text.replace(f":{self._port}", ":PORT")

    def close(self):
        self._connection.close()


@contextlib.contextmanager
def client_of(port):
    with contextlib.closing(Client(port)) as client:
        yield client


def ask(port, *arguments, **fields):
    with client_of(port) as client:
        return client.ask(*arguments, **fields)


# --- requests and responses ----------------------------------------------------------------------------------------------


@scene
def items(port):
    with client_of(port) as client:
        return [
            client.ask("GET", "/items/7?q=a&q=%C3%A4+b"),
            client.ask("HEAD", "/items/7"),
            client.ask("GET", "/items/x"),
            client.ask("DELETE", "/items/7"),
            client.ask("GET", "/nowhere"),
        ]


@scene
def forms(port):
    body = b"name=Ann%C3%A9&text=" + b"long+" * 20_000
    return ask(port, "POST", "/form", body, Content_Type="application/x-www-form-urlencoded")


def parts(size):
    """The pieces of a multipart body."""
    yield f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="note"\r\n\r\na note\r\n'.encode()
    disposition = 'Content-Disposition: form-data; name="file"; filename="data.bin"'
    yield f"--{BOUNDARY}\r\n{disposition}\r\nContent-Type: application/octet-stream\r\n\r\n".encode()
    pattern = bytes(range(256)) * 256
    for begin in range(0, size, len(pattern)):
        yield pattern[: size - begin]
    yield f"\r\n--{BOUNDARY}--\r\n".encode()


@scene
def uploads(port):
    kind = {"Content_Type": f"multipart/form-data; boundary={BOUNDARY}"}
    length = str(sum(map(len, parts(UPLOAD_BYTES))))
    with client_of(port) as client:
        return [
            client.ask("POST", "/upload", b"".join(parts(1000)), **kind),
            client.ask("POST", "/upload", parts(50_000), **kind, Transfer_Encoding="chunked"),
            client.ask("POST", "/upload", Sized(parts(UPLOAD_BYTES)), **kind, Content_Length=length),
        ]


class Sized:
    """Pieces of a body whose length a header tells: they are not sent as chunks."""

    def __init__(self, pieces):
        self._pieces = pieces

    def read(self, size):
        return next(self._pieces, b"")


@scene
def bodies_in_pieces(port):
    with client_of(port) as client:
        return [
            client.ask("POST", "/count", (b"x" * size for size in range(1, 300)), Transfer_Encoding="chunked"),
            client.ask("POST", "/count", b"x" * 1_000_000),
            client.ask("POST", "/count", b""),
        ]


@scene
def streams(port):
    with client_of(port) as client:
        return [client.ask("GET", "/stream"), client.ask("HEAD", "/stream"), client.ask("GET", "/events")]


@scene
def static_files(port):
    with client_of(port) as client:
        first = client.ask("GET", "/static/file.txt")
        fields = dict(first[2])
        etag, changed = fields.get("etag", ""), fields.get("last-modified", "")
        return [
            first,
            client.ask("HEAD", "/static/file.txt"),
            client.ask("GET", "/static/file.txt", If_None_Match=etag, If_Modified_Since=changed),
            client.ask("GET", "/static/file.txt", Range="bytes=2-5"),
            client.ask("GET", "/static/nothing.txt"),
            client.ask("GET", "/static/..%2fcommon.py"),
        ]


@scene
def cookies_and_redirects(port):
    with client_of(port) as client:
        return [client.ask("GET", "/cookies", Cookie="a=1; b=2"), client.ask("GET", "/redirect"), client.ask("GET", "/redirect/")]


@scene
def exceptions(port):
    return [ask(port, "GET", "/fail"), ask(port, "GET", "/teapot")]  # uvicorn drops a connection whose request has failed


@scene
def background_tasks_and_lifespan(port):
    with client_of(port) as client:
        response = client.ask("POST", "/background", b"")
        while "mail" not in (told := client.ask("GET", "/happenings"))[3]:
            pass
    return response, told


# --- how connections end -------------------------------------------------------------------------------------------------


def dialogue(port, *pieces):
    """What the server answers to raw bytes until it ends the connection; lines in an order of their own.

    Each piece but the first is sent when something has come.
    """
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as connection:
        for piece in pieces:
            connection.sendall(piece)
            received += connection.recv(65536)
        while data := connection.recv(65536):
            received += data
    lines = received.decode().lower().split("\r\n")  # uvicorn writes the names of fields in small letters
    return sorted(line for line in lines if not line.startswith(FIELDS_OF_SERVER + FIELDS_OF_FRAMING))


@scene
def ends_of_connections(port):
    host = b"Host: 127.0.0.1\r\n"
    last = host + b"Connection: close\r\n\r\n"
    body = host + b"Connection: close\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    return [
        dialogue(port, b"GET /teapot HTTP/1.1\r\n" + last),
        dialogue(port, b"GET /teapot HTTP/1.1\r\n" + host + b"\r\nGET /items/1 HTTP/1.1\r\n" + last),
        dialogue(port, b"GET /teapot HTTP/1.0\r\n" + host + b"\r\n"),
        dialogue(port, b"POST /count HTTP/1.1\r\n" + body, b"abc"),
    ]


@scene
def client_that_leaves(port):
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as connection:
        connection.sendall(b"GET /endless HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        received = 0
        while received < 100_000:
            received += len(connection.recv(65536))
    with socket.create_connection(("127.0.0.1", port), timeout=WAIT_S) as connection:
        connection.sendall(b"POST /count HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\nhalf")
    return ask(port, "GET", "/gone")


# --- WebSocket -----------------------------------------------------------------------------------------------------------


# uvicorn drops the connection of an application that has failed (1006), cxxloop says so (1011).
FAILURES = (1006, 1011)


def handshake(port, path, talk=lambda socket: None, **options):
    """What a client sees of a WebSocket: the server's handshake, what `talk(socket)` returns, and the end."""
    try:
        client = connect(f"ws://127.0.0.1:{port}{path}", open_timeout=WAIT_S, close_timeout=WAIT_S, proxy=None, **options)
    except InvalidStatus as refusal:
        return refusal.response.status_code
    with client:
        fields = sorted((name.lower(), value.split(";")[0]) for name, value in client.response.headers.raw_items())
        fields = [pair for pair in fields if pair[0] not in (*FIELDS_OF_SERVER, "sec-websocket-accept")]
        said = talk(client)
        if talk is not converse:
            with contextlib.suppress(ConnectionClosed):
                client.recv(WAIT_S)
        client.close()
    end = "failed" if client.close_code in FAILURES else (client.close_code, client.close_reason)
    return client.response.status_code, fields, client.subprotocol, said, end


def converse(client):
    said = []
    for text, data in [("hello", b"\x00\x01"), ("\u00e4" * 40_000, bytes(range(256)) * 1000)]:
        client.send(text)
        said.append(client.recv())
        client.send(data)
        said.append(client.recv())
    return said


@scene
def websockets(port):
    return [
        handshake(port, "/echo", converse),
        handshake(port, "/echo", converse, subprotocols=["other", "echo"], compression=None),
        handshake(port, "/closing"),
        handshake(port, "/refused"),
        handshake(port, "/nowhere"),
        handshake(port, "/failing"),
    ]
