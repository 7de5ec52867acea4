"""The arithmetic under the findings: means with an interval, the busiest stretch, gaps, bins.

All of it is for series of one run. An interval made here says how much a number moved within the run; how much it
moves between runs takes several runs to say.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from labtool.analysis.data import Floats, Series

# Student's t at 0.975 for 1 to 30 degrees of freedom; from 31 on Cornish and Fisher's expansion is exact to 0.001.
_T_975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
_Z_975 = 1.959964

FEWEST_BATCHES = 5
MOST_BATCHES = 10


@dataclass(frozen=True)
class Interval:
    """A mean and the half width of its 95 % interval, from `n` values in `batches` batches."""

    mean: float
    half: float
    n: int
    batches: int

    @property
    def low(self) -> float:
        """The interval's lower end."""
        return self.mean - self.half

    @property
    def high(self) -> float:
        """The interval's upper end."""
        return self.mean + self.half


def t_975(freedom: int) -> float:
    """Return the 97.5 % point of Student's t with `freedom` degrees of freedom."""
    if freedom < 1:
        raise ValueError("an interval needs at least one degree of freedom")
    if freedom <= len(_T_975):
        return _T_975[freedom - 1]
    return _Z_975 + (_Z_975**3 + _Z_975) / (4 * freedom)


def batch_means(values: Floats) -> Interval | None:
    """Return the mean of a stationary, perhaps autocorrelated series with a 95 % interval; None for too few values.

    Non-overlapping batch means: consecutive values are averaged in 5 to 10 batches of equal length, and Student's t is
    taken over the batches, which are nearly independent where the values are not (Schmeiser, "Batch size effects in
    the analysis of simulation output", Operations Research 30(3), 1982). Values that are not numbers are left out;
    those that do not fill a batch are left out at the start, and take part in the mean.
    """
    finite = values[np.isfinite(values)]
    n = len(finite)
    batches = min(MOST_BATCHES, n // 2)
    if batches < FEWEST_BATCHES:
        return None
    length = n // batches
    means = finite[n - batches * length :].reshape(batches, length).mean(axis=1)
    half = t_975(batches - 1) * float(means.std(ddof=1)) / math.sqrt(batches)
    return Interval(float(finite.mean()), half, n, batches)


def mean(values: Floats) -> float | None:
    """Return the mean of the finite values; None where there is none."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else None


def quantile(values: Floats, q: float) -> float | None:
    """Return a quantile of the finite values (linear between order statistics); None where there is none."""
    finite = values[np.isfinite(values)]
    return float(np.quantile(finite, q)) if len(finite) else None


def busiest_stretch(series: Series, length_s: float) -> tuple[float, float, float] | None:
    """Return (mean, start, end) of the stretch of `length_s` seconds with the highest mean, in s of the window.

    A stretch counts only if at least four fifths of its points are there. A series shorter than `length_s` is one
    stretch. None where there is no point.
    """
    finite = np.isfinite(series.v)
    t, v = series.t[finite], series.v[finite]
    if not len(t):
        return None
    step = series.step
    total = np.concatenate(([0.0], np.cumsum(v)))
    last = np.searchsorted(t, t - step + length_s + step * 1e-6, side="right")
    number = last - np.arange(len(t))
    fits = t - step + length_s <= t[-1] + step * 1e-6
    whole = fits & (number * step >= 0.8 * length_s)
    if not whole.any():
        return (float(v.mean()), float(t[0] - step), float(t[-1]))
    means = np.where(whole, (total[last] - total[:-1]) / np.maximum(number, 1), -np.inf)
    best = int(np.argmax(means))
    return (float(means[best]), float(t[best] - step), float(t[last[best] - 1]))


def longest_stretch_above(series: Series, threshold: float) -> float:
    """Return for how many seconds on end the series was at or above `threshold`, at most."""
    step = series.step
    longest = run = 0
    previous = -math.inf
    for t, v in zip(series.t.tolist(), series.v.tolist(), strict=True):
        if v >= threshold:
            run = run + 1 if t - previous <= 1.5 * step else 1
            longest = max(longest, run)
        else:
            run = 0
        previous = t
    return longest * step


def share_above(series: Series, threshold: float) -> float:
    """Return the share of points at or above `threshold` (0…1)."""
    finite = series.v[np.isfinite(series.v)]
    return float((finite >= threshold).mean()) if len(finite) else 0.0


def gaps(series: Series, start: float, end: float) -> list[tuple[float, float]]:
    """Return the stretches of (start, end) that no point covers: longer than three usual steps, and than 3 s."""
    inside = series.t[(series.t > start) & (series.t <= end + series.step)]
    if not len(inside):
        return [(start, end)] if end > start else []
    step = series.step
    allowed = max(3 * step, 3.0)
    edges = np.concatenate(([start], inside, [max(end, float(inside[-1]))]))
    return [
        (left, min(right - (step if i < len(inside) else 0.0), end))
        for i, (left, right) in enumerate(pairwise(edges.tolist()))
        if right - left > allowed
    ]


@dataclass(frozen=True)
class Bins:
    """A series in bins of equal width: `centre` in s; what no point fell into is not a number."""

    centre: Floats
    mean: Floats
    low: Floats
    high: Floats
    width: float


def bins(series: Series, start: float, end: float, width: float) -> Bins:
    """Put the points that cover (start, end] in bins of `width` seconds: mean, smallest and largest of each."""
    amount = max(1, math.ceil((end - start) / width - 1e-9))
    centre: Floats = np.asarray(start + (np.arange(amount) + 0.5) * width, dtype=np.float64)
    inside = np.isfinite(series.v) & (series.t > start) & (series.t <= start + amount * width)
    index = np.clip(np.ceil((series.t[inside] - start) / width - 1e-9).astype(int) - 1, 0, amount - 1)
    values = series.v[inside]
    number = np.bincount(index, minlength=amount)
    total = np.bincount(index, weights=values, minlength=amount)
    low = np.full(amount, np.inf)
    high = np.full(amount, -np.inf)
    np.minimum.at(low, index, values)
    np.maximum.at(high, index, values)
    empty = number == 0
    average = np.where(empty, np.nan, total / np.maximum(number, 1))
    return Bins(centre, average, np.where(empty, np.nan, low), np.where(empty, np.nan, high), width)


ROUND_WIDTHS = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600)


def round_width(least: float) -> float:
    """Return the smallest round number of seconds that is not below `least`."""
    for width in ROUND_WIDTHS:
        if width >= least * 0.999:
            return float(width)
    return float(math.ceil(least / 3600) * 3600)


def bin_width(length_s: float, step: float, most: int) -> float:
    """Return the smallest round width (s) that makes at most `most` bins of points `step` s apart.

    Below 5 s a bin is at least two steps wide, so that one late point leaves no hole in a figure.
    """
    return round_width(max(2 * step if step < 5 else step, length_s / most))
