"""Whether a backlog grows: the slope of a line through it, with an interval that knows that neighbours are alike. Pure.

Needs only Python's own library: it is copied to the load hosts.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

FEWEST = 5  # points that it takes
GROWS = 0.01  # a backlog that grows by less than this share of the rate is one that does not: 99 % is done


@dataclass(frozen=True)
class Growth:
    """The slope of a backlog in records/s, and the half width of its 95 % interval."""

    slope: float
    half: float
    points: int

    @property
    def low(self) -> float:
        """The interval's lower end."""
        return self.slope - self.half

    @property
    def high(self) -> float:
        """The interval's upper end."""
        return self.slope + self.half

    def grows(self, rate: float) -> bool:
        """Return True if it grows: zero is below the interval, and the slope is more than a share of the rate."""
        return self.low > 0 and self.slope > GROWS * rate

    def told(self, rate: float) -> bool:
        """Return True if there is nothing left to wait for: it grows, or could not grow by a share of the rate."""
        return self.grows(rate) or self.high <= GROWS * rate


def growth(times: Sequence[float], values: Sequence[float]) -> Growth | None:
    """Return the growth of `values` over `times` (s); None for too few points.

    Least squares. Residuals that follow each other are alike, so the number of points is reduced to that of as many
    independent ones, n (1 - r) / (1 + r) with their lag-1 autocorrelation r (Santer et al., "Statistical significance
    of trends and trend differences in layer-average atmospheric temperature time series", J. Geophys. Res. 105, 2000).
    """
    n = len(times)
    if n < FEWEST:
        return None
    mean_t, mean_v = sum(times) / n, sum(values) / n
    spread = sum((t - mean_t) ** 2 for t in times)
    if spread <= 0:
        return None
    slope = sum((t - mean_t) * (v - mean_v) for t, v in zip(times, values, strict=True)) / spread
    rest = [v - mean_v - slope * (t - mean_t) for t, v in zip(times, values, strict=True)]
    square = sum(one * one for one in rest)
    if square <= 1e-12:
        return Growth(slope, 0.0, n)
    alike = min(max(sum(a * b for a, b in itertools.pairwise(rest)) / square, 0.0), 0.9)
    effective = max(n * (1 - alike) / (1 + alike), 3.0)
    error = math.sqrt(square / (effective - 2) / spread)
    return Growth(slope, t_975(effective - 2) * error, n)


def t_975(freedom: float) -> float:
    """Return the 97.5 % point of Student's t (Cornish and Fisher's expansion, within 2 % from 3 degrees on)."""
    z, f = 1.959964, max(freedom, 1.0)
    if f < 3:
        return 12.706 + (f - 1) * (4.303 - 12.706) if f < 2 else 4.303 + (f - 2) * (3.182 - 4.303)
    return (
        z
        + (z**3 + z) / (4 * f)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * f**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * f**3)
    )


def by_batch(points: Sequence[tuple[float, float]], apart_s: float) -> list[tuple[float, float]]:
    """Return of points (s, backlog) that follow each other closely the last one: a batch's results come one by one."""
    kept: list[tuple[float, float]] = []
    for index, point in enumerate(points):
        if index + 1 == len(points) or points[index + 1][0] - point[0] > apart_s:
            kept.append(point)
    return kept
