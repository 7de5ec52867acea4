"""Files of OpenMessaging Benchmark as options of kafka-throughput: what is done, what is said, what is refused."""

from __future__ import annotations

import pytest

from labtool import openmessaging, stacks
from labtool.errors import ConfigError, LabtoolError, UsageError
from labtool.experiment.settle import settled

WORKLOAD = """\
name: 2 topics / 3 partitions
topics: 2
partitionsPerTopic: 3
keyDistributor: "KEY_ROUND_ROBIN"
messageSize: 200
payloadFile: "payload/payload-200b.data"
subscriptionsPerTopic: 2
consumerPerSubscription: 1
producersPerTopic: 4
producerRate: 50000
consumerBacklogSizeGB: 0
testDurationMinutes: 15
"""

DRIVER = """\
name: Kafka-throughput
driverClass: io.openmessaging.benchmark.driver.kafka.KafkaBenchmarkDriver
replicationFactor: 3
reset: true
topicConfig: |
  min.insync.replicas=2
commonConfig: |
  bootstrap.servers=localhost:9092
  default.api.timeout.ms=600000
producerConfig: |
  # a comment
  acks=all
  linger.ms = 1
  batch.size: 1048576
consumerConfig: |
  auto.offset.reset=earliest
  enable.auto.commit=false
"""


@pytest.fixture
def files(tmp_path):
    def write(workload=WORKLOAD, driver=DRIVER):
        folder = tmp_path / "workloads"
        folder.mkdir(exist_ok=True)
        (folder / "workload.yaml").write_text(workload)
        (tmp_path / "driver.yaml").write_text(driver)
        return {"omb_workload": str(folder / "workload.yaml"), "omb_driver": str(tmp_path / "driver.yaml")}

    return write


def settle(typed, minutes=None):
    return settled(stacks.workload("kafka-throughput"), typed, minutes)


def refused(typed, minutes=None):
    with pytest.raises(LabtoolError) as told:
        settle(typed, minutes)
    return str(told.value)


def test_a_workload_and_a_driver_become_options(files):
    found = settle(files())
    expected = {
        "client": "worker",
        "topics": 2,
        "partitions": 3,
        "keys": "round-robin",
        "record_size": 200,
        "subscriptions": 2,
        "consumers": 1,
        "producers": 4,
        "rate": 50000,
        "replication": 3,
        "acks": "all",
        "topic_properties": "min.insync.replicas=2",
        "properties": "default.api.timeout.ms=600000 linger.ms=1 batch.size=1048576",
        "consumer_properties": ("default.api.timeout.ms=600000 auto.offset.reset=earliest enable.auto.commit=false"),
    }
    assert {name: found.values[name] for name in expected} == expected
    # A file that does not say how long its warm-up is has OMB's minute.
    assert (found.seconds, found.warmup_s, found.latency) == (900, 60, "intended")


def test_what_is_done_in_another_way_is_said(files):
    brokers, payload = settle(files()).notes
    assert "bootstrap.servers=localhost:9092 is left out: the lab's own brokers" in brokers
    assert "payload/payload-200b.data is not there: records are of random bytes" in payload


def test_its_payload_is_found_beside_the_folder_of_workloads(files, tmp_path):
    typed = files()
    (tmp_path / "payload").mkdir()
    (tmp_path / "payload/payload-200b.data").write_bytes(b"x" * 200)
    found = settle(typed)
    assert found.values["payload"] == str(tmp_path / "payload/payload-200b.data") and len(found.notes) == 1
    (tmp_path / "payload/payload-200b.data").write_bytes(b"x" * 100)
    assert "has 100 bytes, and a record 200" in refused(typed)


def test_random_payloads(files):
    text = WORKLOAD + "useRandomizedPayloads: true\nrandomBytesRatio: 0.5\nrandomizedPayloadPoolSize: 1000\n"
    found = settle(files(workload=text))
    assert (found.values["random"], found.values["pool"], found.values["payload"]) == (0.5, 1000, None)
    assert "randomizedPayloadPoolSize above 0" in refused(files(workload=text.replace("1000\n", "0\n")))


def test_without_its_payload_a_compressed_load_would_be_another_one(files):
    typed = files(driver=DRIVER.replace("acks=all", "acks=all\n  compression.type=lz4"))
    assert "how it compresses depends on it" in refused(typed)


def test_what_was_typed_wins_and_is_said(files):
    found = settle({**files(), "rate": "300", "producers": "4"})
    assert (found.values["rate"], found.values["producers"]) == (300, 4)
    assert [note for note in found.notes if "typed" in note] == [
        "--rate 300 was typed, and is used instead of producerRate: 50000"
    ]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("topics: 2", "topcis: 2"), "unknown field of an OpenMessaging Benchmark workload: topcis"),
        (("messageSize: 200\n", ""), "messageSize is missing"),
        (("messageSize: 200", "messageSize: 1Kb"), "messageSize: must be a whole number, 1 or more (it is '1Kb')"),
        (
            ("KEY_ROUND_ROBIN", "KEY_RANDOM"),
            "keyDistributor: must be NO_KEY, KEY_ROUND_ROBIN or RANDOM_NANO (it is 'KEY_RANDOM')",
        ),
        (("topics: 2", "topics: 500"), "workload.yaml: topics: 500 is not a whole number from 1 to 100"),
        (("producerRate: 50000", "producerRate: 0"), "asks to find the highest rate"),
        (("SizeGB: 0", "SizeGB: 3"), "consumerBacklogSizeGB: 3: consumers are not paused"),
        (("testDurationMinutes: 15", "testDurationMinutes: 0"), "has no end\n  name the window with --minutes N"),
        (("name: 2", "name: [2"), "workload.yaml:"),
    ],
)
def test_a_workload_that_is_not_done_is_refused(files, change, told):
    assert told in refused(files(workload=WORKLOAD.replace(*change)))


def test_the_nearest_field_is_named(files):
    assert "did you mean topics?" in refused(files(workload=WORKLOAD.replace("topics: 2", "topcis: 2")))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("driver.kafka.Kafka", "driver.pulsar.Pulsar"), "PulsarBenchmarkDriver is not Kafka's"),
        (("acks=all", "acks=2"), "driver.yaml: producerConfig: '2' is not one of all, 1, 0"),
        (("acks=all", "security.protocol=SASL_SSL"), "speak neither TLS nor SASL"),
        (("acks=all", "transactional.id=x"), "there are no transactions here"),
        (("acks=all", "sasl=a b"), "'a b' is no single word"),
        (("replicationFactor: 3\n", ""), "replicationFactor is missing"),
        (("replicationFactor", "replicationFaktor"), "did you mean replicationFactor"),
    ],
)
def test_a_driver_that_is_not_done_is_refused(files, change, told):
    assert told in refused(files(driver=DRIVER.replace(*change)))


def test_a_rate_that_is_typed_lets_a_search_be_a_load(files):
    typed = files(workload=WORKLOAD.replace("producerRate: 50000", "producerRate: 0"))
    assert settle({**typed, "rate": "500"}).values["rate"] == 500
    fastest = settle({**typed, "rate": "-1"})
    assert fastest.latency is None, "nothing was due"


def test_a_window_that_is_typed_ends_a_load_without_end(files):
    typed = files(workload=WORKLOAD.replace("testDurationMinutes: 15", "testDurationMinutes: 0"))
    assert settle(typed, 5.0).seconds is None


def test_kafkas_own_tools_cannot_do_it_all(files):
    assert "--topics 2: Kafka's performance tools cannot do that" in refused({**files(), "client": "perf-test"})
    assert "--producers 65: a JVM each" in refused({"producers": "65"})
    assert settle({"topics": "3", "client": "worker"}).values["topics"] == 3


def test_without_files_nothing_changes():
    found = settle({"rate": "5"})
    assert found.values == stacks.workload("kafka-throughput").values({"rate": 5})
    assert (found.seconds, found.warmup_s, found.notes, found.latency) == (None, None, (), None)


def test_acks_of_minus_one_are_all(files):
    assert settle(files(driver=DRIVER.replace("acks=all", "acks=-1"))).values["acks"] == "all"


def test_properties_are_read_as_java_reads_them():
    text = "! no\n#no\n\na=1\nb : 2\nc 3\n d = x=y \ne=1,\\\n   2\nf\n"
    assert list(openmessaging.properties(text)) == [
        ("a", "1"), ("b", "2"), ("c", "3"), ("d", "x=y"), ("e", "1,2"), ("f", ""),
    ]  # fmt: skip


def test_their_names_are_those_of_the_files(files, tmp_path):
    files()
    names = openmessaging.names(tmp_path / "workloads/workload.yaml", tmp_path / "driver.yaml")
    assert names == ("2 topics / 3 partitions", "Kafka-throughput")
    assert openmessaging.names(None, None) == (None, "Kafka")


def test_errors_are_of_use_or_of_files(files):
    with pytest.raises(ConfigError):
        settle(files(workload="[]"))
    with pytest.raises(UsageError):
        settle({"omb_workload": "nowhere.yaml"})
