"""What a run of kafka-spark-streaming becomes as tables; the batches are lines that Spark 4.3 wrote."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest

from labtool.dataset import parsers, tables
from labtool.errors import DataError
from tests.dataset import spark_lines
from tests.roles.modules import ROOT

PARSER = ROOT / "playbooks/workloads/kafka-spark-streaming.py"
PROGRESS = Path(__file__).parent / "data/streaming-progress.jsonl"
DUE = 1_795_294_100_000_000  # µs, where a window of ten seconds begins
SECOND = 1_000_000


def written(path: Path, lines: list[str]) -> None:
    with gzip.open(path, "wt") as file:
        file.write("\n".join(lines) + "\n")


@pytest.fixture
def raw(tmp_path):
    """A client of two groups that sent six records, of which the last has no result and one was refused."""
    load, query = tmp_path / "kafka-spark-streaming/load-0", tmp_path / "kafka-spark-streaming/spark_master-0/query"
    load.mkdir(parents=True)
    query.mkdir(parents=True)
    known = {"client": "client-1", "role": "producer", "loop": "open", "part": 0, "groups": 2, "endpoints": ["record"]}
    (load / "client-1.json").write_text(json.dumps(known | {"offered_rate": 10.0, "ended_us": DUE + SECOND}))
    rows = [f"{DUE + n * 100_000},{DUE + n * 100_000 + 50},{DUE + n * 100_000 + 3000},{n}" for n in range(6)]
    errors = ["", "", "", "timeout", "", ""]
    head = "due_us,sent_us,done_us,status,error,bytes,endpoint,id,warmup"
    log = [f"{row},{error},100,0,,0" for row, error in zip(rows, errors, strict=True)]
    written(load / "client-1.requests.csv.gz", [head, *log])
    # Records 0 and 2 are in group 0's first result, 4 in its second; 1 is in group 1's, 5 in none.
    given = [
        (DUE + SECOND, "0-0", DUE, 2, 2, 2),
        (DUE + SECOND, "0-1", DUE, 1, 1, 1),
        (DUE + 2 * SECOND, "0-0", DUE, 3, 6, 4),
    ]
    lines = [f"{at + 9000},{at},{group},{window},{n},{amount},{last}" for at, group, window, n, amount, last in given]
    written(load / "results.csv.gz", ["read_us,append_us,group,window_us,count,amount,last", *lines])
    (load / "backlog.csv").write_text(f"time_us,stored,covered\n{DUE},5,0\n{DUE + SECOND},5,3\n{DUE + SECOND},5")
    told = {"append_clock": "kafka-0", "window_us": 10 * SECOND, "covered": 4, "results": 3, "stored": 5}
    (load / "reader.json").write_text(json.dumps(told | {"ended_us": DUE + 5 * SECOND}))
    shutil.copy(PROGRESS, query / "progress.jsonl")
    (query.parent / "job.json").write_text(json.dumps({"trigger_s": 1.0, "cause": ""}))
    (tmp_path / "kafka-spark-streaming/end-offsets.json").write_text(
        json.dumps({"in": {"0": 2, "1": 3}, "out": {"0": 3}})
    )
    return tmp_path


def parse(raw):
    made = parsers.workload(PARSER, raw, {})
    for name, rows in made.items():  # as a run's tables are made
        tables.to_arrow(name, rows) if isinstance(rows, list) else tables.checked(name, rows, "test")
    return made


def test_a_record_is_done_when_a_result_has_it(raw):
    rows = parse(raw)["requests"].to_pylist()
    assert [row["error"] for row in rows] == ["", "", "", "timeout", "", "no result"]
    found = [row["latency_s"] for row in rows if not row["error"]]
    assert found == pytest.approx([1.0, 0.9, 0.8, 1.6])
    assert rows[5]["latency_s"] == pytest.approx(4.5), "it was given up when the reader ended"


def test_two_clocks_are_brought_together(raw):
    """The broker's clock is 0.25 s ahead of the controller's, the load host's 0.05 s behind: 0.3 s too much."""
    lines = [
        {
            "time": "2026-11-21T20:48:20+00:00",
            "host": host,
            "phase": "before",
            "offset_s": at,
            "bound_s": 0.001,
            "samples": 9,
        }
        for host, at in (("kafka-0", 0.25), ("load-0", -0.05))
    ]
    (raw / "clock.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    made = parse(raw)
    assert made["requests"].to_pylist()[0]["latency_s"] == pytest.approx(0.7)
    assert made["stream_results"].to_pylist()[0]["read_s"] == pytest.approx(0.309)


def test_totals_stand_beside_the_brokers_own(raw):
    found = [(row["what"], row["claimed"], row["counted"]) for row in parse(raw)["workload_counts"]]
    batches = sum(json.loads(line)["numInputRows"] for line in PROGRESS.read_text().splitlines())
    assert found == [("records", 5, 5), ("records", batches, 5), ("records", 4, 5), ("results", 3, 3)]


def test_batches_are_as_spark_said(raw):
    rows = parse(raw)["stream_batches"]
    lines = [json.loads(line) for line in PROGRESS.read_text().splitlines()]
    assert [row["batch"] for row in rows] == [line["batchId"] for line in lines]
    row, line = next((row, line) for row, line in zip(rows, lines, strict=True) if line["numInputRows"])
    assert row["add_batch_ms"] == line["durationMs"]["addBatch"] and row["trigger_ms"] == 1000
    assert row["end_offset"] - row["start_offset"] == row["rows"] == line["numInputRows"]
    phases = [row[name] or 0 for name in row if name.endswith("_ms") and name not in ("duration_ms", "trigger_ms")]
    assert 0.8 * row["duration_ms"] < sum(phases) <= row["duration_ms"] + len(phases)


def test_what_was_cut_gives_what_is_whole(raw):
    progress = raw / "kafka-spark-streaming/spark_master-0/query/progress.jsonl"
    whole = len(parse(raw)["stream_batches"])
    progress.write_text(progress.read_text()[:-40])
    results = raw / "kafka-spark-streaming/load-0/results.csv.gz"
    results.write_bytes(results.read_bytes()[:-12])
    made = parse(raw)
    assert len(made["stream_batches"]) == whole - 1 and len(made["stream_backlog"]) == 2
    progress.write_text('{"batchId": 1}\n' + progress.read_text())
    with pytest.raises(DataError, match=r"progress.jsonl:1: no progress of a query \(KeyError"):
        parse(raw)


def test_without_a_reader_there_are_batches_all_the_same(raw):
    shutil.rmtree(raw / "kafka-spark-streaming/load-0")
    assert set(parse(raw)) == {"stream_batches", "workload_counts"}


def test_the_query_s_event_log_becomes_spark_s_tables(raw):
    log = raw / "kafka-spark-streaming/spark_master-0/eventlog/eventlog_v2_app-1/events_1_app-1"
    log.parent.mkdir(parents=True)
    batch = spark_lines.job_start(0, [spark_lines.stage_info(0)], **{"streaming.sql.batchId": "7"})
    log.write_text(spark_lines.start() + batch + spark_lines.task_start(0) + spark_lines.task_end(0))
    made = parse(raw)
    assert [row["batch"] for row in made["spark_jobs"].to_pylist()] == [7]
    assert made["spark_tasks"]["driver"].to_pylist() == ["spark_master-0"]
