"""The store of metrics: one SQLite file, one row for each metric, unit and second (or minute).

A row is a statistic set: sum, minimum, maximum and count of what was put for that time. Reading costs by the
rows of the window, not by those stored: rows lie in the order (metric, time). Retention is CloudWatch's: points
of under a minute 3 hours, of a minute 15 days, of 5 minutes 63 days, of an hour 455 days; older ones are merged
into the next coarser.
"""

from __future__ import annotations

import array
import itertools
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

UNITS = (
    "None", "Seconds", "Microseconds", "Milliseconds", "Bytes", "Kilobytes", "Megabytes", "Gigabytes", "Terabytes",
    "Bits", "Kilobits", "Megabits", "Gigabits", "Terabits", "Percent", "Count", "Bytes/Second", "Kilobytes/Second",
    "Megabytes/Second", "Gigabytes/Second", "Terabytes/Second", "Bits/Second", "Kilobits/Second", "Megabits/Second",
    "Gigabits/Second", "Terabits/Second", "Count/Second",
)  # fmt: skip
RETENTION = ((1, 3 * 3600), (60, 15 * 86400), (300, 63 * 86400), (3600, 455 * 86400))
"""(resolution in seconds, kept for seconds)."""
_FORGET_METRIC_S = 14 * 86400
_SPREAD_LIMIT = 1000

_SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE IF NOT EXISTS metric (
  id INTEGER PRIMARY KEY, namespace TEXT NOT NULL, name TEXT NOT NULL, dimensions TEXT NOT NULL,
  last INTEGER NOT NULL, UNIQUE (namespace, name, dimensions)
);
CREATE TABLE IF NOT EXISTS datum (
  metric INTEGER NOT NULL, time INTEGER NOT NULL, unit INTEGER NOT NULL,
  sum REAL NOT NULL, min REAL NOT NULL, max REAL NOT NULL, count REAL NOT NULL, spread BLOB,
  PRIMARY KEY (metric, time, unit)
) WITHOUT ROWID;
"""
_UPSERT = """
INSERT INTO datum VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (metric, time, unit) DO UPDATE SET
  spread = merge_spreads(spread, min, max, count, excluded.spread, excluded.min, excluded.max, excluded.count),
  sum = sum + excluded.sum, min = min(min, excluded.min), max = max(max, excluded.max),
  count = count + excluded.count
"""
_READ = """
SELECT time, sum, min, max, count FROM datum
WHERE metric = ? AND time >= ? AND time < ? AND (? IS NULL OR unit = ?) ORDER BY time
"""
_READ_SLOTS = """
SELECT ? + (time - ?) / ? * ? AS slot, sum(sum), min(min), max(max), sum(count) FROM datum
WHERE metric = ? AND time >= ? AND time < ? AND (? IS NULL OR unit = ?) GROUP BY slot ORDER BY slot
"""
_READ_SPREADS = """
SELECT ? + (time - ?) / ? * ? AS slot, min, max, count, spread FROM datum
WHERE metric = ? AND time >= ? AND time < ? AND (? IS NULL OR unit = ?) ORDER BY slot
"""
_MERGE = """
INSERT INTO datum
SELECT metric, time / :coarse * :coarse, unit, sum(sum), min(min), max(max), sum(count), NULL FROM datum
WHERE time < :limit AND time % :coarse <> 0 GROUP BY 1, 2, 3
ON CONFLICT (metric, time, unit) DO UPDATE SET spread = NULL, sum = sum + excluded.sum,
  min = min(min, excluded.min), max = max(max, excluded.max), count = count + excluded.count
"""


class Metric(NamedTuple):
    """What identifies a metric; dimensions sorted by name."""

    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Datum:
    """One thing to store: a statistic set at a time (Unix seconds).

    `values` are the single values and their counts, where known: percentiles need them.
    """

    metric: Metric
    time: float
    sum: float
    min: float
    max: float
    count: float
    unit: str = "None"
    resolution: int = 60
    values: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True)
class Series:
    """Points of one metric in the order of time; columns of equal length."""

    times: Sequence[int]  # start of each period, Unix seconds
    sums: Sequence[float]
    mins: Sequence[float]
    maxs: Sequence[float]
    counts: Sequence[float]

    def __len__(self) -> int:
        return len(self.times)

    def reversed(self) -> Series:
        """Return the same points, newest first."""
        return Series(self.times[::-1], self.sums[::-1], self.mins[::-1], self.maxs[::-1], self.counts[::-1])

    def statistic(self, name: str) -> Sequence[float]:
        """Return SampleCount, Sum, Minimum, Maximum or Average of each point."""
        if name == "Average":
            return [total / count for total, count in zip(self.sums, self.counts, strict=True)]
        return {"SampleCount": self.counts, "Sum": self.sums, "Minimum": self.mins, "Maximum": self.maxs}[name]


EMPTY = Series((), (), (), (), ())


class Store:
    """Metrics on disk; safe to use from several threads."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._local = threading.local()
        self._writing = threading.Lock()
        self._ids: dict[Metric, int] = {}
        with self._connection() as connection:
            connection.executescript(_SCHEMA)
            for key, namespace, name, dimensions in connection.execute(
                "SELECT id, namespace, name, dimensions FROM metric"
            ):
                self._ids[_metric(namespace, name, dimensions)] = key

    def put(self, data: Iterable[Datum]) -> None:
        """Store `data`; what is there already for the same metric, time and unit is added to."""
        data = list(data)  # what is wrong with one is known before anything is written
        with self._writing, self._connection() as connection:
            rows = []
            touched: dict[int, int] = {}
            for datum in data:
                step = 1 if datum.resolution < 60 else 60
                when = int(datum.time // step * step)
                key = self._id(connection, datum.metric, when)
                touched[key] = max(touched.get(key, 0), when)
                spread = _pack(datum.values) if len(datum.values) > 1 else None
                rows.append((key, when, UNITS.index(datum.unit), datum.sum, datum.min, datum.max, datum.count, spread))
            connection.executemany(_UPSERT, rows)
            connection.executemany(
                "UPDATE metric SET last = max(last, ?) WHERE id = ?", [(when, key) for key, when in touched.items()]
            )

    def read(self, metric: Metric, start: int, end: int, period: int, unit: str | None = None) -> Series:
        """Return the points of `metric` in [start, end), one for each `period` seconds counted from `start`."""
        key = self._ids.get(metric)
        if key is None:
            return EMPTY
        code = None if unit is None else UNITS.index(unit)
        if period <= 60:
            rows = self._select(_READ, (key, start, end, code, code))
            if not rows:
                return EMPTY
            times = [row[0] for row in rows]
            if _on_grid(times, start, period):
                return Series(*zip(*rows, strict=True))
        rows = self._select(_READ_SLOTS, (start, start, period, period, key, start, end, code, code))
        return Series(*zip(*rows, strict=True)) if rows else EMPTY

    def unit(self, metric: Metric, start: int, end: int) -> str:
        """Return the unit of the points of `metric` in [start, end); `None`'s name if there is no point."""
        rows = self._select(
            "SELECT unit FROM datum WHERE metric = ? AND time >= ? AND time < ? LIMIT 1",
            (self._ids.get(metric), start, end),
        )
        return UNITS[rows[0][0]] if rows else "None"

    def percentile(
        self, metric: Metric, start: int, end: int, period: int, rank: float, unit: str | None = None
    ) -> tuple[list[int], list[float]]:
        """Return times and the `rank`-th percentiles (0–100); periods whose single values are unknown are left out."""
        return self.extended(metric, start, end, period, lambda known: weighted_percentile(known, rank), unit)

    def extended(
        self,
        metric: Metric,
        start: int,
        end: int,
        period: int,
        compute: Callable[[Sequence[tuple[float, float]]], float | None],
        unit: str | None = None,
    ) -> tuple[list[int], list[float]]:
        """Return times and what `compute` makes of each period's (value, count) pairs, as `percentile` does.

        As in CloudWatch, there is none where a value is negative or only a statistic set is known.
        """
        key = self._ids.get(metric)
        code = None if unit is None else UNITS.index(unit)
        rows = self._select(_READ_SPREADS, (start, start, period, period, key, start, end, code, code))
        times, values = [], []
        for slot, group in itertools.groupby(rows, key=lambda row: row[0]):
            known: list[tuple[float, float]] | None = []
            for _, low, high, count, spread in group:
                part = _spread(spread, low, high, count)
                known = None if part is None or known is None else known + part
            if known and min(value for value, _ in known) >= 0 and (made := compute(known)) is not None:
                times.append(int(slot))
                values.append(made)
        return times, values

    def metrics(
        self,
        namespace: str | None = None,
        name: str | None = None,
        dimensions: Sequence[tuple[str, str | None]] = (),
        since: float = 0.0,
    ) -> list[Metric]:
        """Return the metrics that match, in order; a dimension without a value matches every value."""
        rows = self._select(
            "SELECT namespace, name, dimensions FROM metric WHERE last >= ? AND (? IS NULL OR namespace = ?)"
            " AND (? IS NULL OR name = ?) ORDER BY namespace, name, dimensions",
            (since, namespace, namespace, name, name),
        )
        found = [_metric(*row) for row in rows]
        return [metric for metric in found if _has(metric, dimensions)]

    def expire(self, now: float | None = None) -> None:
        """Apply the retention: merge what is too old for its resolution, drop what is too old for any."""
        now = time.time() if now is None else now
        with self._writing, self._connection() as connection:
            for (_, kept), (coarse, _) in itertools.pairwise(RETENTION):
                limit = int(now - kept) // coarse * coarse
                connection.execute(_MERGE, {"coarse": coarse, "limit": limit})
                connection.execute(
                    "DELETE FROM datum WHERE time < :limit AND time % :coarse <> 0",
                    {"coarse": coarse, "limit": limit},
                )
            connection.execute("DELETE FROM datum WHERE time < ?", (int(now - RETENTION[-1][1]),))
            connection.execute(
                "DELETE FROM metric WHERE last < ? AND NOT EXISTS (SELECT 1 FROM datum WHERE metric = metric.id)",
                (int(now - _FORGET_METRIC_S),),
            )
            self._ids = {
                _metric(namespace, name, dimensions): key
                for key, namespace, name, dimensions in connection.execute(
                    "SELECT id, namespace, name, dimensions FROM metric"
                )
            }

    def count(self) -> int:
        """Return how many points are stored."""
        return int(self._select("SELECT count(*) FROM datum", ())[0][0])

    def close(self) -> None:
        """Close this thread's connection."""
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None

    def _id(self, connection: sqlite3.Connection, metric: Metric, when: int) -> int:
        key = self._ids.get(metric)
        if key is None:
            cursor = connection.execute(
                "INSERT INTO metric (namespace, name, dimensions, last) VALUES (?, ?, ?, ?)",
                (metric.namespace, metric.name, json.dumps(metric.dimensions), when),
            )
            key = self._ids[metric] = int(cursor.lastrowid or 0)
        return key

    def _select(self, sql: str, parameters: Sequence[object]) -> list[tuple]:  # type: ignore[type-arg]
        return self._connection().execute(sql, parameters).fetchall()

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self._file, timeout=30, check_same_thread=False)
            # Survives the process's death; a power cut may take the last second.
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA cache_size = -16000")
            connection.create_function("merge_spreads", 8, _merge_spreads, deterministic=True)
            self._local.connection = connection
        return connection


def weighted_percentile(values: Sequence[tuple[float, float]], rank: float) -> float:
    """Return the `rank`-th percentile of (value, count) pairs, linear between the nearest order statistics.

    The position is (n - 1) · rank/100, as Hyndman and Fan's definition 7.
    """
    ordered = sorted(values)
    total = sum(count for _, count in ordered)
    position = max(total - 1, 0) * rank / 100
    below, reached = ordered[0][0], 0.0
    for value, count in ordered:
        if position <= reached + count - 1:
            gap = reached - position
            return value if gap <= 0 else value - (value - below) * gap
        reached += count
        below = value
    return ordered[-1][0]


def _on_grid(times: Sequence[int], start: int, period: int) -> bool:
    if len(set(times)) != len(times):
        return False
    return period == 1 or not any((moment - start) % period for moment in times)


def _metric(namespace: str, name: str, dimensions: str) -> Metric:
    return Metric(namespace, name, tuple((key, value) for key, value in json.loads(dimensions)))


def _has(metric: Metric, wanted: Sequence[tuple[str, str | None]]) -> bool:
    own: Mapping[str, str] = dict(metric.dimensions)
    return all(name in own and value in (None, own[name]) for name, value in wanted)


def _pack(values: Sequence[tuple[float, float]]) -> bytes | None:
    merged: dict[float, float] = {}
    for value, count in values:
        merged[value] = merged.get(value, 0.0) + count
    if len(merged) > _SPREAD_LIMIT:
        return None
    return array.array("d", itertools.chain.from_iterable(sorted(merged.items()))).tobytes()


def _spread(packed: bytes | None, low: float, high: float, count: float) -> list[tuple[float, float]] | None:
    """Return the single values of a row; None if they are not known."""
    if packed is not None:
        flat = array.array("d", packed)
        return list(zip(flat[::2], flat[1::2], strict=True))
    return [(low, count)] if low == high else None


def _merge_spreads(*columns: object) -> bytes | None:
    first = _spread(*columns[:4])  # type: ignore[arg-type]
    second = _spread(*columns[4:])  # type: ignore[arg-type]
    if first is None or second is None:
        return None
    return _pack(first + second)
