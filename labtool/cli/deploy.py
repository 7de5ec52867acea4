"""labtool deploy STACK: launch what is missing, deploy, verify, print the endpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labtool.cli import options


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
    root_gib: options.RootGib = None,
    placement: options.Placement = None,
    zone: options.Zone = None,
    spot: options.Spot = None,
    instance_profile: options.InstanceProfile = None,
    vpc: options.Vpc = None,
    subnet: options.Subnet = None,
    private: options.Private = None,
    ssm: options.Ssm = None,
    lab: options.LabName = None,
    cloud: options.Cloud = None,
    region: options.Region = None,
    json: options.Json = False,
) -> None:
    """Deploy `stack` with the options `typed`; the others stay as they were deployed, else at their default."""
    from dataclasses import replace

    from labtool.ansible import command, inventory
    from labtool.cli import launching, render
    from labtool.cli.connect import settings
    from labtool.cli.display import PlayDisplay
    from labtool.cloud import keys
    from labtool.experiment import deploy

    typed_hosts = options.of_hosts(
        root_gib=root_gib,
        placement=placement,
        zones=zone,
        spot=spot,
        instance_profile=instance_profile,
        vpc=vpc,
        subnet=subnet,
        private=private,
        ssm=ssm,
    )
    chosen = settings(
        cloud=cloud,
        lab=lab,
        region=region,
        instance_type=type,
        ttl=ttl,
        image=image,
        strategy=strategy,
        aws=typed_hosts,
    )
    with launching.held(chosen, ssh_from=ssh_from, typed=typed_hosts) as work:
        before = deploy.remembered(work.session, work.lab.name).get(stack.name, {})
        # What a newer labtool no longer has is no option any more.
        values = stack.values({**{name: value for name, value in before.items() if name in stack.options}, **typed})
        specs = stack.groups(values)
        if type:
            specs = tuple(replace(spec, instance_type=type) for spec in specs)
        for spec in specs:
            has = len(work.lab.groups.get(spec.name, ()))
            if has > spec.count:
                work.display.line(
                    f"group {spec.name} has {has} hosts and keeps them: fewer ({spec.count}) would lose what they hold"
                )
        ready = launching.bring_up(work, specs, dry_run=dry_run, yes=yes)
        if ready is None:
            access = keys.access(work.session, work.lab.name)
            planned = command.build(
                stack.playbook,
                inventory.of_lab(work.lab, access),
                extra_vars=stack.extra_vars(values),
                strategy=chosen.strategy,
            )
            print(f"then, on them:\n{planned.shell()}")
            return
        done = deploy.deploy(
            work.session,
            ready,
            stack,
            values,
            strategy=chosen.strategy,
            observers=[PlayDisplay(work.display)],
            progress=work.display,
        )
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
    print(f"{stack.name} is ready in lab {ready.name}: {done.play.changed} changes")
    for name, value in endpoints.items():
        print(f"{name}: {value}")
