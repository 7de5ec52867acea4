"""As much of Kafka's wire protocol as it takes to ask a cluster how it is, and to write and read a record.

A request costs milliseconds where a command-line tool costs a JVM's start of one to two seconds. The versions of the
requests are those that brokers from 3.0 to 4.x all speak (KIP-896 removed older ones in 4.0). Layouts are from
https://kafka.apache.org/protocol and from clients/src/main/resources/common/message/ of Kafka's source.

Plain-text listeners only.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from typing import Any

PRODUCE, FETCH, LIST_OFFSETS, METADATA, API_VERSIONS = 0, 1, 2, 3, 18
CREATE_TOPICS, DELETE_TOPICS, DESCRIBE_CONFIGS, DESCRIBE_QUORUM = 19, 20, 32, 55
CLIENT = "labtool"
LARGEST_ANSWER = 64 << 20

ERRORS = {
    3: "UNKNOWN_TOPIC_OR_PARTITION",
    5: "LEADER_NOT_AVAILABLE",
    6: "NOT_LEADER_OR_FOLLOWER",
    7: "REQUEST_TIMED_OUT",
    17: "INVALID_TOPIC_EXCEPTION",
    19: "NOT_ENOUGH_REPLICAS",
    29: "TOPIC_AUTHORIZATION_FAILED",
    35: "UNSUPPORTED_VERSION",
    36: "TOPIC_ALREADY_EXISTS",
    37: "INVALID_PARTITIONS",
    38: "INVALID_REPLICATION_FACTOR",
    39: "INVALID_REPLICA_ASSIGNMENT",
    41: "NOT_CONTROLLER",
    72: "LISTENER_NOT_FOUND",
}

Broker = namedtuple("Broker", "id host port")
Partition = namedtuple("Partition", "topic index leader replicas isr error")
Metadata = namedtuple("Metadata", "cluster_id brokers partitions topic_errors")
Voter = namedtuple("Voter", "id end_offset caught_up_ms")
Quorum = namedtuple("Quorum", "leader epoch high_watermark voters observers")


class KafkaError(Exception):
    """A broker could not be reached, or answered with an error."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


def error_name(code: int) -> str:
    """Return the protocol's name of an error code."""
    return ERRORS.get(code, f"error {code}")


def fail(what: str, code: int) -> None:
    """Raise `KafkaError` unless the code is 0."""
    if code:
        raise KafkaError(f"{what}: {error_name(code)}", code)


class Writer:
    """Builds a request's body."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def pack(self, form: str, *values: int) -> Writer:
        """Append big-endian numbers."""
        self.parts.append(struct.pack(">" + form, *values))
        return self

    def raw(self, data: bytes) -> Writer:
        """Append bytes as they are."""
        self.parts.append(data)
        return self

    def string(self, text: str | None) -> Writer:
        """Append a (nullable) string."""
        if text is None:
            return self.pack("h", -1)
        data = text.encode()
        return self.pack("h", len(data)).raw(data)

    def array(self, items: list, write: Callable[[Any], object]) -> Writer:
        """Append the number of items, and each by `write(item)`."""
        self.pack("i", len(items))
        for item in items:
            write(item)
        return self

    def uvarint(self, value: int) -> Writer:
        """Append an unsigned variable-length number."""
        return self.raw(uvarint(value))

    def bytes(self) -> bytes:
        """Return what was appended."""
        return b"".join(self.parts)


class Reader:
    """Takes an answer apart; `KafkaError` where it ends too early."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes."""
        if size < 0 or self.at + size > len(self.data):
            raise KafkaError("the answer was cut short")
        self.at += size
        return self.data[self.at - size : self.at]

    def unpack(self, form: str) -> Any:
        """Return the next number (or tuple of numbers)."""
        values = struct.unpack(">" + form, self.take(struct.calcsize(">" + form)))
        return values[0] if len(values) == 1 else values

    def string(self) -> str | None:
        """Return a (nullable) string."""
        size = self.unpack("h")
        return None if size < 0 else self.take(size).decode()

    def array(self, read: Callable[[], Any]) -> list:
        """Return a list of `read()`; a null array is empty."""
        return [read() for _ in range(max(self.unpack("i"), 0))]

    def uvarint(self) -> int:
        """Return an unsigned variable-length number."""
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                return value

    def varint(self) -> int:
        """Return a zig-zag encoded number."""
        value = self.uvarint()
        return (value >> 1) ^ -(value & 1)

    def compact_array(self, read: Callable[[], Any]) -> list:
        """Return a list in the flexible versions' form."""
        return [read() for _ in range(max(self.uvarint() - 1, 0))]

    def compact_string(self) -> str | None:
        """Return a string in the flexible versions' form."""
        size = self.uvarint()
        return None if size == 0 else self.take(size - 1).decode()

    def tags(self) -> None:
        """Skip tagged fields."""
        for _ in range(self.uvarint()):
            self.uvarint()
            self.take(self.uvarint())


def uvarint(value: int) -> bytes:
    """Encode an unsigned variable-length number."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def varint(value: int) -> bytes:
    """Encode a signed number by zig-zag."""
    return uvarint((value << 1) ^ (value >> 63))


def crc32c(data: bytes) -> int:
    """Return the CRC-32C (Castagnoli, RFC 3720) of `data`. Slow: for records of some bytes."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def record_batch(value: bytes, now_ms: int) -> bytes:
    """Return a batch (magic 2) of one record without a key."""
    record = b"\0" + varint(0) + varint(0) + varint(-1) + varint(len(value)) + value + varint(0)
    record = varint(len(record)) + record
    checked = struct.pack(">hiqqqhii", 0, 0, now_ms, now_ms, -1, -1, -1, 1) + record
    after_length = struct.pack(">ibI", -1, 2, crc32c(checked)) + checked
    return struct.pack(">qi", 0, len(after_length)) + after_length


def record_values(batches: bytes) -> list[bytes]:
    """Return the values of the records in a fetched set of uncompressed batches."""
    return records(batches)[0]


def records(batches: bytes) -> tuple[list[bytes], int | None]:
    """Return the values, and the offset after the last of them; None where there is none."""
    values, after = [], None
    reader = Reader(batches)
    while len(batches) - reader.at > 12:
        base, length = reader.unpack("qi")
        if len(batches) - reader.at < length:
            break  # a fetch may end within a batch
        batch = Reader(reader.take(length))
        batch.take(4 + 1 + 4 + 2)
        after = base + batch.unpack("i") + 1
        batch.take(8 + 8 + 8 + 2 + 4)
        for _ in range(batch.unpack("i")):
            record = Reader(batch.take(batch.varint()))
            record.take(1)
            record.varint()
            record.varint()
            record.take(max(record.varint(), 0))
            values.append(record.take(max(record.varint(), 0)))
    return values, after


class Connection:
    """One connection to one broker or controller."""

    def __init__(self, host: str, port: int, timeout: float = 5.0) -> None:
        self.name = f"{host}:{port}"
        self.timeout = timeout
        self.correlation = 0
        try:
            self.socket = socket.create_connection((host, port), timeout=timeout)
        except OSError as error:
            raise KafkaError(f"{self.name} does not answer ({error})") from None

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it; never fails."""
        with contextlib.suppress(OSError):
            self.socket.close()

    def _receive(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            if not part:
                raise KafkaError(f"{self.name} closed the connection")
            data += part
        return bytes(data)

    def ask(self, key: int, version: int, body: bytes, *, flexible: bool = False, within_s: float = 0.0) -> Reader:
        """Send a request, which the broker may take `within_s` seconds for, and return its answer's body."""
        self.correlation += 1
        header = Writer().pack("hhi", key, version, self.correlation).string(CLIENT)
        if flexible:
            header.uvarint(0)
        message = header.bytes() + body
        self.socket.settimeout(self.timeout + within_s)
        try:
            self.socket.sendall(struct.pack(">i", len(message)) + message)
            size = struct.unpack(">i", self._receive(4))[0]
            if not 4 <= size <= LARGEST_ANSWER:
                raise KafkaError(f"{self.name} does not speak Kafka's protocol")
            answer = Reader(self._receive(size))
        except OSError as error:
            raise KafkaError(f"{self.name} stopped answering ({error})") from None
        if answer.unpack("i") != self.correlation:
            raise KafkaError(f"{self.name} answered another request")
        if flexible:
            answer.tags()
        return answer

    def api_versions(self) -> dict[int, tuple[int, int]]:
        """Return the requests it answers: key → lowest and highest version."""
        answer = self.ask(API_VERSIONS, 0, b"")
        fail(self.name, answer.unpack("h"))
        return {key: (low, high) for key, low, high in answer.array(lambda: answer.unpack("hhh"))}

    def metadata(self, topics: list[str] | None = None) -> Metadata:
        """Return brokers and partitions (of all topics for None); asks a broker, not a controller."""
        body = Writer()
        if topics is None:
            body.pack("i", -1)
        else:
            body.array(topics, body.string)
        body.pack("b", 0)  # no automatic creation
        answer = self.ask(METADATA, 4, body.bytes())
        answer.unpack("i")

        def broker() -> Broker:
            found = Broker(answer.unpack("i"), answer.string(), answer.unpack("i"))
            answer.string()
            return found

        brokers = answer.array(broker)
        cluster = answer.string()
        answer.unpack("i")
        partitions: list[Partition] = []
        errors: dict[str, int] = {}

        def numbers() -> tuple[int, ...]:
            return tuple(answer.array(lambda: answer.unpack("i")))

        def topic() -> None:
            code, name = answer.unpack("h"), answer.string()
            answer.unpack("b")
            if code:
                errors[name] = code
            for error, index, leader in iter_array(answer, "hii"):
                partitions.append(Partition(name, index, leader, numbers(), numbers(), error))

        answer.array(topic)
        return Metadata(cluster, brokers, partitions, errors)

    def quorum(self) -> Quorum:
        """Return the metadata quorum as its leader sees it; a broker forwards this, a follower refuses it."""
        body = Writer().uvarint(2).raw(b"\x13__cluster_metadata").uvarint(2).pack("i", 0).raw(b"\0\0\0")
        answer = self.ask(DESCRIBE_QUORUM, 1, body.bytes(), flexible=True)
        fail(self.name, answer.unpack("h"))
        found: list[Quorum] = []

        def replica() -> Voter:
            number, end_offset, _, caught_up = answer.unpack("iqqq")
            answer.tags()
            return Voter(number, end_offset, caught_up)

        def partition() -> None:
            _, code, leader, epoch, high_watermark = answer.unpack("ihiiq")
            fail(self.name, code)
            voters = answer.compact_array(replica)
            observers = answer.compact_array(replica)
            answer.tags()
            found.append(Quorum(leader, epoch, high_watermark, voters, observers))

        def topic() -> None:
            answer.compact_string()
            answer.compact_array(partition)
            answer.tags()

        answer.compact_array(topic)
        if not found:
            raise KafkaError(f"{self.name} knows no metadata quorum")
        return found[0]

    def create_topic(
        self,
        name: str,
        *,
        assignment: list[list[int]] | None = None,
        partitions: int = -1,
        replication: int = -1,
        configs: dict[str, str] | None = None,
        timeout_s: float = 10.0,
    ) -> None:
        """Make a topic, by numbers or by `assignment` (the replicas of each partition, the leader first)."""
        body = Writer().pack("i", 1).string(name)
        body.pack("ih", *((-1, -1) if assignment else (partitions, replication)))
        given = list(enumerate(assignment or []))
        body.array(given, lambda item: body.pack("i", item[0]).array(item[1], lambda broker: body.pack("i", broker)))
        body.array(list((configs or {}).items()), lambda item: body.string(item[0]).string(item[1]))
        body.pack("ib", int(timeout_s * 1000), 0)
        answer = self.ask(CREATE_TOPICS, 4, body.bytes(), within_s=timeout_s)
        answer.unpack("i")
        for _ in range(answer.unpack("i")):
            answer.string()
            code, message = answer.unpack("h"), answer.string()
            if code:
                raise KafkaError(f"topic {name}: {message or error_name(code)}", code)

    def delete_topic(self, name: str, timeout_s: float = 10.0) -> None:
        """Remove a topic."""
        body = Writer()
        body.array([name], body.string).pack("i", int(timeout_s * 1000))
        answer = self.ask(DELETE_TOPICS, 3, body.bytes(), within_s=timeout_s)
        answer.unpack("i")
        for _ in range(answer.unpack("i")):
            fail(f"topic {answer.string()}", answer.unpack("h"))

    def topic_config(self, topics: list[str], key: str) -> dict[str, str]:
        """Return the value of one setting of each topic."""
        body = Writer()
        body.array(topics, lambda name: body.pack("b", 2).string(name).array([key], body.string)).pack("b", 0)
        answer = self.ask(DESCRIBE_CONFIGS, 1, body.bytes())
        answer.unpack("i")
        values: dict[str, str] = {}

        def entry(topic: str) -> None:
            name, value = answer.string(), answer.string()
            answer.unpack("bbb")
            for _ in range(answer.unpack("i")):
                answer.string(), answer.string(), answer.unpack("b")
            if name == key and value is not None:
                values[topic] = value

        def resource() -> None:
            code, message = answer.unpack("h"), answer.string()
            answer.unpack("b")
            topic = answer.string() or ""
            if code:
                raise KafkaError(f"topic {topic}: {message or error_name(code)}", code)
            answer.array(lambda: entry(topic))

        answer.array(resource)
        return values

    def produce(self, topic: str, partition: int, value: bytes, timeout_s: float = 10.0) -> int:
        """Write one record with acks=all and return its offset; ask the partition's leader."""
        batch = record_batch(value, int(time.time() * 1000))
        body = Writer().string(None).pack("hi", -1, int(timeout_s * 1000))
        body.pack("i", 1).string(topic).pack("iii", 1, partition, len(batch)).raw(batch)
        answer = self.ask(PRODUCE, 3, body.bytes(), within_s=timeout_s)
        answer.unpack("i")
        answer.string()
        answer.unpack("i")
        _, code, offset, _ = answer.unpack("ihqq")
        fail(f"{self.name} refused a record for {topic}-{partition}", code)
        return offset

    def end_offset(self, topic: str, partition: int) -> int:
        """Return the offset that the partition's next record will have; ask the leader."""
        body = Writer().pack("i", -1)
        body.pack("i", 1).string(topic).pack("iiq", 1, partition, -1)
        answer = self.ask(LIST_OFFSETS, 1, body.bytes())
        answer.unpack("i")
        answer.string()
        answer.unpack("i")
        _, code, _, offset = answer.unpack("ihqq")
        fail(f"{self.name} did not tell the end of {topic}-{partition}", code)
        return int(offset)

    def fetch(self, topic: str, partition: int, offset: int, wait_s: float = 1.0) -> list[bytes]:
        """Return the values of the records from `offset` on, as many as one answer holds; ask the leader."""
        return self.fetch_on(topic, partition, offset, wait_s)[0]

    def fetch_on(self, topic: str, partition: int, offset: int, wait_s: float = 1.0) -> tuple[list[bytes], int]:
        """Return the values, those of earlier records of the same batch too, and the offset to go on with."""
        body = Writer().pack("iiiib", -1, int(wait_s * 1000), 1, 1 << 20, 0)
        body.pack("i", 1).string(topic).pack("iiqi", 1, partition, offset, 1 << 20)
        answer = self.ask(FETCH, 4, body.bytes(), within_s=wait_s)
        answer.unpack("i")
        answer.unpack("i")
        answer.string()
        answer.unpack("i")
        _, code, _, _ = answer.unpack("ihqq")
        fail(f"{self.name} refused to read {topic}-{partition}", code)
        answer.array(lambda: answer.unpack("qq"))
        values, after = records(answer.take(max(answer.unpack("i"), 0)))
        return values, offset if after is None else after


def end_offsets(metadata: Metadata, topic: str, timeout: float = 5.0) -> dict[int, int]:
    """Return each partition's end offset: how many records were ever written to it, by what its leader says."""
    leaders = {broker.id: broker for broker in metadata.brokers}
    found = {}
    for partition in metadata.partitions:
        if partition.topic == topic:
            leader = leaders.get(partition.leader)
            if leader is None:
                raise KafkaError(f"{topic}-{partition.index} has no leader")
            with Connection(leader.host, leader.port, timeout) as connection:
                found[partition.index] = connection.end_offset(topic, partition.index)
    return found


def iter_array(answer: Reader, form: str) -> Iterator[tuple[int, ...]]:
    """Yield the fixed head of each item of an array; the caller reads the rest of the item before the next."""
    for _ in range(max(answer.unpack("i"), 0)):
        yield answer.unpack(form)


def parse_endpoints(text: str | list[str], default_port: int) -> list[tuple[str, int]]:
    """Read `host:port` endpoints, from a list or separated by commas."""
    words = text.split(",") if isinstance(text, str) else text
    found = []
    for word in (part.strip() for part in words):
        host, colon, port = word.rpartition(":")
        found.append((host.strip("[]"), int(port)) if colon and port.isdigit() else (word, default_port))
    return found


def connect_any(endpoints: list[tuple[str, int]], timeout: float = 5.0) -> Connection:
    """Return a connection to the first endpoint that answers Kafka's protocol."""
    problems = []
    for host, port in endpoints:
        try:
            connection = Connection(host, port, timeout)
        except KafkaError as error:
            problems.append(str(error))
            continue
        try:
            connection.api_versions()
        except KafkaError as error:
            connection.close()
            problems.append(str(error))
        else:
            return connection
    raise KafkaError("; ".join(problems) or "there is no endpoint to ask")
