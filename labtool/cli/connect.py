"""From settings to a session and a lab's hosts: the one place where the local cloud and AWS part ways."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from labtool.errors import LabtoolError, NothingThereError
from labtool.progress import Silent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from labtool.cli.checks import Check
    from labtool.cloud.request import Options
    from labtool.cloud.session import Session
    from labtool.config import Settings
    from labtool.progress import Progress
    from labtool.ssh import Access
    from labtool.topology import Lab


def settings(**flags: Any) -> Settings:
    """Return the settings with what was typed on the command line over them."""
    from labtool import config

    return config.load({key: value for key, value in flags.items() if value is not None})


def launch_options(chosen: Settings, typed: Mapping[str, Any] | None = None) -> Options:
    """Return how hosts are launched: the section [aws] for AWS, and for any cloud what was `typed`."""
    from labtool.checked import convert
    from labtool.cloud.request import Options
    from labtool.config import AwsSettings

    given = chosen.aws if chosen.cloud == "aws" else convert(dict(typed or {}), AwsSettings, lax=True)
    return Options(
        root_gib=given.root_gib,
        placement=given.placement,
        zones=given.zones,
        spot=given.spot,
        instance_profile=given.instance_profile,
        vpc=given.vpc,
        subnet=given.subnet,
        reach="ssm" if given.ssm else "private" if given.private else None,
        max_price_per_hour=given.max_price_per_hour,
        max_cost=given.max_cost,
    )


def connect(chosen: Settings, progress: Progress, *, ssh_from: str | None = None) -> Session:
    """Return a session; starts the local cloud where it is needed and does not run."""
    from labtool.cloud.session import Session, Target

    jump = None if chosen.proxy_jump == "none" else chosen.proxy_jump
    if chosen.cloud == "aws":
        return Session(Target("aws", chosen.region, caller_cidr=ssh_from, proxy_jump=jump))
    from labtool import localcloud

    endpoint = localcloud.start(chosen.local, progress.line)
    return Session(
        Target(
            cloud=f"local-{chosen.local.name}",
            kind="local",
            region=endpoint.region,
            endpoint_url=endpoint.url,
            hosts_endpoint_url=endpoint.hosts_url,
            access_key=endpoint.access_key,
            secret_key=endpoint.secret_key,
            default_image=endpoint.default_image,
            caller_cidr=ssh_from or chosen.local.gateway_cidr,
            proxy_jump=jump,
        )
    )


def connect_existing(chosen: Settings, progress: Progress) -> Session:
    """Return a session for a command that only looks or ends: it starts no local cloud that has nothing to show."""
    if chosen.cloud == "local":
        from labtool import localcloud

        if not localcloud.exists(chosen.local):
            raise NothingThereError(
                "the local cloud does not run and holds no hosts",
                "`labtool deploy kafka-cluster` or `labtool up GROUP=COUNT` starts it",
            )
    return connect(chosen, progress)


def reach(chosen: Settings) -> tuple[Lab, Access]:
    """Return the running lab and the access to it, host keys known."""
    from concurrent.futures import ThreadPoolExecutor

    from labtool.cli.display import Display
    from labtool.cloud import find

    with Display() as display, ThreadPoolExecutor(1) as beside:
        session = connect_existing(chosen, display)
        asked = find.asking(session, chosen.lab, beside)
        from labtool.cloud import keys, network  # while EC2 answers

        learned = keys.learned(session, chosen.lab)
        found = find.need_hosts(asked.result())
        access = keys.need_key(session, found.name)
        network.admit_if_silent(session, found, access, display)
        keys.learn(session, found.name, found.running, learned)
    return found, access


def connect_running(chosen: Settings, progress: Progress) -> Session | None:
    """Return a session for a dry run, which starts nothing; None where no local cloud runs."""
    if chosen.cloud == "local":
        from labtool import localcloud

        if localcloud.status(chosen.local) is None:
            held = localcloud.exists(chosen.local)
            progress.line(
                "the local cloud was killed: what it holds is not counted; `labtool cloud start` brings it back"
                if held
                else "the local cloud does not run: planned as an empty one"
            )
            return None
    return connect(chosen, progress)


def needs(chosen: Settings, hosts: int | None = None) -> list[Check]:
    """Return what the chosen cloud needs, met or not; with `hosts`, what so many more local ones would need too."""
    from labtool.cli import checks

    if chosen.cloud == "aws":
        session = connect(chosen, Silent())
        known = checks.credentials(session)
        return [known, *(checks.permissions(session) if known.ok else [])]
    from labtool import localcloud

    found = localcloud.checks(chosen.local)
    if hosts is not None:
        found += localcloud.room_for(chosen.local, hosts, _running(chosen))
    return [checks.Check(c.name, c.ok, c.detail, c.mend, c.needed) for c in found]


def make_room(chosen: Settings, hosts: int, progress: Progress) -> None:
    """Refuse to start so many more hosts where this machine cannot carry them, and say what will be scarce."""
    if chosen.cloud != "local" or not hosts:
        return
    from labtool import localcloud
    from labtool.errors import LocalCloudError

    for check in localcloud.room_for(chosen.local, hosts, _running(chosen)):
        if check.ok:
            continue
        if check.needed:
            raise LocalCloudError(f"no room for {hosts} more hosts: {check.name}: {check.detail}", check.mend)
        progress.line(f"{check.name}: {check.detail} ({check.mend})")


def _running(chosen: Settings) -> int:
    """Return how many hosts of the local cloud run."""
    from labtool import localcloud

    found = localcloud.status(chosen.local)
    return sum(found.hosts.get(state, 0) for state in ("pending", "running")) if found else 0


def confirm(question: str, *, yes: bool) -> None:
    """Ask before spending money; without a terminal only --yes will do."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise LabtoolError(f"{question}: nobody is here to ask", "say --yes to agree")
    import typer

    if not typer.confirm(question, err=True):
        raise LabtoolError("not agreed: nothing was done")
