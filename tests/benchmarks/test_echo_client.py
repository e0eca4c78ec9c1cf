# SPDX-License-Identifier: MIT
"""The load client must notice every kind of wrong echo: a benchmark of a loop that loses bytes is worthless."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from _servers import build_load_client  # noqa: E402  # after sys.path says where it is

SIZE = 1000
Tamper = Callable[[bytes], bytes]


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_load_client(tmp_path_factory.mktemp("client"))


def serve_connection(sock: socket.socket, tamper: Tamper) -> None:
    """Echo messages of SIZE bytes; the third one is tampered with. An empty answer closes the connection."""
    # The client resets the connection as soon as it has seen a wrong byte.
    with suppress(ConnectionError), sock, sock.makefile("rb") as stream:
        number = 0
        while message := stream.read(SIZE):
            number += 1
            answer = tamper(message) if number == 3 else message
            if not answer:
                return
            sock.sendall(answer)


@contextmanager
def echo_server(tamper: Tamper) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept_forever() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=serve_connection, args=(sock, tamper), daemon=True).start()

        thread = threading.Thread(target=accept_forever, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def run_client(client: Path, *arguments: object, duration: float = 0.1) -> subprocess.CompletedProcess[str]:
    command = [str(client), "--size", str(SIZE), "--warmup", "0.02", "--duration", str(duration), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_true_echo_is_measured(client: Path) -> None:
    with echo_server(lambda message: message) as port:
        done = run_client(client, "--port", port, "--connections", 5, "--depth", 3, "--server-pid", os.getpid())
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["messages"] > 0
    assert result["bytes"] == result["messages"] * SIZE
    assert result["seconds"] >= 0.1
    assert result["errors"] == 0
    assert result["server_cpu_ns"] > 0
    latency = result["latency_us"]
    assert 0 < latency["p50"] <= latency["p99"] <= latency["p99.9"] <= latency["max"]


@pytest.mark.parametrize(
    "tamper",
    [
        pytest.param(lambda message: message[:-1] + bytes([message[-1] ^ 1]), id="one bit of the last byte"),
        pytest.param(lambda message: message[1:] + message[:1], id="rotated"),
        pytest.param(lambda message: message + message, id="doubled"),
        pytest.param(lambda message: message + b"x", id="one byte more"),
        pytest.param(lambda message: bytes(SIZE), id="zeros"),
    ],
)
def test_wrong_echo_is_an_error(client: Path, tamper: Tamper) -> None:
    with echo_server(tamper) as port:
        done = run_client(client, "--port", port)
    assert done.returncode == 1
    assert "wrong byte" in done.stderr
    assert json.loads(done.stdout)["errors"] == 1


def test_swapped_messages_are_an_error(client: Path) -> None:
    held: list[bytes] = []

    def swap(message: bytes) -> bytes:
        held.append(message)
        return held[0]

    with echo_server(swap) as port:
        # The third message of the second connection is answered with that of the first.
        done = run_client(client, "--port", port, "--connections", 2)
    assert done.returncode == 1
    assert "wrong byte" in done.stderr


def test_closed_connection_is_an_error(client: Path) -> None:
    with echo_server(lambda message: b"") as port:
        done = run_client(client, "--port", port)
    assert done.returncode == 1
    assert "the server closed it" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param([], id="no address"),
        pytest.param(["--port", "0"], id="port 0"),
        pytest.param(["--port", "1", "--unix", "/x"], id="two addresses"),
        pytest.param(["--port", "1", "--host", "192.0.2.1"], id="not loopback"),
        pytest.param(["--port", "1", "--size", "4093"], id="size the check is blind to"),
        pytest.param(["--port", "1", "--connections", "1x"], id="not a number"),
    ],
)
def test_senseless_arguments_are_refused(client: Path, arguments: list[str]) -> None:
    done = run_client(client, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(("usage", "echo_client:"))


def test_unix_sockets_are_served(client: Path, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def serve() -> None:
            sock, _ = listener.accept()
            serve_connection(sock, lambda message: message)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        done = run_client(client, "--unix", path)
        thread.join(10)
    assert done.returncode == 0, done.stderr


@contextmanager
def datagram_server(tamper: Callable[[int, bytes], list[bytes]]) -> Iterator[int]:
    """A UDP server that sends what `tamper` makes of each datagram and its number."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))

        def answer_forever() -> None:
            number = 0
            while True:
                message, address = sock.recvfrom(1 << 16)
                if message == b"stop":
                    return
                number += 1
                for answer in tamper(number, message):
                    sock.sendto(answer, address)

        thread = threading.Thread(target=answer_forever, daemon=True)
        thread.start()
        yield sock.getsockname()[1]
        sock.sendto(b"stop", sock.getsockname())
        thread.join()


def test_true_echo_of_datagrams_is_measured(client: Path) -> None:
    with datagram_server(lambda number, message: [message]) as port:
        done = run_client(client, "--udp", "--port", port, "--connections", 5, "--depth", 3, "--server-pid", os.getpid())
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["messages"] > 0
    assert result["errors"] == result["lost"] == 0


@pytest.mark.parametrize(
    "tamper",
    [
        pytest.param(lambda message: [message[:-1] + bytes([message[-1] ^ 1])], id="one bit of the last byte"),
        pytest.param(lambda message: [message[:-1]], id="cut off"),
        pytest.param(lambda message: [message + b"x"], id="one byte more"),
        pytest.param(lambda message: [message, message], id="doubled"),
        pytest.param(lambda message: [b""], id="empty"),
    ],
)
def test_wrong_echo_of_datagrams_is_an_error(client: Path, tamper: Callable[[bytes], list[bytes]]) -> None:
    with datagram_server(lambda number, message: tamper(message) if number == 3 else [message]) as port:
        done = run_client(client, "--udp", "--port", port)
    assert done.returncode == 1
    assert "wrong byte" in done.stderr


@pytest.mark.parametrize("depth", [1, 3])
def test_lost_datagrams_are_counted(client: Path, depth: int) -> None:
    with datagram_server(lambda number, message: [] if number == 3 else [message]) as port:
        done = run_client(client, "--udp", "--port", port, "--depth", depth)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["lost"] == 1


def test_a_datagram_that_comes_late_is_not_an_error(client: Path) -> None:
    held: list[bytes] = []

    def answer(number: int, message: bytes) -> list[bytes]:
        if number == 3:
            held.append(message)
            return []
        return [held.pop(), message] if held else [message]

    with datagram_server(answer) as port:
        done = run_client(client, "--udp", "--port", port, duration=1.5)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["lost"] == 1
