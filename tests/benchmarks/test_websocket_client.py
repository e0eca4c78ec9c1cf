# SPDX-License-Identifier: MIT
"""The WebSocket load client counts true echoes and notices every kind of wrong one."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

import pytest

pytest.importorskip("websockets")

from websockets.exceptions import ConnectionClosed  # noqa: E402  # after it is known to be there
from websockets.sync.server import ServerConnection, serve  # noqa: E402  # as above

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from _servers import build_websocket_client  # noqa: E402  # after sys.path says where it is

Message = str | bytes
Answer = Callable[[ServerConnection, bytes], Message | Iterable[Message]]


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_websocket_client(tmp_path_factory.mktemp("client"))


@contextmanager
def echo_server(answer: Answer) -> Iterator[int]:
    """The third message of every connection is answered with what `answer` makes of it."""

    def handle(connection: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            for number, message in enumerate(connection, 1):
                connection.send(answer(connection, message) if number == 3 else message)

    with serve(handle, "127.0.0.1", 0, compression=None, close_timeout=0.1) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.socket.getsockname()[1]
        server.shutdown()
        thread.join()


def run_client(client: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(client), "--path", "/echo", "--warmup", "0.02", "--duration", "0.1", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("size", [1, 125, 126, 65_535, 65_536])
def test_true_echo_is_measured(client: Path, size: int) -> None:
    with echo_server(lambda connection, message: message) as port:
        arguments = ("--port", port, "--size", size, "--connections", 3, "--depth", 2, "--server-pid", os.getpid())
        done = run_client(client, *arguments)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["messages"] > 0 and result["errors"] == 0 and result["server_cpu_ns"] > 0


def in_fragments(connection: ServerConnection, message: bytes) -> Iterator[bytes]:
    yield b""
    connection.ping("are you there?")
    yield message[:1]
    yield message[1:]


def test_fragments_and_pings_between_them_are_no_error(client: Path) -> None:
    with echo_server(in_fragments) as port:
        done = run_client(client, "--port", port, "--size", 1000)
    assert done.returncode == 0, done.stderr


def test_ping_is_answered(client: Path) -> None:
    waits: list[bool] = []

    def ping(connection: ServerConnection, message: bytes) -> bytes:
        pong = connection.ping("are you there?")
        Thread(target=lambda: waits.append(pong.wait(10))).start()
        return message

    with echo_server(ping) as port:
        done = run_client(client, "--port", port, "--size", 1000)
    assert done.returncode == 0, done.stderr
    assert waits == [True]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param(lambda connection, message: message[:-1] + bytes([message[-1] ^ 1]), "wrong byte", id="one bit"),
        pytest.param(lambda connection, message: message[:-1], "too short", id="cut off"),
        pytest.param(lambda connection, message: message + b"x", "more bytes", id="one byte more"),
        pytest.param(lambda connection, message: [message, b"x"], "more bytes", id="one byte more in a fragment"),
        pytest.param(lambda connection, message: b"", "too short", id="empty"),
        pytest.param(lambda connection, message: "x" * len(message), "another type", id="text"),
        pytest.param(lambda connection, message: connection.close() or b"", "closed it", id="closed"),
    ],
)
def test_wrong_echo_is_an_error(client: Path, answer: Answer, words: str) -> None:
    with echo_server(answer) as port:
        done = run_client(client, "--port", port, "--size", 1000)
    assert done.returncode == 1, done.stderr
    assert words in done.stderr
    assert json.loads(done.stdout)["errors"] == 1


def test_server_without_websockets_is_an_error(client: Path) -> None:
    with serve(lambda connection: None, "127.0.0.1", 0, process_request=lambda connection, request: connection.respond(404, "no")) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        done = run_client(client, "--port", server.socket.getsockname()[1])
        server.shutdown()
        thread.join()
    assert done.returncode == 2
    assert "no upgrade: HTTP/1.1 404" in done.stderr
