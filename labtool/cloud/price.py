"""What hosts cost per hour, of which AWS is asked in `price_list` and a table of ours answers where it can't be.

On-demand prices for Linux. What belongs to a host besides: its gp3 root volume, its public IPv4 address, and the
detailed monitoring that labtool turns on. Traffic, snapshots and taxes are in none of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

HOURS_PER_MONTH = 730
ADDRESS_USD_PER_HOUR = 0.005
"""A public IPv4 address, in every region: https://aws.amazon.com/vpc/pricing/"""
MONITORING_USD_PER_HOUR = 7 * 0.30 / HOURS_PER_MONTH
"""Detailed monitoring: seven metrics at the price of one's own, by the hour: https://aws.amazon.com/cloudwatch/pricing/"""
METRIC_REQUEST_USD = 0.01 / 1000
"""GetMetricData, for each metric asked for; up to five statistics of a metric are one."""


@dataclass(frozen=True)
class Prices:
    """What AWS asks for in one region, in US dollars."""

    region: str
    dated: str  # the day, or for the table the month, of which they are
    hourly: Mapping[str, float]  # an instance for an hour, by its type
    gp3_gib_month: float
    where: str = ""  # the region they stand in for, if that is another

    def __str__(self) -> str:
        other = f"; {self.where} may differ" if self.where not in ("", self.region) else ""
        return f"list prices of {self.region}, {self.dated}{other}"

    def of_disk(self, gib: float) -> float:
        """Return US dollars per hour of a gp3 volume of `gib` GiB."""
        return gib * self.gp3_gib_month / HOURS_PER_MONTH

    def of(self, types: Iterable[str], root_gib: float, *, public: bool = True) -> Price:
        """Return the price of running instances of `types`, each with its root volume and, if `public`, an address."""
        total, unknown = 0.0, set()
        for each in types:
            if each not in self.hourly:
                unknown.add(each)
                continue
            total += self.hourly[each] + self.of_disk(root_gib) + MONITORING_USD_PER_HOUR
            total += ADDRESS_USD_PER_HOUR if public else 0.0
        return Price(total, tuple(sorted(unknown)), self)


@dataclass(frozen=True)
class Price:
    """The price of some hosts; `unknown` are the types that have none here."""

    usd_per_hour: float
    unknown: tuple[str, ...]
    prices: Prices

    def __add__(self, other: Price) -> Price:
        unknown = tuple(sorted({*self.unknown, *other.unknown}))
        return Price(self.usd_per_hour + other.usd_per_hour, unknown, self.prices)

    def __str__(self) -> str:
        if not self.known:
            return f"an unknown amount (no price of {', '.join(self.unknown)})"
        return f"${self.usd_per_hour:.3f} per hour ({self.prices}){self.without}"

    @property
    def known(self) -> bool:
        """False where none of it has a price here."""
        return self.usd_per_hour > 0 or not self.unknown

    @property
    def without(self) -> str:
        """Words that name the types that are not in the sum; empty if there are none."""
        return f", without {', '.join(self.unknown)}: no price known" if self.unknown else ""


SHIPPED = Prices(
    region="us-east-1",
    dated="2025-06",
    hourly={
        "t2.micro": 0.0116, "t2.small": 0.023, "t2.medium": 0.0464, "t2.large": 0.0928,
        "t3.nano": 0.0052, "t3.micro": 0.0104, "t3.small": 0.0208, "t3.medium": 0.0416,
        "t3.large": 0.0832, "t3.xlarge": 0.1664, "t3.2xlarge": 0.3328,
        "m5.large": 0.096, "m5.xlarge": 0.192, "m5.2xlarge": 0.384, "m5.4xlarge": 0.768,
        "m6i.large": 0.096, "m6i.xlarge": 0.192, "m6i.2xlarge": 0.384, "m6i.4xlarge": 0.768,
        "m7i.large": 0.1008, "m7i.xlarge": 0.2016, "m7i.2xlarge": 0.4032, "m7i.4xlarge": 0.8064,
        "c5.large": 0.085, "c5.xlarge": 0.17, "c5.2xlarge": 0.34, "c5.4xlarge": 0.68,
        "c6i.large": 0.085, "c6i.xlarge": 0.17, "c6i.2xlarge": 0.34, "c6i.4xlarge": 0.68,
        "r5.large": 0.126, "r5.xlarge": 0.252, "r5.2xlarge": 0.504, "r5.4xlarge": 1.008,
        "r6i.large": 0.126, "r6i.xlarge": 0.252, "r6i.2xlarge": 0.504, "r6i.4xlarge": 1.008,
        "i3.large": 0.156, "i3.xlarge": 0.312, "i3.2xlarge": 0.624,
        "i4i.large": 0.172, "i4i.xlarge": 0.343, "i4i.2xlarge": 0.686,
    },
    gp3_gib_month=0.08,
)  # fmt: skip
"""On-demand prices as published (https://aws.amazon.com/ec2/pricing/on-demand/, https://aws.amazon.com/ebs/pricing/)."""
