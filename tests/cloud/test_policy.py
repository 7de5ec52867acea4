"""docs/aws-policy.json allows what labtool asks, on what is a lab's, and nothing else."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import boto3
import pytest
from fake import Aws, VirtualClock, install
from fake.policy import S3, Policy, many

from labtool.cli.app import run
from labtool.cloud import bucket, keys
from labtool.cloud import extend as extending
from labtool.cloud.journal import Journal

POLICY = json.loads((Path(__file__).parents[2] / "docs" / "aws-policy.json").read_text())
UPLOADS = {f"s3:{name}" for name in (
    "AbortMultipartUpload", "CreateBucket", "GetObject", "PutBucketPolicy", "PutBucketPublicAccessBlock",
    "PutBucketTagging", "PutEncryptionConfiguration", "PutLifecycleConfiguration", "PutObject",
)}  # fmt: skip
DENIED = {"UnauthorizedOperation"}


def live(account, monkeypatch):
    """Type all there is to type, once, and yield after each; what goes wrong is found in `aws.refused`."""
    session, aws = account.session, account.aws
    monkeypatch.setattr(extending, "over_ssh", lambda access: lambda host, expires: "")
    yield run(["up", "web=2", "--placement", "cluster", "--type", "m5.large", "--yes"])
    yield run(["up", "web=2", "load=1", "--spot", "--type", "t3.smal", "--yes"])  # misspelt
    yield run(["up", "web=2", "load=1", "--spot", "--yes"])
    stopped = next((i for i in aws.ec2.instances.values() if i.alive(aws.clock.elapsed)), None)
    if stopped:
        held, aws.policy = aws.policy, None  # by somebody else
        account.stop(stopped.id)
        aws.pass_time(60)
        aws.policy = held
        yield run(["up", "--yes"])
        with monkeypatch.context() as moved:
            from dataclasses import replace

            moved.setattr(session, "target", replace(session.target, caller_cidr="203.0.113.9/32"))
            yield run(["up", "--yes"])
    home = bucket.of_lab(session, "lab").name  # as a deploy would have made it
    Journal(keys.lab_folder(session, "lab")).uses(bucket=home)
    aws.s3.make(home, {"labtool:lab": "lab"}, ("an archive",))
    yield run(["extend", "--ttl", "8h"])
    yield run(["profile", "--last", "1", "--namespace", "CWAgent"])  # of spot instances
    yield run(["status", "--all"])
    if stopped:
        held, aws.policy = aws.policy, None
        session.ec2.terminate_instances(InstanceIds=[stopped.id])
        for volume in aws.ec2.volumes.values():
            if volume.data["instance"] == stopped.id:
                volume.deleted = float("inf")  # it was made to stay
        aws.pass_time(60)
        aws.policy = held
    yield run(["down"])
    yield run(["deploy", "countdown", "--yes"])
    yield run(["down"])


@pytest.fixture
def living(account, session, labtool, without_hosts, monkeypatch, tmp_path, capfd):
    """Return a function that lives under a policy, step by step; each gives the account, with what it has refused."""
    count = iter(range(100))

    def under(policy):
        monkeypatch.setenv("LABTOOL_HOME", str(tmp_path / str(next(count))))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / str(next(count))))
        account.reset(Aws(VirtualClock()))
        install(account.aws, monkeypatch.setattr)
        account.aws.policy = policy and Policy(policy)
        for _ in live(account, monkeypatch):
            yield account.aws
        capfd.readouterr()

    return under


@pytest.mark.slow
def test_the_policy_is_enough(living):
    *_, without = living(None)
    *_, within = living(POLICY)
    assert not DENIED & set(within.refused)
    assert within.ec2.left() == [] and within.s3.buckets == {}
    assert {call.action for call in within.calls} == {call.action for call in without.calls}


def narrower():
    """Yield the policy without each of its actions, resources and values of conditions."""
    for at, statement in enumerate(POLICY["Statement"]):
        for part in ("Action", "Resource"):
            for each in many(statement[part]):
                less = copy.deepcopy(POLICY)
                less["Statement"][at][part] = [other for other in many(statement[part]) if other != each]
                yield pytest.param(less, each, id=f"{statement['Sid']}-{each}")
        for operator, test in statement.get("Condition", {}).items():
            for key, values in test.items():
                for each in many(values):
                    less = copy.deepcopy(POLICY)
                    less["Statement"][at]["Condition"][operator][key] = [v for v in many(values) if v != each]
                    yield pytest.param(less, each, id=f"{statement['Sid']}-{key}-{each}")


@pytest.mark.slow
@pytest.mark.parametrize(("policy", "left_out"), list(narrower()))
def test_nothing_of_it_can_be_left_out(living, policy, left_out):
    if "s3:::" not in left_out and left_out not in UPLOADS:
        assert any(DENIED & set(aws.refused) for aws in living(policy))


def test_what_is_not_a_labs_cannot_be_touched(account, session, labtool):
    labtool("up", "web=1", "--yes")
    ec2 = account.aws.ec2
    (instance,), (volume,) = ec2.instances.values(), ec2.volumes.values()
    calls = [
        ("DeleteVolume", {"VolumeId": volume.id}),
        ("TerminateInstances", {"InstanceIds": [instance.id]}),
        ("CreateTags", {"Resources": [instance.id], "Tags": []}),
    ]
    policy = Policy(POLICY)
    assert [policy.refusal(account.aws, "ec2", *call) for call in calls] == ["", "", ""]
    for thing in (instance, volume):
        thing.tagged.append((account.aws.clock.elapsed, {"Name": "a stranger's"}))
    assert all(call[0] in policy.refusal(account.aws, "ec2", *call) for call in calls)


def test_a_refused_call_names_the_action_and_the_way_out(account, labtool):
    policy = copy.deepcopy(POLICY)
    policy["Statement"][0]["Action"].remove("ec2:DescribeVpcs")
    account.aws.policy = Policy(policy)
    _, said = labtool("up", "web=1", "--yes", code=1)
    assert "ec2:DescribeVpcs" in said and "labtool doctor --cloud aws" in said


def test_on_s3_it_allows_what_the_source_names_and_nothing_else():
    """The fake has no uploads: the calls are those of `labtool.cloud.bucket`, and what its upload is made of."""
    methods = boto3.client("s3", region_name="us-east-1").meta.method_to_api_mapping
    words = re.findall(r"\b[a-z]+_[a-z_0-9]+\b", Path(bucket.__file__).read_text())
    calls = {methods[word] for word in words if word in methods}
    (statement,) = [each for each in POLICY["Statement"] if each["Sid"] == "CarryArchives"]
    assert {*statement["Action"], "s3:ListAllMyBuckets"} == {f"s3:{S3.get(c, c)}" for c in calls} | {"s3:PutObject"}
    assert all(resource.startswith("arn:aws:s3:::labtool-") for resource in statement["Resource"])
