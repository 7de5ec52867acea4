"""The fake keeps AWS's promises, or nothing that is proved against it is proved."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError, ParamValidationError
from fake import Crash, wire
from fake.promises import Bucket, Promises

BASE = {"ImageId": "ami-0deb12", "InstanceType": "t3.small", "MinCount": 1, "MaxCount": 1}


def code(call, **parameters):
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    return caught.value.response["Error"]["Code"]


def ids(answer):
    return [instance["InstanceId"] for instance in answer["Instances"]]


def test_a_client_token_launches_once(session, aws):
    first = session.ec2.run_instances(**BASE, ClientToken="a")
    assert ids(session.ec2.run_instances(**BASE, ClientToken="a")) == ids(first)
    assert ids(session.ec2.run_instances(**BASE, ClientToken="b")) != ids(first)
    other = BASE | {"InstanceType": "t3.large"}
    assert code(session.ec2.run_instances, **other, ClientToken="a") == "IdempotentParameterMismatch"
    session.ec2.terminate_instances(InstanceIds=ids(first))
    assert code(session.ec2.run_instances, **BASE, ClientToken="a") == "IdempotentInstanceTerminated"


def test_what_is_new_is_unknown_now_and_then_and_known_in_the_end(session, aws):
    aws.promises = Promises(lag=30)
    made = ids(session.ec2.run_instances(**BASE))
    seen = []
    for _ in range(20):
        aws.pass_time(1)
        seen.append(bool(session.ec2.describe_instances()["Reservations"]))
    assert True in seen and False in seen
    aws.pass_time(31)
    assert all(session.ec2.describe_instances(InstanceIds=made)["Reservations"] for _ in range(20))


def test_a_state_may_be_old(session, aws):
    made = ids(session.ec2.run_instances(**BASE))
    aws.pass_time(60)
    aws.promises = Promises(lag=30)
    session.ec2.terminate_instances(InstanceIds=made)
    aws.pass_time(8)
    states = {session.ec2.describe_instances()["Reservations"][0]["Instances"][0]["State"]["Name"] for _ in range(30)}
    assert "running" in states and "shutting-down" in states


def test_pages(session, aws):
    session.ec2.run_instances(**BASE | {"MinCount": 12, "MaxCount": 12})
    pages = list(session.ec2.get_paginator("describe_instances").paginate(PaginationConfig={"PageSize": 5}))
    assert [sum(len(r["Instances"]) for r in page["Reservations"]) for page in pages] == [5, 5, 2]
    assert code(session.ec2.describe_instances, MaxResults=1) == "InvalidParameterValue"


def test_requests_are_held_against_the_model(session):
    with pytest.raises(ParamValidationError):
        session.ec2.run_instances(**BASE, Nonsense=1)
    operation = session.ec2.meta.service_model.operation_model("RunInstances")
    with pytest.raises(wire.InvalidRequestError, match=r"InstanceInitiatedShutdownBehavior is 'explode'"):
        wire.check(operation.input_shape, BASE | {"InstanceInitiatedShutdownBehavior": "explode"}, "RunInstances")
    filters = [{"Name": "labtool", "Values": ["x"]}]
    assert code(session.ec2.describe_instances, Filters=filters) == "InvalidParameterValue"


def test_throttling_refills(session, aws):
    aws.promises = Promises(throttle=True, latency=0, launch_latency=0)
    client = session.client("ec2", attempts=1)
    for _ in range(5):
        client.run_instances(**BASE)
    assert code(client.run_instances, **BASE) == "RequestLimitExceeded"
    aws.pass_time(0.5)
    client.run_instances(**BASE)


def test_a_bucket_holds_no_more_than_its_capacity():
    bucket = Bucket(2, 1)
    assert [bucket.take(0), bucket.take(0), bucket.take(0), bucket.take(100), bucket.take(100), bucket.take(100)] == [
        True, True, False, True, True, False,
    ]  # fmt: skip


def test_a_thousand_instances_at_once_and_two_a_second_after_that(session, aws):
    aws.promises = Promises(throttle=True)
    client = session.client("ec2", attempts=1)
    client.run_instances(**BASE | {"MinCount": 990, "MaxCount": 990})
    assert code(client.run_instances, **BASE | {"MinCount": 50, "MaxCount": 50}) == "RequestLimitExceeded"


def test_a_group_stays_while_an_instance_is_in_it_seen_or_not(session, aws):
    aws.promises = Promises(lag=1000)
    group = session.ec2.create_security_group(GroupName="g", Description="g", VpcId="vpc-0d0")["GroupId"]
    aws.promises = Promises()
    made = ids(session.ec2.run_instances(**BASE, SecurityGroupIds=[group]))
    aws.promises = Promises(lag=1000)
    assert code(session.ec2.delete_security_group, GroupId=group) == "DependencyViolation"
    aws.promises = Promises()
    session.ec2.terminate_instances(InstanceIds=made)
    assert code(session.ec2.delete_security_group, GroupId=group) == "DependencyViolation"
    aws.pass_time(20)
    session.ec2.delete_security_group(GroupId=group)


def test_dry_runs_quotas_and_permissions(session, aws):
    assert code(session.ec2.run_instances, **BASE, DryRun=True) == "DryRunOperation"
    aws.promises = Promises(vcpus=1)
    assert code(session.ec2.run_instances, **BASE) == "VcpuLimitExceeded"
    aws.promises = Promises(denied=frozenset({"DescribeInstances"}))
    assert code(session.ec2.describe_instances) == "UnauthorizedOperation"
    assert aws.ec2.instances == {}


@pytest.mark.parametrize(("key", "value", "fits"), [
    ("k" * 127, "v" * 256, True), ("k" * 129, "v", False), ("k", "v" * 257, False), ("aws:k", "v", False),
])  # fmt: skip
def test_tags_have_limits(session, aws, key, value, fits):
    tags = [{"Key": key, "Value": value}]
    (made,) = ids(session.ec2.run_instances(**BASE))
    launched = {**BASE, "TagSpecifications": [{"ResourceType": "instance", "Tags": tags}]}
    if fits:
        session.ec2.run_instances(**launched)
        session.ec2.create_tags(Resources=[made], Tags=tags)
    else:
        assert code(session.ec2.run_instances, **launched) == "InvalidParameterValue"
        assert code(session.ec2.create_tags, Resources=[made], Tags=tags) == "InvalidParameterValue"
    assert len(aws.ec2.instances) == 1 + fits


def test_one_unknown_instance_refuses_the_whole_call(session, aws):
    made = ids(session.ec2.run_instances(**BASE))
    asked = [*made, "i-00000000000000fff"]
    assert code(session.ec2.terminate_instances, InstanceIds=asked) == "InvalidInstanceID.NotFound"
    assert aws.ec2.instances[made[0]].alive(aws.clock.elapsed)


def test_botocore_repeats_what_failed_and_a_crash_ends_everything(session, aws):
    aws.faults = {0: "throttle", 1: "error", 2: "timeout", 3: "unreachable"}
    assert session.ec2.describe_instances()["Reservations"] == []
    assert [call.outcome for call in aws.calls] == ["throttle", "error", "timeout", "unreachable", ""]
    aws.faults = {5: "crash"}
    for _ in range(2):
        with pytest.raises(Crash):
            session.ec2.describe_instances()
    aws.revive()
    session.ec2.describe_instances()


def test_who_asks(session):
    assert session.client("sts").get_caller_identity()["Account"] == "123456789012"
