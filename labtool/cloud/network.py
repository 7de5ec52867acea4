"""The lab's security group: SSH from the caller only, everything inside the group."""

from __future__ import annotations

import ipaddress
import urllib.request
from typing import Any

from labtool.cloud import tags
from labtool.cloud.keys import pair_name
from labtool.cloud.session import Session, error_code, told_clearly
from labtool.errors import CloudError

WHO_AM_I = "https://checkip.amazonaws.com"


def caller_cidr(session: Session) -> str:
    """Return the network SSH comes from: the one the target names, else this machine's address as AWS sees it."""
    if session.target.caller_cidr:
        return session.target.caller_cidr
    try:
        with urllib.request.urlopen(WHO_AM_I, timeout=10) as answer:
            return f"{ipaddress.ip_address(answer.read().decode().strip())}/32"
    except (OSError, ValueError) as error:
        raise CloudError(
            f"cannot tell which address this machine has on the internet ({WHO_AM_I}: {error})",
            "name it: --ssh-from ADDRESS/32",
        ) from None


def ensure_security_group(session: Session, lab: str) -> str:
    """Make the lab's security group where it is missing, admit the caller, return the group's id."""
    name = pair_name(lab)
    found = find_security_group(session, lab)
    if found is None:
        with told_clearly(f"making security group {name}"):
            group_id = session.ec2.create_security_group(
                GroupName=name,
                Description=f"hosts of labtool lab {lab}",
                VpcId=default_vpc(session),
                TagSpecifications=[
                    {"ResourceType": "security-group", "Tags": tags.to_list({tags.LAB: lab, "Name": name})}
                ],
            )["GroupId"]
    else:
        group_id = found["GroupId"]
    inside: dict[str, Any] = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group_id}]}
    ssh: dict[str, Any] = {
        "IpProtocol": "tcp",
        "FromPort": 22,
        "ToPort": 22,
        "IpRanges": [{"CidrIp": caller_cidr(session), "Description": "labtool: the caller"}],
    }
    for permission in (inside, ssh):
        with told_clearly(f"opening security group {name}"):
            try:
                session.ec2.authorize_security_group_ingress(GroupId=group_id, IpPermissions=[permission])
            except Exception as error:
                if error_code(error) != "InvalidPermission.Duplicate":
                    raise
    return str(group_id)


def find_security_group(session: Session, lab: str) -> dict[str, Any] | None:
    """Return the lab's security group, None if it has none."""
    with told_clearly("reading the security groups"):
        groups = session.ec2.describe_security_groups(Filters=[{"Name": f"tag:{tags.LAB}", "Values": [lab]}])
    return next(iter(groups["SecurityGroups"]), None)


def default_vpc(session: Session) -> str:
    """Return the id of the region's default VPC; `CloudError` where it has none."""
    with told_clearly("reading the VPCs"):
        vpcs = session.ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    if not vpcs:
        raise CloudError(f"region {session.target.region} has no default VPC", "`aws ec2 create-default-vpc` makes one")
    return str(vpcs[0]["VpcId"])
