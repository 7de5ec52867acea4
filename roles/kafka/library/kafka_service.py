#!/usr/bin/python
"""Start a Kafka node, wait until it is ready, or restart it only while its cluster can spare it."""

from __future__ import annotations

import time

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.daemon_unit import Unit, UnitError, run
from ansible.module_utils.kafka_cluster import POLL_S, node_problem, until_healthy

DOCUMENTATION = r"""
module: kafka_service
short_description: Start, await or restart a Kafka node
description:
  - C(started) starts the unit if it does not run, and says whether a running one was started with another
    configuration (C(stale)), which C(KAFKA_FINGERPRINT) in the unit's environment tells. It does not wait. Of a node
    that ran already and answers, it says who leads the quorum (C(leader)), as C(ready) would.
  - C(ready) waits until the node answers Kafka's protocol and is registered. It fails at once if the unit has died.
  - C(restarted) waits until the cluster is whole, restarts the node, and waits until the cluster is whole again.
  - Every failure ends with the last lines of the unit's journal.
options:
  state: {description: What to bring about, choices: [started, ready, restarted], required: true, type: str}
  unit: {description: The systemd unit, type: str, default: kafka.service}
  node_id: {description: The node's id, required: true, type: int}
  address: {description: Where it listens, required: true, type: str}
  broker_port: {description: Port of its broker; 0 where it is none, type: int, default: 0}
  controller_port: {description: Port of its controller; 0 where it is none, type: int, default: 0}
  bootstrap: {description: The cluster's brokers as address:port, type: list, elements: str, default: []}
  brokers: {description: Node ids that must be registered before and after a restart, type: list, elements: int,
            default: []}
  max_lag: {description: Records the metadata log may be behind, type: int, default: 100}
  timeout: {description: Seconds to wait for each condition, type: float, default: 120}
"""

FINGERPRINT = "KAFKA_FINGERPRINT"


def start(unit: Unit, check_mode: bool) -> dict:
    """Start and enable the unit where that is not done yet."""
    state = unit.show()
    if state.get("NeedDaemonReload") == "yes" and not check_mode:
        run("systemctl", "daemon-reload")
    running = state.get("ActiveState") == "active"
    enabled = state.get("UnitFileState") == "enabled"
    stale = running and unit.started_with(FINGERPRINT) != unit.would_start_with(FINGERPRINT)
    if not check_mode:
        if not enabled:
            run("systemctl", "enable", unit.name)
        if not running:
            unit.do("restart" if state.get("ActiveState") == "activating" else "start")
    return {"changed": not (running and enabled), "stale": stale}


def leader_of(arguments: dict) -> tuple[str, int]:
    """Say why this node is not ready, '' if it is, and who leads the metadata quorum (-1: not known to this node)."""
    return node_problem(
        arguments["node_id"],
        arguments["address"],
        arguments["broker_port"] or None,
        arguments["controller_port"] or None,
    )


def started(unit: Unit, arguments: dict, check_mode: bool) -> dict:
    """Start the unit where it does not run; ask a node that ran already, once, whether it is ready."""
    found = start(unit, check_mode)
    if not found["changed"]:
        problem, leader = leader_of(arguments)
        if not problem:
            found["leader"] = leader
    return found


def wait_ready(unit: Unit, arguments: dict) -> int:
    """Wait until the node answers; return the id of the quorum's leader (-1: not known to this node)."""
    deadline = time.monotonic() + arguments["timeout"]
    while True:
        unit.must_run()
        problem, leader = leader_of(arguments)
        if not problem:
            return leader
        if time.monotonic() >= deadline:
            raise unit.explain(
                f"node {arguments['node_id']} is not ready after {arguments['timeout']:.0f} s: {problem}"
            )
        time.sleep(POLL_S)


def demand_healthy(unit: Unit, arguments: dict, when: str) -> None:
    """Wait until the cluster is whole; raise with what is wrong and the journal."""
    if not arguments["bootstrap"]:
        return
    report = until_healthy(
        arguments["bootstrap"], arguments["brokers"], lag=arguments["max_lag"], timeout=arguments["timeout"]
    )
    if report.problems:
        raise unit.explain(f"{when} the restart of node {arguments['node_id']}: {'; '.join(report.problems)}")


def restart(unit: Unit, arguments: dict) -> int:
    """Restart a node that its cluster can spare, and see the cluster whole again."""
    if unit.active:
        demand_healthy(unit, arguments, "before")
    unit.do("restart")
    leader = wait_ready(unit, arguments)
    demand_healthy(unit, arguments, "after")
    return leader


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["started", "ready", "restarted"], "required": True},
            "unit": {"type": "str", "default": "kafka.service"},
            "node_id": {"type": "int", "required": True},
            "address": {"type": "str", "required": True},
            "broker_port": {"type": "int", "default": 0},
            "controller_port": {"type": "int", "default": 0},
            "bootstrap": {"type": "list", "elements": "str", "default": []},
            "brokers": {"type": "list", "elements": "int", "default": []},
            "max_lag": {"type": "int", "default": 100},
            "timeout": {"type": "float", "default": 120.0},
        },
        supports_check_mode=True,
    )
    arguments = module.params
    unit = Unit(arguments["unit"])
    try:
        if arguments["state"] == "started":
            module.exit_json(**started(unit, arguments, module.check_mode))
        if module.check_mode:
            module.exit_json(changed=arguments["state"] == "restarted", leader=-1)
        if arguments["state"] == "ready":
            module.exit_json(changed=False, leader=wait_ready(unit, arguments))
        module.exit_json(changed=True, leader=restart(unit, arguments))
    except UnitError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
