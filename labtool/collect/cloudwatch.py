"""Pull the hosts' CloudWatch metrics of a window with as few requests as GetMetricData allows.

A plan of queries comes first (a pure value), cut into batches of 500; then each batch is asked, page after page, and
its answer kept as it came in `raw/cloudwatch/`. Data settles for some minutes: `pull` may be called again, and later
answers win where tables are made (`labtool.dataset.cloudwatch`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from labtool.collect.catalogue import METRICS, NAMESPACE, STATISTICS, CatalogueMetric
from labtool.dataset import compressed
from labtool.dataset.cloudwatch import FOLDER, Answer, Query, write
from labtool.dataset.run import Missing, RunDirectory
from labtool.errors import CloudError

QUERIES_PER_REQUEST = 500
POINTS_PER_REQUEST = 100_800
"""https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricData.html"""


class MetricClient(Protocol):
    """What is used of boto3's CloudWatch client."""

    def get_metric_data(self, **kwargs: Any) -> Any:
        """Answer up to 500 queries."""
        ...


class Instance(Protocol):
    """What is asked about: a host of a lab, or of a run's record."""

    @property
    def name(self) -> str:
        """The host's name."""

    @property
    def instance_id(self) -> str:
        """EC2's id of it."""


@dataclass(frozen=True)
class Plan:
    """The queries of a pull and the time they are about, aligned so that every period in it is whole."""

    start: datetime
    end: datetime
    queries: tuple[Query, ...]

    @property
    def batches(self) -> list[tuple[Query, ...]]:
        """The queries of each request."""
        return [
            self.queries[first : first + QUERIES_PER_REQUEST]
            for first in range(0, len(self.queries), QUERIES_PER_REQUEST)
        ]


def plan(
    hosts: Sequence[Instance],
    start: datetime,
    end: datetime,
    *,
    period_s: int = 60,
    metrics: Sequence[CatalogueMetric] = METRICS,
) -> Plan:
    """Return the queries for all `metrics` of all `hosts` over the window.

    `period_s` is 60 where monitoring is detailed and 300 where it is basic. The window is widened to whole periods,
    and to whole five minutes for the metrics that have no finer.
    """
    if period_s < 60 or period_s % 60:
        raise CloudError(f"a period of {period_s} s: EC2's metrics have 60 (detailed monitoring) or 300 (basic)")
    queries = tuple(
        Query(
            host.name, host.instance_id, NAMESPACE, metric.name, statistic, metric.unit, max(period_s, metric.finest_s)
        )
        for host in hosts
        for metric in metrics
        for statistic in STATISTICS
    )
    step = max((query.period_s for query in queries), default=period_s)
    first = math.floor(start.timestamp() / step) * step
    last = math.ceil(end.timestamp() / step) * step
    return Plan(datetime.fromtimestamp(first, UTC), datetime.fromtimestamp(last, UTC), queries)


def pull(client: MetricClient, wanted: Plan, directory: RunDirectory, *, now: datetime | None = None) -> list[Missing]:
    """Ask for all of `wanted`, keep the answers in `raw/cloudwatch/`, and return what CloudWatch could not say.

    A batch that fails leaves those that were answered. `now` names the files: a later pull's answers win.
    """
    folder = directory.raw / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    stamp = (now or datetime.now(UTC)).astimezone(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    missing: list[Missing] = []
    for number, batch in enumerate(wanted.batches):
        pages: list[dict[str, Any]] = []
        try:
            for page in _pages(client, wanted, batch):
                pages.append(page)
        except Exception as error:
            if not _of_botocore(error):
                raise
            missing.append(Missing(what="CloudWatch metrics", why=f"request {number + 1}: {error}"))
        if pages:
            answer = Answer(wanted.start, wanted.end, batch, tuple(pages))
            compressed.write(folder / f"{stamp}-{number:03d}.json.zst", write(answer))
            missing += _said(answer)
    return missing


def _pages(client: MetricClient, wanted: Plan, batch: Sequence[Query]) -> Iterator[dict[str, Any]]:
    request: dict[str, Any] = {
        "MetricDataQueries": [
            {
                "Id": f"q{number}",
                "ReturnData": True,
                "MetricStat": {
                    "Metric": {
                        "Namespace": query.namespace,
                        "MetricName": query.metric,
                        "Dimensions": [{"Name": "InstanceId", "Value": query.instance_id}],
                    },
                    "Period": query.period_s,
                    "Stat": query.statistic,
                },
            }
            for number, query in enumerate(batch)
        ],
        "StartTime": wanted.start,
        "EndTime": wanted.end,
        "ScanBy": "TimestampAscending",
        "MaxDatapoints": POINTS_PER_REQUEST,
    }
    while True:
        answer = dict(client.get_metric_data(**request))
        answer.pop("ResponseMetadata", None)
        yield answer
        if not answer.get("NextToken"):
            return
        request["NextToken"] = answer["NextToken"]


def _said(answer: Answer) -> list[Missing]:
    """Return CloudWatch's own complaints: its messages, and the queries that it did not complete."""
    found = {f"{message.get('Code', '')}: {message.get('Value', '')}" for message in answer.messages()}
    failed: dict[str, str] = {}
    for query, result in answer.results():
        status = result.get("StatusCode", "Complete")
        # PartialData is how a query says that more pages follow; the last page has Complete.
        if status in ("InternalError", "Forbidden"):
            failed[query.host] = status
    return [Missing(what="CloudWatch metrics", why=text) for text in sorted(found)] + [
        Missing(what="CloudWatch metrics", host=host, why=f"CloudWatch answered {status}")
        for host, status in sorted(failed.items())
    ]


def _of_botocore(error: Exception) -> bool:
    from botocore.exceptions import BotoCoreError, ClientError

    return isinstance(error, (BotoCoreError, ClientError))
