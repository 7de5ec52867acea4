from __future__ import annotations

import itertools
import time
import urllib.parse
import urllib.request
from datetime import UTC, datetime

import botocore.session
import pytest
from botocore.exceptions import ClientError
from botocore.parsers import create_parser
from hypothesis import given
from hypothesis import strategies as st

from labtool.localcloud.cloudwatch import protocol
from labtool.localcloud.cloudwatch.api import CloudWatch
from labtool.localcloud.cloudwatch.cbor import Stamp, dumps
from labtool.localcloud.cloudwatch.store import Datum, Metric, Store

NOW = int(time.time()) // 3600 * 3600 - 3600


@pytest.fixture
def cloud(tmp_path, serve):
    store = Store(tmp_path / "m.sqlite")
    watch = CloudWatch(store)

    def application(environ, start_response):
        assert watch.serves(environ)
        status, headers, body = watch.answer(environ)
        start_response(f"{status} X", [*headers.items(), ("Content-Length", str(len(body)))])
        return [body]

    served = serve(application)
    served.store = store
    return served


def query(number, name="x", stat="Sum", period=60, namespace="mine"):
    metric = {"Namespace": namespace, "MetricName": name}
    return {"Id": f"q{number}", "MetricStat": {"Metric": metric, "Period": period, "Stat": stat}}


def fill(cloud, count, name="x"):
    metric = Metric("mine", name, ())
    cloud.store.put(Datum(metric, NOW + 60 * i, i, i, i, 1.0) for i in range(count))


def read(client, queries, **more):
    pages = []
    token = {}
    while True:
        page = client.get_metric_data(MetricDataQueries=queries, StartTime=NOW, EndTime=NOW + 86400, **more, **token)
        pages.append(page)
        if "NextToken" not in page:
            return pages
        token = {"NextToken": page["NextToken"]}


def test_values_counts_and_statistic_sets_come_back(cloud):
    client = cloud.client("cloudwatch")
    when = datetime.fromtimestamp(NOW + 30, UTC)
    dimensions = [{"Name": "host", "Value": "a"}]
    client.put_metric_data(
        Namespace="mine",
        MetricData=[
            {"MetricName": "x", "Timestamp": when, "Value": 4.0, "Unit": "Count", "Dimensions": dimensions},
            {"MetricName": "x", "Timestamp": when, "Values": [1.0, 2.0], "Counts": [3, 1], "Unit": "Count",
             "Dimensions": dimensions},
            {"MetricName": "x", "Timestamp": when, "Unit": "Count", "Dimensions": dimensions,
             "StatisticValues": {"SampleCount": 2, "Sum": 20, "Minimum": 0.5, "Maximum": 19.5}},
        ],
    )  # fmt: skip
    found = client.get_metric_statistics(
        Namespace="mine", MetricName="x", Dimensions=dimensions, StartTime=NOW, EndTime=NOW + 60, Period=60,
        Statistics=["SampleCount", "Sum", "Minimum", "Maximum", "Average"],
    )["Datapoints"]  # fmt: skip
    point = {key: found[0][key] for key in ("SampleCount", "Sum", "Minimum", "Maximum", "Average", "Unit")}
    assert len(found) == 1
    assert found[0]["Timestamp"].timestamp() == NOW
    assert point == {
        "SampleCount": 7, "Sum": 29, "Minimum": 0.5, "Maximum": 19.5, "Average": 29 / 7, "Unit": "Count"
    }  # fmt: skip


def test_a_compressed_request_is_understood(cloud):
    client = cloud.client("cloudwatch")
    many = [{"MetricName": f"metric{i:04d}", "Value": 1.0} for i in range(1000)]  # botocore compresses from 10 KiB
    client.put_metric_data(Namespace="mine", MetricData=many)
    assert cloud.store.count() == 1000


def test_get_metric_data_is_newest_first_unless_asked(cloud):
    fill(cloud, 3)
    client = cloud.client("cloudwatch")
    assert read(client, [query(0)])[0]["MetricDataResults"][0]["Values"] == [2, 1, 0]
    ascending = read(client, [query(0)], ScanBy="TimestampAscending")[0]["MetricDataResults"][0]
    assert ascending["Values"] == [0, 1, 2]
    assert [t.timestamp() for t in ascending["Timestamps"]] == [NOW, NOW + 60, NOW + 120]


@pytest.mark.parametrize("limit", [1, 7, 10, 25, 100])
@pytest.mark.parametrize("order", ["TimestampAscending", "TimestampDescending"])
def test_pages_together_are_the_whole_and_none_is_too_large(cloud, limit, order):
    for name in ("a", "b", "c"):
        fill(cloud, 10, name)
    queries = [query(i, name) for i, name in enumerate(["a", "none", "b", "c"])]
    pages = read(cloud.client("cloudwatch"), queries, MaxDatapoints=limit, ScanBy=order)
    joined: dict[str, list[float]] = {}
    for page in pages:
        assert sum(len(result["Values"]) for result in page["MetricDataResults"]) <= limit
        for result in page["MetricDataResults"]:
            joined.setdefault(result["Id"], []).extend(result["Values"])
    rising = [float(i) for i in range(10)]
    expected = rising if order == "TimestampAscending" else rising[::-1]
    assert joined == {"q0": expected, "q1": [], "q2": expected, "q3": expected}


@pytest.mark.slow
def test_a_page_holds_100800_points_and_no_more(cloud):
    metric = Metric("mine", "x", ())
    cloud.store.put(Datum(metric, NOW - 86400 + 60 * i, i, i, i, 1.0) for i in range(1440))
    queries = [query(i) for i in range(71)]
    client = cloud.client("cloudwatch")
    first = client.get_metric_data(MetricDataQueries=queries, StartTime=NOW - 86400, EndTime=NOW)
    assert sum(len(r["Values"]) for r in first["MetricDataResults"]) == 70 * 1440 == 100_800
    second = client.get_metric_data(
        MetricDataQueries=queries, StartTime=NOW - 86400, EndTime=NOW, NextToken=first["NextToken"]
    )
    assert [r["Id"] for r in second["MetricDataResults"]] == ["q70"]
    assert "NextToken" not in second


def test_a_token_of_another_request_is_refused(cloud):
    fill(cloud, 10)
    client = cloud.client("cloudwatch")
    page = client.get_metric_data(MetricDataQueries=[query(0)], StartTime=NOW, EndTime=NOW + 600, MaxDatapoints=3)
    with pytest.raises(ClientError, match="InvalidNextToken"):
        client.get_metric_data(
            MetricDataQueries=[query(0, stat="Maximum")], StartTime=NOW, EndTime=NOW + 600, NextToken=page["NextToken"]
        )


REFUSED = [
    ({"MetricDataQueries": [query(i) for i in range(501)]}, "ValidationError"),
    ({"MetricDataQueries": [{"Id": "e", "Expression": "SUM(METRICS())"}]}, "ValidationError"),
    ({"MetricDataQueries": [query(0), query(0)]}, "ValidationError"),
    ({"MetricDataQueries": [{**query(0), "Id": "Upper"}]}, "ValidationError"),
    ({"MetricDataQueries": [query(0, period=61)]}, "ValidationError"),
    ({"MetricDataQueries": [query(0, stat="tm101")]}, "InvalidParameterValue"),
    ({"MetricDataQueries": [query(0)], "StartTime": NOW + 86400}, "ValidationError"),
    ({"MetricDataQueries": [query(0)], "MaxDatapoints": 100_801}, "ValidationError"),
]


@pytest.mark.parametrize(("request_", "code"), REFUSED, ids=[str(i) for i in range(len(REFUSED))])
def test_limits_and_mistakes_are_refused(cloud, request_, code):
    with pytest.raises(ClientError) as caught:
        cloud.client("cloudwatch").get_metric_data(**{"StartTime": NOW, "EndTime": NOW + 86400, **request_})
    assert caught.value.response["Error"]["Code"] == code
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


@pytest.mark.parametrize(
    ("namespace", "datum"),
    [
        ("AWS/EC2", {"MetricName": "x", "Value": 1.0}),
        ("mine", {"MetricName": "x"}),
        ("mine", {"MetricName": "x", "Values": [1.0], "Counts": [1.0, 2.0]}),
        ("mine", {"MetricName": "x", "Value": 1.0, "Timestamp": NOW - 15 * 86400}),
        ("mine", {"MetricName": "x", "Value": 1.0, "Timestamp": NOW + 86400}),
    ],
)
def test_wrong_data_are_refused(cloud, namespace, datum):
    with pytest.raises(ClientError, match="InvalidParameterValue"):
        cloud.client("cloudwatch").put_metric_data(Namespace=namespace, MetricData=[datum])
    assert cloud.store.count() == 0


def test_statistics_refuse_more_than_1440_points(cloud):
    with pytest.raises(ClientError, match="InvalidParameterCombination"):
        cloud.client("cloudwatch").get_metric_statistics(
            Namespace="mine", MetricName="x", StartTime=NOW - 86400, EndTime=NOW + 60, Period=60, Statistics=["Sum"]
        )


def test_metrics_are_listed_in_pages(cloud):
    cloud.store.put(Datum(Metric("mine", f"m{i:04d}", ()), NOW, 1, 1, 1, 1.0) for i in range(501))
    client = cloud.client("cloudwatch")
    pages = list(client.get_paginator("list_metrics").paginate(Namespace="mine"))
    assert [len(page["Metrics"]) for page in pages] == [500, 1]


# The other two protocols: requests written by hand, answers read by botocore's own parsers.

MODEL = botocore.session.get_session().get_service_model("cloudwatch")


def post(cloud, operation, *, form=None, packed=None):
    if form is not None:
        body, path = urllib.parse.urlencode({"Action": operation, "Version": "2010-08-01", **form}).encode(), "/"
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
    else:
        body, path = dumps(packed), f"/service/{protocol.TARGET}/operation/{operation}"
        headers = {"Content-Type": "application/cbor", "smithy-protocol": "rpc-v2-cbor"}
    request = urllib.request.Request(cloud.url + path, data=body, headers=headers)
    try:
        with urllib.request.urlopen(request) as answer:
            status, headers, content = answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        status, headers, content = error.code, dict(error.headers), error.read()
    parser = create_parser("query" if form is not None else "smithy-rpc-v2-cbor")
    shape = MODEL.operation_model(operation).output_shape
    response = {"status_code": status, "headers": {k.lower(): v for k, v in headers.items()}, "body": content}
    return parser.parse(response, shape)


def member(prefix, items):
    return {f"{prefix}.member.{n}.{key}": v for n, item in enumerate(items, 1) for key, v in item.items()}


def test_the_query_protocol(cloud):
    stamp = protocol.iso(NOW + 5)
    data = [{"MetricName": "x", "Value": "1.5", "Timestamp": stamp, "Dimensions.member.1.Name": "h",
             "Dimensions.member.1.Value": "a&<b"}]  # fmt: skip
    assert post(cloud, "PutMetricData", form={"Namespace": "mine", **member("MetricData", data)})["ResponseMetadata"]
    listed = post(cloud, "ListMetrics", form={"Namespace": "mine"})
    assert listed["Metrics"][0]["Dimensions"] == [{"Name": "h", "Value": "a&<b"}]
    stat = {"Id": "q", "MetricStat.Period": "60", "MetricStat.Stat": "Average", "MetricStat.Metric.Namespace": "mine",
            "MetricStat.Metric.MetricName": "x", "MetricStat.Metric.Dimensions.member.1.Name": "h",
            "MetricStat.Metric.Dimensions.member.1.Value": "a&<b"}  # fmt: skip
    window = {"StartTime": protocol.iso(NOW), "EndTime": protocol.iso(NOW + 60)}
    got = post(cloud, "GetMetricData", form={**window, **member("MetricDataQueries", [stat])})
    assert got["MetricDataResults"][0]["Values"] == [1.5]
    assert got["MetricDataResults"][0]["Timestamps"][0].timestamp() == NOW
    refused = post(cloud, "PutMetricData", form={"Namespace": "AWS/EC2", **member("MetricData", data)})
    assert refused["Error"]["Code"] == "InvalidParameterValue"


def test_the_cbor_protocol(cloud):
    datum = {"MetricName": "x", "Value": 2.5, "Timestamp": Stamp(NOW + 5)}
    post(cloud, "PutMetricData", packed={"Namespace": "mine", "MetricData": [datum]})
    window = {"StartTime": Stamp(NOW), "EndTime": Stamp(NOW + 60)}
    got = post(cloud, "GetMetricData", packed={**window, "MetricDataQueries": [query(1, stat="Maximum")]})
    assert got["MetricDataResults"][0]["Values"] == [2.5]
    assert got["MetricDataResults"][0]["Timestamps"][0].timestamp() == NOW
    old = post(
        cloud,
        "GetMetricStatistics",
        packed={**window, "Namespace": "mine", "MetricName": "x", "Period": 60, "Statistics": ["Sum"]},
    )
    assert old["Datapoints"][0]["Sum"] == 2.5
    refused = post(cloud, "GetMetricData", packed={**window, "MetricDataQueries": []})
    assert refused["Error"]["Code"].endswith("ValidationError")


def results(count):
    times = [NOW + 60 * i for i in range(count)]
    return [protocol.MetricResult(f"q{i}", 'a "label" <&>', times, [i / 3 + t for t in range(count)]) for i in (1, 2)]


@pytest.mark.parametrize("name", ["json", "cbor", "query"])
@pytest.mark.parametrize("count", [0, 1, 300])
def test_hand_written_answers_are_what_botocore_reads(name, count):
    call = protocol.Call("GetMetricData", {}, name)
    _, headers, body = protocol.metric_data(call, results(count), "to&ken")
    parser = create_parser({"cbor": "smithy-rpc-v2-cbor"}.get(name, name))
    shape = MODEL.operation_model("GetMetricData").output_shape
    headers = {key.lower(): value for key, value in headers.items()}
    got = parser.parse({"status_code": 200, "headers": headers, "body": body}, shape)
    assert got["NextToken"] == "to&ken"
    for result, wanted in zip(got["MetricDataResults"], results(count), strict=True):
        assert (result["Id"], result["Label"]) == (wanted.id, wanted.label)
        assert result["Values"] == list(wanted.values)
        assert [t.timestamp() for t in result["Timestamps"]] == list(wanted.times)


names = st.text("abcXYZ", min_size=1, max_size=4)
trees = st.recursive(
    st.text(max_size=5),
    lambda inner: st.lists(inner, min_size=1, max_size=3) | st.dictionaries(names, inner, min_size=1, max_size=3),
    max_leaves=8,
)


def flatten(value, prefix):
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = ((f"member.{n}", item) for n, item in enumerate(value, 1))
    else:
        return {prefix: value}
    return dict(itertools.chain.from_iterable(flatten(v, f"{prefix}.{k}").items() for k, v in items))


@given(trees)
def test_nested_query_keys_are_what_was_meant(tree):
    assert protocol.nest(flatten(tree, "Top")) == {"Top": tree}
