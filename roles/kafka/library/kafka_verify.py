#!/usr/bin/python
"""Write a record to every broker and read it back."""

from __future__ import annotations

import contextlib
import secrets
import time
from concurrent.futures import ThreadPoolExecutor

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.kafka_protocol import Connection, KafkaError, connect_any, parse_endpoints

DOCUMENTATION = r"""
module: kafka_verify
short_description: Produce to and consume from every broker
description:
  - Makes a topic with one partition led by each broker, writes a record to each with acks=all at the address that
    the cluster advertises, reads it back, and removes the topic. What it leaves behind is what it found.
options:
  bootstrap: {description: Brokers as address:port, required: true, type: list, elements: str}
  brokers: {description: Node ids that must take part, required: true, type: list, elements: int}
  timeout: {description: Seconds for the whole, type: float, default: 60}
"""

LEADER_POLL_S = 0.05
"""A partition of a new topic has its leader within tens of milliseconds, in a cluster that is well."""

SLOW_S = 15.0
"""A broker that is busy starting answers late; one that has said nothing for so long is named."""


def assignment(brokers: list[int]) -> list[list[int]]:
    """Return the replicas of one partition per broker: itself as the leader, and up to two after it."""
    replication = min(3, len(brokers))
    return [[brokers[(at + step) % len(brokers)] for step in range(replication)] for at in range(len(brokers))]


def leaders(connection: Connection, topic: str, count: int, deadline: float) -> dict[int, tuple[int, str, int]]:
    """Wait until each partition has a leader; return partition → broker id, host and port."""
    while True:
        metadata = connection.metadata([topic])
        addresses = {broker.id: (broker.id, broker.host, broker.port) for broker in metadata.brokers}
        led = {p.index: addresses[p.leader] for p in metadata.partitions if p.leader in addresses}
        if len(led) == count:
            return led
        if time.monotonic() >= deadline:
            raise KafkaError(f"{count - len(led)} partitions of {topic} have no leader")
        time.sleep(LEADER_POLL_S)


def exchange(host: str, port: int, topic: str, partition: int, deadline: float) -> float:
    """Write and read one record at one broker; return the seconds it took. A new leader may need a moment to lead."""
    value = f"{topic} {partition}".encode()
    while True:
        try:
            began = time.monotonic()
            with Connection(host, port, SLOW_S) as connection:
                offset = connection.produce(topic, partition, value)
                while value not in connection.fetch(topic, partition, offset):
                    if time.monotonic() >= deadline:
                        raise KafkaError(f"{host}:{port} does not return the record it took")
            return time.monotonic() - began
        except KafkaError as error:
            if error.code not in (3, 5, 6, 7, 19) or time.monotonic() >= deadline:
                raise
            time.sleep(LEADER_POLL_S)


def verify(bootstrap: list[str], brokers: list[int], timeout: float) -> dict[str, float]:
    """Return seconds per broker; `KafkaError` names the broker that failed."""
    deadline = time.monotonic() + timeout
    topic = "labtool-verify-" + secrets.token_hex(4)
    ordered = sorted(brokers)
    with connect_any(parse_endpoints(bootstrap, 9092), SLOW_S) as connection:
        connection.create_topic(topic, assignment=assignment(ordered))
        try:
            led = leaders(connection, topic, len(ordered), deadline)
            with ThreadPoolExecutor(min(len(led), 16)) as pool:
                asked = {
                    f"{broker} ({host}:{port})": pool.submit(exchange, host, port, topic, partition, deadline)
                    for partition, (broker, host, port) in sorted(led.items())
                }
            took = {name: round(future.result(), 4) for name, future in asked.items()}
        finally:
            with contextlib.suppress(KafkaError):
                connection.delete_topic(topic)
    return took


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "bootstrap": {"type": "list", "elements": "str", "required": True},
            "brokers": {"type": "list", "elements": "int", "required": True},
            "timeout": {"type": "float", "default": 60.0},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    if module.check_mode:
        module.exit_json(changed=False, seconds={})
    try:
        seconds = verify(wanted["bootstrap"], wanted["brokers"], wanted["timeout"])
    except KafkaError as error:
        module.fail_json(msg=f"a record could not be written and read back: {error}")
    module.exit_json(changed=False, seconds=seconds)


if __name__ == "__main__":
    main()
