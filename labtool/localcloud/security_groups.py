"""Security groups as packet filter rules: EC2's state in, one nftables script out. Nothing is run here.

What is filtered: traffic between hosts, from hosts to the outside, and from the machine to hosts (its address on the
bridge is the caller's). A packet between hosts needs the sender's outbound rules and the receiver's inbound ones.
Connections are followed, so answers pass and what was let in stays when a rule is revoked. Hosts that the script
does not know, and senders that are not who they say, reach nobody.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from labtool.localcloud.engine import mac_address
from labtool.localcloud.metadata_tree import groups_of
from labtool.localcloud.network import METADATA, LabNetwork

PROBE_MARK = 0x1AB0
"""On packets by which this cloud asks whether a host's sshd runs: EC2's status checks pass every group too."""


@dataclass(frozen=True)
class Rule:
    """One permission: who may be spoken with, and how."""

    protocol: str  # "-1", "tcp", "udp", "icmp" or a number
    ports: tuple[int, int] | None  # for ICMP type and code, -1 for any
    networks: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


@dataclass(frozen=True)
class Group:
    """A security group."""

    id: str
    ingress: tuple[Rule, ...] = ()
    egress: tuple[Rule, ...] = ()


@dataclass(frozen=True)
class Member:
    """An instance's address, its groups, and the bridge's port it is behind, if it runs."""

    address: str
    groups: tuple[str, ...]
    port: str | None = None


def groups(ec2: Any) -> list[Group]:
    """Return the security groups of EC2's state."""
    found = [group for vpc in ec2.groups.values() for group in vpc.values()]
    return [
        Group(
            group.id,
            tuple(rule for each in group.ingress_rules if (rule := _rule(each))),
            tuple(rule for each in group.egress_rules if (rule := _rule(each))),
        )
        for group in sorted(found, key=lambda group: str(group.id))
    ]


def members(ec2: Any, ports: dict[str, str]) -> list[Member]:
    """Return the instances that have an address; `ports` are the bridge's by instance id."""
    return [
        Member(
            instance.private_ip,
            tuple(sorted(group.id for group in groups_of(instance))),
            ports.get(instance.id),
        )
        for instance in sorted(ec2.all_instances(), key=lambda instance: str(instance.id))
        if instance.state != "terminated"
    ]


def script(network: LabNetwork, known: Sequence[Group], hosts: Sequence[Member], *, ports: bool = True) -> str:
    """Return the nftables script; applying it replaces what an earlier one made, in one step.

    `ports` False leaves out the check of senders, for a kernel whose nftables cannot filter a bridge.
    """
    return _filter(network, known, hosts) + (senders(network, hosts) if ports else "")


def senders(network: LabNetwork, hosts: Iterable[Member]) -> str:
    """Return the table that lets a host send with its own addresses only; strangers with the lab's are dropped."""
    family, table = tables(network)[1]
    running = [(member.port, mac_address(member.address), member.address) for member in hosts if member.port]
    lines = [
        f"table {family} {table} {{}}",
        f"delete table {family} {table}",
        f"table {family} {table} {{",
        _set("ports", "type ifname;", [f'"{port}"' for port, _, _ in running]),
        _set("cards", "type ifname . ether_addr;", [f'"{port}" . {mac}' for port, mac, _ in running]),
        _set("own", "type ifname . ipv4_addr;", [f'"{port}" . {address}' for port, _, address in running]),
        _chain(
            "before",
            [
                "type filter hook prerouting priority -300; policy accept;",
                f"ip saddr {network.subnet} iifname . ip saddr != @own counter drop",
                f"arp saddr ip {network.subnet} iifname . arp saddr ip != @own counter drop",
                "iifname != @ports accept",
                "ether type != { ip, arp } counter drop",
                "iifname . ether saddr != @cards counter drop",
                f"ip saddr != {network.subnet} counter drop",
            ],
        ),
        "}",
    ]
    return "\n".join(lines) + "\n"


def tables(network: LabNetwork) -> list[tuple[str, str]]:
    """Return family and name of the tables that a script makes."""
    return [("inet", f"{network.table}_groups"), ("bridge", network.table)]


def _filter(network: LabNetwork, known: Sequence[Group], hosts: Sequence[Member]) -> str:
    family, table = tables(network)[0]
    bridge, by_id = network.bridge, {group.id: group for group in known}
    kinds = sorted({member.groups for member in hosts})
    number = {kind: index for index, kind in enumerate(kinds)}
    named = sorted({other for group in known for rule in (*group.ingress, *group.egress) for other in rule.groups})
    lines = [f"table {family} {table} {{}}", f"delete table {family} {table}", f"table {family} {table} {{"]
    for other in named:
        inside = [member.address for member in hosts if other in member.groups]
        lines.append(_set(_name(other), "type ipv4_addr;", inside))
    lines.append(_set("hosts", "type ipv4_addr;", [member.address for member in hosts]))
    for kind in kinds:
        own = [by_id[group_id] for group_id in kind if group_id in by_id]
        outbound = [match for group in own for rule in group.egress for match in _matches(rule, "daddr")]
        inbound = [match for group in own for rule in group.ingress for match in _matches(rule, "saddr")]
        lines.append(_chain(f"out_{number[kind]}", [*(f"{match} return" for match in _once(outbound)), "counter drop"]))
        lines.append(_chain(f"in_{number[kind]}", [*(f"{match} accept" for match in _once(inbound)), "counter drop"]))
    for name, verb, prefix in (("egress", "jump", "out"), ("ingress", "goto", "in")):
        verdicts = [f"{member.address} : {verb} {prefix}_{number[member.groups]}" for member in hosts]
        lines.append(_set(name, "type ipv4_addr : verdict;", verdicts, word="map"))
    lines += [
        _chain("leaving", ["ip saddr != @hosts counter drop", "ip saddr vmap @egress"]),
        _chain("arriving", ["ip daddr vmap @ingress", "counter drop"]),
        _chain(
            "forward",
            [
                "type filter hook forward priority filter; policy accept;",
                f'iifname != "{bridge}" oifname != "{bridge}" accept',
                "meta nfproto ipv6 counter drop",  # a VPC without IPv6 carries none
                "ct state established,related accept",
                f'iifname "{bridge}" jump leaving',
                f'oifname "{bridge}" jump arriving',
            ],
        ),
        _chain(
            "input",
            [
                "type filter hook input priority filter; policy accept;",
                f'iifname != "{bridge}" accept',
                "meta nfproto ipv6 counter drop",
                "ct state established,related accept",
                f"ct original ip daddr {METADATA} accept",  # as on EC2: no group closes it
                "jump leaving",
            ],
        ),
        _chain(
            "output",
            [
                "type filter hook output priority filter; policy accept;",
                f'oifname != "{bridge}" accept',
                f"ip daddr != {network.subnet} accept",
                "ct state established,related accept",
                f"meta mark {PROBE_MARK:#x} accept",
                f"ip daddr {network.gateway} accept",
                "jump arriving",
            ],
        ),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _rule(rule: Any) -> Rule | None:
    """Return moto's rule as ours; None for one that matches nothing here: IPv6, a prefix list, ports that are none."""
    networks = (str(rule.ip_range["CidrIp"]),) if rule.ip_range.get("CidrIp") else ()
    others = (str(rule.source_group["GroupId"]),) if rule.source_group.get("GroupId") else ()
    if not networks and not others:
        return None
    ports = None
    if rule.from_port is not None and rule.to_port is not None:
        ports = (int(rule.from_port), int(rule.to_port))
    made = Rule(str(rule.ip_protocol), ports, networks, others)
    return made if _possible(made) else None


def _possible(rule: Rule) -> bool:
    """Tell whether nft takes it: one impossible rule would keep all others from being applied."""
    first, last = rule.ports or (-1, -1)
    if rule.protocol in ("tcp", "udp"):
        return (first, last) == (-1, -1) or 0 <= first <= last <= 65535
    if rule.protocol == "icmp":
        return -1 <= first <= 255 and -1 <= last <= 255
    return rule.protocol == "-1" or (rule.protocol.isdigit() and int(rule.protocol) <= 255)


def _matches(rule: Rule, side: str) -> list[str]:
    """Return the rule as nftables matches; `side` is the other party's: `saddr` or `daddr`."""
    parties = [f"ip {side} {ipaddress.ip_network(network, strict=False)}" for network in rule.networks]
    parties += [f"ip {side} @{_name(group)}" for group in rule.groups]
    return [f"{party} {_protocol(rule)}".strip() for party in parties]


def _protocol(rule: Rule) -> str:
    first, last = rule.ports or (-1, -1)
    if rule.protocol == "-1":
        return ""
    if rule.protocol in ("tcp", "udp"):
        if first < 0 or (first, last) == (0, 65535):
            return f"meta l4proto {rule.protocol}"
        return f"{rule.protocol} dport {first}-{last}" if first != last else f"{rule.protocol} dport {first}"
    if rule.protocol == "icmp":
        if first < 0:
            return "meta l4proto icmp"
        return f"icmp type {first}" + (f" icmp code {last}" if last >= 0 else "")
    return f"meta l4proto {int(rule.protocol)}"


def _once(matches: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(matches))


def _name(group_id: str) -> str:
    return group_id.replace("-", "_")


def _set(name: str, kind: str, elements: Sequence[str], word: str = "set") -> str:
    listed = f" elements = {{ {', '.join(_once(elements))} }};" if elements else ""
    return f"  {word} {name} {{ {kind}{listed} }}"


def _chain(name: str, lines: Iterable[str]) -> str:
    return "\n".join([f"  chain {name} {{", *(f"    {line}" for line in lines), "  }"])
