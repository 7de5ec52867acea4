"""What a lab is made of: plain data, no input or output."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from labtool.errors import UsageError

RESERVED = ("all", "ungrouped", "localhost")
"""What Ansible calls groups and hosts of its own."""
NAME = re.compile(rf"(?!(?:{'|'.join(RESERVED)})\Z)[a-z][a-z0-9_]{{0,30}}")
"""A group's name: also an Ansible group, so no hyphen."""
LAB_NAME = re.compile(r"^[a-z][a-z0-9-]{0,30}$")
"""A lab's name: part of names of AWS and of folders."""


@dataclass(frozen=True)
class Host:
    """One instance of a lab, as its tags and the API describe it."""

    name: str  # "<group>-<index>", given at launch
    group: str
    index: int
    instance_id: str
    state: str  # EC2's: pending, running, stopping, stopped, shutting-down, terminated
    instance_type: str
    address: str  # where SSH connects; the instance id where Session Manager carries it
    private_address: str
    zone: str
    image_id: str
    login: str  # the image's login user
    launched: datetime
    expires: datetime | None = None
    vars: Mapping[str, str] = field(default_factory=dict)  # tags "labtool:var:<name>"
    also: tuple[str, ...] = ()  # groups of the inventory that it is in besides: one host may be a whole system
    root_gib: int = 20
    reach: str = ""  # private or ssm; '': at its public address, if it has one
    spot: bool = False

    @property
    def running(self) -> bool:
        """True while the host can be reached."""
        return self.state == "running"


@dataclass(frozen=True)
class Lab:
    """A named set of hosts that live and die together."""

    name: str
    region: str
    hosts: tuple[Host, ...] = ()

    def __iter__(self) -> Iterator[Host]:
        return iter(self.hosts)

    def __len__(self) -> int:
        return len(self.hosts)

    @property
    def groups(self) -> dict[str, tuple[Host, ...]]:
        """Hosts by group, each group in the order of its indexes."""
        found: dict[str, list[Host]] = {}
        for host in sorted(self.hosts, key=lambda h: (h.group, h.index)):
            found.setdefault(host.group, []).append(host)
        return {name: tuple(hosts) for name, hosts in found.items()}

    @property
    def running(self) -> tuple[Host, ...]:
        """The hosts that can be reached."""
        return tuple(host for host in self.hosts if host.running)

    def host(self, name: str) -> Host:
        """Return the host called `name`; `UsageError` with the nearest names if there is none."""
        from labtool.errors import unknown

        for host in self.hosts:
            if host.name == name:
                return host
        raise unknown(f"host of lab {self.name}", name, (h.name for h in self.hosts))


@dataclass(frozen=True)
class GroupSpec:
    """What is asked for: `count` hosts of `instance_type` in group `name`."""

    name: str
    count: int
    instance_type: str
    vars: tuple[VarSpec, ...] = ()
    also: tuple[str, ...] = ()  # groups of the inventory that its hosts are in besides

    def __post_init__(self) -> None:
        if self.name in RESERVED:
            raise UsageError(f"a group cannot be called {self.name}: Ansible has its own", "for example: web, load")
        if not NAME.fullmatch(self.name):
            raise UsageError(
                f"group name {self.name!r} is not lower-case letters, digits and _, 31 at most",
                "for example: kafka, spark_worker",
            )
        if self.count < 0:
            raise UsageError(f"group {self.name}: a count of {self.count} is negative")


@dataclass(frozen=True)
class VarSpec:
    """A value that is made once, at launch, and kept in the hosts' tags.

    `make` is `uuid` (22 characters, base64url) or `index` (the host's index plus `base`); `scope` is `lab`
    (one value for all) or `host`.
    """

    name: str
    make: str
    scope: str = "host"
    base: int = 0


def missing_indexes(existing: Iterable[int], count: int) -> list[int]:
    """Return the indexes to launch so that a group has `count` hosts; the lowest free ones first."""
    taken = set(existing)
    wanted = count - len(taken)
    free = (i for i in range(len(taken) + max(wanted, 0)) if i not in taken)
    return [i for i, _ in zip(free, range(max(wanted, 0)), strict=False)]
