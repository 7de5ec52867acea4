"""Bring a lab up: launch what is missing, tag it, wait until SSH answers.

Every step can be repeated after a crash. What is about to be launched is written to the lab's journal before the
call; the same client token then finds the same instances.
"""

from __future__ import annotations

import getpass
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from labtool.cloud import (
    attempt,
    clock,
    end,
    find,
    images,
    keys,
    network,
    parallel,
    placement,
    plan,
    request,
    tags,
    wait,
)
from labtool.cloud.journal import SETTLED, Journal
from labtool.cloud.placement import Site
from labtool.cloud.request import Options
from labtool.cloud.session import Session, error_code, told_clearly
from labtool.errors import CloudError, LabtoolError
from labtool.progress import Progress
from labtool.topology import GroupSpec, Host, Lab

TAG_PACE = (10.0, 90.0)
"""CreateTags a second, and at once: EC2 admits 10 and 100 (ec2-api-throttling in its developer guide)."""
LEAST_LIFE = timedelta(minutes=5)


def up(
    session: Session,
    lab: str,
    specs: Sequence[GroupSpec],
    *,
    image: str | None,
    ttl: timedelta,
    progress: Progress,
    deadline_s: float = 600,
    options: Options | None = None,
    at_least: int | None = None,
) -> Lab:
    """Make sure that `lab` has the hosts of `specs`, running and reachable, and return it.

    A host that existed keeps its name, address and expiry. Interrupted before the hosts are tagged, the
    instances of this call are ended again; later, they stay and the next `up` goes on. With `at_least`, hosts that
    are slow to come are left out of the lab that is returned once that many are ready.
    """
    options = options or Options()
    journal = Journal(keys.lab_folder(session, lab))
    seen = finish_launches(session, lab, journal, progress)
    wanted = plan.make(seen.lab, specs)
    options = inherited(options, seen.lab)
    if wanted.launches:
        options.check(wanted.launches)
        progress.stage("launch")
        earlier = list(journal.calls)
        try:
            launch_missing(session, seen.lab, wanted.launches, journal, image, clock.now() + ttl, options, progress)
            seen = settle(session, lab, young(journal))
            seen = replace(seen, lab=write_tags(session, seen, specs))
        except KeyboardInterrupt:
            progress.line("interrupted: ending what this command has launched (^C again leaves it to `labtool down`)")
            end_launches(session, lab, journal, earlier, progress)
            raise
    else:
        if seen.lab.hosts:
            network.admit_caller(session, lab, progress)
        seen = replace(seen, lab=write_tags(session, seen, specs))
    if wanted.start:
        progress.stage("start")
        gone = [host.name for host in wanted.start if host.expires and host.expires <= clock.now()]
        if gone:
            raise CloudError(
                f"the time of {', '.join(gone)} is over: started, they would end themselves at once",
                "`labtool down` ends what is left of the lab",
            )
        with told_clearly("starting the stopped hosts"):
            _start(session, [host.instance_id for host in wanted.start])
    groups = {spec.name for spec in specs}
    names = {host.name for host in seen.lab if host.group in groups}
    progress.stage("wait for SSH")
    ready = wait.until_ready(session, lab, names, progress, deadline_s=deadline_s, at_least=at_least)
    # What was just written into the tags need not be in the API's next answer.
    written = {host.instance_id: host.vars for host in seen.lab}
    return replace(
        ready, hosts=tuple(replace(h, vars={**h.vars, **written.get(h.instance_id, {})}) for h in ready.hosts)
    )


def inherited(options: Options, lab: Lab) -> Options:
    """Return the options with what a lab's hosts must have in common: how they are reached."""
    reached = {host.reach for host in lab}
    if options.reach is None and reached == {"private"}:
        return replace(options, reach="private")
    if options.reach is None and reached == {"ssm"}:
        return replace(options, reach="ssm")
    return options


def launch_missing(
    session: Session,
    lab: Lab,
    launches: Sequence[plan.Launch],
    journal: Journal,
    image: str | None,
    expires: datetime,
    options: Options,
    progress: Progress,
) -> None:
    """Make what instances stand on where it is missing, then the instances, group after group.

    One group after the other, because where the first has found room the others are tried first: traffic within a
    zone is faster, and free.
    """
    if options.reach == "ssm":
        images.need_ssm_agent(session, image)
    chosen = images.resolve(session, image)
    group = network.find_security_group(session, lab.name)
    vpc = placement.choose_vpc(session, options, group["VpcId"] if group else None)
    order = list(dict.fromkeys(host.zone for host in lab))
    sites = placement.sites(session, vpc, options, order)
    journal.begin()
    key_name = keys.ensure_key(session, lab.name, expires)
    group_id = network.ensure_security_group(session, lab.name, vpc, expires, progress)
    journal.uses(group=group_id)
    for each in launches:
        for name in each.hosts:
            progress.host(name, "requested", each.instance_type)
    for each in launches:
        place = None
        if options.placement:
            place = placement.group_name(lab.name, each.group, options.placement)
            journal.uses(placement=place)
            placement.ensure_group(session, lab.name, place, options.placement, expires)

        def asked(site: Site, number: int, each: plan.Launch = each, place: str | None = place) -> dict[str, Any]:
            return request.run_instances(
                each,
                lab.name,
                image=chosen,
                key_name=key_name,
                security_group=group_id,
                expires=expires,
                owner=getpass.getuser(),
                user_data=request.user_data(expires),
                token=plan.client_token(lab.name, each, number),
                site=site,
                placement_group=place,
                options=options,
            )

        done = attempt.launch(session, journal, each, sites, asked, progress)
        for name in each.hosts:
            progress.host(name, "pending", done.site.zone)
        # A cluster placement group is in one zone; otherwise the others remain to be tried.
        rest = [] if options.placement == "cluster" else [site for site in sites if site != done.site]
        sites = [done.site, *rest]


def finish_launches(session: Session, lab: str, journal: Journal, progress: Progress) -> find.Look:
    """Repeat the launches of a command that was killed before it knew their outcome, and look at the lab."""
    now = clock.now()
    for call in journal.open:
        expires = tags.parse_time(call.tags[tags.EXPIRES])
        # What was made that long ago is shown by now. And what must end soon must not start again.
        if now > call.asked + 5 * SETTLED or expires is None or expires <= now + LEAST_LIFE:
            journal.drop(call)
            continue
        progress.line(f"an earlier launch of lab {lab} was cut short: finishing it")
        try:
            journal.made(call, attempt.send(session, call.request, progress, doubt=True))
        except CloudError as error:
            if not attempt.refused(error):
                raise
            journal.drop(call)
            progress.line(f"that launch is refused, and forgotten: {error.message}")
    return settle(session, lab, young(journal))


def young(journal: Journal) -> set[str]:
    """Return the instances that were made so lately that the API may not show them."""
    return {identity for call in journal.calls if clock.now() < call.asked + 5 * SETTLED for identity in call.ids}


def settle(session: Session, lab: str, ids: Collection[str], deadline_s: float = 180) -> find.Look:
    """Look at the lab until it shows the instances `ids`: a new one may be unknown to the API for a while."""
    until = clock.monotonic() + deadline_s
    pause = 0.1
    while True:
        found = find.look(session, lab)
        missing = set(ids) - found.ids
        if not missing:
            return found
        if clock.monotonic() > until:
            raise CloudError(
                f"lab {lab} does not show {', '.join(sorted(missing))} {deadline_s:.0f} s after their launch",
                "run the command again; `labtool status` shows what there is",
            )
        clock.sleep(pause)
        pause = min(pause * 2, 5)


def write_tags(session: Session, seen: find.Look, specs: Sequence[GroupSpec]) -> Lab:
    """Write each host's name, index and declared values into its tags where they are missing."""
    lab = seen.lab
    changes = plan.tag_changes(lab, specs)
    for host in lab:
        if host.instance_id in seen.unnamed:
            own = {tags.INDEX: str(host.index), "Name": host.name}
            changes[host.instance_id] = own | changes.get(host.instance_id, {})
    together: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for identity, values in changes.items():
        together.setdefault(tuple(sorted(values.items())), []).append(identity)
    pace = session.pace("CreateTags", *TAG_PACE)

    def write(item: tuple[tuple[tuple[str, str], ...], list[str]]) -> None:
        pace.wait()
        with told_clearly(f"tagging {', '.join(item[1])}"):
            network.until_known(
                lambda: session.ec2.create_tags(Resources=item[1], Tags=tags.to_list(dict(item[0]))),
                "InvalidInstanceID.NotFound",
            )

    parallel.each(write, together.items())
    return replace(lab, hosts=tuple(_tagged(host, changes.get(host.instance_id, {})) for host in lab.hosts))


def _tagged(host: Host, new: Mapping[str, str]) -> Host:
    made = {key.removeprefix(tags.VAR): value for key, value in new.items() if key.startswith(tags.VAR)}
    return replace(host, vars={**host.vars, **made}, also=tags.also_of(new) or host.also)


def end_launches(session: Session, lab: str, journal: Journal, earlier: Sequence[object], progress: Progress) -> None:
    """End the instances of this command's calls, until two looks in a row find none of them.

    A call whose answer was not seen may have made some: they are looked for as long as the API may hide them.
    """
    calls = [call for call in journal.calls if call not in earlier]
    known = {identity for call in calls for identity in call.ids}
    tokens = {call.request["ClientToken"] for call in calls}
    unsure = any(not call.ids for call in calls)
    until, began = clock.now() + SETTLED, clock.monotonic()
    if unsure:
        progress.line("the answer to a launch was not seen: looking for a minute for what it may have made")
    empty = 0
    while True:
        all_of_lab = find.describe(session, [{"Name": f"tag:{tags.LAB}", "Values": [lab]}])
        ours = {i["InstanceId"]: i for i in all_of_lab if i.get("ClientToken") in tokens or i["InstanceId"] in known}
        unsure = unsure and not all(
            any(i.get("ClientToken") == call.request["ClientToken"] for i in ours.values())
            for call in calls
            if not call.ids
        )
        ended = {k for k, i in ours.items() if i["State"]["Name"] in ("shutting-down", "terminated")}
        alive = (known | set(ours)) - ended
        end.terminate(session, sorted(alive))
        empty = 0 if alive else empty + 1
        if empty >= 2 and not (unsure and clock.now() < until):
            break
        if clock.monotonic() > began + 300:
            raise CloudError(f"{', '.join(sorted(alive))} would not end", "`labtool down` goes on")
        clock.sleep(2.0 if unsure and empty >= 2 else 0.5)
    for call in calls:
        journal.drop(call)


def _start(session: Session, ids: list[str]) -> None:
    for _ in range(60):
        try:
            session.ec2.start_instances(InstanceIds=ids)
            return
        except Exception as error:
            if error_code(error) != "IncorrectInstanceState":  # still stopping
                raise
            clock.sleep(1)
    raise LabtoolError(f"{', '.join(ids)} did not stop within a minute", "run the command again")
