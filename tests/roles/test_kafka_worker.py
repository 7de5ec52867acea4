"""The worker's driver: each host's share, the properties that it writes, and its ends, with a made-up JDK."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest

from tests.roles.modules import load

driver = load("playbooks/workloads/files/kafka_worker.py", "kafka_worker")

JAVA = """#!/bin/sh
for last; do :; done
test -z "$FAIL" || { printf 'Exception in thread main\\nCaused by: no such class\\n\\tat X\\n' >&2; exit 1; }
cp "$last" seen; test -z "$SLEEP" || exec sleep "$SLEEP"
"""


@pytest.fixture
def plan(tmp_path, monkeypatch):
    folder = tmp_path / "jdk"
    folder.mkdir()
    for name in ("java", "javac"):
        (folder / name).write_text(JAVA)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    (tmp_path / "out").mkdir()

    def make(**changes):
        return {
            "libraries": "/opt/kafka/current/libs/*",
            "logging": "/etc/kafka/tools-log4j.properties",
            "version": "4.3.0",
            "host": "load-0",
            "hosts": 1,
            "host_index": 0,
            "bootstrap": "a:9092,b:9092",
            "topics": ["t-0", "t-1"],
            "subscriptions": 2,
            "producers": 3,
            "consumers": 2,
            "rate": 900.0,
            "record_size": 100,
            "acks": "1",
            "keys": "none",
            "random_ratio": 1.0,
            "payload_pool": 10,
            "payload_file": "",
            "properties": {"linger.ms": "5"},
            "consumer_properties": {"auto.offset.reset": "earliest"},
            "duration_s": 60.0,
            "warmup_s": 0.0,
            "start_at": 1_800_000_000.0,
            "output": str(tmp_path / "out"),
        } | changes

    return make


@pytest.mark.parametrize("hosts", [1, 2, 4, 5])
def test_hosts_share_producers_consumers_and_the_rate(plan, hosts):
    plans = [plan(hosts=hosts, host_index=index) for index in range(hosts)]
    writers = sorted(topic for one in plans for topic in driver.share(one)[0])
    readers = [each for one in plans for each in driver.share(one)[1]]
    assert writers == ["t-0"] * 3 + ["t-1"] * 3
    assert len(readers) == 2 * 2 * 2 and {readers.count(each) for each in readers} == {2}
    assert sum(driver.rate_of(one) for one in plans) == pytest.approx(900)
    each = {driver.rate_of(one) / len(driver.share(one)[0]) for one in plans if driver.share(one)[0]}
    assert each == {150.0}, "no producer offers more than another"


def test_its_clients_get_the_settings_that_were_asked_for(plan):
    found = driver.settings(plan(properties={"linger.ms": "5", "acks": "0"}))
    assert found["producer.bootstrap.servers"] == found["consumer.bootstrap.servers"] == "a:9092,b:9092"
    assert (found["producer.acks"], found["producer.linger.ms"]) == ("1", "5")
    assert found["consumer.auto.offset.reset"] == "earliest" and "consumer.linger.ms" not in found
    assert driver.settings(plan(rate=-1))["rate"] == "0.0"


def test_properties_are_written_as_java_reads_them():
    assert driver.text({"a b": "c:\\d", "é": "=!"}) == "a\\ b=c\\:\\\\d\n\\u00e9=\\=\\!\n"


def test_it_runs_the_worker_and_notes_its_end(plan, tmp_path):
    assert driver.drive(plan()) == 0
    known = json.loads((tmp_path / "out/worker.json").read_text())
    assert (known["role"], known["exit_code"], known["stopped"], known["rate"]) == ("worker", 0, False, 900.0)
    assert "producers=t-0,t-1,t-0,t-1,t-0,t-1\n" in (tmp_path / "out/seen").read_text()
    assert sorted(file.suffix for file in (tmp_path / "out").glob("worker.*")) == [".json", ".log", ".properties"]


def test_a_worker_that_fails_says_why(plan, monkeypatch, capsys):
    monkeypatch.setenv("FAIL", "1")
    assert driver.drive(plan()) == 1
    assert capsys.readouterr().err == "the worker ended with 1: Caused by: no such class\n"


def test_told_to_end_it_ends_the_worker_and_keeps_what_there_is(plan, tmp_path, monkeypatch):
    monkeypatch.setenv("SLEEP", "30")
    (tmp_path / "plan.json").write_text(json.dumps(plan()))
    unit = subprocess.Popen([sys.executable, driver.__file__, "clients", str(tmp_path / "plan.json")])
    until = time.monotonic() + 10
    while not (tmp_path / "out/seen").exists() and time.monotonic() < until:
        time.sleep(0.02)
    unit.send_signal(signal.SIGTERM)
    assert unit.wait(5) == 0
    assert json.loads((tmp_path / "out/worker.json").read_text())["stopped"]


def test_its_heap_is_half_of_the_hosts_memory():
    assert driver.heap_mb("Foo: 1 kB\nMemTotal:  2097152 kB\nMemFree: 7 kB\n") == 1024


def test_its_unit_ends_whatever_happens(plan):
    begun = time.time()
    assert 300 <= driver.limit_s(plan(start_at=begun)) <= 301
