"""Endpoints, methods or variants of one run beside each other: the median and the 99th percentile of each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from labtool.analysis import format as fmt
from labtool.analysis.data import Requests
from labtool.analysis.model import Finding, Value
from labtool.analysis.quantiles import Quantile, Ratio, quantiles, ratio

MOST = 12
FLOOR = 0.03
"""A ratio this close to 1 is no difference, whatever its interval."""
RANKS = (("p50", 0.5), ("p99", 0.99))


@dataclass(frozen=True)
class Compared:
    """An endpoint, and how its latency compares with that of the first (the one asked most often); times in s."""

    name: str
    n: int
    failed: int
    quantiles: dict[str, Quantile]
    ratios: dict[str, Ratio]  # to the first; {} for the first itself


def compare(requests: Requests) -> list[Compared]:
    """Return the endpoints, the most frequent first, at most `MOST`; none where there is only one."""
    good, counted = requests.good, requests.counted
    number = np.bincount(requests.endpoint[counted], minlength=len(requests.endpoints))
    chosen = [int(code) for code in np.argsort(-number, kind="stable") if number[code]][:MOST]
    if len(chosen) < 2:
        return []
    found: list[Compared] = []
    first = None
    for code in chosen:
        mine = requests.endpoint == code
        times, values = requests.due[mine & good], requests.latency[mine & good].astype(np.float64)
        failed = int((mine & counted & ~requests.ok).sum())
        known = {one.name: one for one in quantiles(values, RANKS)}
        ratios: dict[str, Ratio] = {}
        if first is None:
            first = (times, values, known)
        else:
            ratios = {
                name: ratio(q, (times, values), first[:2]) for name, q in RANKS if name in known and name in first[2]
            }
        found.append(Compared(requests.endpoints[code], int(number[code]), failed, known, ratios))
    return found


def differs(one: Ratio) -> bool:
    """Return True if the interval excludes 1 and the effect is above the floor."""
    return one.low is not None and one.high is not None and not one.low <= 1 <= one.high and abs(one.value - 1) > FLOOR


def findings(found: list[Compared]) -> list[Finding]:
    """Return how the endpoints compare with the first of them, within this run."""
    if not found:
        return []
    base = found[0]
    said = []
    evidence: dict[str, Value] = {}
    for name, _ in RANKS:
        other = max(
            (one for one in found[1:] if name in one.ratios),
            key=lambda one: abs(np.log(one.ratios[name].value)),
            default=None,
        )
        if other is None:
            continue
        one = other.ratios[name]
        evidence |= {f"{name}_ratio": one.value, f"{name}_ratio_low": one.low, f"{name}_ratio_high": one.high}
        pair = (
            f"{name} {fmt.milliseconds(other.quantiles[name].value * 1000)} against "
            f"{fmt.milliseconds(base.quantiles[name].value * 1000)}"
        )
        if one.low is None or one.high is None:
            said.append(f"{other.name} has {pair} of {base.name}, too short a time for an interval")
        elif differs(one):
            said.append(
                f"{other.name} has {pair} of {base.name}, {fmt.number(one.value)} times "
                f"({fmt.number(one.low)} to {fmt.number(one.high)})"
            )
        else:
            said.append(f"in {name} no difference is seen ({fmt.number(one.low)} to {fmt.number(one.high)} times)")
    if not said:
        sentence = f"The {len(found)} endpoints cannot be compared: too few requests of each succeeded."
        return [Finding("latency.endpoints", "latency", "note", sentence, figure="endpoints")]
    lead = "The two endpoints compared" if len(found) == 2 else "The endpoints furthest apart"
    sentence = f"{lead}: {'; '.join(said)}. That is within this one run."
    return [
        Finding(
            "latency.endpoints",
            "latency",
            "note",
            sentence,
            "95 % by a block bootstrap over stretches of time within this run; between runs it takes several runs",
            evidence,
            "endpoints",
        )
    ]
