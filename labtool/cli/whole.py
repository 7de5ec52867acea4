"""labtool run WORKLOAD, where the workload is run whole: launch its lab, deploy, measure, end the lab, report."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labtool.cli import measure, options
from labtool.errors import LabtoolError, StoppedError, UsageError

if TYPE_CHECKING:
    from labtool.cli.launching import Work

Keep = Annotated[bool, typer.Option("--keep", help="Leave the hosts; `labtool down --lab NAME` ends them.")]
Minutes = Annotated[
    float | None,
    typer.Option("--minutes", "-m", help="Length of the window. [default: what it takes]", **measure.LENGTH),
]
Ttl = Annotated[
    str | None,
    typer.Option(
        "--ttl",
        metavar="TIME",
        help="If nothing else does, hosts end themselves after this. [default: the window and 30m]",
    ),
]
Own = Annotated[
    str | None,
    typer.Option(
        "--lab", "-l", metavar="NAME", help="The lab. [default: the workload's name]", rich_help_panel="Where"
    ),
]
AROUND_MIN = 30
"""Minutes that hosts live longer than the window: to launch, deploy and gather, on a slow day."""


@options.launches
def run_whole(
    workload: Any,
    typed: Mapping[str, Any],
    *,
    minutes: Minutes = None,
    warmup: measure.Warmup = None,
    name: measure.Name = None,
    keep: Keep = False,
    type: options.Type = None,
    image: options.Image = None,
    ttl: Ttl = None,
    strategy: options.Strategy = None,
    dry_run: options.DryRun = False,
    yes: options.Yes = False,
    ssh_from: options.SshFrom = None,
    proxy_jump: options.ProxyJump = None,
    hosts: Mapping[str, Any] | None = None,
    lab: Own = None,
    cloud: options.Cloud = None,
    region: options.Region = None,
    json: options.Json = False,
) -> None:
    """Run `workload` in a lab of its own: launched, deployed, measured, reported and ended."""
    from labtool import stacks
    from labtool.cli import launching
    from labtool.cli.connect import settings

    stack, settled = stacks.stack(workload.stack), measure.settle(workload, typed, minutes)
    values = settled.values
    warm = measure.warmup_s(settled, warmup)
    seconds = measure.window_s(workload, settled, minutes, warm)
    measure.check_warmup(warm, seconds)
    short = None if keep else f"{AROUND_MIN + math.ceil(seconds / 60)}m"
    chosen = settings(
        cloud=cloud,
        lab=lab or workload.name,
        region=region,
        instance_type=type,
        ttl=ttl or short,
        image=image,
        strategy=strategy,
        proxy_jump=proxy_jump,
        aws=hosts,
    )
    if dry_run:
        _foretell(chosen, stack, workload, values, type, hosts, keep=keep, json=json)
        return
    with launching.held(chosen, ssh_from=ssh_from, typed=hosts) as work:
        before = _own(work, stack, workload, values)
        with _ended(work, keep=keep) as spent:
            lab_of_it, deployed = _deploy(work, stack, workload, values, before, type, yes=yes)
            measured = measure.of_lab(
                work,
                lab_of_it,
                deployed,
                workload,
                settled,
                seconds=seconds,
                warmup=warm,
                name=name,
                ends=not keep,
            )
        measure.draw(measured.directory, work.display)
    measure.tell(measured.directory, json=json, more={"usd": spent.usd, "kept": keep})
    if spent.told and not json:
        print(spent.told)
    if measured.failure is not None:
        raise measured.failure


def _own(work: Work, stack: Any, workload: Any, values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what the lab was deployed with by an earlier try; `UsageError` where it has hosts of something else."""
    from labtool.experiment import deploy

    most = {spec.name: spec.count for spec in _groups(stack.groups(stack.values()), workload.groups(values))}
    others = [host.name for group, there in work.lab.groups.items() for host in there[most.get(group, 0) :]]
    before = deploy.remembered(work.session, work.lab.name) if work.lab.hosts else {}
    if others or set(before) - {stack.name}:
        has = ", ".join(others) or ", ".join(sorted(set(before) - {stack.name}))
        raise UsageError(
            f"lab {work.lab.name} has something else ({has}), and {workload.name} ends its lab when it is done",
            "give it a lab of its own: --lab NAME",
        )
    if work.lab.hosts:
        work.display.line(f"lab {work.lab.name} is there from an earlier try: going on with it")
    return before


def _groups(stack: Sequence[Any], workload: Sequence[Any], instance_type: str | None = None) -> tuple[Any, ...]:
    """Return the groups of hosts of both; of one that both have, the stack's."""
    found = {spec.name: spec for spec in (*workload, *stack)}.values()
    return tuple(replace(spec, instance_type=instance_type) if instance_type else spec for spec in found)


def _deploy(
    work: Work,
    stack: Any,
    workload: Any,
    values: Mapping[str, Any],
    before: Mapping[str, Mapping[str, Any]],
    instance_type: str | None,
    *,
    yes: bool,
) -> tuple[Any, dict[str, dict[str, Any]]]:
    """Launch what is missing of the hosts and deploy the stack; return the lab and what is deployed in it."""
    from labtool.cli import deploy as deploying
    from labtool.cli import launching
    from labtool.cli.display import PlayDisplay
    from labtool.experiment import deploy

    stack_values, specs = deploying.wanted(stack, {}, before, work.lab, instance_type, work.display)
    ready = launching.bring_up(work, _groups(specs, workload.groups(values), instance_type), yes=yes)
    deploy.deploy(
        work.session,
        ready,
        stack,
        stack_values,
        strategy=work.settings.strategy,
        observers=[PlayDisplay(work.display)],
        progress=work.display,
    )
    return ready, {stack.name: dict(stack_values)}


@dataclass
class Spent:
    """What the hosts have cost; `told` says it in a sentence."""

    usd: float = 0.0
    told: str = ""


@contextmanager
def _ended(work: Work, *, keep: bool) -> Iterator[Spent]:
    """End the lab when the block ends, however it ends, unless it is kept; say what it cost."""
    spent = Spent()
    try:
        yield spent
    except BaseException as error:
        work.display.over(error.__class__)
        if not keep:
            _end(work, spent)
            if spent.told:
                work.display.line(spent.told)
        raise
    if keep:
        ends = _price(work, spent)
        spent.told += f"; its hosts go on for {ends} at most, `labtool down --lab {work.lab.name}` ends them"
    else:
        _end(work, spent)


def _end(work: Work, spent: Spent) -> None:
    """End the lab; whatever prevents that is told with the command that does it."""
    from labtool.cloud import end

    name = work.lab.name
    try:
        work.display.stage("end")
        _price(work, spent)
        count = end.down(work.session, name, work.display)
        work.display.over()
    except KeyboardInterrupt:
        raise StoppedError(
            f"interrupted while lab {name} was being ended", f"`labtool down --lab {name}` ends what is left of it"
        ) from None
    except LabtoolError as error:
        raise LabtoolError(
            f"lab {name} could not be ended: {error.message}", f"`labtool down --lab {name}` tries it again"
        ) from error
    if count and spent.told:
        spent.told += "; nothing is left of it"


def _price(work: Work, spent: Spent) -> str:
    """Note what the lab's hosts have cost until now; return how long they would go on, in words."""
    from labtool.cli import render
    from labtool.cloud import bill, clock, find, price_list

    lab = find.find_lab(work.session, work.lab.name)
    prices = price_list.prices(work.session, (host.instance_type for host in lab))
    now, cost = clock.now(), bill.of_hosts(lab, prices)
    spent.usd = round(bill.spent(lab, prices, now), 4)
    if not lab.hosts:
        return render.left(None)
    lived = render.duration(max(now - host.launched for host in lab))
    where = "cost" if work.session.target.billed else "would have cost on AWS"
    hosts = f"{len(lab)} host{'s' * (len(lab) != 1)}"
    spent.told = f"lab {lab.name} {where} ${spent.usd:.4f}: {hosts} for {lived}, {cost}"
    return render.left(max((host.expires for host in lab if host.expires), default=None))


def _foretell(
    chosen: Any,
    stack: Any,
    workload: Any,
    values: Mapping[str, Any],
    instance_type: str | None,
    hosts: Mapping[str, Any] | None,
    *,
    keep: bool,
    json: bool,
) -> None:
    """Say what would be launched and played, and do nothing."""
    from labtool.cli import deploy as deploying
    from labtool.cli import dry_run as dry
    from labtool.cli import render
    from labtool.cli.display import Display
    from labtool.experiment import deploy

    with Display() as display:
        seen = dry.look(chosen, display, hosts)
        before = deploy.remembered(seen.session, chosen.lab) if seen.session else {}
        stack_values, specs = deploying.wanted(stack, {}, before, seen.lab, instance_type, display)
        foreseen = dry.foresee(seen, _groups(specs, workload.groups(values), instance_type))
    plays = [
        dry.playbook(stack, foreseen.lab, stack_values, chosen.strategy),
        dry.playbook(workload, foreseen.lab, values, chosen.strategy),
    ]
    if json:
        render.data({**foreseen.data, "options": dict(values), "commands": plays, "kept": keep})
        return
    foreseen.tell()
    print("then, on them:", *plays, sep="\n")
    print("and then leave them" if keep else "and then end them")
