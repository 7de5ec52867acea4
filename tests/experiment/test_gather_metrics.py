"""A run's metrics: what is asked for beside the catalogue, what settles later, what cannot be had."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from botocore.exceptions import ClientError

from labtool.dataset import tables
from labtool.dataset.run import HostRecord, MetricsRecord, RunDirectory, RunRecord
from labtool.experiment import gather
from labtool.experiment.journal import Journal
from labtool.progress import Silent

END = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=1)
START = END - timedelta(minutes=12)
UNSETTLED = gather.UNSETTLED


class FakeCloudWatch:
    """Has a point a minute until `until`, for everything, and lists `listed`."""

    def __init__(self):
        self.until = END
        self.value = 1.0
        self.listed = []
        self.asked = []
        self.denied = False

    def list_metrics(self, **request):
        if self.denied:
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "ListMetrics")
        metrics = [metric for metric in self.listed if metric["Namespace"] == request["Namespace"]]
        return {"Metrics": metrics}

    def get_metric_data(self, **request):
        results = []
        for query in request["MetricDataQueries"]:
            stat = query["MetricStat"]
            self.asked.append((stat["Metric"]["Namespace"], stat["Metric"]["MetricName"], stat["Stat"], stat["Period"]))
            at, times = request["StartTime"], []
            while at < min(request["EndTime"], self.until):
                times.append(at)
                at += timedelta(seconds=stat["Period"])
            results.append({"Id": query["Id"], "Timestamps": times, "Values": [self.value] * len(times)})
        return {"MetricDataResults": results}


@pytest.fixture
def cloudwatch():
    return FakeCloudWatch()


@pytest.fixture
def instances():
    return [
        {
            "InstanceId": "i-a",
            "PrivateIpAddress": "10.0.0.7",
            "Monitoring": {"State": "disabled"},
            "BlockDeviceMappings": [{"Ebs": {"VolumeId": "vol-2"}}, {"Ebs": {"VolumeId": "vol-1"}}, {}],
        }
    ]


@pytest.fixture
def session(cloudwatch, instances):
    pages = SimpleNamespace(paginate=lambda **_: [{"Reservations": [{"Instances": instances}]}])
    ec2 = SimpleNamespace(get_paginator=lambda _: pages)
    return SimpleNamespace(client=lambda _: cloudwatch, ec2=ec2)


@pytest.fixture
def run(tmp_path):
    directory = RunDirectory.create(tmp_path, "lab", "x", START)
    host = HostRecord(name="a", group="g", instance_id="i-a", instance_type="t3.small", address="1", zone="")
    record = RunRecord(name="x", lab="lab", cloud="local", region="r", started=START, hosts=[host])
    record.window_start, record.window_end = START, END
    directory.write(record)
    return directory


def rows(run, **wanted):
    found = tables.read(run.tables, "cloudwatch").to_pylist()
    return [row for row in found if all(row[key] == value for key, value in wanted.items())]


def missing(run):
    return {each.what: each.why for each in run.read().missing}


def test_volumes_and_monitoring_are_written_down_for_later(session, run):
    journal = Journal(run, run.read(), Silent())
    gather.note_monitoring(session, journal)
    (host,) = journal.record.hosts
    assert (host.volumes, host.detailed_monitoring, host.private_address) == (["vol-1", "vol-2"], False, "10.0.0.7")


def test_an_instance_that_is_gone_keeps_what_was_known(session, run, instances):
    journal = Journal(run, run.read(), Silent())
    gather.note_monitoring(session, journal)
    instances.clear()
    gather.note_monitoring(session, journal)
    assert journal.record.hosts[0].volumes == ["vol-1", "vol-2"]


def test_data_that_settle_are_pulled_again_and_count(session, run, cloudwatch):
    cloudwatch.until = END - timedelta(minutes=4)
    gather.refresh(session, run, Silent())
    assert "they had not arrived for a" in missing(run)[UNSETTLED]
    first = rows(run, metric="CPUUtilization", statistic="Sum")
    cloudwatch.until, cloudwatch.value = END, 2.0
    gather.refresh(session, run, Silent())
    again = rows(run, metric="CPUUtilization", statistic="Sum")
    assert UNSETTLED not in missing(run)
    assert (len(first), len(again)) == (8, 12)
    assert {row["value"] for row in again} == {2.0}


def test_basic_monitoring_is_settled_with_its_last_whole_five_minutes(session, run, cloudwatch):
    record = run.read()
    record.hosts[0].detailed_monitoring = False
    run.write(record)
    last = datetime.fromtimestamp(END.timestamp() // 300 * 300 - 300, UTC)
    cloudwatch.until = last
    gather.refresh(session, run, Silent())
    assert UNSETTLED in missing(run)
    cloudwatch.until = last + timedelta(minutes=5)
    gather.refresh(session, run, Silent())
    assert UNSETTLED not in missing(run)
    assert {row["period_s"] for row in rows(run, metric="CPUUtilization")} == {300}


def test_a_namespace_of_a_refresh_stays_asked_for(session, run, cloudwatch):
    gather.refresh(session, run, Silent(), MetricsRecord(namespaces=["Shop"], statistics=["p99"]))
    assert "lists none of this lab" in missing(run)["metrics of namespace Shop"]
    cloudwatch.listed = [
        {"Namespace": "Shop", "MetricName": "latency", "Dimensions": [{"Name": "InstanceId", "Value": "i-a"}]}
    ]
    gather.refresh(session, run, Silent(), MetricsRecord(namespaces=["Other"]))
    still = {what for what in missing(run) if what.startswith(gather.NAMESPACE)}
    assert still == {"metrics of namespace Other"}, "what was missing has come"
    assert {row["statistic"] for row in rows(run, namespace="Shop", host="a")} >= {"Average", "p99"}
    assert ("Shop", "latency", "Average", 60) not in cloudwatch.asked
    assert run.read().metrics == MetricsRecord(namespaces=["Shop", "Other"], statistics=["p99"])


def test_a_period_that_is_not_given_again_stays():
    before = MetricsRecord(namespaces=["a"], period_s=5)
    assert gather.joined(before, MetricsRecord(namespaces=["b"])).period_s == 5
    assert gather.joined(before, MetricsRecord(period_s=60)).period_s == 60


def test_a_list_that_is_refused_leaves_the_rest(session, run, cloudwatch):
    cloudwatch.denied = True
    gather.refresh(session, run, Silent(), MetricsRecord(namespaces=["Shop"]))
    assert "AccessDenied" in missing(run)["metrics of namespace Shop"]
    assert rows(run, namespace="AWS/EC2")


def test_a_window_that_cloudwatch_has_forgotten_is_said(session, run):
    record = run.read()
    record.window_start -= timedelta(days=500)
    record.window_end -= timedelta(days=500)
    run.write(record)
    gather.refresh(session, run, Silent())
    assert "CloudWatch keeps nothing of" in missing(run)["CloudWatch metrics"]


def test_what_cloudwatch_takes_for_its_answers_is_added_to_the_runs_cost(session, run, cloudwatch):
    record = run.read()
    record.cost["usd"] = 0.5
    run.write(record)
    gather.refresh(session, run, Silent())
    metrics = {each[:2] for each in cloudwatch.asked}
    first = len(metrics) * 0.01 / 1000
    assert len(cloudwatch.asked) > len(metrics) > 20  # several statistics of each
    assert run.read().cost == {"usd": pytest.approx(0.5 + first), "usd_metrics": pytest.approx(first)}

    cloudwatch.listed = [
        {"Namespace": "Shop", "MetricName": "latency", "Dimensions": [{"Name": "InstanceId", "Value": "i-a"}]}
    ]
    gather.refresh(session, run, Silent(), MetricsRecord(namespaces=["Shop"], statistics=["p50", "p90", "p99"]))
    asked = {stat for namespace, _, stat, _ in cloudwatch.asked if namespace == "Shop"}
    assert len(asked) == 7  # billed as two metrics
    both = first + (len(metrics) + 2) * 0.01 / 1000
    assert run.read().cost == {"usd": pytest.approx(0.5 + both), "usd_metrics": pytest.approx(both)}
