# SPDX-License-Identifier: MIT
"""Metrics as Prometheus scrapes them: the text exposition format 0.0.4.

https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format. The names of process_* and python_info are those of
Prometheus' own client for Python.
"""

import platform
import resource
from collections.abc import Iterable, Sequence

from .. import __version__
from .metrics import Histogram, Numbers, Totals, read_process

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# In seconds. Each ends a bucket of the native histogram, so that the counts are exact.
BOUNDS_SECONDS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip

# Counter of the native server: the setting whose limit it is.
LIMITS = {
    "limit_connections": "limit-connections",
    "limit_connections_per_address": "limit-connections-per-address",
    "limit_line": "limit-request-line-bytes",
    "limit_head": "limit-head-bytes",
    "limit_body": "limit-body-bytes",
    "limit_head_time": "timeout-head-seconds",
    "limit_body_time": "timeout-body-seconds",
    "limit_handler_time": "timeout-handler-seconds",
    "limit_write_time": "timeout-write-seconds",
    "limit_handshake_time": "timeout-handshake-seconds",
    "limit_concurrency": "limit-concurrency",
}
_CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")


class _Text:
    """Lines of the exposition."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def family(self, name: str, kind: str, help: str, samples: Iterable[tuple[dict[str, str], float]]) -> None:
        """One metric: its two lines of comment, and a line for each (labels, value)."""
        self._begin(name, kind, help)
        self.lines.extend(f"{name}{_labels(labels)} {_number(value)}" for labels, value in samples)

    def one(self, name: str, kind: str, help: str, value: float) -> None:
        """A metric without labels."""
        self.family(name, kind, help, [({}, value)])

    def histogram(self, name: str, help: str, histogram: Histogram, bounds_seconds: Sequence[float]) -> None:
        """A histogram with the buckets that end at these bounds."""
        self._begin(name, "histogram", help)
        for bound, count in zip(bounds_seconds, histogram.counts_up_to(bounds_seconds), strict=True):
            self.lines.append(f"{name}_bucket{_labels({'le': _number(bound)})} {count}")
        count = histogram.total
        self.lines.append(f"{name}_bucket{_labels({'le': '+Inf'})} {count}")
        self.lines.append(f"{name}_sum {_number(histogram.sum_ns / 1e9)}")
        self.lines.append(f"{name}_count {count}")

    def _begin(self, name: str, kind: str, help: str) -> None:
        escaped = help.replace("\\", "\\\\").replace("\n", "\\n")
        self.lines.append(f"# HELP {name} {escaped}")
        self.lines.append(f"# TYPE {name} {kind}")


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(float(value))


def metrics_text(totals: Totals, started_at: float) -> str:
    """Everything there is to scrape.

    Args:
        totals: whose numbers.
        started_at: when the server was started, in seconds since 1970.
    """
    text = _Text()
    numbers = totals.read()
    _add_requests(text, numbers)
    _add_connections(text, numbers.counters)
    limits = [({"limit": setting}, numbers.counters[name]) for name, setting in LIMITS.items()]
    text.family("cxxloop_limit_hits_total", "counter", "Clients that have met a limit, by the setting.", limits)
    text.histogram("cxxloop_loop_lag_seconds", "How late timers of the event loops run.", numbers.loop_lag, BOUNDS_SECONDS)
    text.one("cxxloop_tasks", "gauge", "Tasks of asyncio now.", numbers.tasks)
    text.one("cxxloop_workers", "gauge", "Processes that serve now.", len(totals.sources))
    text.one("cxxloop_workers_started_total", "counter", "Processes that were started to serve.", totals.started)
    text.family("cxxloop_info", "gauge", "The server.", [({"version": __version__}, 1)])
    _add_processes(text, totals, started_at)
    return "\n".join(text.lines) + "\n"


def _add_requests(text: _Text, numbers: Numbers) -> None:
    counters = numbers.counters
    text.one("cxxloop_http_requests_total", "counter", "Requests whose heads were valid.", counters["requests"])
    responses = [({"status": name}, counters[f"responses_{name}"]) for name in _CLASSES]
    text.family("cxxloop_http_responses_total", "counter", "Responses that were begun, by class of their status.", responses)
    text.one("cxxloop_http_bad_requests_total", "counter", "Requests that the server has refused by itself.", counters["bad_requests"])
    text.one("cxxloop_http_requests_in_flight", "gauge", "Requests whose responses have not ended now.", counters["exchanges"])
    help = "From the head of a request to the end of its response."
    text.histogram("cxxloop_http_request_duration_seconds", help, numbers.latency, BOUNDS_SECONDS)
    text.one("cxxloop_received_bytes_total", "counter", "Bytes that clients have sent.", counters["received_bytes"])
    text.one("cxxloop_sent_bytes_total", "counter", "Bytes that were given to the kernel, or wait for it.", counters["sent_bytes"])


def _add_connections(text: _Text, counters: dict[str, int]) -> None:
    text.one("cxxloop_connections", "gauge", "Connections that are open now.", counters["connections"])
    text.one("cxxloop_connections_accepted_total", "counter", "Connections that were accepted.", counters["accepted"])
    text.one("cxxloop_connections_refused_total", "counter", "Of them, those answered with 503.", counters["refused"])
    handshakes = [({"outcome": "done"}, counters["handshakes"]), ({"outcome": "failed"}, counters["handshakes_failed"])]
    text.family("cxxloop_tls_handshakes_total", "counter", "Handshakes of TLS, but for those that took too long.", handshakes)
    text.one("cxxloop_websockets", "gauge", "WebSockets that are open now.", counters["websockets"])
    text.one("cxxloop_websockets_accepted_total", "counter", "WebSockets that were accepted.", counters["websockets_accepted"])


def _add_processes(text: _Text, totals: Totals, started_at: float) -> None:
    processes = [read_process(pid, counts_fds=True) for pid in totals.pids()]
    virtual_bytes, resident_bytes = (sum(found) for found in zip(*((p.virtual_bytes, p.resident_bytes) for p in processes)))
    text.one("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes, of all processes.", virtual_bytes)
    text.one("process_resident_memory_bytes", "gauge", "Resident memory size in bytes, of all processes.", resident_bytes)
    text.one("process_start_time_seconds", "gauge", "Start time of the server since unix epoch in seconds.", started_at)
    help = "Total user and system CPU time spent in seconds, by all processes."
    text.one("process_cpu_seconds_total", "counter", help, totals.cpu_seconds())
    text.one("process_open_fds", "gauge", "Number of open file descriptors, of all processes.", sum(p.open_fds for p in processes))
    fds_max = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    text.one("process_max_fds", "gauge", "Maximum number of open file descriptors of one process.", fds_max)
    major, minor, patchlevel = platform.python_version_tuple()
    python = {"implementation": platform.python_implementation(), "major": major, "minor": minor, "patchlevel": patchlevel}
    python["version"] = platform.python_version()
    text.family("python_info", "gauge", "Python platform information", [(python, 1)])
