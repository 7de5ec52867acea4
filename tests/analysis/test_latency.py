from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from small_run import client, record, run_data, summary

from labtool.analysis import latency
from labtool.analysis.latency import percentiles
from labtool.analysis.workload import load_of


def found(data):
    return {finding.id: finding for finding in latency.findings(data, load_of(data, "producer"))}


@given(
    st.lists(st.lists(st.integers(0, 5000), min_size=1, max_size=60), min_size=1, max_size=5),
    st.sampled_from([0.5, 0.95, 0.99, 0.999]),
)
def test_the_percentile_of_all_lies_between_those_of_the_clients(clients, q):
    """The law that the report's bound rests on, for the definition the tools use (an order statistic)."""

    def at(numbers):
        return np.quantile(np.array(numbers), q, method="inverted_cdf")

    each = [at(numbers) for numbers in clients]
    everything = at([value for numbers in clients for value in numbers])
    assert min(each) <= everything <= max(each)


def test_several_clients_are_a_range_never_a_mean():
    data = run_data(summaries=(summary(p99=10.0), summary(name="load-0/producer-2", p99=90.0)))
    p99 = next(p for p in percentiles(data, "producer") if p.name == "p99")
    assert (p99.low, p99.high) == (10.0, 90.0)
    sentence = found(data)["latency.summary"].sentence
    assert "10 to 90 ms" in sentence and "50 ms" not in sentence


def test_what_the_kafka_tool_measures_is_always_stated():
    finding = found(run_data())["latency.measured"]
    assert finding.severity == "note"
    for part in ("actual send", "whole milliseconds", "failed sends"):
        assert part in finding.sentence


def test_behind_its_rate_the_percentiles_are_lower_bounds():
    finding = found(run_data(clients=(client(7000.0),)))["latency.measured"]
    assert finding.severity == "warning" and "lower bounds" in finding.sentence


def test_of_an_unknown_tool_it_is_said_that_it_is_unknown():
    data = run_data(record=record(workload="web-load"))
    assert "not recorded" in found(data)["latency.measured"].sentence


def test_the_warmup_in_a_tools_percentiles_is_said():
    assert "latency.warmup" not in found(run_data())
    assert "latency.warmup" in found(run_data(record=record(warmup_s=30.0)))
    late = run_data(record=record(warmup_s=30.0), summaries=(summary(start=30.0),))
    assert "latency.warmup" not in found(late)


def test_the_slowest_is_placed_in_time_and_warmup_does_not_count():
    slow = np.full(60, 9.0)
    slow[1], slow[40] = 900.0, 412.0
    data = run_data(record=record(warmup_s=30.0), clients=(client(10_000.0, latency_max=slow),))
    finding = found(data)["latency.highest"]
    assert finding.evidence == {"latency_ms": 412.0}
    assert finding.window == (200.0, 205.0)


def test_no_latency_is_a_refusal():
    none = summary(p50=None, p95=None, p99=None, p999=None, latency_avg=None, latency_max=None)
    assert found(run_data(summaries=(none,)))["latency.none"].severity == "refused"
