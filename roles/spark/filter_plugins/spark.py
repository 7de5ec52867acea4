"""Who is what in a Spark cluster, and how much of a host each part gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

SYSTEM_MB, SYSTEM_SHARE = 256, 0.05
"""What the operating system and the collector keep: the larger of the two."""
BESIDE_HEAP_MB = 128
"""What the JVM of a daemon takes besides its heap."""
OVERHEAD_MB, OVERHEAD_SHARE = 384, 0.10
"""What an executor's or a driver's JVM takes besides its heap, as Spark itself reckons it where it must
(spark.executor.memoryOverhead: 10 %, at least 384 MiB); Python's workers live there too."""
LEAST_MB = 512
"""An executor or a driver with less than 450 MiB refuses to start."""
MOST_DRIVER_MB = 4096


def address_of(variables: Mapping[str, Any], host: str) -> str:
    """Return where other hosts reach this one: as set, the lab's address, its own, or where Ansible reaches it."""
    facts = variables.get("ansible_facts") or {}
    for address in (
        variables.get("spark_address"),
        variables.get("labtool_private_address"),
        (facts.get("default_ipv4") or {}).get("address"),
        (variables.get("spark_state") or {}).get("address"),
        variables.get("ansible_host"),
    ):
        if address:
            return str(address)
    return host


def spark_heap(memory_mb: float) -> int:
    """Return the heap in MiB of a JVM that may use `memory_mb` in all."""
    return int(max(min(memory_mb - OVERHEAD_MB, memory_mb / (1 + OVERHEAD_SHARE)), LEAST_MB))


def left_mb(memory_mb: int, daemons: int, daemon_mb: int) -> float:
    """Return what a host has left in MiB beside its system and so many daemons."""
    return memory_mb - max(SYSTEM_MB, memory_mb * SYSTEM_SHARE) - daemons * (daemon_mb + BESIDE_HEAP_MB)


def sizes(state: Mapping[str, Any], roles: Sequence[str], daemon_mb: int) -> dict[str, int]:
    """Return `cores`, and `memory_mb` for executors and `driver_mb` for a driver: heaps that the host has room for.

    A host that is the master, or no part of the cluster, has room for a driver: half of what is left. One that is a
    worker too gives its executors what the driver leaves.
    """
    memory = int(state.get("memory_mb") or 2048)
    left = left_mb(memory, len(roles), daemon_mb)
    driver = LEAST_MB
    if "worker" not in roles:
        driver = min(spark_heap(left / 2), MOST_DRIVER_MB)
    elif "master" in roles:
        left -= LEAST_MB + OVERHEAD_MB
    return {"cores": int(state.get("cores") or 1), "memory_mb": spark_heap(left), "driver_mb": driver}


def roles_of(host: str, master: str, workers: Sequence[str], history: bool) -> list[str]:
    """Return what a host is: master, history, worker; nothing where it only submits."""
    mine = ["master"] if host == master else []
    mine += ["history"] if mine and history else []
    return mine + (["worker"] if host in workers else [])


def spark_plan(
    hostvars: Mapping[str, Any],
    host: str,
    master: str,
    workers: Sequence[str],
    history: bool,
    daemon_mb: int,
    mine: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what `host` is and gets: `roles`, addresses, and sizes in MiB.

    `mine` are the role's own variables, which hosts' variables do not show: `address`, `cores` and `memory_mb`, each
    empty where nothing is said. `executor_mb` is what every worker known in this play can give: the default of
    applications.
    """
    if master not in hostvars:
        raise AnsibleFilterError(f"spark_master_host is {master!r}, which is no host of the inventory")
    if strangers := [worker for worker in workers if worker not in hostvars]:
        raise AnsibleFilterError(f"spark_worker_hosts names {strangers[0]!r}, which is no host of the inventory")

    def of(one: str) -> dict[str, Any]:
        variables = hostvars[one]
        roles = roles_of(one, master, workers, history)
        found = sizes(variables.get("spark_state") or {}, roles, daemon_mb)
        given = {name: variables.get(f"spark_worker_{name}") or mine.get(name) for name in ("cores", "memory_mb")}
        return {**found, **{name: int(value) for name, value in given.items() if value}, "roles": roles}

    known = [one for one in workers if hostvars[one].get("spark_state")]
    return {
        **of(host),
        "address": mine.get("address") or address_of(hostvars[host], host),
        "master_address": address_of(hostvars[master], master),
        "executor_mb": min((of(one)["memory_mb"] for one in known), default=1024),
    }


def spark_addresses(hosts: Sequence[str], hostvars: Mapping[str, Any]) -> list[str]:
    """Return the address of each host, as the other hosts reach it."""
    return [address_of(hostvars[host], host) for host in hosts]


def spark_properties(settings: Mapping[str, Any]) -> str:
    """Return settings as a properties file has them; a value's line breaks and backslashes are escaped."""
    lines = []
    for name, value in settings.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        text = text.replace("\\", "\\\\").replace("\n", "\\n")
        lines.append(f"{name} {text}")
    return "\n".join(lines) + "\n"


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"spark_plan": spark_plan, "spark_addresses": spark_addresses, "spark_properties": spark_properties}
