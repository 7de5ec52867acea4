"""End labs: instances first, then what was made for them; done when all of it is gone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from labtool.cloud import bucket, clock, find, keys, leftovers, network, placement, tags
from labtool.cloud.journal import Journal
from labtool.cloud.session import Session, error_code, told_clearly
from labtool.errors import CloudError, unknown
from labtool.progress import Progress
from labtool.topology import Lab

ENDING = ("pending", "running", "stopping", "stopped", "shutting-down")
VOLUMES_S = 20.0
"""A volume goes by itself soon after its host; one that is there longer was made to stay, or was forgotten."""
AT_ONCE = 200
"""Instances of one TerminateInstances: EC2 ends a thousand at once, then twenty a second."""


def down(session: Session, name: str, progress: Progress, *, deadline_s: float = 900) -> int:
    """End every host of the lab and what belongs to it; return how many hosts were ended.

    Returns when instances, volumes, security groups, key pairs and placement groups were not there in two looks. What
    was made from here is ended by its id too, for the API may not show yet what was made a moment ago. Its security
    group, which EC2 keeps as long as any instance is in it, goes last; where labtool died as it made that group, the
    lab is looked at for as long as the API may hide it.
    """
    until = clock.monotonic() + deadline_s
    journal = Journal(keys.lab_folder(session, name))
    unsure = journal.unsure
    # Made elsewhere: whether it has a bucket is seen when it is removed.
    if not keys.access(session, name).key.exists():
        journal.uses(bucket=bucket.of_lab(session, name).name)
    ended: set[str] = set()
    empty, pause, told = 0, 0.1, False
    alone = clock.monotonic()  # since when there is no host
    while empty < 2:
        found = find.describe(session, [{"Name": f"tag:{tags.LAB}", "Values": [name]}])
        alive = [instance for instance in found if instance["State"]["Name"] in ENDING]
        hidden = set() if journal.settled() else journal.ids - {instance["InstanceId"] for instance in found}
        terminate(session, [i["InstanceId"] for i in alive if i["State"]["Name"] != "shutting-down"])
        terminate(session, sorted(hidden))
        for instance in alive:
            progress.host(tags.host_of(instance).name, "ending")
        ended |= {instance["InstanceId"] for instance in alive} | hidden
        for known in {tags.to_map(i.get("Tags")).get(tags.BUCKET, "") for i in alive} - {""} - journal.buckets:
            journal.uses(bucket=known)
        if alive or hidden:
            left, alone = [f"{len(alive) + len(hidden)} hosts"], clock.monotonic()
        else:
            left = _end_belongings(session, name, journal, volumes=clock.monotonic() >= alone + VOLUMES_S)
        if left and clock.monotonic() > until:
            raise CloudError(
                f"of lab {name} there still are {', '.join(left)}",
                "run `labtool down` again; what the message names can also be removed in the AWS console",
            )
        if not left and unsure and not journal.settled():
            if not told:
                progress.line(
                    "nothing to be seen; a launch was cut short, and for a minute the API may hide what it made"
                )
            left, told, pause = ["what is not to be seen"], True, 2.0
        empty, pause = (0, min(pause * 1.5, 3.0)) if left else (empty + 1, 0.3)
        clock.sleep(pause if empty < 2 else 0.0)
    keys.forget(session, name)
    journal.forget()
    return len(ended)


def terminate(session: Session, ids: Sequence[str]) -> None:
    """Ask for the end of instances; one that this server of EC2 does not know yet is left to the next time."""
    for first in range(0, len(ids), AT_ONCE):
        chunk = list(ids[first : first + AT_ONCE])
        while chunk:
            with told_clearly(f"ending {len(chunk)} instances"):
                try:
                    session.ec2.terminate_instances(InstanceIds=chunk)
                    break
                except Exception as error:
                    if error_code(error) not in ("InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed"):
                        raise
                    # The call ends all or none: the others go without those that it named.
                    named = [identity for identity in chunk if identity in str(error)] or chunk
                    chunk = [identity for identity in chunk if identity not in named]


def known(session: Session, name: str) -> str:
    """Return `name` if anything is left of that lab or this user has had it; else the error names the nearest."""
    if keys.known(session, name):
        return name
    found = leftovers.find_everything(session)
    there = {*(lab.name for lab in found.labs), *found.without_hosts}
    if name not in there:
        raise unknown("lab", name, there)
    return name


def expired(labs: Iterable[Lab], now: datetime) -> list[Lab]:
    """Return the labs all of whose hosts have outlived their time."""
    return [lab for lab in labs if lab.hosts and all(h.expires is not None and h.expires <= now for h in lab)]


def end_expired_hosts(session: Session, labs: Iterable[Lab], now: datetime) -> list[str]:
    """End the hosts that have outlived their time in labs that have others; return their names.

    Each should have ended itself: its timer did not run, or the host hangs.
    """
    late = [h for lab in labs for h in lab if h.expires is not None and h.expires <= now]
    terminate(session, [host.instance_id for host in late])
    return [host.name for host in late]


def _end_belongings(session: Session, name: str, journal: Journal, *, volumes: bool) -> list[str]:
    """Remove what a lab without hosts has, and return what could not go yet or was only just removed."""
    left = []
    for volume in find.volumes(session, [{"Name": f"tag:{tags.LAB}", "Values": [name]}]):
        left.append(f"volume {volume['VolumeId']}")
        if volumes and volume["State"] == "available":
            _remove(session, "delete_volume", "InvalidVolume.NotFound", VolumeId=volume["VolumeId"])
    pairs = keys.find_pairs(session, name)
    left += [f"key pair {pair['KeyName']}" for pair in pairs]
    # By its name, whether it is shown or not: a key pair that is not there is no error.
    _remove(session, "delete_key_pair", "InvalidKeyPair.NotFound", KeyName=keys.pair_name(name))
    shown = {group["GroupName"] for group in placement.find_placement_groups(session, name)}
    for each in sorted(shown | journal.placements):
        gone = _remove(session, "delete_placement_group", "InvalidPlacementGroup.Unknown", GroupName=each)
        if not gone or each in shown:
            left.append(f"placement group {each}")
        if gone or journal.settled():
            journal.placements.discard(each)
    if journal.buckets:
        home = bucket.of_lab(session, name)
        if bucket.remove(session, home):
            left.append(f"bucket {home.name}")
        else:
            journal.buckets.discard(home.name)
    shown = {group["GroupId"] for group in network.find_security_groups(session, name)}
    for each in sorted(shown | journal.groups):
        gone = _remove(session, "delete_security_group", "InvalidGroup.NotFound", GroupId=each)
        if not gone or each in shown:
            left.append(f"security group {each}")
        if gone or journal.settled():
            journal.groups.discard(each)
    return left


def _remove(session: Session, method: str, absent: str, **what: Any) -> bool:
    """Delete one thing and tell whether it is gone by that; one that is still in use is left to the next look."""
    with told_clearly(f"removing {next(iter(what.values()))}"):
        try:
            getattr(session.ec2, method)(**what)
        except Exception as error:
            if error_code(error) not in (absent, "DependencyViolation", "InvalidPlacementGroup.InUse", "VolumeInUse"):
                raise
            return False
    return True
