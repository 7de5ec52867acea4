"""What the countdown said, as rows of `workload_intervals` and `workload_summary`.

Reads `raw/countdown/<host>.log`, the lines of files/countdown/countdown.py. An operation is a number, one a second is
what is offered, and its latency is how late it came after it was due.
"""

import math
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labtool.errors import DataError

FIRST = re.compile(r"counting down from (\d+), a number every ([\d.]+) s, at (\d+\.\d+)")
TICK = re.compile(r"(\d+) at (\d+\.\d+), (\d+\.\d+) ms late")
LAST = ("lift-off", "ended before zero", "")
FEWEST = {"p50_ms": (0.5, 1), "p95_ms": (0.95, 20), "p99_ms": (0.99, 100), "p999_ms": (0.999, 1000)}
"""Percentiles, and how many numbers it takes for one to be more than the latest of them."""

Rows = dict[str, list[dict[str, Any]]]


def parse(raw: Path, run: dict[str, Any]) -> Rows:
    """Return the tables' rows; `DataError` names the file and the line that is none of the program's."""
    # The unit's journal has what it said in earlier runs too. Hosts' clocks may be off by this much.
    since = datetime.fromisoformat(run["started"]).timestamp() - 1.0 if run.get("started") else 0.0
    intervals: list[dict[str, Any]] = []
    summaries: list[dict[str, Any]] = []
    for file in sorted((raw / "countdown").glob("*.log")):
        rows, summary = of_host(file, since)
        intervals += rows
        summaries += [summary] if summary else []
    tables = {"workload_intervals": intervals, "workload_summary": summaries}
    return {name: rows for name, rows in tables.items() if rows}


def of_host(file: Path, since: float) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Return the rows of the last countdown of a host that began after `since` (s since 1970)."""
    every = begun = before = 0.0
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1):
        if first := FIRST.fullmatch(line):
            every, begun = float(first[2]), float(first[3])
            before, rows = begun, []
        elif (tick := TICK.fullmatch(line)) and every:
            at, late = float(tick[2]), float(tick[3])
            rows.append(interval(f"{file.stem}/countdown", at, at - before, every, late))
            before = at
        elif line not in LAST:
            raise DataError(f"{file}:{number}: no line of countdown.py: {line[:80]!r}")
    if begun < since or not rows:
        return [], None
    return rows, summary(rows, begun)


def interval(client: str, at: float, seconds: float, every: float, late_ms: float) -> dict[str, Any]:
    """Return the row of a number: the time since the one before, in which it was the one operation."""
    return {
        "time": datetime.fromtimestamp(at, UTC),
        "duration_s": seconds,
        "client": client,
        "role": "client",
        "offered_rate": 1 / every,
        "rate": 1 / seconds,
        "bytes_rate": None,
        "latency_avg_ms": late_ms,
        "latency_max_ms": late_ms,
        "p50_ms": None,
        "p90_ms": None,
        "p99_ms": None,
        "errors": 0,
    }


def summary(rows: list[dict[str, Any]], begun: float) -> dict[str, Any]:
    """Return the row of the whole countdown; percentiles as far as its numbers carry them."""
    late = sorted(row["latency_avg_ms"] for row in rows)
    end = rows[-1]["time"]
    return {
        "client": rows[0]["client"],
        "role": "client",
        "start": datetime.fromtimestamp(begun, UTC),
        "end": end,
        "operations": len(rows),
        "errors": 0,
        "offered_rate": rows[0]["offered_rate"],
        "rate": len(rows) / (end.timestamp() - begun),
        "bytes_rate": None,
        "latency_avg_ms": sum(late) / len(late),
        "latency_max_ms": late[-1],
        # The smallest lateness that at least a share q of the numbers did not exceed (nearest rank).
        **{name: late[math.ceil(q * len(late)) - 1] if len(late) >= n else None for name, (q, n) in FEWEST.items()},
        "failure": "",
    }
