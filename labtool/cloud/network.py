"""The lab's security group: SSH from the caller only, everything inside the group."""

from __future__ import annotations

import getpass
import ipaddress
import re
import socket
import urllib.request
from collections.abc import Callable
from datetime import datetime
from http.client import HTTPException
from typing import Any

from labtool.cloud import clock, tags, wait
from labtool.cloud.keys import pair_name
from labtool.cloud.session import Session, error_code, told_clearly
from labtool.errors import CloudError
from labtool.progress import Progress
from labtool.ssh import Access
from labtool.topology import Lab

WHO_AM_I = "https://checkip.amazonaws.com"
KNOWN_S = 60.0
"""How long a group that was just made may be unknown to some of EC2's servers."""


def caller_cidr(session: Session) -> str:
    """Return the network SSH comes from: the one the target names, else this machine's address as AWS sees it.

    `CloudError` where AWS does not say it.
    """
    if session.target.caller_cidr:
        return session.target.caller_cidr
    try:
        with urllib.request.urlopen(WHO_AM_I, timeout=10) as answer:
            # A portal that stands between may answer with a page of its own: no more of it is to be told.
            return f"{ipaddress.IPv4Address(answer.read(64).decode(errors='replace').strip())}/32"
    except (OSError, HTTPException, ValueError) as error:
        why = " ".join(str(error).split())[:200]
        raise CloudError(
            f"cannot tell which IPv4 address this machine has on the internet ({WHO_AM_I}: {why})",
            "name it with --ssh-from ADDRESS/32, which `labtool up` and `labtool deploy` take",
        ) from None


def caller_description() -> str:
    """Return what marks a rule as this user's, of this machine: two people may work on one lab."""
    return "labtool: caller " + re.sub(r"[^a-zA-Z0-9._-]", "-", f"{getpass.getuser()}-{socket.gethostname()}")[:200]


def ensure_security_group(
    session: Session, lab: str, vpc: str, expires: datetime, progress: Progress | None = None
) -> str:
    """Make the lab's security group where it is missing, admit the caller, return the group's id."""
    name = pair_name(lab)
    group = find_security_group(session, lab)
    if group is None:
        with told_clearly(f"making security group {name}"):
            try:
                made = session.ec2.create_security_group(
                    GroupName=name,
                    Description=f"hosts of labtool lab {lab}",
                    VpcId=vpc,
                    TagSpecifications=[
                        {
                            "ResourceType": "security-group",
                            "Tags": tags.to_list({tags.LAB: lab, "Name": name, tags.EXPIRES: tags.time_text(expires)}),
                        }
                    ],
                )
                group = {"GroupId": made["GroupId"], "IpPermissions": []}
            except Exception as error:
                if error_code(error) != "InvalidGroup.Duplicate":
                    raise
                group = _shown(session, lab, name)
    _admit(session, group, name, progress)
    return str(group["GroupId"])


def admit_caller(session: Session, lab: str, progress: Progress | None = None) -> bool:
    """Admit SSH from where this machine is now, and no longer from where it was; tell whether that changed anything."""
    group = find_security_group(session, lab)
    return group is not None and _admit(session, group, pair_name(lab), progress)


def admit_if_silent(session: Session, lab: Lab, access: Access, progress: Progress) -> None:
    """Admit this machine where a host of the lab does not answer it: a laptop's address changes.

    Asked only then, for the answer costs two calls and a look at the internet. Through a jump host, this machine's
    address says nothing.
    """
    if access.proxy_jump is None and lab.running and not wait.greets(lab.running[0], access):
        admit_caller(session, lab.name, progress)


def find_security_group(session: Session, lab: str) -> dict[str, Any] | None:
    """Return the lab's security group, None if it has none."""
    return next(iter(find_security_groups(session, lab)), None)


def find_security_groups(session: Session, lab: str) -> list[dict[str, Any]]:
    """Return the security groups with the lab's tag."""
    with told_clearly("reading the security groups"):
        answer = session.ec2.describe_security_groups(Filters=[{"Name": f"tag:{tags.LAB}", "Values": [lab]}])
    return list(answer["SecurityGroups"])


def until_known(call: Callable[[], Any], *codes: str) -> Any:
    """Repeat `call` while it fails with one of `codes`: EC2 may not know everywhere what it has just made."""
    until, pause = clock.monotonic() + KNOWN_S, 0.25
    while True:
        try:
            return call()
        except Exception as error:
            if error_code(error) not in codes or clock.monotonic() > until:
                raise
        clock.sleep(pause)
        pause = min(pause * 2, 5.0)


def _shown(session: Session, lab: str, name: str) -> dict[str, Any]:
    """Return the group that exists and is not shown yet; `CloudError` if it is not the lab's."""
    until = clock.monotonic() + KNOWN_S
    while clock.monotonic() < until:
        found = find_security_group(session, lab)
        if found is not None:
            return found
        clock.sleep(1.0)
    raise CloudError(
        f"there is a security group {name} that has not the tag {tags.LAB}={lab}", "rename it, or choose another --lab"
    )


def _admit(session: Session, group: dict[str, Any], name: str, progress: Progress | None) -> bool:
    group_id, mine = group["GroupId"], caller_description()
    kept = None if session.target.caller_cidr or not session.target.proxy_jump else _admitted(group, mine)
    # Through a jump host the hosts do not see this machine: what was admitted before may be the jump host.
    caller = kept or caller_cidr(session)
    has_inside, has_caller, outdated = False, False, []
    for rule in group.get("IpPermissions", []):
        has_inside |= rule["IpProtocol"] == "-1" and any(
            pair.get("GroupId") == group_id for pair in rule.get("UserIdGroupPairs", [])
        )
        if (rule["IpProtocol"], rule.get("FromPort"), rule.get("ToPort")) == ("tcp", 22, 22):
            has_caller |= any(each["CidrIp"] == caller for each in rule.get("IpRanges", []))
            outdated += [
                each
                for each in rule.get("IpRanges", [])
                if each.get("Description") == mine and each["CidrIp"] != caller
            ]
    wanted: list[dict[str, Any]] = []
    if not has_inside:
        wanted.append({"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group_id}]})
    if not has_caller:
        wanted.append(_ssh([{"CidrIp": caller, "Description": mine}]))
    for rule in wanted:  # one by one: a rule that is there already refuses the whole call
        _change(session.ec2.authorize_security_group_ingress, group_id, rule, name, "InvalidPermission.Duplicate")
    if outdated:
        rule = _ssh([{"CidrIp": each["CidrIp"], "Description": mine} for each in outdated])
        _change(session.ec2.revoke_security_group_ingress, group_id, rule, name, "InvalidPermission.NotFound")
        if progress is not None:
            progress.line(
                f"this machine's address is {caller} now: SSH is admitted from there, no longer from "
                + ", ".join(each["CidrIp"] for each in outdated)
            )
    return bool(outdated) or not has_caller


def _admitted(group: dict[str, Any], mine: str) -> str | None:
    """Return the network that the rule described as `mine` admits, None if there is no such rule."""
    for rule in group.get("IpPermissions", []):
        for each in rule.get("IpRanges", []):
            if each.get("Description") == mine:
                return str(each["CidrIp"])
    return None


def _change(call: Callable[..., Any], group_id: str, rule: dict[str, Any], name: str, harmless: str) -> None:
    with told_clearly(f"changing security group {name}"):
        try:
            until_known(
                lambda: call(GroupId=group_id, IpPermissions=[rule]),
                "InvalidGroup.NotFound",
                "InvalidGroupId.NotFound",
            )
        except Exception as error:
            if error_code(error) != harmless:
                raise


def _ssh(ranges: list[dict[str, str]]) -> dict[str, Any]:
    return {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": ranges}
