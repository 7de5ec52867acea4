"""The policy in docs/aws.md allows what labtool asks, and nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def allowed():
    text = (ROOT / "docs" / "aws.md").read_text()
    (block,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    (statement,) = json.loads(block)["Statement"]
    assert statement["Effect"] == "Allow"
    return set(statement["Action"])


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


def test_the_policy_allows_what_is_asked_and_nothing_else():
    others = {"cloudwatch:GetMetricData", "cloudwatch:ListMetrics", "ssm:GetParameter"}
    assert allowed() == asked() | others
