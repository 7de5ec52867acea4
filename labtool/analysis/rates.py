"""Rates of several clients over time, added in common steps."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from labtool.analysis.data import Client, Floats, Series


def total_rate(clients: Iterable[Client], start: float, end: float, width: float, of: str = "rate") -> Series:
    """Return the sum of the clients' rates in steps of `width` s, by the time each interval overlaps each step.

    Before its first and after its last interval a client did nothing; a hole between them makes the sum unknown there
    (not a number). A last step that would reach beyond `end` is left out.
    """
    steps = np.arange(math.floor((end - start) / width + 1e-6) + 1, dtype=np.float64)
    edges: Floats = np.asarray(start + steps * width, dtype=np.float64)
    if len(edges) < 2:
        return Series(np.empty(0), np.empty(0))
    total = np.zeros(len(edges) - 1)
    longest = np.zeros(len(edges) - 1)
    for client in clients:
        rate: Floats = getattr(client, of)
        good = np.isfinite(rate) & (client.duration > 0)
        if not good.any():
            return Series(edges[1:], np.full(len(edges) - 1, np.nan))
        starts, ends, rate = joined(client.start[good], client.end[good], rate[good])
        amount, covered = _amounts(starts, ends, rate, edges)
        life = np.clip(np.minimum(edges[1:], ends[-1]) - np.maximum(edges[:-1], starts[0]), 0, None)
        # Times are of microseconds and rates of doubles: a twentieth of a step may be uncovered.
        whole = covered >= life - 0.05 * width
        total += np.where(whole, amount / np.where(life > 0, np.maximum(life, 1e-9), width), np.nan) * (life / width)
        longest = np.maximum(longest, life)
    # A step in which every client began or ended would show their half of it as a fall of the rate.
    return Series(edges[1:], np.where((longest > 0) & (longest < 0.95 * width), np.nan, total))


def joined(start: Floats, end: Floats, rate: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the intervals with those neighbours joined that miss each other by less than half an interval.

    A tool's lines come when they come, so an interval that follows another begins up to some tenths of a second before
    or after its end. Its operations are kept: the rate is of the new length. Longer holes stay.
    """
    length = end - start
    near = np.abs(start[1:] - end[:-1]) < 0.5 * length[1:]
    begins = np.concatenate((start[:1], np.where(near & (end[:-1] < end[1:]), end[:-1], start[1:])))
    return begins, end, np.asarray(rate * length / np.maximum(end - begins, 1e-9), dtype=np.float64)


def _amounts(start: Floats, end: Floats, rate: Floats, edges: Floats) -> tuple[Floats, Floats]:
    """Return operations and seconds of the intervals that fall between neighbouring edges."""
    at = np.empty(2 * len(start))
    at[0::2], at[1::2] = start, np.maximum(end, start)
    at = np.maximum.accumulate(at)
    lengths = at[1::2] - at[0::2]
    done = np.zeros(len(at))
    done[1::2] = rate * lengths
    spent = np.zeros(len(at))
    spent[1::2] = lengths
    return (
        np.diff(np.interp(edges, at, np.cumsum(done))),
        np.diff(np.interp(edges, at, np.cumsum(spent))),
    )
