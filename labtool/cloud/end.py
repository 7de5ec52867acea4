"""End labs: instances first, then what was made for them; done when all of it is gone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from labtool.cloud import clock, find, keys, network, placement, tags
from labtool.cloud.journal import Journal
from labtool.cloud.session import Session, error_code, told_clearly
from labtool.errors import CloudError
from labtool.progress import Progress
from labtool.topology import Lab

ENDING = ("pending", "running", "stopping", "stopped", "shutting-down")
VOLUMES_S = 20.0
"""A volume goes by itself soon after its host; one that is there longer was made to stay, or was forgotten."""
AT_ONCE = 200
"""Instances of one TerminateInstances: EC2 ends a thousand at once, then twenty a second."""


def down(session: Session, name: str, progress: Progress, *, deadline_s: float = 900) -> int:
    """End every host of the lab and what belongs to it; return how many hosts were ended.

    Returns when instances, volumes, security groups, key pairs and placement groups were not there in two looks. A
    lab that was launched from here a moment ago is looked at until the API has had the time to show what was made;
    and its security group, which EC2 keeps as long as any instance is in it, goes last of all.
    """
    until = clock.monotonic() + deadline_s
    journal = Journal(keys.lab_folder(session, name))
    ended: set[str] = set()
    empty, pause, told = 0, 0.1, False
    alone = clock.monotonic()  # since when there is no host
    while empty < 2 or not journal.settled():
        alive = find.describe(session, _filters(name, ENDING))
        # Made by us and not shown yet: known by their ids all the same.
        hidden = journal.ids - {instance["InstanceId"] for instance in alive} - ended
        terminate(session, [i["InstanceId"] for i in alive if i["State"]["Name"] != "shutting-down"])
        terminate(session, sorted(hidden))
        for instance in alive:
            progress.host(tags.host_of(instance).name, "ending")
        ended |= {instance["InstanceId"] for instance in alive} | hidden
        alone = clock.monotonic() if alive else alone
        volumes = clock.monotonic() >= alone + VOLUMES_S
        left = [f"{len(alive)} hosts"] if alive else _end_belongings(session, name, volumes=volumes)
        if left and clock.monotonic() > until:
            raise CloudError(
                f"of lab {name} there still are {', '.join(left)}",
                "run `labtool down` again; what the message names can also be removed in the AWS console",
            )
        empty, pause = (0, min(pause * 1.5, 3.0)) if left else (empty + 1, 0.5)
        if empty >= 2 and not journal.settled() and not told:
            progress.line("nothing is left to be seen; looking on for a minute for what the API may not show yet")
            told = True
        clock.sleep(min(pause, 5.0) if empty < 2 else 5.0)
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
                    unknown = [identity for identity in chunk if identity in str(error)] or chunk
                    chunk = [identity for identity in chunk if identity not in unknown]


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


def _end_belongings(session: Session, name: str, *, volumes: bool) -> list[str]:
    """Remove what a lab without hosts has, and return what could not go yet or was only just removed."""
    left = []
    for volume in find.volumes(session, [{"Name": f"tag:{tags.LAB}", "Values": [name]}]):
        left.append(f"volume {volume['VolumeId']}")
        if volumes and volume["State"] == "available":
            _remove(session, "delete_volume", "InvalidVolume.NotFound", VolumeId=volume["VolumeId"])
    for group in placement.find_placement_groups(session, name):
        left.append(f"placement group {group['GroupName']}")
        _remove(session, "delete_placement_group", "InvalidPlacementGroup.Unknown", GroupName=group["GroupName"])
    pairs = keys.find_pairs(session, name)
    left += [f"key pair {pair['KeyName']}" for pair in pairs]
    # By its name, whether it is shown or not: a key pair that is not there is no error.
    _remove(session, "delete_key_pair", "InvalidKeyPair.NotFound", KeyName=keys.pair_name(name))
    for security_group in network.find_security_groups(session, name):
        left.append(f"security group {security_group['GroupName']}")
        _remove(session, "delete_security_group", "InvalidGroup.NotFound", GroupId=security_group["GroupId"])
    return left


def _remove(session: Session, method: str, gone: str, **what: Any) -> None:
    """Delete one thing; one that is gone or still in use is no error, the next look will tell."""
    with told_clearly(f"removing {next(iter(what.values()))}"):
        try:
            getattr(session.ec2, method)(**what)
        except Exception as error:
            code = error_code(error)
            if code not in (gone, "DependencyViolation", "InvalidPlacementGroup.InUse", "VolumeInUse"):
                raise


def _filters(name: str, states: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {"Name": f"tag:{tags.LAB}", "Values": [name]},
        {"Name": "instance-state-name", "Values": list(states)},
    ]
