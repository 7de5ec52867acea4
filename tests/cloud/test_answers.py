"""Long answers are read quickly, and as botocore reads them."""

from __future__ import annotations

from datetime import UTC, datetime

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError
from botocore.utils import parse_timestamp
from hypothesis import given
from hypothesis import strategies as st

from labtool.cloud.answers import INTERFACES, UNREAD, quicken, timestamp
from labtool.cloud.session import Session, Target

ITEM = """<item><reservationId>r-1</reservationId><ownerId>123456789012</ownerId><groupSet/><instancesSet><item>
<instanceId>{id}</instanceId><instanceState><code>16</code><name>running</name></instanceState><dnsName/>
<amiLaunchIndex>3</amiLaunchIndex><launchTime>2026-07-01T12:00:00.000Z</launchTime><ebsOptimized>false</ebsOptimized>
<placement><availabilityZone>us-east-1a</availabilityZone><groupName/></placement><productCodes/>
<monitoring><state>enabled</state></monitoring><sourceDestCheck>true</sourceDestCheck><somethingNew>x</somethingNew>
<tagSet><item><key>Name</key><value>a &amp; b</value></item><item><key>empty</key><value/></item></tagSet>
<cpuOptions><coreCount>2</coreCount></cpuOptions><maintenanceOptions/><metadataOptions><state>applied</state></metadataOptions>
<capacityReservationSpecification><capacityReservationPreference>open</capacityReservationPreference>
</capacityReservationSpecification><enclaveOptions><enabled>false</enabled></enclaveOptions>
<hibernationOptions><configured>false</configured></hibernationOptions>
<blockDeviceMapping><item><deviceName>/dev/xvda</deviceName><ebs><volumeId>vol-1</volumeId><deleteOnTermination>true
</deleteOnTermination><attachTime>2026-07-01T12:00:01.000Z</attachTime></ebs></item></blockDeviceMapping>
<networkInterfaceSet><item><networkInterfaceId>eni-1</networkInterfaceId></item></networkInterfaceSet>
</item></instancesSet></item>""".replace("\n</deleteOnTermination>", "</deleteOnTermination>")


def answering(status, body, *, quick):
    """Return an EC2 client that gets this answer, and reads it by botocore alone or quickly."""
    client = boto3.client("ec2", region_name="us-east-1")
    if quick:
        quicken(client)

    class Raw:
        def stream(self, **_):
            yield body.encode()

    client.meta.events.register(
        "before-send.ec2.DescribeInstances",
        lambda request, **_: AWSResponse(request.url, status, {"x-amzn-requestid": "7"}, Raw()),
    )
    return client


def document(items, token=""):
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">'
        f"<requestId>7</requestId><reservationSet>{items}</reservationSet>{token}</DescribeInstancesResponse>"
    )


@pytest.mark.parametrize(
    "body",
    [
        document(""),
        document(ITEM.format(id="i-1")),
        document(ITEM.format(id="i-1") + ITEM.format(id="i-2"), "<nextToken>more</nextToken>"),
    ],
)
def test_instances_are_read_as_botocore_reads_them(body):
    plain = answering(200, body, quick=False).describe_instances()
    quick = answering(200, body, quick=True).describe_instances()
    for instance in (each for reservation in plain["Reservations"] for each in reservation["Instances"]):
        assert all(instance.pop(name) is not None for name in UNREAD)
    assert quick == plain
    assert len(quick["Reservations"]) == body.count("<reservationId>")


def test_what_is_cut_out_is_what_is_not_read():
    shape = answering(200, "", quick=False).meta.service_model.shape_for("Instance")
    assert INTERFACES.decode() in {shape.members[name].serialization["name"] for name in UNREAD}


def test_what_a_tag_says_is_not_cut():
    told = "&lt;networkInterfaceSet&gt; <![CDATA[a]]> &lt;/networkInterfaceSet&gt;"
    answer = answering(200, document(ITEM.replace("a &amp; b", told).format(id="i-1")), quick=True).describe_instances()
    tag = answer["Reservations"][0]["Instances"][0]["Tags"][0]
    assert tag == {"Key": "Name", "Value": "<networkInterfaceSet> a </networkInterfaceSet>"}


def test_an_error_stays_botocores():
    body = (
        "<Response><Errors><Error><Code>InvalidInstanceID.NotFound</Code><Message>gone</Message></Error></Errors>"
        "<RequestID>7</RequestID></Response>"
    )
    with pytest.raises(ClientError, match=r"InvalidInstanceID\.NotFound.*gone"):
        answering(400, body, quick=True).describe_instances()


def test_a_session_reads_quickly():
    session = Session(Target("aws", "us-east-1", access_key="x", secret_key="x"))
    seen = []
    session.ec2.meta.events.register_last(
        "before-parse.ec2.DescribeInstances", lambda response_dict, **_: seen.append(response_dict["body"])
    )
    body = document(ITEM.format(id="i-1"))

    class Raw:
        def stream(self, **_):
            yield body.encode()

    session.ec2.meta.events.register(
        "before-send.ec2.DescribeInstances", lambda request, **_: AWSResponse(request.url, 200, {}, Raw())
    )
    answer = session.ec2.describe_instances()
    assert answer["Reservations"][0]["Instances"][0]["InstanceId"] == "i-1"
    assert len(seen[0]) < 200 < len(body), "botocore had nothing left to read"


@given(st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1)).map(lambda when: when.replace(tzinfo=UTC)))
def test_a_time_is_what_botocore_makes_of_it(when):
    for text in (
        when.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        when.isoformat(),
        when.strftime("%a, %d %b %Y %H:%M:%S GMT"),
        int(when.timestamp()),
        str(int(when.timestamp())),
    ):
        assert timestamp(text) == parse_timestamp(text)


def test_what_is_no_time_is_refused():
    with pytest.raises(ValueError, match="Invalid timestamp"):
        timestamp("yesterday")
