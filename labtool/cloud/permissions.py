"""Which of the permissions that labtool needs this user has, found out without changing anything.

EC2 takes every request with `DryRun`, and answers whether it would have been allowed:
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/CommonParameters.html
What is only allowed on a lab's own things is tried on those of a lab that exists, or not at all.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from labtool.cloud import clock, images, leftovers, parallel, plan, request, tags
from labtool.cloud.session import DENIED, Session, error_code
from labtool.errors import CloudError

Answer = Literal["allowed", "denied", "unknown"]
_LAB = "labtool-doctor"
_PUBLIC_KEY = b"ssh-ed25519 " + base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + bytes(32))  # nobody's


ON_S3 = tuple(
    f"s3:{name}"
    for name in (
        "AbortMultipartUpload", "CreateBucket", "DeleteBucket", "DeleteObject", "GetBucketTagging", "GetObject",
        "ListBucket", "ListBucketMultipartUploads", "PutBucketPolicy", "PutBucketPublicAccessBlock", "PutBucketTagging",
        "PutEncryptionConfiguration", "PutLifecycleConfiguration", "PutObject",
    )
)  # fmt: skip


@dataclass(frozen=True)
class Permission:
    """An action, and whether this user may take it; `why` says what came instead of an answer."""

    action: str  # as a policy names it: ec2:RunInstances
    answer: Answer
    why: str = ""


def look(session: Session) -> list[Permission]:
    """Return every permission labtool needs, each tried once; `CloudError` where AWS cannot be reached."""
    return parallel.each(lambda probe: _try(*probe), list(_probes(session)))


def _try(action: str, call: Callable[[], Any] | None) -> Permission:
    from botocore.exceptions import BotoCoreError, ClientError

    if call is None:
        why = (
            "S3 has no dry runs; without it archives go over SSH" if action in ON_S3 else "it takes a lab to try it on"
        )
        return Permission(action, "unknown", why)
    try:
        call()
    except ClientError as error:
        code = error_code(error)
        if code == "DryRunOperation":
            return Permission(action, "allowed")
        if code in DENIED:
            return Permission(action, "denied")
        return Permission(action, "unknown", code)
    except CloudError as error:
        return Permission(action, "unknown", error.message)
    except BotoCoreError as error:
        return Permission(action, "unknown", str(error))
    return Permission(action, "allowed")


def _probes(session: Session) -> Iterator[tuple[str, Callable[[], Any] | None]]:
    """Yield each action with the call that tries it, None where there is nothing to try it on."""
    ec2 = session.ec2
    for name in (
        "describe_images",
        "describe_instance_type_offerings",
        "describe_instance_types",
        "describe_instances",
        "describe_key_pairs",
        "describe_placement_groups",
        "describe_security_groups",
        "describe_spot_instance_requests",
        "describe_subnets",
        "describe_volumes",
        "describe_vpcs",
    ):
        yield _dry(ec2, name)
    yield (
        "ssm:GetParameter",
        lambda: session.client("ssm").get_parameter(Name=images.DISTRIBUTIONS["debian-12"].parameter),
    )
    yield "pricing:GetProducts", lambda: session.client("pricing").get_products(ServiceCode="AmazonEC2", MaxResults=1)
    yield "cloudwatch:GetMetricData", lambda: _no_metric(session)
    yield "cloudwatch:ListMetrics", lambda: session.client("cloudwatch").list_metrics(Namespace=_LAB)
    image = _image(session)
    yield _dry(ec2, "run_instances", _launch(image)) if image else ("ec2:RunInstances", None)
    made = {"GroupName": _LAB, "TagSpecifications": _tagged("security-group"), "Description": "a dry run"}
    yield _dry(ec2, "create_security_group", made | _network(session))
    key = {"KeyName": _LAB, "PublicKeyMaterial": _PUBLIC_KEY, "TagSpecifications": _tagged("key-pair")}
    yield _dry(ec2, "import_key_pair", key)
    placed = {"GroupName": _LAB, "Strategy": "cluster", "TagSpecifications": _tagged("placement-group")}
    yield _dry(ec2, "create_placement_group", placed)
    yield from _on_a_labs_own(session)
    yield "s3:ListAllMyBuckets", lambda: session.client("s3").list_buckets(Prefix=_LAB, MaxBuckets=1)
    yield from ((action, None) for action in ON_S3)


def _on_a_labs_own(session: Session) -> Iterator[tuple[str, Callable[[], Any] | None]]:
    try:
        found = leftovers.find_everything(session)
    except CloudError:
        found = leftovers.Everything((), ())
    instance = next((host.instance_id for lab in found.labs for host in lab), None)
    group, pair, placement, volume = (
        next((thing.id for thing in found.things if thing.kind == kind), None)
        for kind in ("security group", "key pair", "placement group", "volume")
    )
    ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "192.0.2.1/32"}]}
    rule = {"IpPermissions": [ssh]}
    tried: list[tuple[str, str, Any, dict[str, Any]]] = [
        ("authorize_security_group_ingress", "GroupId", group, rule),
        ("revoke_security_group_ingress", "GroupId", group, rule),
        ("delete_security_group", "GroupId", group, {}),
        ("delete_key_pair", "KeyName", pair, {}),
        ("delete_placement_group", "GroupName", placement, {}),
        ("delete_volume", "VolumeId", volume, {}),
        ("get_console_output", "InstanceId", instance, {}),
        ("create_tags", "Resources", instance and [instance], {"Tags": tags.to_list({tags.OWNER: "doctor"})}),
        ("start_instances", "InstanceIds", instance and [instance], {}),
        ("terminate_instances", "InstanceIds", instance and [instance], {}),
    ]
    for name, key, value, more in tried:
        yield _dry(session.ec2, name, {key: value} | more) if value else (_action(session.ec2, name), None)


def _dry(ec2: Any, name: str, parameters: Mapping[str, Any] | None = None) -> tuple[str, Callable[[], Any]]:
    return _action(ec2, name), lambda: getattr(ec2, name)(**(parameters or {}), DryRun=True)


def _action(ec2: Any, name: str) -> str:
    return f"ec2:{ec2.meta.method_to_api_mapping[name]}"


def _tagged(kind: str) -> list[dict[str, Any]]:
    return [{"ResourceType": kind, "Tags": tags.to_list({tags.LAB: _LAB})}]


def _image(session: Session) -> images.Image | None:
    try:
        return images.resolve(session, None)
    except CloudError:
        return None


def _launch(image: images.Image) -> dict[str, Any]:
    """Return a launch as `up` would ask for it, without the key pair and the group, which are not there yet."""
    made = request.run_instances(
        plan.Launch("doctor", (0,), "t3.micro", "0"),
        _LAB,
        image=image,
        key_name=_LAB,
        security_group="",
        expires=clock.now() + timedelta(hours=1),
        owner="doctor",
        user_data="",
        token="",
    )
    for name in ("KeyName", "SecurityGroupIds", "NetworkInterfaces", "ClientToken", "UserData"):
        made.pop(name, None)
    return made


def _network(session: Session) -> dict[str, str]:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        found = session.ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    except (BotoCoreError, ClientError):
        found = []
    return {"VpcId": found[0]["VpcId"]} if found else {}


def _no_metric(session: Session) -> None:
    """Ask for a metric that no instance has: a thousand of these are a cent."""
    end = clock.now().replace(second=0, microsecond=0)
    metric = {"Namespace": "AWS/EC2", "MetricName": "CPUUtilization"}
    query = {"Id": "a", "MetricStat": {"Metric": metric, "Period": 60, "Stat": "Average"}}
    session.client("cloudwatch").get_metric_data(
        MetricDataQueries=[query], StartTime=end - timedelta(minutes=1), EndTime=end
    )
