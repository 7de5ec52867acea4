"""What up, deploy and run share: hold the lab, show the price, ask, launch."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from labtool.cli.connect import confirm, connect, connect_existing, launch_options, make_room
from labtool.cli.display import Display
from labtool.errors import UsageError
from labtool.topology import GroupSpec, Lab

if TYPE_CHECKING:
    from labtool.cloud.plan import Plan
    from labtool.cloud.price import Price
    from labtool.cloud.request import Options
    from labtool.cloud.session import Session
    from labtool.config import Settings

GROUP = re.compile(r"([a-z][a-z0-9_]*)=(\d+)(?::([a-z0-9.-]+))?")
TTL = re.compile(r"(\d+)\s*(m|min|h|d)")
HOUR = timedelta(hours=1)
MINUTES = {"m": 1, "min": 1, "h": 60, "d": 24 * 60}


@dataclass
class Work:
    """A lab that this command holds."""

    settings: Settings
    session: Session
    display: Display
    lab: Lab
    options: Options
    change: ExitStack  # until it is closed nobody else may change the lab


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
        with ExitStack() as change:
            change.enter_context(lock.hold(keys.lab_folder(session, chosen.lab), chosen.lab))
            yield Work(chosen, session, display, find.find_lab(session, chosen.lab), options, change)


@contextmanager
def measuring(work: Work) -> Iterator[None]:
    """Hold the lab for a measurement: from now on others may change it, as a deploy of more hosts does, not end it."""
    from labtool import lock
    from labtool.cloud import keys

    with lock.hold(keys.lab_folder(work.session, work.settings.lab), work.settings.lab, lock.MEASURE):
        work.change.close()
        yield


def bring_up(work: Work, specs: Sequence[GroupSpec], *, yes: bool, at_least: int | None = None) -> Lab:
    """Launch what is missing of `specs` and return the lab."""
    from labtool.cloud import instance_types, launch, plan

    planned = plan.make(work.lab, specs)
    work.options.check(planned.launches)
    instance_types.check(work.session, planned.types)
    asked = terms(planned, work.lab, work.session, work.options, parse_ttl(work.settings.ttl))
    make_room(work.settings, len(planned.types) + len(planned.start), work.display)
    if not planned.empty and work.session.target.billed:
        told = asked.told()
        if yes:
            work.display.line(told)
        confirm(f"{told}. Go on?", yes=yes)
    return launch.up(
        work.session,
        work.settings.lab,
        specs,
        image=work.settings.image,
        ttl=asked.span,
        progress=work.display,
        options=work.options,
        at_least=at_least,
    )


@dataclass(frozen=True)
class Terms:
    """What a plan costs: its new hosts, and the stopped ones that it starts again."""

    plan: Plan
    new: Price
    span: timedelta  # how long new hosts live
    again: Price  # of the started ones, without the disks, which are paid for stopped hosts too
    again_usd: float  # until they end

    @property
    def usd_per_hour(self) -> float:
        """US dollars that an hour of the lab costs more than before."""
        return self.new.usd_per_hour + self.again.usd_per_hour

    @property
    def most_usd(self) -> float:
        """US dollars that all of it costs until the hosts end themselves."""
        return self.new.usd_per_hour * (self.span / HOUR) + self.again_usd

    def told(self) -> str:
        """Say it in a sentence."""
        parts = []
        if self.plan.launches:
            usd = self.new.usd_per_hour * (self.span / HOUR)
            most = f", ${usd:.2f} in the {lifetime_text(self.span)} they live at most" if self.new.known else ""
            parts.append(f"{_hosts(len(self.plan.types))} {self.new}{most}")
        if self.plan.start:
            most = f", ${self.again_usd:.2f} until they end at most" if self.again.known else ""
            parts.append(f"{_hosts(len(self.plan.start), ' started again')} {self.again}{most}")
        return "; ".join(parts)


def _hosts(count: int, which: str = "") -> str:
    return f"{count} host{'s' * (count != 1)}{which} cost{'s' * (count == 1)}"


def terms(planned: Plan, lab: Lab, session: Session | None, options: Options, ttl: timedelta) -> Terms:
    """Return what a plan costs and how long its new hosts live; `UsageError` beyond what was allowed.

    Without a session, or where hosts cost nothing, at the prices that labtool ships.
    """
    from labtool.cloud import bill, clock, price_list
    from labtool.cloud.price import SHIPPED

    prices = SHIPPED
    if not planned.empty and session:
        prices = price_list.prices(session, [*planned.types, *(host.instance_type for host in lab)])
    new = prices.of(planned.types, options.root_gib, public=not options.reach)
    again = bill.to_start(planned.start, prices)
    if not planned.empty:
        bill.hold(new + bill.of_hosts(planned.kept(lab), prices), options.max_price_per_hour)
    span = bill.lifetime(new, ttl, options.max_cost) if planned.launches else ttl
    until_end = sum(
        bill.to_start([host], prices).usd_per_hour * (max(timedelta(0), host.expires - clock.now()) / HOUR)
        for host in planned.start
        if host.expires
    )
    return Terms(planned, new, span, again, until_end)


def lifetime_text(span: timedelta) -> str:
    """Say a lifetime as --ttl takes it: 4h, 90m."""
    minutes = int(span.total_seconds() // 60)
    return f"{minutes // 60}h" if minutes % 60 == 0 else f"{minutes}m"


def as_it_is(lab: Lab) -> list[GroupSpec]:
    """Return the groups a lab has: `up` without arguments starts its stopped hosts."""
    if not lab.hosts:
        raise UsageError(f"lab {lab.name} has no hosts yet: say which", "for example: labtool up web=3 load=1")
    return [GroupSpec(name, len(hosts), hosts[0].instance_type) for name, hosts in lab.groups.items()]


def parse_groups(texts: Sequence[str], instance_type: str) -> list[GroupSpec]:
    """Read GROUP=COUNT[:TYPE] of each group; `UsageError` where one stands twice."""
    specs = [parse_group(text, instance_type) for text in texts]
    counts = Counter(spec.name for spec in specs)
    if twice := next((name for name, count in counts.items() if count > 1), None):
        raise UsageError(f"group {twice} stands {counts[twice]} times", f"say once how many hosts: {twice}=COUNT")
    return specs


def parse_group(text: str, instance_type: str) -> GroupSpec:
    """Read GROUP=COUNT[:TYPE]."""
    match = GROUP.fullmatch(text)
    if not match:
        raise UsageError(f"{text!r} is not GROUP=COUNT or GROUP=COUNT:TYPE", "for example: web=3 or load=1:t3.large")
    return GroupSpec(match[1], int(match[2]), match[3] or instance_type)


def check_at_least(at_least: int | None, specs: Sequence[GroupSpec]) -> None:
    """Refuse to go on with more hosts than are asked for."""
    asked = sum(spec.count for spec in specs)
    if at_least is not None and at_least > asked:
        raise UsageError(f"--at-least {at_least} is more than the {asked} host{'s' * (asked != 1)} asked for")


def parse_ttl(text: str) -> timedelta:
    """Read a lifetime: 90m, 4h, 2d; between ten minutes and thirty days."""
    match = TTL.fullmatch(text.strip())
    if not match:
        raise UsageError(f"--ttl {text!r} is not a time", "for example: 90m, 4h, 2d")
    span = timedelta(minutes=int(match[1]) * MINUTES[match[2]])
    if not timedelta(minutes=10) <= span <= timedelta(days=30):
        raise UsageError(f"--ttl {text} is not between 10m and 30d")
    return span
