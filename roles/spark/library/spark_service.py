#!/usr/bin/python
"""Start Spark's daemons, restart those that run with an older configuration, and wait until each is at work."""

from __future__ import annotations

import time
import urllib.error
import urllib.request

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.daemon_unit import Unit, UnitError, run
from ansible.module_utils.spark_master import POLL_S, SILENCE_S, MasterError, ask

DOCUMENTATION = r"""
module: spark_service
short_description: Start, restart and await Spark's daemons
description:
  - Starts each wanted unit that does not run, and restarts one that was started with another configuration, which
    C(SPARK_FINGERPRINT) in its environment tells. Stops and disables those that are not wanted any more.
  - Then waits until each is at work. A master answers with its JSON; a worker is counted by the master, with the
    cores and the memory it offers; a history server answers its REST API.
  - Every failure ends with the last lines of the unit's journal.
options:
  units:
    description: Units in the order in which they are started (unit, wanted, is; a worker also cores, memory_mb).
    type: list
    elements: dict
    required: true
  address: {description: This host's address, required: true, type: str}
  master_address: {description: The master's address, required: true, type: str}
  master_ui_port: {description: Port of the master's page, required: true, type: int}
  history_port: {description: Port of the history server, default: 18080, type: int}
  restart: {description: Whether a unit that runs with another configuration is restarted, default: true, type: bool}
  timeout: {description: Seconds to wait for each unit, type: float, default: 120}
"""

FINGERPRINT = "SPARK_FINGERPRINT"


def stop(unit: Unit, check_mode: bool) -> bool:
    """Stop and disable a unit that is not wanted; return whether there was anything to do."""
    state = unit.show()
    there = state.get("LoadState") == "loaded" and (unit.active or state.get("UnitFileState") == "enabled")
    if there and not check_mode:
        run("systemctl", "disable", "--now", unit.name)
    return there


def start(unit: Unit, restart: bool, check_mode: bool) -> tuple[bool, bool]:
    """Start and enable a unit, or restart it where it is stale; return whether it changed and whether it is stale."""
    state = unit.show()
    if state.get("NeedDaemonReload") == "yes" and not check_mode:
        run("systemctl", "daemon-reload")
    running = state.get("ActiveState") == "active"
    enabled = state.get("UnitFileState") == "enabled"
    stale = running and unit.started_with(FINGERPRINT) != unit.would_start_with(FINGERPRINT)
    if not check_mode:
        if not enabled:
            run("systemctl", "enable", unit.name)
        if not running or (stale and restart):
            unit.do("restart")
    return not (running and enabled) or (stale and restart), stale and not restart


def problem_of(wanted: dict, arguments: dict) -> str:
    """Return what a daemon lacks to be at work; '' where it is."""
    try:
        if wanted["is"] == "history":
            where = f"http://{arguments['address']}:{arguments['history_port']}/api/v1/applications?limit=1"
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(where, timeout=SILENCE_S):
                return ""
        cluster = ask(arguments["master_address"], arguments["master_ui_port"])
    except (MasterError, OSError, urllib.error.URLError) as error:
        return str(error)
    if cluster.status != "ALIVE":
        return f"the master is {cluster.status}"
    if wanted["is"] == "worker":
        offered = (wanted["cores"], wanted["memory_mb"])
        mine = [one for one in cluster.workers if one.address == arguments["address"]]
        if not any((one.cores, one.memory_mb) == offered for one in mine):
            counted = ", ".join(sorted(cluster.addresses)) or "none"
            return f"the master {cluster.url} does not count it; it counts {counted}"
    return ""


def wait(unit: Unit, wanted: dict, arguments: dict) -> None:
    """Wait until a daemon is at work; raise at once if it has died."""
    deadline = time.monotonic() + arguments["timeout"]
    while problem := problem_of(wanted, arguments):
        unit.must_run()
        if time.monotonic() >= deadline:
            raise unit.explain(f"the {wanted['is']} is not at work after {arguments['timeout']:.0f} s: {problem}")
        time.sleep(POLL_S)
    unit.must_run()


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "units": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "unit": {"type": "str", "required": True},
                    "wanted": {"type": "bool", "required": True},
                    "is": {"type": "str", "choices": ["master", "worker", "history"], "required": True},
                    "cores": {"type": "int", "default": 0},
                    "memory_mb": {"type": "int", "default": 0},
                },
            },
            "address": {"type": "str", "required": True},
            "master_address": {"type": "str", "required": True},
            "master_ui_port": {"type": "int", "required": True},
            "history_port": {"type": "int", "default": 18080},
            "restart": {"type": "bool", "default": True},
            "timeout": {"type": "float", "default": 120.0},
        },
        supports_check_mode=True,
    )
    arguments = module.params
    changed: list[str] = []
    stale: list[str] = []
    try:
        for wanted in arguments["units"]:
            unit = Unit(wanted["unit"])
            if not wanted["wanted"]:
                changed += [unit.name] if stop(unit, module.check_mode) else []
                continue
            acted, left = start(unit, arguments["restart"], module.check_mode)
            changed += [unit.name] if acted else []
            stale += [unit.name] if left else []
            # One that is left with its old configuration offers what that says.
            if not module.check_mode and not left:
                wait(unit, wanted, arguments)
    except UnitError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(changed), changed_units=changed, stale=stale)


if __name__ == "__main__":
    main()
