"""Clock offsets of a run: `raw/clock.jsonl`, an object a line with the columns of the `clock` table.

An offset is the host's clock minus the controller's, known within a bound. What a host wrote at `t` was, in the
controller's clock, at `t - offset`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from labtool.dataset.run import Missing
from labtool.dataset.tables import instant

FILE = "clock.jsonl"

DRIFT = 1e-4
"""How fast a clock may drift without having been set: 100 ppm, above what crystals do and an NTP client slews."""


@dataclass(frozen=True)
class Offset:
    """One measurement: the true offset lies within `offset_s` ± `bound_s`."""

    time: datetime
    host: str
    phase: str  # before, during, after
    offset_s: float
    bound_s: float
    samples: int


def append(raw: Path, rows: Iterable[Offset]) -> None:
    """Add measurements to a run's `raw/clock.jsonl`."""
    with (raw / FILE).open("a") as file:
        for row in rows:
            file.write(json.dumps(asdict(row) | {"time": row.time.astimezone(UTC).isoformat()}) + "\n")


def read(raw: Path) -> tuple[list[Offset], list[Missing]]:
    """Return a run's measurements in the order of time, and what of the file cannot be read."""
    file = raw / FILE
    if not file.is_file():
        return [], []
    rows, missing = [], []
    for number, line in enumerate(file.read_text().splitlines(), 1):
        try:
            found = json.loads(line)
            when = instant(found["time"])
            if when is None:
                raise ValueError("no time")
            rows.append(
                Offset(
                    when,
                    str(found["host"]),
                    str(found["phase"]),
                    float(found["offset_s"]),
                    float(found["bound_s"]),
                    int(found["samples"]),
                )
            )
        except (ValueError, KeyError, TypeError) as error:
            missing.append(Missing(what="a clock offset", why=f"{file.name} line {number}: {error!r}"))
    return sorted(rows, key=lambda row: row.time), missing


def by_host(rows: Iterable[Offset]) -> dict[str, list[Offset]]:
    """Return the measurements of each host."""
    found: dict[str, list[Offset]] = {}
    for row in rows:
        found.setdefault(row.host, []).append(row)
    return found


def offset_at(rows: Sequence[Offset], when: datetime) -> float:
    """Return a host's offset at `when` in seconds: the measurement nearest in time; 0 where there is none."""
    if not rows:
        return 0.0
    return min(rows, key=lambda row: abs((row.time - when).total_seconds())).offset_s


def steps(rows: Iterable[Offset]) -> list[Missing]:
    """Return a sentence for every clock that was set between two measurements.

    A clock that only drifts stays, from one measurement to the next, within both bounds and `DRIFT`. Where no offset
    does that the intersection is empty: the clock was stepped, and times around it cannot be compared.
    """
    found = []
    for host, measured in by_host(rows).items():
        ordered = sorted(measured, key=lambda row: row.time)
        for before, after in pairwise(ordered):
            moved = abs(after.offset_s - before.offset_s)
            allowed = before.bound_s + after.bound_s + DRIFT * (after.time - before.time).total_seconds()
            if moved > allowed:
                found.append(
                    Missing(
                        what="comparable times",
                        host=host,
                        why=f"its clock was set by about {after.offset_s - before.offset_s:+.3f} s between "
                        f"{before.time:%H:%M:%S} and {after.time:%H:%M:%S} UTC",
                    )
                )
    return found


def latest(rows: Iterable[Offset]) -> Mapping[str, float]:
    """Return each host's newest offset in seconds."""
    return {host: max(measured, key=lambda row: row.time).offset_s for host, measured in by_host(rows).items()}
