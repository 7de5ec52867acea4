"""The window that a workload's own output gives a run, on what Kafka's tools really printed."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime

import pytest

from labtool.dataset import parsers
from labtool.dataset.run import RunDirectory, RunRecord
from labtool.experiment import gather
from tests.roles.modules import FIXTURES, ROOT

STARTED = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.fixture
def run(tmp_path):
    directory = RunDirectory(tmp_path)
    shutil.copytree(FIXTURES / "throughput-4.3.0", directory.raw / "kafka-throughput/load-0")
    record = RunRecord(
        name="t", lab="k", cloud="local", region="us-east-1", started=STARTED, workload="kafka-throughput", warmup_s=5.0
    )
    return directory, record


def producers(directory):
    rows = parsers.workload(ROOT / "playbooks/workloads/kafka-throughput.py", directory.raw, {})
    return [row for row in rows["workload_intervals"] if row["role"] == "producer"]


def test_the_window_is_the_loads_with_its_warm_up(run):
    directory, record = run
    gather.narrow(directory, record, {})
    first = min(row["time"].timestamp() - row["duration_s"] for row in producers(directory))
    last = max(row["time"].timestamp() for row in producers(directory))
    assert record.window_start.timestamp() == pytest.approx(first, abs=1e-3)
    assert last <= record.window_end.timestamp() < last + 2, "consumers that wait for more are not the load"


def test_the_window_is_in_the_controllers_clock(run):
    directory, record = run
    gather.narrow(directory, record, {})
    before = record.window_start
    gather.narrow(directory, record, {"load-0": 2.5})
    assert (before - record.window_start).total_seconds() == pytest.approx(2.5)


def test_a_workload_that_printed_nothing_leaves_the_window(run):
    directory, record = run
    shutil.rmtree(directory.raw)
    gather.narrow(directory, record, {})
    assert record.window_start is None
