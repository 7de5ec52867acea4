"""The metadata service's answers, on EC2's state as the API made it; then once by its own socket."""

from __future__ import annotations

import base64
import http.client
import json
import socket
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labtool.localcloud import metadata_tree
from labtool.localcloud.metadata import LONGEST_TTL_S, TOKEN_HEADER, TTL_HEADER, Metadata, Tokens, token_key
from labtool.localcloud.metadata_server import MetadataServer
from labtool.localcloud.role_credentials import RoleCredentials

LISTED = "/latest/meta-data/"


class Clock:
    def __init__(self):
        self.now = 1_700_000_000.0

    def __call__(self):
        return self.now


class World:
    """An API, an instance launched by it, and the service."""

    def __init__(self, api, client):
        self.api, self.client, self.clock = api, client, Clock()
        self.ec2 = client("ec2")
        self.image = self.ec2.describe_images()["Images"][0]["ImageId"]
        self.credentials = RoleCredentials("123456789012", "us-east-1", clock=self.clock)
        self.service = Metadata(api.ec2, api.lock, Tokens(b"k" * 32, self.clock), self.credentials)

    def launch(self, **more):
        asked = {"ImageId": self.image, "InstanceType": "t3.small", "MinCount": 1, "MaxCount": 1, **more}
        self.instance = self.ec2.run_instances(**asked)["Instances"][0]
        self.address = self.instance["PrivateIpAddress"]
        return self.instance["InstanceId"]

    def ask(self, path, method="GET", source=None, **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.service.answer(method, path, named, source or self.address)

    def token(self, ttl=60, **more):
        return self.ask("/latest/api/token", "PUT", **{TTL_HEADER: str(ttl)}, **more)

    def read(self, path):
        answer = self.ask(path, **{TOKEN_HEADER: self.token().body.decode()})
        assert answer.status == 200, path
        return answer.body.decode()


@pytest.fixture
def world(make_api, serve):
    api = make_api()
    return World(api, serve(api).client)


def test_a_token_opens_what_is_closed_without(world):
    world.launch(MetadataOptions={"HttpTokens": "required"})
    assert world.ask(LISTED).status == 401
    assert world.ask(LISTED, **{TOKEN_HEADER: "nonsense"}).status == 401
    answer = world.token()
    assert (answer.status, answer.headers[TTL_HEADER], answer.hops) == (200, "60", 1)
    assert world.ask(LISTED, **{TOKEN_HEADER: answer.body.decode()}).status == 200
    world.clock.now += 61
    assert world.ask(LISTED, **{TOKEN_HEADER: answer.body.decode()}).status == 401


def test_version_1_is_answered_where_tokens_are_optional(world):
    world.launch(MetadataOptions={"HttpTokens": "optional"})
    assert world.ask(LISTED).status == 200
    assert world.ask(LISTED, **{TOKEN_HEADER: "nonsense"}).status == 401


@pytest.mark.parametrize("ttl", ["", "0", "-1", str(LONGEST_TTL_S + 1), "1.5", "x", "٣"])
def test_a_token_without_a_proper_life_is_refused(world, ttl):
    world.launch()
    headers = {TTL_HEADER: ttl} if ttl else {}
    assert world.ask("/latest/api/token", "PUT", **headers).status == 400


def test_a_token_is_not_for_who_is_asked_through_a_proxy(world):
    world.launch()
    assert world.token(X_Forwarded_For="198.19.240.9").status == 403
    assert world.ask("/latest/api/token").status == 405
    assert world.ask(LISTED, "POST").status == 405


def test_a_token_is_good_for_its_own_instance_only(world):
    world.launch()
    token = world.token().body.decode()
    world.launch()
    assert world.ask(LISTED, **{TOKEN_HEADER: token}).status == 401


@given(st.text(max_size=80), st.binary(min_size=0, max_size=60))
def test_only_an_issued_token_is_good(text, raw):
    tokens = Tokens(b"k" * 32, lambda: 0.0)
    assert not tokens.good(text, "i-1")
    assert not tokens.good(base64.urlsafe_b64encode(raw).decode(), "i-1")
    assert tokens.good(tokens.issue("i-1", 1), "i-1")
    assert not Tokens(b"other" * 8, lambda: 0.0).good(tokens.issue("i-1", 1), "i-1")


def test_the_key_of_tokens_stays(tmp_path):
    assert token_key(tmp_path / "key") == token_key(tmp_path / "key")
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_options_change_at_run_time_and_only_those_named(world):
    instance = world.launch(MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 2})
    assert world.token().hops == 2
    world.ec2.modify_instance_metadata_options(InstanceId=instance, HttpEndpoint="disabled")
    assert world.token().status == 403
    changed = world.ec2.modify_instance_metadata_options(InstanceId=instance, HttpEndpoint="enabled")
    options = changed["InstanceMetadataOptions"]
    assert (options["HttpTokens"], options["HttpPutResponseHopLimit"]) == ("required", 2)
    world.ec2.modify_instance_metadata_options(InstanceId=instance, HttpTokens="optional", HttpPutResponseHopLimit=1)
    assert world.ask(LISTED).status == 200
    assert world.token().hops == 1
    with pytest.raises(Exception, match="InvalidParameterValue"):
        world.ec2.modify_instance_metadata_options(InstanceId=instance, HttpPutResponseHopLimit=65)


def test_a_stranger_and_a_terminated_instance_are_told_nothing(world):
    instance = world.launch()
    assert world.ask(LISTED, source="198.19.240.200").status == 404
    with world.api.lock:
        world.api.ec2.became_terminated(world.api.ec2.get_instance(instance))
    assert world.ask(LISTED).status == 404


def test_what_an_instance_reads_of_itself(world):
    group = world.ec2.create_security_group(GroupName="web", Description="d")["GroupId"]
    instance = world.launch(SecurityGroupIds=[group], UserData="#!/bin/sh\n")
    told = world.ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]
    shown = told["Instances"][0]
    mac = shown["NetworkInterfaces"][0]["MacAddress"]
    expected = {
        "instance-id": instance,
        "ami-id": world.image,
        "instance-type": "t3.small",
        "local-ipv4": world.address,
        "mac": mac,
        "placement/region": "us-east-1",
        "placement/availability-zone": shown["Placement"]["AvailabilityZone"],
        "placement/availability-zone/": shown["Placement"]["AvailabilityZone"],  # so botocore asks
        "reservation-id": told["ReservationId"],
        "security-groups": "web",
        f"network/interfaces/macs/{mac}/subnet-id": shown["SubnetId"],
        f"network/interfaces/macs/{mac}/vpc-id": shown["VpcId"],
        f"network/interfaces/macs/{mac}/security-group-ids": group,
        f"network/interfaces/macs/{mac}/interface-id": shown["NetworkInterfaces"][0]["NetworkInterfaceId"],
        "services/domain": "amazonaws.com",
    }
    assert {path: world.read(LISTED + path) for path in expected} == expected
    assert world.read("/latest/user-data") == "#!/bin/sh\n"
    document = json.loads(world.read("/latest/dynamic/instance-identity/document"))
    assert (document["instanceId"], document["privateIp"], document["region"]) == (instance, world.address, "us-east-1")
    for missing in ("spot/instance-action", "public-ipv4", "iam/info", "tags/instance", "nonsense", "mac/x"):
        assert world.ask(LISTED + missing).status == 404


def test_listings_are_as_on_ec2(world):
    world.launch()
    assert world.read("/").splitlines()[-1] == "latest"
    assert world.read("/latest") == world.read("/latest/") == "dynamic\nmeta-data"
    names = world.read(LISTED).splitlines()
    assert {"instance-id", "network/", "placement/"} <= set(names)
    assert world.read("/latest/meta-data") == world.read(LISTED) == world.read("/2021-07-15/meta-data/")
    assert world.ask("/2999-01-01/meta-data/").status == 404
    assert world.ask("/latest/user-data").status == 404


def test_everything_that_is_listed_can_be_read(world):
    world.ec2.create_key_pair(KeyName="my=key")
    world.launch(
        KeyName="my=key",
        MetadataOptions={"InstanceMetadataTags": "enabled"},
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "a b"}]}],
    )

    def walk(path):
        for name in world.read(path).splitlines():
            if name.endswith("/"):
                yield from walk(path + name)
            else:
                yield path + name

    leaves = list(walk(LISTED))
    assert len(leaves) > 20
    for leaf in leaves:
        assert world.ask(leaf).status == 200, leaf
    assert world.read(LISTED + "public-keys/") == "0=my=key"
    assert world.read(LISTED + "public-keys/0/openssh-key").startswith("ssh-")
    assert world.read(LISTED + "tags/instance/Name") == "a b"


def test_tags_are_hidden_until_they_are_enabled(world):
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "x"}]}]
    instance = world.launch(TagSpecifications=tags)
    assert world.ask(LISTED + "tags/instance").status == 404
    world.ec2.modify_instance_metadata_options(InstanceId=instance, InstanceMetadataTags="enabled")
    assert world.read(LISTED + "tags/instance") == "Name"


def profile(world, role=True):
    iam = world.client("iam")
    iam.create_instance_profile(InstanceProfileName="p")
    if role:
        iam.create_role(RoleName="r", AssumeRolePolicyDocument="{}")
        iam.add_role_to_instance_profile(InstanceProfileName="p", RoleName="r")


def test_a_profiles_credentials_renew_before_they_end(world):
    profile(world)
    world.launch(IamInstanceProfile={"Name": "p"}, MinCount=2, MaxCount=2)  # the second instance has it too
    second = world.ec2.describe_instances()["Reservations"][0]["Instances"][1]["PrivateIpAddress"]
    assert world.ask(LISTED + "iam/info", source=second).status == 200
    assert world.read(LISTED + "iam/security-credentials/") == "r"
    first = json.loads(world.read(LISTED + "iam/security-credentials/r"))
    assert (first["Code"], first["Type"]) == ("Success", "AWS-HMAC")
    assert json.loads(world.read(LISTED + "iam/security-credentials/r")) == first
    ends = datetime.fromisoformat(first["Expiration"]).timestamp()
    world.clock.now = ends - 299
    later = json.loads(world.read(LISTED + "iam/security-credentials/r"))
    assert later["AccessKeyId"] != first["AccessKeyId"]
    assert not world.credentials.expired(first["AccessKeyId"])
    world.clock.now = ends
    assert world.credentials.expired(first["AccessKeyId"])
    assert not world.credentials.expired(later["AccessKeyId"])


def test_sts_knows_whose_credentials_they_are(world):
    profile(world)
    instance = world.launch(IamInstanceProfile={"Name": "p"})
    keys = json.loads(world.read(LISTED + "iam/security-credentials/r"))
    from moto.backends import get_backend

    from labtool.localcloud.ec2_backend import ACCOUNT

    who = get_backend("sts")[ACCOUNT]["aws"].get_caller_identity(keys["AccessKeyId"], "us-east-1")
    assert who[1] == f"arn:aws:sts::{ACCOUNT}:assumed-role/r/{instance}"


def test_a_profile_without_a_role_has_no_credentials(world):
    profile(world, role=False)
    world.launch(IamInstanceProfile={"Name": "p"})
    assert json.loads(world.read(LISTED + "iam/info"))["InstanceProfileArn"].endswith("/p")
    assert world.ask(LISTED + "iam/security-credentials/").status == 404


@pytest.mark.parametrize(
    ("service", "call", "code"),
    [
        ("ec2", "describe_instances", "RequestExpired"),
        ("s3", "list_buckets", "ExpiredToken"),
        ("sts", "get_caller_identity", "ExpiredToken"),
        ("sqs", "list_queues", "ExpiredTokenException"),
        ("dynamodb", "list_tables", "ExpiredTokenException"),
    ],
)
def test_the_api_refuses_credentials_whose_time_is_over(world, service, call, code):
    world.api.expired = lambda access_key: access_key == "x"
    with pytest.raises(Exception, match=code):
        getattr(world.client(service), call)()


def test_credentials_of_a_short_life_are_not_renewed_at_every_request(make_api):
    make_api()
    credentials = RoleCredentials("123456789012", "us-east-1", lifetime=timedelta(minutes=10))
    first = credentials.of("i-1", "arn:aws:iam::123456789012:role/r")
    assert credentials.of("i-1", "arn:aws:iam::123456789012:role/r") == first
    assert first.ends - first.made == timedelta(minutes=10)
    assert metadata_tree.stamp(datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)) == "2024-05-06T07:08:09Z"


def test_by_its_own_socket(world):
    world.launch(MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 3})
    answer = world.service.answer
    world.service.answer = lambda method, target, headers, _: answer(method, target, headers, world.address)
    server = MetadataServer(world.service, "127.0.0.1")
    server.start()
    try:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
        connection.connect()
        # Answers with a shorter time to live than this are dropped by the kernel: see tcp(7), ip(7), IP_MINTTL.
        connection.sock.setsockopt(socket.IPPROTO_IP, 21, 3)
        connection.request("PUT", "/latest/api/token", headers={TTL_HEADER: "5"})
        got = connection.getresponse()
        assert (got.status, got.headers["Connection"], got.headers["Server"]) == (200, "close", "EC2ws")
        token = got.read().decode()
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
        connection.request("GET", "/latest/meta-data/instance-id", headers={TOKEN_HEADER: token})
        assert connection.getresponse().read().decode() == world.instance["InstanceId"]
        further = http.client.HTTPConnection("127.0.0.1", server.port, timeout=1)
        further.connect()
        further.sock.setsockopt(socket.IPPROTO_IP, 21, 4)
        further.request("PUT", "/latest/api/token", headers={TTL_HEADER: "5"})
        with pytest.raises(TimeoutError):
            further.getresponse()
    finally:
        server.stop()
