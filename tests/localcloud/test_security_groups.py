"""Security groups as rules: what the API says becomes what the packet filter is told."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labtool.config import LocalSettings
from labtool.localcloud import network, security_groups
from labtool.localcloud.security_groups import Group, Member, Rule

NET = network.plan(LocalSettings(name="lab", subnet="198.19.240.0/24"))


def chains(text):
    """Return the lines of each chain by its name, of all tables."""
    found, here = {}, None
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["chain"]:
            here = found[words[1]] = []
        elif words == ["}"]:
            here = None
        elif here is not None:
            here.append(line.strip())
    return found


def inbound(*rules):
    made = security_groups.script(NET, [Group("sg-1", ingress=rules)], [Member("198.19.240.4", ("sg-1",))])
    *matches, last = chains(made)["in_0"]
    assert last == "counter drop"
    return matches


@pytest.mark.parametrize(
    ("protocol", "ports", "match"),
    [
        ("-1", None, ""),
        ("tcp", (22, 22), "tcp dport 22 "),
        ("tcp", (8000, 8010), "tcp dport 8000-8010 "),
        ("tcp", (0, 65535), "meta l4proto tcp "),
        ("udp", (53, 53), "udp dport 53 "),
        ("icmp", (-1, -1), "meta l4proto icmp "),
        ("icmp", (8, -1), "icmp type 8 "),
        ("icmp", (3, 4), "icmp type 3 icmp code 4 "),
        ("47", (-1, -1), "meta l4proto 47 "),
    ],
)
def test_a_permission_is_a_match(protocol, ports, match):
    assert inbound(Rule(protocol, ports, ("10.0.0.0/8",))) == [f"ip saddr 10.0.0.0/8 {match}accept"]


def test_a_group_is_the_addresses_of_its_instances():
    inside = Rule("-1", None, groups=("sg-1",))
    hosts = [Member("198.19.240.4", ("sg-1",)), Member("198.19.240.5", ("sg-1", "sg-2")), Member("198.19.240.6", ())]
    text = security_groups.script(NET, [Group("sg-1", ingress=(inside,)), Group("sg-2")], hosts)
    assert "set sg_1 { type ipv4_addr; elements = { 198.19.240.4, 198.19.240.5 }; }" in text
    assert "198.19.240.6 : goto in_0" in text  # of no group: nothing is let in
    assert chains(text)["in_0"] == ["counter drop"]


def test_an_outbound_rule_only_lets_go_on_to_the_receivers():
    rule = Rule("-1", None, ("0.0.0.0/0",))
    text = security_groups.script(NET, [Group("sg-1", egress=(rule,))], [Member("198.19.240.4", ("sg-1",))])
    assert chains(text)["out_0"] == ["ip daddr 0.0.0.0/0 return", "counter drop"]
    assert chains(text)["forward"][-2:] == ['iifname "lt-lab" jump leaving', 'oifname "lt-lab" jump arriving']


def test_strangers_are_dropped_on_every_way():
    made = chains(security_groups.script(NET, [], []))
    assert made["leaving"][0] == "ip saddr != @hosts counter drop"
    assert made["arriving"][-1] == "counter drop"
    assert "ip saddr 198.19.240.0/24 iifname . ip saddr != @own counter drop" in made["before"]


def test_a_host_may_send_with_its_own_addresses_only():
    text = security_groups.senders(NET, [Member("198.19.240.4", (), "veth7"), Member("198.19.240.5", ())])
    assert 'elements = { "veth7" . 198.19.240.4 };' in text
    assert 'elements = { "veth7" . 0a:58:c6:13:f0:04 };' in text
    assert "198.19.240.5" not in text


def test_the_metadata_service_and_the_status_probe_pass_every_group():
    made = chains(security_groups.script(NET, [], []))
    assert "ct original ip daddr 169.254.169.254 accept" in made["input"]
    assert "meta mark 0x1ab0 accept" in made["output"]


class Api:
    """EC2's state by its API."""

    def __init__(self, api, ec2):
        self.api, self.ec2 = api, ec2
        self.image = ec2.describe_images()["Images"][0]["ImageId"]

    def launch(self, **more):
        asked = {"ImageId": self.image, "InstanceType": "t3.small", "MinCount": 1, "MaxCount": 1, **more}
        return self.ec2.run_instances(**asked)["Instances"][0]

    def group(self, name):
        return self.ec2.create_security_group(GroupName=name, Description="d")["GroupId"]

    def groups(self):
        return {group.id: group for group in security_groups.groups(self.api.ec2)}

    def members(self):
        return {member.address: member for member in security_groups.members(self.api.ec2, {})}


@pytest.fixture
def world(make_api, serve):
    api = make_api()
    return Api(api, serve(api).client("ec2"))


def test_the_default_group_admits_itself_and_all_outbound(world):
    instance = world.launch()
    (group,) = instance["SecurityGroups"]
    assert group["GroupName"] == "default"
    found = world.groups()[group["GroupId"]]
    assert found.ingress == (Rule("-1", None, groups=(group["GroupId"],)),)
    assert found.egress == (Rule("-1", None, ("0.0.0.0/0",)),)
    assert world.members()[instance["PrivateIpAddress"]].groups == (group["GroupId"],)


def test_what_is_authorized_and_revoked_is_what_is_enforced(world):
    web, db = world.group("web"), world.group("db")
    ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": "198.19.240.1/32"}]}
    from_web = {"IpProtocol": "tcp", "FromPort": 5432, "ToPort": 5432, "UserIdGroupPairs": [{"GroupId": web}]}
    ping = {"IpProtocol": "icmp", "FromPort": -1, "ToPort": -1, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    six = {"IpProtocol": "tcp", "FromPort": 1, "ToPort": 1, "Ipv6Ranges": [{"CidrIpv6": "::/0"}]}
    world.ec2.authorize_security_group_ingress(GroupId=db, IpPermissions=[ssh, from_web, ping, six])
    assert world.groups()[db].ingress == (
        Rule("tcp", (22, 22), ("198.19.240.1/32",)),
        Rule("tcp", (5432, 5432), groups=(web,)),
        Rule("icmp", (-1, -1), ("0.0.0.0/0",)),
    )
    world.ec2.revoke_security_group_ingress(GroupId=db, IpPermissions=[ssh, ping, six])
    assert world.groups()[db].ingress == (Rule("tcp", (5432, 5432), groups=(web,)),)
    everything = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    world.ec2.revoke_security_group_egress(GroupId=db, IpPermissions=[everything])
    assert world.groups()[db].egress == ()


@pytest.mark.parametrize(
    ("protocol", "ports", "code"),
    [
        ("tcp", (22, 20), "InvalidParameterValue"),
        ("tcp", (22, 65536), "InvalidParameterValue"),
        ("udp", (-5, 20), "InvalidParameterValue"),
        ("tcp", (), "MissingParameter"),
        ("nonsense", (1, 1), "InvalidParameterValue"),
        ("256", (), "InvalidParameterValue"),
    ],
)
def test_ports_that_there_are_not_are_refused(world, protocol, ports, code):
    group = world.group("web")
    given = dict(zip(("FromPort", "ToPort"), ports, strict=False))
    rule = {"IpProtocol": protocol, "IpRanges": [{"CidrIp": "0.0.0.0/0"}], **given}
    for call in (world.ec2.authorize_security_group_ingress, world.ec2.authorize_security_group_egress):
        with pytest.raises(Exception, match=code):
            call(GroupId=group, IpPermissions=[rule])
    assert world.groups()[group].ingress == ()


def test_a_protocol_by_its_number_needs_no_ports(world):
    group = world.group("web")
    rule = {"IpProtocol": "50", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    world.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[rule])
    assert world.groups()[group].ingress == (Rule("50", (-1, -1), ("0.0.0.0/0",)),)


def test_an_impossible_rule_is_no_rule():
    class Moto:
        ip_range, source_group, from_port, to_port = {"CidrIp": "0.0.0.0/0"}, {}, 22, 20
        ip_protocol = "tcp"

    assert security_groups._rule(Moto) is None
    Moto.to_port = 22
    assert security_groups._rule(Moto) == Rule("tcp", (22, 22), ("0.0.0.0/0",))
    Moto.ip_protocol = "icmpv6"
    assert security_groups._rule(Moto) is None


def test_an_instances_groups_can_be_changed_in_both_ways(world):
    web, db = world.group("web"), world.group("db")
    instance = world.launch(SecurityGroupIds=[web])
    address = instance["PrivateIpAddress"]
    assert world.members()[address].groups == (web,)
    world.ec2.modify_instance_attribute(InstanceId=instance["InstanceId"], Groups=[db])
    assert world.members()[address].groups == (db,)
    nic = instance["NetworkInterfaces"][0]["NetworkInterfaceId"]
    world.ec2.modify_network_interface_attribute(NetworkInterfaceId=nic, Groups=[web, db])
    assert world.members()[address].groups == tuple(sorted((web, db)))
    shown = world.ec2.describe_instances()["Reservations"][0]["Instances"][0]
    for groups in (shown["SecurityGroups"], shown["NetworkInterfaces"][0]["Groups"]):
        assert {group["GroupId"] for group in groups} == {web, db}
    with pytest.raises(Exception, match=r"InvalidGroup\.NotFound"):
        world.ec2.modify_instance_attribute(InstanceId=instance["InstanceId"], Groups=["sg-00000000"])


def test_a_group_of_an_interface_at_launch_counts(world):
    web = world.group("web")
    instance = world.launch(NetworkInterfaces=[{"DeviceIndex": 0, "Groups": [web]}])
    assert world.members()[instance["PrivateIpAddress"]].groups == (web,)


def test_a_group_in_use_stays(world):
    web, db = world.group("web"), world.group("db")
    pair = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": web}]}
    world.ec2.authorize_security_group_ingress(GroupId=db, IpPermissions=[pair])
    instance = world.launch(SecurityGroupIds=[db])["InstanceId"]
    for group in (web, db):
        with pytest.raises(Exception, match="DependencyViolation"):
            world.ec2.delete_security_group(GroupId=group)
    with world.api.lock:
        world.api.ec2.became_terminated(world.api.ec2.get_instance(instance))
    world.ec2.delete_security_group(GroupId=db)
    world.ec2.delete_security_group(GroupId=web)


def test_every_change_is_in_force_before_its_answer(world):
    changes = []
    world.api.changed = lambda: changes.append(len(world.groups()))
    world.group("web")
    assert changes == [2]
    world.ec2.describe_instances()
    assert changes == [2]


rules = st.builds(
    Rule,
    st.sampled_from(("-1", "tcp", "udp", "icmp", "50")),
    st.none() | st.tuples(st.integers(-1, 250), st.integers(250, 65535)).filter(lambda p: p[0] != -1),
    st.lists(st.sampled_from(("0.0.0.0/0", "198.19.240.4/32", "10.0.0.0/8", "198.19.240.5/24")), max_size=3).map(tuple),
    st.lists(st.sampled_from(("sg-1", "sg-2", "sg-gone")), max_size=3).map(tuple),
)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("nft"), reason="needs root and nft")
@settings(max_examples=25, deadline=None)
@given(st.lists(rules, max_size=4), st.lists(rules, max_size=4), st.integers(0, 3))
def test_nft_takes_whatever_the_api_can_hold(ingress, egress, count):
    def plausible(rule):
        icmp = rule.protocol == "icmp" and rule.ports is not None
        return Rule("icmp", (rule.ports[0] % 19, -1), rule.networks, rule.groups) if icmp else rule

    groups = [
        Group("sg-1", tuple(map(plausible, ingress)), tuple(map(plausible, egress))),
        Group("sg-2", tuple(map(plausible, egress)), ()),
    ]
    hosts = [Member(f"198.19.240.{4 + n}", ("sg-1", "sg-2")[: n + 1], f"veth{n}" if n else None) for n in range(count)]
    for text in (security_groups.script(NET, groups, hosts), network.nft_rules(NET)):
        done = subprocess.run(
            ["nft", "--check", "--file", "-"], input=text, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, text + done.stderr
