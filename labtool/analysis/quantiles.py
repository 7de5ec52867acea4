"""Quantiles of single operations with their intervals, and how two sets of operations compare.

A quantile is the order statistic of rank ⌈nq⌉. Both kinds of interval are within one run: how much a quantile differs
between runs takes several runs to say.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from labtool.analysis.data import Floats

FEWEST_BEYOND = 10
"""A quantile with fewer values beyond it is not stated: it would be the luck of a few."""
LEVEL = 0.95
STATED = (("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999))

DRAWS = 1000
FEWEST_BLOCKS = 10
MOST_BLOCKS = 100
_BIN = 0.005  # width of the bins of the bootstrap's histograms, as a share of the value


@dataclass(frozen=True)
class Quantile:
    """A quantile of `n` values, and the order statistics that its true value lies between with 95 % confidence."""

    name: str
    q: float
    value: float
    low: float
    high: float
    n: int


def rank(n: int, q: float) -> int:
    """Return the rank (1…n) of the q-quantile of n values."""
    return min(max(math.ceil(n * q - 1e-9), 1), n)


def fewest(q: float) -> int:
    """Return how many values it takes to state the q-quantile."""
    return round(FEWEST_BEYOND / (1 - q))


def carried(n: int, q: float) -> bool:
    """Return True if n values carry the q-quantile: enough of them lie beyond it."""
    return n > 0 and n - rank(n, q) >= FEWEST_BEYOND


def ranks_between(n: int, q: float) -> tuple[int, int]:
    """Return the ranks of the order statistics that enclose the true q-quantile with 95 % confidence at least.

    The number of values at or below it is binomial (n, q), whatever the distribution (David and Nagaraja, Order
    Statistics, 2003, 7.1): the interval from rank l to rank u has the confidence P(l ≤ B < u). It takes the values as
    independent of each other.
    """
    spread = math.sqrt(n * q * (1 - q))
    first = max(0, math.floor(n * q - 8 * spread - 8))
    last = min(n, math.ceil(n * q + 8 * spread + 8))
    k = np.arange(first, last, dtype=np.float64)
    log = np.concatenate(([0.0], np.cumsum(np.log((n - k) / (k + 1)) + math.log(q / (1 - q)))))
    mass = np.exp(log - log.max())
    below = np.cumsum(mass) / mass.sum()  # P(B ≤ first + i)
    tail = (1 - LEVEL) / 2
    low = first + int(np.searchsorted(below, tail, side="right"))
    high = first + int(np.searchsorted(below, 1 - tail, side="left")) + 1
    return max(low, 1), min(high, n)


def quantiles(values: Any, stated: Iterable[tuple[str, float]] = STATED) -> list[Quantile]:
    """Return the quantiles that the number of values carries, with their intervals, in the values' unit."""
    finite = values[np.isfinite(values)]
    n = len(finite)
    places = {name: (q, rank(n, q), *ranks_between(n, q)) for name, q in stated if carried(n, q)}
    if not places:
        return []
    wanted = sorted({place - 1 for _, *ranks in places.values() for place in ranks})
    at = np.partition(finite, wanted)
    return [
        Quantile(name, q, float(at[middle - 1]), float(at[low - 1]), float(at[high - 1]), n)
        for name, (q, middle, low, high) in places.items()
    ]


@dataclass(frozen=True)
class Ratio:
    """A quantile of one set divided by that of another, with its 95 % interval; None where blocks are too few."""

    value: float
    low: float | None
    high: float | None


def ratio(q: float, ours: tuple[Any, Any], theirs: tuple[Any, Any], seed: int = 1) -> Ratio:
    """Return how a quantile of `ours` compares with that of `theirs`; each is (when in s, value).

    The interval is a block bootstrap's (Carlstein, Annals of Statistics 14(3), 1986): 10 to 100 equal stretches of time
    of at least a second are drawn again and again, with both sets' values in them, because what slows one request slows
    its neighbours. Quantiles of a draw are read from histograms whose bins are 0.5 % wide.
    """
    value = _at(np.sort(ours[1]), q) / _at(np.sort(theirs[1]), q)
    start = min(float(ours[0].min()), float(theirs[0].min()))
    length = max(float(ours[0].max()), float(theirs[0].max())) - start
    blocks = min(MOST_BLOCKS, int(length))
    if blocks < FEWEST_BLOCKS:
        return Ratio(value, None, None)
    least = max(min(float(ours[1].min()), float(theirs[1].min())), 1e-7)
    most = max(float(ours[1].max()), float(theirs[1].max()), least * (1 + _BIN))
    bins = math.ceil(math.log(most / least) / math.log1p(_BIN)) + 1
    drawn = np.random.default_rng(seed).multinomial(blocks, np.full(blocks, 1 / blocks), DRAWS).astype(np.float32)

    def bin_of(times: Any, values: Any) -> Floats:
        block = np.minimum((times - start) / length * blocks, blocks - 1).astype(np.int64)
        place = np.clip(np.log(np.maximum(values, least) / least) / math.log1p(_BIN), 0, bins - 1).astype(np.int64)
        table = np.bincount(block * bins + place, minlength=blocks * bins).reshape(blocks, bins)
        total = np.cumsum(drawn @ table.astype(np.float32), axis=1, dtype=np.float64)
        return np.asarray((total < q * total[:, -1:] - 1e-6).sum(axis=1), dtype=np.float64)

    ratios = np.exp((bin_of(*ours) - bin_of(*theirs)) * math.log1p(_BIN))
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(ratios, (tail, 1 - tail))
    return Ratio(value, min(float(low), value), max(float(high), value))


def _at(ordered: Any, q: float) -> float:
    return max(float(ordered[rank(len(ordered), q) - 1]), 1e-7)
