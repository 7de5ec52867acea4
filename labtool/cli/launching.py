"""What up, deploy and run share: hold the lab, show the price, ask, launch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from labtool.cli.connect import confirm, connect, connect_existing, launch_options, make_room
from labtool.cli.display import Display
from labtool.errors import UsageError
from labtool.topology import GroupSpec, Lab

if TYPE_CHECKING:
    from labtool.cloud.request import Options
    from labtool.cloud.session import Session
    from labtool.config import Settings

GROUP = re.compile(r"([a-z][a-z0-9_]*)=(\d+)(?::([a-z0-9.-]+))?")
TTL = re.compile(r"(\d+)\s*(m|min|h|d)")
MINUTES = {"m": 1, "min": 1, "h": 60, "d": 24 * 60}


@dataclass
class Work:
    """A lab that this command holds."""

    settings: Settings
    session: Session
    display: Display
    lab: Lab
    options: Options


@contextmanager
def held(
    chosen: Settings,
    *,
    ssh_from: str | None = None,
    existing: bool = False,
    typed: Mapping[str, Any] | None = None,
) -> Iterator[Work]:
    """Connect, hold the lab and find it; `typed` are the options of how hosts are launched.

    `existing`: an error that names the nearest lab where it is not there.
    """
    from labtool import lock
    from labtool.cloud import find, keys

    parse_ttl(chosen.ttl)
    options = launch_options(chosen, typed)
    with Display() as display:
        if existing:
            session = connect_existing(chosen, display)
            find.existing(session, chosen.lab)
        else:
            session = connect(chosen, display, ssh_from=ssh_from)
        with lock.hold(keys.lab_folder(session, chosen.lab), chosen.lab):
            yield Work(chosen, session, display, find.find_lab(session, chosen.lab), options)


def bring_up(work: Work, specs: Sequence[GroupSpec], *, yes: bool, at_least: int | None = None) -> Lab:
    """Launch what is missing of `specs` and return the lab."""
    from labtool.cloud import instance_types, launch, plan, price

    planned = plan.make(work.lab, specs)
    types = [each.instance_type for each in planned.launches for _ in each.indexes]
    work.options.check(planned.launches)
    instance_types.check(work.session, types)
    make_room(work.settings, len(types) + len(planned.start), work.display)
    if planned.launches and work.session.target.billed:
        cost = price.of(types, work.options.root_gib)
        confirm(f"{len(types)} hosts cost {cost}, for {work.settings.ttl} at most. Go on?", yes=yes)
    return launch.up(
        work.session,
        work.settings.lab,
        specs,
        image=work.settings.image,
        ttl=parse_ttl(work.settings.ttl),
        progress=work.display,
        options=work.options,
        at_least=at_least,
    )


def as_it_is(lab: Lab) -> list[GroupSpec]:
    """Return the groups a lab has: `up` without arguments starts its stopped hosts."""
    if not lab.hosts:
        raise UsageError(f"lab {lab.name} has no hosts yet: say which", "for example: labtool up web=3 load=1")
    return [GroupSpec(name, len(hosts), hosts[0].instance_type) for name, hosts in lab.groups.items()]


def parse_group(text: str, instance_type: str) -> GroupSpec:
    """Read GROUP=COUNT[:TYPE]."""
    match = GROUP.fullmatch(text)
    if not match:
        raise UsageError(f"{text!r} is not GROUP=COUNT or GROUP=COUNT:TYPE", "for example: web=3 or load=1:t3.large")
    return GroupSpec(match[1], int(match[2]), match[3] or instance_type)


def parse_ttl(text: str) -> timedelta:
    """Read a lifetime: 90m, 4h, 2d; between ten minutes and thirty days."""
    match = TTL.fullmatch(text.strip())
    if not match:
        raise UsageError(f"--ttl {text!r} is not a time", "for example: 90m, 4h, 2d")
    span = timedelta(minutes=int(match[1]) * MINUTES[match[2]])
    if not timedelta(minutes=10) <= span <= timedelta(days=30):
        raise UsageError(f"--ttl {text} is not between 10m and 30d")
    return span
