"""What the worker tells each second, as tables and as OpenMessaging Benchmark's result."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from labtool.dataset import parsers, tables
from labtool.dataset.requests import decoded
from labtool.dataset.run import RunDirectory, RunRecord
from labtool.dataset.schema import TABLES
from labtool.errors import DataError
from tests.roles.modules import ROOT

PARSER = ROOT / "playbooks/workloads/kafka-throughput.py"
BEGAN = 1_800_000_000.0
KNOWN = {
    "role": "worker", "topics": ["t"], "subscriptions": 2, "producers": 1, "consumers": 1, "record_size": 50,
    "acks": "all", "duration_s": 25.0, "warmup_s": 5.0, "version": "4.3.0", "rate": 100.0, "exit_code": 0,
}  # fmt: skip


def measure(**counts):
    seen = {int(us): n for us, n in counts.items()}
    return {"counts": counts, "sum": sum(us * n for us, n in seen.items()), "highest": max(seen, default=0)}


def line(second, **changes):
    said = {
        "end_us": round((BEGAN + second + 1) * 1e6),
        "seconds": 1.0,
        "sent": 100,
        "failed": 0,
        "sent_bytes": 5000,
        "received": 200,
        "received_bytes": 10_000,
        "ahead": 0,
        "latency": measure(**{"1500": 90, "9000": 10}),
        "service": measure(**{"1000": 90, "8000": 10}),
        "delay": measure(**{"500": 90, "1000": 10}),
        "end to end": measure(**{"0": 100, "2000": 100}),
    }
    return said | changes


REST = {"sent": 3, "sent_bytes": 150, "received": 0, "received_bytes": 0, "end to end": measure()}


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "raw/kafka-throughput/load-0"
    folder.mkdir(parents=True)
    lines = [line(at, failed=int(at == 7)) for at in range(25)] + [line(25, **REST)]
    (folder / "worker.json").write_text(json.dumps(KNOWN))
    (folder / "worker.jsonl").write_text("".join(json.dumps(said) + "\n" for said in lines))
    (folder / "worker.log").write_text(
        "[2026-11-22 00:49:03,079] WARN Connection to node -4 could not be established.\n"
    )
    (folder.parent / "end-offsets.json").write_text('{"t/0": 1500, "t/1": 1003}')
    return tmp_path / "raw"


def parse(raw):
    return parsers.workload(PARSER, raw, {})


def test_rows_are_of_the_tables(raw):
    found = parse(raw)
    assert set(found) == {"workload_intervals", "workload_summary", "workload_latencies", "workload_counts"}
    for name, rows in found.items():
        assert all(set(row) == {column.name for column in TABLES[name]} for row in rows)


def test_a_second_of_the_load_is_an_interval_and_what_ended_after_it_is_none(raw):
    rows = [row for row in parse(raw)["workload_intervals"] if row["role"] == "producer"]
    assert len(rows) == 25 and {row["client"] for row in rows} == {"load-0/producers"}
    assert rows[0]["time"] == datetime.fromtimestamp(BEGAN + 1, UTC)
    assert (rows[0]["rate"], rows[0]["offered_rate"], rows[0]["bytes_rate"]) == (100, 100, 5000)
    assert (rows[0]["p50_ms"], rows[0]["p99_ms"], rows[0]["latency_avg_ms"]) == (1.5, 9.0, 2.25), "from when it was due"
    assert [row["errors"] for row in rows].index(1) == 7


def test_the_summary_leaves_the_warm_up_out_and_the_rest_in(raw):
    producers, consumers = parse(raw)["workload_summary"]
    assert (producers["operations"], producers["errors"]) == (20 * 100 + 3, 1)
    assert producers["end"] == datetime.fromtimestamp(BEGAN + 25, UTC)
    assert producers["rate"] == pytest.approx(100), "what was acknowledged after the load is in no rate"
    assert (consumers["operations"], consumers["offered_rate"], consumers["p95_ms"]) == (4000, None, 2.0)


def test_latencies_are_of_ten_seconds_after_the_warm_up(raw):
    rows = parse(raw)["workload_latencies"]
    assert {row["measure"] for row in rows} == {"latency", "service", "delay", "end to end"}
    first, last = (row for row in rows if row["measure"] == "service")
    assert first["time"] == datetime.fromtimestamp(BEGAN + 15, UTC) and first["operations"] == 1000
    assert last["operations"] == 1100, "what ended after the load is in its last period"
    assert decoded(first["histogram"])[1000] == 900
    assert max(decoded(first["histogram"])) == pytest.approx(8000, rel=1e-3)
    ended = next(row for row in rows if row["measure"] == "end to end")
    assert decoded(ended["histogram"])[1] == 1000, "a record of the same millisecond is 0 ms, or 1 µs"


def test_the_producers_count_stands_beside_the_brokers(raw):
    (row,) = parse(raw)["workload_counts"]
    assert (row["claimed"], row["counted"]) == (2503, 2503)


def test_a_worker_that_was_ended_does_not_know_its_count(raw):
    file = raw / "kafka-throughput/load-0/worker.json"
    file.write_text(json.dumps(KNOWN | {"exit_code": 143, "stopped": True}))
    assert "workload_counts" not in parse(raw)


def test_as_fast_as_possible_nothing_is_offered(raw):
    file = raw / "kafka-throughput/load-0/worker.json"
    file.write_text(json.dumps(KNOWN | {"rate": 0.0}))
    assert {row["offered_rate"] for row in parse(raw)["workload_intervals"]} == {None}


def test_what_is_cut_is_left_out_and_what_is_spoiled_is_named(raw):
    file = raw / "kafka-throughput/load-0/worker.jsonl"
    whole = file.read_text()
    file.write_text(whole[:-40])
    assert parse(raw)["workload_summary"][0]["operations"] == 2000 and "workload_counts" not in parse(raw)
    file.write_text("")
    assert parse(raw) == {}
    file.write_text("{}\n")
    with pytest.raises(DataError, match=r"worker\.jsonl:1: no line of KafkaWorker"):
        parse(raw)


def test_the_result_is_named_by_the_files_and_has_what_charts_need(raw, tmp_path):
    run = RunDirectory(tmp_path)
    options = {"client": "worker", "subscriptions": 2, "record_size": 50, "topics": 1, "partitions": 2}
    run.write(
        RunRecord(
            name="n", lab="l", cloud="local", region="r", started=datetime.fromtimestamp(BEGAN, UTC), warmup_s=5.0,
            workload="kafka-throughput", workload_options=options,
        )
    )  # fmt: skip
    for name, rows in parse(raw).items():
        tables.write(run.tables, name, rows)
    found = parsers.results(PARSER, run)["RESULT.json"]
    assert (found["workload"], found["driver"]) == ("n", "Kafka"), "without files"
    assert found["publishRate"] == pytest.approx([100, 100]) and found["consumeRate"] == pytest.approx([200, 200])
    assert found["backlog"] == [0, 0]
    # Those that OMB's create_charts.py takes the maximum of: an empty one would end it.
    for name in ("publishLatency99pct", "publishDelayLatency99pct", "endToEndLatency95pct", "endToEndLatencyAvg"):
        assert len(found[name]) == 2 and max(found[name]) > 0
    assert found["publishErrorRate"] == pytest.approx([0.1, 0])
    quantiles = [name for name in found if name.endswith("Quantiles")]
    assert len(quantiles) == 3 and all(found[name]["100.0"] for name in quantiles)
    (raw / "kafka-throughput/driver.yaml").write_text(
        "name: Mine\ndriverClass: io.openmessaging.benchmark.driver.kafka.KafkaBenchmarkDriver\nreplicationFactor: 1\n"
    )
    assert parsers.results(PARSER, run)["RESULT.json"]["driver"] == "Mine"


def test_a_worker_that_was_killed_before_its_first_line_is_told(raw):
    folder = raw / "kafka-throughput/load-0"
    (folder / "worker.json").write_text(json.dumps(KNOWN | {"exit_code": -9, "stopped": False}))
    (folder / "worker.jsonl").write_text("")
    producers, consumers = parsers.workload(PARSER, raw, {})["workload_summary"]
    assert (producers["client"], producers["offered_rate"]) == ("load-0/producers", 100)
    assert (consumers["client"], consumers["offered_rate"]) == ("load-0/consumers", None)
    assert producers["failure"] == consumers["failure"] == "killed by signal 9 (SIGKILL)"


def test_without_acknowledgements_the_worker_does_not_know_its_errors(raw):
    folder = raw / "kafka-throughput/load-0"
    (folder / "worker.json").write_text(json.dumps(KNOWN | {"acks": "0"}))
    found = parsers.workload(PARSER, raw, {})
    producers, consumers = found["workload_summary"]
    assert (producers["errors"], consumers["errors"]) == (1, 0)
    assert [row["errors"] for row in found["workload_intervals"] if row["role"] == "producer"].count(None) == 24
