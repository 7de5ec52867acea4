"""CloudWatch: a small fake that holds to GetMetricData's limits, and botocore's own check of what is sent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError
from botocore.stub import ANY, Stubber
from hypothesis import given
from hypothesis import strategies as st

from labtool.collect import cloudwatch
from labtool.collect.catalogue import METRICS, STATISTICS
from labtool.dataset import cloudwatch as answers
from labtool.dataset.run import RunDirectory
from labtool.errors import CloudError

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


def test_all_metrics_of_a_hundred_hosts_take_the_fewest_requests(host):
    plan = cloudwatch.plan([host(f"kafka-{n}") for n in range(100)], START, END)
    assert len(plan.queries) == 100 * len(METRICS) * 5
    assert [len(batch) for batch in plan.batches] == [500] * (len(plan.queries) // 500)


@given(st.integers(0, 10**6), st.integers(1, 10**6), st.sampled_from([60, 300]))
def test_a_window_is_widened_to_whole_periods_by_less_than_one(begin, length, period):
    start = datetime.fromtimestamp(1.79e9 + begin, UTC)
    end = start + timedelta(seconds=length)
    one = tuple(metric for metric in METRICS if metric.name == "CPUUtilization")
    plan = cloudwatch.plan([], start, end, period_s=period, metrics=one)
    assert plan.start <= start < plan.start + timedelta(seconds=period)
    assert plan.end - timedelta(seconds=period) < end <= plan.end
    assert plan.start.timestamp() % period == plan.end.timestamp() % period == 0


def test_a_period_that_ec2_has_not_is_refused(host):
    with pytest.raises(CloudError, match="a period of 30 s"):
        cloudwatch.plan([host("a")], START, END, period_s=30)


@pytest.mark.parametrize("page", [100_800, 777])
def test_every_point_of_the_window_arrives_once_however_it_is_paged(run, host, page):
    client = FakeCloudWatch(page)
    hosts = [host("kafka-0"), host("kafka-1")]
    plan = cloudwatch.plan(hosts, START, END)
    assert cloudwatch.pull(client, plan, run) == []
    total = sum(1 for query in plan.queries for _ in range(35 * 60 // query.period_s))
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


def test_a_later_pull_wins_and_nothing_is_lost(run, host):
    plan = cloudwatch.plan([host("a")], START, END, metrics=METRICS[:1])
    shorter = cloudwatch.plan([host("a")], START, START + timedelta(minutes=10), metrics=METRICS[:1])
    cloudwatch.pull(FakeCloudWatch(value=1.0), plan, run, now=END)
    cloudwatch.pull(FakeCloudWatch(value=2.0), shorter, run, now=END + timedelta(minutes=3))
    values = [row["value"] for row in table(run) if row["statistic"] == "Sum"]
    assert values == [2.0] * 11 + [1.0] * 20


def test_what_is_asked_passes_botocores_check(run, host):
    client = boto3.client("cloudwatch", region_name="us-east-1")
    plan = cloudwatch.plan([host("a")], START, END, metrics=METRICS[:1])
    answer = {
        "MetricDataResults": [{"Id": "q0", "Timestamps": [plan.start], "Values": [5.0], "StatusCode": "Complete"}]
    }
    sent = {
        "MetricDataQueries": ANY,
        "StartTime": plan.start,
        "EndTime": plan.end,
        "ScanBy": "TimestampAscending",
        "MaxDatapoints": 100_800,
    }
    with Stubber(client) as stub:
        stub.add_response("get_metric_data", answer | {"NextToken": "more"}, sent)
        stub.add_response("get_metric_data", {"MetricDataResults": []}, sent | {"NextToken": "more"})
        assert cloudwatch.pull(client, plan, run) == []
        stub.assert_no_pending_responses()
    assert [(row["value"], row["statistic"]) for row in table(run)] == [(5.0, "Average")]


def test_what_cloudwatch_cannot_say_is_missing(run, host):
    client = FakeCloudWatch()
    whole = client.get_metric_data

    def partly(**request):
        answer = whole(**request)
        answer["Messages"] = [{"Code": "ArithmeticError", "Value": "too much"}]
        answer["MetricDataResults"][0]["StatusCode"] = "InternalError"
        return answer

    client.get_metric_data = partly
    said = cloudwatch.pull(client, cloudwatch.plan([host("a")], START, END, metrics=METRICS[:2]), run)
    assert [(one.host, one.why) for one in said] == [
        ("", "ArithmeticError: too much"),
        ("a", "CloudWatch answered InternalError"),
    ]
    assert table(run)


def test_a_request_that_fails_leaves_those_that_were_answered(run, host):
    client = FakeCloudWatch()
    whole, calls = client.get_metric_data, []

    def second_fails(**request):
        calls.append(1)
        if len(calls) == 2:
            raise EndpointConnectionError(endpoint_url="http://127.0.0.1:1")
        return whole(**request)

    client.get_metric_data = second_fails
    plan = cloudwatch.plan([host(f"kafka-{n}") for n in range(12)], START, END)
    (missing,) = cloudwatch.pull(client, plan, run)
    assert missing.why.startswith("request 2: Could not connect")
    assert len(calls) == len(plan.batches) == 4
    assert len({row["host"] for row in table(run)}) > 6


def test_a_bug_of_ours_is_not_swallowed(run, host):
    client = FakeCloudWatch()
    client.get_metric_data = lambda **_: 1 / 0
    with pytest.raises(ZeroDivisionError):
        cloudwatch.pull(client, cloudwatch.plan([host("a")], START, END), run)


def test_a_kept_answer_that_was_cut_is_named_and_the_others_count(run, host):
    plan = cloudwatch.plan([host("a")], START, END, metrics=METRICS[:1])
    cloudwatch.pull(FakeCloudWatch(), plan, run, now=END)
    folder = run.raw / "cloudwatch"
    (whole,) = folder.iterdir()
    (folder / "20990101T000000.000000Z-000.json.zst").write_bytes(whole.read_bytes()[:50])
    rows, missing = answers.table(run.raw, START, END)
    assert rows.num_rows == 31 * 5
    assert [one.what for one in missing] == ["raw/cloudwatch/20990101T000000.000000Z-000.json.zst"]
