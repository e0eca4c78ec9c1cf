# SPDX-License-Identifier: MIT
"""`cxxloop serve --admin`: numbers of one process and of workers, tasks, events, and who may read them."""

import http.client
import json
import os
import re
import signal
import socket
import time

import pytest
from program import WAIT_S

pytestmark = pytest.mark.cxxloop_only("the server")

ADMIN = ("--admin", "127.0.0.1:0", "--no-access-log")


def admin_port(program):
    return int(program.wait_for(r"Admin page on http://127\.0\.0\.1:(\d+)/$")[1])


def ask(program, path, *, host=None, method="GET"):
    """The response to a request to the admin address, read whole."""
    connection = http.client.HTTPConnection("127.0.0.1", admin_port(program), timeout=WAIT_S)
    try:
        connection.request(method, path, headers={} if host is None else {"Host": host})
        response = connection.getresponse()
        response.text = response.read().decode()
        return response
    finally:
        connection.close()


def scrape(program):
    """The samples of /metrics, by name and labels as they are written."""
    lines = ask(program, "/metrics").text.splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if not line.startswith("#"))}


def wait_for_metrics(program, is_met):
    deadline = time.monotonic() + WAIT_S
    while not is_met(found := scrape(program)):
        assert time.monotonic() < deadline, f"{found}\n{program.log}"
        time.sleep(0.05)  # another process: there is no event to wait for
    return found


def test_admin_address_is_off_by_default(serve):
    program = serve()
    program.port()
    program.get()
    assert "Admin" not in program.log
    assert program.end() == 0


def test_one_process_shows_its_numbers(serve):
    program = serve(*ADMIN, "--limit-head-bytes", "1000")
    for _ in range(3):
        assert program.get()[0] == 200
    with socket.create_connection(("127.0.0.1", program.port()), timeout=WAIT_S) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * 2000 + b"\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 431"
    found = wait_for_metrics(program, lambda found: found["cxxloop_loop_lag_seconds_count"] > 0)
    assert found["cxxloop_http_requests_total"] == 3
    assert found['cxxloop_http_responses_total{status="2xx"}'] == 3
    assert found['cxxloop_http_responses_total{status="4xx"}'] == 1
    assert found['cxxloop_limit_hits_total{limit="limit-head-bytes"}'] == 1
    assert found["cxxloop_http_request_duration_seconds_count"] == 3
    assert found["cxxloop_connections_accepted_total"] == 4
    assert found["cxxloop_workers"] == found["cxxloop_workers_started_total"] == 1
    assert found["process_resident_memory_bytes"] > 1e6
    assert ask(program, "/metrics").getheader("content-type") == "text/plain; version=0.0.4; charset=utf-8"
    assert program.end() == 0


def test_tasks_say_where_they_wait(serve):
    program = serve(*ADMIN)
    held = program.get_later("/hold")
    program.wait_for("holding")
    workers = json.loads(ask(program, "/tasks").text)["workers"]
    assert [worker["pid"] for worker in workers] == [program.process.pid]
    stacks = [group["stack"] for group in workers[0]["groups"] if group["coroutine"] == "app"]
    assert any(re.match(r"app \(.*app\.py:\d+\)$", stack[0]) and stack[1].startswith("pass_gate (") and stack[-1].startswith("Event.wait (") for stack in stacks), workers
    assert not any("Admin" in group["coroutine"] for group in workers[0]["groups"])
    assert wait_for_metrics(program, lambda found: True)["cxxloop_http_requests_in_flight"] == 1
    program.let_go()
    assert held()[0] == 200


def test_events_begin_with_the_history_and_end_with_the_server(serve):
    program = serve(*ADMIN)
    program.port()
    connection = http.client.HTTPConnection("127.0.0.1", admin_port(program), timeout=WAIT_S)
    connection.request("GET", "/events")
    response = connection.getresponse()
    assert response.getheader("content-type") == "text/event-stream"
    events = []
    while len(events) < 2:
        line = response.readline().decode()
        if line.startswith("data: "):
            events.append(json.loads(line[6:]))
    assert events[0]["server"]["app"] == "app:app" and isinstance(events[0]["history"], list)
    assert {"time", "requests", "p99", "lag", "memory", "cpu", "workers", "tasks"} <= set(events[1])
    program.send(signal.SIGTERM)
    assert response.read().count(b"event: ") < WAIT_S
    assert program.wait() == 0
    assert "Traceback" not in program.log
    connection.close()


def test_strangers_learn_nothing(serve):
    program = serve(*ADMIN)
    for path in ("/", "/metrics", "/tasks", "/events", "/page.js", "/nothing"):
        response = ask(program, path, host="evil.example:80")
        assert response.status == 421 and "cxxloop_" not in response.text
    for host in ("localhost:1", "127.0.0.1", "[::1]:8"):
        assert ask(program, "/metrics", host=host).status == 200
    for path in ("/", "/page.css", "/page.js", "/chart.js", "/icon.svg", "/metrics", "/tasks"):
        response = ask(program, path)
        assert response.status == 200 and response.text
        policy = response.getheader("content-security-policy")
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';") and "unsafe" not in policy
        assert response.getheader("x-content-type-options") == "nosniff"
        assert response.getheader("cross-origin-resource-policy") == "same-origin"
        assert not re.search(r"(?:src|href)=\"(?:https?:)?//|@import|https?://(?!www\.w3\.org/2000/svg|chromedevtools)", response.text)
    assert ask(program, "/metrics", method="POST").status == 405
    assert ask(program, "/../app.py").status == 404


def test_workers_are_added_up_and_nothing_is_lost_when_one_is_replaced(serve):
    program = serve(*ADMIN, "--workers", "2")
    program.port()
    program.wait_for("Application startup complete", 2)
    for _ in range(20):
        program.get()
    before = scrape(program)
    assert before["cxxloop_http_requests_total"] == 20
    assert before["cxxloop_workers"] == 2
    pids = {worker["pid"] for worker in json.loads(ask(program, "/tasks").text)["workers"]}
    assert len(pids) == 2 and program.process.pid not in pids
    os.kill(min(pids), signal.SIGKILL)
    program.wait_for(r"died \(signal SIGKILL\)")
    program.wait_for("Application startup complete", 3)
    after = scrape(program)
    assert after["cxxloop_http_requests_total"] == 20, "what a killed worker has counted is kept"
    program.send(signal.SIGHUP)
    program.wait_for("Finished server process", 2)
    program.get()
    last = wait_for_metrics(program, lambda found: found["cxxloop_workers"] == 2)
    assert last["cxxloop_http_requests_total"] == 21
    assert last["cxxloop_workers_started_total"] == 5
    for name in before:
        if name.endswith(("_total", "_count", "_sum")) or "_bucket" in name:
            assert before[name] <= after[name] <= last[name], name
    assert program.end() == 0
    assert "Traceback" not in program.log


def test_stuck_worker_is_seen_all_the_same(serve):
    program = serve(*ADMIN, "--workers", "1")
    blocked = program.get_later("/block")
    program.wait_for("blocking")
    assert scrape(program)["cxxloop_http_requests_in_flight"] == 1
    (worker,) = json.loads(ask(program, "/tasks").text)["workers"]
    assert any(group["coroutine"] == "app" for group in worker["groups"])
    program.let_go()
    assert blocked()[0] == 200
    assert program.end() == 0


def test_reloader_shows_its_worker(serve):
    program = serve(*ADMIN, "--reload")
    program.port()
    program.get()
    assert scrape(program)["cxxloop_http_requests_total"] == 1
    assert program.end() == 0


def test_other_machines_are_let_in_only_if_told(command, serve):
    result = command("app:app", "--admin", "0.0.0.0:9")
    line = "Invalid value for --admin: other machines can reach '0.0.0.0', and there is no password: use 127.0.0.1, or add --admin-remote"
    assert (result.returncode, result.stderr.splitlines()[-1]) == (2, f"Error: {line}")
    program = serve("--admin", "0.0.0.0:0", "--admin-remote")
    port = int(program.wait_for(r"Admin page on http://0\.0\.0\.0:(\d+)/$")[1])
    assert program.get("/metrics", port)[0] == 200
    assert program.end() == 0


@pytest.mark.parametrize("flags", [(), ("--workers", "2")])
def test_taken_admin_port_is_one_line(serve, flags):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        program = serve("--admin", f"127.0.0.1:{port}", *flags)
        assert program.wait() == 1
        assert program.log.count("ERROR") == 1
        assert f"cannot listen on 127.0.0.1:{port}: address already in use" in program.log
