"""Clients that ran one after another, as the rounds of `ab`: their mean, with the interval over rounds."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from labtool.analysis import format as fmt
from labtool.analysis.data import ClientSummary, RunData
from labtool.analysis.model import Finding, Value
from labtool.analysis.statistics import t_975

FEWEST = 3


def rounds(data: RunData, role: str) -> list[ClientSummary]:
    """Return the clients that ran one after another, in their order; none where some ran together."""
    known = [s for s in data.summaries if s.role == role and s.start is not None and s.end is not None]
    known.sort(key=lambda one: one.start or 0.0)
    apart = all((one.end or 0.0) <= (two.start or 0.0) + 0.5 for one, two in pairwise(known))
    return known if len(known) >= FEWEST and apart else []


def findings(data: RunData, role: str) -> list[Finding]:
    """Return the mean of the rounds' rates and mean latencies, each with Student's interval over the rounds."""
    found = rounds(data, role)
    said = []
    evidence: dict[str, Value] = {"rounds": len(found)}
    for name, values, text in (
        ("rate_per_s", [one.rate for one in found], lambda v: fmt.rate(v, "requests")),
        ("mean_latency_ms", [one.latency_avg for one in found], fmt.milliseconds),
    ):
        known = np.array([value for value in values if value is not None])
        if len(known) < FEWEST:
            continue
        half = t_975(len(known) - 1) * float(known.std(ddof=1)) / math.sqrt(len(known))
        evidence |= {name: float(known.mean()), f"{name}_half_width": half}
        said.append(f"{text(float(known.mean()))} (± {fmt.number(half, 2)})")
    if not said:
        return []
    sentence = f"Over {len(found)} rounds, one after another: {' and a mean latency of '.join(said)}."
    bound = "95 %, Student's t over the rounds, which share one run's machine and its state"
    return [Finding("load.rounds", "load", "note", sentence, bound, evidence, "load")]
