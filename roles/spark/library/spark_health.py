#!/usr/bin/python
"""Say how this host's part of a Spark cluster is; nothing where it has none."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.daemon_unit import Unit
from ansible.module_utils.spark_master import MasterError, ask

DOCUMENTATION = r"""
module: spark_health
short_description: How this host's part of a Spark cluster is
description:
  - Each of Spark's units on this host must run, its master must answer, and its worker must be counted by the master
    that its configuration names. A failure ends with the unit's journal.
  - Returns C(said), a line for each of them; none on a host that has nothing of Spark.
options:
  environment: {description: Where the role says what this host is, type: path, default: /etc/spark/cluster}
"""

UNITS = ("spark-master.service", "spark-history.service", "spark-worker.service")


def read(path: Path) -> dict[str, str]:
    """Return the `name=value` lines of a file; {} where there is none."""
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return {}
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def sentence(name: str, known: dict[str, str]) -> tuple[str, str]:
    """Return what is well with a unit, and what is not ('' where all is)."""
    unit = Unit(name)
    if not unit.active:
        return "", str(unit.explain("it does not run"))
    if name == "spark-history.service":
        return f"spark history server: http://{known['address']}:{known['history_port']}/", ""
    try:
        cluster = ask(known["master_address"], int(known["master_ui_port"]))
    except MasterError as error:
        return "", str(unit.explain(f"the master does not answer: {error}"))
    if name == "spark-master.service":
        cores, memory = sum(one.cores for one in cluster.workers), sum(one.memory_mb for one in cluster.workers)
        running = ", ".join(one.name for one in cluster.applications) or "nothing"
        count = f"{len(cluster.workers)} worker{'s' if len(cluster.workers) != 1 else ''}"
        return (
            f"spark master {cluster.url}: {count}, {cores} cores, {memory} MiB; runs {running}",
            "" if cluster.workers else f"the master {cluster.url} counts no worker",
        )
    if known["address"] not in cluster.addresses:
        return "", str(unit.explain(f"the master {cluster.url} does not count this worker"))
    mine = next(one for one in cluster.workers if one.address == known["address"])
    return f"spark worker {mine.address}: {mine.free_cores} of {mine.cores} cores free", ""


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={"environment": {"type": "path", "default": "/etc/spark/cluster"}}, supports_check_mode=True
    )
    known = read(Path(module.params["environment"]))
    said, problems = [], []
    if known:
        for name in UNITS:
            if Unit(name).show().get("UnitFileState") == "enabled":
                well, problem = sentence(name, known)
                said += [well] if well else []
                problems += [problem] if problem else []
    if problems:
        module.fail_json(msg="; ".join(problems), said=said)
    module.exit_json(changed=False, said=said)


if __name__ == "__main__":
    main()
