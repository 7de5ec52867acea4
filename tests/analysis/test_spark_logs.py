"""What is worked out of event logs of real Sparks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from labtool.analysis.blocked import blocked, durations_without
from labtool.analysis.explained import explain
from labtool.analysis.load import load
from labtool.analysis.reschedule import Rescheduler
from labtool.analysis.stragglers import stragglers
from labtool.dataset import spark, tables
from labtool.dataset.run import RunDirectory, RunRecord

LOGS = Path(__file__).parent.parent / "dataset" / "data" / "spark"


def run_of(folder, base):
    made = spark.rows(folder, driver="spark_master-0", names={"localhost": "spark_worker-0"})
    begin = made["spark_applications"]["start"][0].as_py()
    end = max(time for time in made["spark_tasks"]["finished"].to_pylist() if time)
    run = RunDirectory.create(base, "lab", "spark-job", begin)
    record = RunRecord(
        name="spark-job",
        lab="lab",
        cloud="local",
        region="us-east-1",
        started=begin,
        window_start=begin,
        window_end=end,
        workload="spark-job",
    )
    run.write(record)
    for name, table in made.items():
        tables.write(run.tables, name, table)
    return run


@pytest.fixture(scope="module", params=["rolled-4.0", "plain-4.0", "rolled-3.5", "cut-4.0"])
def data(request, tmp_path_factory):
    return load(run_of(LOGS / request.param, tmp_path_factory.mktemp("runs")))


@pytest.fixture
def application(data):
    return data.spark[0]


def test_rescheduling_with_unchanged_times_gives_the_measured_times_back(application):
    found = blocked(application)
    assert abs(found.error) < 0.02 and found.stage_error < 0.02


def test_no_slot_runs_two_tasks_at_once(application):
    plan = Rescheduler(application)
    made = plan.run(application.tasks.duration)
    done = np.isfinite(made.finish)
    free = np.maximum(made.finish + plan.gaps[application.tasks.stage], made.start)[done].tolist()
    edges = sorted([(t, -1) for t in free] + [(t, 1) for t in made.start[done].tolist()])
    assert np.cumsum([step for _, step in edges]).max() <= len(plan.slots) == 4
    for i, stage in enumerate(application.stages):
        for parent in stage.parents:
            for j, other in enumerate(application.stages):
                if other.number == parent and not np.isnan(made.stage_start[i]):
                    assert made.stage_end[j] <= made.stage_start[i] + 1e-6


def test_taking_time_away_makes_nothing_longer(application):
    whole = application.tasks.duration
    for told, most in durations_without(application).values():
        known = np.isfinite(whole)
        assert (told[known] <= whole[known] + 1e-9).all() and (most[known] <= told[known] + 1e-9).all()
        assert (most[known] >= 0).all()
    for one in blocked(application).what_ifs:
        assert one.most_s <= one.told_s <= application.length + 1e-9


def test_every_straggler_has_a_cause_or_is_unexplained(application):
    for one in stragglers(application):
        assert one.times > 1.5 and one.excess_s > 0.1
        assert one.share is None or 0.5 <= one.share <= 1
        assert one.evidence or one.cause == "unexplained"


def test_python_and_unknown_processors_leave_the_disk_unblamed(data):
    (one,) = explain(data)
    told = next(what for what in one.blocked.what_ifs if what.what == "disk").told_s
    written = float(np.nansum(one.application.tasks.seconds["shuffle_write"]))
    assert one.application.length - told <= written + 0.1, "only what Spark measured is told, without hosts' counters"
