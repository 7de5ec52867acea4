#!/usr/bin/python
"""Say how a Kafka cluster is."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.kafka_cluster import until_healthy

DOCUMENTATION = r"""
module: kafka_health
short_description: How a Kafka cluster is
description:
  - Returns brokers, metadata quorum and partitions without all their replicas, and C(problems) in sentences.
  - Fails with the problems unless the cluster becomes healthy within C(timeout).
options:
  bootstrap: {description: Brokers as address:port, required: true, type: list, elements: str}
  brokers: {description: Node ids that must be registered, type: list, elements: int, default: []}
  max_lag: {description: Records the metadata log may be behind, type: int, default: 100}
  timeout: {description: Seconds to wait for a healthy cluster, type: float, default: 0}
"""


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "bootstrap": {"type": "list", "elements": "str", "required": True},
            "brokers": {"type": "list", "elements": "int", "default": []},
            "max_lag": {"type": "int", "default": 100},
            "timeout": {"type": "float", "default": 0.0},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    report = until_healthy(wanted["bootstrap"], wanted["brokers"], lag=wanted["max_lag"], timeout=wanted["timeout"])
    result = report.as_dict()
    if report.problems:
        module.fail_json(msg="the cluster is not healthy: " + "; ".join(report.problems), **result)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
