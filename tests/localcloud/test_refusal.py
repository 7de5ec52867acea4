"""Whatever fails, the client can read it: an error in the protocol it speaks."""

from __future__ import annotations

import http.client
import json
import xml.etree.ElementTree as ET

import pytest
from botocore.exceptions import ClientError

from labtool.localcloud.refusal import REST_XML, Refusal, protocol_of, write

SCOPE = "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/{}/aws4_request, SignedHeaders=host, Signature=0"


@pytest.fixture
def cloud(make_api, serve):
    return serve(make_api())


def lax(cloud, service):
    """A client that sends what it is told, right or wrong."""
    return cloud.client(service, parameter_validation=False)


def refused(call, **parameters):
    with pytest.raises(ClientError) as told:
        call(**parameters)
    answer = told.value.response
    return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"], answer["Error"]["Message"]


def image(cloud):
    return cloud.client("ec2").describe_images()["Images"][0]["ImageId"]


def test_an_unknown_instance_type_is_refused_as_ec2_does(cloud):
    ec2 = cloud.client("ec2")
    asked = {"InstanceType": "t9.bogus", "ImageId": image(cloud), "MinCount": 1, "MaxCount": 1}
    assert refused(ec2.run_instances, **asked) == (
        400,
        "InvalidParameterValue",
        "Invalid value 't9.bogus' for InstanceType.",
    )
    status, code, message = refused(ec2.describe_instance_types, InstanceTypes=["t9.bogus"])
    assert (status, code) == (400, "InvalidInstanceType") and "t9.bogus" in message
    assert ec2.describe_instances()["Reservations"] == []


def test_a_launch_template_is_held_to_the_same(cloud):
    ec2 = cloud.client("ec2")

    def launch(name, **data):
        ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data)
        return refused(ec2.run_instances, LaunchTemplate={"LaunchTemplateName": name}, MinCount=1, MaxCount=1)

    assert launch("type", ImageId=image(cloud), InstanceType="t9.bogus")[1] == "InvalidParameterValue"
    assert launch("image", ImageId="ami-00000000", InstanceType="t3.small")[1] == "InvalidAMIID.NotFound"


@pytest.mark.parametrize(
    ("action", "parameters", "code", "named"),
    [
        ("run_instances", {}, "MissingParameter", "MaxCount"),
        ("run_instances", {"MinCount": 1, "MaxCount": 1}, "MissingParameter", "ImageId"),
        ("run_instances", {"MinCount": "x", "MaxCount": 1}, "InvalidParameterValue", "'x'"),
        ("get_console_output", {}, "MissingParameter", "InstanceId"),
        ("import_key_pair", {}, "MissingParameter", "KeyName"),
        ("describe_vpcs", {"Filters": [{"Name": "bogus", "Values": ["a"]}]}, "InvalidParameterValue", "'bogus'"),
        ("describe_subnets", {"Filters": [{"Name": "bogus", "Values": ["a"]}]}, "InvalidParameterValue", "'bogus'"),
        ("describe_fpga_images", {}, "UnsupportedOperation", "DescribeFpgaImages"),
        ("allocate_address", {}, "UnsupportedOperation", "AllocateAddress"),
    ],
)
def test_ec2_says_what_is_wrong(cloud, action, parameters, code, named):
    status, told, message = refused(getattr(lax(cloud, "ec2"), action), **parameters)
    assert (status, told) == (400, code)
    assert named in message


@pytest.mark.parametrize(
    ("action", "parameters"),
    [
        ("associate_route_table", {"RouteTableId": "rtb-00000000", "SubnetId": "subnet-00000000"}),
        ("attach_volume", {"Device": "/dev/sdf", "InstanceId": "i-00000000", "VolumeId": "vol-00000000"}),
        ("create_subnet", {"VpcId": "vpc-00000000", "CidrBlock": "198.19.240.0/28"}),
        ("describe_instance_attribute", {"Attribute": "userData", "InstanceId": "i-00000000"}),
        ("get_console_output", {"InstanceId": "i-00000000"}),
        ("reboot_instances", {"InstanceIds": ["i-00000000"]}),
        ("modify_volume", {"VolumeId": "vol-00000000", "Size": 9}),
        ("create_security_group", {"GroupName": "default", "Description": "there is one"}),
    ],
)
def test_what_is_there_is_not_said_to_be_missing(cloud, action, parameters):
    assert refused(getattr(cloud.client("ec2"), action), **parameters)[1] != "MissingParameter"


@pytest.mark.parametrize("service", ["iam", "sts", "sns", "elb", "ssm", "dynamodb", "logs", "sqs", "cloudwatch", "s3"])
@pytest.mark.parametrize("kind", ["bug", "unsupported"])
def test_every_protocol_carries_what_failed(cloud, monkeypatch, service, kind):
    """The services are those of the protocols Query, JSON 1.0 and 1.1, CBOR and REST-XML."""
    calls = {
        "iam": ("get_role", {"RoleName": "a"}),
        "sts": ("get_caller_identity", {}),
        "sns": ("list_topics", {}),
        "elb": ("describe_load_balancers", {}),
        "ssm": ("get_parameter", {"Name": "a"}),
        "dynamodb": ("list_tables", {}),
        "logs": ("describe_log_groups", {}),
        "sqs": ("list_queues", {}),
        "cloudwatch": ("list_metrics", {}),
        "s3": ("get_object", {"Bucket": "bucket", "Key": "a"}),
    }
    api = cloud.application

    def fail(*_):
        raise RuntimeError("a <bug> & more") if kind == "bug" else NotImplementedError("no")

    monkeypatch.setattr(api, "_plain_moto", fail)
    monkeypatch.setattr(api, "_moto_response", fail)
    monkeypatch.setattr(api.cloudwatch, "answer", fail)
    action, parameters = calls[service]
    status, code, message = refused(getattr(cloud.client(service), action), **parameters)
    assert (status, code) == ((500, "InternalError") if kind == "bug" else (501, "UnsupportedOperation"))
    assert "local cloud" in message and "bug" not in message


@pytest.mark.parametrize(
    ("service", "action", "parameters", "status", "code"),
    [
        ("iam", "list_service_specific_credentials", {}, 501, "UnsupportedOperation"),
        ("sns", "publish", {}, 500, "InternalError"),  # moto needs a topic, and does not look whether it has one
        ("dynamodb", "list_global_tables", {}, 501, "UnsupportedOperation"),
        ("lambda", "get_runtime_management_config", {"FunctionName": "a"}, 404, "UnknownOperationException"),
        ("pricing", "get_products", {"ServiceCode": "a"}, 501, "UnsupportedOperation"),
        ("s3", "get_object", {"Bucket": "nothing-there", "Key": "a"}, 404, "NoSuchBucket"),
    ],
)
def test_what_moto_cannot_do_is_said_in_the_clients_protocol(cloud, service, action, parameters, status, code):
    assert refused(getattr(lax(cloud, service), action), **parameters)[:2] == (status, code)


def test_a_head_request_gets_no_body(cloud):
    status, _, _ = refused(cloud.client("s3").head_object, Bucket="nothing-there", Key="a")
    assert status == 404


def test_an_action_that_ec2_does_not_have(cloud):
    def post(body, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", cloud.server.server_port, timeout=10)
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", "/", body, {**form, **headers})
        answer = connection.getresponse()
        return answer.status, ET.fromstring(answer.read())

    signed = {"Authorization": SCOPE.format("ec2")}
    for body, code in (("Action=Nonsense&Version=2016-11-15", "InvalidAction"), ("a=b", "MissingParameter")):
        status, root = post(body, **signed)
        assert (status, root.tag, root.findtext("Errors/Error/Code")) == (400, "Response", code)
    status, root = post("Action=Nonsense&Version=2010-05-08", Authorization=SCOPE.format("iam"))
    assert root.tag == "ErrorResponse" and status >= 400
    status, root = post("Action=DescribeInstances&Version=2016-11-15")
    assert (status, root.findtext("Error/Code")) == (403, "MissingAuthenticationToken")


def test_the_services_of_rest_xml_are_all_that_botocore_knows():
    import botocore.session

    session = botocore.session.get_session()
    loader = session.get_component("data_loader")
    named = set()
    for service in ("s3", "s3control", "route53", "cloudfront"):
        metadata = loader.load_service_model(service, "service-2")["metadata"]
        assert metadata["protocol"] == "rest-xml"
        named.add(metadata.get("signingName", metadata["endpointPrefix"]))
    assert named == REST_XML


@pytest.mark.parametrize(
    ("environ", "service", "protocol"),
    [
        ({"CONTENT_TYPE": "application/x-www-form-urlencoded; charset=utf-8"}, "ec2", "ec2"),
        ({"QUERY_STRING": "Action=DescribeInstances&Version=2016-11-15"}, None, "ec2"),
        ({"CONTENT_TYPE": "application/x-www-form-urlencoded; charset=utf-8"}, "sts", "query"),
        ({"QUERY_STRING": "Action=GetCallerIdentity"}, "sts", "query"),
        ({"HTTP_X_AMZ_TARGET": "AmazonSSM.GetParameter"}, "ssm", "json"),
        ({"HTTP_SMITHY_PROTOCOL": "rpc-v2-cbor"}, "monitoring", "cbor"),
        ({"CONTENT_TYPE": "application/x-www-form-urlencoded"}, "s3", "s3"),
        ({}, "route53", "rest-xml"),
        ({"CONTENT_TYPE": "application/json"}, "lambda", "rest-json"),
        ({}, None, "rest-json"),
    ],
)
def test_the_protocol_is_the_requests(environ, service, protocol):
    assert protocol_of(environ, service) == protocol


@pytest.mark.parametrize("protocol", ["ec2", "query", "s3", "rest-xml"])
def test_what_xml_must_not_hold_is_escaped(protocol):
    _, _, body = write(Refusal(400, "A", "a < b & c"), protocol)
    assert "a < b & c" in [element.text for element in ET.fromstring(body).iter()]


def test_json_names_the_code_in_body_and_header():
    _, headers, body = write(Refusal(404, "A", "b"), "rest-json")
    assert headers["x-amzn-ErrorType"] == json.loads(body)["__type"] == "A"
