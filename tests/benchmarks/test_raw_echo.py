# SPDX-License-Identifier: MIT
"""The echo server without a loop gives back every byte, also to a peer that takes its time, and has its place in the table."""

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

pytest.importorskip("rich")

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from _cpu import shared_core  # noqa: E402  # after sys.path says where it is
from _servers import build_load_client, build_raw_echo, raw_echo_server, run_load_client  # noqa: E402  # as above

LOAD = {"size": 100 * 1024, "connections": 5, "depth": 3, "warmup": 0.02, "duration": 0.1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("programs")
    build_load_client(folder)
    build_raw_echo(folder)
    return folder


def test_the_load_client_finds_every_byte_right(folder: Path) -> None:
    cores = shared_core()
    with raw_echo_server(folder / "raw_echo", cores) as server:
        result = run_load_client(folder / "echo_client", server, cores, LOAD)
    assert result["messages"] > 0 and result["errors"] == 0 and result["server_cpu_ns"] > 0


def test_a_peer_that_reads_late_gets_everything(folder: Path) -> None:
    sent = os.urandom(16 << 20)  # More than the sockets hold on the way there and back.
    with raw_echo_server(folder / "raw_echo", shared_core()) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            sender = threading.Thread(target=sock.sendall, args=(sent,))
            sender.start()
            sender.join(0.2)
            assert sender.is_alive()  # The server has stopped reading: its sends were partial.
            received = bytearray()
            while len(received) < len(sent):
                received += sock.recv(1 << 20)
            sender.join()
    assert received == sent


def test_raw_takes_turns_in_protocol_cases_alone_and_the_table_names_the_processor(tmp_path: Path) -> None:
    out = tmp_path / "echo.json"
    command = [sys.executable, str(BENCHMARKS / "compare.py"), "echo", "--loops", "asyncio", "no_such_loop", "raw"]
    command += ["--cases", "protocol-1k-1", "reader-1k-100", "--rounds", "1", "--duration", "0.05", "--warmup", "0.02", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", env=dict(os.environ, COLUMNS="200"), timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads(out.read_text())
    samples = {row["case"]: list(row["samples"]) for row in record["rows"]}
    assert samples == {
        "protocol-1k-1": ["asyncio", "raw", "asyncio (again)"],
        "reader-1k-100": ["asyncio", "asyncio (again)"],
    }
    assert list(record["versions"]) == ["asyncio", "raw"] and list(record["absent"]) == ["no_such_loop"]
    assert done.stdout.count(record["machine"]["cpu"]) == 3  # at the head and under both tables
