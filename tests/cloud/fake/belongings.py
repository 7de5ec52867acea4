"""EC2: what instances need and leave behind. Networks, security groups, key pairs, placement groups, volumes, tags."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from fake.aws import Refused
from fake.state import Thing, matches

if TYPE_CHECKING:
    from fake.aws import Aws
    from fake.state import Instance

T = TypeVar("T")
DESCRIPTION = re.compile(r"[a-zA-Z0-9. _\-:/()#,@\[\]+=&;{}!$*]{0,255}")
IMAGES = {
    "ami-0deb12": ("/aws/service/debian/release/12/latest/amd64", "debian-12-amd64", "/dev/xvda"),
    "ami-0ab24": (
        "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id",
        "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04",
        "/dev/sda1",
    ),
    "ami-0a12023": (
        "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64",
        "al2023-ami-2023",
        "/dev/xvda",
    ),
}
VPCS = {"vpc-0d0": "default", "vpc-0e0": "research"}
FAMILIES = ("t2", "t3", "m5", "m6i", "m7i", "c5", "c6i", "r5", "r6i", "i3", "i4i")
TYPES = [
    f"{family}.{size}"
    for family in FAMILIES
    for size in ("nano", "micro", "small", "medium", "large", "xlarge", "2xlarge", "4xlarge")
]
NETWORKS: dict[str, dict[str, Any]] = {
    "t3.small": {
        "NetworkInfo": {
            "NetworkPerformance": "Up to 5 Gigabit",
            "DefaultNetworkCardIndex": 0,
            "NetworkCards": [{"NetworkCardIndex": 0, "BaselineBandwidthInGbps": 0.128, "PeakBandwidthInGbps": 5.0}],
        }
    },
    "m5.4xlarge": {"NetworkInfo": {"NetworkPerformance": "Up to 10 Gigabit"}},
}
"""As EC2 describes them; of old accounts and types it does not tell the cards."""
ZONES = ("us-east-1a", "us-east-1b", "us-east-1c")


class Belongings:
    """The part of EC2 that instances stand on."""

    instances: dict[str, Instance]

    def __init__(self, aws: Aws) -> None:
        self.aws = aws
        self.groups: dict[str, Thing] = {}
        self.pairs: dict[str, Thing] = {}
        self.placements: dict[str, Thing] = {}
        self.volumes: dict[str, Thing] = {}
        self.images = {
            i: {"parameter": parameter, "Name": name, "RootDeviceName": device}
            for i, (parameter, name, device) in IMAGES.items()
        }
        self.vpcs = {
            identity: Thing(identity, -1e9, {"IsDefault": name == "default"}, tagged=[(-1e9, {"Name": name})])
            for identity, name in VPCS.items()
        }
        self.subnets: dict[str, Thing] = {}
        for vpc, name in VPCS.items():
            for number, zone in enumerate(ZONES):
                data = {
                    "VpcId": vpc,
                    "AvailabilityZone": zone,
                    "DefaultForAz": name == "default",
                    "MapPublicIpOnLaunch": name == "default",
                    "AvailableIpAddressCount": 4091,
                }
                identity = f"subnet-{vpc[4:]}{number}"
                self.subnets[identity] = Thing(identity, -1e9, data, tagged=[(-1e9, {"Name": f"{name}-{zone}"})])
        self._number = 0

    @property
    def now(self) -> float:
        """The time, in seconds of the clock."""
        return self.aws.clock.elapsed

    def view(self) -> float:
        """Return how old the state is that this read happens to see."""
        return self.now - self.aws.promises.lag * self.aws.random.random()

    def new_id(self, kind: str) -> str:
        """Make an id."""
        self._number += 1
        return f"{kind}-{self._number:017x}"

    def need(self, things: Mapping[str, Thing], identity: str, code: str) -> Thing:
        """Return a thing by its id, unless it is gone or this server has not heard of it yet."""
        found = things.get(identity)
        if found is None or not found.exists(self.now) or not found.exists(max(self.view(), found.created - 1)):
            raise Refused(code, f"'{identity}' does not exist")
        return found

    def page(self, chosen: Sequence[T], asked: Mapping[str, Any], least: int) -> tuple[Sequence[T], dict[str, str]]:
        """Return one page and the token of the next."""
        size = asked.get("MaxResults", self.aws.promises.page)
        if not least <= size <= 1000:
            raise Refused("InvalidParameterValue", f"MaxResults {size} is not within {least} and 1000")
        first = int(asked.get("NextToken") or 0)
        more = {"NextToken": str(first + size)} if first + size < len(chosen) else {}
        return chosen[first : first + size], more

    def tags_of(self, asked: Mapping[str, Any], kind: str) -> dict[str, str]:
        """Return the tags of a request for one kind of resource."""
        return {
            tag["Key"]: tag["Value"]
            for each in asked.get("TagSpecifications", [])
            if each["ResourceType"] == kind
            for tag in each["Tags"]
        }

    def check_tags(self, asked: Mapping[str, Any], kinds: set[str]) -> None:
        """Refuse tags that EC2 refuses."""
        for each in asked.get("TagSpecifications", []):
            if each["ResourceType"] not in kinds:
                raise Refused("InvalidParameterValue", f"{each['ResourceType']} cannot be tagged by this call")
            self.check_tag_list(each["Tags"])

    def check_tag_list(self, tags: Sequence[Mapping[str, str]]) -> None:
        """Hold tags against their limits."""
        if len(tags) > 50:
            raise Refused("TagLimitExceeded")
        for tag in tags:
            # 127 by the API's reference, one more by the user's guide.
            if not 1 <= len(tag["Key"]) <= 127 or tag["Key"].startswith("aws:"):
                raise Refused("InvalidParameterValue", f"Tag key exceeds the maximum length or is reserved: {tag}")
            if len(tag["Value"]) > 256:
                raise Refused("InvalidParameterValue", f"Tag value exceeds the maximum length of 256 characters: {tag}")

    # Networks and images

    def describe_vpcs(self, asked: dict[str, Any]) -> dict[str, Any]:
        found = [
            v
            for v in self.vpcs.values()
            if (not asked.get("VpcIds") or v.id in asked["VpcIds"])
            and matches(
                asked.get("Filters", []),
                {"is-default": str(v.data["IsDefault"]).lower(), "vpc-id": v.id},
                v.tags(self.now),
            )
        ]
        if not found and asked.get("VpcIds"):
            raise Refused("InvalidVpcID.NotFound", asked["VpcIds"][0])
        return {
            "Vpcs": [{"VpcId": v.id, "IsDefault": v.data["IsDefault"], "Tags": shown(v.tags(self.now))} for v in found]
        }

    def describe_subnets(self, asked: dict[str, Any]) -> dict[str, Any]:
        found = [
            s
            for s in self.subnets.values()
            if (not asked.get("SubnetIds") or s.id in asked["SubnetIds"])
            and matches(
                asked.get("Filters", []),
                {
                    "vpc-id": s.data["VpcId"],
                    "subnet-id": s.id,
                    "availability-zone": s.data["AvailabilityZone"],
                    "state": "available",
                },
                s.tags(self.now),
            )
        ]
        if not found and asked.get("SubnetIds"):
            raise Refused("InvalidSubnetID.NotFound", asked["SubnetIds"][0])
        return {
            "Subnets": [
                {"SubnetId": s.id, "State": "available", **s.data, "Tags": shown(s.tags(self.now))} for s in found
            ]
        }

    def subnet_for(self, identity: str | None, placement: Mapping[str, Any]) -> Thing:
        """Return the subnet of a launch."""
        zone = placement.get("AvailabilityZone")
        if identity is None:
            return next(
                s
                for s in self.subnets.values()
                if s.data["DefaultForAz"] and zone in (None, s.data["AvailabilityZone"])
            )
        if identity not in self.subnets:
            raise Refused("InvalidSubnetID.NotFound", identity)
        if zone not in (None, self.subnets[identity].data["AvailabilityZone"]):
            raise Refused("InvalidParameterValue", "the subnet is not in the zone")
        return self.subnets[identity]

    def describe_images(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {
            "Images": [
                {
                    "ImageId": i,
                    "Name": each["Name"],
                    "RootDeviceName": each["RootDeviceName"],
                    "Architecture": "x86_64",
                }
                for i, each in self.images.items()
                if i in asked["ImageIds"]
            ]
        }

    # Instance types

    def describe_instance_types(self, asked: dict[str, Any]) -> dict[str, Any]:
        missing = [name for name in asked["InstanceTypes"] if name not in TYPES]
        if missing:
            raise Refused("InvalidInstanceType", f"The following supplied instance types do not exist: [{missing[0]}]")
        return {"InstanceTypes": [{"InstanceType": name} | NETWORKS.get(name, {}) for name in asked["InstanceTypes"]]}

    def describe_instance_type_offerings(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {"InstanceTypeOfferings": [{"InstanceType": name, "LocationType": "region"} for name in TYPES]}

    # Security groups

    def create_security_group(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.check_tags(asked, {"security-group"})
        vpc = asked.get("VpcId", "vpc-0d0")
        for group in self.groups.values():
            if group.exists(self.now) and (group.data["GroupName"], group.data["VpcId"]) == (asked["GroupName"], vpc):
                raise Refused("InvalidGroup.Duplicate", asked["GroupName"])
        group = Thing(self.new_id("sg"), self.now, {"GroupName": asked["GroupName"], "VpcId": vpc, "rules": {}})
        group.tag(self.now, self.tags_of(asked, "security-group"))
        self.groups[group.id] = group
        return {"GroupId": group.id}

    def describe_security_groups(self, asked: dict[str, Any]) -> dict[str, Any]:
        view = self.view()
        found = [
            g
            for g in self.groups.values()
            if g.exists(view)
            and matches(
                asked.get("Filters", []),
                {"group-name": g.data["GroupName"], "vpc-id": g.data["VpcId"], "group-id": g.id},
                g.tags(view),
            )
        ]
        page, token = self.page(found, asked, 5)
        return {
            "SecurityGroups": [
                {
                    "GroupId": g.id,
                    "GroupName": g.data["GroupName"],
                    "VpcId": g.data["VpcId"],
                    "IpPermissions": list(g.data["rules"].values()),
                    "Tags": shown(g.tags(view)),
                }
                for g in page
            ],
            **token,
        }

    def authorize_security_group_ingress(self, asked: dict[str, Any]) -> dict[str, Any]:
        group = self.need(self.groups, asked["GroupId"], "InvalidGroup.NotFound")
        for rule in asked["IpPermissions"]:
            for given in rule.get("IpRanges", []):
                if not DESCRIPTION.fullmatch(given.get("Description", "")):
                    raise Refused("InvalidParameterValue", "Invalid rule description")
            if _rule(rule) in group.data["rules"]:
                raise Refused("InvalidPermission.Duplicate", "the specified rule already exists")
        for rule in asked["IpPermissions"]:
            group.data["rules"][_rule(rule)] = rule
        return {"Return": True}

    def revoke_security_group_ingress(self, asked: dict[str, Any]) -> dict[str, Any]:
        group = self.need(self.groups, asked["GroupId"], "InvalidGroup.NotFound")
        for rule in asked["IpPermissions"]:
            if group.data["rules"].pop(_rule(rule), None) is None:
                raise Refused("InvalidPermission.NotFound", "The specified rule does not exist")
        return {"Return": True}

    def delete_security_group(self, asked: dict[str, Any]) -> dict[str, Any]:
        group = self.groups.get(asked["GroupId"])
        if group is None or not group.exists(self.now):
            raise Refused("InvalidGroup.NotFound", asked["GroupId"])
        # Network interfaces hold it: that much EC2 always knows.
        if any(group.id in i.data["groups"] and i.gone_at() > self.now for i in self.instances.values()):
            raise Refused("DependencyViolation", f"resource {group.id} has a dependent object")
        group.deleted = self.now
        return {}

    # Key pairs

    def import_key_pair(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.check_tags(asked, {"key-pair"})
        name = asked["KeyName"]
        if name in self.pairs and self.pairs[name].exists(self.now):
            raise Refused("InvalidKeyPair.Duplicate", name)
        self.pairs[name] = Thing(
            name, self.now, {"public": asked["PublicKeyMaterial"].decode(), "id": self.new_id("key")}
        )
        self.pairs[name].tag(self.now, self.tags_of(asked, "key-pair"))
        return {"KeyName": name, "KeyPairId": self.pairs[name].data["id"]}

    def describe_key_pairs(self, asked: dict[str, Any]) -> dict[str, Any]:
        view = self.view()
        return {
            "KeyPairs": [
                {
                    "KeyName": p.id,
                    "KeyPairId": p.data["id"],
                    "PublicKey": p.data["public"] if asked.get("IncludePublicKey") else None,
                    "Tags": shown(p.tags(view)),
                }
                for p in self.pairs.values()
                if p.exists(view) and matches(asked.get("Filters", []), {"key-name": p.id}, p.tags(view))
            ]
        }

    def delete_key_pair(self, asked: dict[str, Any]) -> dict[str, Any]:
        pair = self.pairs.get(asked["KeyName"])
        if pair is not None and pair.exists(self.now):
            pair.deleted = self.now
        return {"Return": True}

    # Placement groups

    def create_placement_group(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.check_tags(asked, {"placement-group"})
        name = asked["GroupName"]
        if name in self.placements and self.placements[name].exists(self.now):
            raise Refused("InvalidPlacementGroup.Duplicate", name)
        self.placements[name] = Thing(name, self.now, {"Strategy": asked["Strategy"], "GroupId": self.new_id("pg")})
        self.placements[name].tag(self.now, self.tags_of(asked, "placement-group"))
        return {"PlacementGroup": {"GroupName": name, "Strategy": asked["Strategy"], "State": "available"}}

    def describe_placement_groups(self, asked: dict[str, Any]) -> dict[str, Any]:
        view = self.view()
        return {
            "PlacementGroups": [
                {"GroupName": p.id, "State": "available", **p.data, "Tags": shown(p.tags(view))}
                for p in self.placements.values()
                if p.exists(view) and matches(asked.get("Filters", []), {"group-name": p.id}, p.tags(view))
            ]
        }

    def delete_placement_group(self, asked: dict[str, Any]) -> dict[str, Any]:
        group = self.placements.get(asked["GroupName"])
        if group is None or not group.exists(self.now):
            raise Refused("InvalidPlacementGroup.Unknown", asked["GroupName"])
        if any(i.data["placement"] == group.id and i.gone_at() > self.now for i in self.instances.values()):
            raise Refused("InvalidPlacementGroup.InUse", asked["GroupName"])
        group.deleted = self.now
        return {}

    # Volumes and tags

    def describe_volumes(self, asked: dict[str, Any]) -> dict[str, Any]:
        view = self.view()
        found = [
            v
            for v in self.volumes.values()
            if v.exists(view)
            and matches(
                asked.get("Filters", []),
                {"attachment.instance-id": v.data["instance"], "volume-id": v.id},
                v.tags(view),
            )
        ]
        page, token = self.page(found, asked, 1)
        return {
            "Volumes": [
                {
                    "VolumeId": v.id,
                    "Size": v.data.get("VolumeSize", 8),
                    "VolumeType": v.data.get("VolumeType", "gp3"),
                    "State": "in-use" if self.instances[v.data["instance"]].gone_at() > view else "available",
                    "Tags": shown(v.tags(view)),
                }
                for v in page
            ],
            **token,
        }

    def delete_volume(self, asked: dict[str, Any]) -> dict[str, Any]:
        volume = self.need(self.volumes, asked["VolumeId"], "InvalidVolume.NotFound")
        if self.instances[volume.data["instance"]].gone_at() > self.now:
            raise Refused("VolumeInUse", volume.id)
        volume.deleted = self.now
        return {}

    def create_tags(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.check_tag_list(asked["Tags"])
        if len(asked["Resources"]) > 1000:
            raise Refused("InvalidParameterValue", "at most 1000 resources")
        things = [self._any(identity) for identity in asked["Resources"]]
        for thing in things:
            thing.tag(self.now, {tag["Key"]: tag["Value"] for tag in asked["Tags"]})
        return {}

    def describe_tags(self, asked: dict[str, Any]) -> dict[str, Any]:
        view = self.view()
        kinds: dict[str, Mapping[str, Thing]] = {"instance": self.instances, "volume": self.volumes}
        found = [
            {"Key": k, "Value": v, "ResourceId": t.id, "ResourceType": kind}
            for kind, things in kinds.items()
            for t in things.values()
            if t.exists(view)
            for k, v in t.tags(view).items()
            if matches(asked.get("Filters", []), {"resource-type": kind, "key": k, "value": v, "resource-id": t.id}, {})
        ]
        page, token = self.page(found, asked, 5)
        return {"Tags": page, **token}

    def _any(self, identity: str) -> Thing:
        pairs = {pair.data["id"]: pair for pair in self.pairs.values()}
        places = {place.data["GroupId"]: place for place in self.placements.values()}
        for things, code in (
            (self.instances, "InvalidInstanceID.NotFound"),
            (self.volumes, "InvalidVolume.NotFound"),
            (self.groups, "InvalidGroup.NotFound"),
            (pairs, "InvalidKeyPair.NotFound"),
            (places, "InvalidPlacementGroup.Unknown"),
        ):
            if identity in things:
                return self.need(things, identity, code)
        raise Refused("InvalidID", identity)

    # What a test asks

    def left(self) -> list[str]:
        """Return all that still exists and that a lab has made."""
        self.advance()
        now = self.now
        found = [f"{i.id} {i.state(now)} {i.tags(now)}" for i in self.instances.values() if i.gone_at() > now]
        for kind in (self.volumes, self.groups, self.pairs, self.placements):
            found += [thing.id for thing in kind.values() if thing.exists(now)]
        return found

    def advance(self) -> None:
        """Let happen what has happened by now."""
        raise NotImplementedError


def shown(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Return tags as the API lists them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _rule(rule: Mapping[str, Any]) -> str:
    ranges = sorted(r["CidrIp"] for r in rule.get("IpRanges", []))
    groups = sorted(p["GroupId"] for p in rule.get("UserIdGroupPairs", []))
    return f"{rule['IpProtocol']} {rule.get('FromPort')} {rule.get('ToPort')} {ranges} {groups}"
