"""The search for the highest rate at which objectives still hold. Pure: whoever drives it does the sending.

It doubles the rate until an objective fails, then bisects (in ratios) between the highest rate that held and the lowest
that failed. A rate fails when two tries failed, unless the first failed by far: a busy machine's one bad moment is not
the server's limit. Needs only Python's own library: it is copied to the load hosts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

Measure = Literal["percentile", "mean", "max", "errors"]

BEYOND = 10  # a percentile needs this many requests beyond it to be worth its name
BY_FAR = 3.0  # a value this many times its bound needs no second try
LOWEST = 0.1  # requests/s: below it nothing holds

_OBJECTIVE = re.compile(
    r"\s*(p\d+(?:\.\d+)?|max|mean|errors)\s*(<=?)\s*(\d+(?:\.\d+)?)\s*(us|µs|ms|s|%)\s*", re.IGNORECASE
)
_MEASURES: dict[str, Measure] = {"mean": "mean", "max": "max", "errors": "errors"}
_SECONDS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}


@dataclass(frozen=True)
class Objective:
    """One bound: on a percentile of latency (s), its mean or maximum, or the share of errors."""

    text: str
    measure: Measure
    q: float  # of a percentile: 0.99
    bound: float  # s, or a share
    unit: str

    @property
    def fewest(self) -> int:
        """How many requests a step needs to tell: of errors, enough for a single one to be within the bound."""
        if self.measure == "percentile":
            return math.ceil(BEYOND / (1 - self.q) - 1e-9)
        return math.ceil(1 / self.bound) if self.measure == "errors" and self.bound > 0 else 100

    def value(self, latencies: Sequence[float], errors: int) -> float:
        """Return the measure of requests with sorted latencies (s); in percentiles one that failed took forever."""
        total = len(latencies) + errors
        if not total:
            return math.inf
        if self.measure == "errors":
            return errors / total
        if not latencies:
            return math.inf
        if self.measure == "mean":
            return sum(latencies) / len(latencies)
        rank = total if self.measure == "max" else math.ceil(self.q * total - 1e-9)
        return latencies[rank - 1] if 0 < rank <= len(latencies) else (math.inf if rank else latencies[0])

    def shown(self, value: float) -> float:
        """Return a value in the objective's own unit."""
        return value * 100 if self.unit == "%" else value / _SECONDS[self.unit]


def objectives(text: str) -> list[Objective]:
    """Read `p99 < 50 ms, errors < 0.1 %`; `ValueError` names the part that is none."""
    found = []
    for part in text.split(","):
        match = _OBJECTIVE.fullmatch(part)
        name = match[1].lower() if match else ""
        unit = match[4].lower() if match else ""
        if match is None or (unit == "%") != (name == "errors"):
            raise ValueError(
                f"{part.strip()!r} is no objective: write `p99 < 50 ms`, `mean < 10 ms` or `errors < 0.1 %`"
            )
        bound = float(match[3]) * (0.01 if unit == "%" else _SECONDS[unit])
        if name.startswith("p"):
            # p999 is p99.9, as tools print it.
            text_of_q = f"99.{name[3:]}" if re.fullmatch("p999+", name) else name[1:]
            q = round(float(text_of_q) / 100, 12)
            if not 0 < q < 1:
                raise ValueError(f"{part.strip()!r}: a percentile lies between 0 and 100")
            found.append(Objective(part.strip(), "percentile", q, bound, unit))
        else:
            measure: Literal["mean", "max", "errors"] = (
                "mean" if name == "mean" else "max" if name == "max" else "errors"
            )
            found.append(Objective(part.strip(), measure, 1.0, bound, unit))
    return found


def step_seconds(wanted: Sequence[Objective], rate: float, least: float, most: float) -> float:
    """Return how long a step at `rate` (requests/s) must be for all objectives to be told, in s; not above `most`."""
    return min(max([least, *(one.fewest / rate for one in wanted)]), most)


@dataclass
class Search:
    """Which rate to try next."""

    rate: float  # requests/s to begin with
    most: float  # that may be tried
    precision: float = 0.03  # it ends when the two rates are this close
    held: float | None = None  # the highest that held
    failed: float | None = None  # the lowest that failed
    _again: float | None = field(default=None, repr=False)

    def next(self) -> float | None:
        """Return the next rate to try; None when the answer is known as closely as asked."""
        if self._again is not None:
            return self._again
        if self.failed is None:
            if self.held is None:
                return min(self.rate, self.most)
            return None if self.held >= self.most else min(2 * self.held, self.most)
        if self.held is None:
            return self.failed / 2 if self.failed / 2 >= LOWEST else None
        return None if self.failed / self.held <= 1 + self.precision else math.sqrt(self.held * self.failed)

    def tell(self, rate: float, excess: float) -> bool:
        """Take a try's outcome: its worst value as a multiple of its bound. Return True where the rate is decided."""
        if excess < 1:
            self._again = None
            self.held = max(rate, self.held or 0.0)
            return True
        if self._again is None and excess < BY_FAR:
            self._again = rate
            return False
        self._again = None
        self.failed = min(rate, self.failed or math.inf)
        return True
