"""Where hosts are launched and how: zones, networks, placement groups, spot, disks, no public address."""

from __future__ import annotations

from datetime import timedelta

import pytest
from fake.promises import Promises

from labtool import ssh
from labtool.cloud import end, launch
from labtool.cloud.request import Options
from labtool.errors import CloudError, UsageError
from labtool.progress import Silent
from labtool.topology import GroupSpec

KAFKA, LOAD = GroupSpec("kafka", 2, "t3.small"), GroupSpec("load", 1, "t3.small")


class Lines(Silent):
    def __init__(self):
        self.lines = []

    def line(self, text):
        self.lines.append(text)


def up(session, *specs, image="debian-12", progress=None, **options):
    return launch.up(
        session,
        "one",
        specs or [KAFKA],
        image=image,
        ttl=timedelta(hours=4),
        progress=progress or Silent(),
        options=Options(**options),
    )


def asked(aws):
    return [call.parameters for call in aws.calls if call.action == "RunInstances"]


def test_a_zone_without_room_is_left_and_the_whole_lab_goes_where_there_is_some(session, aws):
    aws.promises = Promises(no_capacity=frozenset({"us-east-1a"}))
    lines = Lines()
    lab = up(session, KAFKA, LOAD, progress=lines)
    assert {host.zone for host in lab} == {"us-east-1b"}
    assert any("no room in us-east-1a" in line for line in lines.lines)
    tokens = [request["ClientToken"] for request in asked(aws)]
    assert len(tokens) == len(set(tokens)) == 3


def test_a_zone_that_has_not_the_type_is_left(session, aws):
    aws.promises = Promises(not_offered=frozenset({"us-east-1a", "us-east-1b"}))
    assert {host.zone for host in up(session)} == {"us-east-1c"}


def test_zones_are_tried_in_the_order_that_was_asked_for(session, aws):
    aws.promises = Promises(no_capacity=frozenset({"us-east-1c"}))
    assert {host.zone for host in up(session, zones=("us-east-1c", "us-east-1b"))} == {"us-east-1b"}


def test_no_room_anywhere_says_where_it_was_tried_and_leaves_nothing_running(session, aws):
    aws.promises = Promises(no_capacity=frozenset({"us-east-1a", "us-east-1b"}))
    with pytest.raises(CloudError, match=r"no room for 2 × t3\.small of group kafka in us-east-1a, us-east-1b"):
        up(session, zones=("us-east-1a", "us-east-1b"))
    assert aws.ec2.instances == {}
    assert len(asked(aws)) == 2  # and not a minute of retries for each: EC2 answers 500
    end.down(session, "one", Silent())
    assert aws.ec2.left() == []


def test_new_hosts_go_where_the_lab_is(session, aws):
    up(session, zones=("us-east-1c",))
    assert {host.zone for host in up(session, KAFKA, LOAD)} == {"us-east-1c"}


def test_an_unknown_zone_is_a_usage_error_that_names_those_there_are(session):
    with pytest.raises(UsageError, match="us-east-1z") as caught:
        up(session, zones=("us-east-1z",))
    assert "us-east-1a, us-east-1b, us-east-1c" in caught.value.hint


@pytest.mark.parametrize("named", ["nowhere", "vpc-0123"])
def test_an_unknown_vpc_is_named(session, named):
    with pytest.raises(UsageError, match=f"no vpc called {named}"):
        up(session, vpc=named)


@pytest.mark.parametrize("named", ["research", "vpc-0e0"])
def test_a_vpc_by_name_or_id(session, aws, named):
    lab = up(session, vpc=named)
    interface = asked(aws)[0]["NetworkInterfaces"][0]
    assert interface["AssociatePublicIpAddress"] is True  # its subnets give none by themselves
    assert all(host.address.startswith("198.51.") for host in lab)
    assert {i.data["vpc"] for i in aws.ec2.instances.values()} == {"vpc-0e0"}
    up(session, KAFKA, LOAD)  # without naming it again
    assert {i.data["vpc"] for i in aws.ec2.instances.values()} == {"vpc-0e0"}
    end.down(session, "one", Silent())
    assert aws.ec2.left() == []


def test_a_lab_is_in_one_vpc(session):
    up(session)
    with pytest.raises(UsageError, match="the lab is in vpc-0d0"):
        up(session, LOAD, vpc="research")


def test_a_subnet_by_its_name_tag(session, aws):
    up(session, subnet="research-us-east-1b")
    assert asked(aws)[0]["NetworkInterfaces"][0]["SubnetId"] == "subnet-0e01"
    with pytest.raises(UsageError, match="no subnet called nowhere"):
        up(session, LOAD, subnet="nowhere")


def test_private_hosts_have_no_public_address_and_so_have_those_that_join_them(session, aws):
    lab = up(session, vpc="research", reach="private")
    assert all(host.address == host.private_address for host in lab)
    assert all(i.data["public"] is None for i in aws.ec2.instances.values())
    up(session, KAFKA, LOAD)
    assert all(i.data["public"] is None for i in aws.ec2.instances.values())


def test_hosts_behind_session_manager_are_reached_by_their_ids(session, aws):
    with pytest.raises(UsageError, match="--ssm needs an instance profile"):
        up(session, image="amazon-linux-2023", reach="ssm")
    lab = up(session, image="amazon-linux-2023", reach="ssm", instance_profile="ssm-hosts")
    host = lab.hosts[0]
    assert host.address == host.instance_id and host.login == "ec2-user"
    assert asked(aws)[0]["IamInstanceProfile"] == {"Name": "ssm-hosts"}
    words = ssh.proxy_command(host)
    assert words[:5] == ["aws", "ssm", "start-session", "--target", host.instance_id]
    assert words[words.index("--region") + 1] == "us-east-1"


def test_session_manager_needs_an_image_with_its_agent(session):
    with pytest.raises(UsageError, match="debian-12"):
        up(session, reach="ssm", instance_profile="ssm-hosts")


def test_no_instance_profile_unless_it_is_asked_for(session, aws):
    up(session)
    assert "IamInstanceProfile" not in asked(aws)[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "names"),
    [
        ("cluster", {"labtool-one"}),
        ("spread", {"labtool-one-kafka", "labtool-one-load"}),
        ("partition", {"labtool-one-kafka", "labtool-one-load"}),
    ],
)
def test_placement_groups_are_made_and_removed(session, aws, strategy, names):
    up(session, KAFKA, LOAD, placement=strategy)
    assert {i.data["placement"] for i in aws.ec2.instances.values()} == names
    assert {p.data["Strategy"] for p in aws.ec2.placements.values()} == {strategy}
    up(session, GroupSpec("kafka", 3, "t3.small"), LOAD, placement=strategy)
    end.down(session, "one", Silent())
    assert aws.ec2.left() == []


def test_too_many_hosts_apart_are_refused_before_anything_is_made(session, aws):
    with pytest.raises(UsageError, match="a spread placement group holds 7"):
        up(session, GroupSpec("kafka", 8, "t3.small"), placement="spread")
    assert not any(call.action.startswith(("Run", "Create", "Import")) for call in aws.calls)


def test_another_placement_than_before_is_refused(session):
    up(session, placement="spread")
    with pytest.raises(UsageError, match="places by spread, not by partition"):
        up(session, GroupSpec("kafka", 3, "t3.small"), placement="partition")


def test_spot_has_the_same_guarantees(session, aws):
    up(session, spot=True, placement="spread")
    request = asked(aws)[0]
    assert request["InstanceMarketOptions"]["SpotOptions"]["SpotInstanceType"] == "one-time"
    assert request["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert request["Placement"]["GroupName"] == "labtool-one-kafka"
    assert {t["ResourceType"] for t in request["TagSpecifications"]} == {"instance", "volume", "spot-instances-request"}
    aws.pass_time(4 * 3600 + 60)
    assert not any(left.startswith("i-") for left in aws.ec2.left())


def test_a_larger_disk_is_asked_for_and_known(session, aws):
    lab = up(session, root_gib=100)
    assert asked(aws)[0]["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] == 100
    assert {host.root_gib for host in lab} == {100}


@pytest.mark.parametrize(
    ("image", "login", "device"),
    [
        ("debian-12", "admin", "/dev/xvda"),
        ("ubuntu-24.04", "ubuntu", "/dev/sda1"),
        ("amazon-linux-2023", "ec2-user", "/dev/xvda"),
    ],
)
def test_an_image_by_its_public_parameter(session, aws, image, login, device):
    lab = up(session, image=image)
    assert {host.login for host in lab} == {login}
    assert asked(aws)[0]["BlockDeviceMappings"][0]["DeviceName"] == device
