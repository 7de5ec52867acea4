"""What to ask CloudWatch: which queries, over which periods, and in how few GetMetricData requests.

Pure values, made before anything is asked. A metric's statistics stay in one request: they bill as one there, and its
average is made of two of them.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Protocol

from labtool.collect.catalogue import ASKED, EBS, EBS_METRICS, EC2, EC2_METRICS, CatalogueMetric, is_extended, published
from labtool.dataset.cloudwatch import Query
from labtool.errors import CloudError, UsageError

QUERIES_PER_REQUEST = 500
POINTS_PER_REQUEST = 100_800
"""https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html"""

RETENTION = ((1, 3 * 3600), (60, 15 * 86400), (300, 63 * 86400), (3600, 455 * 86400))
"""(finest period in s, age in s up to which it is kept)."""

SUB_MINUTE = (1, 5, 10, 20, 30)


class Instance(Protocol):
    """What is asked about: a host of a run's record."""

    @property
    def name(self) -> str:
        """The host's name."""

    @property
    def instance_id(self) -> str:
        """EC2's id of it."""

    @property
    def instance_type(self) -> str:
        """EC2's type of it."""

    @property
    def volumes(self) -> Sequence[str]:
        """The ids of its volumes."""

    @property
    def detailed_monitoring(self) -> bool | None:
        """Whether it has a point a minute; None, where it is not known, is asked as if it had."""


@dataclass(frozen=True)
class Listed:
    """A metric outside of the catalogue, as ListMetrics showed it; `host` is '' if it names none."""

    host: str
    instance_id: str
    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Plan:
    """The queries of a pull and the time they are about, aligned so that every period in it is whole.

    The queries of a metric follow each other.
    """

    start: datetime
    end: datetime
    queries: tuple[Query, ...]

    def points(self, query: Query) -> int:
        """Return how many points the answer to a query has at most."""
        return math.ceil((self.end - self.start).total_seconds() / query.period_s)

    @cached_property
    def batches(self) -> list[tuple[Query, ...]]:
        """The queries of each request, and of the pages that follow it."""
        metrics = [tuple(group) for _, group in itertools.groupby(self.queries, key=_metric)]
        ends = pack([(len(metric), sum(map(self.points, metric))) for metric in metrics])
        return [
            tuple(itertools.chain.from_iterable(metrics[first:last])) for first, last in itertools.pairwise([0, *ends])
        ]

    @property
    def requests(self) -> int:
        """How many requests it takes, pages included, if every point is there."""
        return sum(pages(sum(map(self.points, batch))) for batch in self.batches)


def pages(points: int) -> int:
    """Return how many answers a batch with so many points has."""
    return max(1, math.ceil(points / POINTS_PER_REQUEST))


def pack(
    sizes: Sequence[tuple[int, int]], most_queries: int = QUERIES_PER_REQUEST, most_points: int = POINTS_PER_REQUEST
) -> list[int]:
    """Cut items of (queries, points), in their order, into batches; return where each ends.

    A batch has at most `most_queries` and is answered in a page for each `most_points` begun. No other cut of the
    same order takes fewer pages: what `n` pages can cover at most follows from what fewer can, since a batch that
    begins later never costs more. An item of more queries than that is a `ValueError`.
    """
    if any(queries > most_queries for queries, _ in sizes):
        raise ValueError(f"a metric with more than {most_queries} statistics")
    queries = [0, *itertools.accumulate(size[0] for size in sizes)]
    points = [0, *itertools.accumulate(size[1] for size in sizes)]
    covered, before = [0], [0]  # by so many pages; how many of them the last batch has
    while covered[-1] < len(sizes):
        best = (0, -1)
        for amount in range(1, len(covered) + 1):
            first = covered[-amount]
            by_points = bisect.bisect_right(points, points[first] + amount * most_points) - 1
            by_queries = bisect.bisect_right(queries, queries[first] + most_queries) - 1
            best = max(best, (min(by_points, by_queries), -amount))
            if by_points >= by_queries:
                break
        covered.append(best[0])
        before.append(-best[1])
    ends, at = set(), len(covered) - 1
    while at > 0:
        ends.add(covered[at])
        at -= before[at]
    return sorted(ends - {0})


def valid_period(period_s: int) -> int:
    """Return a period that CloudWatch has, in s; `UsageError` for another."""
    if period_s in SUB_MINUTE or (period_s >= 60 and 3600 % period_s == 0 and period_s % 60 == 0):
        return period_s
    raise UsageError(
        f"a period of {period_s} s", f"{', '.join(map(str, SUB_MINUTE))}, or whole minutes that make up an hour"
    )


def kept_period(wanted_s: int, start: datetime, now: datetime) -> int:
    """Return the shortest period of at least `wanted_s` that CloudWatch still has of a window from `start` on.

    `CloudError` where it has nothing any more, `UsageError` where no metric has such a period.
    """
    valid_period(wanted_s)
    age = (now - start).total_seconds()
    for finest_s, until_s in RETENTION:
        if age <= until_s:
            return wanted_s if wanted_s < 60 and finest_s == 1 else math.ceil(wanted_s / finest_s) * finest_s
    raise CloudError(f"CloudWatch keeps nothing of {start:%Y-%m-%d}: its longest retention is 455 days")


def plan(
    hosts: Sequence[Instance],
    start: datetime,
    end: datetime,
    *,
    listed: Sequence[Listed] = (),
    statistics: Sequence[str] = (),
    period_s: int = 60,
    now: datetime | None = None,
) -> Plan:
    """Return the queries for all metrics of all `hosts` and their volumes, and the `listed` ones, over the window.

    A catalogue metric is asked for in the period it is published in, a listed one every `period_s`; both in a longer
    one where CloudWatch has merged them by `now` (default: the present). `statistics` such as p99 are asked for where
    a period can hold more than one point. The window is widened to whole periods.
    """
    for name in statistics:
        if not is_extended(name):
            raise UsageError(f"{name!r} is no statistic of CloudWatch's", "for example p99, tm90, TM(2%:98%), PR(:300)")
    now = now or datetime.now(UTC)
    # Sorted by their periods, so that requests are filled evenly.
    queries = sorted(
        itertools.chain(
            _of_catalogue(hosts, statistics, start, now), _of_listed(listed, statistics, period_s, start, now)
        ),
        key=lambda query: query.period_s,
    )
    step = math.lcm(60, *{query.period_s for query in queries})
    first = math.floor(start.timestamp() / step) * step
    last = math.ceil(end.timestamp() / step) * step
    return Plan(datetime.fromtimestamp(first, UTC), datetime.fromtimestamp(last, UTC), tuple(queries))


def _of_catalogue(
    hosts: Sequence[Instance], statistics: Sequence[str], start: datetime, now: datetime
) -> Iterator[Query]:
    for host in hosts:
        instance = ("InstanceId", host.instance_id)
        detailed = host.detailed_monitoring is not False
        for metric in EC2_METRICS:
            if published(host.instance_type, metric.needs):
                yield from _queries(host, EC2, metric, (instance,), statistics, detailed, start, now)
        for volume in host.volumes:
            for metric in EBS_METRICS:
                if published(host.instance_type, metric.needs):
                    about = ("VolumeId", volume)
                    dimensions = (instance, about) if metric.with_instance else (about,)
                    yield from _queries(host, EBS, metric, dimensions, statistics, detailed, start, now)


def _queries(
    host: Instance,
    namespace: str,
    metric: CatalogueMetric,
    dimensions: tuple[tuple[str, str], ...],
    statistics: Sequence[str],
    detailed: bool,
    start: datetime,
    now: datetime,
) -> Iterator[Query]:
    own = metric.period_s(detailed=detailed)
    period = kept_period(own, start, now)
    # In its own period a metric has one point, of which every percentile is the same.
    for statistic in (*ASKED, *(statistics if period > own else ())):
        yield Query(host.name, host.instance_id, namespace, metric.name, statistic, metric.unit, period, dimensions)


def _of_listed(
    listed: Sequence[Listed], statistics: Sequence[str], period_s: int, start: datetime, now: datetime
) -> Iterator[Query]:
    for metric in listed:
        period = kept_period(period_s, start, now)
        for statistic in (*ASKED, *statistics):
            yield Query(
                metric.host, metric.instance_id, metric.namespace, metric.name, statistic, "", period, metric.dimensions
            )


def _metric(query: Query) -> tuple[object, ...]:
    return query.host, query.namespace, query.metric, query.dimensions, query.period_s
