"""End labs: instances first, then what was made for them; done when all of it is gone."""

from __future__ import annotations

import time
from datetime import datetime

from labtool.cloud import find, keys, network, tags
from labtool.cloud.session import Session, error_code, told_clearly
from labtool.errors import CloudError, unknown
from labtool.progress import Progress
from labtool.topology import Lab

ENDING = ("pending", "running", "stopping", "stopped", "shutting-down")


def down(session: Session, name: str, progress: Progress, *, deadline_s: float = 600) -> int:
    """End every host of the lab and what belongs to it; return how many hosts were ended."""
    until = time.monotonic() + deadline_s
    journal = keys.lab_folder(session, name) / "launch.json"
    # After a launch that was cut short, its instances may not be known to the API yet.
    ended = _end_hosts(session, name, progress, until, patience_s=8.0 if journal.exists() else 0.5)
    ended |= _end_belongings(session, name, progress, until)
    keys.forget(session, name)
    journal.unlink(missing_ok=True)
    return len(ended)


def _end_hosts(session: Session, name: str, progress: Progress, until: float, *, patience_s: float) -> set[str]:
    """End the lab's instances until none was seen for `patience_s`, in two looks at least; return their ids."""
    ended: set[str] = set()
    empty, last_seen, pause = 0, time.monotonic(), 0.1
    while empty < 2 or time.monotonic() - last_seen < patience_s:
        alive = find.describe(
            session,
            [
                {"Name": f"tag:{tags.LAB}", "Values": [name]},
                {"Name": "instance-state-name", "Values": list(ENDING)},
            ],
        )
        to_end = [i["InstanceId"] for i in alive if i["State"]["Name"] != "shutting-down"]
        if to_end:
            with told_clearly(f"ending the hosts of lab {name}"):
                try:
                    session.ec2.terminate_instances(InstanceIds=to_end)
                except Exception as error:
                    if error_code(error) != "InvalidInstanceID.NotFound":  # new: the next look ends it
                        raise
        for instance in alive:
            progress.host(tags.host_of(instance).name, "ending")
            ended.add(instance["InstanceId"])
        empty = 0 if alive else empty + 1
        if alive:
            last_seen = time.monotonic()
            if last_seen > until:
                raise CloudError(f"{len(alive)} hosts of lab {name} still exist", "run `labtool down` again")
        time.sleep(pause)
        pause = min(pause * 1.5, 2.0)
    return ended


def known(session: Session, name: str) -> str:
    """Return `name` if anything is left of that lab or this user has had it; else the error names the nearest."""
    if keys.known(session, name):
        return name
    there = {*(lab.name for lab in find.find_labs(session)), *leftover(session)}
    if name not in there:
        raise unknown("lab", name, there)
    return name


def leftover(session: Session) -> list[str]:
    """Return the names of labs that have no hosts any more, but a security group or key pair."""
    with_tag = [{"Name": "tag-key", "Values": [tags.LAB]}]
    with told_clearly("reading what labs left"):
        groups = session.ec2.describe_security_groups(Filters=with_tag)["SecurityGroups"]
        pairs = session.ec2.describe_key_pairs(Filters=with_tag)["KeyPairs"]
    named = {tags.to_map(each.get("Tags"))[tags.LAB] for each in [*groups, *pairs] if each.get("Tags")}
    return sorted(named - {lab.name for lab in find.find_labs(session)})


def expired(labs: list[Lab], now: datetime) -> list[Lab]:
    """Return the labs all of whose hosts have outlived their time."""
    return [lab for lab in labs if lab.hosts and all(h.expires is not None and h.expires <= now for h in lab)]


def _end_belongings(session: Session, name: str, progress: Progress, until: float) -> set[str]:
    """Remove security group and key pair; return the ids of instances that were found to hold the group."""
    late: set[str] = set()
    group = network.find_security_group(session, name)
    while group is not None:
        with told_clearly(f"removing security group {group['GroupName']}"):
            try:
                session.ec2.delete_security_group(GroupId=group["GroupId"])
            except Exception as error:
                code = error_code(error)
                if code == "InvalidGroup.NotFound":
                    break
                if code != "DependencyViolation" or time.monotonic() > until:
                    raise
                # Network interfaces of ended instances hold it for some seconds, or an instance nobody has seen yet.
                late |= _end_hosts(session, name, progress, until, patience_s=2.0)
                continue
        group = network.find_security_group(session, name)
    with told_clearly(f"removing key pair {keys.pair_name(name)}"):
        session.ec2.delete_key_pair(KeyName=keys.pair_name(name))
    return late
