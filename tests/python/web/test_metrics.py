# SPDX-License-Identifier: MIT
"""cxxloop.web's metrics: blocks in shared memory, their sums, and the text that Prometheus scrapes."""

import asyncio
import os
import time

import pytest

pytest.importorskip("cxxloop._web")

from asgi_peer import GET, Served

from cxxloop import _web
from cxxloop.web import metrics_text as text_of
from cxxloop.web import tasks
from cxxloop.web.admin_samples import make_sample
from cxxloop.web.metrics import Histogram, LoopMonitor, MetricsBlock, Totals, read_process
from cxxloop.web.network import cannot_be_rebound, is_loopback

pytestmark = pytest.mark.cxxloop_only("the server")

BOUNDS_NS = _web.BUCKET_BOUNDS_NS


class Source:
    """A process that counts what a test says."""

    def __init__(self, **counters):
        self.pid = os.getpid()
        self.metrics = MetricsBlock()
        self.count(**counters)

    def count(self, **counters):
        for name, value in counters.items():
            self.metrics._words[_web.COUNTER_NAMES.index(name)] = value


@pytest.fixture
def sources():
    made = []

    def sources(*counters):
        made.extend(Source(**each) for each in counters)
        totals = Totals()
        for source in made:
            totals.add(source)
        return totals, made

    yield sources
    for source in made:
        source.metrics.close()


def histogram(*times_ns):
    buckets = [0] * (len(BOUNDS_NS) + 1)
    for time_ns in times_ns:
        buckets[next((i for i, bound in enumerate(BOUNDS_NS) if time_ns <= bound), len(BOUNDS_NS))] += 1
    return Histogram(sum(times_ns), buckets, BOUNDS_NS)


# --- blocks and sums ------------------------------------------------------------------------------------------------------


def test_words_of_a_block_fill_it():
    assert _web.METRICS_BYTES == 8 * (len(_web.COUNTER_NAMES) + 1 + 2 * (1 + len(BOUNDS_NS) + 1))
    assert _web.COUNTER_NAMES[_web.FIRST_GAUGE :] == ("connections", "exchanges", "websockets")
    assert list(BOUNDS_NS) == sorted(set(BOUNDS_NS))


def test_sum_is_taken_over_all_sources(sources):
    totals, (one, other) = sources({"requests": 3, "connections": 1}, {"requests": 4, "connections": 2})
    one.metrics.set_tasks(5)
    other.metrics.record_lag(0.002)
    numbers = totals.read()
    assert (numbers.counters["requests"], numbers.counters["connections"], numbers.tasks) == (7, 3, 5)
    assert (numbers.loop_lag.total, numbers.loop_lag.sum_ns) == (1, 2_000_000)
    assert numbers.latency.total == 0


def test_what_an_ended_source_has_counted_stays(sources):
    totals, (one, other) = sources({"requests": 3, "connections": 1}, {"requests": 4, "connections": 2})
    one.metrics.set_tasks(5)
    totals.remove(one)
    other.count(requests=6)
    numbers = totals.read()
    assert (numbers.counters["requests"], numbers.counters["connections"], numbers.tasks) == (9, 2, 0)
    assert totals.started == 2
    totals.remove(other)
    assert totals.read().counters["requests"] == 9


def test_sum_of_nothing_is_zero():
    numbers = Totals().read()
    assert set(numbers.counters.values()) == {0}
    assert numbers.latency.percentile_seconds(50) is None


def test_processor_time_never_goes_down(sources):
    totals, (one,) = sources({})
    one.pid = os.getppid()
    before = totals.cpu_seconds()
    totals.remove(one)
    assert totals.cpu_seconds() >= before > 0
    assert read_process(os.getpid(), counts_fds=True).open_fds > 2
    assert read_process(2**22 + 1) == (0, 0, 0.0, 0)


def test_server_counts_in_the_block_it_is_given(loop, serve_app):
    block = MetricsBlock()

    async def app(scope, receive, send):
        time.sleep(0.02)  # the clock of the callback stands still meanwhile
        await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"no"})

    served = serve_app(app, metrics_fd=block.fd)
    totals = Totals()
    source = Source()
    source.metrics.close()
    source.metrics = block
    totals.add(source)
    assert loop.run_until_complete(served.ask()).body == b"no"
    numbers = totals.read()
    assert numbers.counters["responses_4xx"] == numbers.counters["requests"] == 1
    assert numbers.counters["received_bytes"] == len(GET)
    assert numbers.counters["sent_bytes"] > len("no")
    assert numbers.latency.percentile_seconds(50) >= 0.02
    assert served.server.counters()["responses_4xx"] == 1
    served.close()
    block.close()


def test_block_that_is_no_memory_is_refused(loop):
    with open("/dev/null") as null, pytest.raises(OSError):
        Served(loop, lambda *args: None, metrics_fd=null.fileno())


# --- histograms -----------------------------------------------------------------------------------------------------------


def test_percentiles_are_right_to_two_digits():
    many = histogram(*(1000 * i for i in range(1, 1001)))
    for percent in (50, 95, 99, 100):
        assert many.percentile_seconds(percent) == pytest.approx(percent * 1e-5, rel=0.05)
    assert histogram(10**15).percentile_seconds(99) == pytest.approx(1000)  # longer than all buckets


def test_counts_up_to_a_bound_are_exact():
    times = histogram(100_000, 100_001, 250_000, 5_000_000, 5_000_001)
    assert times.counts_up_to([0.0001, 0.00025, 0.005, 0.01]) == [1, 3, 4, 5]
    assert times.minus(histogram(100_001)).counts_up_to([0.0001, 0.00025]) == [1, 2]


def test_bounds_of_the_text_end_buckets():
    assert {round(bound * 1e9) for bound in text_of.BOUNDS_SECONDS} <= set(BOUNDS_NS)


def test_sample_says_what_has_happened_in_between(sources):
    totals, (one,) = sources({"requests": 100, "responses_5xx": 1, "sent_bytes": 10})
    before = totals.read()
    one.count(requests=150, responses_5xx=3, sent_bytes=2010, connections=7, exchanges=2)
    one.metrics.record_lag(0.004)
    sample = make_sample(before, totals.read(), 2.0)
    assert (sample["requests"], sample["errors"], sample["sent"]) == (25, 1, 1000)
    assert (sample["connections"], sample["in_flight"], sample["p99"]) == (7, 2, None)
    assert sample["lag"] == pytest.approx(4, rel=0.05)


# --- the text ---------------------------------------------------------------------------------------------------------------


def test_text_is_what_prometheus_own_parser_reads(sources):
    parser = pytest.importorskip("prometheus_client.parser")
    totals, (one, _) = sources({"requests": 3, "responses_2xx": 2, "limit_head": 1}, {"requests": 4})
    for seconds in (0.00005, 0.003, 0.0025, 100.0):
        one.metrics.record_lag(seconds)
    families = {family.name: family for family in parser.text_string_to_metric_families(text_of.metrics_text(totals, 12.5))}
    values = {(sample.name, *sample.labels.values()): sample.value for family in families.values() for sample in family.samples}
    assert values["cxxloop_http_requests_total",] == 7
    assert values["cxxloop_http_responses_total", "2xx"] == 2
    assert values["cxxloop_limit_hits_total", "limit-head-bytes"] == 1
    assert values["process_start_time_seconds",] == 12.5
    lag = families["cxxloop_loop_lag_seconds"]
    assert lag.type == "histogram"
    buckets = [(sample.labels["le"], sample.value) for sample in lag.samples if sample.name.endswith("_bucket")]
    assert [count for _, count in buckets] == sorted(count for _, count in buckets)
    assert dict(buckets)["0.0025"] == 2 and dict(buckets)["0.005"] == 3
    assert buckets[-1] == ("+Inf", values["cxxloop_loop_lag_seconds_count",] == 4 and 4)
    assert values["cxxloop_loop_lag_seconds_sum",] == pytest.approx(100.00555)
    types = {family.type for family in families.values()}
    assert types == {"counter", "gauge", "histogram"}, "every metric says its type"
    assert all(family.documentation for family in families.values())


def test_processes_have_the_names_of_prometheus_own_client(sources):
    client = pytest.importorskip("prometheus_client")
    registry = client.CollectorRegistry()
    client.ProcessCollector(registry=registry)
    client.PlatformCollector(registry=registry)
    theirs = {line.split()[2:4][0]: line.split()[3] for line in client.generate_latest(registry).decode().splitlines() if "# TYPE" in line}
    ours = text_of.metrics_text(sources()[0], 0.0).splitlines()
    for name, kind in theirs.items():
        assert f"# TYPE {name} {kind}" in ours


def test_labels_and_help_are_escaped():
    text = text_of._Text()
    text.family("a_total", "counter", "one\ntwo \\ three", [({"b": 'x"y\\z\n'}, 1.5)])
    assert text.lines == ["# HELP a_total one\\ntwo \\\\ three", "# TYPE a_total counter", 'a_total{b="x\\"y\\\\z\\n"} 1.5']


def test_limits_are_named_by_their_settings():
    from cxxloop.web import Config
    from cxxloop.web.option import options_of

    assert set(text_of.LIMITS) == {name for name in _web.COUNTER_NAMES if name.startswith("limit_")}
    assert {name.replace("-", "_") for name in text_of.LIMITS.values()} <= set(options_of(Config))


# --- loops and their tasks --------------------------------------------------------------------------------------------------


def test_monitor_measures_what_holds_the_loop_up(loop):
    block = MetricsBlock()
    totals = Totals()
    source = Source()
    source.metrics.close()
    source.metrics = block
    totals.add(source)

    async def main():
        sleeper = asyncio.create_task(asyncio.sleep(60))
        monitor = LoopMonitor(block, lambda: [None])
        await asyncio.sleep(0.01)  # the first probe is due
        time.sleep(0.25)  # holds the loop up: this is what is measured
        while totals.read().loop_lag.total < 2:
            await asyncio.sleep(0.01)
        monitor.stop()
        sleeper.cancel()

    loop.run_until_complete(main())
    numbers = totals.read()
    assert 0.1 <= numbers.loop_lag.percentile_seconds(100) < 0.5
    assert numbers.tasks == 1  # two, and one is left out
    block.close()


def test_tasks_that_wait_at_one_place_are_one_group(loop):
    async def inner():
        await asyncio.Event().wait()

    async def outer():
        await inner()

    async def main():
        waiting = [asyncio.create_task(outer(), name=f"waiter {i}") for i in range(7)]
        hidden = asyncio.create_task(outer())
        await asyncio.sleep(0)
        described = tasks.describe(asyncio.get_running_loop(), [hidden])
        for task in (*waiting, hidden):
            task.cancel()
        return described

    described = loop.run_until_complete(main())
    assert (described["pid"], described["tasks"]) == (os.getpid(), 8)
    group = described["groups"][0]
    assert (group["count"], len(group["names"])) == (7, 5)
    assert group["coroutine"].endswith("outer")
    places = [place.split(" (")[0].rpartition(".")[2] for place in group["stack"]]
    assert places == ["outer", "inner", "wait"]
    assert __file__ in group["stack"][0]


# --- names of hosts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:9000", "localhost", "LOCALHOST:9000", "[::1]:9000", "[::1]", "10.0.0.7:80", "admin.internal:9000"],
)
def test_hosts_that_nobody_can_rebind_are_answered(host):
    assert cannot_be_rebound(host, "admin.internal")


@pytest.mark.parametrize(
    "host", ["", "evil.example", "evil.example:9000", "127.0.0.1.evil.example", "localhost.evil.example", "[::1]evil", "[::1", "1", "[x]:80"]
)
def test_hosts_that_somebody_could_rebind_are_not(host):
    assert not cannot_be_rebound(host, "admin.internal")


def test_loopback_is_what_only_this_machine_reaches():
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost", "Localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "", "localhost.example", "example.org")))
