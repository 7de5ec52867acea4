"""ListMetrics: which of a namespace's metrics are the lab's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import boto3
import pytest
from botocore.stub import Stubber

from labtool.collect.discover import discover

NOW = datetime(2026, 7, 1, 12, 30, tzinfo=UTC)
RECENT = NOW - timedelta(minutes=30)


class FakeListing:
    """Lists `metrics` in pages of two."""

    def __init__(self, *metrics):
        self.metrics = [
            {"Namespace": "mine", "MetricName": name, "Dimensions": [{"Name": k, "Value": v} for k, v in of.items()]}
            for name, of in metrics
        ]
        self.requests = []

    def list_metrics(self, **request):
        self.requests.append(request)
        first = int(request.get("NextToken", 0))
        more = {"NextToken": str(first + 2)} if first + 2 < len(self.metrics) else {}
        return {"Metrics": self.metrics[first : first + 2], **more}


def found(client, hosts, start=RECENT):
    return discover(client, "mine", hosts, "one", start, NOW)


@pytest.mark.parametrize(
    ("dimensions", "host"),
    [
        ({"InstanceId": "i-kafka-0"}, "kafka-0"),
        ({"InstanceId": "i-kafka-0", "path": "/"}, "kafka-0"),
        ({"host": "kafka-0"}, "kafka-0"),
        ({"host": "ip-10-0-0-7.ec2.internal"}, "kafka-0"),
        ({"host": "ip-10-0-0-7.eu-west-1.compute.internal"}, "kafka-0"),
        ({"hostname": "10.0.0.7"}, "kafka-0"),
        ({"VolumeId": "vol-1"}, "kafka-0"),
        ({"broker": "i-kafka-0"}, "kafka-0"),
        ({}, ""),
        ({"queue": "orders"}, ""),
        ({"lab": "one", "topic": "x"}, ""),
    ],
)
def test_a_metric_is_the_lab_s_by_its_dimensions(record, dimensions, host):
    client = FakeListing(("x", dimensions))
    hosts = [record("kafka-0", private_address="10.0.0.7", volumes=["vol-1"]), record("kafka-1")]
    (metric,) = found(client, hosts).metrics
    assert (metric.host, metric.instance_id) == (host, f"i-{host}" if host else "")
    assert metric.dimensions == tuple(dimensions.items())


@pytest.mark.parametrize(
    "dimensions",
    [
        {"InstanceId": "i-other"},
        {"InstanceId": "i-other", "host": "kafka-0"},  # the same name in another lab
        {"host": "ip-10-0-0-70.ec2.internal"},
        {"VolumeId": "vol-9"},
        {"lab": "two"},
        {"labtool:lab": "two", "host": "kafka-0"},
    ],
)
def test_what_names_another_host_or_lab_is_counted_and_left_out(record, dimensions):
    client = FakeListing(("x", dimensions), ("y", {"InstanceId": "i-kafka-0"}))
    seen = found(client, [record("kafka-0", private_address="10.0.0.7", volumes=["vol-1"])])
    assert ([metric.name for metric in seen.metrics], seen.others) == (["y"], 1)


def test_a_namespace_is_listed_once_for_all_hosts_page_by_page(record):
    client = FakeListing(*((f"m{n}", {"InstanceId": f"i-kafka-{n}"}) for n in range(5)))
    seen = found(client, [record(f"kafka-{n}") for n in range(5)])
    assert [metric.host for metric in seen.metrics] == [f"kafka-{n}" for n in range(5)]
    assert seen.requests == len(client.requests) == 3
    assert {request["RecentlyActive"] for request in client.requests} == {"PT3H"}


def test_an_old_window_needs_what_is_active_no_more(record):
    client = FakeListing(("x", {}))
    found(client, [record("a")], NOW - timedelta(days=3))
    assert client.requests == [{"Namespace": "mine"}]


def test_what_is_asked_passes_botocores_check(record):
    client = boto3.client("cloudwatch", region_name="us-east-1")
    with Stubber(client) as stub:
        stub.add_response("list_metrics", {"Metrics": []}, {"Namespace": "mine", "RecentlyActive": "PT3H"})
        assert found(client, [record("a")]).metrics == ()
        stub.assert_no_pending_responses()
