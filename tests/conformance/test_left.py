"""What the suite has made when it is killed is seen and ended by labtool; when it ends itself, nothing is left."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import boto3
import clouds
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.core.responses import ActionResult
from moto.ec2.responses import EC2Response

from labtool.cli.app import run
from labtool.cloud import tags
from labtool.cloud.images import Image

pytestmark = pytest.mark.slow


@pytest.fixture
def cloud(tmp_path, monkeypatch):
    """The suite's cloud on moto's AWS, where all has been made that a run makes."""
    monkeypatch.setenv("LABTOOL_CLOUD", "aws")
    monkeypatch.setattr(clouds.Cloud, "image", Image("ami-12c6146b", "admin", "/dev/xvda"))
    monkeypatch.setattr(clouds.time, "sleep", lambda seconds: None)
    none = ActionResult({"PlacementGroups": []})  # moto does not know any
    monkeypatch.setattr(EC2Response, "describe_placement_groups", lambda self: none, raising=False)
    with mock_aws():
        yield clouds.Cloud(tmp_path, boto3.Session(), endpoint=None, caller="198.51.100.7/32", patience=0.1)


def fill(cloud):
    cloud.begin()
    first, second = cloud.group("first"), cloud.group("second")
    pair = {"IpProtocol": "tcp", "FromPort": 1, "ToPort": 1, "UserIdGroupPairs": [{"GroupId": first}]}
    cloud.ec2.authorize_security_group_ingress(GroupId=second, IpPermissions=[pair])
    return [cloud.launch(SecurityGroupIds=[group]) for group in (first, second)]


def labtool(capfd, *words):
    capfd.readouterr()
    assert run([*words, "--json"]) == 0
    return json.loads(capfd.readouterr().out)


def left(cloud):
    """Return what there is in the account, as AWS itself shows it."""
    instances = [each for found in cloud.ec2.describe_instances()["Reservations"] for each in found["Instances"]]
    groups = cloud.ec2.describe_security_groups()["SecurityGroups"]
    return [
        *(each["InstanceId"] for each in instances if each["State"]["Name"] != "terminated"),
        *(each["VolumeId"] for each in cloud.ec2.describe_volumes()["Volumes"]),
        *(each["GroupName"] for each in groups if each["GroupName"] != "default"),
        *(each["KeyName"] for each in cloud.ec2.describe_key_pairs()["KeyPairs"]),
        *(each["RoleName"] for each in cloud.iam.list_roles()["Roles"]),
        *(each["InstanceProfileName"] for each in cloud.iam.list_instance_profiles()["InstanceProfiles"]),
    ]


def test_status_of_all_labs_shows_all_that_a_killed_run_leaves(cloud, capfd):
    instances = fill(cloud)
    (lab,) = labtool(capfd, "status", "--all")
    assert lab["lab"] == cloud.lab
    assert [(host["name"], host["instance_id"]) for host in lab["hosts"]] == [
        (f"test-{index}", instance) for index, instance in enumerate(instances)
    ]
    kinds = [each["kind"] for each in lab["has"]]
    assert [kinds.count(kind) for kind in ("volume", "security group", "key pair")] == [2, 2, 1]


def test_down_expired_ends_what_a_killed_run_leaves(cloud, capfd):
    cloud.expires = datetime(2026, 1, 1, tzinfo=UTC)
    fill(cloud)
    assert labtool(capfd, "down", "--expired") == [{"lab": cloud.lab, "hosts_ended": 2}]
    assert left(cloud) == []


def test_a_host_ends_itself_when_the_runs_time_is_over(cloud):
    (instance, _) = fill(cloud)

    def attribute(name):
        return cloud.ec2.describe_instance_attribute(InstanceId=instance, Attribute=name)

    behaviour = attribute("instanceInitiatedShutdownBehavior")["InstanceInitiatedShutdownBehavior"]["Value"]
    assert behaviour == "terminate"
    assert f"OnCalendar={cloud.expires:%Y-%m-%d %H:%M:%S} UTC" in cloud.power_off()
    assert base64.b64decode(attribute("userData")["UserData"]["Value"]).decode() == cloud.power_off()


def test_role_and_profile_say_whose_they_are(cloud):
    cloud.profile()
    own = tags.to_list(cloud.tags)
    assert cloud.iam.get_role(RoleName=cloud.name)["Role"]["Tags"] == own
    assert cloud.iam.get_instance_profile(InstanceProfileName=cloud.name)["InstanceProfile"]["Tags"] == own


def test_tidying_up_leaves_nothing_though_answers_were_lost(cloud):
    fill(cloud)
    cloud.profile()
    cloud.instances.clear()
    cloud.groups.clear()
    cloud.tidy()
    assert left(cloud) == []


def test_tidying_up_goes_on_after_a_failure_and_tells_all_failures(cloud, monkeypatch):
    fill(cloud)
    cloud.profile()

    def refuse(call):
        def refused(**given):
            raise ClientError({"Error": {"Code": "UnauthorizedOperation", "Message": call}}, call)

        return refused

    monkeypatch.setattr(cloud.ec2, "terminate_instances", refuse("TerminateInstances"))
    monkeypatch.setattr(cloud.iam, "delete_role_policy", refuse("DeleteRolePolicy"))
    with pytest.raises(ExceptionGroup, match=f"labtool down --lab {cloud.lab}") as told:
        cloud.tidy()
    named = [error.operation_name for error in told.value.exceptions if isinstance(error, ClientError)]
    assert {"TerminateInstances", "DeleteRolePolicy"} <= set(named)
    assert cloud.ec2.describe_key_pairs()["KeyPairs"] == []
    assert cloud.iam.list_instance_profiles()["InstanceProfiles"] == []
