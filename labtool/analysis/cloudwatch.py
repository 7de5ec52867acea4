"""Do CloudWatch and the hosts' own counters tell the same story?

They count at different places (the hypervisor or the engine outside, the kernel inside) and on different clocks, so
they agree within a tolerance, which is computed for every period and not chosen once:

    tolerance = floor + how far the host's own mean moves when the period is shifted by ± δ

δ is the hosts' sampling step plus the bound of the clock difference. The floor is 2 percentage points for CPU (what
the outside sees and the guest does not: interrupts, emulation) and 3 % of the value plus 1 kB/s for the network (which
layer's headers are counted). A period counts only if the host has a point for 95 % of its seconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from labtool.analysis import format as fmt
from labtool.analysis.data import Labelled, RunData, Series
from labtool.analysis.model import Finding

NAMESPACE = "AWS/EC2"
COVERAGE = 0.95
CPU_FLOOR = 0.02
NETWORK_FLOOR = 0.03
NETWORK_FLOOR_BYTES = 1000.0
ALLOWED_OUTSIDE = 0.10
"""A pair agrees if no more than this share of its periods lies outside the tolerance."""


@dataclass(frozen=True)
class Pair:
    """A metric that both count: CloudWatch's statistic, the host's signal, and how to bring both to one unit."""

    metric: str
    statistic: str
    signal: str
    name: str
    unit: str  # of both, after conversion: ratio or bytes/s


PAIRS = (
    Pair("CPUUtilization", "Average", "cpu", "CPU", "ratio"),
    Pair("NetworkIn", "Sum", "net_rx", "network in", "bytes/s"),
    Pair("NetworkOut", "Sum", "net_tx", "network out", "bytes/s"),
)


@dataclass(frozen=True)
class Period:
    """One period of CloudWatch beside the host's own mean over the same seconds."""

    start: float
    end: float
    outside: float  # CloudWatch's value
    inside: float  # the host's own
    tolerance: float

    @property
    def agrees(self) -> bool:
        """True if the two differ by no more than the tolerance."""
        return abs(self.outside - self.inside) <= self.tolerance


@dataclass(frozen=True)
class Comparison:
    """A host's metric in CloudWatch beside the host's own counter."""

    host: str
    pair: Pair
    periods: tuple[Period, ...]

    @property
    def disagreeing(self) -> tuple[Period, ...]:
        """The periods in which they differ by more than the tolerance."""
        return tuple(period for period in self.periods if not period.agrees)

    @property
    def agrees(self) -> bool:
        """True if all periods but a tenth lie within the tolerance."""
        return len(self.disagreeing) <= ALLOWED_OUTSIDE * len(self.periods)

    @property
    def median_difference(self) -> float:
        """The median of CloudWatch's value minus the host's."""
        return float(np.median([period.outside - period.inside for period in self.periods]))

    @property
    def largest_difference(self) -> float:
        """The largest absolute difference."""
        return max(abs(period.outside - period.inside) for period in self.periods)

    @property
    def median_tolerance(self) -> float:
        """The median of the periods' tolerances."""
        return float(np.median([period.tolerance for period in self.periods]))


def converted(pair: Pair, labelled: Labelled) -> Series:
    """Return CloudWatch's values in the pair's unit; a point at t covers [t, t + period)."""
    factor = 0.01 if pair.unit == "ratio" else 1.0 / labelled.period_s
    return Series(labelled.series.t, labelled.series.v * factor)


def find(data: RunData, host: str, pair: Pair) -> Labelled | None:
    """Return CloudWatch's series of a pair for a host; the shortest period where there are several."""
    found = [
        one
        for one in data.cloudwatch
        if one.host == host
        and one.source == NAMESPACE
        and one.metric == pair.metric
        and one.statistic == pair.statistic
        and one.period_s > 0
    ]
    return min(found, key=lambda one: one.period_s, default=None)


def clock_uncertainty(data: RunData, host: str) -> float:
    """Return by how much (s) the host's clock may differ from the controller's; 0 where it was not measured."""
    return max((abs(r.offset_s) + r.bound_s for r in data.clocks if r.host == host), default=0.0)


def compare(data: RunData) -> list[Comparison]:
    """Return every host's comparisons; those without a whole period that both cover are left out."""
    found = []
    for host in data.hosts:
        for pair in PAIRS:
            labelled = find(data, host, pair)
            own = data.signal(host, pair.signal)
            if labelled is None or not len(own):
                continue
            shift = own.step + clock_uncertainty(data, host)
            periods = tuple(_periods(pair, converted(pair, labelled), labelled.period_s, own, shift))
            if periods:
                found.append(Comparison(host, pair, periods))
    return found


def _periods(pair: Pair, theirs: Series, period_s: float, own: Series, shift: float) -> Iterable[Period]:
    step = own.step
    for start, outside in zip(theirs.t.tolist(), theirs.v.tolist(), strict=True):
        end = start + period_s
        inside = own.between(start, end)
        if len(inside) * step < COVERAGE * period_s:
            continue
        value = float(inside.v.mean())
        moved = [_mean(own, start + by, end + by, value) for by in (-shift, shift)]
        floor = CPU_FLOOR if pair.unit == "ratio" else NETWORK_FLOOR * abs(value) + NETWORK_FLOOR_BYTES
        yield Period(start, end, outside, value, floor + max(abs(other - value) for other in moved))


def _mean(series: Series, start: float, end: float, otherwise: float) -> float:
    """Return the mean over (start, end], each point weighted by the part of its step that lies inside."""
    step = series.step
    weight = np.clip(np.minimum(series.t, end) - np.maximum(series.t - step, start), 0.0, step)
    total = float(weight.sum())
    return float((series.v * weight).sum() / total) if total > 0 else otherwise


def show(pair: Pair, value: float) -> str:
    """Return a value of a pair, or a difference of two, as text."""
    return f"{value * 100:z.1f} points" if pair.unit == "ratio" else fmt.size_rate(value)


def findings(data: RunData, comparisons: list[Comparison]) -> list[Finding]:
    """Return where CloudWatch and the hosts disagree, or that they agree, and where that cannot be said."""
    if not data.cloudwatch:
        if "cloudwatch" in data.present or not data.hosts:
            return []
        sentence = "There are no CloudWatch metrics in this run, so the hosts' own counters stand alone."
        return [Finding("cloudwatch.none", "missing", "note", sentence)]
    if not comparisons:
        sentence = (
            "No CloudWatch period lies whole within the hosts' own measurements, so the two cannot be compared: a "
            "window of three periods holds one."
        )
        return [Finding("cloudwatch.short", "trust", "refused", sentence, figure="cloudwatch-1")]
    said = [_disagreement(one) for one in comparisons if not one.agrees]
    agreeing = [one for one in comparisons if one.agrees]
    if agreeing:
        said.append(_agreement(data, agreeing))
    compared = {one.host for one in comparisons}
    left_out = [host for host in data.hosts if host not in compared]
    if left_out:
        sentence = f"CloudWatch could not be compared with the own counters of {fmt.listed(left_out)}."
        said.append(Finding("cloudwatch.left_out", "missing", "note", sentence, figure="cloudwatch-1"))
    return said + _coarse(data)


def _agreement(data: RunData, agreeing: list[Comparison]) -> Finding:
    periods = sum(len(one.periods) for one in agreeing)
    outside = sum(len(one.disagreeing) for one in agreeing)
    cpu = [one for one in agreeing if one.pair.unit == "ratio"]
    largest = f" (CPU differs by {show(cpu[0].pair, max(c.largest_difference for c in cpu))} at most)" if cpu else ""
    sentence = f"CloudWatch and the hosts' own counters agree on {_of_which(data, agreeing)}{largest}."
    bound = (
        f"{periods - outside} of {periods} periods within the tolerance: 2 points of CPU, 3 % of network, plus what a "
        "shift by the sampling step and the clock bound makes"
    )
    return Finding(
        "cloudwatch.agrees",
        "trust",
        "ok",
        sentence,
        bound,
        {"periods": periods, "outside": outside, "comparisons": len(agreeing)},
        "cloudwatch-1",
    )


def _of_which(data: RunData, agreeing: list[Comparison]) -> str:
    """Say which metrics of which hosts these are; those of the same hosts together."""
    names = {one.pair.name: tuple(two.host for two in agreeing if two.pair is one.pair) for one in agreeing}
    parts = []
    for hosts in dict.fromkeys(names.values()):
        who = "all hosts" if len(hosts) == len(data.hosts) else fmt.listed(hosts)
        parts.append(f"{fmt.listed([name for name in names if names[name] == hosts])} of {who}")
    return ", and on ".join(parts)


def _disagreement(one: Comparison) -> Finding:
    differ = one.median_difference
    way = "more" if differ > 0 else "less"
    worst = max(one.periods, key=lambda period: abs(period.outside - period.inside) - period.tolerance)
    sentence = (
        f"CloudWatch says {show(one.pair, abs(differ))} {way} {one.pair.name} of {one.host} than the host itself "
        f"(median), and differs by more than the tolerance in {len(one.disagreeing)} of {len(one.periods)} periods."
    )
    return Finding(
        f"cloudwatch.disagrees.{one.pair.signal}.{one.host}",
        "trust",
        "warning",
        sentence,
        f"tolerance {show(one.pair, one.median_tolerance)} (median over the periods)",
        {
            "median_difference": differ,
            "largest_difference": one.largest_difference,
            "median_tolerance": one.median_tolerance,
            "periods": len(one.periods),
            "outside": len(one.disagreeing),
        },
        "cloudwatch-1",
        one.host,
        (worst.start, worst.end),
    )


def _coarse(data: RunData) -> list[Finding]:
    cpu = [one for one in data.cloudwatch if one.source == NAMESPACE and one.metric == "CPUUtilization"]
    coarse = [one for one in cpu if one.period_s >= 300]
    fine = {one.host for one in cpu if one.period_s < 300}
    hosts = sorted({one.host for one in coarse} - fine)
    if not hosts:
        return []
    points = max(len(one.series) for one in coarse)
    sentence = (
        f"CloudWatch had a point every 5 minutes for {fmt.listed(hosts)} ({fmt.plural(points, 'point')} in the "
        "window): detailed monitoring was off."
    )
    return [Finding("cloudwatch.coarse", "trust", "note", sentence, figure="cloudwatch-1")]
