"""The observer's own cost in the window: rows of the `observer` table.

From two readings of the collectors' counters on a host: `raw/observer/<host>.json` of the window's start, where there
is one, and the manifest's, of its end. The readings are not taken exactly at the edges, so their difference is scaled
to the window's length. Without a first reading (a window of the past has none) the mean since the collectors began
stands for it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labtool.dataset import manifest
from labtool.dataset.run import Missing
from labtool.errors import DataError

FOLDER = "observer"


def rows(logs: Path, raw: Path, start: datetime, end: datetime) -> tuple[list[dict[str, Any]], list[Missing]]:
    """Return a row of `observer` for each host whose manifest is below `logs`, and what could not be read."""
    found, missing = [], []
    for file in sorted(logs.glob(f"*/{manifest.NAME}")):
        host = file.parent.name
        try:
            last = manifest.read(file)
            reading = raw / FOLDER / f"{host}.json"
            first = manifest.parse_cost(reading.read_text(), str(reading)) if reading.is_file() else None
        except DataError as error:
            missing.append(Missing(what="the collectors' cost", host=host, why=error.message))
            continue
        if not last.cost.processes:
            missing.append(Missing(what="the collectors' cost", host=host, why="no collector was running at the end"))
            continue
        window_s = (end - start).total_seconds()
        cpu_s, written = spent(first, last, window_s)
        found.append(
            {
                "host": host,
                "window_s": window_s,
                "cpu_s": cpu_s,
                "bytes_written": written,
                "bytes_sent": last.gather.bytes,
            }
        )
    return found, missing


def spent(first: manifest.Cost | None, last: manifest.Manifest, window_s: float) -> tuple[float | None, int | None]:
    """Return the CPU seconds used and the bytes written in a window of `window_s`; None where it cannot be known."""
    now = last.cost
    if first and _comparable(first, now) and now.time - first.time >= window_s / 2:
        share = window_s / (now.time - first.time)
        grown = sum(max(size - first.files.get(path, 0), 0) for path, size in now.files.items())
        return (now.cpu_s - first.cpu_s) * share, round(grown * share)
    if now.since is None or now.since >= now.time:
        return None, None
    return now.cpu_s * min(window_s / (now.time - now.since), 1.0), _written(last, window_s)


def _comparable(first: manifest.Cost, now: manifest.Cost) -> bool:
    """True where the counters ran on between two readings: collectors that were restarted begin at 0 again."""
    if first.since is None or now.since is None or first.cpu_s > now.cpu_s:
        return False
    # The starts are read from ticks and a clock that may be slewed.
    return abs(first.since - now.since) < 1.0


def _written(last: manifest.Manifest, window_s: float) -> int | None:
    """Estimate the bytes of samples of a window from sadc's files: their bytes by the time that they cover."""
    total, covered = 0, 0.0
    for file in last.files:
        if file.kind != "sysstat" or not file.bytes:
            continue
        name = file.source.rsplit("/", 1)[-1]
        try:
            began = datetime.strptime(name, "sa-%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
        except ValueError:
            continue
        total += file.bytes
        covered = max(covered, last.made - began)
    return round(total * min(window_s / covered, 1.0)) if covered > 0 else None
