from __future__ import annotations

from dataclasses import replace

import pytest
from small_run import record, run_data
from small_spark import application, job, stage, task

from labtool.analysis.analyse import analyse
from labtool.analysis.application import Executor


def run(*apps, **changes):
    made = record(workload="spark-job", stack="spark-cluster")
    return run_data(record=made, clients=(), summaries=(), spark=apps, **changes)


def said(*apps, **changes):
    found = analyse(run(*apps, **changes))
    return {finding.id: finding for finding in found.findings}, found


def waves(**more):
    return application([task(0, float(i), 1.0, cpu=1.0, **more) for i in range(6)])


def test_a_job_that_ended_well():
    found, analysis = said(waves())
    assert found["spark.jobs"].sentence == "The job ended well: 1 stage with 6 tasks in 6 s."
    assert found["spark.rescheduled"].severity == "ok"
    assert found["spark.stragglers"].severity == "ok"
    assert analysis.verdict.label == "Job done"
    assert analysis.verdict.sentence.startswith("The Spark application word count took 6 s. The busiest resource was")
    assert [one.id for one in analysis.headlines] == ["took", "tasks", "shuffle", "gain", "busiest"]


def test_what_it_waited_for_is_told_with_its_bound():
    found, analysis = said(application([task(0, float(i), 1.0, cpu=0.5, fetch_wait=0.5) for i in range(6)]))
    finding = found["spark.blocked"]
    assert "50 % with an infinitely fast network" in finding.sentence
    assert finding.evidence["network_least_s"] == pytest.approx(3.0)
    assert "with an infinitely fast network it would have taken 3 s." in analysis.verdict.sentence


def test_a_job_that_failed_is_the_verdict():
    failed = replace(job(0, 0.0, 6.0), status="failed", reason="Job aborted due to stage failure: no word is bad")
    app = replace(waves(), jobs=(failed,))
    found, analysis = said(app)
    assert found["spark.jobs"].severity == "problem"
    assert (analysis.verdict.severity, analysis.verdict.label) == ("problem", "Job failed")
    assert "no word is bad" in analysis.verdict.sentence


def test_a_log_that_ends_early_is_told():
    found, analysis = said(replace(waves(), end=None, broken=1))
    assert found["spark.log"].sentence.startswith(
        "The event log of word count ends before the application did, and 1 line"
    )
    assert analysis.verdict.label == "Not ended"


def test_an_executor_that_was_lost():
    gone = (Executor("0", "host-0", 1, -1.0, 2.5, "worker lost"), Executor("1", "host-1", 1, 0.0, 99.0, "done"))
    found, _ = said(replace(waves(), executors=gone))
    assert found["spark.executors"].sentence.startswith("Executor 0 on host-0 was lost at 2 s (worker lost):")


def test_failed_tasks_are_counted_with_the_first_reason():
    app = application([task(0, float(i), 1.0, ok=i != 3) for i in range(6)])
    assert said(app)[0]["spark.failed_tasks"].sentence == "1 task failed, the first with ExceptionFailure: no."


def test_rescheduling_that_is_off_carries_no_claim():
    # The tasks ran one after another though there were six slots: why, no list of tasks can tell.
    app = replace(waves(), executors=(Executor("0", "host-0", 6, -1.0, None, ""),))
    found, analysis = said(app)
    assert found["spark.rescheduled"].severity == "refused"
    assert "spark.blocked" not in found and "spark.twice" not in found
    assert next(one for one in analysis.headlines if one.id == "gain").value is None


def test_memory_that_is_short():
    found, _ = said(waves(gc=0.2, disk_spilled_bytes=1e6))
    assert found["spark.gc"].sentence.startswith("Garbage collection took 20 % of the tasks' time")
    assert found["spark.spill"].sentence.startswith("6 MB were spilled to disk in 6 tasks of stage 0")


def test_of_several_applications_each_sentence_names_its_own():
    other = replace(waves(), id="app-2", name="sort")
    found, _ = said(waves(), other)
    assert found["spark.jobs.app-2"].sentence.startswith("sort (app-2): The job ended")


def test_a_stage_that_was_tried_again_keeps_its_name():
    again = replace(stage(0, 3.0, 6.0), attempt=1)
    rows = [task(0, 0.0, 1.0, ok=False), task(1, 3.0, 3.0)]
    app = application(rows, (replace(stage(0, 0.0, 1.0), status="failed"), again), (job(0, 0.0, 6.0),))
    assert [one.label for one in app.stages] == ["0", "0.1"]
    assert said(app)[0]["spark.rescheduled"].evidence["rescheduled_s"] == pytest.approx(6.0)


def test_nothing_of_a_run_without_spark():
    found = analyse(run_data())
    assert found.explained == () and not [one for one in found.findings if one.id.startswith("spark.")]
