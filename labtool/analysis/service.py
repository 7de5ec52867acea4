"""What a service says of itself that limits or endangers it: thresholds its own documentation gives.

A rule is a line of `RULES`. A service that has none still gets its figures and its table.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from labtool.analysis import format as fmt
from labtool.analysis.data import Labelled, RunData
from labtool.analysis.model import Finding


@dataclass(frozen=True)
class Rule:
    """A metric of a service, the limit it should keep, and what to say of a host that does not."""

    id: str
    service: str
    metric: re.Pattern[str]
    limit: float
    above: bool  # True: too much is bad; False: too little is
    say: Callable[[str, float], str]
    source: str


RULES = (
    Rule(
        "under_replicated",
        "kafka",
        re.compile(r"UnderReplicatedPartitions(\.Value)?"),
        0.0,
        True,
        lambda host, value: f"{host} had up to {fmt.plural(round(value), 'under-replicated partition')}",
        "Kafka's documentation: the value should be 0",
    ),
    Rule(
        "handlers_busy",
        "kafka",
        re.compile(r"RequestHandlerAvgIdlePercent(\.OneMinuteRate)?"),
        0.3,
        False,
        lambda host, value: f"The request handlers of {host} were idle {fmt.percent(value)} of the time at the least",
        "Kafka's documentation: ideally above 0.3; the service's mean over a minute",
    ),
    Rule(
        "network_busy",
        "kafka",
        re.compile(r"NetworkProcessorAvgIdlePercent(\.Value)?"),
        0.3,
        False,
        lambda host, value: f"The network threads of {host} were idle {fmt.percent(value)} of the time at the least",
        "Kafka's documentation: ideally above 0.3",
    ),
)


def findings(data: RunData) -> list[Finding]:
    """Return a finding for every rule that a host broke in the measured part, naming the worst host."""
    said = []
    for rule in RULES:
        broken = [
            found
            for one in data.service
            if one.source == rule.service and rule.metric.fullmatch(one.metric) and (found := _broken(rule, one, data))
        ]
        if not broken:
            continue
        worst = max(broken, key=lambda found: found[0] if rule.above else -found[0])
        value, at, host = worst
        others = sorted({found[2] for found in broken} - {host})
        also = f"; the limit was also passed on {fmt.listed(others)}" if others else ""
        sentence = rule.say(host, value)
        said.append(
            Finding(
                f"service.{rule.id}",
                "resource",
                "warning",
                f"{sentence} (at {at:,.0f} s){also}.",
                rule.source,
                {"value": value, "limit": rule.limit},
                "service",
                host,
                (at, at),
            )
        )
    return said


def _broken(rule: Rule, one: Labelled, data: RunData) -> tuple[float, float, str] | None:
    """Return the worst value, when it was, and the host; None where the limit was kept."""
    inside = one.series.between(*data.measured)
    if not len(inside) or not np.isfinite(inside.v).any():
        return None
    at = int(np.nanargmax(inside.v) if rule.above else np.nanargmin(inside.v))
    value = float(inside.v[at])
    bad = value > rule.limit if rule.above else value < rule.limit
    return (value, float(inside.t[at]), one.host) if bad else None
