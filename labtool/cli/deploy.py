"""labtool deploy STACK: launch what is missing, deploy, verify, print the endpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labtool.cli import options
from labtool.errors import StoppedError


@options.launches
def deploy_stack(
    stack: Any,
    typed: Mapping[str, Any],
    *,
    type: options.Type = None,
    image: options.Image = None,
    ttl: options.Ttl = None,
    strategy: options.Strategy = None,
    dry_run: options.DryRun = False,
    yes: options.Yes = False,
    ssh_from: options.SshFrom = None,
    proxy_jump: options.ProxyJump = None,
    hosts: Mapping[str, Any] | None = None,
    lab: options.LabName = None,
    cloud: options.Cloud = None,
    region: options.Region = None,
    json: options.Json = False,
) -> None:
    """Deploy `stack` with the options `typed`; the others stay as they were deployed, else at their default."""
    from labtool.cli import dry_run as dry
    from labtool.cli import launching, render
    from labtool.cli.connect import settings
    from labtool.cli.display import Display, PlayDisplay
    from labtool.experiment import deploy

    chosen = settings(
        cloud=cloud,
        lab=lab,
        region=region,
        instance_type=type,
        ttl=ttl,
        image=image,
        strategy=strategy,
        proxy_jump=proxy_jump,
        aws=hosts,
    )
    if dry_run:
        with Display() as display:
            seen = dry.look(chosen, display, hosts)
            before = deploy.remembered(seen.session, chosen.lab) if seen.session else {}
            values, specs = wanted(stack, typed, before, seen.lab, type, display)
            foreseen = dry.foresee(seen, specs)
        following = dry.playbook(stack, foreseen.lab, values, chosen.strategy)
        if json:
            render.data({**foreseen.data, "options": dict(values), "command": following})
        else:
            foreseen.tell()
            print(f"then, on them:\n{following}")
        return
    try:
        with launching.held(chosen, ssh_from=ssh_from, typed=hosts) as work:
            before = deploy.remembered(work.session, work.lab.name)
            values, specs = wanted(stack, typed, before, work.lab, type, work.display)
            ready = launching.bring_up(work, specs, yes=yes)
            done = deploy.deploy(
                work.session,
                ready,
                stack,
                values,
                strategy=chosen.strategy,
                observers=[PlayDisplay(work.display)],
                progress=work.display,
            )
    except KeyboardInterrupt:
        raise StoppedError("interrupted", "run it again to go on") from None
    endpoints = {each.name: each.text for each in stack.endpoints(ready, values)}
    if json:
        render.data(
            {
                "lab": ready.name,
                "stack": stack.name,
                "options": dict(values),
                "changed": done.play.changed,
                "host_tasks": done.play.host_tasks,
                "seconds": round(done.play.elapsed_s, 1),
                "endpoints": endpoints,
            }
        )
        return
    print(f"{stack.name} is ready in lab {ready.name}: {done.play.changed} change{'s' * (done.play.changed != 1)}")
    for name, value in endpoints.items():
        print(f"{name}: {value}")


def wanted(
    stack: Any,
    typed: Mapping[str, Any],
    before: Mapping[str, Mapping[str, Any]],
    lab: Any,
    instance_type: str | None,
    progress: Any,
) -> tuple[dict[str, Any], tuple[Any, ...]]:
    """Return the stack's options and groups: what was typed, else what it was deployed with, else the defaults.

    A group never shrinks, and an option that would have it shrink is what the group has.
    """
    from dataclasses import replace

    # What a newer labtool no longer has is no option any more.
    kept = {name: value for name, value in before.get(stack.name, {}).items() if name in stack.options}
    values = stack.values({**kept, **typed})
    counts = {spec.name: spec.count for spec in stack.groups(values)}
    for group, option in stack.counted_by().items():
        has, count = len(lab.groups.get(group, ())), counts.get(group, 0)
        if has > count:
            values[option] = stack.options[option].type == "bool" or has
            kept[option] = values[option]
            hosts = f"{has} hosts and keeps them" if has > 1 else "a host and keeps it"
            progress.line(f"group {group} has {hosts}: fewer ({count}) would lose what they hold")
    again = [stack.options[name].typed(values[name]) for name in kept if typed.get(name) is None]
    if again:
        progress.line(f"as {stack.name} was deployed before: {' '.join(again)}")
    specs = stack.groups(values)
    if instance_type:
        specs = tuple(replace(spec, instance_type=instance_type) for spec in specs)
    return values, specs
