"""The workload's parser on what the tools of 3.9.2 and 4.3.0 really printed, whole, cut and spoiled."""

from __future__ import annotations

import itertools
import json
import shutil
from datetime import UTC, datetime

import pytest

from labtool import stacks
from labtool.dataset import parsers
from labtool.dataset.schema import TABLES
from labtool.errors import DataError, UsageError
from labtool.experiment.settle import settled
from tests.roles.modules import FIXTURES, ROOT

PARSER = ROOT / "playbooks/workloads/kafka-throughput.py"


@pytest.fixture(params=["3.9.2", "4.3.0"])
def raw(request, tmp_path):
    shutil.copytree(FIXTURES / f"throughput-{request.param}", tmp_path / "kafka-throughput/load-0")
    return tmp_path


@pytest.fixture
def newest(tmp_path):
    shutil.copytree(FIXTURES / "throughput-4.3.0", tmp_path / "kafka-throughput/load-0")
    return tmp_path


def parse(raw):
    return parsers.workload(PARSER, raw, {})


def of(rows, client):
    return [row for row in rows if row["client"] == client]


def test_rows_are_of_the_tables(raw):
    tables = parse(raw)
    assert set(tables) == {"workload_intervals", "workload_summary"}
    for name, rows in tables.items():
        columns = {column.name for column in TABLES[name]}
        assert rows and all(set(row) == columns for row in rows)


def test_intervals_are_placed_in_time_and_do_not_overlap(raw):
    for client in {row["client"] for row in parse(raw)["workload_intervals"]}:
        rows = of(parse(raw)["workload_intervals"], client)
        for before, after in itertools.pairwise(rows):
            assert after["time"].timestamp() - after["duration_s"] >= before["time"].timestamp() - 0.15
        assert all(row["time"].tzinfo is UTC for row in rows)


def test_summary_of_4_3_leaves_the_warm_up_out(newest):
    first, second = (of(parse(newest)["workload_summary"], f"load-0/producer-{at}")[0] for at in (1, 2))
    assert first["operations"] == second["operations"] == 75000
    assert (first["p50_ms"], first["p95_ms"], first["p99_ms"], first["p999_ms"]) == (53, 271, 456, 536)
    assert (first["rate"], first["latency_avg_ms"], first["latency_max_ms"]) == (4857.512953, 86.81, 550.0)
    assert first["offered_rate"] == 5000 and first["bytes_rate"] == pytest.approx(485751.2953)
    assert first["end"] == datetime.fromtimestamp(1795248472.783966, UTC)
    assert (first["end"] - first["start"]).total_seconds() == pytest.approx(75000 / 4857.512953, abs=1e-5)


def test_summary_of_3_9(tmp_path):
    shutil.copytree(FIXTURES / "throughput-3.9.2", tmp_path / "kafka-throughput/load-0")
    row = of(parse(tmp_path)["workload_summary"], "load-0/producer-1")[0]
    assert (row["operations"], row["p999_ms"], row["offered_rate"]) == (12000, 937, 1000)
    assert len(of(parse(tmp_path)["workload_intervals"], "load-0/producer-1")) == 2


def counted(raw, offsets):
    (raw / "kafka-throughput/end-offsets.json").write_text(offsets)
    return parse(raw).get("workload_counts", [])


def test_the_brokers_count_stands_beside_the_producers(newest):
    (row,) = counted(newest, '{"0": 100000, "1": 100001}')
    assert set(row) == {column.name for column in TABLES["workload_counts"]}
    # The warm-up is in both: 75,000 records of each are left without it.
    assert (row["claimed"], row["counted"]) == (200_000, 200_001)


def test_a_count_that_is_not_whole_is_not_compared(newest):
    assert counted(newest, "{}") == [], "the topic was gone"
    with pytest.raises(DataError, match=r"end-offsets.json: expected a number"):
        counted(newest, "[1]")
    spoil(newest, "producer-1", lambda text: "".join(text.splitlines(keepends=True)[:-2]))
    assert counted(newest, '{"0": 5}') == []


def test_a_producer_that_asks_for_no_acknowledgement_knows_nothing(newest):
    path = newest / "kafka-throughput/load-0/producer-1.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"acks": "0"}))
    assert counted(newest, '{"0": 5}') == []


def test_consumer_counts_each_record_once(newest):
    tables = parse(newest)
    row = of(tables["workload_summary"], "load-0/consumer-1")[0]
    assert row["operations"] == 195863 and row["offered_rate"] is None and row["p50_ms"] is None
    first = of(tables["workload_intervals"], "load-0/consumer-1")[0]
    assert first["duration_s"] == pytest.approx(6.485 + 0.735), "joining the group is part of it"


def spoil(raw, client, change):
    path = raw / "kafka-throughput/load-0" / f"{client}.out"
    path.write_text(change(path.read_text()))
    return path


def test_a_cut_last_line_is_left_out(newest):
    whole = len(of(parse(newest)["workload_intervals"], "load-0/consumer-1"))
    spoil(newest, "consumer-1", lambda text: text[:-30])
    assert len(of(parse(newest)["workload_intervals"], "load-0/consumer-1")) == whole - 1


def test_every_cut_is_read_or_told(newest):
    path = newest / "kafka-throughput/load-0/producer-1.out"
    text = path.read_text()
    for end in range(0, len(text), 97):
        path.write_text(text[:end])
        rows = of(parse(newest).get("workload_intervals", []), "load-0/producer-1")
        assert len(rows) <= 18


def test_ended_before_its_summary(newest):
    spoil(newest, "producer-1", lambda text: "".join(text.splitlines(keepends=True)[:-2]))
    row = of(parse(newest)["workload_summary"], "load-0/producer-1")[0]
    assert row["p99_ms"] is None
    assert row["operations"] == pytest.approx(91_365 + 3_810, abs=5), "those that the tool dropped are counted"
    assert row["latency_max_ms"] == 1504.0


def test_no_record_is_lost_where_the_warm_up_ends(newest):
    for client, dropped in (("load-0/producer-1", 3_810), ("load-0/producer-2", 4_387)):
        rows = of(parse(newest)["workload_intervals"], client)
        (across,) = [at for at, row in enumerate(rows) if row["duration_s"] > 1.3 and at]
        printed = sum(row["rate"] * row["duration_s"] for row in rows[:across])
        assert printed == pytest.approx(25_000 - dropped, abs=5)
        assert rows[across]["rate"] * rows[across]["duration_s"] > dropped
        began = rows[across]["time"].timestamp() - rows[across]["duration_s"]
        assert began == pytest.approx(rows[across - 1]["time"].timestamp(), abs=1e-3), "there is no hole"


SLOW = """\
1795248455000000 Warmup first 35 records. Steady state results will print after the complete test summary.
1795248456000000 5 records sent, 5.0 records/sec (4.82 MB/sec), 270.6 ms avg latency, 892.0 ms max latency.
1795248457000000 11 records sent, 10.2 records/sec (10.24 MB/sec), 45.0 ms avg latency, 98.0 ms max latency.
1795248458000000 7 records sent, 6.8 records/sec (6.84 MB/sec), 19.0 ms avg latency, 41.0 ms max latency.
1795248459000000 8 records sent, 7.8 records/sec (7.79 MB/sec), 16.1 ms avg latency, 20.0 ms max latency.
1795248460750000 In steady state.
1795248460750900 8 records sent, 7.7 records/sec (7.69 MB/sec), 16.8 ms avg latency, 27.0 ms max latency.
1795248461750900 7 records sent, 6.8 records/sec (6.82 MB/sec), 15.9 ms avg latency, 18.0 ms max latency.
"""


def test_a_low_rate_has_no_dip_where_it_begins_or_its_warm_up_ends(newest):
    spoil(newest, "producer-1", lambda text: SLOW)
    rows = of(parse(newest)["workload_intervals"], "load-0/producer-1")
    assert [round(row["rate"], 1) for row in rows] == [5.0, 11.0, 7.0, 8.0, 6.9, 7.0]
    spoil(newest, "producer-1", lambda text: "".join(SLOW.splitlines(keepends=True)[1:3]))
    first, second = of(parse(newest)["workload_intervals"], "load-0/producer-1")
    assert (first["rate"], second["rate"]) == (5.0, 11.0), "the JVM's start is in no interval"


def test_without_a_rate_nothing_is_offered(newest):
    path = newest / "kafka-throughput/load-0/producer-1.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"offered_rate": None}))
    tables = parse(newest)
    assert {row["offered_rate"] for row in of(tables["workload_intervals"], "load-0/producer-1")} == {None}


def test_failed_sends_are_counted_where_they_happened(newest):
    (newest / "kafka-throughput/load-0/producer-1.err").write_text(
        "1795248455000000 org.apache.kafka.common.errors.TimeoutException: Expiring 3 record(s)\n"
        "1795248455000001 \tat org.apache.kafka.clients.producer.Something(Something.java)\n"
        "1795248456000000 org.apache.kafka.common.errors.NotEnoughReplicasException: no\n"
    )
    tables = parse(newest)
    assert of(tables["workload_summary"], "load-0/producer-1")[0]["errors"] == 2
    assert [row["errors"] for row in of(tables["workload_intervals"], "load-0/producer-1")][:5] == [0, 0, 1, 1, 0]


@pytest.mark.parametrize("client", ["producer-1", "consumer-1"])
def test_a_line_of_something_else_is_named(newest, client):
    path = spoil(newest, client, lambda text: text.replace("\n", "\n1795248452000000 Segmentation fault\n", 1))
    with pytest.raises(DataError, match=rf"{path.name}:2: .*Segmentation fault"):
        parse(newest)


def test_a_line_without_its_time_is_named(newest):
    spoil(newest, "producer-1", lambda text: "hello\n" + text)
    with pytest.raises(DataError, match=r"producer-1\.out:1: 'hello' is no time"):
        parse(newest)


def test_cut_parameters_are_named(newest):
    path = newest / "kafka-throughput/load-0/producer-1.json"
    path.write_text(path.read_text()[:-20])
    with pytest.raises(DataError, match=r"producer-1\.json is no JSON"):
        parse(newest)


def test_a_run_without_the_workload(tmp_path):
    assert parse(tmp_path) == {}


def test_a_client_that_was_killed_before_its_first_record_is_told(newest):
    for name, ended in (("producer-1", {"exit_code": -9, "stopped": False}), ("consumer-1", {"exit_code": -9})):
        path = newest / f"kafka-throughput/load-0/{name}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"stopped": False} | ended))
        path.with_suffix(".out").write_text("")
    tables = parse(newest)
    assert {row["client"] for row in tables["workload_intervals"]} == {"load-0/producer-2"}
    (dead,) = of(tables["workload_summary"], "load-0/producer-1")
    assert set(dead) == {column.name for column in TABLES["workload_summary"]}
    assert (dead["failure"], dead["offered_rate"]) == ("killed by signal 9 (SIGKILL)", 5000)
    assert dead["start"] is dead["rate"] is None, "it takes no part in the window"
    assert of(tables["workload_summary"], "load-0/consumer-1")[0]["failure"] == dead["failure"]
    assert of(tables["workload_summary"], "load-0/producer-2")[0]["failure"] == ""


@pytest.mark.parametrize(
    ("ended", "failure"),
    [
        ({"exit_code": 143, "stopped": True}, ""),
        ({"exit_code": 3, "stopped": False}, "ended with exit code 3"),
        ({"exit_code": -15, "stopped": False}, "killed by signal 15 (SIGTERM)"),
    ],
)
def test_only_a_client_that_was_not_told_to_end_has_failed(newest, ended, failure):
    path = newest / "kafka-throughput/load-0/producer-1.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | ended))
    assert of(parse(newest)["workload_summary"], "load-0/producer-1")[0]["failure"] == failure


def test_a_producer_that_asks_for_no_acknowledgement_does_not_know_its_errors(newest):
    folder = newest / "kafka-throughput/load-0"
    for name in ("producer-1", "producer-2", "consumer-1"):
        path = folder / f"{name}.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"acks": "0"}))
    (folder / "producer-2.err").write_text("1795248455000000 org.apache.kafka.common.errors.TimeoutException: late\n")
    tables = parse(newest)
    known = {row["client"]: row["errors"] for row in tables["workload_summary"]}
    assert known == {"load-0/producer-1": None, "load-0/producer-2": 1, "load-0/consumer-1": 0}
    assert {row["errors"] for row in of(tables["workload_intervals"], "load-0/producer-1")} == {None}


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ({"properties": "linger.ms=5 acks=-1"}, ("--properties acks=-1: another option is for it", "--acks all")),
        ({"properties": "client.id=x"}, ("--properties client.id=x: the clients set client.id", "leave it out")),
        ({"properties": "garbage"}, ("--properties: 'garbage' is no setting", '--properties "linger.ms=5')),
        (
            {"consumer_properties": "group.id=x", "client": "worker"},
            ("--consumer-properties group.id=x: the clients set group.id", "leave it out"),
        ),
    ],
)
def test_a_setting_that_another_option_is_for_is_refused(typed, said):
    with pytest.raises(UsageError) as caught:
        settled(stacks.workload("kafka-throughput"), typed)
    assert all(part in str(caught.value) + str(caught.value.hint) for part in said)
