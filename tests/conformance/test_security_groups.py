"""Who reaches whom: security groups between two hosts, and between the caller and a host."""

from __future__ import annotations

import socket

import pytest
from clouds import until

pytestmark = [pytest.mark.hosts, pytest.mark.conformance, pytest.mark.timeout(1200)]

PORT = 8080
# Says a line each tenth of a second to whoever connects: a connection that can be seen to go on.
CLOCK = f"""
import socketserver, time
class Clock(socketserver.StreamRequestHandler):
    def handle(self):
        while True:
            self.wfile.write(b"tick\\n")
            time.sleep(0.1)
socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer(("", {PORT}), Clock).serve_forever()
"""
LISTEN = f"""
import socket, sys, time
connection = socket.create_connection((sys.argv[1], {PORT}), 5)
end = time.time() + float(sys.argv[2])
ticks = 0
print("connected", flush=True)
while time.time() < end:
    connection.settimeout(5)
    ticks += connection.recv(4096).count(b"tick")
print(ticks, flush=True)
"""


class Pair:
    """A client and a server, each in a group of its own."""

    def __init__(self, cloud):
        self.cloud = cloud
        self.client_group, self.server_group = cloud.group("client"), cloud.group("server")
        self.client = cloud.launch(SecurityGroupIds=[self.client_group])
        self.server = cloud.launch(SecurityGroupIds=[self.server_group])
        for instance in (self.client, self.server):
            cloud.ready(instance)
        self.address = cloud.instance(self.server)["PrivateIpAddress"]
        cloud.says(self.client, "command -v ping || sudo apt-get -q -y install iputils-ping")
        cloud.says(self.server, "cat >clock.py", stdin=CLOCK)
        cloud.says(self.client, "cat >listen.py", stdin=LISTEN)
        cloud.says(self.server, "sudo systemd-run -q --unit clock python3 $PWD/clock.py")

    def connects(self) -> bool:
        program = f"timeout 3 bash -c 'exec 3<>/dev/tcp/{self.address}/{PORT}; head -c 4 <&3'"
        return self.cloud.ssh(self.client, program).stdout == "tick"

    def pings(self) -> bool:
        return self.cloud.ssh(self.client, f"ping -c 1 -W 2 {self.address}").returncode == 0

    def becomes(self, condition, wanted: bool) -> None:
        until(lambda: condition() is wanted, 60, self.cloud.patience)

    def allow(self, permission, group=None):
        self.cloud.ec2.authorize_security_group_ingress(GroupId=group or self.server_group, IpPermissions=[permission])

    def revoke(self, permission, group=None):
        self.cloud.ec2.revoke_security_group_ingress(GroupId=group or self.server_group, IpPermissions=[permission])


@pytest.fixture(scope="module")
def pair(cloud):
    return Pair(cloud)


def tcp(**source):
    return {"IpProtocol": "tcp", "FromPort": PORT, "ToPort": PORT, **source}


def test_nobody_gets_in_uninvited(pair):
    until(lambda: pair.cloud.ssh(pair.server, f"timeout 2 bash -c 'exec 3<>/dev/tcp/127.0.0.1/{PORT}'").returncode == 0)
    assert not pair.connects()
    assert not pair.pings()
    with pytest.raises(OSError):  # nor does the caller, who may come by SSH only
        socket.create_connection((pair.cloud.address(pair.server), PORT), timeout=3).close()


def test_a_group_lets_in_its_members_by_that_port_only(pair):
    by_group = tcp(UserIdGroupPairs=[{"GroupId": pair.client_group}])
    pair.allow(by_group)
    pair.becomes(pair.connects, True)
    assert not pair.pings()
    pair.revoke(by_group)
    pair.becomes(pair.connects, False)


def test_an_address_range_lets_in_who_is_in_it(pair):
    client = pair.cloud.instance(pair.client)["PrivateIpAddress"]
    other = tcp(IpRanges=[{"CidrIp": "192.0.2.0/24"}])
    own = tcp(IpRanges=[{"CidrIp": f"{client}/32"}])
    pair.allow(other)
    assert not pair.connects()
    pair.allow(own)
    pair.becomes(pair.connects, True)
    pair.revoke(own)
    pair.revoke(other)
    pair.becomes(pair.connects, False)


def test_icmp_is_a_permission_of_its_own(pair):
    echo = {"IpProtocol": "icmp", "FromPort": 8, "ToPort": -1, "UserIdGroupPairs": [{"GroupId": pair.client_group}]}
    pair.allow(echo)
    pair.becomes(pair.pings, True)
    assert not pair.connects()
    pair.revoke(echo)
    pair.becomes(pair.pings, False)


def test_a_connection_outlives_the_rule_that_let_it_in(pair):
    by_group = tcp(UserIdGroupPairs=[{"GroupId": pair.client_group}])
    pair.allow(by_group)
    pair.becomes(pair.connects, True)
    begun = f"nohup python3 listen.py {pair.address} 12 >ticks.txt 2>&1 & sleep 1; cat ticks.txt"
    assert pair.cloud.says(pair.client, begun) == "connected"
    pair.revoke(by_group)
    pair.becomes(pair.connects, False)
    ticks = until(lambda: pair.cloud.says(pair.client, "cat ticks.txt").split()[1:], 60)
    assert int(ticks[0]) > 100


def test_outbound_rules_count_too(pair):
    by_group = tcp(UserIdGroupPairs=[{"GroupId": pair.client_group}])
    everything = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    pair.allow(by_group)
    pair.becomes(pair.connects, True)
    ec2 = pair.cloud.ec2
    ec2.revoke_security_group_egress(GroupId=pair.client_group, IpPermissions=[everything])
    pair.becomes(pair.connects, False)
    to_server = tcp(UserIdGroupPairs=[{"GroupId": pair.server_group}])
    ec2.authorize_security_group_egress(GroupId=pair.client_group, IpPermissions=[to_server])
    pair.becomes(pair.connects, True)
    # Neither answers to the caller nor the metadata service need an outbound rule.
    assert pair.cloud.token(pair.client)
    ec2.revoke_security_group_egress(GroupId=pair.client_group, IpPermissions=[to_server])
    ec2.authorize_security_group_egress(GroupId=pair.client_group, IpPermissions=[everything])
    pair.revoke(by_group)


def test_an_instance_can_change_its_groups(pair):
    inside = pair.cloud.group("inside", ssh=False)
    everything_inside = {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": inside}]}
    pair.allow(everything_inside, inside)
    for instance, own in ((pair.client, pair.client_group), (pair.server, pair.server_group)):
        pair.cloud.ec2.modify_instance_attribute(InstanceId=instance, Groups=[own, inside])
    pair.becomes(pair.connects, True)
    assert pair.pings()
    pair.cloud.ec2.modify_instance_attribute(InstanceId=pair.client, Groups=[pair.client_group])
    pair.becomes(pair.connects, False)
    pair.cloud.ec2.modify_instance_attribute(InstanceId=pair.server, Groups=[pair.server_group])
