"""Bring a lab up: launch what is missing, tag it, wait until SSH answers.

Every step can be repeated after a crash. What is about to be launched is written to the lab's journal before the
call; the same client token then finds the same instances.
"""

from __future__ import annotations

import getpass
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from labtool.cloud import find, images, keys, network, plan, tags, wait
from labtool.cloud.session import Session, error_code, told_clearly
from labtool.dataset.run import write_json
from labtool.errors import CloudError, LabtoolError
from labtool.progress import Progress
from labtool.topology import GroupSpec, Lab


def up(
    session: Session,
    lab: str,
    specs: Sequence[GroupSpec],
    *,
    image: str | None,
    ttl: timedelta,
    progress: Progress,
    deadline_s: float = 600,
) -> Lab:
    """Make sure that `lab` has the hosts of `specs`, running and reachable, and return it.

    A host that existed keeps its name, address and expiry. Interrupted before the hosts are tagged, the
    instances of this call are ended again; later, they stay and the next `up` goes on.
    """
    journal = keys.lab_folder(session, lab) / "launch.json"
    found = finish_launches(session, lab, journal, progress)
    wanted = plan.make(found, specs)
    if wanted.launches:
        progress.stage("launch")
        chosen = images.resolve(session, image)
        key_name = keys.ensure_key(session, lab)
        group_id = network.ensure_security_group(session, lab)
        expires = datetime.now(UTC) + ttl
        requests = [
            plan.run_instances(
                launch,
                lab,
                image=chosen,
                key_name=key_name,
                security_group=group_id,
                expires=expires,
                owner=getpass.getuser(),
                user_data=plan.user_data(expires),
            )
            for launch in wanted.launches
        ]
        write_json(journal, {"launches": [asdict(each) for each in wanted.launches], "requests": requests})
        for launch in wanted.launches:
            for name in launch.hosts:
                progress.host(name, "requested", launch.instance_type)
        try:
            with ThreadPoolExecutor(8) as pool:
                list(pool.map(lambda request: _run(session, request), requests))
        except CloudError as error:
            if refused(error):
                journal.unlink()  # a refused request would only be refused again
            raise
        except KeyboardInterrupt:
            progress.line("interrupted: ending what this command has launched")
            end_launches(session, lab, wanted.launches)
            journal.unlink(missing_ok=True)
            raise
        found = settle(session, lab, {name for launch in wanted.launches for name in launch.hosts})
        journal.unlink(missing_ok=True)
    if wanted.start:
        progress.stage("start")
        gone = [host.name for host in wanted.start if host.expires and host.expires <= datetime.now(UTC)]
        if gone:
            raise CloudError(
                f"the time of {', '.join(gone)} is over: started, they would end themselves at once",
                "`labtool down` ends what is left of the lab",
            )
        with told_clearly("starting the stopped hosts"):
            _start(session, [host.instance_id for host in wanted.start])
    write_tags(session, found, specs)
    groups = {spec.name for spec in specs}
    names = {host.name for host in found if host.group in groups}
    progress.stage("wait for SSH")
    return wait.until_ready(session, lab, names, progress, deadline_s=deadline_s)


def finish_launches(session: Session, lab: str, journal: Path, progress: Progress) -> Lab:
    """Repeat the launches of a command that was killed before it knew their outcome."""
    try:
        requests = json.loads(journal.read_text())["requests"]
    except FileNotFoundError:
        return find.find_lab(session, lab)
    except (ValueError, KeyError):
        journal.unlink()
        return find.find_lab(session, lab)
    progress.line(f"an earlier launch of lab {lab} was cut short: finishing it")
    names = {host.name for host in find.find_lab(session, lab)}
    awaited = set(names)
    for request in requests:
        common = tags.to_map(request["TagSpecifications"][0]["Tags"])
        wanted = {f"{common[tags.GROUP]}-{index}" for index in tags.parse_indexes(common[tags.INDEXES])}
        expires = tags.parse_time(common[tags.EXPIRES])
        # The expiry that was asked for may have gone by meanwhile; then it must not start again.
        if wanted & names or expires is None or expires <= datetime.now(UTC) + timedelta(minutes=5):
            continue
        try:
            _run(session, request)
        except CloudError as error:
            if not refused(error):
                raise
            progress.line(f"that launch is refused, and forgotten: {error.message}")
        else:
            awaited |= wanted
    found = settle(session, lab, awaited)
    journal.unlink()
    return found


def refused(error: CloudError) -> bool:
    """Tell whether the API said no for good; a timeout or a failure of its own leaves open what happened."""
    response = getattr(error.__cause__, "response", None)
    status = (response or {}).get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
    return 400 <= int(status) < 500


def settle(session: Session, lab: str, names: set[str], deadline_s: float = 60) -> Lab:
    """Read the lab until it shows the hosts `names`: a new instance may be unknown to the API for a while."""
    until = time.monotonic() + deadline_s
    pause = 0.1
    while True:
        found = find.find_lab(session, lab)
        missing = names - {host.name for host in found}
        if not missing:
            return found
        if time.monotonic() > until:
            raise CloudError(
                f"lab {lab} does not show {', '.join(sorted(missing))} {deadline_s:.0f} s after their launch",
                "run the command again; `labtool status` shows what there is",
            )
        time.sleep(pause)
        pause = min(pause * 2, 5)


def write_tags(session: Session, lab: Lab, specs: Sequence[GroupSpec]) -> Lab:
    """Write each host's name, index and declared values into its tags where they are missing."""
    changes = plan.tag_changes(lab, specs)
    with told_clearly(f"reading the tags of lab {lab.name}"):
        named = {
            tag["ResourceId"]
            for page in session.ec2.get_paginator("describe_tags").paginate(
                Filters=[
                    {"Name": "resource-type", "Values": ["instance"]},
                    {"Name": "key", "Values": [tags.INDEX]},
                ]
            )
            for tag in page["Tags"]
        }
    for host in lab:
        if host.instance_id not in named:
            own = {tags.INDEX: str(host.index), "Name": host.name}
            changes[host.instance_id] = own | changes.get(host.instance_id, {})

    def write(item: tuple[str, dict[str, str]]) -> None:
        with told_clearly(f"tagging {item[0]}"):
            for attempt in range(6):
                try:
                    session.ec2.create_tags(Resources=[item[0]], Tags=tags.to_list(item[1]))
                    return
                except Exception as error:
                    # A new instance is unknown to some of EC2's servers for some seconds.
                    if error_code(error) != "InvalidInstanceID.NotFound" or attempt == 5:
                        raise
                    time.sleep(0.5 * 2**attempt)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, changes.items()))
    new = {
        identity: {k.removeprefix(tags.VAR): v for k, v in values.items() if k.startswith(tags.VAR)}
        for identity, values in changes.items()
    }
    return replace(lab, hosts=tuple(replace(h, vars={**h.vars, **new.get(h.instance_id, {})}) for h in lab.hosts))


def end_launches(session: Session, lab: str, launches: Sequence[plan.Launch]) -> None:
    """End the instances of `launches`, until two looks in a row find none of them."""
    empty = 0
    names = {name for launch in launches for name in launch.hosts}
    while True:
        alive = [host.instance_id for host in find.find_lab(session, lab) if host.name in names]
        if alive:
            with told_clearly("ending the instances"):
                session.ec2.terminate_instances(InstanceIds=alive)
        empty = 0 if alive else empty + 1
        if empty == 2:
            return
        time.sleep(0.5)


def _run(session: Session, request: dict[str, object]) -> None:
    with told_clearly(f"launching {request['MinCount']} × {request['InstanceType']}"):
        session.ec2.run_instances(**request)


def _start(session: Session, ids: list[str]) -> None:
    for _ in range(60):
        try:
            session.ec2.start_instances(InstanceIds=ids)
            return
        except Exception as error:
            if error_code(error) != "IncorrectInstanceState":  # still stopping
                raise
            time.sleep(1)
    raise LabtoolError(f"{', '.join(ids)} did not stop within a minute", "run the command again")
