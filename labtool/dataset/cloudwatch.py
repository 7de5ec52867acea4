"""CloudWatch's answers as kept in `raw/cloudwatch/*.json.zst`, and the `cloudwatch` table made of them.

A file is one batch of queries with its pages as they came; its name begins with the time of the pull, and of two
answers about the same point the later wins. Averages that were not asked for are made here: a file has a metric's sum
and its sample count, or neither.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labtool.dataset import compressed, tables
from labtool.dataset.run import Missing
from labtool.dataset.tables import instant
from labtool.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

FOLDER = "cloudwatch"


@dataclass(frozen=True)
class Query:
    """One series that was asked for."""

    host: str
    instance_id: str
    namespace: str
    metric: str
    statistic: str
    unit: str  # from the catalogue: the answers do not have it
    period_s: int
    dimensions: tuple[tuple[str, str], ...] = ()  # none in runs that were kept before there were others than InstanceId

    @property
    def about(self) -> str:
        """The dimensions as they stand in the table: `InstanceId=i-1,VolumeId=vol-1`."""
        kept = self.dimensions or ((("InstanceId", self.instance_id),) if self.instance_id else ())
        return ",".join(f"{name}={value}" for name, value in kept)


@dataclass(frozen=True)
class Answer:
    """The pages that answered one batch; a result's Id is `q` and the number of its query."""

    start: datetime
    end: datetime
    queries: tuple[Query, ...]
    pages: tuple[Mapping[str, Any], ...]

    def results(self) -> Iterator[tuple[Query, Mapping[str, Any]]]:
        """Yield each result with its query; a query has one per page."""
        for page in self.pages:
            for result in page.get("MetricDataResults", ()):
                yield self.queries[int(result["Id"][1:])], result

    def messages(self) -> Iterator[Mapping[str, Any]]:
        """Yield what CloudWatch said besides the data."""
        for page in self.pages:
            yield from page.get("Messages", ())
            for result in page.get("MetricDataResults", ()):
                yield from result.get("Messages", ())


def write(answer: Answer) -> bytes:
    """Return an answer as JSON."""
    value = {
        "start": answer.start,
        "end": answer.end,
        "queries": [asdict(query) for query in answer.queries],
        "pages": answer.pages,
    }
    return json.dumps(value, default=_text).encode()


@functools.lru_cache(maxsize=200_000)
def _text(time: datetime) -> str:
    """Return a time as it is kept; the series of an answer share theirs."""
    return time.astimezone(UTC).isoformat()


def read(path: Path) -> Answer:
    """Read a kept answer; `DataError` names the file and what is wrong."""
    try:
        found = json.loads(compressed.read(path))
        start, end = instant(found["start"]), instant(found["end"])
        if start is None or end is None:
            raise ValueError("no start or end")
        return Answer(start, end, tuple(map(_query, found["queries"])), tuple(found["pages"]))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: {error!r}", "pull it again, or remove the file") from None


def _query(kept: Mapping[str, Any]) -> Query:
    dimensions = tuple((str(name), str(value)) for name, value in kept.get("dimensions", ()))
    return Query(**{**kept, "dimensions": dimensions})


def series(answer: Answer) -> dict[Query, dict[str, float]]:
    """Return an answer's values by the time of their periods, with the averages that follow from them."""
    points: dict[Query, dict[str, float]] = {query: {} for query in answer.queries}
    for query, result in answer.results():
        points[query].update(zip(result["Timestamps"], result["Values"], strict=True))
    for total in [query for query in points if query.statistic == "Sum"]:
        counts = points.get(replace(total, statistic="SampleCount"))
        average = replace(total, statistic="Average")
        if counts is not None and average not in points:
            points[average] = {
                when: value / counts[when] for when, value in points[total].items() if counts.get(when, 0.0) > 0
            }
    return points


def table(raw: Path, start: datetime, end: datetime) -> tuple[pa.Table, list[Missing]]:
    """Return the `cloudwatch` table of the points whose period meets (start, end), and what could not be read."""
    points: dict[Query, dict[str, float]] = {}
    missing: list[Missing] = []
    for file in sorted((raw / FOLDER).glob(f"*.json{compressed.SUFFIX}")):
        try:
            for query, values in series(read(file)).items():
                points.setdefault(query, {}).update(values)
        except (DataError, ValueError, KeyError, IndexError) as error:
            why = error.message if isinstance(error, DataError) else repr(error)
            missing.append(Missing(what=f"raw/{FOLDER}/{file.name}", why=why))
    return _rows(points, start, end), missing


def _rows(points: Mapping[Query, Mapping[str, float]], start: datetime, end: datetime) -> pa.Table:
    import pyarrow as pa

    micros = {when: _micros(when) for series in points.values() for when in series}
    first, last = start.timestamp() * 1e6, end.timestamp() * 1e6
    times: list[int] = []
    values: list[float] = []
    queries: list[Query] = []
    for query in sorted(points, key=_order):
        series = sorted((micros[when], value) for when, value in points[query].items())
        inside = [(at, value) for at, value in series if at + query.period_s * 1_000_000 > first and at < last]
        times += [at for at, _ in inside]
        values += [float(value) for _, value in inside]
        queries += [query] * len(inside)
    return pa.table(
        {
            "time": pa.array(times, pa.int64()).cast(pa.timestamp("us", tz="UTC")),
            "host": [query.host for query in queries],
            "instance_id": [query.instance_id for query in queries],
            "namespace": [query.namespace for query in queries],
            "dimensions": [query.about for query in queries],
            "metric": [query.metric for query in queries],
            "statistic": [query.statistic for query in queries],
            "unit": [query.unit for query in queries],
            "period_s": [query.period_s for query in queries],
            "value": values,
        },
        schema=tables.arrow_schema("cloudwatch"),
    )


def _order(query: Query) -> tuple[str, str, str, str, str, int]:
    return query.host, query.namespace, query.metric, query.about, query.statistic, query.period_s


def _micros(when: str) -> int:
    return round(datetime.fromisoformat(when).timestamp() * 1e6)
