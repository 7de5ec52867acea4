from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from small_run import client, flat, record, run_data, summary

from labtool.analysis import workload
from labtool.analysis.data import LogMessage
from labtool.analysis.rates import total_rate
from labtool.analysis.workload import dips, load_of


def found(data):
    return {finding.id: finding for finding in workload.findings(data)}


@pytest.mark.slow
@given(
    st.lists(st.floats(0, 1e5), min_size=4, max_size=40),
    st.floats(0, 4.9),
    st.sampled_from([1.0, 5.0, 7.0]),
)
def test_no_operation_is_lost_or_made_by_resampling(rates, offset, width):
    one = client(rates, seconds=len(rates) * 5 + offset, start=offset)
    total = total_rate([one], 0.0, 400.0, width)
    for end, rate in zip(total.t, total.v, strict=True):
        if np.isfinite(rate):
            overlap = np.clip(np.minimum(one.end, end) - np.maximum(one.start, end - width), 0, None)
            assert rate * width == pytest.approx(float((one.rate * overlap).sum()), rel=1e-6, abs=0.06 * one.rate.max())
    inside = (total.t - width >= one.start[0]) & (total.t <= one.end[-1])
    assert np.isfinite(total.v[inside]).all(), "only where it begins and ends may a step be unknown"


def test_clients_are_added_not_averaged():
    total = total_rate([client(1000.0), client(3000.0, name="load-0/producer-2")], 0, 300, 5)
    assert total.v == pytest.approx(np.full(60, 4000.0))


def test_a_hole_in_one_client_makes_the_total_unknown():
    whole = client(1000.0)
    keep = (whole.end <= 100) | (whole.end > 130)
    holed = replace(
        client(1000.0, name="load-0/producer-2"),
        **{
            name: getattr(whole, name)[keep]
            for name in (
                "end",
                "duration",
                "offered",
                "rate",
                "bytes_rate",
                "latency_avg",
                "latency_max",
                "p50",
                "p90",
                "p99",
                "errors",
            )
        },
    )
    total = total_rate([whole, holed], 0, 300, 5)
    unknown = total.t[~np.isfinite(total.v)]
    assert unknown.tolist() == [105.0, 110.0, 115.0, 120.0, 125.0, 130.0]


def test_kept_up():
    load = load_of(run_data(), "producer")
    assert (load.offered, load.achieved, load.intervals) == (10_000.0, pytest.approx(10_000.0), 60)
    assert found(run_data())["load.rate"].severity == "ok"


def test_a_shortfall_is_sized_and_bounded():
    data = run_data(clients=(client(8000 + 100 * np.sin(np.arange(60))),), summaries=())
    finding = found(data)["load.rate"]
    assert finding.severity == "problem"
    assert "8,00" in finding.sentence and "of the 10,000 records/s offered" in finding.sentence
    assert "±" in finding.bound and "95 %" in finding.bound


def test_a_shortfall_within_the_interval_is_no_shortfall():
    rates = 9850 + 1500 * np.sin(np.arange(60) / 9)
    assert found(run_data(clients=(client(rates),)))["load.rate"].severity == "warning"


def test_no_rate_offered_is_no_claim():
    data = run_data(clients=(client(52_000.0, offered=None),), summaries=(summary(offered=None),))
    assert load_of(data, "producer").ratio is None
    assert "no rate was offered" in found(data)["load.rate"].sentence


def test_warmup_is_left_out():
    rates = np.where(np.arange(60) < 12, 1000.0, 10_000.0)
    data = run_data(record=record(warmup_s=60.0), clients=(client(rates),))
    load = load_of(data, "producer")
    assert load.achieved == pytest.approx(10_000.0)
    assert load.span == (60.0, 300.0)


def test_a_dip_is_found_though_the_mean_kept_up():
    rates = np.full(60, 10_100.0)
    rates[30:33] = 6000.0
    load = load_of(run_data(clients=(client(rates),)), "producer")
    assert dips(load) == [(150.0, 165.0, 6000.0)]
    assert "150–165 s" in found(run_data(clients=(client(rates),)))["load.dips"].sentence


def test_clients_that_end_seconds_apart_are_no_fall_but_one_that_dies_is():
    near = (client(5000.0, offered=5000.0), client(5000.0, offered=5000.0, seconds=295, name="load-0/producer-2"))
    assert load_of(run_data(clients=near, summaries=()), "producer").achieved == pytest.approx(10_000.0)
    dead = (client(5000.0, offered=5000.0), client(5000.0, offered=5000.0, seconds=150, name="load-0/producer-2"))
    data = run_data(clients=dead, summaries=())
    load = load_of(data, "producer")
    assert load.achieved == pytest.approx(7500.0)
    assert load.early == ("load-0/producer-2",)
    assert "load-0/producer-2" in found(data)["load.early"].sentence


def test_a_workload_shorter_than_the_window_is_said():
    data = run_data(clients=(client(10_000.0, seconds=120),))
    assert found(data)["load.covered"].evidence == {"covered_s": 120.0, "measured_s": 300.0}


def test_errors_unknown_are_not_zero():
    data = run_data(summaries=(summary(errors=None),))
    assert found(data)["load.errors"].severity == "refused"
    assert found(run_data(summaries=(summary(errors=3.0),)))["load.errors"].severity == "problem"


def test_consumers_that_fall_behind():
    reader = client(9000.0, name="load-0/consumer-1", role="consumer", offered=None)
    finding = found(run_data(clients=(client(10_000.0), reader)))["load.consumers"]
    assert finding.severity == "warning" and "90" in finding.sentence
    # Of half a minute, three per cent are what the tool has read and not told of yet.
    short = {"seconds": 30, "width": 1.0}
    for rate, severity in ((9_700.0, "ok"), (9_000.0, "warning")):
        reader = client(rate, name="load-0/consumer-1", role="consumer", offered=None, **short)
        assert found(run_data(clients=(client(10_000.0, **short), reader)))["load.consumers"].severity == severity


def test_each_subscription_has_all_records_to_read():
    reader = client(10_000.0, name="load-0/consumers", role="consumer", offered=None)
    data = run_data(clients=(client(10_000.0), reader))
    assert found(data)["load.consumers"].severity == "ok"
    twice = replace(data, record=structs.replace(data.record, workload_options={"subscriptions": 2}))
    assert found(twice)["load.consumers"].severity == "warning"
    assert "50.0 % of what was written for 2 subscriptions" in found(twice)["load.consumers"].sentence


def test_a_total_alone_has_no_interval():
    load = load_of(run_data(clients=()), "producer")
    assert (load.achieved, load.interval, load.intervals) == (10_000.0, None, 0)
    assert workload.bound_of(load) == "no interval: the clients gave only a total"


def test_lines_that_come_a_little_late_make_no_hole_and_lose_nothing():
    rng = np.random.default_rng(4)
    one = client(1000.0, seconds=60, width=1.0)
    late = replace(one, end=one.end + rng.uniform(-0.2, 0.2, len(one.end)))
    total = total_rate([late], 0.0, 60.0, 2.0)
    assert np.isfinite(total.v[1:-1]).all()
    assert np.nanmean(total.v) == pytest.approx(1000.0, rel=0.01)


def test_a_tenth_below_is_a_shortfall_however_unsteady():
    rates = 8000 + 6000 * np.sin(np.arange(60) / 9)
    data = run_data(clients=(client(rates),))
    assert load_of(data, "producer").interval.high > 10_000
    assert found(data)["load.rate"].severity == "problem"


def killed(name, **more):
    nothing = dict.fromkeys(("start", "end", "rate", "bytes_rate", "p50", "p95", "p99", "p999", "latency_max"))
    return summary(name, operations=0.0, failure="killed by signal 9 (SIGKILL)", **nothing, **more)


def test_what_was_asked_of_producers_that_were_killed_is_offered():
    data = run_data(summaries=(summary(), killed("load-0/producer-2"), killed("load-0/producer-3", offered=500.0)))
    load = load_of(data, "producer")
    assert (load.offered, load.achieved) == (20_500.0, pytest.approx(10_000.0))
    assert load.died == ("load-0/producer-2", "load-0/producer-3")
    assert found(data)["load.failed.1"].sentence == (
        "2 of 3 producers failed: load-0/producer-2 and load-0/producer-3 were killed by signal 9 (SIGKILL), as the "
        "kernel does when memory is full. Of the offered rate 10,500 records/s were asked of them."
    )
    assert found(data)["load.errors"].severity == "note"
    assert "what became of the last ones of load-0/producer-2" in found(data)["load.errors"].sentence


def test_the_memory_of_the_host_whose_client_was_killed_is_named():
    signals = {**run_data().signals, "load-0": {"cpu": flat(0.3), "memory": flat(0.97)}}
    data = run_data(summaries=(summary(), killed("load-0/producer-2")), signals=signals)
    assert "(SIGKILL); the memory of load-0 was up to 97 % full." in found(data)["load.failed.1"].sentence
    message = LogMessage("load-0", "kernel", "error", "Out of memory: Killed process 7 (java)", 1, 3.0)
    data = replace(data, messages=(message,))
    assert "(SIGKILL); the kernel of load-0 ran out of memory." in found(data)["load.failed.1"].sentence


def test_clients_that_told_of_nothing_are_no_load_but_why_they_ended_is_said():
    failed = replace(killed("load-0/producer-1"), failure="ended with exit code 1")
    data = run_data(clients=(), summaries=(failed,))
    assert workload.driving_role(data) is None
    assert list(found(data)) == ["load.failed.1"]
    assert found(data)["load.failed.1"].sentence.startswith("The producer failed: load-0/producer-1 ended with exit")


def test_without_acknowledgements_no_failure_is_no_claim():
    data = run_data(record=record(workload_options={"acks": "0"}))
    assert load_of(data, "producer").errors is None
    assert found(data)["load.errors"].severity == "refused"
    assert "With acks=0 no broker answers" in found(data)["load.errors"].sentence
    some = replace(data, summaries=(summary(errors=3.0), summary("load-0/producer-2", errors=None)))
    assert found(some)["load.errors"].sentence == "At least 3 of 6 million records failed."
