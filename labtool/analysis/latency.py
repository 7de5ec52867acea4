"""How the load felt: percentiles, the slowest operation, and what the tool's latency means.

Percentiles of several clients are never averaged. The percentile of all their operations together lies between the
smallest and the largest of the clients' own (each client has at least a share q of its operations at or below its own
q-percentile, hence all of them do at or below the largest, and likewise from below); that pair is what is stated.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from labtool.analysis import format as fmt
from labtool.analysis import requests
from labtool.analysis.data import RunData
from labtool.analysis.model import Finding
from labtool.analysis.requests import Felt
from labtool.analysis.workload import SHORTFALL, Load


@dataclass(frozen=True)
class Percentile:
    """A percentile of each client, and what is true of all of them together."""

    name: str  # p50
    q: float
    by_client: tuple[tuple[str, float], ...]

    @property
    def low(self) -> float:
        """The smallest of the clients': all operations together are not below."""
        return min(value for _, value in self.by_client)

    @property
    def high(self) -> float:
        """The largest of the clients': all operations together are not above."""
        return max(value for _, value in self.by_client)


def percentiles(data: RunData, role: str) -> list[Percentile]:
    """Return the percentiles that the clients of `role` gave at their end; clients that gave none are left out."""
    found = []
    for name, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("p999", 0.999)):
        values = tuple(
            (summary.name, float(value))
            for summary in data.summaries
            if summary.role == role and (value := getattr(summary, name)) is not None
        )
        if values:
            found.append(Percentile(name, q, values))
    return found


def whole_milliseconds(found: Iterable[Percentile]) -> bool:
    """Return True if the tool evidently counts in whole ms."""
    values = [value for percentile in found for _, value in percentile.by_client]
    return bool(values) and all(value == int(value) for value in values)


def findings(data: RunData, load: Load, felt: Felt | None = None) -> list[Finding]:
    """Return what is to be said of latency; `felt` is what single requests took, where the clients left them."""
    if data.requests is not None:
        return requests.findings(data, load, felt) + _without_answer(data, load)
    found: list[Finding] = []
    known = {percentile.name: percentile for percentile in percentiles(data, load.role)}
    median, tail = known.get("p50"), known.get("p99")
    if median and tail:
        several = len(tail.by_client) > 1
        half = fmt.latency_range(median.low, median.high)
        most = fmt.latency_range(tail.low, tail.high)
        sentence = f"Half of the {load.noun} took {half} or less, 99 of 100 took {most} or less."
        resolution = "whole milliseconds" if whole_milliseconds(known.values()) else "as the tool prints it"
        bound = resolution
        if several:
            bound += (
                f"; the percentile of all {len(tail.by_client)} {load.role}s together lies between the smallest "
                "and the largest of theirs"
            )
        evidence = {f"{p.name}_{side}_ms": getattr(p, side) for p in known.values() for side in ("low", "high")}
        found.append(Finding("latency.summary", "latency", "note", sentence, bound, evidence, "percentiles"))
        found += _warmup_in_percentiles(data, load)
    found += _highest(data, load)
    if median or any(np.isfinite(c.latency_avg).any() for c in data.clients if c.role == load.role):
        found += _what_is_measured(data, load) + _without_answer(data, load)
    elif load.names:
        sentence = f"The {load.role}s measure no latency, so nothing is said about it."
        found.append(Finding("latency.none", "latency", "refused", sentence))
    return found


def _warmup_in_percentiles(data: RunData, load: Load) -> list[Finding]:
    """The tools' own summaries begin with their first operation."""
    warm = data.measured[0]
    inside = [
        s.name
        for s in data.summaries
        if s.role == load.role and s.p99 is not None and s.start is not None and s.start < warm - 1.0
    ]
    if not inside or warm <= 0:
        return []
    sentence = (
        f"The percentiles are of the clients' whole life, with the {fmt.duration(warm)} of warm-up in them; "
        "rates and hosts' numbers are without it."
    )
    return [
        Finding(
            "latency.warmup",
            "trust",
            "warning",
            sentence,
            evidence={"warmup_s": warm, "clients": len(inside)},
            figure="percentiles",
            brief="The latency percentiles include the warm-up; all else is without it.",
        )
    ]


def _highest(data: RunData, load: Load) -> list[Finding]:
    start, end = load.span
    best: tuple[float, float, str, float] | None = None
    for client in data.clients:
        if client.role != load.role:
            continue
        inside = np.isfinite(client.latency_max) & (client.start >= start - 0.5) & (client.end <= end + 0.5)
        if not inside.any():
            continue
        at = int(np.argmax(np.where(inside, client.latency_max, -np.inf)))
        candidate = (float(client.latency_max[at]), float(client.end[at]), client.name, float(client.duration[at]))
        best = candidate if best is None or candidate[0] > best[0] else best
    if best is None:
        return []
    value, at_s, name, length = best
    window = (at_s - length, at_s)
    sentence = f"The slowest of the {load.noun} took {fmt.milliseconds(value)}, at {fmt.span(*window)} ({name})."
    return [
        Finding(
            "latency.highest",
            "latency",
            "note",
            sentence,
            f"known to the interval of {fmt.duration(length)}",
            {"latency_ms": value},
            "latency",
            name.split("/")[0],
            window,
        )
    ]


def _without_answer(data: RunData, load: Load) -> list[Finding]:
    if not data.unacknowledged or load.role == "consumer":
        return []
    sentence = (
        f"With acks=0 the {load.role}s wait for no broker: {load.noun} count as done once they are handed to the "
        "network, so no latency holds an acknowledgement, and none says when, or whether, a record was stored."
    )
    brief = "With acks=0 no latency holds an acknowledgement: it says nothing of when, or whether, a record was stored."
    return [Finding("latency.acks", "trust", "warning", sentence, figure="percentiles", brief=brief)]


def _what_is_measured(data: RunData, load: Load) -> list[Finding]:
    """State from when latency counts: the largest source of wrong conclusions (coordinated omission)."""
    worker = data.record.latency == "intended" or data.record.workload_options.get("client") == "worker"
    if (data.record.workload or "").startswith("kafka") and load.role == "producer" and not worker:
        ratio = load.ratio
        behind = ratio is not None and ratio < 1 - SHORTFALL
        sentence = (
            "kafka-producer-perf-test counts latency from the actual send, not from when the record was due, in "
            "whole milliseconds, and leaves failed sends out: time spent waiting for a turn is in no percentile."
        )
        brief = (
            "Latency counts from the actual send, in whole ms, without failed sends: waiting for a turn is not in it."
        )
        if behind:
            sentence += " The rate fell short, so records did wait: read the percentiles as lower bounds."
            brief = "Latency counts from the actual send and the rate fell short: the percentiles are lower bounds."
        return [
            Finding(
                "latency.measured",
                "trust",
                "warning" if behind else "note",
                sentence,
                figure="percentiles",
                brief=brief,
            )
        ]
    if load.closed:
        sentence = (
            f"{data.record.workload} sends the next request when the last was answered, and counts from the send: the "
            "rate adapts to the server, a slow server is asked less often, and a stall is in few requests. The "
            "percentiles are lower bounds of what users would have felt."
        )
        brief = "A closed loop that counts from the send: the percentiles are lower bounds. Compare with http-load."
        return [Finding("latency.measured", "trust", "warning", sentence, figure="percentiles", brief=brief)]
    if data.record.latency == "intended":
        sentence = (
            f"Latency counts from when each of the {load.noun} was due, so the time one waited for its turn is in it."
        )
        return [Finding("latency.measured", "latency", "ok", sentence, figure="percentiles")]
    sentence = (
        f"It is not recorded whether the {load.role}s count latency from the intended or from the actual send; if "
        "from the actual one, the percentiles are lower bounds."
    )
    brief = "It is not known whether latency counts from the intended send; if not, it is a lower bound."
    return [Finding("latency.measured", "trust", "note", sentence, figure="percentiles", brief=brief)]
