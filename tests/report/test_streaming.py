"""The figures of a streaming run."""

from __future__ import annotations

import csv
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from labtool.analysis.analyse import analyse
from labtool.analysis.data import RunData, Series, Stream
from labtool.analysis.streaming import PHASES
from labtool.dataset.run import RunDirectory, RunRecord
from labtool.report import figure, stages, style
from labtool.report.figures import batch_stages, streaming
from tests.analysis.small_batches import query

pytestmark = pytest.mark.slow
START = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _coarse(monkeypatch):
    monkeypatch.setattr(figure, "PNG_DPI", 40)
    style.prepare()


def run_data(done):
    """A minute of a batch a second, of 1,000 records/s of which `done` are worked off."""
    n = 60
    took = np.full(n, 0.4)
    took[0] = 9.0
    asked = np.arange(0, n, 0.5)
    stream = Stream(
        start=np.arange(n, dtype=float),
        duration=took,
        phases={name: took * (0.7 if name == "add_batch" else 0.05) for name in PHASES},
        rows=np.full(n, float(done)) + np.arange(n) % 7,
        input_rate=np.full(n, 1000.0),
        processed_rate=np.full(n, 2500.0),
        end_offset=done * (np.arange(n) + 0.5),
        late_rows=np.zeros(n),
        trigger_s=1.0,
        stored=Series(asked, 1000 * asked),
        covered=Series(asked, done * asked),
    )
    record = RunRecord(
        name="r",
        lab="l",
        cloud="local",
        region="x",
        started=START,
        window_start=START,
        workload="kafka-spark-streaming",
    )
    return RunData(record=record, origin=START, length_s=60.0, hosts=(), stream=stream)


def drawn(data, tmp_path):
    run = RunDirectory(tmp_path)
    return {one.id: one for one in streaming.draw(data, analyse(data), run)}, run


def test_batches_rates_and_backlog_are_drawn_with_their_data(tmp_path):
    found, run = drawn(run_data(1000), tmp_path)
    assert list(found) == ["batches", "stream-rates", "backlog"]
    assert (
        "0.4 s in the middle of the trigger's 1 s" in found["batches"].title
        and "70 % of it addBatch" in found["batches"].title
    )
    assert "did not grow" in found["backlog"].title
    with (run.path / found["batches"].data).open() as file:
        rows = list(csv.DictReader(file))
    parts = [name for name in rows[0] if name.endswith("_s") and name not in ("start_s", "duration_s")]
    assert all(sum(float(row[name]) for name in parts) == pytest.approx(float(row["duration_s"])) for row in rows)


def test_a_backlog_that_grows_is_in_the_title(tmp_path):
    found, _ = drawn(run_data(800), tmp_path)
    assert "The backlog grew by 1" in found["backlog"].title


def test_nothing_is_drawn_where_there_is_nothing(tmp_path):
    data = run_data(1000)
    nothing = Series(np.empty(0), np.empty(0))
    silent = replace(data, stream=replace(data.stream, stored=nothing, covered=nothing))
    assert list(drawn(silent, tmp_path)[0]) == ["batches", "stream-rates"]
    assert drawn(replace(data, stream=None), tmp_path)[0] == {}


def test_what_a_batch_is_made_of_is_drawn_and_listed(tmp_path):
    data = run_data(1000)
    even = replace(data.stream, duration=np.full(60, 0.4))
    data = replace(data, stream=even, spark=(query(first=0.0, second=0.2, n=60),))
    analysis = analyse(data)
    run = RunDirectory(tmp_path)
    (found,) = batch_stages.draw(data, analysis, run)
    assert found.title == "Stage 2 of 2 takes 50 % of a batch"
    with (run.path / found.data).open() as file:
        rows = list(csv.DictReader(file))
    assert [row["does"] for row in rows] == ["reads the source", "keeps the state and writes the results", ""]
    assert sum(float(row["share"]) for row in rows) == pytest.approx(1)
    parts = [name for name in rows[0] if name.endswith("_s")]
    assert all(sum(float(row[name]) for name in parts) == pytest.approx(float(row["seconds"])) for row in rows)
    table = stages.of_batches(analysis.batched)
    assert [len(row) for row in table.rows] == [len(table.columns)] * 3
    assert batch_stages.draw(replace(data, spark=()), analyse(replace(data, spark=())), run) == []
