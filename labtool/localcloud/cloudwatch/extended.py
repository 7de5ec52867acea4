"""The statistics that CloudWatch makes of single values: percentiles, trimmed and winsorized means, ranks.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/Statistics-definitions.html. Bounds are percentages of
the values' count, or values themselves; a lower bound is exclusive and an upper one inclusive.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from functools import partial

from labtool.localcloud.cloudwatch.store import weighted_percentile

Values = Sequence[tuple[float, float]]
"""(value, how often)."""

_SHORT = re.compile(r"(p|tm|wm|tc|ts)(\d{1,2}(?:\.\d{1,10})?|100)", re.IGNORECASE)
_LONG = re.compile(r"(TM|WM|TC|TS|PR)\((-?[\d.]+)?(%)?:(-?[\d.]+)?(%)?\)")


def statistic(name: str) -> Callable[[Values], float | None] | None:
    """Return what computes the statistic `name`, None if CloudWatch has none such.

    What is computed is None where no value lies within the bounds.
    """
    if name == "IQM":
        return partial(_of_share, "tm", 0.25, 0.75)
    if short := _SHORT.fullmatch(name):
        kind, rank = short[1].lower(), float(short[2])
        return (
            (lambda values: weighted_percentile(values, rank))
            if kind == "p"
            else partial(_of_share, kind, 0.0, rank / 100)
        )
    if long := _LONG.fullmatch(name):
        kind, low, high = long[1].lower(), long[2], long[4]
        if long[3] or long[5]:
            share = (float(low or 0) / 100, float(high or 100) / 100)
            return partial(_of_share, kind, *share) if kind != "pr" and 0 <= share[0] < share[1] <= 1 else None
        return partial(_of_values, kind, float(low or -math.inf), float(high or math.inf))
    return None


def _of_share(kind: str, low: float, high: float, values: Values) -> float | None:
    """Keep what lies between two shares of the count; a value on a bound counts for its part within."""
    if kind == "wm":
        ends = [weighted_percentile(values, 100 * share) for share in (low, high)]
        return _summed("tm", [(min(max(value, ends[0]), ends[1]), count) for value, count in values])
    total = sum(count for _, count in values)
    kept, reached = [], 0.0
    for value, count in sorted(values):
        inside = min(reached + count, high * total) - max(reached, low * total)
        if inside > 0:
            kept.append((value, inside))
        reached += count
    return _summed(kind, kept)


def _of_values(kind: str, low: float, high: float, values: Values) -> float | None:
    if kind == "wm":
        return _summed("tm", [(min(max(value, low), high), count) for value, count in values])
    kept = [(value, count) for value, count in values if low < value <= high]
    if kind == "pr":
        return 100 * sum(count for _, count in kept) / sum(count for _, count in values)
    return _summed(kind, kept)


def _summed(kind: str, kept: Values) -> float | None:
    count = sum(count for _, count in kept)
    if kind == "tc":
        return count
    total = math.fsum(value * count for value, count in kept)
    if kind == "ts":
        return total
    return total / count if count > 0 else None
