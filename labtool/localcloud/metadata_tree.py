"""What the metadata service knows of one instance, as a tree: folders are dictionaries, values are text.

The names are EC2's instance metadata categories. What the local cloud cannot know truthfully (signatures of the
identity document, elastic GPUs, public addresses) is not there, so asking for it is a 404 and never a guess.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

Tree = Mapping[str, "Tree | str"]

VERSIONS = (
    "1.0",
    "2007-01-19",
    "2007-03-01",
    "2007-08-29",
    "2007-10-10",
    "2007-12-15",
    "2008-02-01",
    "2008-09-01",
    "2009-04-04",
    "2011-01-01",
    "2011-05-01",
    "2012-01-12",
    "2014-02-25",
    "2014-11-05",
    "2015-10-20",
    "2016-04-19",
    "2016-06-30",
    "2016-09-02",
    "2018-03-28",
    "2018-08-17",
    "2018-09-24",
    "2019-10-01",
    "2020-10-27",
    "2021-01-03",
    "2021-03-23",
    "2021-07-15",
    "2022-09-24",
    "2024-04-11",
    "latest",
)


@dataclass(frozen=True)
class Profile:
    """An instance profile and its role's name; no role is a profile that has none yet."""

    arn: str
    id: str
    role: str | None
    credentials: str | None  # as JSON, None without a role
    updated: datetime


@dataclass(frozen=True)
class Facts:
    """What the tree of one instance is made of."""

    instance: Any  # moto's
    zone_id: str
    partition: str
    public_key: str | None = None
    profile: Profile | None = None
    user_data: bytes | None = None
    tags: Mapping[str, str] = field(default_factory=dict)  # empty unless the instance may see them


def meta_data(facts: Facts) -> Tree:
    """Return what is below `/latest/meta-data/`."""
    instance = facts.instance
    interfaces = {nic.mac_address: _interface(nic, facts) for nic in instance.nics.values()}
    found: dict[str, Tree | str] = {
        "ami-id": instance.image_id,
        "ami-launch-index": str(instance.ami_launch_index),
        "ami-manifest-path": "(unknown)",
        "block-device-mapping": _devices(instance),
        "events": {"maintenance": {"history": "[]", "scheduled": "[]"}},
        "hostname": instance.private_dns_name,
        "instance-action": "none",
        "instance-id": instance.id,
        "instance-life-cycle": instance.lifecycle or "on-demand",
        "instance-type": instance.instance_type,
        "local-hostname": instance.private_dns_name,
        "local-ipv4": instance.private_ip,
        "mac": instance.nics[0].mac_address,
        "network": {"interfaces": {"macs": interfaces}},
        "placement": _placement(facts),
        "profile": "default-hvm",
        "reservation-id": _reservation(instance),
        "security-groups": "\n".join(group.name for group in groups_of(instance)),
        "services": {"domain": "amazonaws.com", "partition": facts.partition},
    }
    if facts.public_key is not None:
        found["public-keys"] = {f"0={instance.key_name}": {"openssh-key": facts.public_key}}
    if facts.profile is not None:
        found["iam"] = _iam(facts.profile)
    if facts.tags:
        found["tags"] = {"instance": dict(facts.tags)}
    return found


def root(facts: Facts) -> Tree:
    """Return what is below `/latest/`, but for user data, which is bytes."""
    return {
        "dynamic": {"instance-identity": {"document": identity_document(facts)}},
        "meta-data": meta_data(facts),
    }


def identity_document(facts: Facts) -> str:
    """Return the instance identity document. It is not signed: nobody could check the signature."""
    instance = facts.instance
    document = {
        "accountId": instance.owner_id,
        "architecture": instance.architecture,
        "availabilityZone": instance.availability_zone,
        "billingProducts": None,
        "devpayProductCodes": None,
        "marketplaceProductCodes": None,
        "imageId": instance.image_id,
        "instanceId": instance.id,
        "instanceType": instance.instance_type,
        "kernelId": None,
        "pendingTime": stamp(instance.launch_time),
        "privateIp": instance.private_ip,
        "ramdiskId": None,
        "region": instance.region_name,
        "version": "2017-09-30",
    }
    return json.dumps(document, indent=2)


def groups_of(instance: Any) -> list[Any]:
    """Return the security groups of an instance, each once."""
    return list({group.id: group for group in instance.nics[0].group_set}.values())


def look_up(tree: Tree, path: str) -> str | None:
    """Return the value at `path`, or the listing of a folder: one name a line, folders with a slash. None: not there.

    Both answer with and without a slash at the end, as on EC2 (botocore asks for `availability-zone/`). Public keys
    are listed as `0=name` and asked for as `0`.
    """
    here: Tree | str = tree
    parts = path.strip("/").split("/") if path.strip("/") else []
    for part in parts:
        if isinstance(here, str):
            return None
        named = next((name for name in here if name == part or name.partition("=")[0] == part != name), None)
        if named is None:
            return None
        here = here[named]
    if isinstance(here, str):
        return here
    return "\n".join(_listed(name, below) for name, below in sorted(here.items()))


def stamp(when: datetime) -> str:
    """Return a time as the service writes it."""
    return when.replace(tzinfo=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _listed(name: str, below: Tree | str) -> str:
    return name if isinstance(below, str) or "=" in name else f"{name}/"


def _devices(instance: Any) -> dict[str, str]:
    root_name = instance.root_device_name.removeprefix("/dev/")
    found = {"ami": root_name, "root": instance.root_device_name}
    others = sorted(name for name in instance.block_device_mapping if name != instance.root_device_name)
    return found | {f"ebs{number}": name.removeprefix("/dev/") for number, name in enumerate(others, 1)}


def _interface(nic: Any, facts: Facts) -> dict[str, Tree | str]:
    instance, subnet = facts.instance, nic.subnet
    vpc = instance.ec2_backend.get_vpc(subnet.vpc_id)
    return {
        "device-number": str(nic.device_index or 0),
        "interface-id": nic.id,
        "local-hostname": instance.private_dns_name,
        "local-ipv4s": nic.private_ip_address,
        "mac": nic.mac_address,
        "owner-id": instance.owner_id,
        "security-group-ids": "\n".join(group.id for group in groups_of(instance)),
        "security-groups": "\n".join(group.name for group in groups_of(instance)),
        "subnet-id": subnet.id,
        "subnet-ipv4-cidr-block": subnet.cidr_block,
        "vpc-id": subnet.vpc_id,
        "vpc-ipv4-cidr-block": vpc.cidr_block,
        "vpc-ipv4-cidr-blocks": vpc.cidr_block,
    }


def _placement(facts: Facts) -> dict[str, Tree | str]:
    placement = facts.instance.placement
    found: dict[str, Tree | str] = {
        "availability-zone": facts.instance.availability_zone,
        "availability-zone-id": facts.zone_id,
        "region": facts.instance.region_name,
    }
    if placement.group_name:
        found["group-name"] = placement.group_name
    if getattr(placement, "partition_number", None):
        found["partition-number"] = str(placement.partition_number)
    return found


def _iam(profile: Profile) -> dict[str, Tree | str]:
    info = {
        "Code": "Success",
        "LastUpdated": stamp(profile.updated),
        "InstanceProfileArn": profile.arn,
        "InstanceProfileId": profile.id,
    }
    found: dict[str, Tree | str] = {"info": json.dumps(info, indent=2)}
    if profile.role is not None and profile.credentials is not None:
        found["security-credentials"] = {profile.role: profile.credentials}
    return found


def _reservation(instance: Any) -> str:
    reservations = instance.ec2_backend.reservations.values()
    return next((str(each.id) for each in reservations if instance in each.instances), "")
