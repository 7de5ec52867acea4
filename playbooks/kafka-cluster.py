"""Kafka's own metrics, as its brokers' JMX files have them, as rows of `service_metrics`.

`kafka-jmx.service` (roles/kafka) writes a row every ten seconds; files/kafka-jmx.awk says how columns are named.
Counts that only grow become rates, with the suffix `.Rate`: the mean over the time since the row before.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labtool.dataset import compressed
from labtool.errors import DataError

Row = dict[str, Any]

OPERATIONS, BYTES, MILLISECONDS = "operations/s", "bytes/s", "ms"


def parse_logs(logs: Path) -> dict[str, list[Row]]:
    """Return the metrics of all hosts under `logs/<host>/`."""
    rows: list[Row] = []
    for folder in sorted(path for path in logs.iterdir() if path.is_dir()):
        for file in sorted(folder.rglob("kafka-jmx-*.csv*")):
            if file.suffix in {".csv", compressed.SUFFIX}:
                rows += parse_service(file, folder.name)
    return {"service_metrics": rows} if rows else {}


def parse_service(file: Path, host: str) -> list[Row]:
    """Return one file's rows; a last row that was cut is left out."""
    return parse_csv(compressed.lines(file), host, str(file))


def parse_csv(lines: Iterable[str], host: str, name: str) -> list[Row]:
    """Return the rows of a CSV's lines; `DataError` names the line that is none."""
    reader = csv.reader(lines)
    header = next(reader, None)
    if header is None:
        return []
    if header[0] != "time":
        raise DataError(f"{name}: its first column is {header[0]!r}, expected time", "no file of kafka-jmx.service")
    rows: list[Row] = []
    before: dict[str, float] = {}
    problem = ""
    for number, cells in enumerate(reader, 2):
        if problem:
            raise DataError(f"{name}:{problem}")
        try:
            values = [float(cell) for cell in cells]
        except ValueError:
            values = []
        if len(values) != len(header):
            problem = f"{number}: {len(values)} numbers, expected {len(header)}"  # forgiven if it is the last
            continue
        now = dict(zip(header, values, strict=True))
        rows += metrics(now, before, host)
        before = now
    return rows


def metrics(now: dict[str, float], before: dict[str, float], host: str) -> list[Row]:
    """Return a row's metrics, and the rates since the row before."""
    time = datetime.fromtimestamp(now["time"] / 1000, UTC)
    seconds = (now["time"] - before["time"]) / 1000 if before else 0.0

    def row(metric: str, unit: str, value: float) -> Row:
        return {"time": time, "host": host, "service": "kafka", "metric": metric, "unit": unit, "value": value}

    found = []
    for column, value in now.items():
        name, _, attribute = column.rpartition(".")
        if not name or (name == "RequestHandlerAvgIdlePercent" and attribute == "Count"):
            continue  # that count is of nanoseconds
        found.append(row(column, unit_of(name, attribute), value))
        grown = value - before.get(column, value)
        if seconds <= 0 or grown < 0:
            continue
        if attribute == "Count":
            found.append(row(f"{name}.Rate", BYTES if name.startswith("Bytes") else OPERATIONS, grown / seconds))
        elif attribute == "CollectionTime":
            found.append(row(f"{name}.Rate", "ratio", grown / 1000 / seconds))
    return found


def unit_of(name: str, attribute: str) -> str:
    """Return the unit of an attribute."""
    if name.endswith("AvgIdlePercent"):
        return "ratio"
    if attribute == "OneMinuteRate":
        return BYTES if name.startswith("Bytes") else OPERATIONS
    if attribute.endswith("Percentile") or attribute == "CollectionTime":
        return MILLISECONDS
    return "bytes" if attribute == "HeapMemoryUsed" or name.startswith("Bytes") else "count"
