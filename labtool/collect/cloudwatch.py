"""Pull the CloudWatch metrics of a window as planned (`labtool.collect.metric_plan`), below the rates it admits.

Each batch is asked, page after page, and its answer kept as it came in `raw/cloudwatch/`. Data settles for some
minutes: `pull` may be called again, and later answers win where tables are made (`labtool.dataset.cloudwatch`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from labtool.collect.metric_plan import POINTS_PER_REQUEST, Plan
from labtool.collect.rate import Rate
from labtool.dataset import compressed
from labtool.dataset.cloudwatch import FOLDER, Answer, Query, write
from labtool.dataset.run import Missing, RunDirectory

SIDE_BY_SIDE = 4
"""Requests under way: enough that the rate limit and not the way there and back sets the pace."""


class MetricClient(Protocol):
    """What is used of boto3's CloudWatch client."""

    def get_metric_data(self, **kwargs: Any) -> Any:
        """Answer up to 500 queries."""
        ...


def pull(
    client: MetricClient,
    wanted: Plan,
    directory: RunDirectory,
    *,
    now: datetime | None = None,
    rate: Rate | None = None,
) -> list[Missing]:
    """Ask for all of `wanted`, keep the answers in `raw/cloudwatch/`, and return what CloudWatch could not say.

    A batch that fails leaves those that were answered. `now` names the files: a later pull's answers win.
    """
    folder = directory.raw / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    stamp = (now or datetime.now(UTC)).astimezone(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    limit = rate or Rate()

    def one(numbered: tuple[int, Sequence[Query]]) -> list[Missing]:
        number, batch = numbered
        return _ask(client, wanted, batch, limit, folder / f"{stamp}-{number:03d}.json.zst", number)

    pool = ThreadPoolExecutor(SIDE_BY_SIDE)
    try:
        return [missing for found in pool.map(one, enumerate(wanted.batches)) for missing in found]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _ask(
    client: MetricClient, wanted: Plan, batch: Sequence[Query], rate: Rate, file: Path, number: int
) -> list[Missing]:
    pages: list[dict[str, Any]] = []
    missing: list[Missing] = []
    try:
        for page in _pages(client, wanted, batch, rate):
            pages.append(page)
    except Exception as error:
        if not _of_botocore(error):
            raise
        missing.append(Missing(what="CloudWatch metrics", why=f"request {number + 1}: {error}"))
    if pages:
        answer = Answer(wanted.start, wanted.end, tuple(batch), tuple(pages))
        compressed.write(file, write(answer))
        missing += _said(answer)
    return missing


def _pages(client: MetricClient, wanted: Plan, batch: Sequence[Query], rate: Rate) -> Iterator[dict[str, Any]]:
    request: dict[str, Any] = {
        "MetricDataQueries": [
            {
                "Id": f"q{number}",
                "ReturnData": True,
                "MetricStat": {
                    "Metric": {
                        "Namespace": query.namespace,
                        "MetricName": query.metric,
                        "Dimensions": [{"Name": name, "Value": value} for name, value in query.dimensions],
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
    left = sum(map(wanted.points, batch))
    while True:
        rate.wait(min(left, POINTS_PER_REQUEST))
        left = max(0, left - POINTS_PER_REQUEST)
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
