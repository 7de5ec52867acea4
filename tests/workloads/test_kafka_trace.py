"""The Kafka driver's pacing and log, with a made-up producer in place of the real one, and the workload's parser."""

from __future__ import annotations

import csv
import gzip
import json
import sys
import time

import pytest

from labtool.dataset import parsers
from labtool.errors import DataError
from tests.roles.modules import ROOT, load

sys.path.insert(0, str(ROOT / "playbooks/workloads/files"))
program = load("playbooks/workloads/files/trace_prepare.py", "trace_prepare")
driver = load("playbooks/workloads/files/kafka_trace.py", "kafka_trace")
PARSER = ROOT / "playbooks/workloads/kafka-trace-replay.py"


class Failure:
    """An error of librdkafka's."""

    def name(self):
        return "_MSG_TIMED_OUT"


class Producer:
    """Holds two messages at most, delivers when it is polled, and loses the message of user-3."""

    def __init__(self):
        self.held, self.sent, self.refused = [], [], 0

    def produce(self, topic, value, key, *, on_delivery):
        if len(self.held) == 2:
            self.refused += 1
            raise BufferError
        self.held.append(on_delivery)
        self.sent.append((topic, key, value))

    def poll(self, seconds):
        time.sleep(max(seconds, 0))
        for on_delivery in self.held:
            on_delivery(Failure() if len(self.sent) == 4 else None, None)
        self.held = []

    def flush(self, seconds):
        self.poll(0)


@pytest.fixture
def replayed(tmp_path):
    """Return a function that replays 10 lines, 1 s apart in the trace, and returns the producer, rows and source."""

    def make(speed, producer, **changes):
        (tmp_path / "trace.csv").write_text("".join(f"{1700000000 + n},user-{n}\n" for n in range(10)))
        words = [str(tmp_path / "trace.csv"), str(tmp_path), "--speed", speed, "--kind", "messages"]
        found = program.run(program.arguments(words))
        plan = {
            "layout": found["layout"],
            "template": "",
            "speed": found["speed"],
            "topic": "t",
            "parts": str(tmp_path / "parts/0"),
            "warmup_s": 0.0,
            "duration_s": 60,
            "timeout_s": 1,
        } | changes
        log = driver.Log(tmp_path / "log.gz")
        try:
            source = driver.replay(plan, "client-1", producer, log, time.time() + 0.02)
        finally:
            log.close()
        with gzip.open(tmp_path / "log.gz", "rt") as file:
            return source, list(csv.DictReader(file))

    return make


def test_messages_are_paced_and_noted_when_they_are_delivered(replayed):
    source, rows = replayed("100", producer := Producer())
    assert [value for _, _, value in producer.sent] == [f"{1700000000 + n}\tuser-{n}".encode() for n in range(10)]
    due = [int(row["due_us"]) for row in rows]
    assert [at - due[0] for at in due] == pytest.approx([n * 10_000 for n in range(10)], abs=2)
    assert all(int(row["due_us"]) <= int(row["sent_us"]) <= int(row["done_us"]) for row in rows)
    assert [row["error"] for row in rows].count("timeout") == 1
    assert (source.taken, source.left) == (10, 0)


def test_a_full_queue_waits_for_deliveries(replayed):
    class Slow(Producer):
        """Delivers nothing in passing."""

        def poll(self, seconds):
            if seconds:
                super().poll(seconds)

        def flush(self, seconds):
            super().poll(0)

    source, rows = replayed("max", producer := Slow())
    assert producer.refused == 4 and len(rows) == len(producer.sent) == 10
    assert (source.taken, source.left) == (10, 0)


def test_the_runs_time_ends_it(replayed):
    source, rows = replayed("100", Producer(), duration_s=-1)
    assert (source.taken, source.left, rows) == (0, 10, [])


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "kafka-trace-replay/load-0"
    folder.mkdir(parents=True)
    (folder / "client-1.json").write_text(json.dumps({"client": "client-1", "role": "producer", "endpoints": ["view"]}))
    with gzip.open(folder / "client-1.requests.csv.gz", "wt") as file:
        file.write("due_us,sent_us,done_us,status,error,bytes,endpoint,id,warmup\n")
        file.write("1000000,1000100,1002000,,,9,0,,0\n2000000,2000100,2002000,,timeout,9,0,,0\n")
    return tmp_path


def test_the_brokers_count_stands_beside_the_clients(raw):
    (raw / "kafka-trace-replay/end-offsets.json").write_text('{"0": 1, "1": 1}')
    tables = parsers.workload(PARSER, raw, {})
    (row,) = tables["workload_counts"]
    assert (row["what"], row["claimed"], row["counted"]) == ("records", 1, 2)
    assert [one["error"] for one in tables["requests"].to_pylist()] == ["", "timeout"]


def test_messages_that_nobody_acknowledges_are_not_held_against_the_brokers_count(raw):
    (raw / "kafka-trace-replay/end-offsets.json").write_text('{"0": 1, "1": 1}')
    for acks, compared in (("0", False), ("1", True)):
        assert ("workload_counts" in parsers.workload(PARSER, raw, {"workload_options": {"acks": acks}})) is compared


def test_a_topic_of_the_users_own_is_not_counted(raw):
    (raw / "kafka-trace-replay/end-offsets.json").write_text("{}")
    assert "workload_counts" not in parsers.workload(PARSER, raw, {})
    (raw / "kafka-trace-replay/end-offsets.json").write_text("[1]")
    with pytest.raises(DataError, match=r"end-offsets\.json: expected a number of records"):
        parsers.workload(PARSER, raw, {})
