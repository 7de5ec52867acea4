"""A run of `kafka-throughput` as OpenMessaging Benchmark (OMB) writes its results: the fields of its TestResult.java.

https://github.com/openmessaging/benchmark: latencies in ms, publish delays in µs, a value of each list every 10 s. What
was not measured is an empty list or an empty map; a single number is left out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from labtool.dataset import tables
from labtool.dataset.requests import decoded
from labtool.dataset.run import RunRecord

FILE = "RESULT.json"
PERIOD_S = 10.0
TICKS = 100
LEVELS = {"50pct": 0.5, "75pct": 0.75, "95pct": 0.95, "99pct": 0.99, "999pct": 0.999, "9999pct": 0.9999}
MEASURES = {"publishLatency": "service", "publishDelayLatency": "delay", "endToEndLatency": "end to end"}
"""Theirs and ours: `publishLatency` is from the send, the delay from when a record was due to its send."""

Row = Mapping[str, Any]


def of_run(folder: Path, record: RunRecord, workload: str, driver: str) -> dict[str, Any]:
    """Return the result of a run; `workload` and `driver` are what it calls them."""
    read = {
        name: tables.read(folder / "tables", name).to_pylist()
        for name in ("workload_intervals", "workload_summary", "workload_latencies")
    }
    return result(record, workload, driver, *read.values())


def result(
    record: RunRecord,
    workload: str,
    driver: str,
    intervals: Iterable[Row],
    summaries: Iterable[Row],
    latencies: Iterable[Row],
) -> dict[str, Any]:
    """Return the result of the tables' rows; nothing where no producer said anything in the measured time."""
    rows: dict[str, list[Row]] = {"producer": [], "consumer": []}
    for row in intervals:
        rows[row["role"]].append(row)
    periods = _periods(record, rows["producer"])
    if not periods:
        return {}
    singles = Singles.of(latencies)
    found = _about(record, workload, driver)
    found |= {
        "publishRate": [_done(rows["producer"], *period) / _length(period) for period in periods],
        "publishErrorRate": _error_rates(rows["producer"], periods),
        "consumeRate": [_done(rows["consumer"], *period) / _length(period) for period in periods],
        "backlog": _backlog(record, rows, periods) if singles else [],
    }
    if singles:
        return found | singles.fields(periods)
    return found | _told(record, rows["producer"], [row for row in summaries if row["role"] == "producer"], periods)


Period = tuple[float, float]
"""From when to when, in s since 1970."""


def _periods(record: RunRecord, producers: list[Row]) -> list[Period]:
    """Return the periods of the measured time; a last one of less than half the length is left out."""
    if not producers:
        return []
    first = min(row["time"] - timedelta(seconds=row["duration_s"]) for row in producers).timestamp()
    start, end = first + record.warmup_s, max(row["time"] for row in producers).timestamp()
    count = max(math.floor((end - start) / PERIOD_S + 0.5), 1 if end > start else 0)
    return [(start + i * PERIOD_S, min(start + (i + 1) * PERIOD_S, end)) for i in range(count)]


def _length(period: Period) -> float:
    return max(period[1] - period[0], 1e-9)


def _share(row: Row, start: float, end: float) -> float:
    """Return which share of a row's interval lies between these moments."""
    until, length = float(row["time"].timestamp()), float(row["duration_s"])
    return max(min(until, end) - max(until - length, start), 0.0) / length if length else 0.0


def _done(rows: list[Row], start: float, end: float, of: str = "") -> float:
    """Return how many operations were done then, or what else is counted in each row's interval."""
    return sum(_share(row, start, end) * float(row[of] if of else row["rate"] * row["duration_s"]) for row in rows)


def _error_rates(producers: list[Row], periods: list[Period]) -> list[float]:
    """Return failed sends a second; nothing where the producers cannot know of all of them."""
    if any(row["errors"] is None for row in producers):
        return []
    return [_done(producers, *period, of="errors") / _length(period) for period in periods]


def _about(record: RunRecord, workload: str, driver: str) -> dict[str, Any]:
    """Return what the load was. Kafka's tools run `producers` on each load host, the worker has them of each topic."""
    options = record.workload_options
    hosts = 1 if options.get("client") == "worker" else int(options.get("load_hosts") or 1)
    return {
        "workload": workload,
        "driver": driver,
        "messageSize": options.get("record_size"),
        "topics": options.get("topics", 1),
        "partitions": options.get("partitions"),
        "producersPerTopic": int(options.get("producers") or 0) * hosts,
        "consumersPerTopic": int(options.get("consumers") or 0) * hosts,
    }


def _backlog(record: RunRecord, rows: Mapping[str, list[Row]], periods: list[Period]) -> list[int]:
    """Return how many records were sent and not received yet, by each subscription, at the periods' ends."""
    subscriptions = int(record.workload_options.get("subscriptions") or 0)
    if not subscriptions or not rows["consumer"]:
        return []
    counts = [
        subscriptions * _done(rows["producer"], 0.0, end) - _done(rows["consumer"], 0.0, end) for _, end in periods
    ]
    return [max(round(count), 0) for count in counts]


class Singles:
    """Latencies of all clients together, by measure and period."""

    def __init__(self) -> None:
        self._rows: list[tuple[str, float, Counter[int], float, float]] = []

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Singles:
        """Read the rows of `workload_latencies`."""
        made = cls()
        for row in rows:
            middle = row["time"].timestamp() - row["duration_s"] / 2
            counts = Counter(decoded(row["histogram"]))
            made._rows.append((row["measure"], middle, counts, row["sum_ms"], row["highest_ms"]))
        return made

    def __bool__(self) -> bool:
        return bool(self._rows)

    def fields(self, periods: list[Period]) -> dict[str, Any]:
        """Return the fields of all measures."""
        found: dict[str, Any] = {}
        for field, measure in MEASURES.items():
            micro = field == "publishDelayLatency"
            by_period = [self._within(measure, period) for period in periods]
            listed = [_stated(*one, micro=micro) for one in by_period]
            # A period in which nothing was measured has zeros, as OMB's empty histograms have.
            known = any(listed)
            for name in ("Avg", *LEVELS, "Max"):
                found[f"{field}{name}"] = [one.get(name, 0) for one in listed] if known else []
            merged = self._within(measure, (-math.inf, math.inf))
            whole = field[0].upper() + field[1:]
            found |= {f"aggregated{whole}{name}": value for name, value in _stated(*merged, micro=micro).items()}
            found[f"aggregated{whole}Quantiles"] = quantiles(merged[0], merged[2], micro=micro)
        return found

    def _within(self, measure: str, period: Period) -> tuple[Counter[int], float, float]:
        """Return counts, sum and highest (ms) of a measure, of the rows whose middle lies in a period."""
        counts: Counter[int] = Counter()
        total = highest = 0.0
        for name, middle, one, sum_ms, highest_ms in self._rows:
            if name == measure and period[0] <= middle < period[1]:
                counts.update(one)
                total += sum_ms
                highest = max(highest, highest_ms)
        return counts, total, highest


def _stated(counts: Counter[int], sum_ms: float, highest_ms: float, *, micro: bool) -> dict[str, float]:
    """Return average, levels and highest in ms, or in µs; nothing where nothing was counted."""
    n = counts.total()
    if not n:
        return {}
    ordered = sorted(counts)
    found = {"Avg": sum_ms / n * (1000 if micro else 1)}
    for name, q in LEVELS.items():
        wanted, seen = max(math.ceil(n * q - 1e-9), 1), 0
        for value in ordered:
            seen += counts[value]
            if seen >= wanted:
                # A histogram's value is the highest of its bucket, which the highest of all may lie below.
                found[name] = _unit(min(value, highest_ms * 1000), micro=micro)
                break
    return found | {"Max": _unit(highest_ms * 1000, micro=micro)}


def _unit(microseconds: float, *, micro: bool) -> float:
    return round(microseconds) if micro else microseconds / 1000


def quantiles(counts: Counter[int], highest_ms: float, *, micro: bool = False) -> dict[str, float]:
    """Return {percentage: the value that so many are at or below}: HdrHistogram's percentiles(100), as OMB has them.

    A hundred points for each half of what is left to 100 %, at values that were seen.
    """
    n, seen, level = counts.total(), 0, 0.0
    found = {}
    for value in sorted(counts):
        seen += counts[value]
        share = 100 * seen / n
        if share < level:
            continue
        found[str(share)] = _unit(min(value, highest_ms * 1000), micro=micro)
        while level <= share < 100:
            level += 100 / (TICKS * 2 ** (math.floor(math.log2(100 / (100 - level))) + 1))
    return found


def _told(record: RunRecord, producers: list[Row], summaries: list[Row], periods: list[Period]) -> dict[str, Any]:
    """Return what Kafka's own tools say: means and maxima over time, and percentiles of the whole where one producer
    left the warm-up out of them (those of several cannot be merged).
    """
    found: dict[str, Any] = {}
    for field in MEASURES:
        found |= {f"{field}{name}": [] for name in ("Avg", *LEVELS, "Max")}
        found[f"aggregated{field[0].upper()}{field[1:]}Quantiles"] = {}
    timed = [row for row in producers if row["latency_avg_ms"] is not None]
    for start, end in periods if timed else ():
        weights = [_share(row, start, end) * row["rate"] * row["duration_s"] for row in timed]
        inside = [row["latency_max_ms"] for row in timed if _share(row, start, end) > 0.5]
        total = sum(w * row["latency_avg_ms"] for w, row in zip(weights, timed, strict=True))
        found["publishLatencyAvg"].append(total / sum(weights) if sum(weights) > 0 else 0.0)
        found["publishLatencyMax"].append(max(inside, default=0.0))
    begun = min(row["time"] - timedelta(seconds=row["duration_s"]) for row in producers)
    if len(summaries) == 1 and summaries[0]["p50_ms"] is not None:
        (one,) = summaries
        if one["start"] >= begun + timedelta(seconds=record.warmup_s - 1):
            for name, column in (
                ("Avg", "latency_avg_ms"),
                ("50pct", "p50_ms"),
                ("95pct", "p95_ms"),
                ("99pct", "p99_ms"),
                ("999pct", "p999_ms"),
                ("Max", "latency_max_ms"),
            ):
                found[f"aggregatedPublishLatency{name}"] = one[column]
    return found
