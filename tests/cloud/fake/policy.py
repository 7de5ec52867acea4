"""IAM as far as docs/aws-policy.json goes: which statement allows a call on each of the resources it touches.

Which resources an action is checked against, and with which tags, is the service authorization reference's:
https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fake.aws import Aws
    from fake.state import Thing

Context = Mapping[str, str]
"""Condition keys and their values; one that does not apply is absent."""


def many(value: Any) -> list[Any]:
    """Return what JSON's policies write as one or as a list."""
    return value if isinstance(value, list) else [value]


class Policy:
    """Statements that allow; there are none that deny."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.statements = document["Statement"]
        if unknown := {each["Effect"] for each in self.statements} - {"Allow"}:
            raise NotImplementedError(unknown)

    def refusal(self, aws: Aws, service: str, action: str, asked: Mapping[str, Any]) -> str:
        """Return what of a call is not allowed, '' if all is."""
        for verb, resource, context in touched(aws, service, action, asked):
            if not self.allows(verb, resource, context):
                return f"{verb} on {resource} with {dict(context)}"
        return ""

    def allows(self, action: str, resource: str, context: Context) -> bool:
        """Tell whether a statement allows an action on one resource; `*` is no resource in particular."""
        return any(
            action in many(each["Action"])
            and any(fnmatchcase(resource, pattern) for pattern in many(each["Resource"]))
            and all(self._holds(*test, context) for test in each.get("Condition", {}).items())
            for each in self.statements
        )

    def _holds(self, operator: str, wanted: Mapping[str, Any], context: Context) -> bool:
        match = {"StringLike": fnmatchcase, "StringEquals": str.__eq__}[operator]
        return all(key in context and any(match(context[key], v) for v in many(vs)) for key, vs in wanted.items())


def touched(aws: Aws, service: str, action: str, asked: Mapping[str, Any]) -> Iterator[tuple[str, str, Context]]:
    """Yield what a call needs: an action, the resource, and the condition keys that apply to it."""
    verb = f"{service}:{action}"
    if service == "sts":
        return  # everybody may ask who they are
    if verb == "ssm:GetParameter":
        yield verb, f"arn:aws:ssm:us-east-1::parameter{asked['Name']}", {}
    elif service == "s3":
        yield from _of_s3(action, asked)
    elif service != "ec2" or action.startswith("Describe"):
        yield verb, "*", {}
    elif action in ("RunInstances", "CreateSecurityGroup", "ImportKeyPair", "CreatePlacementGroup"):
        yield from _made(verb, action, asked)
    else:
        for thing, kind in _existing(aws, action, asked):
            tags = {f"aws:ResourceTag/{key}": value for key, value in thing.tags(aws.ec2.now).items()} if thing else {}
            yield verb, arn(kind), tags


S3 = {  # IAM's names for S3's calls, where they are not the calls' own
    "ListBuckets": "ListAllMyBuckets",
    "ListObjectsV2": "ListBucket",
    "ListMultipartUploads": "ListBucketMultipartUploads",
    "DeleteObjects": "DeleteObject",
    "HeadObject": "GetObject",
    "PutPublicAccessBlock": "PutBucketPublicAccessBlock",
    "PutBucketEncryption": "PutEncryptionConfiguration",
    "PutBucketLifecycleConfiguration": "PutLifecycleConfiguration",
}


def _of_s3(action: str, asked: Mapping[str, Any]) -> Iterator[tuple[str, str, Context]]:
    own = "" if "Bucket" not in asked else f"arn:aws:s3:::{asked['Bucket']}"
    yield f"s3:{S3.get(action, action)}", f"{own}/x" if "Object" in action else own or "*", {}


def arn(kind: str) -> str:
    """Return the name of a resource of this account; images are of no account."""
    return f"arn:aws:ec2:us-east-1:{'' if kind == 'image' else '123456789012'}:{kind}/x"


def _made(verb: str, action: str, asked: Mapping[str, Any]) -> Iterator[tuple[str, str, Context]]:
    tags = {
        each["ResourceType"]: {f"aws:RequestTag/{tag['Key']}": tag["Value"] for tag in each["Tags"]}
        for each in asked.get("TagSpecifications", [])
    }
    makes = {
        "RunInstances": ["instance", "volume", "network-interface"],
        "CreateSecurityGroup": ["security-group"],
        "ImportKeyPair": ["key-pair"],
        "CreatePlacementGroup": ["placement-group"],
    }[action]
    uses = {"RunInstances": ["image", "subnet", "security-group"], "CreateSecurityGroup": ["vpc"]}.get(action, [])
    if action == "RunInstances":
        makes += ["spot-instances-request"] if "InstanceMarketOptions" in asked else []
        uses += ["key-pair"] if "KeyName" in asked else []
        uses += ["placement-group"] if asked.get("Placement", {}).get("GroupName") else []
    for kind in makes:
        yield verb, arn(kind), tags.get(kind, {})
    for kind in uses:
        yield verb, arn(kind), {}
    for kind, own in tags.items():
        yield "ec2:CreateTags", arn(kind), {**own, "ec2:CreateAction": action}


def _existing(aws: Aws, action: str, asked: Mapping[str, Any]) -> Iterator[tuple[Thing | None, str]]:
    ec2 = aws.ec2
    homes: dict[str, tuple[Mapping[str, Thing], str]] = {
        "InstanceIds": (ec2.instances, "instance"),
        "InstanceId": (ec2.instances, "instance"),
        "GroupId": (ec2.groups, "security-group"),
        "KeyName": (ec2.pairs, "key-pair"),
        "GroupName": (ec2.placements, "placement-group"),
        "VolumeId": (ec2.volumes, "volume"),
    }
    if action == "CreateTags":
        for identity in asked["Resources"]:
            kind = "instance" if identity.startswith("i-") else "volume"
            yield {**ec2.instances, **ec2.volumes}.get(identity), kind
        return
    for name in many(next(value for key, value in asked.items() if key in homes)):
        things, kind = homes[next(key for key in asked if key in homes)]
        yield things.get(name), kind
