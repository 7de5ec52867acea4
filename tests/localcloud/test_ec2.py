"""EC2 as clients see it: requests by boto3, the engine's part played by calling the backend."""

from __future__ import annotations

import base64
import ipaddress

import pytest
from botocore.exceptions import ClientError

PARAMETER = "/aws/service/debian/release/12/latest/amd64"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f me"


@pytest.fixture
def cloud(make_api, serve):
    served = serve(make_api())
    served.ec2 = served.client("ec2")
    served.image = served.client("ssm").get_parameter(Name=PARAMETER)["Parameter"]["Value"]
    return served


def launch(cloud, count=1, **more):
    asked = {"ImageId": cloud.image, "InstanceType": "t3.small", "MinCount": count, "MaxCount": count, **more}
    return cloud.ec2.run_instances(**asked)["Instances"]


def describe(cloud, *ids):
    found = cloud.ec2.describe_instances(InstanceIds=list(ids))
    return [i for reservation in found["Reservations"] for i in reservation["Instances"]]


def states(cloud, *ids):
    return [i["State"]["Name"] for i in describe(cloud, *ids)]


def backend(cloud):
    return cloud.application.ec2


def run(cloud, *ids):
    for instance_id in ids:
        backend(cloud).became_running(backend(cloud).get_instance(instance_id))


def test_an_instance_is_pending_until_its_host_runs(cloud):
    instance = launch(cloud)[0]["InstanceId"]
    assert states(cloud, instance) == ["pending"]
    run(cloud, instance)
    assert states(cloud, instance) == ["running"]


def test_stop_and_terminate_pass_through_their_states(cloud):
    instance = launch(cloud)[0]["InstanceId"]
    run(cloud, instance)
    change = cloud.ec2.stop_instances(InstanceIds=[instance])["StoppingInstances"][0]
    assert (change["PreviousState"]["Name"], change["CurrentState"]["Name"]) == ("running", "stopping")
    assert states(cloud, instance) == ["stopping"]
    with pytest.raises(ClientError, match="IncorrectInstanceState"):
        cloud.ec2.start_instances(InstanceIds=[instance])
    backend(cloud).became_stopped(backend(cloud).get_instance(instance))
    cloud.ec2.start_instances(InstanceIds=[instance])
    assert states(cloud, instance) == ["pending"]
    cloud.ec2.terminate_instances(InstanceIds=[instance])
    assert states(cloud, instance) == ["shutting-down"]
    assert cloud.ec2.describe_volumes()["Volumes"]  # its volume and address go when the host has gone
    backend(cloud).became_terminated(backend(cloud).get_instance(instance))
    assert states(cloud, instance) == ["terminated"]
    assert not cloud.ec2.describe_volumes()["Volumes"]
    assert not cloud.ec2.describe_network_interfaces()["NetworkInterfaces"]
    reason = describe(cloud, instance)[0]["StateReason"]["Code"]
    assert reason == "Client.UserInitiatedShutdown"


def test_addresses_are_private_distinct_and_not_the_networks_own(cloud):
    found = launch(cloud, 10)
    addresses = {ipaddress.ip_address(i["PrivateIpAddress"]) for i in found}
    network = ipaddress.ip_network("198.19.240.0/24")
    assert len(addresses) == 10
    assert all(a in network for a in addresses)
    assert not addresses & {network.network_address + n for n in range(4)}
    for instance in describe(cloud, *(i["InstanceId"] for i in found)):
        assert "PublicIpAddress" not in instance
        assert not instance.get("PublicDnsName")


def test_no_address_is_invented_even_when_asked_for(cloud):
    nic = {"DeviceIndex": 0, "AssociatePublicIpAddress": True}
    instance = launch(cloud, NetworkInterfaces=[nic])[0]["InstanceId"]
    assert "PublicIpAddress" not in describe(cloud, instance)[0]
    with pytest.raises(ClientError, match="UnsupportedOperation"):
        cloud.ec2.allocate_address()


def test_the_same_token_launches_once(cloud):
    first = cloud.ec2.run_instances(
        ImageId=cloud.image, InstanceType="t3.small", MinCount=2, MaxCount=2, ClientToken="token"
    )
    again = cloud.ec2.run_instances(
        ImageId=cloud.image, InstanceType="t3.small", MinCount=2, MaxCount=2, ClientToken="token"
    )
    assert again["ReservationId"] == first["ReservationId"]
    assert [i["InstanceId"] for i in again["Instances"]] == [i["InstanceId"] for i in first["Instances"]]
    assert len(cloud.ec2.describe_instances()["Reservations"]) == 1


def test_a_token_with_other_parameters_is_refused(cloud):
    launch(cloud, ClientToken="token")
    with pytest.raises(ClientError, match="IdempotentParameterMismatch"):
        launch(cloud, ClientToken="token", InstanceType="t3.micro")


def test_a_restarted_process_knows_everything(cloud, make_api):
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "labtool:lab", "Value": "l"}]}]
    cloud.ec2.import_key_pair(KeyName="k", PublicKeyMaterial=KEY)
    before = launch(cloud, 3, KeyName="k", TagSpecifications=tags, ClientToken="token")
    run(cloud, before[0]["InstanceId"])
    cloud.client("ssm").put_parameter(Name="/mine", Value="1", Type="String")
    cloud.client("cloudwatch").put_metric_data(Namespace="mine", MetricData=[{"MetricName": "x", "Value": 1.0}])
    cloud.application = make_api()  # from the files alone
    found = describe(cloud, *(i["InstanceId"] for i in before))
    assert [i["State"]["Name"] for i in found] == ["pending", "pending", "pending"]  # the loop's change was not saved
    assert [i["PrivateIpAddress"] for i in found] == [i["PrivateIpAddress"] for i in before]
    assert found[0]["Tags"] == [{"Key": "labtool:lab", "Value": "l"}]
    assert cloud.ec2.describe_key_pairs()["KeyPairs"][0]["KeyName"] == "k"
    assert cloud.client("ssm").get_parameter(Name="/mine")["Parameter"]["Value"] == "1"
    assert cloud.client("cloudwatch").list_metrics(Namespace="mine")["Metrics"]
    again = launch(cloud, 3, KeyName="k", TagSpecifications=tags, ClientToken="token")
    assert {i["InstanceId"] for i in again} == {i["InstanceId"] for i in before}
    more = launch(cloud, 5)
    used = {i["PrivateIpAddress"] for i in before}
    assert not {i["PrivateIpAddress"] for i in more} & (used | {f"198.19.240.{n}" for n in range(4)})


def test_a_saved_change_of_the_loop_is_known_too(cloud, make_api):
    instance = launch(cloud)[0]["InstanceId"]
    run(cloud, instance)
    cloud.application.save()
    cloud.application = make_api()
    assert states(cloud, instance) == ["running"]


def test_the_console_shows_the_host_key(cloud, layout):
    instance = launch(cloud)[0]["InstanceId"]
    console = layout.instance(instance).console
    console.parent.mkdir(parents=True)
    console.write_text(
        "2026-01-01T00:00:00.0+00:00 stdout P \x1b[0;32m  OK  \x1b[0m\n"
        "2026-01-01T00:00:00.0+00:00 stdout F  Started ssh.\r\n"
    )
    assert "HOST KEY" not in cloud.ec2.get_console_output(InstanceId=instance).get("Output", "")
    run(cloud, instance)
    output = cloud.ec2.get_console_output(InstanceId=instance, Latest=True)["Output"]
    lines = output.splitlines()
    assert lines[0] == "  OK   Started ssh."
    at = lines.index("-----BEGIN SSH HOST KEY KEYS-----")
    assert lines[at + 1].startswith("ssh-ed25519 AAAA")
    assert lines[at + 2] == "-----END SSH HOST KEY KEYS-----"


def test_each_instance_has_its_own_host_key_that_fits(cloud):
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        PublicFormat,
        load_ssh_private_key,
    )

    for instance in launch(cloud, 3):
        host = backend(cloud).hosts[instance["InstanceId"]]
        public = load_ssh_private_key(host.host_key, None).public_key()
        line = public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
        assert host.host_key_public.startswith(line)
    assert len({host.host_key for host in backend(cloud).hosts.values()}) == 3


def test_status_checks_follow_sshd(cloud):
    instance = launch(cloud)[0]["InstanceId"]
    assert cloud.ec2.describe_instance_status()["InstanceStatuses"] == []
    every = cloud.ec2.describe_instance_status(IncludeAllInstances=True)["InstanceStatuses"]
    assert every[0]["InstanceStatus"]["Status"] == "not-applicable"
    run(cloud, instance)

    def status(**more):
        found = cloud.ec2.describe_instance_status(**more)["InstanceStatuses"]
        return [s["InstanceStatus"]["Status"] for s in found]

    assert status() == ["initializing"]
    backend(cloud).hosts[instance].answered = True
    assert status() == ["ok"]
    assert status(Filters=[{"Name": "instance-status.status", "Values": ["ok"]}]) == ["ok"]
    assert status(Filters=[{"Name": "instance-status.status", "Values": ["impaired"]}]) == []
    with pytest.raises(ClientError, match="InvalidParameterValue"):
        status(Filters=[{"Name": "colour", "Values": ["red"]}])


def test_monitoring_is_turned_on_and_off(cloud):
    detailed, basic = (launch(cloud, Monitoring={"Enabled": on})[0]["InstanceId"] for on in (True, False))
    assert [i["Monitoring"]["State"] for i in describe(cloud, detailed, basic)] == ["enabled", "disabled"]
    cloud.ec2.monitor_instances(InstanceIds=[basic])
    cloud.ec2.unmonitor_instances(InstanceIds=[detailed])
    assert [i["Monitoring"]["State"] for i in describe(cloud, detailed, basic)] == ["disabled", "enabled"]


def test_placement_groups(cloud):
    with pytest.raises(ClientError, match=r"InvalidPlacementGroup\.Unknown"):
        launch(cloud, Placement={"GroupName": "near"})
    cloud.ec2.create_placement_group(GroupName="near", Strategy="cluster")
    with pytest.raises(ClientError, match="Duplicate"):
        cloud.ec2.create_placement_group(GroupName="near", Strategy="cluster")
    instance = launch(cloud, Placement={"GroupName": "near"})[0]["InstanceId"]
    assert describe(cloud, instance)[0]["Placement"]["GroupName"] == "near"
    with pytest.raises(ClientError, match="InUse"):
        cloud.ec2.delete_placement_group(GroupName="near")
    backend(cloud).became_terminated(backend(cloud).get_instance(instance))
    cloud.ec2.delete_placement_group(GroupName="near")
    assert cloud.ec2.describe_placement_groups()["PlacementGroups"] == []


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"ImageId": "ami-12345678"}, "InvalidAMIID.NotFound"),
        ({"InstanceType": "t9.small"}, "InvalidParameterValue"),
        ({"InstanceType": "t4g.small"}, "Unsupported"),
        ({"KeyName": "nobody"}, "InvalidKeyPair.NotFound"),
        ({"MinCount": 3, "MaxCount": 2}, "InvalidParameterValue"),
        ({"MinCount": 500, "MaxCount": 500}, "InsufficientFreeAddressesInSubnet"),
        ({"UserData": "x" * 16_385}, "InvalidParameterValue"),
        ({"DryRun": True}, "DryRunOperation"),
    ],
)
def test_what_cannot_be_launched_is_refused_and_leaves_nothing(cloud, wrong, code):
    with pytest.raises(ClientError) as caught:
        launch(cloud, **wrong)
    assert caught.value.response["Error"]["Code"] == code
    assert cloud.ec2.describe_instances()["Reservations"] == []


def test_what_is_unknown_is_not_found(cloud):
    with pytest.raises(ClientError, match=r"InvalidInstanceID\.NotFound"):
        cloud.ec2.terminate_instances(InstanceIds=["i-0123456789abcdef0"])


def test_another_region_is_told_which_there_is(cloud):
    with pytest.raises(ClientError, match="only region is us-east-1"):
        cloud.client("ec2", "eu-west-1").describe_instances()


def test_shutdown_behaviour_can_be_changed(cloud):
    instance = launch(cloud)[0]["InstanceId"]
    cloud.ec2.modify_instance_attribute(InstanceId=instance, InstanceInitiatedShutdownBehavior={"Value": "terminate"})
    found = cloud.ec2.describe_instance_attribute(InstanceId=instance, Attribute="instanceInitiatedShutdownBehavior")
    assert found["InstanceInitiatedShutdownBehavior"]["Value"] == "terminate"


def test_the_root_volume_has_the_images_name_and_goes_with_the_instance(cloud):
    image = cloud.ec2.describe_images(ImageIds=[cloud.image])["Images"][0]
    assert image["Name"] == "labtool-debian-12"
    plain = describe(cloud, launch(cloud)[0]["InstanceId"])[0]
    asked = [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 30, "VolumeType": "gp3"}}]
    sized = describe(cloud, launch(cloud, BlockDeviceMappings=asked)[0]["InstanceId"])[0]
    for instance in (plain, sized):
        mapping = instance["BlockDeviceMappings"][0]
        assert mapping["DeviceName"] == image["RootDeviceName"] == "/dev/xvda"
        assert mapping["Ebs"]["DeleteOnTermination"] is True


def test_protected_instances_stay(cloud):
    instance = launch(cloud, DisableApiTermination=True)[0]["InstanceId"]
    backend(cloud).get_instance(instance).disable_api_termination = True
    with pytest.raises(ClientError, match="OperationNotPermitted"):
        cloud.ec2.terminate_instances(InstanceIds=[instance])


def test_terminated_instances_are_forgotten_after_a_while(cloud):
    old, young = (i["InstanceId"] for i in launch(cloud, 2))
    for instance_id in (old, young):
        backend(cloud).became_terminated(backend(cloud).get_instance(instance_id))
    backend(cloud).hosts[old].changed -= 3600
    assert backend(cloud).forget_old() == [old]
    assert states(cloud, young) == ["terminated"]
    with pytest.raises(ClientError, match="NotFound"):
        describe(cloud, old)


def test_public_parameters(cloud):
    ssm = cloud.client("ssm")
    with pytest.raises(ClientError, match="ParameterNotFound"):
        ssm.get_parameter(Name="/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64")
    ssm.put_parameter(Name="/own", Value="v", Type="String")
    found = ssm.get_parameters(Names=[PARAMETER, "/own", "/aws/service/other", "/none"])
    assert {p["Name"] for p in found["Parameters"]} == {PARAMETER, "/own"}
    assert set(found["InvalidParameters"]) == {"/aws/service/other", "/none"}
    below = ssm.get_parameters_by_path(Path="/aws/service/debian", Recursive=True)
    assert [p["Value"] for p in below["Parameters"]] == [cloud.image]


def test_unsigned_requests_are_refused(cloud):
    """A web page can make a browser post a form to loopback; it cannot sign it."""
    import urllib.error
    import urllib.request

    body = b"Action=TerminateInstances&InstanceId.1=i-1&Version=2016-11-15"
    for path in ("/", "/moto-api/reset", "/latest/meta-data/"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(urllib.request.Request(cloud.url + path, data=body))
        assert caught.value.code == 403


def test_user_data_is_kept_for_the_host(cloud):
    instance = launch(cloud, UserData="#!/bin/sh\ntrue\n")[0]["InstanceId"]
    kept = backend(cloud).get_instance(instance).user_data
    assert base64.b64decode(str(kept)) == b"#!/bin/sh\ntrue\n"


def test_the_console_is_text_without_terminal_codes_and_without_waiting(tmp_path):
    from labtool.localcloud.ec2_api import read_console

    file = tmp_path / "console.log"
    file.write_bytes(
        b"t stdout F [\x1b[0;32m  OK  \x1b[0m] Started \x1b[0;1;39mssh.service\x1b[0m.\r\r\n"
        b"t stdout F [\x1b[0m\x1b[0;31m*     \x1b[0m] Job user-data.service/start running (2s / no limit)\r\r\n"
        b"t stdout F \x1bM\r\x1b[K[\x1b[0;1;31m*\x1b[0m\x1b[0;31m*    \x1b[0m] A start job is running for x\r\n"
        b"t stdout P user \n"
        b"t stdout F data\n"
    )
    assert read_console(file) == "[  OK  ] Started ssh.service.\nuser data\n"
    assert read_console(tmp_path / "none") == ""
