"""The wire protocol's encodings, and answers that are cut, wrong or late."""

from __future__ import annotations

import socket
import struct
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.roles.modules import load, load_kafka_utils

load_kafka_utils()

from ansible.module_utils import kafka_cluster as cluster  # noqa: E402
from ansible.module_utils import kafka_protocol as kafka  # noqa: E402

topics = load("roles/kafka/library/kafka_topic.py")


@given(st.integers(-(2**31), 2**31 - 1))
def test_varints_return(number):
    assert kafka.Reader(kafka.varint(number)).varint() == number


@given(st.integers(0, 2**32 - 1))
def test_unsigned_varints_return(number):
    assert kafka.Reader(kafka.uvarint(number)).uvarint() == number


def test_crc32c_is_rfc_3720s():
    assert kafka.crc32c(b"123456789") == 0xE3069283
    assert kafka.crc32c(bytes(32)) == 0x8A9136AA


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_records_return(values):
    assert kafka.record_values(b"".join(kafka.record_batch(value, 1) for value in values)) == values


@given(st.binary(max_size=100), st.integers(1, 60))
def test_a_fetch_may_end_within_a_batch(value, missing):
    whole = kafka.record_batch(value, 1)
    assert kafka.record_values(whole + whole[:-missing]) == [value]
    assert kafka.records(whole + whole[:-missing]) == ([value], 1)


def test_batch_is_as_documented():
    batch = kafka.record_batch(b"v", 5)
    offset, length, epoch, magic, crc = struct.unpack(">qiibI", batch[:21])
    assert (offset, length, epoch, magic) == (0, len(batch) - 12, -1, 2)
    assert crc == kafka.crc32c(batch[21:])


@pytest.mark.parametrize(
    ("text", "endpoints"),
    [
        ("a:1,b:2", [("a", 1), ("b", 2)]),
        (["a", " b:2 "], [("a", 9092), ("b", 2)]),
        ("[::1]:9", [("::1", 9)]),
    ],
)
def test_endpoints(text, endpoints):
    assert kafka.parse_endpoints(text, 9092) == endpoints


class Broker(threading.Thread):
    """Answers every request with the bytes given for its key; None closes the connection."""

    def __init__(self, answers):
        super().__init__(daemon=True)
        self.answers = answers
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.start()

    def run(self):
        while True:
            try:
                client, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        with client:
            while head := client.recv(4):
                request = client.recv(struct.unpack(">i", head)[0])
                key, _, correlation = struct.unpack(">hhi", request[:8])
                answer = self.answers.get(key)
                answer = answer(self.port) if callable(answer) else answer
                if answer is None:
                    return
                flexible = b"\0" if key == kafka.DESCRIBE_QUORUM else b""
                body = struct.pack(">i", correlation) + flexible + answer
                client.sendall(struct.pack(">i", len(body)) + body)


@pytest.fixture
def broker():
    made = []

    def make(answers):
        made.append(Broker(answers))
        return made[-1]

    yield make
    for one in made:
        one.socket.close()


VERSIONS = struct.pack(">hi", 0, 1) + struct.pack(">hhh", 3, 0, 12)


def metadata(brokers, partitions, dead=()):
    """Return a function of the fake's own port: all brokers are this one, but for the dead."""
    return lambda port: metadata_bytes(brokers, partitions, lambda broker: 1 if broker in dead else port)


def metadata_bytes(brokers, partitions, port_of):
    out = kafka.Writer().pack("i", 0)
    out.array(brokers, lambda b: out.pack("i", b).string("127.0.0.1").pack("i", port_of(b)).string(None))
    out.string("cluster").pack("i", 1)
    out.pack("i", 1).pack("h", 0).string("topic").pack("b", 0)

    def partition(item):
        index, leader, replicas, isr = item
        out.pack("hii", 0, index, leader)
        out.array(replicas, lambda b: out.pack("i", b)).array(isr, lambda b: out.pack("i", b))

    out.array(partitions, partition)
    return out.bytes()


def quorum(leader, ends):
    out = kafka.Writer().pack("h", 0).uvarint(2).uvarint(2).raw(b"t").uvarint(2)
    out.pack("ihiiq", 0, 0, leader, 3, max(ends.values()))
    out.uvarint(len(ends) + 1)
    for node, end in ends.items():
        out.pack("iqqq", node, end, 0, 0).raw(b"\0")
    return out.uvarint(1).raw(b"\0\0\0").bytes()


MIN_ISR = (
    kafka.Writer()
    .pack("ii", 0, 1)
    .pack("h", 0)
    .string(None)
    .pack("b", 2)
    .string("topic")
    .pack("i", 1)
    .string("min.insync.replicas")
    .string("2")
    .pack("bbb", 0, 0, 0)
    .pack("i", 0)
    .bytes()
)


def look(made, brokers=(1, 2)):
    return cluster.look([f"127.0.0.1:{made.port}"], list(brokers), 10)


def test_healthy_cluster(broker):
    answers = {18: VERSIONS, 3: metadata([1, 2], [(0, 1, [1, 2], [1, 2])]), 55: quorum(1, {1: 100, 2: 95})}
    report = look(broker(answers))
    assert report.problems == []
    assert report.as_dict()["leader"] == 1 and report.as_dict()["lag"] == 5
    assert [one["id"] for one in report.as_dict()["brokers"]] == [1, 2]


def test_a_registered_broker_that_is_gone_is_named(broker):
    answers = {18: VERSIONS, 3: metadata([1, 2], [], dead=[2]), 55: quorum(1, {1: 1})}
    assert "broker 2: 127.0.0.1:1 does not answer" in "; ".join(look(broker(answers)).problems)


def test_everything_that_may_be_wrong_is_said(broker):
    answers = {
        18: VERSIONS,
        3: metadata([1], [(0, 1, [1, 2], [1]), (1, -1, [2], [])]),
        55: quorum(1, {1: 100, 2: 50}),
        32: MIN_ISR,
    }
    text = "; ".join(look(broker(answers)).problems)
    assert "brokers not registered: 2" in text
    assert "1 partitions without a leader: topic-1" in text
    assert "2 partitions under-replicated: topic-0, topic-1" in text
    assert "under min.insync.replicas" in text
    assert "50 records behind" in text


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({}, "closed the connection"),
        ({18: VERSIONS[:3]}, "cut short"),
        ({18: VERSIONS, 3: b"\0\0"}, "cut short"),
        ({18: VERSIONS, 3: metadata([1, 2], []), 55: quorum(-1, {1: 1})}, "no leader"),
    ],
)
def test_bad_answers_become_problems(broker, answers, message):
    assert message in "; ".join(look(broker(answers)).problems)


def test_a_server_of_another_protocol(broker):
    server = socket.create_server(("127.0.0.1", 0))

    def http():
        client, _ = server.accept()
        with client:
            client.recv(100)
            client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    threading.Thread(target=http, daemon=True).start()
    with pytest.raises(kafka.KafkaError, match="does not speak Kafka's protocol"):
        kafka.connect_any([("127.0.0.1", server.getsockname()[1])])
    server.close()


def test_the_next_endpoint_is_asked(broker):
    good = broker({18: VERSIONS})
    with kafka.connect_any([("127.0.0.1", 1), ("127.0.0.1", good.port)]) as connection:
        assert connection.api_versions() == {3: (0, 12)}


def test_a_request_may_take_the_time_that_the_broker_was_given_for_it(broker):
    def slowly(_port):
        time.sleep(0.2)
        return kafka.Writer().pack("i", 0).pack("i", 1).string("t").pack("h", 0).bytes()

    slow = broker({20: slowly})
    with kafka.Connection("127.0.0.1", slow.port, timeout=0.05) as connection:
        connection.delete_topic("t", timeout_s=5.0)
    hasty = kafka.Connection("127.0.0.1", slow.port, timeout=0.05)
    with hasty as connection, pytest.raises(kafka.KafkaError, match="stopped answering"):
        connection.delete_topic("t", timeout_s=0.05)


def test_waiting_gives_up_early(broker):
    class DiedError(Exception):
        pass

    def died():
        raise DiedError

    with pytest.raises(DiedError):
        cluster.until_healthy(["127.0.0.1:1"], [], lag=10, timeout=60, give_up=died)


def test_verify_uses_every_broker_as_a_leader():
    from tests.roles.modules import load

    verify = load("roles/kafka/library/kafka_verify.py")
    for count in range(1, 8):
        partitions = verify.assignment(list(range(1, count + 1)))
        assert [replicas[0] for replicas in partitions] == list(range(1, count + 1))
        assert all(len(set(replicas)) == len(replicas) == min(3, count) for replicas in partitions)


def test_the_end_offsets_are_what_each_leader_says(broker):
    def told(code, offset):
        return kafka.Writer().pack("i", 1).string("topic").pack("iihqq", 1, 0, code, -1, offset).bytes()

    fake = broker({3: metadata([1], [(0, 1, [1], [1]), (1, 1, [1], [1])]), 2: told(0, 42)})
    with kafka.Connection("127.0.0.1", fake.port) as connection:
        found = connection.metadata(["topic"])
    assert kafka.end_offsets(found, "topic") == {0: 42, 1: 42}
    fake.answers[2] = told(6, -1)
    with pytest.raises(kafka.KafkaError, match="NOT_LEADER_OR_FOLLOWER"):
        kafka.end_offsets(found, "topic")


def test_more_replicas_than_brokers_are_refused_with_the_way_out(broker):
    no_topic = metadata([1], [])(9).replace(
        struct.pack(">iih", 1, 1, 0), struct.pack(">iih", 1, 1, topics.UNKNOWN_TOPIC)
    )
    why = "The target replication factor of 3 cannot be reached because only 1 broker(s) are registered."
    refused = kafka.Writer().pack("ii", 0, 1).string("topic").pack("h", topics.INVALID_REPLICATION_FACTOR).string(why)
    made = broker({18: VERSIONS, 3: no_topic, 19: refused.bytes()})
    wanted = {"name": "topic", "partitions": 1, "replication": 3, "exact": True, "configs": {}, "timeout": 1}
    with (
        kafka.connect_any([("127.0.0.1", made.port)]) as connection,
        pytest.raises(kafka.KafkaError, match=r"only 1 broker.* Ask for a smaller replication"),
    ):
        topics.present(connection, wanted, check_mode=False)
