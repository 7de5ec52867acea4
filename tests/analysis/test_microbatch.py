"""Which stage and which resource set a streaming query's rate, on batches whose stages are known."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from small_batches import N, query
from small_run import flat, record
from small_spark import application, task

from labtool.analysis import explained, microbatch
from labtool.analysis.analyse import analyse
from labtool.analysis.data import RunData, Series, Stream
from labtool.analysis.streaming import PHASES


def run(query, cpu=0.5, rows=None, every=1.0, n=N, **machine):
    took = np.array([job.completed - job.submitted + 0.1 for job in query.jobs])
    rows = np.full(n, 1000.0) if rows is None else rows
    start = np.arange(n) * every
    empty = Series(np.empty(0), np.empty(0))
    stream = Stream(
        start=start,
        duration=took,
        phases={name: took / len(PHASES) for name in PHASES},
        rows=rows,
        input_rate=rows,
        processed_rate=rows,
        end_offset=np.cumsum(rows),
        late_rows=np.zeros(n),
        trigger_s=every,
        stored=empty,
        covered=empty,
    )
    seconds = int(n * every) + 1
    return RunData(
        record=record(workload="kafka-spark-streaming", **machine),
        origin=datetime(2026, 11, 21, tzinfo=UTC),
        length_s=float(seconds),
        hosts=("host-0", "kafka-0"),
        signals={"host-0": {"cpu": flat(cpu, seconds)}, "kafka-0": {"cpu": flat(0.1, seconds)}},
        stream=stream,
        spark=(query,),
    )


def said(data):
    (found,) = microbatch.findings(microbatch.batched(data))
    return found


def test_stages_of_all_batches_are_two_however_spark_lists_their_rdds():
    found = microbatch.batched(run(query()))
    assert [(one.name, one.does, one.runs) for one in found.stages] == [
        ("stage 1 of 2", "reads the source", N),
        ("stage 2 of 2", "keeps the state and writes the results", N),
    ]
    assert [one.seconds for one in found.stages] == pytest.approx([0.3, 0.3])
    assert (found.batches, found.seconds, found.driver_s) == (N, pytest.approx(0.7), pytest.approx(0.1))


def test_the_stage_that_takes_the_batch_is_named_with_what_its_tasks_did():
    found = said(run(query(first=0.0, second=0.6)))
    assert "Stage 2 of 2 of each batch (keeps the state and writes the results) takes 75 % of it" in found.sentence
    assert "75 % of its tasks' time went to waiting, not measured" in found.sentence
    assert found.evidence["stage_2_share"] == pytest.approx(0.75)
    assert found.evidence["computing_share"] == pytest.approx(0.25)


def test_the_resource_that_is_full_is_the_limit():
    full = said(run(query(), cpu=0.95))
    assert "The CPU of host-0 is the limit: it was 95 % busy" in full.sentence and full.host == "host-0"
    spare = said(run(query(), cpu=0.4))
    assert "No resource was full while that stage ran (the busiest: the CPU of host-0, 40 %)" in spare.sentence
    blind = said(replace(run(query()), signals={}))
    assert "No host left counters" in blind.sentence


def test_on_a_full_machine_no_host_is_blamed():
    found = said(run(query(), cpu=0.4, cloud="local", machine={"cpu_full": 0.6}))
    assert "processors of the machine that carries all hosts were full" in found.sentence and "host-0" not in (
        found.sentence
    )


def test_the_stage_that_a_record_more_makes_longer():
    rows = np.linspace(500, 2000, N)
    found = microbatch.batched(run(query(rows=rows), rows=rows))
    assert found.stages[0].record_s == pytest.approx(1e-4)
    assert (found.stages[1].record_s or 0.0) < 1e-9
    assert "a record more costs most in stage 1 of 2, 100 µs" in said(run(query(rows=rows), rows=rows)).sentence


def test_a_driver_that_takes_most_of_a_batch_is_named_first():
    slow = run(query(first=0.0, second=0.1))
    slow = replace(slow, stream=replace(slow.stream, duration=np.full(N, 0.9)))
    assert said(slow).sentence.startswith("Most of each batch, 78 % of 0.9 s, is none of its stages' but the driver's")


def test_what_is_busy_between_the_stages_is_not_theirs():
    t = np.arange(0.25, 40, 0.25)
    busy = Series(t, np.where((t > 10) & (t <= 20), 1.0, 0.0))
    starts, ends = np.array([10.0, 12.0, 30.0]), np.array([11.0, 13.0, 32.0])
    assert microbatch.mean_during(busy, starts, ends) == pytest.approx(0.5)
    assert microbatch.mean_during(busy, starts[:1], ends[:1]) is None, "a second of counters says nothing"


def test_batches_without_records_or_of_the_warm_up_do_not_count():
    rows = np.full(N, 1000.0)
    rows[:10] = 0
    found = microbatch.batched(run(query(), rows=rows))
    assert found.batches == N - 10 and {one.runs for one in found.stages} == {N - 10}


def test_without_spark_s_progress_the_jobs_say_what_a_batch_is():
    data = replace(run(query()), stream=None)
    found = microbatch.batched(data)
    assert found.batches == N and found.seconds == pytest.approx(0.6)
    assert analyse(data).verdict.sentence.startswith("The streaming query streaming ran 30 batches of 0.6 s each")
    last = replace(data.spark[0].jobs[-1], status="failed", reason="no room.")
    failed = replace(data.spark[0], jobs=(*data.spark[0].jobs[:-1], last))
    assert "failed in batch 29: no room." in analyse(replace(data, spark=(failed,))).verdict.sentence


def test_a_query_is_no_job_that_took_long():
    data = run(query())
    assert data.spark[0].streaming and explained.explain(data) == ()
    ids = {finding.id for finding in analyse(data).findings}
    assert "stream.stages" in ids and not any(name.startswith("spark.") for name in ids)
    batch = application([task(0, 0.0, 1.0)])
    assert not batch.streaming and microbatch.batched(replace(data, spark=(batch,))) is None
    assert len(explained.explain(replace(data, spark=(batch,)))) == 1


def test_thousands_of_batches_are_quick():
    n = 3000
    found = microbatch.batched(run(query(n=n), n=n))
    assert found.batches == n and [one.runs for one in found.stages] == [n, n]
