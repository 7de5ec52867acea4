"""Which instance types a region has, asked before anything is made for hosts, and what their networks carry."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from labtool.cloud.session import DENIED, Session, error_code, told_clearly
from labtool.errors import CloudError, UsageError

NEAREST = 3
GIGABIT = 1e9


@dataclass(frozen=True)
class Bandwidth:
    """What the network of an instance carries, in bits/s; None where EC2 does not say."""

    baseline: float | None = None  # always
    burst: float | None = None  # for a while, from credits


def check(session: Session, types: Iterable[str]) -> None:
    """Return if the region has every one of `types`; `UsageError` names those it has not and the nearest it has."""
    wanted = sorted(set(types))
    if not wanted:
        return
    with told_clearly("reading the instance types"):
        try:
            session.ec2.describe_instance_types(InstanceTypes=wanted)
            return
        except Exception as error:
            if error_code(error) in DENIED:
                return  # who may launch need not be allowed to list: RunInstances says the rest
            if error_code(error) not in ("InvalidInstanceType", "InvalidParameterValue"):
                raise
        pages = session.ec2.get_paginator("describe_instance_type_offerings").paginate()
        known = [offering["InstanceType"] for page in pages for offering in page["InstanceTypeOfferings"]]
    missing = [name for name in wanted if name not in known]
    if not missing:
        return
    nearest = difflib.get_close_matches(missing[0], sorted(known), n=NEAREST, cutoff=0.0)
    raise UsageError(
        f"{session.target.region} has no instance type {', '.join(missing)}",
        f"the nearest to {missing[0]} that it has: {', '.join(nearest)}",
    )


def bandwidths(session: Session, types: Iterable[str]) -> Mapping[str, Bandwidth]:
    """Return what the networks of `types` carry, by EC2's word; none where it bills nothing, or does not answer.

    Of an instance with several network cards that of the card of its first interface. Hosts of the local cloud are not
    limited, whatever their type is.
    """
    wanted = sorted(set(types))
    if not wanted or not session.target.billed:
        return {}
    try:
        with told_clearly("reading the instance types"):
            pages = session.ec2.get_paginator("describe_instance_types").paginate(InstanceTypes=wanted)
            described = [each for page in pages for each in page["InstanceTypes"]]
    except CloudError:  # the run is worth more than its scale
        return {}
    found = {}
    for each in described:
        network = each.get("NetworkInfo", {})
        first = network.get("DefaultNetworkCardIndex", 0)
        cards = [card for card in network.get("NetworkCards", ()) if card.get("NetworkCardIndex") == first]
        for card in cards:
            base, burst = (card.get(f"{name}BandwidthInGbps") for name in ("Baseline", "Peak"))
            found[each["InstanceType"]] = Bandwidth(base and base * GIGABIT, burst and burst * GIGABIT)
    return found
