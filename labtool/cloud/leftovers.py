"""Everything that labs of this account and region have, whoever made them, and what it costs per hour."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from labtool.cloud import bucket, find, tags
from labtool.cloud.price import Price, Prices
from labtool.cloud.session import Session, told_clearly
from labtool.topology import Lab


@dataclass(frozen=True)
class Thing:
    """Something that is no host: a volume, security group, key pair, placement group or bucket."""

    lab: str
    kind: str
    id: str  # by which the API knows it
    name: str
    gib: float  # of a volume
    expires: datetime | None


@dataclass(frozen=True)
class Everything:
    """All labs with hosts, and all else that bears a lab's tag."""

    labs: tuple[Lab, ...]
    things: tuple[Thing, ...]

    @property
    def without_hosts(self) -> tuple[str, ...]:
        """The labs that have no hosts any more, but something else."""
        return tuple(sorted({thing.lab for thing in self.things} - {lab.name for lab in self.labs}))

    def of(self, lab: str) -> tuple[Thing, ...]:
        """What a lab has besides hosts."""
        return tuple(thing for thing in self.things if thing.lab == lab)

    def abandoned(self, now: datetime) -> tuple[str, ...]:
        """The labs without hosts whose time is over: one that is being launched has none yet either."""
        return tuple(lab for lab in self.without_hosts if not any(t.expires and t.expires > now for t in self.of(lab)))

    def price(self, prices: Prices) -> Price:
        """Return what all of it costs: hosts that run, and every volume."""
        total = Price(sum(prices.of_disk(thing.gib) for thing in self.things), (), prices)
        for host in (host for lab in self.labs for host in lab.running):
            total += prices.of([host.instance_type], 0, public=not host.reach)
        return total


def find_everything(session: Session) -> Everything:
    """Read all that bears a lab's tag: a call for each kind of thing, and its pages."""
    labs = tuple(find.find_labs(session))
    with_tag = [{"Name": "tag-key", "Values": [tags.LAB]}]
    things = [
        _thing(
            volume, "volume", volume["VolumeId"], f"{volume['VolumeId']} ({volume['Size']} GiB)", float(volume["Size"])
        )
        for volume in find.volumes(session, with_tag)
    ]
    with told_clearly("reading what labs have"):
        pages = session.ec2.get_paginator("describe_security_groups").paginate(Filters=with_tag)
        groups = [group for page in pages for group in page["SecurityGroups"]]
        pairs = session.ec2.describe_key_pairs(Filters=with_tag)["KeyPairs"]
        placements = session.ec2.describe_placement_groups()["PlacementGroups"]
    things += [_thing(each, "security group", each["GroupId"], each["GroupName"]) for each in groups]
    things += [_thing(each, "key pair", each["KeyName"], each["KeyName"]) for each in pairs]
    things += [
        _thing(each, "placement group", each["GroupName"], each["GroupName"])
        for each in placements
        if tags.LAB in tags.to_map(each.get("Tags"))
    ]
    buckets = bucket.of_labs(session).items()
    things += [Thing(lab, "bucket", each.name, each.name, 0.0, None) for lab, each in buckets]
    return Everything(labs, tuple(sorted(things, key=lambda t: (t.lab, t.kind, t.name))))


def counted(things: Iterable[Thing]) -> str:
    """Say how many there are of which kind: 3 volumes, 1 key pair."""
    kinds: dict[str, int] = {}
    for thing in things:
        kinds[thing.kind] = kinds.get(thing.kind, 0) + 1
    return ", ".join(f"{count} {kind}{'s' * (count != 1)}" for kind, count in kinds.items())


def _thing(each: dict[str, Any], kind: str, id: str, name: str, gib: float = 0.0) -> Thing:
    own = tags.to_map(each.get("Tags"))
    return Thing(own.get(tags.LAB, ""), kind, id, name, gib, tags.parse_time(own.get(tags.EXPIRES)))
