"""Whether a query kept up, on streams whose growth, costs and clocks are known."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from small_run import client as small_client
from small_run import record, run_data

from labtool.analysis import streaming
from labtool.analysis.analyse import analyse
from labtool.analysis.data import Client, ClockReading, RunData, Series, Stream
from labtool.analysis.resources import Usage

START = datetime(2026, 11, 21, 12, tzinfo=UTC)


def stream(rate=1000.0, done=1000.0, n=60, fixed=0.2, each=2e-4, trigger=1.0, seed=3, late=0.0):
    """A query that is sent `rate` records/s and works off `done` of them, a batch a second."""
    chance = np.random.default_rng(seed)
    rows = np.round(done * (1 + 0.2 * chance.uniform(-1, 1, n)))
    start = np.arange(n, dtype=float)
    took = fixed + each * rows + chance.normal(0, 0.005, n)
    asked = np.arange(0, n + 1, 0.5)
    return Stream(
        start=start,
        duration=took,
        phases={name: took * (0.7 if name == "add_batch" else 0.06) for name in streaming.PHASES},
        rows=rows,
        input_rate=np.full(n, rate),
        processed_rate=rows / took,
        end_offset=done * (start + 0.5),
        late_rows=np.full(n, late),
        trigger_s=trigger,
        stored=Series(asked, rate * asked),
        covered=Series(asked, done * asked),
        append_host="kafka-0",
    )


def data(found=None, **more):
    return RunData(
        record=record(workload="kafka-spark-streaming"),
        origin=START,
        length_s=60.0,
        hosts=("load-0", "kafka-0"),
        stream=found,
        **more,
    )


def said(run, offered=1000.0, usage=()):
    return {finding.id: finding for finding in streaming.findings(run, offered, list(usage))}


def test_a_query_that_keeps_up():
    found = said(data(stream()))["stream.backlog"]
    assert found.severity == "ok" and "kept up" in found.sentence
    assert found.evidence["growth_low_per_s"] <= 0 <= found.evidence["growth_high_per_s"]


def test_a_query_that_falls_behind_by_a_tenth():
    found = said(data(stream(done=900.0)))["stream.backlog"]
    assert found.severity == "problem" and "fell behind" in found.sentence
    assert found.evidence["growth_per_s"] == pytest.approx(100, rel=0.05)


def test_half_a_percent_less_is_keeping_up():
    assert said(data(stream(done=995.0)))["stream.backlog"].severity != "problem"


def test_batches_that_are_longer_than_the_trigger():
    found = said(data(stream(fixed=1.0)))["stream.backlog"]
    assert found.severity == "problem" and "did not keep its trigger" in found.sentence
    assert said(data(stream(fixed=1.0, trigger=0.0)))["stream.backlog"].severity == "ok", "without one there is none"


def test_few_batches_say_nothing():
    found = said(data(stream(n=4)))["stream.backlog"]
    assert found.severity == "refused" and "Too few batches" in found.sentence
    empty = stream(done=0.0)
    assert said(data(empty))["stream.backlog"].severity == "refused"
    assert streaming.findings(data(), None, []) == []


def test_what_a_batch_costs_and_what_a_trigger_can_carry():
    taken = streaming.cost(stream(n=200), 0, 300)
    assert taken.fixed_s == pytest.approx(0.2, abs=0.01) and taken.record_s == pytest.approx(2e-4, rel=0.05)
    assert taken.most(1.0) == pytest.approx(4000, rel=0.05), "(1 - 0.2) / 0.0002"
    assert taken.most(0.0) == pytest.approx(5000, rel=0.05)
    assert "µs for each record" in said(data(stream()))["stream.limit"].sentence
    assert streaming.cost(stream(each=0.0), 0, 300).most(1.0) is None, "what costs nothing more has no limit here"


def test_the_phase_and_the_resource_that_set_the_pace():
    busy = Usage("spark_worker-0", "cpu", 0.81, 0.9, 0.95, (0.0, 60.0), 0.2, 60)
    found = said(data(stream()), usage=[busy])["stream.phases"]
    assert "70 % was addBatch (the executors' work)" in found.sentence and "CPU of spark_worker-0" in found.sentence


def client():
    none = np.full(1, np.nan)
    return Client("load-0/client-1", "producer", np.ones(1), np.ones(1), *[none] * 9)


def test_the_clocks_of_both_ends_are_named_with_their_bound():
    clocks = tuple(
        ClockReading(0.0, host, "before", 0.0, bound, 9) for host, bound in (("load-0", 1e-3), ("kafka-0", 2e-3))
    )
    found = said(data(stream(), clients=(client(),), clocks=clocks))["stream.clock"]
    assert found.evidence["bound_s"] == pytest.approx(0.004), "both bounds, and the millisecond of the append"
    assert "the clock of load-0" in found.sentence and "the clock of kafka-0: within ± 4 ms" in found.sentence
    unknown = said(data(stream(), clients=(client(),)))["stream.clock"]
    assert unknown.severity == "warning" and "not compared" in unknown.sentence


def test_records_that_came_too_late_are_told():
    found = said(data(stream(late=2.0)))["stream.late"]
    assert found.severity == "problem" and "dropped 120 records" in found.sentence


def test_the_verdict_is_the_querys_not_that_of_the_uneven_rate_of_its_results():
    def judged(done):
        run = replace(run_data(clients=(small_client(1000, offered=1000.0, seconds=60, width=1.0),)), length_s=60.0)
        return analyse(replace(run, stream=stream(done=done), record=record(workload="kafka-spark-streaming")))

    kept, fell = judged(1000.0), judged(800.0)
    assert (kept.verdict.severity, kept.verdict.label) == ("ok", "Kept up")
    assert fell.verdict.label == "Fell behind" and "backlog grew by" in fell.verdict.sentence
    assert "load.dips" not in {finding.id for finding in fell.findings}
