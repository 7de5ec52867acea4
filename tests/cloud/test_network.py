"""The security group follows the caller, and only the caller."""

from __future__ import annotations

import socket
import threading
from dataclasses import replace
from datetime import timedelta

import pytest

from labtool.cloud import keys, launch, network
from labtool.cloud.session import Session, Target
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


NOBODY_SAID = Session(Target("aws", "us-east-1"))


@pytest.fixture
def who_am_i(monkeypatch):
    """Return a function that lets a server of this machine give an answer, bytes as they are, to who asks."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = "http://{}:{}".format(*server.getsockname())
        monkeypatch.setattr(network, "WHO_AM_I", url)

        def answer(content):
            def serve():
                connection, _ = server.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(content)

            threading.Thread(target=serve, daemon=True).start()
            return url

        yield answer


def page(text):
    return b"HTTP/1.0 200 OK\r\n\r\n" + text.encode()


def test_ssh_comes_from_the_address_that_aws_sees(who_am_i):
    who_am_i(page("203.0.113.9\n"))
    assert network.caller_cidr(NOBODY_SAID) == "203.0.113.9/32"


def test_nobody_is_asked_for_an_address_that_is_named(monkeypatch):
    monkeypatch.setattr(network.urllib.request, "urlopen", lambda *_, **__: pytest.fail("asked"))
    named = Session(Target("aws", "us-east-1", caller_cidr="198.51.100.0/24"))
    assert network.caller_cidr(named) == "198.51.100.0/24"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (page("<html>\n<title>Sign in to the café's network</title>" + "x" * 5000), "<html>"),
        (page(""), "empty"),
        (page("2001:db8::1"), "2001:db8::1"),  # a rule of IPv4 does not hold it
        (page("0.0.0.0/0"), "0.0.0.0/0"),
        (b"HTTP/1.0 503 Service Unavailable\r\n\r\n203.0.113.9", "503"),
        (b"220 mail.example.org" + b"." * 5000 + b"\r\n", "220 mail"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 50\r\n\r\n203.0", "203.0"),
    ],
    ids=["a portal", "nothing", "IPv6", "a network", "an error", "no HTTP", "cut short"],
)
def test_an_answer_that_is_no_address_is_told_with_the_way_out(who_am_i, content, why):
    url = who_am_i(content)
    with pytest.raises(CloudError, match="cannot tell which IPv4 address this machine has") as told:
        network.caller_cidr(NOBODY_SAID)
    assert f"({url}: " in told.value.message and why in told.value.message
    assert len(told.value.message) < 320 and "\n" not in told.value.message
    assert "--ssh-from ADDRESS/32" in told.value.hint


def test_no_answer_is_told_with_the_way_out_and_admits_nobody(session, aws, moved, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = "http://{}:{}".format(*closed.getsockname())
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(network, "WHO_AM_I", url)
    moved(None)
    with pytest.raises(CloudError, match=rf"{url}: .*[Cc]onnection refused") as told:
        up(session)
    assert "--ssh-from ADDRESS/32" in told.value.hint
    assert admitted(aws) == [] and aws.ec2.instances == {}
