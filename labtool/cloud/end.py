"""End labs: instances first, then what was made for them; done when all of it is gone."""

from __future__ import annotations

import time
from datetime import datetime

from labtool.cloud import find, keys, network, tags
from labtool.cloud.session import Session, error_code, told_clearly
from labtool.errors import CloudError
from labtool.progress import Progress
from labtool.topology import Lab

ENDING = ("pending", "running", "stopping", "stopped", "shutting-down")


def down(session: Session, name: str, progress: Progress, *, deadline_s: float = 600) -> int:
    """End every host of the lab and what belongs to it; return how many hosts were ended.

    Instances are looked for until two looks in a row find none, since a new one may be unknown to the API at first.
    """
    until = time.monotonic() + deadline_s
    ended: set[str] = set()
    empty = 0
    pause = 0.1
    (keys.lab_folder(session, name) / "launch.json").unlink(missing_ok=True)
    while empty < 2:
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
                session.ec2.terminate_instances(InstanceIds=to_end)
        for instance in alive:
            progress.host(tags.host_of(instance).name, "ending")
            ended.add(instance["InstanceId"])
        empty = 0 if alive else empty + 1
        if alive and time.monotonic() > until:
            raise CloudError(
                f"{len(alive)} hosts of lab {name} still exist after {deadline_s:.0f} s",
                "run `labtool down` again",
            )
        if empty < 2:
            time.sleep(pause)
            pause = min(pause * 1.5, 2.0)
    _end_belongings(session, name, until)
    keys.forget(session, name)
    return len(ended)


def expired(labs: list[Lab], now: datetime) -> list[Lab]:
    """Return the labs all of whose hosts have outlived their time."""
    return [lab for lab in labs if lab.hosts and all(h.expires is not None and h.expires <= now for h in lab)]


def _end_belongings(session: Session, name: str, until: float) -> None:
    group = network.find_security_group(session, name)
    while group is not None:
        with told_clearly(f"removing security group {group['GroupName']}"):
            try:
                session.ec2.delete_security_group(GroupId=group["GroupId"])
            except Exception as error:
                code = error_code(error)
                if code == "InvalidGroup.NotFound":
                    break
                # The network interfaces of ended instances hold it for some seconds.
                if code != "DependencyViolation" or time.monotonic() > until:
                    raise
                time.sleep(2)
                continue
        group = network.find_security_group(session, name)
    with told_clearly(f"removing key pair {keys.pair_name(name)}"):
        session.ec2.delete_key_pair(KeyName=keys.pair_name(name))
