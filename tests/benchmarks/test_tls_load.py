# SPDX-License-Identifier: MIT
"""The TLS server and the TLS load of the comparisons work together, and what happens is measured."""

import socket
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path[:0] = [str(BENCHMARKS), str(BENCHMARKS / "net")]

import tls_client  # noqa: E402  # after sys.path says where it is
from _certificate import make_certificate  # noqa: E402  # after sys.path says where it is
from _contest import MeasurementFailed  # noqa: E402  # after sys.path says where it is
from _cpu import shared_core  # noqa: E402  # after sys.path says where it is
from _servers import Server, run_tls_client, tls_server  # noqa: E402  # after sys.path says where it is

LOAD = {"size": 2000, "connections": 2, "warmup": 0.05, "duration": 0.1}


@pytest.mark.parametrize("mode", ["echo", "handshake"])
def test_the_load_is_counted(tmp_path: Path, mode: str) -> None:
    cores = shared_core()
    with tls_server(sys.executable, "asyncio", make_certificate(tmp_path), cores) as server:
        result = run_tls_client(sys.executable, server, cores, {"mode": mode, **LOAD})
    assert result["operations"] >= 2 and result["server_cpu_ns"] > 0


def test_a_server_that_is_not_there_fails_the_measurement() -> None:
    with pytest.raises(MeasurementFailed, match="refused"):
        run_tls_client(sys.executable, Server(1, 1), shared_core(), {"mode": "echo", **LOAD})


def test_a_server_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls_client, "ANSWER_SECONDS_MAX", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(TimeoutError):
        tls_client.connect(tls_client.make_context(), silent.getsockname()[1])
