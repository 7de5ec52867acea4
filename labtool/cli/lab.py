"""The lab's life: up, down, status, ssh, exec, cp."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from labtool.cli import options
from labtool.errors import LabtoolError, NothingThereError, UsageError
from labtool.topology import Host, Lab

GROUPS_HELP = "GROUP=COUNT or GROUP=COUNT:TYPE, as web=3 load=1:t3.large. Without any, stopped hosts are started."


@options.launches
def up(
    groups: Annotated[list[str] | None, typer.Argument(help=GROUPS_HELP, metavar="GROUP=COUNT")] = None,
    type: options.Type = None,
    image: options.Image = None,
    ttl: options.Ttl = None,
    dry_run: options.DryRun = False,
    yes: options.Yes = False,
    ssh_from: options.SshFrom = None,
    proxy_jump: options.ProxyJump = None,
    at_least: Annotated[
        int | None, typer.Option("--at-least", help="Go on when this many hosts are ready.", min=1, metavar="N")
    ] = None,
    hosts: Mapping[str, Any] | None = None,
    lab: options.LabName = None,
    cloud: options.Cloud = None,
    region: options.Region = None,
    json: options.Json = False,
) -> None:
    """Launch hosts and wait until SSH answers.

    What exists stays as it is; only what is missing is launched.
    """
    from labtool.cli import dry_run as dry
    from labtool.cli import launching, render
    from labtool.cli.connect import settings
    from labtool.cli.display import Display

    chosen = settings(
        cloud=cloud,
        lab=lab,
        region=region,
        instance_type=type,
        ttl=ttl,
        image=image,
        proxy_jump=proxy_jump,
        aws=hosts,
    )
    specs = launching.parse_groups(groups or (), chosen.instance_type)
    if specs:
        launching.check_at_least(at_least, specs)
    if dry_run:
        with Display() as display:
            seen = dry.look(chosen, display, hosts)
            specs = specs or launching.as_it_is(seen.lab)
            launching.check_at_least(at_least, specs)
            foreseen = dry.foresee(seen, specs)
        if json:
            render.data(foreseen.data)
        else:
            foreseen.tell()
        return
    with launching.held(chosen, ssh_from=ssh_from, typed=hosts) as work:
        specs = specs or launching.as_it_is(work.lab)
        launching.check_at_least(at_least, specs)
        ready = launching.bring_up(work, specs, yes=yes, at_least=at_least)
    if json:
        render.data([host_data(host) for host in ready])
    else:
        print_hosts(ready.hosts)


def down(
    all: Annotated[bool, typer.Option("--all", help="Every lab of this cloud and region, whoever made it.")] = False,
    expired: Annotated[bool, typer.Option("--expired", help="The labs whose time is over.")] = False,
    yes: options.Yes = False,
    lab: options.LabName = None,
    cloud: options.Cloud = None,
    region: options.Region = None,
    json: options.Json = False,
) -> None:
    """End the lab's hosts and all that is theirs.

    Volumes, security group, key pair and placement groups too. Returns when everything is gone.
    """
    from labtool import lock
    from labtool.cli import render
    from labtool.cli.connect import confirm, connect_existing, settings
    from labtool.cli.display import Display
    from labtool.cloud import clock, end, keys, leftovers

    chosen = settings(cloud=cloud, lab=lab, region=region)
    with Display() as display:
        try:
            session = connect_existing(chosen, display)
        except NothingThereError as nothing:
            if json:
                render.data([])
            else:
                print(f"nothing to end: {nothing.message}")
            return
        late: dict[str, list[str]] = {}
        if all or expired:
            found, now = leftovers.find_everything(session), clock.now()
            if expired:
                whole = end.expired(found.labs, now)
                names = [each.name for each in whole] + list(found.abandoned(now))
                for each in found.labs:
                    if each not in whole and (ended := end.end_expired_hosts(session, [each], now)):
                        late[each.name] = ended
            else:
                names = [each.name for each in found.labs] + list(found.without_hosts)
            if all and session.target.billed and names:
                confirm(f"end {len(names)} labs ({', '.join(names)}) of this account in {chosen.region}?", yes=yes)
        else:
            names = [end.known(session, chosen.lab)]
        display.stage("end")
        counts: dict[str, int] = {}
        failed: list[LabtoolError] = []
        for name in names:
            try:
                folder = keys.lab_folder(session, name)
                with lock.hold(folder, name), lock.hold(folder, name, lock.MEASURE):
                    counts[name] = end.down(session, name, display)
            except LabtoolError as error:
                failed.append(error)
    if json:
        every = {name: len(hosts) for name, hosts in late.items()} | counts
        render.data([{"lab": name, "hosts_ended": count} for name, count in every.items()])
    else:
        for name, hosts in late.items():
            print(f"ended in lab {name}, which goes on: {', '.join(hosts)}")
        for name, count in counts.items():
            print(f"lab {name}: {count} host{'s' * (count != 1)} ended, nothing is left")
    if failed:
        raise failed[0] if len(names) == 1 else LabtoolError("; ".join(e.message for e in failed), failed[0].hint)
    if not counts and not late and not json:
        print("no lab to end")


def status(
    all: Annotated[bool, typer.Option("--all", help="Every lab of this cloud and region.")] = False,
    lab: options.LabName = None,
    cloud: options.Cloud = None,
    region: options.Region = None,
    json: options.Json = False,
) -> None:
    """Show the lab's hosts and what they cost.

    State, address, age, what is left of their time, price per hour on AWS.
    """
    from labtool.cli import render
    from labtool.cli.connect import connect_existing, settings
    from labtool.cli.display import Display
    from labtool.cloud import bill, find, leftovers, price_list
    from labtool.cloud.price import SHIPPED

    chosen = settings(cloud=cloud, lab=lab, region=region)
    found = leftovers.Everything((), ())
    try:
        with Display() as display:
            session = connect_existing(chosen, display)
            if all:
                found = leftovers.find_everything(session)
            elif json:  # to a program, none is an answer
                found = leftovers.Everything(tuple(find.find_labs(session, [chosen.lab])), ())
            else:
                found = leftovers.Everything((find.existing(session, chosen.lab),), ())
    except NothingThereError:
        if not json:
            raise
    types = [host.instance_type for each in found.labs for host in each]
    prices = price_list.prices(session, types) if types or found.things else SHIPPED
    if json:
        render.data(
            [
                {
                    "lab": each.name,
                    "region": each.region,
                    "usd_per_hour": bill.of_hosts(each, prices).usd_per_hour,
                    "hosts": [host_data(host) for host in each],
                    **({"has": [thing_data(thing, prices) for thing in found.of(each.name)]} if all else {}),
                }
                for each in [*found.labs, *(Lab(name, chosen.region) for name in found.without_hosts)]
            ]
        )
        return
    if not found.labs:
        print("no hosts in any lab; `labtool up GROUP=COUNT` starts some")
    where = "costs" if session.target.billed else "would cost on AWS"
    for each in found.labs:
        cost = bill.of_hosts(each, prices)
        print(f"lab {each.name}: {len(each)} host{'s' * (len(each) != 1)} in {each.region}; {where} {cost}")
        print_hosts(each.hosts)
        if all:
            print(f"  and {leftovers.counted(found.of(each.name))}")
    for name in found.without_hosts:
        things = found.of(name)
        hourly = sum(prices.of_disk(thing.gib) for thing in things)
        told = ", ".join(f"{thing.kind} {thing.name}" for thing in things)
        print(f"lab {name}: no hosts any more, but {told}; {where} ${hourly:.3f} per hour; `labtool down --lab {name}`")
    if all and session.target.billed:
        print(f"all of it {where} {found.price(prices)}")


def extend(
    ttl: Annotated[str | None, typer.Option("--ttl", help="From now on: 90m, 4h, 2d. [default: 4h]")] = None,
    on: Annotated[str | None, typer.Option("--on", help="Hosts or groups, comma-separated. [default: all]")] = None,
    proxy_jump: options.ProxyJump = None,
    lab: options.LabName = None,
    cloud: options.Cloud = None,
    region: options.Region = None,
    json: options.Json = False,
) -> None:
    """Let the lab's hosts live longer.

    Moves the timer on each host, then the tag that tells of it; says which hosts could not be reached, and what the
    others cost until their new end.
    """
    from labtool.cli import launching, render
    from labtool.cli.connect import settings
    from labtool.cloud import bill, clock, find, keys, network, price_list
    from labtool.cloud import extend as extending

    chosen = settings(cloud=cloud, lab=lab, region=region, ttl=ttl, proxy_jump=proxy_jump)
    expires = clock.now().replace(microsecond=0) + launching.parse_ttl(chosen.ttl)
    with launching.held(chosen, existing=True) as work:
        session, found = work.session, find.need_hosts(work.lab)
        access = keys.need_key(session, found.name)
        network.admit_caller(session, found.name, work.display)
        keys.learn(session, found.name, found.running)
        hosts = meant(found, on)
        done = extending.extend(session, hosts, expires, extending.over_ssh(access))
        later = [host for host in hosts if host.name in done.done]
        prices = price_list.prices(session, (host.instance_type for host in later))
        more_usd, hourly = bill.longer(later, prices, expires), bill.of_hosts(later, prices)
    if json:
        data = {"usd_more": round(more_usd, 4), "types_without_price": hourly.unknown, **done.__dict__}
        render.data({"expires": expires.isoformat(), **data})
    elif done.done:
        count = len(done.done)
        cost = f": ${more_usd:.2f} more at most ({prices}){hourly.without}" if session.target.billed else ""
        print(f"{count} host{'s' * (count != 1)} of lab {found.name}: ends in {render.left(expires)}{cost}")
    if done.longer and not json:
        print(f"left as they are, for they end later: {', '.join(done.longer)}")
    if done.failed:
        raise LabtoolError(
            "not extended, and ending when they would have: "
            + ", ".join(f"{name} ({why})" for name, why in done.failed.items()),
            "run the command again; `labtool status` shows when each host ends",
        )


def ssh(
    host: Annotated[str, typer.Argument(help="Host name, as kafka-0.")],
    command: Annotated[list[str] | None, typer.Argument(help="What to run; a shell if nothing is named.")] = None,
    proxy_jump: options.ProxyJump = None,
    lab: options.LabName = None,
    cloud: options.Cloud = None,
    region: options.Region = None,
) -> None:
    """Log in to a host, or run a command on it."""
    from labtool import ssh as remote
    from labtool.cli.connect import reach, settings

    words = typed_words(command or (), "labtool ssh [OPTIONS] HOST [COMMAND]")
    chosen = settings(cloud=cloud, lab=lab, region=region, proxy_jump=proxy_jump)
    found, access = reach(chosen)
    target = found.host(host)
    if not target.running:
        raise LabtoolError(f"{host} is {target.state}", "`labtool up` starts it")
    # A command on a terminal too: only so does ^C end it on the host.
    terminal = sys.stdin.isatty() and (not words or sys.stdout.isatty())
    line = remote.command(access, target, shell_line(words), tty=terminal)
    os.execvp(line[0], line)  # noqa: S606 - ssh takes the terminal over


def exec_(
    command: Annotated[list[str], typer.Argument(help="The command; -- before it if it has options.")],
    on: Annotated[str | None, typer.Option("--on", help="Hosts or groups, comma-separated. [default: all]")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds until a host is given up.", min=0.1)] = 600,
    proxy_jump: options.ProxyJump = None,
    lab: options.LabName = None,
    cloud: options.Cloud = None,
    region: options.Region = None,
    json: options.Json = False,
) -> None:
    """Run a command on all running hosts at once.

    Fails if it fails on any of them. Hosts that do not run are left out and named; that is no failure.
    """
    from labtool.cli import render
    from labtool.cli.connect import reach, settings
    from labtool.cli.remote import run_everywhere

    words = typed_words(command, "labtool exec [OPTIONS] COMMAND")
    if not words:
        raise UsageError("no command is named", "labtool exec [OPTIONS] COMMAND")
    chosen = settings(cloud=cloud, lab=lab, region=region, proxy_jump=proxy_jump)
    found, access = reach(chosen)
    hosts, left_out = select(found, on)
    results = run_everywhere(access, hosts, shell_line(words), timeout)
    if json:
        others = [{"host": host.name, "code": None, "output": "", "left_out": host.state} for host in left_out]
        render.data([*({**result.__dict__, "left_out": None} for result in results), *others])
    else:
        width = max(len(result.host) for result in results)
        for result in results:
            for text in result.output.splitlines() or [""] * (result.code == 0):
                print(f"{result.host.ljust(width)}  {text}".rstrip())
    tell_left_out(left_out)
    failed = [result for result in results if result.code != 0]
    if failed:
        if words[0] in {*found.groups, *(host.name for host in found)}:
            hint = f"`--on {words[0]}` runs a command there"
        elif any(result.timed_out for result in failed):
            hint = "it was ended there; `--timeout SECONDS` gives it longer"
        elif any(result.code == 255 for result in failed):
            hint = "255 is SSH's own: is port 22 admitted from here (`labtool up` admits this machine), is the host up?"
        else:
            hint = "`labtool ssh HOST` to look there"
        why = {
            result.host: f"not finished after {timeout:g} s" if result.timed_out else f"exit code {result.code}"
            for result in failed
        }
        raise LabtoolError(f"failed on {', '.join(f'{host} ({each})' for host, each in why.items())}", hint)


def cp(
    source: Annotated[str, typer.Argument(help="FILE or HOST:FILE; GROUP: and all: take it from or to every host.")],
    target: Annotated[str, typer.Argument(help="FILE or HOST:FILE.")],
    proxy_jump: options.ProxyJump = None,
    lab: options.LabName = None,
    cloud: options.Cloud = None,
    region: options.Region = None,
) -> None:
    """Copy files to hosts or from them.

    From several hosts, each gets a folder of its own. Hosts that do not run are left out and named; that is no failure.
    """
    from labtool.cli.connect import reach, settings
    from labtool.cli.remote import copy

    chosen = settings(cloud=cloud, lab=lab, region=region, proxy_jump=proxy_jump)
    sides = [":" in source.split("/", 1)[0], ":" in target.split("/", 1)[0]]
    if sides[0] == sides[1]:
        raise UsageError("exactly one of the two must be on a host", "labtool cp kafka-0:/etc/hosts . ")
    found, access = reach(chosen)
    where, _, path = (source if sides[0] else target).partition(":")
    hosts, left_out = select(found, where)
    tell_left_out(left_out)
    copy(access, hosts, local=target if sides[0] else source, remote=path, download=sides[0])


def typed_words(words: Sequence[str], usage: str) -> Sequence[str]:
    """Return a command as it was typed, without a `--` before it; `UsageError` where it begins with an option."""
    if words and words[0] == "--":
        words = words[1:]
    if words and words[0].startswith("-"):
        raise UsageError(f"{words[0]} is no command, and no option in this place", usage)
    return words


def shell_line(words: Sequence[str]) -> str:
    """Return what the host's shell gets: one word is a line as it stands, several are a command and its arguments."""
    return words[0] if len(words) == 1 else shlex.join(words)


def select(lab: Lab, names: str | None) -> tuple[list[Host], list[Host]]:
    """Return the hosts that `names` means as in `meant`: those that run, and the others.

    `LabtoolError` where none runs of what one of the names stands for.
    """
    hosts = meant(lab, names)
    for name in parts(names):
        if not any(host.running and name in (host.name, host.group, "all") for host in hosts):
            raise LabtoolError(f"{name} is not running", "`labtool up` starts stopped hosts")
    return [host for host in hosts if host.running], [host for host in hosts if not host.running]


def meant(lab: Lab, names: str | None) -> list[Host]:
    """Return the hosts that `names` (hosts or groups, comma-separated) means; all for None or 'all'.

    `UsageError` with the nearest names for one that is none.
    """
    from labtool.errors import unknown

    known = {host.name for host in lab} | set(lab.groups) | {"all"}
    chosen: list[Host] = []
    for name in parts(names):
        if name not in known:
            raise unknown(f"host or group of lab {lab.name}", name, known)
        chosen += [host for host in lab if name in (host.name, host.group, "all") and host not in chosen]
    return chosen


def parts(names: str | None) -> list[str]:
    """Return the names in a comma-separated list of them; `UsageError` where there is none in it."""
    found = ["all"] if names is None else [name for part in names.split(",") if (name := part.strip())]
    if not found:
        raise UsageError("no host or group is named", "for example: web-0, or web,load; all is every host")
    return found


def tell_left_out(hosts: Sequence[Host]) -> None:
    """Say on stderr which hosts a command did nothing with, since they do not run."""
    for state in sorted({host.state for host in hosts}):
        named = [host.name for host in hosts if host.state == state]
        is_, was = ("is", "was") if len(named) == 1 else ("are", "were")
        print(f"{', '.join(named)} {is_} {state}, and {was} left out", file=sys.stderr)


def host_data(host: Any) -> dict[str, Any]:
    """Return a host as JSON data."""
    return {
        "name": host.name,
        "group": host.group,
        "instance_id": host.instance_id,
        "state": host.state,
        "type": host.instance_type,
        "address": host.address,
        "zone": host.zone,
        "launched": host.launched.isoformat(),
        "expires": host.expires.isoformat() if host.expires else None,
        "vars": dict(host.vars),
    }


def thing_data(thing: Any, prices: Any) -> dict[str, Any]:
    """Return something that is no host as JSON data."""
    return {
        "kind": thing.kind,
        "id": thing.id,
        "name": thing.name,
        "usd_per_hour": prices.of_disk(thing.gib),
        "expires": thing.expires.isoformat() if thing.expires else None,
    }


def print_hosts(hosts: Any) -> None:
    """Print hosts as a table."""
    from labtool.cli import render

    rows = [
        (h.name, h.state, h.address, h.instance_type, h.instance_id, render.ago(h.launched), render.left(h.expires))
        for h in hosts
    ]
    render.table(("HOST", "STATE", "ADDRESS", "TYPE", "INSTANCE", "AGE", "ENDS IN"), rows)
