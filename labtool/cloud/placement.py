"""Where hosts are launched: the VPC, a subnet for every zone that may be tried, placement groups."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from labtool.cloud import tags
from labtool.cloud.keys import pair_name
from labtool.cloud.session import Session, error_code, told_clearly
from labtool.errors import CloudError, UsageError

if TYPE_CHECKING:
    from labtool.cloud.request import Options


@dataclass(frozen=True)
class Site:
    """A subnet to launch in, and its zone. `default`: the zone's own, which gives addresses as its owner set it."""

    subnet: str
    zone: str
    default: bool = True


def choose_vpc(session: Session, options: Options, of_lab: str | None) -> str:
    """Return the id of the VPC to launch in: the one that was named, the one the lab is in, the default one.

    `UsageError` where the lab is in another than the one that was named.
    """
    named: str | None = None
    if options.vpc:
        named = _one(session, "vpc", options.vpc)["VpcId"]
    elif options.subnet:
        named = _one(session, "subnet", options.subnet)["VpcId"]
    if of_lab and named not in (None, of_lab):
        raise UsageError(f"the lab is in {of_lab}, not in {named}", "a lab is in one VPC: choose another --lab")
    return named or of_lab or default_vpc(session)


def default_vpc(session: Session) -> str:
    """Return the id of the region's default VPC; `CloudError` where it has none."""
    with told_clearly("reading the VPCs"):
        vpcs = session.ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    if not vpcs:
        raise CloudError(
            f"region {session.target.region} has no default VPC",
            "--vpc names another; `aws ec2 create-default-vpc` makes one",
        )
    return str(vpcs[0]["VpcId"])


def sites(session: Session, vpc: str, options: Options, first: Iterable[str] = ()) -> list[Site]:
    """Return where to try, in order: the zones asked for, else those of `first` and then the others by name."""
    if options.subnet:
        found = [_one(session, "subnet", options.subnet)]
    else:
        with told_clearly("reading the subnets"):
            pages = session.ec2.get_paginator("describe_subnets").paginate(
                Filters=[{"Name": "vpc-id", "Values": [vpc]}]
            )
            found = [subnet for page in pages for subnet in page["Subnets"]]
    best: dict[str, dict[str, Any]] = {}
    for subnet in sorted(found, key=lambda s: _rank(s, private=options.reach is not None)):
        best.setdefault(subnet["AvailabilityZone"], subnet)
    zones = list(options.zones) or [*(z for z in first if z in best), *(z for z in sorted(best) if z not in set(first))]
    unknown = [zone for zone in zones if zone not in best]
    if unknown:
        raise UsageError(
            f"there is no subnet of {vpc} in {', '.join(unknown)}",
            f"it has subnets in {', '.join(sorted(best)) or 'no zone'}",
        )
    if not zones:
        raise CloudError(f"{vpc} has no subnet", "--vpc or --subnet names another")
    return [Site(best[zone]["SubnetId"], zone, bool(best[zone].get("DefaultForAz"))) for zone in zones]


def group_name(lab: str, group: str, strategy: str) -> str:
    """Return the name of a placement group.

    Hosts of a lab that are to be near each other share one; those that are to be apart are apart from their group's.
    """
    return pair_name(lab) if strategy == "cluster" else f"{pair_name(lab)}-{group}"


def ensure_group(session: Session, lab: str, name: str, strategy: str, expires: datetime) -> None:
    """Make the placement group `name` where it is missing; `UsageError` if it is there and places otherwise."""
    with told_clearly(f"making placement group {name}"):
        try:
            session.ec2.create_placement_group(
                GroupName=name,
                Strategy=strategy,
                **({"PartitionCount": 7} if strategy == "partition" else {}),
                TagSpecifications=[
                    {
                        "ResourceType": "placement-group",
                        "Tags": tags.to_list({tags.LAB: lab, tags.EXPIRES: tags.time_text(expires)}),
                    }
                ],
            )
        except Exception as error:
            if error_code(error) != "InvalidPlacementGroup.Duplicate":
                raise
            found = find_placement_groups(session, lab)
            other = next((g["Strategy"] for g in found if g["GroupName"] == name and g["Strategy"] != strategy), None)
            if other:
                raise UsageError(
                    f"placement group {name} places by {other}, not by {strategy}",
                    f"--placement {other}, or another --lab",
                ) from None


def find_placement_groups(session: Session, lab: str) -> Sequence[dict[str, Any]]:
    """Return the lab's placement groups."""
    with told_clearly("reading the placement groups"):
        found: list[dict[str, Any]] = session.ec2.describe_placement_groups(
            Filters=[{"Name": f"tag:{tags.LAB}", "Values": [lab]}]
        )["PlacementGroups"]
    return found


def _one(session: Session, kind: str, named: str) -> dict[str, Any]:
    """Return the one VPC or subnet of an id or Name tag."""
    known = {"vpc": ("describe_vpcs", "Vpcs"), "subnet": ("describe_subnets", "Subnets")}
    method, key = known[kind]
    filters = (
        [{"Name": f"{kind}-id", "Values": [named]}]
        if re.fullmatch(rf"{kind}-[0-9a-f]+", named)
        else [{"Name": "tag:Name", "Values": [named]}]
    )
    with told_clearly(f"reading {kind} {named}"):
        found = getattr(session.ec2, method)(Filters=filters)[key]
    if len(found) != 1:
        how_many = "no" if not found else f"{len(found)}"
        raise UsageError(
            f"there {'is' if not found else 'are'} {how_many} {kind} called {named} in {session.target.region}",
            f"name it by its id, {kind}-…",
        )
    return dict(found[0])


def _rank(subnet: dict[str, Any], *, private: bool) -> tuple[bool, bool, int]:
    """Order the subnets of a zone: its default, those that are as private as is wanted, the emptiest."""
    return (
        not subnet.get("DefaultForAz"),
        bool(subnet.get("MapPublicIpOnLaunch")) == private,
        -int(subnet.get("AvailableIpAddressCount", 0)),
    )
