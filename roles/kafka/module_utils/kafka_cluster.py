"""What is wrong with a Kafka cluster, in sentences: asked over its own protocol, polled to a deadline."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ansible.module_utils.kafka_protocol import (
    Broker,
    Connection,
    KafkaError,
    Metadata,
    Quorum,
    connect_any,
    parse_endpoints,
)

POLL_S = 0.5


class Report:
    """One look at a cluster."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.metadata: Metadata | None = None
        self.quorum: Quorum | None = None
        self.under_min_isr: list[str] = []

    @property
    def under_replicated(self) -> list[str]:
        """Names of the partitions that miss a replica."""
        found = self.metadata.partitions if self.metadata else []
        return [f"{p.topic}-{p.index}" for p in found if len(p.isr) < len(p.replicas)]

    @property
    def offline(self) -> list[str]:
        """Names of the partitions without a leader."""
        found = self.metadata.partitions if self.metadata else []
        return [f"{p.topic}-{p.index}" for p in found if p.leader < 0]

    @property
    def lag(self) -> int:
        """Records of the metadata log that the slowest voter or broker is behind."""
        if self.quorum is None:
            return 0
        replicas = self.quorum.voters + self.quorum.observers
        ends = {replica.id: replica.end_offset for replica in replicas}
        leader_end = ends.get(self.quorum.leader, self.quorum.high_watermark)
        return max([leader_end - end for end in ends.values() if end >= 0] + [0])

    def as_dict(self) -> dict:
        """Return it as plain data."""
        result: dict = {
            "healthy": not self.problems,
            "problems": self.problems,
            "under_replicated": self.under_replicated,
            "under_min_isr": self.under_min_isr,
            "offline": self.offline,
        }
        if self.metadata:
            result["cluster_id"] = self.metadata.cluster_id
            result["brokers"] = [{"id": b.id, "address": f"{b.host}:{b.port}"} for b in self.metadata.brokers]
            result["topics"] = len({p.topic for p in self.metadata.partitions})
            result["partitions"] = len(self.metadata.partitions)
        if self.quorum:
            result["leader"] = self.quorum.leader
            result["epoch"] = self.quorum.epoch
            result["voters"] = sorted(voter.id for voter in self.quorum.voters)
            result["lag"] = self.lag
        return result


def some(names: list[str]) -> str:
    """Return the first few names, and how many more there are."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def below_min_isr(connection: Connection, metadata: Metadata) -> list[str]:
    """Return the partitions with fewer in-sync replicas than their topic's min.insync.replicas."""
    short = [p for p in metadata.partitions if len(p.isr) < len(p.replicas)]
    if not short:
        return []
    least = connection.topic_config(sorted({p.topic for p in short}), "min.insync.replicas")
    return [f"{p.topic}-{p.index}" for p in short if len(p.isr) < int(least.get(p.topic, "1"))]


def silent(brokers: list[Broker], timeout: float = 3.0) -> list[str]:
    """Return a sentence for each registered broker that does not answer: it may have died since its last heartbeat."""

    def ask(broker: Broker) -> str:
        try:
            with Connection(broker.host, broker.port, timeout) as connection:
                connection.api_versions()
        except KafkaError as error:
            return f"broker {broker.id}: {error}"
        return ""

    with ThreadPoolExecutor(min(max(len(brokers), 1), 16)) as pool:
        return [problem for problem in pool.map(ask, brokers) if problem]


def look(bootstrap: list[str], brokers: list[int], lag: int, default_port: int = 9092) -> Report:
    """Ask the cluster once. `brokers` are the node ids that must be registered; `lag` the most that is normal."""
    report = Report()
    try:
        connection = connect_any(parse_endpoints(bootstrap, default_port))
        with connection:
            report.metadata = connection.metadata()
            report.quorum = connection.quorum()
            report.under_min_isr = below_min_isr(connection, report.metadata)
    except KafkaError as error:
        report.problems.append(str(error))
        return report
    missing = sorted(set(brokers) - {broker.id for broker in report.metadata.brokers})
    if missing:
        report.problems.append(f"brokers not registered: {', '.join(map(str, missing))}")
    report.problems += silent(report.metadata.brokers)
    for what, names in (
        ("without a leader", report.offline),
        ("under min.insync.replicas", report.under_min_isr),
        ("under-replicated", report.under_replicated),
    ):
        if names:
            report.problems.append(f"{len(names)} partitions {what}: {some(names)}")
    if report.quorum.leader < 0:
        report.problems.append("the metadata quorum has no leader")
    elif report.lag > lag:
        report.problems.append(f"the metadata quorum is {report.lag} records behind")
    return report


def until_healthy(
    bootstrap: list[str],
    brokers: list[int],
    *,
    lag: int,
    timeout: float,
    give_up: Callable[[], None] = lambda: None,
) -> Report:
    """Look until nothing is wrong or `timeout` seconds are over; `give_up` may raise earlier."""
    deadline = time.monotonic() + timeout
    while True:
        report = look(bootstrap, brokers, lag)
        if not report.problems or time.monotonic() >= deadline:
            return report
        give_up()
        time.sleep(POLL_S)


def node_problem(node: int, address: str, broker_port: int | None, controller_port: int | None) -> tuple[str, int]:
    """Say why this node is not ready, '' if it is, and who leads the metadata quorum (-1: not known).

    A broker is ready when it answers on its own listener and finds itself registered; a controller when it answers
    and the quorum has a leader. Whether brokers know the leader is asked of the broker, which forwards it.
    """
    leader = -1
    try:
        if controller_port is not None:
            with Connection(address, controller_port) as connection:
                connection.api_versions()
                # Only the leader answers for the quorum; a follower that refuses is up all the same.
                with contextlib.suppress(KafkaError):
                    leader = connection.quorum().leader
        if broker_port is not None:
            with Connection(address, broker_port) as connection:
                if node not in {broker.id for broker in connection.metadata([]).brokers}:
                    return f"broker {node} is not registered yet", leader
                leader = connection.quorum().leader
                if leader < 0:
                    return "the metadata quorum has no leader", leader
    except KafkaError as error:
        return str(error), leader
    return "", leader
