"""What `up` will do, as a value: computed from what exists and what is asked, printed by --dry-run."""

from __future__ import annotations

import base64
import hashlib
import secrets
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from labtool.cloud import tags
from labtool.topology import GroupSpec, Host, Lab, VarSpec, missing_indexes


@dataclass(frozen=True)
class Launch:
    """The hosts one RunInstances call makes."""

    group: str
    indexes: tuple[int, ...]
    instance_type: str
    generation: str  # what tells this launch from an earlier one of the same hosts

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names of the hosts it makes."""
        return tuple(f"{self.group}-{index}" for index in self.indexes)


@dataclass(frozen=True)
class Plan:
    """What is to be done so that the lab has the hosts asked for."""

    lab: str
    launches: tuple[Launch, ...]
    start: tuple[Host, ...]  # stopped hosts of the groups
    specs: tuple[GroupSpec, ...]

    @property
    def empty(self) -> bool:
        """True when the lab already has what is asked."""
        return not self.launches and not self.start

    @property
    def types(self) -> tuple[str, ...]:
        """The instance type of each host that is launched."""
        return tuple(each.instance_type for each in self.launches for _ in each.indexes)

    def kept(self, lab: Lab) -> tuple[Host, ...]:
        """Return the hosts of `lab`, as it was planned for, that will run besides the new ones."""
        return tuple(replace(host, state="running") for host in lab if host.running or host in self.start)


def make(lab: Lab, specs: Sequence[GroupSpec], generation: str | None = None) -> Plan:
    """Compare what exists with what is asked. A group that already has more hosts keeps them."""
    generation = generation or secrets.token_hex(8)
    groups = lab.groups
    launches = []
    for spec in specs:
        existing = groups.get(spec.name, ())
        indexes = missing_indexes((host.index for host in existing), spec.count)
        # One call gives all of its instances the same tags: indexes too scattered for one tag take several calls.
        launches += [Launch(spec.name, part, spec.instance_type, generation) for part in tags.fitting(indexes)]
    wanted = {spec.name for spec in specs}
    stopped = tuple(h for h in lab if h.group in wanted and h.state in ("stopped", "stopping"))
    return Plan(lab.name, tuple(launches), stopped, tuple(specs))


def client_token(lab: str, launch: Launch, attempt: int) -> str:
    """Return the token that makes a repeated RunInstances harmless: at most 64 characters, as EC2 asks.

    An attempt in another zone is another call, and has another token; so have other hosts of the group.
    """
    made = f"{lab}/{launch.group}/{tags.index_text(launch.indexes)}/{launch.generation}/{attempt}"
    return hashlib.sha256(made.encode()).hexdigest()


def tag_changes(lab: Lab, specs: Iterable[GroupSpec]) -> dict[str, dict[str, str]]:
    """Return the tags each instance still lacks: the values and the other groups that its group declares.

    A value of lab scope is the one any host has, else new.
    """
    shared: dict[str, str] = {}
    for host in lab:
        for name, value in host.vars.items():
            shared.setdefault(name, value)
    by_group = {spec.name: spec for spec in specs}
    changes: dict[str, dict[str, str]] = {}
    for host in lab:
        new: dict[str, str] = {}
        spec = by_group.get(host.group)
        if spec and spec.also and spec.also != host.also:
            new[tags.ALSO] = ",".join(spec.also)
        for var in spec.vars if spec else ():
            if var.name in host.vars:
                continue
            if var.scope == "lab":
                shared.setdefault(var.name, make_value(var, host))
                new[tags.VAR + var.name] = shared[var.name]
            else:
                new[tags.VAR + var.name] = make_value(var, host)
        if new:
            changes[host.instance_id] = new
    return changes


def make_value(var: VarSpec, host: Host) -> str:
    """Make the value of `var` for `host`."""
    if var.make == "index":
        return str(var.base + host.index)
    while True:  # Kafka takes no id that begins with "-": it reads it as an option
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text
