"""When requests are due: rates over time, and the moments at which a rate says that one is to be sent.

A rate is a list of pieces (start, end, rate there, rate at the end): linear in between. The k-th request is due when
the integral of the rate reaches k. Needs only Python's own library: it is copied to the load hosts.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

PROFILES = ("constant", "ramp", "steps", "spike")
SPIKE = (0.4, 0.6)  # where in the time the spike is


class Piece(NamedTuple):
    """A time in which the rate is linear: s and requests/s."""

    start: float
    end: float
    first: float
    last: float

    @property
    def requests(self) -> float:
        """How many are due in it."""
        return (self.end - self.start) * (self.first + self.last) / 2

    def when(self, done: float) -> float:
        """Return when `done` requests (of this piece) were due, in s."""
        if self.first == self.last:
            return self.start + done / self.first
        slope = (self.last - self.first) / (self.end - self.start)
        # slope/2 t² + first t = done, solved so that a small slope loses no digits
        root = math.sqrt(max(self.first**2 + 2 * slope * done, 0.0))
        return self.start + 2 * done / (self.first + root)


def profile(kind: str, seconds: float, rate: float, peak: float, steps: int) -> list[Piece]:
    """Return the rate over `seconds`; `peak` is where a ramp or steps end, and how high a spike is.

    `ValueError` for a kind that there is not.
    """
    if kind == "constant":
        return [Piece(0, seconds, rate, rate)]
    if kind == "ramp":
        return [Piece(0, seconds, rate, peak)]
    if kind == "steps":
        length = seconds / steps
        rates = [rate + (peak - rate) * at / max(steps - 1, 1) for at in range(steps)]
        return [Piece(at * length, (at + 1) * length, one, one) for at, one in enumerate(rates)]
    if kind == "spike":
        first, last = (share * seconds for share in SPIKE)
        return [
            Piece(0, first, rate, rate),
            Piece(first, last, peak, peak),
            Piece(last, seconds, rate, rate),
        ]
    raise ValueError(f"profile {kind!r} is none of {', '.join(PROFILES)}")


def from_points(points: Sequence[tuple[float, float]], seconds: float) -> list[Piece]:
    """Return the rate that holds from each (s, requests/s) to the next, for `seconds` in all."""
    ends = [min(at, seconds) for at, _ in points[1:]] + [seconds]
    return [Piece(at, end, rate, rate) for (at, rate), end in zip(points, ends, strict=True) if end > at]


def even(pieces: Sequence[Piece], part: int = 0, of: int = 1) -> Iterator[float]:
    """Yield when each request is due, in s: those of client `part` of `of`, who take turns."""
    number, before = part, 0.0
    for piece in pieces:
        after = before + piece.requests
        while number < after - 1e-9:
            yield piece.when(number - before)
            number += of
        before = after


def poisson(pieces: Sequence[Piece], seed: int, part: int = 0, of: int = 1) -> Iterator[float]:
    """Yield when each request is due, as a Poisson process of that rate: independent users; the same for a seed.

    The sum of the clients' processes, each of 1/`of` of the rate, is the whole one.
    """
    chance = random.Random(f"{seed}/{part}/{of}")  # noqa: S311 - it shall be repeatable, not secret
    reached, before = chance.expovariate(1.0), 0.0
    for piece in pieces:
        after = before + piece.requests / of
        while reached < after:
            yield piece.when((reached - before) * of)
            reached += chance.expovariate(1.0)
        before = after


def mean_rate(pieces: Sequence[Piece], start: float, end: float) -> float:
    """Return the mean rate between two moments, in requests/s."""
    total = 0.0
    for piece in pieces:
        first, last = max(start, piece.start), min(end, piece.end)
        if last > first:
            slope = (piece.last - piece.first) / (piece.end - piece.start)
            total += (last - first) * (piece.first + slope * ((first + last) / 2 - piece.start))
    return total / max(end - start, 1e-9)
