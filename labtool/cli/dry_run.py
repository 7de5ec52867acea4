"""What --dry-run shows: the plan against what there is. It starts, makes, locks and writes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labtool.cli.connect import connect_running, launch_options
from labtool.cli.launching import Terms, lifetime_text, parse_ttl, terms
from labtool.topology import GroupSpec, Host, Lab

if TYPE_CHECKING:
    from labtool.cloud.plan import Plan
    from labtool.cloud.request import Options
    from labtool.cloud.session import Session
    from labtool.config import Settings
    from labtool.progress import Progress


@dataclass(frozen=True)
class Outlook:
    """The lab as it is; `session` is None where no cloud runs, and then nothing is there."""

    lab: Lab
    session: Session | None
    options: Options  # how hosts would be launched
    ttl: timedelta  # how long they would live
    image: str | None  # of which they would be made; None: the cloud's default


@dataclass(frozen=True)
class Foreseen:
    """What would be launched and started, and the lab after that."""

    plan: Plan
    cost: Terms
    lab: Lab

    @property
    def data(self) -> dict[str, Any]:
        """The same as JSON data."""
        launches = self.plan.launches
        return {
            "launch": [{"name": name, "type": each.instance_type} for each in launches for name in each.hosts],
            "start": [host.name for host in self.plan.start],
            "usd_per_hour": self.cost.usd_per_hour,
            "ttl_minutes": self.cost.span.total_seconds() / 60,
            "usd_at_most": self.cost.most_usd,
            "without_price": sorted({*self.cost.new.unknown, *self.cost.again.unknown}),
        }

    def tell(self) -> None:
        """Print it."""
        for each in self.plan.launches:
            print(f"would launch {', '.join(each.hosts)} ({each.instance_type})")
        for host in self.plan.start:
            print(f"would start {host.name}")
        if self.plan.empty:
            print("nothing to launch")
            return
        if self.plan.launches:
            print(f"price on AWS: {self.cost.new}")
            usd, new = self.cost.most_usd - self.cost.again_usd, self.cost.new
            most = f": ${usd:.2f} at most{new.without}" if new.known else ""
            print(f"they end themselves after {lifetime_text(self.cost.span)}{most}")
        if self.plan.start:
            print(f"price on AWS of those started again: {self.cost.again}")
            if self.cost.again.known:
                print(f"until they end themselves: ${self.cost.again_usd:.2f} at most")


def look(chosen: Settings, progress: Progress, typed: Mapping[str, Any] | None = None) -> Outlook:
    """Return what a dry run can see; `typed` are the options of how hosts are launched."""
    from labtool.cloud import find

    ttl = parse_ttl(chosen.ttl)
    options = launch_options(chosen, typed)
    session = connect_running(chosen, progress)
    lab = find.find_lab(session, chosen.lab) if session else Lab(chosen.lab, chosen.region)
    return Outlook(lab, session, options, ttl, chosen.image)


def foresee(seen: Outlook, specs: Sequence[GroupSpec]) -> Foreseen:
    """Return what `specs` would come to; `UsageError` for what could not be launched."""
    from labtool.cloud import images, instance_types, plan

    planned = plan.make(seen.lab, specs)
    seen.options.check(planned.launches)
    if seen.session:
        instance_types.check(seen.session, planned.types)
        if planned.launches:
            images.resolve(seen.session, seen.image)
    elif seen.image:
        images.check_name(seen.image)
    cost = terms(planned, seen.lab, seen.session, seen.options, seen.ttl)
    return Foreseen(planned, cost, _after(seen.lab, planned))


def playbook(stack: Any, lab: Lab, values: Any, strategy: Any) -> str:
    """Return the call of Ansible that would follow, as text for a shell."""
    from labtool.ansible import command, inventory
    from labtool.ssh import Access

    # The access is not shown, and making the real one makes folders.
    access = Access(Path("id_ed25519"), Path("known_hosts"), Path("control"))
    hosts = inventory.of_lab(lab, access)
    return command.build(stack.playbook, hosts, extra_vars=stack.extra_vars(values), strategy=strategy).shell()


def _after(lab: Lab, planned: Plan) -> Lab:
    now = datetime.now(UTC)
    new = [
        Host(f"{each.group}-{index}", each.group, index, "", "running", each.instance_type, "", "", "", "", "", now)
        for each in planned.launches
        for index in each.indexes
    ]
    kept = [replace(host, state="running") if host in planned.start else host for host in lab]
    return Lab(lab.name, lab.region, (*kept, *new))
