"""The security group follows the caller, and only the caller."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from labtool.cloud import keys, launch, network
from labtool.errors import CloudError
from labtool.progress import Silent
from labtool.topology import GroupSpec

WEB = GroupSpec("web", 1, "t3.small")


def up(session):
    return launch.up(session, "one", [WEB], image=None, ttl=timedelta(hours=4), progress=Silent())


def rules(aws):
    (group,) = [g for g in aws.ec2.groups.values() if g.exists(aws.clock.elapsed)]
    return list(group.data["rules"].values())


def admitted(aws):
    return sorted(r["CidrIp"] for rule in rules(aws) if rule["IpProtocol"] == "tcp" for r in rule["IpRanges"])


@pytest.fixture
def moved(session, monkeypatch):
    def move(cidr):
        monkeypatch.setattr(session, "target", replace(session.target, caller_cidr=cidr))

    return move


def test_ssh_from_the_caller_and_everything_inside(session, aws):
    up(session)
    inside = [rule for rule in rules(aws) if rule["IpProtocol"] == "-1"]
    assert [pair["GroupId"] for pair in inside[0]["UserIdGroupPairs"]] == list(aws.ec2.groups)
    assert admitted(aws) == ["198.51.100.7/32"]
    assert all(rule.get("ToPort", 22) == 22 for rule in rules(aws))


def test_up_admits_the_address_the_caller_has_now_and_no_longer_the_old_one(session, aws, moved):
    up(session)
    moved("203.0.113.9/32")
    up(session)
    assert admitted(aws) == ["203.0.113.9/32"]


def test_nothing_is_asked_for_when_the_address_is_the_same(session, aws):
    up(session)
    before = len(aws.calls)
    assert network.admit_caller(session, "one") is False
    assert [call.action for call in aws.calls[before:]] == ["DescribeSecurityGroups"]


def test_the_rule_of_another_caller_stays(session, aws, moved, monkeypatch):
    up(session)
    with monkeypatch.context() as patch:
        patch.setattr(network, "caller_description", lambda: "labtool: caller other-laptop")
        moved("203.0.113.9/32")
        network.admit_caller(session, "one")
    assert admitted(aws) == ["198.51.100.7/32", "203.0.113.9/32"]
    moved("203.0.113.10/32")
    network.admit_caller(session, "one")
    assert admitted(aws) == ["203.0.113.10/32", "203.0.113.9/32"]


def test_through_a_jump_host_what_was_admitted_stays(session, aws, moved, monkeypatch):
    moved("203.0.113.9/32")  # the jump host, named by --ssh-from
    up(session)
    monkeypatch.setattr(session, "target", replace(session.target, caller_cidr=None, proxy_jump="bastion"))
    monkeypatch.setattr(network, "caller_cidr", lambda session: pytest.fail("the hosts do not see this machine"))
    lab = up(session)
    assert admitted(aws) == ["203.0.113.9/32"]
    monkeypatch.setattr(network.wait, "greets", lambda host, access: False)
    network.admit_if_silent(session, lab, keys.access(session, "one"), Silent())
    assert admitted(aws) == ["203.0.113.9/32"]


def test_a_group_of_the_same_name_that_is_not_the_labs_is_left_alone(session, aws):
    session.ec2.create_security_group(GroupName="labtool-one", Description="theirs", VpcId="vpc-0d0")
    with pytest.raises(CloudError, match="has not the tag labtool:lab=one"):
        up(session)
    assert rules(aws) == []


def test_the_description_is_one_that_ec2_takes(monkeypatch):
    monkeypatch.setattr(network.getpass, "getuser", lambda: "jörg 'x'")
    monkeypatch.setattr(network.socket, "gethostname", lambda: "høst" * 100)
    text = network.caller_description()
    assert len(text) <= 255 and text.isascii() and "'" not in text
