"""What a display shows, as plain state: who does what since when, and who is being waited for. Draws nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

GOOD = frozenset({"ready", "ok", "changed", "skipped", "done", "stopped", "terminated", "gone"})
BAD = frozenset({"failed", "unreachable", "lost", "dead"})

_NAMED = 3


@dataclass(frozen=True)
class Sample:
    """What a host did lately: CPU and memory as ratios, network and disk in bytes/s."""

    cpu: float
    memory: float
    rx: float
    tx: float
    read: float
    write: float


@dataclass
class Row:
    """One host."""

    name: str
    state: str = ""  # '' while nothing is asked of it
    detail: str = ""
    since: float = 0.0  # when the state or the detail changed, in seconds of the display's clock
    ok: int = 0
    changed: int = 0
    failed: int = 0
    sample: Sample | None = None

    @property
    def awaited(self) -> bool:
        """True while the host has something to do."""
        return bool(self.state) and self.state not in GOOD and self.state not in BAD


@dataclass
class Board:
    """All that is known at one moment."""

    stage: str = ""
    stage_since: float = 0.0
    task: str = ""
    rows: dict[str, Row] = field(default_factory=dict)
    left_s: float | None = None

    def begin(self, stage: str, now: float) -> None:
        """Begin a stage: nothing is asked of any host yet."""
        self.stage, self.stage_since, self.task = stage, now, ""
        for row in self.rows.values():
            row.state, row.detail, row.since = "", "", now
            row.ok = row.changed = row.failed = 0

    def row(self, name: str) -> Row:
        """Return the row of a host, a new one if it is not known."""
        return self.rows.setdefault(name, Row(name))

    def host(self, name: str, state: str, detail: str, now: float) -> None:
        """Set a host's state; its clock starts again if that is news."""
        row = self.row(name)
        if (row.state, row.detail) != (state, detail):
            row.state, row.detail, row.since = state, detail, now

    def waiting(self, now: float) -> str:
        """Say who is being waited for, the longest wait first."""
        awaited = sorted((row for row in self.rows.values() if row.awaited), key=lambda row: row.since)
        if not awaited:
            what = self.task or self.stage
            return f"this machine ({what}, {seconds(now - self.stage_since)})" if what and self.left_s is None else ""
        first = awaited[0]
        names = ", ".join(row.name for row in awaited[:_NAMED])
        more = f" and {len(awaited) - _NAMED} more" if len(awaited) > _NAMED else ""
        return f"{names}{more} ({first.detail or first.state}, {seconds(now - first.since)})"

    def states(self) -> str:
        """Say how many hosts are in which state: 3 ready, 7 pending."""
        counted = Counter(row.state for row in self.rows.values() if row.state)
        return ", ".join(f"{count} {state}" for state, count in counted.most_common())

    def shown(self, room: int) -> tuple[list[Row], list[Row]]:
        """Return the rows that fit into `room` lines, in the order in which they came, and the others.

        The failed ones stay, then those awaited, then the busiest.
        """

        def rank(row: Row) -> tuple[bool, bool, float]:
            return (row.state not in BAD, not row.awaited, -(row.sample.cpu if row.sample else 0.0))

        rows = list(self.rows.values())
        if len(rows) <= room:
            return rows, []
        chosen = {row.name for row in sorted(rows, key=rank)[: max(room - 1, 0)]}
        return [row for row in rows if row.name in chosen], [row for row in rows if row.name not in chosen]


def seconds(span: float) -> str:
    """Write a span: 0.4 s, 12 s, 3 min 5 s, 2 h 10 min."""
    if span < 1:
        return f"{max(span, 0.0):.1f} s"
    whole = int(span)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def rate(per_s: float) -> str:
    """Write bytes/s in steps of 1000: 0, 640 B/s, 12.3 MB/s."""
    value, unit = per_s, "B/s"
    for larger in ("kB/s", "MB/s", "GB/s"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    if value < 0.5:
        return "0"
    return f"{value:.0f} {unit}" if unit == "B/s" or value >= 99.95 else f"{value:.1f} {unit}"


def counted(values: Iterable[tuple[int, str]]) -> str:
    """Write those counts that are not 0: 12 ok, 3 changed."""
    return ", ".join(f"{count} {what}" for count, what in values if count)
