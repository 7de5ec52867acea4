"""What hosts cost per hour with the disks they have, and volumes that nobody uses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from labtool.cloud import price
from labtool.cloud.price import Price
from labtool.topology import Host


def of_hosts(hosts: Iterable[Host]) -> Price:
    """Return the price of `hosts`; for a stopped one only its disk is paid.

    Of spot instances the on-demand price, which theirs never exceeds.
    """
    total, unknown = 0.0, set()
    for host in hosts:
        one = price.of([host.instance_type] if host.running else [], host.root_gib)
        total += one.usd_per_hour if host.running else disk(host.root_gib)
        unknown |= set(one.unknown)
    return Price(total, tuple(sorted(unknown)))


def disk(gib: float) -> float:
    """Return US dollars per hour of a gp3 volume."""
    return gib * price.GP3_USD_PER_GIB_MONTH / price.HOURS_PER_MONTH


def of_volume(volume: Mapping[str, Any]) -> float:
    """Return US dollars per hour of a volume as DescribeVolumes shows it, as if it were gp3: ours are."""
    return disk(float(volume["Size"]))
