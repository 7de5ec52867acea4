#!/usr/bin/python
"""Make or remove a topic."""

from __future__ import annotations

import time

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.kafka_cluster import POLL_S
from ansible.module_utils.kafka_protocol import Connection, KafkaError, connect_any, end_offsets, fail, parse_endpoints

DOCUMENTATION = r"""
module: kafka_topic
short_description: Make or remove a Kafka topic
description:
  - A topic that exists is left as it is if its partitions and replication are those wanted, and is an error otherwise.
    With C(fresh) it is removed first, with all it holds. C(end_offsets) is how many records each partition
    was ever given, read before C(absent) removes it.
options:
  bootstrap: {description: Brokers as address:port, required: true, type: list, elements: str}
  name: {description: The topic, required: true, type: str}
  partitions: {description: Number of partitions, type: int, default: 1}
  replication: {description: Replicas of each, type: int, default: 1}
  configs: {description: The topic's settings when it is made, type: dict, default: {}}
  exact: {description: Whether one that is there must have these partitions and replicas, type: bool, default: true}
  state: {description: Whether it shall exist, choices: [present, absent, fresh], type: str,
          default: present}
  timeout: {description: Seconds until its partitions must have leaders, type: float, default: 30}
"""

UNKNOWN_TOPIC = 3
INVALID_REPLICATION_FACTOR = 38


def existing(connection: Connection, name: str) -> list | None:
    """Return the topic's partitions; None where there is no such topic."""
    metadata = connection.metadata([name])
    code = metadata.topic_errors.get(name, 0)
    if code == UNKNOWN_TOPIC:
        return None
    fail(f"topic {name}", code)
    return metadata.partitions


def present(connection: Connection, wanted: dict, check_mode: bool) -> bool:
    """Make the topic where it is missing and wait for its leaders; return whether it was."""
    name, count, replication = wanted["name"], wanted["partitions"], wanted["replication"]
    found = existing(connection, name)
    if found is not None:
        shape = (len(found), len(found[0].replicas) if found else 0)
        if wanted["exact"] and shape != (count, replication):
            raise KafkaError(
                f"topic {name} has {shape[0]} partitions and {shape[1]} replicas, not {count} and {replication}; "
                "name another topic or remove that one"
            )
        return False
    if check_mode:
        return True
    deadline = time.monotonic() + wanted["timeout"]
    configs = {key: str(value) for key, value in wanted["configs"].items()}
    try:
        connection.create_topic(name, partitions=count, replication=replication, configs=configs)
    except KafkaError as error:
        if error.code != INVALID_REPLICATION_FACTOR:
            raise
        raise KafkaError(f"{error} Ask for a smaller replication, or deploy more brokers.", error.code) from error
    while sum(1 for p in existing(connection, name) or [] if p.leader >= 0) < count:
        if time.monotonic() >= deadline:
            raise KafkaError(f"topic {name} has partitions without a leader")
        time.sleep(POLL_S / 2)
    return True


def absent(connection: Connection, wanted: dict, check_mode: bool) -> bool:
    """Remove the topic where it exists and wait until it is gone; return whether it did."""
    name = wanted["name"]
    if existing(connection, name) is None:
        return False
    if check_mode:
        return True
    connection.delete_topic(name)
    deadline = time.monotonic() + wanted["timeout"]
    while existing(connection, name) is not None:
        if time.monotonic() >= deadline:
            raise KafkaError(f"topic {name} is still there")
        time.sleep(POLL_S / 2)
    return True


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "bootstrap": {"type": "list", "elements": "str", "required": True},
            "name": {"type": "str", "required": True},
            "partitions": {"type": "int", "default": 1},
            "replication": {"type": "int", "default": 1},
            "configs": {"type": "dict", "default": {}},
            "exact": {"type": "bool", "default": True},
            "state": {"type": "str", "choices": ["present", "absent", "fresh"], "default": "present"},
            "timeout": {"type": "float", "default": 30.0},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    try:
        with connect_any(parse_endpoints(wanted["bootstrap"], 9092)) as connection:
            changed, offsets = False, {}
            if wanted["state"] == "absent":
                offsets = end_offsets(connection.metadata([wanted["name"]]), wanted["name"], wanted["timeout"])
            if wanted["state"] in ("absent", "fresh"):
                changed = absent(connection, wanted, module.check_mode)
            if wanted["state"] == "fresh" and module.check_mode:
                changed = True
            elif wanted["state"] in ("present", "fresh"):
                changed |= present(connection, wanted, module.check_mode)
    except KafkaError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=changed, topic=wanted["name"], end_offsets=offsets)


if __name__ == "__main__":
    main()
