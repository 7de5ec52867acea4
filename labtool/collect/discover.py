"""Which metrics a namespace outside of the catalogue has of a lab, by ListMetrics.

ListMetrics shows a new metric after up to 15 minutes and forgets one after two weeks without data:
https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_ListMetrics.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from labtool.collect.metric_plan import Instance, Listed

RECENT = timedelta(hours=2)
"""Windows that began no longer ago are listed with RecentlyActive=PT3H: fewer pages."""

NAMES_A_HOST = frozenset({"instanceid", "instance", "host", "hostname", "volumeid"})
NAMES_A_LAB = frozenset({"lab", "labtoollab"})


class Client(Protocol):
    """What is used of boto3's CloudWatch client."""

    def list_metrics(self, **kwargs: Any) -> Any:
        """Answer a page of metrics."""
        ...


class Named(Instance, Protocol):
    """An instance with the addresses that an agent on it may call it by."""

    @property
    def address(self) -> str:
        """Where SSH connects."""

    @property
    def private_address(self) -> str:
        """Its address in the subnet."""


@dataclass(frozen=True)
class Found:
    """The metrics of a lab in a namespace, and how many others there are."""

    metrics: tuple[Listed, ...]
    others: int
    requests: int


def discover(client: Client, namespace: str, hosts: Sequence[Named], lab: str, start: datetime, now: datetime) -> Found:
    """List a namespace once, every page of it, and keep what belongs to `hosts`, or names no host and no other lab.

    A metric belongs to the host whose id, name, address or volume is one of its dimensions' values.
    """
    owners = {name.lower(): host for host in hosts for name in _names(host)}
    request: dict[str, Any] = {"Namespace": namespace}
    if now - start <= RECENT:
        request["RecentlyActive"] = "PT3H"
    kept: list[Listed] = []
    others = requests = 0
    while True:
        page = client.list_metrics(**request)
        requests += 1
        for metric in page.get("Metrics", ()):
            found = _listed(metric, owners, lab)
            if found is None:
                others += 1
            else:
                kept.append(found)
        if not page.get("NextToken"):
            return Found(tuple(kept), others, requests)
        request["NextToken"] = page["NextToken"]


def _listed(metric: Mapping[str, Any], owners: Mapping[str, Named], lab: str) -> Listed | None:
    """Return a metric of the lab; None if it is another's."""
    dimensions = tuple((str(each["Name"]), str(each["Value"])) for each in metric.get("Dimensions", ()))
    owner = next((host for _, value in dimensions if (host := _owner(value, owners)) is not None), None)
    for name, value in dimensions:
        plain = "".join(letter for letter in name.lower() if letter.isalnum())
        if plain in NAMES_A_LAB and value != lab:
            return None
        if plain in NAMES_A_HOST and owner is None:
            return None
        if plain == "instanceid" and _owner(value, owners) is None:
            return None  # a host of the same name, of another lab
    return Listed(
        owner.name if owner else "",
        owner.instance_id if owner else "",
        str(metric["Namespace"]),
        str(metric["MetricName"]),
        dimensions,
    )


def _owner(value: str, owners: Mapping[str, Named]) -> Named | None:
    name = value.lower()
    # EC2's names go on with .ec2.internal, or .REGION.compute.internal.
    return owners.get(name.partition(".")[0] if name.startswith("ip-") else name)


def _names(host: Named) -> list[str]:
    names = [host.name, host.instance_id, *host.volumes]
    for address in {host.address, host.private_address} - {""}:
        names += [address, f"ip-{address.replace('.', '-')}"]
    return names
