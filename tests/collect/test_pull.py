"""CloudWatch: a small fake that holds to GetMetricData's limits, and botocore's own check of what is sent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError
from botocore.stub import ANY, Stubber

from labtool.collect import cloudwatch
from labtool.collect.catalogue import STATISTICS
from labtool.collect.metric_plan import Listed, plan
from labtool.dataset import cloudwatch as answers
from labtool.dataset.run import RunDirectory

START = datetime(2026, 7, 1, 12, 0, 20, tzinfo=UTC)
END = datetime(2026, 7, 1, 12, 30, 10, tzinfo=UTC)


class FakeCloudWatch:
    """Answers a point a period with value = minutes since the epoch, `page` points at most; counts requests."""

    def __init__(self, page=100_800, value=1.0):
        self.page = page
        self.value = value
        self.requests = []

    def get_metric_data(self, *, MetricDataQueries, StartTime, EndTime, ScanBy, MaxDatapoints, NextToken=None):  # noqa: N803
        assert 1 <= len(MetricDataQueries) <= 500
        assert MaxDatapoints <= 100_800
        assert len({query["Id"] for query in MetricDataQueries}) == len(MetricDataQueries)
        self.requests.append(NextToken)
        points = []
        for query in MetricDataQueries:
            period = query["MetricStat"]["Period"]
            assert StartTime.timestamp() % period == 0
            assert EndTime.timestamp() % period == 0
            at = StartTime
            while at < EndTime:
                points.append((query["Id"], at))
                at += timedelta(seconds=period)
        first = int(NextToken or 0)
        results = {}
        for key, at in points[first : first + self.page]:
            results.setdefault(key, []).append(at)
        more = first + self.page < len(points)
        return {
            "MetricDataResults": [
                {
                    "Id": key,
                    "Label": "x",
                    "Timestamps": times,
                    "Values": [self.value] * len(times),
                    "StatusCode": "PartialData" if more else "Complete",
                }
                for key, times in results.items()
            ],
            "Messages": [],
            "ResponseMetadata": {"HTTPStatusCode": 200},
            **({"NextToken": str(first + self.page)} if more else {}),
        }


@pytest.fixture
def run(tmp_path):
    return RunDirectory.create(tmp_path, "lab", "cw", START)


def table(run):
    rows, missing = answers.table(run.raw, START, END)
    assert missing == []
    return rows.to_pylist()


def planned(hosts, start=START, end=END, **more):
    return plan(hosts, start, end, now=end, **more)


def one_metric(start=START, end=END, **more):
    metric = Listed("a", "i-a", "mine", "x", (("InstanceId", "i-a"),))
    return planned([], start, end, listed=[metric], **more)


@pytest.mark.slow
@pytest.mark.parametrize("page", [100_800, 777])
def test_every_point_of_the_window_arrives_once_however_it_is_paged(run, record, page):
    client = FakeCloudWatch(page)
    hosts = [record("kafka-0", "t3.small"), record("kafka-1", "t3.small")]
    wanted = planned(hosts)
    assert len(wanted.batches) == 1
    assert cloudwatch.pull(client, wanted, run) == []
    total = sum(35 * 60 // query.period_s for query in wanted.queries)
    assert len(client.requests) == -(-total // page)
    rows = table(run)
    assert len({(r["host"], r["metric"], r["statistic"], r["time"]) for r in rows}) == len(rows)
    cpu = [r for r in rows if (r["host"], r["metric"], r["statistic"]) == ("kafka-1", "CPUUtilization", "Maximum")]
    # From the minute that the window began in to the one that it ended in.
    assert [r["time"] for r in cpu] == [datetime(2026, 7, 1, 12, minute, tzinfo=UTC) for minute in range(31)]
    assert {(r["unit"], r["period_s"], r["instance_id"], r["namespace"]) for r in cpu} == {
        ("Percent", 60, "i-kafka-1", "AWS/EC2")
    }
    assert {r["statistic"] for r in rows} == set(STATISTICS)
    credits = {r["time"] for r in rows if r["metric"] == "CPUCreditBalance"}
    assert credits == {datetime(2026, 7, 1, 12, minute, tzinfo=UTC) for minute in range(0, 31, 5)}


def test_a_later_pull_wins_and_nothing_is_lost(run):
    shorter = one_metric(end=START + timedelta(minutes=10))
    cloudwatch.pull(FakeCloudWatch(value=1.0), one_metric(), run, now=END)
    cloudwatch.pull(FakeCloudWatch(value=2.0), shorter, run, now=END + timedelta(minutes=3))
    values = [row["value"] for row in table(run) if row["statistic"] == "Sum"]
    assert values == [2.0] * 11 + [1.0] * 20


def test_the_average_is_sum_by_sample_count_of_the_same_pull(run):
    client = FakeCloudWatch()
    whole = client.get_metric_data

    def with_counts(**request):
        answer = whole(**request)
        statistics = {query["Id"]: query["MetricStat"]["Stat"] for query in request["MetricDataQueries"]}
        assert "Average" not in statistics.values()
        for result in answer["MetricDataResults"]:
            value = {"Sum": 12.0, "SampleCount": 4.0}.get(statistics[result["Id"]], 1.0)
            result["Values"] = [value] * len(result["Values"])
        return answer

    client.get_metric_data = with_counts
    cloudwatch.pull(client, one_metric(), run)
    averages = [row for row in table(run) if row["statistic"] == "Average"]
    assert [row["value"] for row in averages] == [3.0] * 31
    assert {(row["dimensions"], row["namespace"], row["period_s"]) for row in averages} == {
        ("InstanceId=i-a", "mine", 60)
    }


def test_a_metric_without_dimensions_is_about_nothing_in_particular(run):
    wanted = planned([], listed=[Listed("", "", "mine", "orders", ())])
    cloudwatch.pull(FakeCloudWatch(), wanted, run)
    assert {(row["host"], row["dimensions"], row["instance_id"]) for row in table(run)} == {("", "", "")}


def test_a_percentile_is_asked_for_and_kept_beside_the_five(run):
    cloudwatch.pull(FakeCloudWatch(), one_metric(statistics=("p99", "TM(2%:98%)")), run)
    assert {row["statistic"] for row in table(run)} == {*STATISTICS, "p99", "TM(2%:98%)"}


def test_the_points_of_an_agents_second_are_all_there(run):
    start, end = START, START + timedelta(seconds=50)
    cloudwatch.pull(FakeCloudWatch(), one_metric(start, end, period_s=5), run)
    rows, missing = answers.table(run.raw, start, end)
    times = [row["time"] for row in rows.to_pylist() if row["statistic"] == "Maximum"]
    assert missing == [] and times == [start + timedelta(seconds=n) for n in range(0, 50, 5)]


def test_what_is_asked_passes_botocores_check(run, record):
    client = boto3.client("cloudwatch", region_name="us-east-1")
    wanted = one_metric()
    answer = {
        "MetricDataResults": [{"Id": "q0", "Timestamps": [wanted.start], "Values": [5.0], "StatusCode": "Complete"}]
    }
    sent = {
        "MetricDataQueries": ANY,
        "StartTime": wanted.start,
        "EndTime": wanted.end,
        "ScanBy": "TimestampAscending",
        "MaxDatapoints": 100_800,
    }
    with Stubber(client) as stub:
        stub.add_response("get_metric_data", answer | {"NextToken": "more"}, sent)
        stub.add_response("get_metric_data", {"MetricDataResults": []}, sent | {"NextToken": "more"})
        assert cloudwatch.pull(client, wanted, run) == []
        stub.assert_no_pending_responses()
    assert [(row["value"], row["statistic"]) for row in table(run)] == [(5.0, "Minimum")]


def test_what_cloudwatch_cannot_say_is_missing(run):
    client = FakeCloudWatch()
    whole = client.get_metric_data

    def partly(**request):
        answer = whole(**request)
        answer["Messages"] = [{"Code": "ArithmeticError", "Value": "too much"}]
        answer["MetricDataResults"][0]["StatusCode"] = "InternalError"
        return answer

    client.get_metric_data = partly
    said = cloudwatch.pull(client, one_metric(), run)
    assert [(one.host, one.why) for one in said] == [
        ("", "ArithmeticError: too much"),
        ("a", "CloudWatch answered InternalError"),
    ]
    assert table(run)


def test_a_request_that_fails_leaves_those_that_were_answered(run, record):
    client = FakeCloudWatch()
    whole = client.get_metric_data
    wanted = planned([record(f"kafka-{n}") for n in range(12)])
    failing = wanted.batches[1][0]

    def second_fails(**request):
        first = request["MetricDataQueries"][0]["MetricStat"]
        dimensions = [{"Name": name, "Value": value} for name, value in failing.dimensions]
        if (first["Metric"]["MetricName"], first["Metric"]["Dimensions"]) == (failing.metric, dimensions):
            raise EndpointConnectionError(endpoint_url="http://127.0.0.1:1")
        return whole(**request)

    client.get_metric_data = second_fails
    (missing,) = cloudwatch.pull(client, wanted, run)
    assert missing.why.startswith("request 2: Could not connect")
    assert len(client.requests) == len(wanted.batches) - 1 > 1
    assert len({row["host"] for row in table(run)}) > 6


def test_a_bug_of_ours_is_not_swallowed(run):
    client = FakeCloudWatch()
    client.get_metric_data = lambda **_: 1 / 0
    with pytest.raises(ZeroDivisionError):
        cloudwatch.pull(client, one_metric(), run)


def test_a_kept_answer_that_was_cut_is_named_and_the_others_count(run):
    cloudwatch.pull(FakeCloudWatch(), one_metric(), run, now=END)
    folder = run.raw / "cloudwatch"
    (whole,) = folder.iterdir()
    (folder / "20990101T000000.000000Z-000.json.zst").write_bytes(whole.read_bytes()[:50])
    rows, missing = answers.table(run.raw, START, END)
    assert rows.num_rows == 31 * 5
    assert [one.what for one in missing] == ["raw/cloudwatch/20990101T000000.000000Z-000.json.zst"]
