# SPDX-License-Identifier: MIT
"""Signals while clients send: no request that was sent on an open connection goes without its response."""

import contextlib
import os
import signal
import socket
import threading
import time

import pytest
from program import WAIT_S

pytestmark = pytest.mark.any_backend("its processes have the ordinary backend")

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n%b\r\n"
# HTTP has one gap: a server may close an idle connection while a request is on its way. A client that has waited for so long
# before it sends takes that risk; ours sends at once, unless the machine is busy.
IDLE_S = 0.05


class Client(threading.Thread):
    """Sends requests until nobody listens any more, or it is told to stop.

    Attributes:
        answers: the bodies of the responses.
        failures: what went wrong with a request that was sent.
    """

    def __init__(self, port, *, keeps_alive):
        super().__init__(daemon=True)
        self.answers = []
        self.failures = []
        self.is_over = False
        self._port = port
        self._request = REQUEST % (b"" if keeps_alive else b"Connection: close\r\n")

    def run(self):
        while not self.is_over:
            try:
                sock = socket.create_connection(("127.0.0.1", self._port), timeout=WAIT_S)
            except ConnectionRefusedError:
                return
            with sock:
                self._use(sock)

    def _use(self, sock):
        is_first = True
        ready_at = time.monotonic()
        while not self.is_over:
            idle_s = time.monotonic() - ready_at
            try:
                sock.sendall(self._request)
                head, body = self._response(sock)
            except OSError as error:
                if is_first or idle_s < IDLE_S:
                    self.failures.append((is_first, idle_s, repr(error)))
                return
            self.answers.append(body)
            if b"connection: close" in head.lower():
                return
            is_first = False
            ready_at = time.monotonic()

    def _response(self, sock):
        data = b""
        while True:
            head, end, body = data.partition(b"\r\n\r\n")
            if end and len(body) == int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]):
                return head, body
            piece = sock.recv(65536)
            if not piece:
                raise ConnectionError(f"closed after {data!r}")
            data += piece


@contextlib.contextmanager
def clients(port):
    """Clients of both kinds, which have all had an answer; they have ended when it is left."""
    running = [Client(port, keeps_alive=index % 2 == 0) for index in range(4)]
    for client in running:
        client.start()
    try:
        wait_for_answers(running)
        yield running
    finally:
        for client in running:
            client.is_over = True
        for client in running:
            client.join(WAIT_S)


def wait_for_answers(running, count=1):
    """Until each client has had so many more answers."""
    wanted = [len(client.answers) + count for client in running]
    deadline = time.monotonic() + WAIT_S
    while any(len(client.answers) < least and client.is_alive() for client, least in zip(running, wanted, strict=True)):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def failures(running):
    return [failure for client in running for failure in client.failures]


@pytest.mark.parametrize("flags", [[], ["--workers", "1"], ["--workers", "2"], ["--workers", "2", "--reuse-port"]], ids=" ".join)
def test_termination_answers_every_request(serve, flags):
    program = serve("--no-access-log", *flags)
    with clients(program.port()) as running:
        assert program.end() == 0
        for client in running:
            client.join(WAIT_S)  # until nobody listens
            assert not client.is_alive()
    assert failures(running) == []


@pytest.mark.parametrize("flags", [["--workers", "1"], ["--workers", "2"], ["--workers", "2", "--reuse-port"]], ids=" ".join)
def test_hangup_answers_every_request(serve, flags):
    program = serve("--no-access-log", *flags)
    count = int(flags[1])
    program.wait_for("Application startup complete", count)
    with clients(program.port()) as running:
        for restart in (1, 2):
            program.send(signal.SIGHUP)
            program.wait_for("Finished server process", restart * count)
        wait_for_answers(running, 5)
    assert failures(running) == []
    assert len({body for client in running for body in client.answers}) > 2 * count  # workers before, between and after


def test_worker_that_is_taken_away_answers_every_request(serve):
    program = serve("--no-access-log", "--workers", "2", "--reuse-port")
    program.wait_for("Application startup complete", 2)
    with clients(program.port()) as running:
        program.send(signal.SIGTTOU)
        program.wait_for("Finished server process")
        wait_for_answers(running, 5)
    assert failures(running) == []


@pytest.mark.parametrize("flags", [[], ["--reuse-port"]], ids=" ".join)
def test_killed_worker_harms_no_connection_of_another(serve, flags):
    program = serve("--no-access-log", "--workers", "2", *flags)
    program.wait_for("Application startup complete", 2)
    with clients(program.port()) as running:
        victim = running[0].answers[-1]
        os.kill(int(victim), signal.SIGKILL)
        program.wait_for("Application startup complete", 3)
        wait_for_answers(running, 5)
    for client in running:
        # Only what the dead one had accepted is lost: one request for each client at most, and no more after it.
        assert len(client.failures) <= 1, client.failures
    assert {body for client in running for body in client.answers[-2:]} - {victim}
