"""What a lab's hosts cost per hour with the disks they have, and for how long some money keeps them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from labtool.cloud.price import Price, Prices
from labtool.errors import UsageError
from labtool.topology import Host

SHORTEST = timedelta(minutes=10)
"""A lifetime that is worth launching for."""
LEAST = timedelta(minutes=1)
"""What is paid for an instance at least: https://aws.amazon.com/ec2/pricing/on-demand/"""


def of_hosts(hosts: Iterable[Host], prices: Prices) -> Price:
    """Return the price of `hosts`; for a stopped one only its disk is paid.

    Of spot instances the on-demand price, which theirs never exceeds.
    """
    total = Price(0.0, (), prices)
    for host in hosts:
        if host.running:
            total += prices.of([host.instance_type], host.root_gib, public=not host.reach)
        else:
            total += Price(prices.of_disk(host.root_gib), (), prices)
    return total


def to_start(stopped: Iterable[Host], prices: Prices) -> Price:
    """Return what `stopped` hosts cost more when they run; their disks are paid already."""
    total = Price(0.0, (), prices)
    for host in stopped:
        total += prices.of([host.instance_type], 0.0, public=not host.reach)
    return total


def spent(hosts: Iterable[Host], prices: Prices, until: datetime) -> float:
    """Return US dollars that running `hosts` cost from launch to `until`: by the second, at least for a minute."""
    return sum(
        of_hosts([host], prices).usd_per_hour * (max(LEAST, until - host.launched) / timedelta(hours=1))
        for host in hosts
    )


def longer(hosts: Iterable[Host], prices: Prices, until: datetime) -> float:
    """Return US dollars that running `hosts` cost from the end they had to `until`."""
    ends = ((host, host.expires or until) for host in hosts)
    return sum(of_hosts([host], prices).usd_per_hour * ((until - end) / timedelta(hours=1)) for host, end in ends)


def hold(whole: Price, most_usd_per_hour: float | None) -> None:
    """Refuse a lab that would cost more per hour than it may; `UsageError`."""
    if most_usd_per_hour is None:
        return
    if whole.unknown:
        raise UsageError(
            f"--max-price-per-hour cannot be held: there is no price of {', '.join(whole.unknown)}",
            "choose a type that has one, or leave the option out",
        )
    if whole.usd_per_hour > most_usd_per_hour:
        raise UsageError(
            f"the lab would cost {whole}, more than --max-price-per-hour {most_usd_per_hour:g}",
            "fewer hosts, smaller ones (--type), or a higher limit",
        )


def lifetime(new: Price, asked: timedelta, most_usd: float | None) -> timedelta:
    """Return how long new hosts live: as asked, or until they have cost `most_usd`; `UsageError` if that is too short.

    Whole minutes. What is billed beyond the end, while an instance shuts down, is about one of them.
    """
    if most_usd is None:
        return asked
    if new.unknown:
        raise UsageError(
            f"--max-cost cannot be held: there is no price of {', '.join(new.unknown)}",
            "choose a type that has one, or --ttl instead",
        )
    if not new.usd_per_hour:
        return asked
    bought = timedelta(minutes=int(most_usd / new.usd_per_hour * 60) - 1)
    if bought < SHORTEST:
        minutes = max(0, int(bought.total_seconds() // 60))
        raise UsageError(
            f"--max-cost {most_usd:g} buys {minutes} minutes of hosts at {new}",
            f"fewer or smaller hosts (--type), or ${new.usd_per_hour * 11 / 60:.2f} for the shortest life, ten minutes",
        )
    return min(asked, bought)
