"""OpenMessaging Benchmark's result of known tables: its fields, units and periods, and what is left empty."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from labtool.dataset import openmessaging
from labtool.dataset.requests import decoded, encoded
from labtool.dataset.run import RunRecord

START = datetime(2026, 11, 21, 12, tzinfo=UTC)
OPTIONS = {
    "client": "worker", "topics": 2, "partitions": 3, "record_size": 200, "producers": 4, "consumers": 1,
    "subscriptions": 2, "load_hosts": 3,
}  # fmt: skip


def record(**changes):
    known = {"name": "n", "lab": "l", "cloud": "local", "region": "r", "started": START, "warmup_s": 5.0}
    return RunRecord(**known | {"workload": "kafka-throughput", "workload_options": OPTIONS} | changes)


def interval(second, role, rate, client="load-0/one", **more):
    at = START + timedelta(seconds=second + 1)
    row = {"time": at, "duration_s": 1.0, "client": client, "role": role, "rate": rate, "errors": 0}
    return row | {"latency_avg_ms": None, "latency_max_ms": None} | more


def period(end_s, measure, counts, client="load-0/one"):
    return {
        "time": START + timedelta(seconds=end_s),
        "duration_s": 10.0,
        "client": client,
        "measure": measure,
        "operations": sum(counts.values()),
        "sum_ms": sum(us * n for us, n in counts.items()) / 1e3,
        "highest_ms": max(counts) / 1e3,
        "histogram": encoded(sorted(counts.items())),
    }


def summary(**changes):
    row = {"role": "producer", "start": START + timedelta(seconds=5), "latency_avg_ms": 4.5, "latency_max_ms": 90.0}
    return row | {"p50_ms": 3.0, "p95_ms": 7.0, "p99_ms": 20.0, "p999_ms": 50.0} | changes


def result(intervals, latencies=(), summaries=(), **changes):
    return openmessaging.result(record(**changes), "a workload", "Kafka", intervals, summaries, latencies)


def both(seconds, sent, received):
    return [
        row for at in range(seconds) for row in (interval(at, "producer", sent), interval(at, "consumer", received))
    ]


def test_what_it_is_of():
    found = result(both(25, 100, 200))
    assert {name: found[name] for name in list(found)[:7]} == {
        "workload": "a workload",
        "driver": "Kafka",
        "messageSize": 200,
        "topics": 2,
        "partitions": 3,
        "producersPerTopic": 4,
        "consumersPerTopic": 1,
    }


def test_of_kafkas_tools_each_load_host_has_its_producers():
    assert result(both(25, 1, 1), workload_options=OPTIONS | {"client": "perf-test"})["producersPerTopic"] == 12


def test_rates_are_of_ten_seconds_after_the_warm_up():
    rows = [interval(at, "producer", 1000 if at < 5 else 100 if at < 15 else 50, errors=at == 16) for at in range(25)]
    rows += [interval(at, "producer", 10, client="load-1/one") for at in range(25)]
    found = result([*rows, *(interval(at, "consumer", 7) for at in range(25))])
    assert found["publishRate"] == pytest.approx([110, 60])
    assert found["publishErrorRate"] == pytest.approx([0, 0.1])
    assert found["consumeRate"] == pytest.approx([7, 7])


def test_a_rest_of_less_than_half_a_period_is_left_out():
    assert len(result(both(29, 1, 1))["publishRate"]) == 2
    assert result(both(30, 1, 1))["publishRate"] == pytest.approx([1, 1, 1])
    assert result(both(8, 1, 1))["publishRate"] == pytest.approx([1]), "a short one is its only period"
    assert result([]) == {}


def test_the_backlog_is_what_each_subscription_has_not_received():
    latencies = [period(15, "service", {1000: 1})]
    found = result(both(25, 100, 150), latencies)
    assert found["backlog"] == [2 * 1500 - 150 * 15, 2 * 2500 - 150 * 25]
    assert result(both(25, 100, 300), latencies)["backlog"] == [0, 0]
    alone = result([interval(at, "producer", 1) for at in range(25)], latencies)
    assert alone["backlog"] == [], "nobody reads"


def test_latencies_are_merged_and_in_their_units():
    first, second = {1000: 50, 2000: 45, 5000: 5}, {1000: 90, 100_000: 10}
    found = result(
        both(25, 100, 200),
        [
            period(15, "service", first),
            period(25, "service", first),
            period(25, "service", second, client="load-1/one"),
            period(15, "delay", {30: 100}),
            period(25, "delay", {70: 100}),
            period(25, "end to end", {4000: 100}),
            period(25, "latency", {9_000_000: 100}),
        ],
    )
    assert found["publishLatency50pct"] == pytest.approx([1.0, 1.0], rel=1e-3)
    assert found["publishLatency99pct"] == pytest.approx([5.0, 100.0], rel=1e-3)
    assert found["publishLatencyMax"] == [5.0, 100.0]
    assert found["publishLatencyAvg"] == pytest.approx([1.65, (165 + 1090) / 200])
    assert found["publishDelayLatency99pct"] == [30, 70], "whole µs"
    assert found["endToEndLatency95pct"] == pytest.approx([0, 4.0], rel=1e-3), "OMB's empty histogram has zeros"
    assert found["aggregatedPublishLatency50pct"] == pytest.approx(1.0, rel=1e-3)
    assert found["aggregatedPublishLatency95pct"] == pytest.approx(5.0, rel=1e-3)
    assert found["aggregatedPublishLatencyMax"] == 100.0
    assert found["aggregatedPublishDelayLatencyMax"] == 70
    levels = [float(level) for level in found["aggregatedPublishLatencyQuantiles"]]
    assert levels == sorted(levels) and levels[-1] == 100.0
    assert list(found["aggregatedPublishLatencyQuantiles"].values())[-1] == pytest.approx(100.0, rel=1e-3)
    assert not any(value == 9000 for value in found.values()), "from due to acknowledged is not OMB's"


def test_without_delays_there_are_none():
    found = result(both(25, 100, 200), [period(15, "service", {1000: 1}), period(25, "service", {1000: 1})])
    assert found["publishDelayLatency99pct"] == [] and found["aggregatedPublishDelayLatencyQuantiles"] == {}
    assert "aggregatedPublishDelayLatencyAvg" not in found


def test_of_kafkas_tools_what_they_tell():
    rows = [
        interval(at, "producer", rate, client=client, latency_avg_ms=mean, latency_max_ms=mean * 2)
        for at in range(25)
        for client, rate, mean in (("load-0/producer-1", 100, 1.0), ("load-0/producer-2", 300, 5.0))
    ]
    found = result(rows, summaries=[summary(), summary()])
    assert found["publishLatencyAvg"] == pytest.approx([4.0, 4.0]), "weighted by their records"
    assert found["publishLatencyMax"] == [10.0, 10.0]
    assert found["publishLatency99pct"] == found["endToEndLatencyAvg"] == found["backlog"] == []
    assert found["aggregatedPublishLatencyQuantiles"] == {}
    assert "aggregatedPublishLatency99pct" not in found, "percentiles of two producers cannot be merged"


def test_one_producers_percentiles_are_those_of_all():
    rows = [interval(at, "producer", 100, latency_avg_ms=1.0, latency_max_ms=2.0) for at in range(25)]
    found = result(rows, summaries=[summary()])
    assert (found["aggregatedPublishLatency50pct"], found["aggregatedPublishLatency999pct"]) == (3.0, 50.0)
    assert "aggregatedPublishLatency75pct" not in found
    warm = result(rows, summaries=[summary(start=START)])
    assert "aggregatedPublishLatency50pct" not in warm, "the warm-up is in it"


def test_a_histogram_is_read_back():
    assert sum(decoded(encoded([(1, 3), (2047, 2), (1_000_000, 1)])).values()) == 6
    assert decoded(encoded([(1, 3), (2047, 2)])) == {1: 3, 2047: 2}


def test_errors_that_nobody_knows_have_no_rate():
    found = result([interval(at, "producer", 100, errors=None) for at in range(25)])
    assert found["publishErrorRate"] == [] and found["publishRate"]
