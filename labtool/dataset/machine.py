"""What the controller's machine itself did: rows of the `machine` table, from `raw/machine.csv`.

Lines of that file are seconds since the epoch, then busy, all and stolen jiffies since boot (proc(5), /proc/stat).
"""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

FILE = "machine.csv"


class Reading(NamedTuple):
    """The machine's counters at an instant."""

    time: float
    busy: int
    total: int
    stolen: int


def readings(raw: Path) -> list[Reading]:
    """Return what was written down of the machine; nothing where it was not recorded."""
    try:
        lines = (raw / FILE).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    rows = [line.split(",") for line in lines]
    # A line that a crash cut has fewer.
    return [Reading(float(row[0]), int(row[1]), int(row[2]), int(row[3])) for row in rows if len(row) == 4]


def rows(raw: Path, start: datetime, end: datetime) -> list[dict[str, Any]]:
    """Return a row for each second or so from `start` to `end`."""
    return [
        {
            "time": datetime.fromtimestamp(after.time, UTC),
            "busy": (after.busy - before.busy) / (after.total - before.total),
            "stolen": (after.stolen - before.stolen) / (after.total - before.total),
        }
        for before, after in pairwise(readings(raw))
        if after.total > before.total and start.timestamp() <= after.time <= end.timestamp() + 1
    ]
