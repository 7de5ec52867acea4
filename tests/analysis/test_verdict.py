from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_run import START, client, flat, record, run_data, summary

from labtool.analysis.analyse import analyse
from labtool.dataset.run import FROM_THEN_ON, Missing, StageRecord


def said(**changes):
    return analyse(run_data(**changes))


def test_kept_up():
    found = said()
    assert found.verdict.severity == "ok"
    assert found.verdict.sentence == (
        "The brokers kept up with 10,000 records/s; the busiest resource was the CPU of kafka-1 at 70 %."
    )
    assert [h.id for h in found.headlines] == ["offered", "achieved", "p50", "p99", "errors", "busiest"]


def test_a_host_that_went_away_is_in_the_first_sentence():
    gone = Missing(what=FROM_THEN_ON, why="it went away: SSH failed", host="kafka-2")
    found = said(record=record(missing=[gone]))
    assert (found.verdict.severity, found.verdict.label) == ("warning", "Lost a host")
    assert found.verdict.sentence.endswith("at 70 %. The run is not whole: kafka-2 went away in it.")
    watched = said(record=record(missing=[gone], workload=None), clients=(), summaries=()).verdict
    assert watched.severity == "warning" and watched.sentence.endswith("kafka-2 went away in it.")


def test_failed_operations_take_the_ok_away():
    found = said(summaries=(summary(errors=12.0),))
    assert found.verdict.severity == "warning" and "12 operations failed" in found.verdict.sentence


def test_fell_short_with_saturated_brokers():
    signals = {**run_data().signals, "kafka-1": {"cpu": flat(0.98)}}
    found = said(clients=(client(7000.0),), signals=signals)
    assert (found.verdict.severity, found.verdict.label) == ("problem", "Fell short")
    assert found.verdict.sentence.startswith("The brokers fell short: 7,000 records/s of 10,000 records/s (70 %)")


def test_fell_short_and_nothing_was_saturated():
    found = said(clients=(client(7000.0),))
    assert "nothing that was measured was saturated" in found.verdict.sentence


def test_a_saturated_generator_refuses_the_claim():
    signals = {**run_data().signals, "load-0": {"cpu": flat(0.99)}}
    found = said(clients=(client(7000.0),), signals=signals)
    assert found.verdict.severity == "refused"
    assert "says nothing about what the brokers can carry" in found.verdict.sentence


def test_too_close_to_call():
    found = said(clients=(client(9850 + 1500 * np.sin(np.arange(60) / 9)),))
    assert (found.verdict.severity, found.verdict.label) == ("refused", "Too close to call")


def test_too_few_points():
    found = said(clients=(client(10_000.0, seconds=30),), length_s=30.0)
    assert (found.verdict.severity, found.verdict.label) == ("refused", "Too few points")


def test_no_rate_offered():
    found = said(clients=(client(52_000.0, offered=None),), summaries=(summary(offered=None),))
    assert found.verdict.label == "Unthrottled"
    assert found.headlines[0].value is None


def test_no_workload():
    found = said(record=record(workload=None), clients=(), summaries=())
    assert found.verdict.label == "Watched"
    assert 4 <= len(found.headlines) <= 6


def test_a_workload_without_numbers():
    assert said(clients=(), summaries=()).verdict.label == "No load measured"


def test_an_interrupted_run_says_so_in_its_verdict():
    stages = [StageRecord(name="workload", start=START, end=START, outcome="interrupted")]
    found = said(record=record(stages=stages))
    assert found.verdict.severity == "warning"
    assert "its stage “workload” was interrupted" in found.verdict.sentence


def test_nothing_at_all():
    found = analyse(replace(run_data(), signals={}, clients=(), summaries=(), hosts=(), length_s=0.0))
    assert found.verdict.severity == "refused"
    assert all(h.value in (None, 0, 0.0) for h in found.headlines)


def test_the_worst_percentile_is_the_headline_and_its_range_the_bound():
    found = said(summaries=(summary(p99=10.0), summary(name="load-0/producer-2", p99=90.0)))
    p99 = next(h for h in found.headlines if h.id == "p99")
    assert (p99.text, p99.unit, p99.value) == ("90", "ms", 90.0)
    assert "10 to 90 ms" in p99.bound


@pytest.mark.parametrize("field", ["sentence", "bound"])
def test_the_same_data_says_the_same(field):
    first, second = said(), said()
    assert [getattr(f, field) for f in first.findings] == [getattr(f, field) for f in second.findings]


def test_limits_hold_what_a_reader_must_know_first():
    limits = [finding.id for finding in said().limits]
    assert "window.one" in limits and "latency.measured" in limits
    assert "load.rate" not in limits


def test_kept_up_on_average_is_said_as_that():
    rates = np.where(np.arange(60) % 5 == 0, 4000.0, 11_500.0)
    found = said(clients=(client(rates),))
    assert (found.verdict.severity, found.verdict.label) == ("warning", "Kept up on average")
    assert "for 60 s of 5 min the rate was below 90 % of it" in found.verdict.sentence


@pytest.mark.parametrize(("lines", "label"), [(2, "Kept up"), (3, "Kept up on average")])
def test_a_standstill_that_was_made_up_for_is_said(lines, label):
    rates = np.full(60, 10_000.0)
    rates[10 : 10 + lines], rates[10 + lines : 10 + 2 * lines] = 0.0, 20_000.0
    assert said(clients=(client(rates),)).verdict.label == label


def test_a_full_machine_is_named_instead_of_a_hosts_own_resource():
    full = record(cloud="local", machine={"cpu_full": "0.990", "cpu_busy": "0.999"})
    assert said(record=full).verdict.sentence == (
        "The brokers kept up with 10,000 records/s; the machine under the hosts was itself full for 99 % of the window."
    )


def test_clients_that_failed_leave_nothing_to_say_of_the_brokers():
    dead = summary(name="load-0/producer-2", rate=None, operations=0.0, failure="killed by signal 9 (SIGKILL)")
    found = said(summaries=(summary(), dead))
    assert (found.verdict.severity, found.verdict.label) == ("refused", "Clients failed")
    assert "1 of 2 producers failed: this says nothing about what the brokers can carry" in found.verdict.sentence
    errors = next(headline for headline in found.headlines if headline.id == "errors")
    assert errors.severity == "note" and errors.bound.endswith("that were told of; 1 producer failed")


def test_without_acknowledgements_errors_have_no_number():
    found = said(record=record(workload_options={"acks": "0"}))
    errors = next(headline for headline in found.headlines if headline.id == "errors")
    assert (errors.value, errors.bound) == (None, "acks=0: no broker answers")
    assert "latency.acks" in [finding.id for finding in found.limits]
    assert "latency.acks" not in [finding.id for finding in said().findings]


@pytest.mark.parametrize(
    ("outcome", "why"),
    [
        ("interrupted", "the run was interrupted before the producers gave it"),
        ("failed", "the run failed before the producers gave it"),
        ("ok", "the producers gave none"),
    ],
)
def test_percentiles_that_an_interrupted_run_lacks_were_still_measured(outcome, why):
    stages = [StageRecord(name="workload", start=START, end=START, outcome=outcome)]
    nothing = summary(p50=None, p95=None, p99=None, p999=None)
    for measured, said_of in ((client(10_000.0, latency_avg=np.full(60, 3.0)), why), (client(10_000.0), None)):
        found = said(record=record(stages=stages), clients=(measured,), summaries=(nothing,))
        p50 = next(headline for headline in found.headlines if headline.id == "p50")
        assert p50.bound == (said_of or "not measured by this workload")


def test_hosts_that_did_not_run_count_as_not_measured():
    watched = {"clients": (), "summaries": ()}
    whole = said(**watched, record=record(workload=None)).headlines[0]
    assert (whole.text, whole.unit, whole.bound, whole.severity) == ("3", "of 3", "all left counters", "ok")
    without = said(**watched, record=record(workload=None, not_running={"kafka-2": "stopped"})).headlines[0]
    assert (without.text, without.unit, without.severity) == ("3", "of 4", "problem")
    assert without.bound == "not running: kafka-2"
