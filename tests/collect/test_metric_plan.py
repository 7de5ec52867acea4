"""What is asked of CloudWatch: which metrics, in which periods, in how few requests."""

from __future__ import annotations

import itertools
import math
from datetime import UTC, datetime, timedelta
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labtool.collect import catalogue
from labtool.collect.catalogue import EBS_METRICS, EC2_METRICS, Needs, is_extended, published
from labtool.collect.metric_plan import Listed, kept_period, pack, pages, plan, valid_period
from labtool.errors import CloudError, UsageError

START = datetime(2026, 7, 1, 12, 0, 20, tzinfo=UTC)
END = datetime(2026, 7, 1, 12, 30, 10, tzinfo=UTC)
DAY = timedelta(days=1)


def listed(amount, host="a"):
    return [Listed(host, f"i-{host}", "mine", f"m{n}", (("InstanceId", f"i-{host}"),)) for n in range(amount)]


def names(made, namespace="AWS/EC2"):
    return {query.metric for query in made.queries if query.namespace == namespace}


# The number of requests


@pytest.mark.parametrize(
    ("hosts", "metrics", "minutes", "requests"),
    [
        (1, 1, 60, 1),
        (5, 25, 60, 1),
        (100, 24, 60, 20),  # 9,600 queries; with the average asked for it would be 24
        (100, 24, 480, 46),  # 4,608,000 points, 100,800 a page
        (100, 24, 15 * 1440 - 10, 2058),
    ],
)
def test_the_requests_are_as_few_as_the_limits_allow(hosts, metrics, minutes, requests):
    end = START.replace(second=0)
    start = end - timedelta(minutes=minutes)
    made = plan([], start, end, listed=[m for n in range(hosts) for m in listed(metrics, f"h{n}")], now=end)
    queries, points = hosts * metrics * 4, hosts * metrics * 4 * minutes
    floor = max(math.ceil(queries / 500), math.ceil(points / 100_800))
    assert made.requests == requests
    assert floor <= made.requests <= floor * 1.001 + 1
    assert all(len(batch) <= 500 for batch in made.batches)
    assert tuple(itertools.chain.from_iterable(made.batches)) == made.queries


items = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 25)), max_size=9)


@given(items)
def test_no_cut_takes_fewer_pages(sizes):
    @cache
    def fewest(first):
        if first == len(sizes):
            return 0
        return min(
            cost(sizes[first:last]) + fewest(last)
            for last in range(first + 1, len(sizes) + 1)
            if sum(queries for queries, _ in sizes[first:last]) <= 5
        )

    def cost(batch):
        return max(1, math.ceil(sum(points for _, points in batch) / 20))

    ends = pack(sizes, 5, 20)
    batches = [sizes[first:last] for first, last in itertools.pairwise([0, *ends])]
    assert list(itertools.chain.from_iterable(batches)) == sizes
    assert all(batch and sum(queries for queries, _ in batch) <= 5 for batch in batches)
    assert sum(map(cost, batches)) == fewest(0)


@given(st.lists(st.integers(1, 500), min_size=1, max_size=60))
def test_short_windows_take_a_request_for_each_500_queries(counts):
    ends = pack([(count, count) for count in counts])
    assert len(ends) >= math.ceil(sum(counts) / 500)
    if set(counts) <= {1, 2, 4, 5}:
        assert len(ends) <= math.ceil(sum(counts) / 496)


def test_a_metrics_statistics_are_never_torn_apart():
    made = plan([], START, END, listed=listed(300), statistics=("p50", "p90", "p99"), now=END)
    places = {}
    for number, batch in enumerate(made.batches):
        for query in batch:
            places.setdefault(query.metric, set()).add(number)
    assert len(made.batches) == math.ceil(300 / (500 // 7))
    assert all(len(batches) == 1 for batches in places.values())


def test_a_page_is_counted_where_it_begins():
    assert [pages(points) for points in (0, 1, 100_800, 100_801)] == [1, 1, 1, 2]


# Which metrics


def test_a_burstable_host_has_credits_and_no_instance_store(record):
    made = plan([record("a", "t3.small")], START, END, now=END)
    assert {"CPUCreditBalance", "CPUSurplusCreditsCharged", "EBSReadBytes", "MetadataNoTokenRejected"} <= names(made)
    assert not {"DiskReadBytes", "DiskWriteOps"} & names(made)
    assert names(plan([record("a", "m5d.large")], START, END, now=END)) == {
        metric.name for metric in EC2_METRICS if metric.needs is not Needs.BURSTABLE
    }


@pytest.mark.parametrize(
    ("instance_type", "nitro", "burstable", "store"),
    [
        ("t3.micro", True, True, False),
        ("t4g.micro", True, True, False),
        ("t2.micro", False, True, False),
        ("m5.large", True, False, False),
        ("m5dn.large", True, False, True),
        ("c7gd.large", True, False, True),
        ("c7i-flex.large", True, False, False),
        ("m8g.large", True, False, False),
        ("r4.large", False, False, False),
        ("m4.large", False, False, False),
        ("c3.large", False, False, True),
        ("i3.large", False, False, True),
        ("i3.metal", True, False, True),
        ("i4i.large", True, False, True),
        ("p3.2xlarge", False, False, True),
        ("p3dn.24xlarge", True, False, True),
    ],
)
def test_what_a_type_has(instance_type, nitro, burstable, store):
    found = [published(instance_type, needs) for needs in (Needs.NITRO, Needs.BURSTABLE, Needs.INSTANCE_STORE)]
    # Without an instance store for sure, or perhaps with one.
    assert found == [nitro, burstable, store]
    assert published(instance_type, Needs.ANY)


def test_volumes_are_asked_for_by_the_dimensions_they_are_published_with(record):
    made = plan([record("a", volumes=["vol-1", "vol-2"])], START, END, now=END)
    asked = {(query.metric, query.dimensions) for query in made.queries if query.namespace == "AWS/EBS"}
    assert len(asked) == 2 * len(EBS_METRICS)
    assert ("VolumeReadOps", (("VolumeId", "vol-1"),)) in asked
    assert ("VolumeStalledIOCheck", (("InstanceId", "i-a"), ("VolumeId", "vol-2"))) in asked
    old = plan([record("a", "m4.large", volumes=["vol-1"])], START, END, now=END)
    assert "VolumeQueueLength" in names(old, "AWS/EBS") and "VolumeAvgReadLatency" not in names(old, "AWS/EBS")


def test_no_metric_is_in_the_catalogue_twice():
    for metrics in (EC2_METRICS, EBS_METRICS):
        assert len({metric.name for metric in metrics}) == len(metrics)
    assert set(catalogue.ASKED) | {"Average"} == set(catalogue.STATISTICS)


# Periods


def test_basic_monitoring_is_asked_for_every_five_minutes(record):
    periods = {
        (host, query.metric): query.period_s
        for host, query in (
            (query.host, query)
            for query in plan(
                [record("a", "t3.small", detailed_monitoring=False), record("b", "t3.small", detailed_monitoring=True)],
                START,
                END,
                now=END,
            ).queries
        )
    }
    assert [periods["a", name] for name in ("CPUUtilization", "StatusCheckFailed", "CPUCreditUsage")] == [300, 60, 300]
    assert [periods["b", name] for name in ("CPUUtilization", "StatusCheckFailed", "CPUCreditUsage")] == [60, 60, 300]


@pytest.mark.parametrize(
    ("age", "wanted", "period"),
    [
        (timedelta(hours=2), 1, 1),
        (timedelta(hours=2), 10, 10),
        (timedelta(hours=4), 10, 60),
        (timedelta(hours=4), 60, 60),
        (14 * DAY, 60, 60),
        (16 * DAY, 60, 300),
        (16 * DAY, 600, 600),
        (62 * DAY, 60, 300),
        (64 * DAY, 60, 3600),
        (454 * DAY, 60, 3600),
    ],
)
def test_the_period_is_the_shortest_that_is_still_kept(age, wanted, period):
    assert kept_period(wanted, START - age, START) == period


def test_what_is_not_kept_any_more_is_an_error(record):
    with pytest.raises(CloudError, match="keeps nothing of 2025-"):
        plan([record("a")], START - 460 * DAY, START - 459 * DAY, now=START)


@pytest.mark.parametrize("period", [0, 2, 45, 90, 420, 7200])
def test_a_period_that_cloudwatch_has_not_is_refused(period):
    with pytest.raises(UsageError, match=f"a period of {period} s"):
        valid_period(period)


@given(
    st.integers(0, 10**6),
    st.integers(1, 10**6),
    st.sampled_from([1, 5, 10, 20, 30, 60, 120, 300, 900, 3600]),
    st.integers(0, 100),
)
def test_a_window_is_widened_to_whole_periods_by_less_than_one(begin, length, period, days):
    start = datetime.fromtimestamp(1.79e9 + begin, UTC)
    end = start + timedelta(seconds=length)
    made = plan([], start, end, listed=listed(2), period_s=period, now=end + timedelta(days=days))
    step = max(60, made.queries[0].period_s)
    assert made.start <= start < made.start + timedelta(seconds=step)
    assert made.end - timedelta(seconds=step) < end <= made.end
    for query in made.queries:
        assert made.start.timestamp() % query.period_s == made.end.timestamp() % query.period_s == 0
        assert made.points(query) * query.period_s == (made.end - made.start).total_seconds()


# Statistics


def test_percentiles_are_asked_for_where_a_period_can_hold_several_points(record):
    def asked(host, **more):
        made = plan([record("a")], START, END, listed=listed(1), statistics=("p99",), **more)
        return {query.namespace for query in made.queries if query.statistic == "p99"}

    assert asked("a", now=END) == {"mine"}
    assert asked("a", now=END + 20 * DAY) == {"mine", "AWS/EC2"}, "minutes merged to five have five points"


@pytest.mark.parametrize(
    "name", ["p99", "p99.9", "p0", "p100", "tm90", "wm95", "IQM", "TM(2%:98%)", "PR(:300)", "tc90"]
)
def test_statistics_of_single_values(name):
    assert is_extended(name)


@pytest.mark.parametrize("name", ["p101", "99", "Average", "P99", "tm", "TM(2:98", "median", "p-1"])
def test_what_is_no_statistic(name):
    assert not is_extended(name)
    with pytest.raises(UsageError):
        plan([], START, END, statistics=(name,), now=END)
