"""Who is what in a Kafka cluster: ids that need no JVM, and which hosts are brokers and controllers."""

from __future__ import annotations

import base64
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

CLUSTER_ID = re.compile(r"[A-Za-z0-9_-]{22}")
COMBINED_CONTROLLERS = 3


def kafka_directory_id(cluster_id: str, node_id: int) -> str:
    """Return a directory id that is the same whenever it is asked for: UUIDv5 of the node within the cluster.

    Kafka writes UUIDs as base64url without padding (22 characters), and none may begin with '-' (its tools would take
    it for an option), nor be one of the few it reserves (the first 100 numbers).
    """
    space = uuid.UUID(bytes=decode(cluster_id))
    for attempt in range(64):
        made = uuid.uuid5(space, f"node {int(node_id)} directory {attempt}")
        text = base64.urlsafe_b64encode(made.bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text
    raise AssertionError("64 UUIDs in a row begin with '-'")  # a chance of 2^-384


def decode(cluster_id: str) -> bytes:
    """Return the 16 bytes of a cluster id."""
    if not isinstance(cluster_id, str) or not CLUSTER_ID.fullmatch(cluster_id) or cluster_id.startswith("-"):
        raise AnsibleFilterError(
            f"kafka_cluster_id is {cluster_id!r}: it must be 22 characters of base64url, as `kafka-tool storage "
            "random-uuid` prints (or: python3 -c 'import base64,uuid; "
            "print(base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[:22])')"
        )
    return base64.urlsafe_b64decode(cluster_id + "==")


def address_of(variables: Mapping[str, Any], host: str) -> str:
    """Return where other hosts reach this one: as set, the lab's address, its own, or where Ansible reaches it."""
    facts = variables.get("ansible_facts") or {}
    for address in (
        variables.get("kafka_address"),
        variables.get("labtool_private_address"),
        (facts.get("default_ipv4") or {}).get("address"),
        (variables.get("kafka_state") or {}).get("address"),
        variables.get("ansible_host"),
    ):
        if address:
            return str(address)
    return host


def node(variables: Mapping[str, Any], host: str) -> dict[str, Any]:
    """Return a host as a member of the cluster."""
    if variables.get("kafka_node_id") is None:
        raise AnsibleFilterError(f"host {host} has no kafka_node_id; give each host of the cluster its own number")
    number = int(variables["kafka_node_id"])
    cluster = variables.get("kafka_cluster_id")
    if cluster is None:
        raise AnsibleFilterError(f"host {host} has no kafka_cluster_id; it is the same for all hosts of a cluster")
    return {
        "host": host,
        "node_id": number,
        "address": address_of(variables, host),
        "directory_id": variables.get("kafka_directory_id") or kafka_directory_id(cluster, number),
        "cluster_id": cluster,
    }


def distinct(members: Sequence[Mapping[str, Any]]) -> None:
    """Refuse members that share a node id or do not share the cluster id."""
    seen: dict[int, str] = {}
    for member in members:
        other = seen.setdefault(member["node_id"], member["host"])
        if other != member["host"]:
            raise AnsibleFilterError(f"hosts {other} and {member['host']} both have kafka_node_id {member['node_id']}")
    clusters = {member["cluster_id"]: member["host"] for member in members}
    if len(clusters) > 1:
        raise AnsibleFilterError(
            "hosts of one cluster have different kafka_cluster_id: "
            + ", ".join(f"{host} has {cluster}" for cluster, host in sorted(clusters.items()))
        )


def recorded(members: Sequence[Mapping[str, Any]], hostvars: Mapping[str, Any]) -> list[int]:
    """Return the ids of the quorum that exists, as the formatted hosts remember it; [] for a new cluster."""
    known: dict[tuple[int, ...], str] = {}
    for member in members:
        state = hostvars[member["host"]].get("kafka_state") or {}
        if state.get("formatted") and state.get("quorum"):
            known.setdefault(tuple(sorted(state["quorum"])), member["host"])
    if len(known) > 1:
        raise AnsibleFilterError(
            "hosts remember different quorums: "
            + "; ".join(f"{host} {list(quorum)}" for quorum, host in sorted(known.items()))
        )
    return list(next(iter(known), ()))


def release_of(members: Sequence[Mapping[str, Any]], hostvars: Mapping[str, Any], version: str) -> str:
    """Return the release that the cluster was made with: as its hosts record it, else `version`.

    A broker reads the metadata of its own release and of older ones. The version of a cluster's metadata is that of the
    release which formatted it, until somebody raises it: https://kafka.apache.org/documentation/#upgrade
    """
    states = [hostvars[member["host"]].get("kafka_state") or {} for member in members]
    made = min((state["release"] for state in states if state.get("release")), key=numbers, default=version)
    if numbers(version) < numbers(made):
        raise AnsibleFilterError(
            f"this cluster was made with Kafka {made}, whose metadata Kafka {version} cannot read; deploy {made} or "
            f"newer, or another cluster with {version}"
        )
    return made


def numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of a release that its metadata depend on: (4, 3) of 4.3.0."""
    return tuple(int(word) for word in re.findall(r"\d+", str(version))[:2])


def kafka_plan(
    hostvars: Mapping[str, Any], broker_hosts: Sequence[str], controller_hosts: Sequence[str] = (), version: str = ""
) -> dict[str, Any]:
    """Return `brokers`, `controllers` (members with id and address), `roles` (host → process roles) and `release`.

    Without controller hosts the first three brokers by node id are controllers too (the first one, where there are
    fewer than three). Once the quorum exists it stays what it is: brokers that join later are only brokers.
    """
    brokers = sorted((node(hostvars[host], host) for host in broker_hosts), key=lambda one: one["node_id"])
    isolated = sorted((node(hostvars[host], host) for host in controller_hosts), key=lambda one: one["node_id"])
    overlap = sorted(set(broker_hosts) & set(controller_hosts))
    if overlap:
        raise AnsibleFilterError(f"{overlap[0]} is both a broker host and a controller host; leave the latter out")
    if not brokers:
        raise AnsibleFilterError("a Kafka cluster needs at least one broker host")
    members = [*brokers, *isolated]
    distinct(members)
    first = isolated or brokers[: COMBINED_CONTROLLERS if len(brokers) >= COMBINED_CONTROLLERS else 1]
    quorum = recorded(members, hostvars) or [one["node_id"] for one in first]
    controllers = [one for one in members if one["node_id"] in quorum]
    strangers = [one["host"] for one in isolated if one["node_id"] not in quorum]
    if strangers:
        raise AnsibleFilterError(
            f"the quorum of this cluster is {quorum}, and {', '.join(strangers)} is not of it; leave the host out, or "
            "add it to the running quorum by hand (`kafka-tool metadata-quorum add-controller`)"
        )
    if not controllers:
        raise AnsibleFilterError(f"none of the hosts is a controller of this cluster, whose quorum is {quorum}")
    ids = {one["node_id"] for one in controllers}
    roles = {one["host"]: ["broker", "controller"] if one["node_id"] in ids else ["broker"] for one in brokers}
    roles |= {one["host"]: ["controller"] for one in isolated}
    release = release_of(members, hostvars, version)
    return {
        "brokers": brokers,
        "controllers": controllers,
        "quorum": sorted(quorum),
        "roles": roles,
        "release": release,
    }


def kafka_seen(hosts: Sequence[str], hostvars: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return what the hosts' own configurations say of the cluster: `nodes`, `brokers` (ids) and `bootstrap`."""
    states = [hostvars[host].get("kafka_state") or {} for host in hosts]
    nodes = [state for state in states if state.get("formatted")]
    brokers = [state for state in nodes if state.get("broker")]
    return {
        "nodes": [state["node_id"] for state in nodes],
        "brokers": sorted(state["node_id"] for state in brokers),
        "bootstrap": [state["broker"] for state in brokers],
    }


def kafka_endpoints(members: Sequence[Mapping[str, Any]], port: int) -> list[str]:
    """Return `address:port` of each member."""
    return [f"{member['address']}:{int(port)}" for member in members]


def kafka_addresses(hosts: Sequence[str], hostvars: Mapping[str, Any], port: int) -> list[str]:
    """Return `address:port` of each host, for a client that knows nothing else of them."""
    return [f"{address_of(hostvars[host], host)}:{int(port)}" for host in hosts]


def kafka_initial_controllers(controllers: Sequence[Mapping[str, Any]], port: int) -> str:
    """Return the storage tool's `--initial-controllers`, equal on every host."""
    return ",".join(f"{one['node_id']}@{one['address']}:{int(port)}:{one['directory_id']}" for one in controllers)


def leader_seen(variables: Mapping[str, Any]) -> int | None:
    """Return the leader of the quorum by what a host answered in this run (-1: not known to it); None if it did not."""
    for name in ("kafka_ready", "kafka_started"):
        answer = variables.get(name) or {}
        if "leader" in answer:
            return int(answer["leader"])
        if answer.get("failed"):
            break
    return None


def kafka_answering(members: Sequence[Mapping[str, Any]], hostvars: Mapping[str, Any]) -> list[int]:
    """Return the node ids of the members that answered in this run."""
    return [one["node_id"] for one in members if leader_seen(hostvars[one["host"]]) is not None]


def kafka_restart_order(hosts: Sequence[str], hostvars: Mapping[str, Any], stale_only: bool = True) -> list[str]:
    """Return the hosts to restart: brokers first, then controllers, the active controller last."""
    seen = [leader_seen(hostvars[host]) for host in hosts]
    leader = max((one for one in seen if one is not None), default=-1)

    def rank(host: str) -> tuple[bool, bool, int]:
        number = int(hostvars[host]["kafka_node_id"])
        return number == leader, "controller" in hostvars[host]["kafka_plan"]["roles"][host], number

    queued = [h for h in hosts if not stale_only or (hostvars[h].get("kafka_started") or {}).get("stale")]
    return sorted(queued, key=rank)


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {
            "kafka_directory_id": kafka_directory_id,
            "kafka_plan": kafka_plan,
            "kafka_answering": kafka_answering,
            "kafka_restart_order": kafka_restart_order,
            "kafka_seen": kafka_seen,
            "kafka_endpoints": kafka_endpoints,
            "kafka_addresses": kafka_addresses,
            "kafka_initial_controllers": kafka_initial_controllers,
        }
