"""Turns single requests into what other workloads' clients print: rates over time, and a sum at the end.

So everything that is said of rates is computed in one way, whether a tool left single requests or only its own sums.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from labtool.analysis.data import Client, ClientSummary, Flags, Floats, Requests
from labtool.analysis.quantiles import quantiles
from labtool.analysis.statistics import round_width

ROLE = "client"
SHORTEST_S = 0.001
PER_INTERVAL = 100
"""An interval holds about so many requests of all clients, lest its rate be noise, …"""
FEWEST = 20
"""… unless there would be fewer intervals than this."""


def by_request(
    requests: Requests, clients: tuple[Client, ...], summaries: tuple[ClientSummary, ...]
) -> tuple[tuple[Client, ...], tuple[ClientSummary, ...]]:
    """Return the clients and their summaries, those of single requests made anew from them.

    Whether a client had a rate to keep is what it said of itself. One that said nothing and sent every request at the
    very moment it was due had none: each was due when the one before it was answered.
    """
    own = set(requests.clients)
    told = {summary.name: summary for summary in summaries}
    offering = {summary.name for summary in summaries if summary.offered is not None}
    offering |= {client.name for client in clients if np.isfinite(client.offered).any()}
    silent = own - told.keys() - {client.name for client in clients}
    width = interval_width(requests)
    made, ends = [], []
    for code, name in enumerate(requests.clients):
        mine = requests.client == code
        open_loop = name in offering or (name in silent and bool(np.nan_to_num(requests.late[mine]).any()))
        client = _client(requests, mine, name, width, open_loop=open_loop)
        summary = _summary(requests, mine, name, open_loop=open_loop)
        if known := told.get(name):
            client = replace(client, role=known.role)
            summary = replace(summary, role=known.role, bytes_rate=known.bytes_rate)
        made.append(client)
        ends.append(summary)
    return (
        (*(c for c in clients if c.name not in own), *made),
        (*(s for s in summaries if s.name not in own), *ends),
    )


def interval_width(requests: Requests) -> float:
    """Return the width in s of intervals that hold enough requests for a rate."""
    length = float(np.ptp(requests.due))
    return round_width(max(1.0, min(PER_INTERVAL * length / len(requests), length / FEWEST)))


def _client(requests: Requests, mine: Flags, name: str, width: float, *, open_loop: bool) -> Client:
    due = requests.due[mine]
    latency = requests.latency[mine].astype(np.float64)
    ok = requests.ok[mine] & np.isfinite(latency)
    ended = due + np.where(np.isfinite(latency), latency, 0.0)
    # The last request's own turn belongs to it; what is answered later is not done in the client's time.
    latest = np.sort(due)[-1000:]
    turn = float(np.median(np.diff(latest))) if len(latest) > 1 else width
    if float(np.ptp(due)) + turn < SHORTEST_S:  # all at once: a burst has no rate of its own
        turn = width
    begin, end = float(due.min()), float(due.max()) + turn
    amount = max(1, round((end - begin) / width))
    edges = np.append(begin + np.arange(amount) * width, end)
    length = np.diff(edges)

    def counted(times: Floats) -> Floats:
        return np.histogram(times, edges)[0].astype(np.float64)

    place = np.searchsorted(edges, ended[ok], side="right") - 1
    inside = place < amount
    place, took = place[inside], latency[ok][inside] * 1000
    number = np.bincount(place, minlength=amount)
    total = np.bincount(place, weights=took, minlength=amount)
    most = np.full(amount, -math.inf)
    np.maximum.at(most, place, took)
    none = np.full(amount, np.nan)
    return Client(
        name=name,
        role=ROLE,
        end=edges[1:],
        duration=length,
        offered=counted(due) / length if open_loop else none,
        rate=counted(ended[ok]) / length,
        bytes_rate=none,
        latency_avg=np.where(number > 0, total / np.maximum(number, 1), np.nan),
        latency_max=np.where(number > 0, most, np.nan),
        p50=none,
        p90=none,
        p99=none,
        errors=counted(ended[~requests.ok[mine]]),
    )


def _summary(requests: Requests, mine: Flags, name: str, *, open_loop: bool) -> ClientSummary:
    counted = mine & requests.counted
    due = requests.due[counted]
    good = requests.latency[mine & requests.good]
    known = {found.name: found.value * 1000 for found in quantiles(good)}
    length = float(np.ptp(due)) if len(due) > 1 else 0.0
    ended = due + np.nan_to_num(requests.latency[counted])
    return ClientSummary(
        name=name,
        role=ROLE,
        start=float(due.min()) if len(due) else None,
        end=float(ended.max()) if len(due) else None,
        operations=float(len(due)),
        errors=float((~requests.ok[counted]).sum()),
        offered=(len(due) - 1) / length if open_loop and length else None,
        rate=len(good) / length if length else None,
        bytes_rate=None,
        latency_avg=float(good.mean(dtype=np.float64)) * 1000 if len(good) else None,
        latency_max=float(good.max()) * 1000 if len(good) else None,
        p50=known.get("p50"),
        p95=known.get("p95"),
        p99=known.get("p99"),
        p999=known.get("p99.9"),
    )
