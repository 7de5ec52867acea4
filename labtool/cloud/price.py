"""What hosts cost per hour: on-demand Linux prices of us-east-1, kept with their date.

They are list prices (https://aws.amazon.com/ec2/pricing/on-demand/, https://aws.amazon.com/ebs/pricing/);
taxes, traffic and requests are not in them. A type that is not listed has no price here, and is said to have none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

DATED = "2025-06"
REGION = "us-east-1"
USD_PER_HOUR = {
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
}  # fmt: skip
GP3_USD_PER_GIB_MONTH = 0.08
HOURS_PER_MONTH = 730


@dataclass(frozen=True)
class Price:
    """The price of some hosts; `unknown` are the types that have none here."""

    usd_per_hour: float
    unknown: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = f"${self.usd_per_hour:.3f} per hour (list prices of {REGION}, {DATED})"
        return text + (f", without {', '.join(self.unknown)}: no price known" if self.unknown else "")


def of_type(instance_type: str) -> float | None:
    """Return US dollars per hour of one instance, None where it is not listed."""
    return USD_PER_HOUR.get(instance_type)


def of(types: Iterable[str], root_gib: int) -> Price:
    """Return the price of instances of `types`, each with a gp3 root volume of `root_gib` GiB."""
    total = 0.0
    unknown = set()
    for each in types:
        price = of_type(each)
        if price is None:
            unknown.add(each)
            continue
        total += price + root_gib * GP3_USD_PER_GIB_MONTH / HOURS_PER_MONTH
    return Price(total, tuple(sorted(unknown)))
