"""What a program on a host finds at 169.254.169.254."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime

import pytest
from clouds import TOKEN, TTL, until

pytestmark = [pytest.mark.hosts, pytest.mark.conformance, pytest.mark.timeout(1200)]

META = "/latest/meta-data/"
# A client that drops what arrives with an IP time to live below 2 is as far away as a container behind one more hop.
FURTHER = """
import socket
client = socket.create_connection(("169.254.169.254", 80), 5)
client.setsockopt(socket.IPPROTO_IP, 21, 2)  # IP_MINTTL, ip(7)
client.sendall(b"PUT /latest/api/token HTTP/1.1\\r\\nHost: x\\r\\nX-aws-ec2-metadata-token-ttl-seconds: 60\\r\\n\\r\\n")
client.settimeout(4)
try:
    print("answered" if client.recv(1) else "closed")
except TimeoutError:
    print("no answer")
"""
# What anybody would write: neither keys nor a region nor an endpoint are named.
PROGRAM = """
import json, boto3
from botocore.utils import InstanceMetadataRegionFetcher
session = boto3.Session(region_name=InstanceMetadataRegionFetcher().retrieve_region())
found = session.client("ec2").describe_instances(Filters=[{"Name": "instance-state-name", "Values": ["running"]}])
print(json.dumps({
    "region": session.region_name, "method": session.get_credentials().method,
    "arn": session.client("sts").get_caller_identity()["Arn"],
    "instances": [i["InstanceId"] for r in found["Reservations"] for i in r["Instances"]],
}))
"""


@pytest.fixture(scope="module")
def user_data(cloud):
    return cloud.power_off() + "echo 'bytes: ä'\n"


@pytest.fixture(scope="module")
def host(cloud, user_data):
    instance = cloud.launch(
        SecurityGroupIds=[cloud.group("metadata")],
        IamInstanceProfile={"Name": cloud.profile()},
        MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
        UserData=user_data,
    )
    cloud.ready(instance)
    return instance


def changed(cloud, host, **options):
    """Change options of the metadata service and wait until that is said to be done."""
    cloud.ec2.modify_instance_metadata_options(InstanceId=host, **options)
    until(lambda: cloud.instance(host)["MetadataOptions"]["State"] == "applied", 60, cloud.patience)


def test_a_session_token_is_needed(cloud, host):
    token = cloud.token(host)
    path = META + "instance-id"
    answers = cloud.ask(
        host,
        ("GET", path, {}),
        ("GET", path, {TOKEN: "nonsense"}),
        ("GET", path, {TOKEN: token}),
        ("GET", path + "/", {TOKEN: token}),
        ("GET", "/latest/api/token", {TOKEN: token}),
    )
    assert [status for status, _, _ in answers] == [401, 401, 200, 200, 405]
    assert answers[2][2] == answers[3][2] == host


def test_a_token_is_asked_for_with_its_life_and_not_through_a_proxy(cloud, host):
    put = "PUT", "/latest/api/token"
    answers = cloud.ask(
        host,
        (*put, {}),
        (*put, {TTL: "0"}),
        (*put, {TTL: "21601"}),
        (*put, {TTL: "21600"}),
        (*put, {TTL: "60", "X-Forwarded-For": "203.0.113.1"}),
    )
    assert [status for status, _, _ in answers] == [400, 400, 400, 200, 403]
    assert {k.lower(): v for k, v in answers[3][1].items()}[TTL.lower()] == "21600"


def test_a_token_ends(cloud, host):
    token = cloud.token(host, ttl_s=2)
    time.sleep(3)
    assert cloud.ask(host, ("GET", META, {TOKEN: token}))[0][0] == 401


def test_a_tokens_answer_goes_no_further_than_the_hop_limit(cloud, host):
    assert cloud.says(host, "python3 -", stdin=FURTHER) == "no answer"
    changed(cloud, host, HttpPutResponseHopLimit=2)
    until(lambda: cloud.says(host, "python3 -", stdin=FURTHER) == "answered", 60, cloud.patience)
    changed(cloud, host, HttpPutResponseHopLimit=1)


def test_the_host_reads_what_the_api_says(cloud, host):
    told = cloud.instance(host)
    nic = told["NetworkInterfaces"][0]
    zone = cloud.ec2.describe_availability_zones(ZoneNames=[told["Placement"]["AvailabilityZone"]])
    vpc = cloud.ec2.describe_vpcs(VpcIds=[told["VpcId"]])["Vpcs"][0]
    subnet = cloud.ec2.describe_subnets(SubnetIds=[told["SubnetId"]])["Subnets"][0]
    interface = f"network/interfaces/macs/{nic['MacAddress']}/"
    expected = {
        "ami-id": told["ImageId"],
        "ami-launch-index": "0",
        "instance-id": host,
        "instance-life-cycle": "on-demand",
        "instance-type": told["InstanceType"],
        "local-hostname": told["PrivateDnsName"],
        "local-ipv4": told["PrivateIpAddress"],
        "mac": nic["MacAddress"],
        "placement/availability-zone": told["Placement"]["AvailabilityZone"],
        "placement/availability-zone-id": zone["AvailabilityZones"][0]["ZoneId"],
        "placement/region": cloud.region,
        "security-groups": told["SecurityGroups"][0]["GroupName"],
        "services/domain": "amazonaws.com",
        "services/partition": "aws",
        "public-keys/": f"0={cloud.name}",
        "public-keys/0/": "openssh-key",
        interface + "device-number": "0",
        interface + "interface-id": nic["NetworkInterfaceId"],
        interface + "local-ipv4s": told["PrivateIpAddress"],
        interface + "owner-id": nic["OwnerId"],
        interface + "security-group-ids": told["SecurityGroups"][0]["GroupId"],
        interface + "subnet-id": told["SubnetId"],
        interface + "subnet-ipv4-cidr-block": subnet["CidrBlock"],
        interface + "vpc-id": told["VpcId"],
        interface + "vpc-ipv4-cidr-block": vpc["CidrBlock"],
    }
    found = dict(zip(expected, cloud.reads(host, *(META + path for path in expected)), strict=True))
    assert found == expected
    (key,) = cloud.reads(host, META + "public-keys/0/openssh-key")
    assert key.split()[1] == cloud.public_key.split()[1]


def test_the_identity_document(cloud, host):
    told = cloud.instance(host)
    document = json.loads(cloud.reads(host, "/latest/dynamic/instance-identity/document")[0])
    assert document["version"] == "2017-09-30"
    expected = {
        "accountId": told["NetworkInterfaces"][0]["OwnerId"],
        "availabilityZone": told["Placement"]["AvailabilityZone"],
        "imageId": told["ImageId"],
        "instanceId": host,
        "instanceType": told["InstanceType"],
        "privateIp": told["PrivateIpAddress"],
        "region": cloud.region,
        "architecture": "x86_64",
    }
    assert {key: document[key] for key in expected} == expected


def test_user_data_comes_back_byte_by_byte(cloud, host, user_data):
    assert cloud.reads(host, "/latest/user-data")[0].encode("latin-1") == user_data.encode()


def test_listings(cloud, host):
    versions, latest, top, bare, old = cloud.reads(
        host, "/", "/latest", META, META.rstrip("/"), "/2021-07-15/meta-data/"
    )
    assert {"latest", "2021-07-15"} <= set(versions.split())
    assert {"dynamic", "meta-data", "user-data"} <= set(latest.split())
    assert {"instance-id", "placement/", "network/", "iam/", "public-keys/"} <= set(top.split())
    assert top == bare
    assert "instance-id" in old.split()
    assert "availability-zone" in cloud.reads(host, META + "placement/")[0].split()


def test_what_is_not_there_is_not_found(cloud, host):
    headers = {TOKEN: cloud.token(host)}
    paths = ("nonsense", "tags/instance/Name", "spot/instance-action", "instance-id/x", "placement/nonsense")
    assert [each[0] for each in cloud.ask(host, *(("GET", META + path, headers) for path in paths))] == [404] * len(
        paths
    )


def test_tags_are_shown_where_they_are_enabled(cloud, host):
    changed(cloud, host, InstanceMetadataTags="enabled")
    headers = {TOKEN: cloud.token(host)}

    def names():
        return cloud.ask(host, ("GET", META + "tags/instance", headers))[0]

    until(lambda: names()[0] == 200, 60, cloud.patience)
    launched = {**cloud.host_tags(), "labtool:index": "0"}
    assert sorted(names()[2].split()) == sorted(launched)
    assert cloud.reads(host, *(META + "tags/instance/" + name for name in launched)) == list(launched.values())
    cloud.ec2.create_tags(Resources=[host], Tags=[{"Key": "labtool:note", "Value": "a b"}])
    until(lambda: "labtool:note" in names()[2].split(), 60, cloud.patience)
    assert cloud.reads(host, META + "tags/instance/labtool:note") == ["a b"]


def test_the_profiles_credentials(cloud, host):
    role, info = cloud.reads(host, META + "iam/security-credentials/", META + "iam/info")
    assert role == cloud.name
    assert json.loads(info)["InstanceProfileArn"].endswith(f":instance-profile/{cloud.name}")
    keys = json.loads(cloud.reads(host, META + f"iam/security-credentials/{role}")[0])
    assert (keys["Code"], keys["Type"]) == ("Success", "AWS-HMAC")
    assert keys["AccessKeyId"].startswith("ASIA")
    assert keys["SecretAccessKey"]
    assert keys["Token"]
    left = datetime.fromisoformat(keys["Expiration"]) - datetime.now(UTC)
    assert 300 < left.total_seconds() < 12 * 3600


def test_an_unmodified_program_finds_region_credentials_and_endpoint(cloud, host):
    steps = (
        "sudo apt-get -q update",
        "sudo apt-get -q -y install --no-install-recommends python3-venv",
        "python3 -m venv v",
        "v/bin/pip -q install boto3",
    )
    cloud.says(host, f"({' && '.join(steps)}) >install.log 2>&1 || (cat install.log; exit 1)")
    found = json.loads(cloud.says(host, "v/bin/python -", stdin=PROGRAM))
    assert found["region"] == cloud.region
    assert found["method"] == "iam-role"
    assert found["arn"].endswith(f":assumed-role/{cloud.name}/{host}")
    assert host in found["instances"]


def test_the_service_can_be_turned_off_and_version_1_on(cloud, host):
    changed(cloud, host, HttpEndpoint="disabled")
    until(lambda: cloud.ask(host, ("GET", META, {}))[0][0] == 403, 60, cloud.patience)
    changed(cloud, host, HttpEndpoint="enabled", HttpTokens="optional")
    until(lambda: cloud.ask(host, ("GET", META + "instance-id", {}))[0][2] == host, 60, cloud.patience)
    assert cloud.ask(host, ("GET", META, {TOKEN: "nonsense"}))[0][0] == 401
