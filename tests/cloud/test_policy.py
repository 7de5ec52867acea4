"""The policy in docs/aws.md allows what labtool asks, and nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def allowed():
    text = (ROOT / "docs" / "aws.md").read_text()
    (block,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    statements = json.loads(block)["Statement"]
    assert {statement["Effect"] for statement in statements} == {"Allow"}
    for statement in statements:
        # S3 is not labtool's own: only buckets of its name.
        on_s3 = any(action.startswith("s3:") for action in statement["Action"])
        assert on_s3 == ("arn:aws:s3:::labtool-*" in statement["Resource"])
    return {action for statement in statements for action in statement["Action"]}


def asked():
    """Return the EC2 actions that the source names: methods of the client, paginators, names given as text."""
    import boto3

    client = boto3.client("ec2", region_name="us-east-1")
    methods = client.meta.method_to_api_mapping
    source = "\n".join(
        path.read_text()
        for folder in ("cloud", "experiment", "collect")
        for path in (ROOT / "labtool" / folder).glob("*.py")
    )
    words = set(re.findall(r"\b[a-z]+_[a-z_]+\b", source))
    return {f"ec2:{methods[word]}" for word in words if word in methods}


# IAM's names for S3's calls, where they are not the calls' own.
S3 = {
    "ListObjectsV2": "ListBucket",
    "ListMultipartUploads": "ListBucketMultipartUploads",
    "DeleteObjects": "DeleteObject",
    "HeadObject": "GetObject",
    "PutPublicAccessBlock": "PutBucketPublicAccessBlock",
    "PutBucketEncryption": "PutEncryptionConfiguration",
    "PutBucketLifecycleConfiguration": "PutLifecycleConfiguration",
}


def asked_of_s3():
    """Return the actions that the lab's bucket needs."""
    import boto3

    methods = boto3.client("s3", region_name="us-east-1").meta.method_to_api_mapping
    words = re.findall(r"\b[a-z]+_[a-z_0-9]+\b", (ROOT / "labtool/cloud/bucket.py").read_text())
    calls = {methods[word] for word in words if word in methods}
    return {f"s3:{S3.get(call, call)}" for call in calls} | {"s3:PutObject"}


def test_the_policy_allows_what_is_asked_and_nothing_else():
    others = {"cloudwatch:GetMetricData", "ssm:GetParameter"}
    assert allowed() == asked() | asked_of_s3() | others
