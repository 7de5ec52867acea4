"""Did the generator keep its times: how late requests were sent, and whose fault that was.

A request is sent late for one of three reasons. Every connection waits for an answer: then the server is slow, or the
connections are too few for the rate. The load host has no CPU left. Or the generator itself stood still. In the last
two the rates and latencies are the generator's and not the server's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from labtool.analysis import format as fmt
from labtool.analysis.data import Requests, RunData
from labtool.analysis.model import Finding, Severity, Value
from labtool.analysis.quantiles import rank
from labtool.analysis.requests import Felt
from labtool.analysis.resources import Usage, full_core

LATE_S = 0.001
"""A request sent within a millisecond of when it was due is on time."""
NOTABLE = 0.10
"""Lateness whose median and p99 are a smaller share of the latency's is of no matter."""
FULL_CONNECTIONS = 0.9
MOSTLY = 0.5


@dataclass(frozen=True)
class Lateness:
    """How late the counted requests were sent, in s, and how many were under way then."""

    n: int
    p50: float
    p99: float
    most: float
    most_at: float  # s of the window
    late: int  # sent more than LATE_S after they were due
    waited: int  # of them those sent while all connections were in use: they waited for an answer
    connections: int  # most requests that were under way at once, of all clients
    unsent: int


def lateness_of(requests: Requests) -> Lateness | None:
    """Return how late requests were sent; None where none was."""
    sent = requests.counted & np.isfinite(requests.late)
    if not sent.any():
        return None
    late = requests.late[sent]
    n = len(late)
    at = np.partition(late, (rank(n, 0.5) - 1, rank(n, 0.99) - 1))
    worst = int(np.argmax(late))
    waited = connections = 0
    for code in range(len(requests.clients)):
        mine = (requests.client == code) & np.isfinite(requests.late)
        most, after = _under_way(requests, mine)
        connections += most
        waited += int(
            ((after >= FULL_CONNECTIONS * most) & (requests.late[mine] > LATE_S) & ~requests.warmup[mine]).sum()
        )
    return Lateness(
        n=n,
        p50=max(float(at[rank(n, 0.5) - 1]), 0.0),
        p99=max(float(at[rank(n, 0.99) - 1]), 0.0),
        most=float(late[worst]),
        most_at=float(requests.due[sent][worst]),
        late=int((late > LATE_S).sum()),
        waited=waited,
        connections=connections,
        unsent=int((requests.counted & ~np.isfinite(requests.late)).sum()),
    )


def _under_way(requests: Requests, mine: Any) -> tuple[int, Any]:
    """Return the most requests of a client under way at once, and for each how many were once it had been sent."""
    sent = requests.due[mine] + requests.late[mine]
    ended = np.sort(sent + np.nan_to_num(requests.service[mine]))
    order = np.argsort(sent)
    number = np.empty(len(sent), dtype=np.int64)
    # One that ends in the very microsecond in which another is sent has made room for it.
    number[order] = np.arange(1, len(sent) + 1) - np.searchsorted(ended, sent[order] + 1e-6, side="right")
    number = np.maximum(number, 1)
    return (int(number.max()) if len(number) else 0), number


def _all(connections: int) -> str:
    return "the one connection" if connections == 1 else f"all {connections:,} connections"


def findings(data: RunData, found: Lateness | None, felt: Felt | None, usage: list[Usage]) -> list[Finding]:
    """Return whether the generator kept its times; nothing of a closed loop, which has none to keep."""
    if found is None:
        return []
    evidence: dict[str, Value] = {
        "late_p50_ms": found.p50 * 1000,
        "late_p99_ms": found.p99 * 1000,
        "late_most_ms": found.most * 1000,
        "late_share": found.late / found.n,
        "waited_for_a_connection_share": found.waited / found.late if found.late else None,
        "connections": found.connections,
        "unsent": found.unsent,
    }
    busy = [use for use in usage if use.resource == "cpu" and use.host in data.load_hosts]
    if busy:
        evidence["load_host_cpu"] = max(use.peak for use in busy)
    tail = felt.latency.get("p99") if felt else None
    service = felt.service.get("p50") if felt else None
    median = felt.latency.get("p50") if felt else None
    matters = any(
        late > LATE_S and (latency is None or late * 1000 > NOTABLE * latency.value)
        for late, latency in ((found.p50, median), (found.p99, tail))
    )
    text = f"99 of 100 requests were sent within {fmt.milliseconds(max(found.p99 * 1000, 0.01))} of when they were due"
    latest = f"the latest {fmt.milliseconds(found.most * 1000)} after, at {found.most_at:,.1f} s"
    bound = f"of {found.n:,} requests; on time means within {fmt.milliseconds(LATE_S * 1000)}"
    if not matters:
        sentence = f"The generator kept its times: {text}, {latest}."
        return [Finding("load.generator", "trust", "ok", sentence, bound, evidence, "late")]
    full = [use.host for use in busy if use.saturated or full_core(data, use.host) >= MOSTLY]
    late = (
        f"{fmt.percent(found.late / found.n)} of the requests were sent late (1 of 100 by "
        f"{fmt.milliseconds(found.p99 * 1000)} or more)"
    )
    severity: Severity = "problem"
    answering = (
        f" while half of the answers came within {fmt.milliseconds(service.value)} of the send" if service else ""
    )
    if full:
        sentence = (
            f"The generator was saturated: {late}{answering}, and the CPU of {fmt.listed(full)} was full. The rates "
            "and latencies are the generator's; use more or larger load hosts."
        )
        brief = "The generator was saturated: rates and latencies are the generator's."
    elif found.waited >= MOSTLY * found.late:
        severity = "warning"
        sentence = (
            f"{late}, {fmt.percent(found.waited / found.late)} of them because "
            f"{_all(found.connections)} waited for an answer. That is the server's time, and it is "
            "in the latency; in the service time it is not."
        )
        if service:
            most = found.connections / (service.value / 1000)
            evidence["connections_carry_per_s"] = most
            sentence += (
                f" At {fmt.milliseconds(service.value)} a request so many connections carry at most "
                f"{fmt.rate(most, 'requests')}."
            )
        brief = "Requests waited for a free connection: service times understate what users would have felt."
    elif tail and found.p50 <= LATE_S and found.p99 * 1000 < MOSTLY * tail.value:
        severity = "warning"
        sentence = (
            f"The generator was late now and then: {late}{answering}. The median is the server's; in the highest "
            "percentiles the generator's own lateness has a part, which the service time leaves out."
        )
        brief = "The highest percentiles have the generator's own lateness in them."
    else:
        cpu = evidence.get("load_host_cpu")
        known = f" The load hosts' CPU was at {fmt.percent(float(cpu))} at most." if isinstance(cpu, float) else ""
        sentence = (
            f"The generator was saturated, or stood still: {late}{answering}, and "
            f"{fmt.percent(1 - found.waited / found.late)} of them with fewer than its "
            f"{fmt.plural(found.connections, 'connection')} in use.{known} The rates and latencies are the generator's."
        )
        brief = "The generator sent late by itself: rates and latencies are the generator's."
    window = (found.most_at, found.most_at + found.most)
    return [Finding("load.generator", "trust", severity, sentence, bound, evidence, "late", "", window, brief)]
