"""The driver on the load host: its command lines, and its clients' ends, with a made-up tool in place of Kafka's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from tests.roles.modules import load

driver = load("playbooks/workloads/files/kafka_load.py", "kafka_load")

TOOL = """#!/bin/sh
echo "$@"
case "$1" in
  consumer*) test -z "$SILENT" || exec sleep 20; sleep "${JOIN:-0}"; echo "a first row"; exec sleep 30 ;;
  *) test -z "$FAIL" || { echo "no such topic" >&2; exit 3; }; echo done; exec sleep "${SLEEP:-0}" ;;
esac
"""


@pytest.fixture
def plan(tmp_path):
    tool = tmp_path / "kafka-tool"
    tool.write_text(TOOL)
    tool.chmod(0o755)

    def make(**changes):
        given = {
            "tool": str(tool),
            "version": "4.3.0",
            "bootstrap": "a:9092",
            "topic": "t",
            "producers": 2,
            "consumers": 1,
            "rate": 1001,
            "record_size": 100,
            "acks": "all",
            "properties": ["linger.ms=5"],
            "duration_s": 1,
            "warmup_s": 0.5,
            "start_at": 0,
            "output": str(tmp_path / "out"),
        } | changes
        (tmp_path / "plan.json").write_text(json.dumps(given))
        (tmp_path / "out").mkdir(exist_ok=True)
        return driver.Plan.of(given)

    return make


def words(command, option):
    return command[command.index(option) + 1]


def test_options_since_4_2(plan):
    command = driver.producer_command(plan(), 0)
    assert words(command, "--bootstrap-server") == "a:9092"
    assert command[command.index("--command-property") + 1 :] == ["acks=all", "client.id=producer-1", "linger.ms=5"]
    assert (words(command, "--reporting-interval"), words(command, "--warmup-records")) == ("1000", "250")
    assert (words(command, "--throughput"), words(command, "--num-records")) == ("501", "501")
    assert "--num-records" in driver.consumer_command(plan())


def test_the_consumers_of_a_load_are_a_group_of_its_own(plan):
    def group(start_at):
        return words(driver.consumer_command(plan(start_at=start_at)), "--group")

    assert group(1000.25) == group(1000.25) != group(1030.25), "the last load's may still be members of theirs"


@pytest.mark.parametrize("version", ["3.9.2", "4.1.1"])
def test_options_before_4_2(plan, version):
    command = driver.producer_command(plan(version=version), 1)
    assert command[command.index("--producer-props") + 1] == "bootstrap.servers=a:9092"
    assert not {"--bootstrap-server", "--reporting-interval", "--warmup-records"} & set(command)
    assert "--messages" in driver.consumer_command(plan(version=version))


@pytest.mark.parametrize("rate", [0, -1])
def test_as_fast_as_possible(plan, rate):
    command = driver.producer_command(plan(rate=rate), 0)
    assert words(command, "--throughput") == "-1"
    assert "--warmup-records" not in command
    assert plan(rate=rate).producer_rate(0) is None


def test_the_rate_is_shared_without_loss(plan):
    for producers in range(1, 8):
        whole = plan(rate=1001, producers=producers)
        assert sum(whole.producer_rate(at) for at in range(producers)) == 1001


@pytest.mark.parametrize(("rate", "producers", "each"), [(1, 2, "0.5"), (1001 / 2, 4, "125.125"), (7, 7, "1")])
def test_a_rate_that_is_no_whole_number_for_each_is_shared_in_fractions(plan, rate, producers, each):
    made = plan(rate=rate, producers=producers, duration_s=60, warmup_s=4)
    assert sum(made.producer_rate(at) for at in range(producers)) == rate
    assert words(driver.producer_command(made, 0), "--throughput") == each


def test_so_few_records_still_begin_and_end(plan):
    command = driver.producer_command(plan(rate=1, producers=4, duration_s=1, warmup_s=0.5), 0)
    assert words(command, "--num-records") == "1"
    assert "--warmup-records" not in command, "it would be none"


def test_clients_run_and_end(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(driver, "DRAIN_S", 0.3)
    began = time.time()
    assert driver.drive(plan(consumers=2)) == 0
    assert time.time() - began < 8
    out = tmp_path / "out"
    told = {path.stem: json.loads(path.read_text()) for path in out.glob("*.json")}
    assert set(told) == {"consumer-1", "consumer-2", "producer-1", "producer-2"}
    assert told["producer-1"]["exit_code"] == 0 and not told["producer-1"]["stopped"]
    assert told["consumer-1"]["stopped"], "a consumer is ended when the producers are done"
    stamp, _, line = (out / "producer-2.out").read_text().splitlines()[0].partition(" ")
    assert began <= int(stamp) / 1e6 <= time.time()
    assert line.startswith("producer-perf-test --topic t")


@pytest.mark.slow
def test_a_consumer_that_joins_late_still_reads(plan, monkeypatch, tmp_path):
    monkeypatch.setattr(driver, "DRAIN_S", 0.3)
    monkeypatch.setenv("JOIN", "2")
    assert driver.drive(plan(producers=1, duration_s=0.1)) == 0
    assert "a first row" in (tmp_path / "out/consumer-1.out").read_text()


def test_a_consumer_that_never_reads_is_ended(plan, monkeypatch):
    monkeypatch.setattr(driver, "START_S", 0.5)
    monkeypatch.setattr(driver, "DRAIN_S", 0.3)
    monkeypatch.setenv("SILENT", "1")
    began = time.monotonic()
    assert driver.drive(plan(producers=1, duration_s=0.1)) == 0
    assert time.monotonic() - began < 5


@pytest.mark.slow
def test_a_slow_start_takes_nothing_from_the_time_to_send(plan, monkeypatch, tmp_path):
    monkeypatch.setattr(driver, "GRACE_S", 0.3)
    tool = tmp_path / "kafka-tool"
    tool.write_text("#!/bin/sh\nsleep 2; echo begun; sleep 0.8; echo done\n")
    assert driver.drive(plan(producers=1, consumers=0, duration_s=0.8)) == 0
    told = json.loads((tmp_path / "out/producer-1.json").read_text())
    assert not told["stopped"] and told["exit_code"] == 0


def test_a_producer_that_falls_behind_is_ended(plan, monkeypatch, tmp_path):
    monkeypatch.setenv("SLEEP", "30")
    monkeypatch.setattr(driver, "GRACE_S", 0.2)
    began = time.monotonic()
    assert driver.drive(plan(consumers=0, duration_s=0.3)) == 0
    assert time.monotonic() - began < 5
    assert json.loads((tmp_path / "out/producer-1.json").read_text())["stopped"]


def test_told_to_end_it_ends_its_clients_and_notes_them(plan, tmp_path):
    plan(duration_s=30)
    environment = {"PATH": os.environ["PATH"], "SLEEP": "30"}
    unit = subprocess.Popen([sys.executable, driver.__file__, "clients", str(tmp_path / "plan.json")], env=environment)
    out = tmp_path / "out"
    until = time.monotonic() + 10
    while len(list(out.glob("*.json"))) < 3 and time.monotonic() < until:
        time.sleep(0.05)
    unit.terminate()
    assert unit.wait(5) == 0
    told = [json.loads(path.read_text()) for path in out.glob("*.json")]
    assert len(told) == 3 and all(client["stopped"] and client["ended_us"] for client in told)


def test_a_failure_is_told_with_its_words(plan, monkeypatch):
    monkeypatch.setenv("FAIL", "1")
    made = plan(consumers=0)
    assert driver.drive(made) == 1
    assert driver.failures(made) == [
        "producer-1 ended with 3: no such topic",
        "producer-2 ended with 3: no such topic",
    ]


def test_clients_of_several_hosts_start_together(plan):
    at = time.time() + 0.5
    driver.drive(plan(consumers=0, producers=1, start_at=at))
    assert json.loads((plan().output / "producer-1.json").read_text())["started_us"] / 1e6 >= at


def test_a_client_that_was_killed_is_told_in_words(plan, tmp_path):
    made = plan(producers=1, consumers=0)
    (tmp_path / "kafka-tool").write_text("#!/bin/sh\nkill -9 $$\n")
    assert driver.drive(made) == 1
    assert driver.failures(made) == ["producer-1 was killed (SIGKILL), as the kernel does when memory is full"]
    assert driver.ending(-15) == "was killed by signal 15"
