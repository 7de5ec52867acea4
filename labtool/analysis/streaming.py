"""A streaming query: whether it kept up, which phase sets how fast it can be, and how far its latency can be off.

The backlog is what the topic holds and no ended batch has read: its end offsets, as a client asked the brokers for
them, minus the offset up to which Spark's batches have read. Between batches it grows whatever the query does, so it is
looked at where each batch ends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from labtool.analysis import format as fmt
from labtool.analysis.data import Floats, RunData, Series, Stream
from labtool.analysis.model import Finding, Severity, Value
from labtool.analysis.resources import RESOURCES, Usage
from labtool.analysis.statistics import t_975

FEWEST_BATCHES = 5
GROWS = 0.01
"""A backlog that grows by less than this share of the rate is one that does not: 99 % is done."""
MOST_ALIKE = 0.9

PHASES = {
    "latest_offset": "latestOffset",
    "get_batch": "getBatch",
    "query_planning": "queryPlanning",
    "wal_commit": "walCommit",
    "add_batch": "addBatch",
    "commit_offsets": "commitOffsets",
}
"""Columns of `stream_batches` → Spark's names, in the order in which a batch has them."""
MEANS = {
    "latest_offset": "asking the brokers for their offsets",
    "get_batch": "making a plan of the offsets",
    "query_planning": "planning the query",
    "wal_commit": "writing the offsets to the checkpoint",
    "add_batch": "the executors' work",
    "commit_offsets": "writing to the checkpoint that it is done",
}


@dataclass(frozen=True)
class Line:
    """A line through points, by least squares, and the half widths of the 95 % intervals of its two numbers."""

    slope: float
    half: float
    level: float  # at x = 0
    level_half: float
    points: int

    @property
    def low(self) -> float:
        """The lower end of the slope's interval."""
        return self.slope - self.half

    @property
    def high(self) -> float:
        """The upper end of the slope's interval."""
        return self.slope + self.half


def line(x: Floats, y: Floats) -> Line | None:
    """Return the line through the points, in their order; None where there are too few, or all have one x.

    Residuals that follow each other are alike, so the number of points is reduced to that of as many independent ones,
    n (1 - r) / (1 + r) with their lag-1 autocorrelation r (Santer et al., "Statistical significance of trends and
    trend differences in layer-average atmospheric temperature time series", J. Geophys. Res. 105, 2000).
    """
    n = len(x)
    if n < FEWEST_BATCHES:
        return None
    mean = float(x.mean())
    spread = float(((x - mean) ** 2).sum())
    if spread <= 0:
        return None
    slope = float(((x - mean) * (y - y.mean())).sum()) / spread
    rest = y - y.mean() - slope * (x - mean)
    square = float((rest**2).sum())
    level = float(y.mean()) - slope * mean
    if square <= 1e-12:
        return Line(slope, 0.0, level, 0.0, n)
    alike = min(max(float((rest[1:] * rest[:-1]).sum()) / square, 0.0), MOST_ALIKE)
    effective = max(n * (1 - alike) / (1 + alike), 3.0)
    variance = square / (effective - 2)
    t = t_975(max(int(effective - 2), 1))
    return Line(
        slope,
        t * math.sqrt(variance / spread),
        level,
        t * math.sqrt(variance * (1 / n + mean**2 / spread)),
        n,
    )


@dataclass(frozen=True)
class Kept:
    """Whether the query kept up in the measured part."""

    backlog: Series  # records, at each batch's end
    growth: Line | None  # records/s
    offered: float | None  # records/s
    duration_s: float  # a batch's, the middle one
    trigger_s: float
    longer: float  # share of the batches that took longer than the trigger

    @property
    def grows(self) -> bool:
        """True if zero is below the slope's interval, and the slope is more than a share of the rate."""
        return self.growth is not None and self.growth.low > 0 and self.growth.slope > GROWS * (self.offered or 0.0)

    @property
    def late(self) -> bool:
        """True if half of the batches took longer than the trigger."""
        return self.trigger_s > 0 and self.duration_s > self.trigger_s


def kept_up(data: RunData, offered: float | None) -> Kept | None:
    """Return whether the query kept up; None where no batch with records ended in the measured part."""
    stream = data.stream
    if stream is None:
        return None
    start, end = counted(data)
    chosen = (stream.rows > 0) & (stream.end > start) & (stream.end <= end)
    if not chosen.any():
        return None
    backlog = backlog_at_ends(stream)
    inside = (backlog.t > start) & (backlog.t <= end)
    points = Series(backlog.t[inside], backlog.v[inside])
    took, trigger = stream.duration[chosen], float(stream.trigger_s)
    return Kept(
        points,
        line(points.t, points.v),
        offered,
        float(np.median(took)),
        trigger,
        float((took > trigger).mean()) if trigger else 0.0,
    )


def counted(data: RunData) -> tuple[float, float]:
    """Return from when to when records were sent that count, in s; of a window that had none its measured part.

    A query takes its time to start, so records begin well after the window; what is left of them when the last was sent
    is worked off afterwards, and says nothing of a rate.
    """
    requests = data.requests
    if requests is None or not requests.counted.any():
        return data.measured
    due = requests.due[requests.counted]
    return float(due.min()), float(due.max())


def backlog_at_ends(stream: Stream) -> Series:
    """Return the backlog where each batch with records ended: linear between the moments the brokers were asked at."""
    if not len(stream.stored):
        return Series(np.empty(0), np.empty(0))
    known = (stream.end >= stream.stored.t[0]) & (stream.end <= stream.stored.t[-1]) & (stream.rows > 0)
    ends = stream.end[known]
    stored = np.interp(ends, stream.stored.t, stream.stored.v)
    return Series(ends, np.maximum(stored - stream.end_offset[known], 0.0))


def backlog_over_time(stream: Stream) -> Series:
    """Return the backlog at each moment the brokers were asked at: what no batch that has ended has read."""
    order = np.argsort(stream.end, kind="stable")
    place = np.searchsorted(stream.end[order], stream.stored.t, side="right")
    read = np.concatenate(([0.0], np.maximum.accumulate(stream.end_offset[order])))[place]
    return Series(stream.stored.t, np.maximum(stream.stored.v - read, 0.0))


def findings(data: RunData, offered: float | None, found: list[Usage]) -> list[Finding]:
    """Return what is to be said of a streaming query; nothing where there was none."""
    if data.stream is None:
        return []
    said = [*_clock(data), *_late(data)]
    kept = kept_up(data, offered)
    if kept is None:
        sentence = "No batch of the query with records in it ended in the measured part."
        return [Finding("stream.backlog", "load", "refused", sentence, figure="batches"), *said]
    if not data.steps:
        said.insert(0, _backlog(kept))
    return [*said, *_phases(data, found)]


def _backlog(kept: Kept) -> Finding:
    growth = kept.growth
    evidence: dict[str, Value] = {
        "batches": len(kept.backlog),
        "growth_per_s": growth.slope if growth else None,
        "growth_low_per_s": growth.low if growth else None,
        "growth_high_per_s": growth.high if growth else None,
        "batch_median_s": kept.duration_s,
        "trigger_s": kept.trigger_s,
        "longer_than_trigger": kept.longer,
    }
    batches = f"batches took {fmt.duration(kept.duration_s)} in the middle"
    if kept.trigger_s:
        batches += f" of the {fmt.duration(kept.trigger_s)} of the trigger"
    if growth is None:
        sentence = (
            f"Too few batches to say whether the query kept up: {len(kept.backlog)} ended while records were sent, and "
            f"it takes {FEWEST_BATCHES}; {batches}."
        )
        return Finding("stream.backlog", "load", "refused", sentence, "", evidence, "backlog")
    bound = (
        f"95 % interval {fmt.number(growth.low)} to {fmt.number(growth.high)} records/s, least squares over "
        f"{growth.points} batches, neighbours that are alike counted as fewer"
    )
    much = fmt.rate(growth.slope, "records")
    severity: Severity
    if kept.grows:
        share = f" ({fmt.percent(growth.slope / kept.offered)} of what is sent)" if kept.offered else ""
        severity, sentence = "problem", f"The query fell behind: its backlog grew by {much}{share}; {batches}."
    elif kept.late:
        severity = "problem"
        sentence = f"The query did not keep its trigger: {batches}, though its backlog did not clearly grow."
    elif growth.high > GROWS * (kept.offered or 0.0) and growth.slope > 0:
        severity = "note"
        sentence = f"The backlog did not clearly grow, and the run is too short or too uneven to be sure; {batches}."
    else:
        severity, sentence = "ok", f"The query kept up: its backlog did not grow, and {batches}."
    return Finding("stream.backlog", "load", severity, sentence, bound, evidence, "backlog")


def phase_times(stream: Stream, start: float, end: float) -> dict[str, float]:
    """Return the share of each phase in the batches with records of a time, the largest first."""
    chosen = (stream.rows > 0) & (stream.end > start) & (stream.end <= end)
    total = float(stream.duration[chosen].sum())
    if total <= 0:
        return {}
    shares = {name: float(np.nansum(values[chosen])) / total for name, values in stream.phases.items()}
    return dict(sorted(shares.items(), key=lambda one: -one[1]))


@dataclass(frozen=True)
class Cost:
    """What a batch takes: `fixed_s` whatever is in it, and `record_s` for each record; what a trigger can carry."""

    fixed_s: float
    fixed_half_s: float
    record_s: float
    record_half_s: float
    batches: int

    @property
    def sure(self) -> bool:
        """True if what a record costs is known within a half of itself."""
        return 0 <= 2 * self.record_half_s < self.record_s

    def most(self, trigger_s: float) -> float | None:
        """Return the rate (records/s) at which a batch of a trigger's records takes the whole trigger.

        f + c·r·T = T, so r = (T - f) / (c·T); without a trigger batches grow until r = 1/c.
        """
        if not self.sure:
            return None
        if trigger_s <= 0:
            return 1 / self.record_s
        return max(trigger_s - max(self.fixed_s, 0.0), 0.0) / (self.record_s * trigger_s)


def cost(stream: Stream, start: float, end: float) -> Cost | None:
    """Return what batches of a time took by their records; None where there are too few of them."""
    chosen = (stream.rows > 0) & (stream.end > start) & (stream.end <= end)
    found = line(stream.rows[chosen], stream.duration[chosen])
    return Cost(found.level, found.level_half, found.slope, found.half, found.points) if found else None


def _phases(data: RunData, found: list[Usage]) -> list[Finding]:
    stream = data.stream
    assert stream is not None
    start, end = counted(data)
    shares = phase_times(stream, start, end)
    if not shares:
        return []
    first, second = [*shares, *shares][:2]
    sentence = (
        f"Of a batch's time {fmt.percent(shares[first])} was {PHASES[first]} ({MEANS[first]}) and "
        f"{fmt.percent(shares[second])} {PHASES[second]} ({MEANS[second]})"
    )
    evidence: dict[str, Value] = {f"{name}_share": share for name, share in shares.items()}
    bound = "as Spark's own progress splits them"
    busy = [use for use in found if use.resource in ("cpu", "disk", "network") and use.host not in data.load_hosts]
    top = max(busy, key=lambda use: use.mean, default=None)
    if top is not None:
        sentence += f"; the busiest resource of the pipeline was the {RESOURCES[top.resource]} of {top.host}"
        sentence += f", {fmt.percent(top.mean)} on average"
        evidence |= {"busiest_mean": top.mean}
    said = [Finding("stream.phases", "resource", "note", f"{sentence}.", bound, evidence, "batches")]
    taken = cost(stream, start, end)
    if taken is not None and taken.sure:
        said.append(_limit(taken, stream.trigger_s))
    return said


def _limit(taken: Cost, trigger_s: float) -> Finding:
    most = taken.most(trigger_s)
    sentence = (
        f"A batch took {fmt.milliseconds(max(taken.fixed_s, 0.0) * 1000)} whatever was in it and "
        f"{fmt.number(taken.record_s * 1e6)} µs for each record"
    )
    if most:
        at = f"with a trigger of {fmt.duration(trigger_s)}" if trigger_s else "without a trigger"
        sentence += f": {at} that would be full at about {fmt.rate(most, 'records')}"
    bound = (
        f"a line through {taken.batches} batches of this run; ± {fmt.milliseconds(taken.fixed_half_s * 1000)} and "
        f"± {fmt.number(taken.record_half_s * 1e6)} µs (95 %); beyond its batches' sizes it is a guess"
    )
    evidence: dict[str, Value] = {"fixed_s": taken.fixed_s, "record_s": taken.record_s, "full_at_per_s": most}
    return Finding("stream.limit", "resource", "note", f"{sentence}.", bound, evidence, "batches")


def _late(data: RunData) -> list[Finding]:
    assert data.stream is not None
    dropped = float(np.nansum(data.stream.late_rows))
    if not dropped:
        return []
    sentence = (
        f"Spark dropped {fmt.count(dropped)} records that came after the watermark: they are in no window, and count "
        "as errors here (--lateness lets them in)."
    )
    return [Finding("stream.late", "load", "problem", sentence, "", {"dropped": dropped}, "backlog")]


def clock_bound(data: RunData, host: str) -> float | None:
    """Return how far a host's clock can be off the controller's after it was corrected, in s; None if not known."""
    return min((reading.bound_s for reading in data.clocks if reading.host == host), default=None)


def _clock(data: RunData) -> list[Finding]:
    """State between which moments latency counts, and how far two clocks can mislead."""
    stream = data.stream
    assert stream is not None
    if not stream.append_host:
        return []
    senders = sorted({client.host for client in data.clients if client.role == "producer"})
    bounds = [clock_bound(data, host) for host in (*senders, stream.append_host)]
    sentence = (
        f"Latency counts from when a record was due, by the clock of {fmt.listed(senders) or 'its load host'}, to the "
        f"append of the first result that has it in it, in whole ms by the clock of {stream.append_host}"
    )
    if not senders or any(bound is None for bound in bounds):
        sentence += "; these clocks were not compared, so how far it is off is not known."
        return [Finding("stream.clock", "trust", "warning", sentence)]
    bound_s = max(one for one in bounds[:-1] if one is not None) + (bounds[-1] or 0.0) + 0.001
    sentence += f": within ± {fmt.milliseconds(bound_s * 1000)}."
    least = least_latency(data)
    severity: Severity = "ok"
    if least is not None and least < bound_s:
        severity = "warning"
        sentence += f" Its shortest ones, from {fmt.milliseconds(least * 1000)} on, are below that and mean nothing."
    bound = "the bounds of both hosts' offsets from the controller, and the millisecond of the append"
    return [Finding("stream.clock", "latency", severity, sentence, bound, {"bound_s": bound_s})]


def least_latency(data: RunData) -> float | None:
    """Return the shortest latency of a counted record, in s."""
    requests = data.requests
    if requests is None or not requests.good.any():
        return None
    return float(requests.latency[requests.good].min())
