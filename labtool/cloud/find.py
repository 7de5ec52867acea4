"""Which labs there are, and which hosts: read from the instances' tags, never from a local file."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from threading import Event
from typing import Any

from labtool.cloud import tags
from labtool.cloud.session import Session, told_clearly
from labtool.errors import LabtoolError, unknown
from labtool.topology import Lab

ALIVE = ("pending", "running", "stopping", "stopped")


@dataclass(frozen=True)
class Look:
    """A lab as one answer of the API showed it."""

    lab: Lab
    ids: frozenset[str]  # of all its instances, those that have ended among them
    unnamed: frozenset[str]  # those whose own index does not stand in their tags yet


def look(session: Session, name: str) -> Look:
    """Look at a lab, and at what has ended of it."""
    instances = describe(session, [{"Name": f"tag:{tags.LAB}", "Values": [name]}])
    alive = [instance for instance in instances if instance["State"]["Name"] in ALIVE]
    hosts = sorted(map(tags.host_of, alive), key=lambda h: (h.group, h.index))
    return Look(
        Lab(name, session.target.region, tuple(hosts)),
        frozenset(instance["InstanceId"] for instance in instances),
        frozenset(i["InstanceId"] for i in alive if not {tags.INDEX, "Name"} <= set(tags.to_map(i.get("Tags")))),
    )


def find_lab(session: Session, name: str) -> Lab:
    """Return the lab `name` with the hosts it has now, none if there are none."""
    return next(iter(find_labs(session, [name])), Lab(name, session.target.region))


def find_labs(session: Session, names: Iterable[str] | None = None) -> list[Lab]:
    """Return the labs of this account and region, those in `names` or all, by name."""
    filters = [{"Name": "instance-state-name", "Values": list(ALIVE)}]
    filters.append(
        {"Name": f"tag:{tags.LAB}", "Values": list(names)}
        if names is not None
        else {"Name": "tag-key", "Values": [tags.LAB]}
    )
    by_lab: dict[str, list[Any]] = {}
    for instance in describe(session, filters):
        by_lab.setdefault(tags.to_map(instance.get("Tags"))[tags.LAB], []).append(instance)
    labs = []
    for lab, instances in sorted(by_lab.items()):
        hosts = sorted(map(tags.host_of, instances), key=lambda h: (h.group, h.index))
        labs.append(Lab(lab, session.target.region, tuple(hosts)))
    return labs


def describe(session: Session, filters: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the instances that pass `filters`, every page of them."""
    with told_clearly("reading the instances"):
        pages = session.ec2.get_paginator("describe_instances").paginate(
            Filters=filters, PaginationConfig={"PageSize": 1000}
        )
        return [
            instance for page in pages for reservation in page["Reservations"] for instance in reservation["Instances"]
        ]


def existing(session: Session, name: str) -> Lab:
    """Return the lab `name`; where there is none, the error names the nearest there are."""
    lab = find_lab(session, name)
    if lab.hosts:
        return lab
    others = [each.name for each in find_labs(session)]
    if others:
        raise unknown("lab", name, others)
    return need_hosts(lab)


def asking(session: Session, name: str, beside: Executor) -> Future[Lab]:
    """Ask for `existing` by `beside`, and return as soon as the question has left.

    Python does one thing at a time: what is done while EC2 answers must not begin before, or it holds up the question.
    """
    left = Event()
    session.ec2.meta.events.register("before-send.ec2.DescribeInstances", lambda **_: left.set())
    asked = beside.submit(existing, session, name)
    asked.add_done_callback(lambda _: left.set())  # refused before it was sent
    left.wait()
    return asked


def volumes(session: Session, filters: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the volumes that pass `filters`, every page of them."""
    with told_clearly("reading the volumes"):
        pages = session.ec2.get_paginator("describe_volumes").paginate(
            Filters=filters, PaginationConfig={"PageSize": 500}
        )
        return [volume for page in pages for volume in page["Volumes"]]


def need_hosts(lab: Lab) -> Lab:
    """Return `lab` if it has running hosts, else say how to get some."""
    if not lab.hosts:
        raise LabtoolError(
            f"lab {lab.name} has no hosts, and there is no other lab",
            "`labtool deploy kafka-cluster` or `labtool up GROUP=COUNT` starts some",
        )
    if not lab.running:
        states = ", ".join(sorted({host.state for host in lab}))
        raise LabtoolError(f"no host of lab {lab.name} is running (they are {states})", "`labtool up` starts them")
    return lab
