#!/usr/bin/python
"""Read what a host already is to a Kafka cluster, before anything is changed."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.daemon_host import home_and_shell, memory_mb, own_address
from ansible.module_utils.kafka_meta import (
    QUORUM_COMMENT,
    RELEASE_COMMENT,
    of_another,
    read_meta,
    read_properties,
    read_text,
)

DOCUMENTATION = r"""
module: kafka_state
short_description: What a host is to a Kafka cluster
description:
  - Sets the fact C(kafka_state) with C(memory_mb), the host's memory in MiB, C(address), from which it speaks to other
    networks, C(node_id), C(cluster_id) and C(directory_id) as formatted (empty where it is not), C(unformatted), the
    data directories that are not, C(quorum), the ids of the cluster's controllers as they were when the host was
    first configured, C(release), with which Kafka the cluster was made (empty where that is not recorded), C(broker),
    where its broker is advertised (empty where it is none), and C(user), home and shell of the user that was asked for
    (empty where there is none).
  - Given the ids that the host should have, fails where its data has others, before anything is changed.
options:
  cluster_id: {description: The cluster's id, type: str, default: ''}
  node_id: {description: The node's id, type: int}
  user: {description: The user that Kafka runs as, type: str, default: ''}
  data_directories: {description: Where the host keeps its logs, required: true, type: list, elements: path}
  properties: {description: The configuration, type: path, default: /etc/kafka/server.properties}
"""


def recorded(text: str, comment: str) -> str:
    """Return what a comment of the configuration records; '' where there is none."""
    return next((line[len(comment) :].strip() for line in text.splitlines() if line.startswith(comment)), "")


def recorded_quorum(text: str) -> list[int]:
    """Return the controllers' ids that the configuration records; [] where there is none."""
    return [int(word) for word in recorded(text, QUORUM_COMMENT).split(",") if word.strip()]


def advertised_broker(text: str) -> str:
    """Return the address:port that the configuration advertises for clients; '' for a node that is no broker."""
    listeners = read_properties(text).get("advertised.listeners", "").split(",")
    return next((one.partition("://")[2] for one in listeners if one.startswith("PLAINTEXT://")), "")


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "cluster_id": {"type": "str", "default": ""},
            "node_id": {"type": "int"},
            "user": {"type": "str", "default": ""},
            "data_directories": {"type": "list", "elements": "path", "required": True},
            "properties": {"type": "path", "default": "/etc/kafka/server.properties"},
        },
        supports_check_mode=True,
    )
    try:
        found = {path: read_meta(Path(path) / "meta.properties") for path in module.params["data_directories"]}
        configuration = read_text(Path(module.params["properties"]))
        quorum = recorded_quorum(configuration)
    except (OSError, ValueError) as error:
        module.fail_json(msg=f"this host's Kafka files cannot be read: {error}")
    wanted = module.params
    if wanted["cluster_id"] and wanted["node_id"] is not None:
        problem = of_another(wanted["data_directories"], wanted["cluster_id"], wanted["node_id"])
        if problem:
            module.fail_json(msg=problem)
    meta = next((one for one in found.values() if one), {})
    state = {
        "memory_mb": memory_mb(read_text(Path("/proc/meminfo"))),
        "address": own_address(),
        "user": home_and_shell(wanted["user"]) if wanted["user"] else [],
        "formatted": bool(meta),
        "unformatted": [path for path, one in found.items() if not one],
        "cluster_id": meta.get("cluster.id", ""),
        "node_id": int(meta["node.id"]) if meta.get("node.id") else None,
        "directory_id": meta.get("directory.id", ""),
        "quorum": quorum,
        "release": recorded(configuration, RELEASE_COMMENT),
        "broker": advertised_broker(configuration),
    }
    module.exit_json(changed=False, ansible_facts={"kafka_state": state})


if __name__ == "__main__":
    main()
