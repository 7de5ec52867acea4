"""What runs out in a web server: workers, children of PHP, queues; and which resource limits a run."""

from __future__ import annotations

import re

import numpy as np

from labtool.analysis import format as fmt
from labtool.analysis.data import Labelled, RunData
from labtool.analysis.model import Finding, Value
from labtool.analysis.resources import Usage, busiest, full_core

FULL = 0.90
FULL_SHARE = 0.10
"""Full means at or above nine tenths in at least a tenth of the instants, as for the hosts' resources."""

# A recorder may put a pool's or a worker's name before the metric.
_METRICS = {
    ("httpd", "busy"): re.compile(r"(.*\.)?busy_?workers", re.IGNORECASE),
    ("httpd", "idle"): re.compile(r"(.*\.)?idle_?workers", re.IGNORECASE),
    ("php", "queue"): re.compile(r"(.*\.)?listen_?queue", re.IGNORECASE),
    ("php", "active"): re.compile(r"(.*\.)?active_?processes", re.IGNORECASE),
    ("php", "idle"): re.compile(r"(.*\.)?idle_?processes", re.IGNORECASE),
    ("php", "reached"): re.compile(r"(.*\.)?max_?children_?reached", re.IGNORECASE),
    ("haproxy", "queue"): re.compile(r"(.*\.)?(queue|qcur|queue_current)", re.IGNORECASE),
}


def pools(data: RunData) -> dict[tuple[str, str], list[Labelled]]:
    """Return the metrics of workers, children and queues by (service, what), in the order a request meets them."""
    order = ("haproxy", "httpd", "php")
    found: dict[tuple[str, str], list[Labelled]] = {}
    for service, what in sorted(_METRICS, key=lambda key: order.index(key[0])):
        pattern = _METRICS[service, what]
        mine = [
            one for one in data.service if one.source == service and len(one.series) and pattern.fullmatch(one.metric)
        ]
        if mine:
            found[service, what] = mine
    return found


def limits(data: RunData, usage: list[Usage], said: list[Finding]) -> list[Finding]:
    """Return which resource limits a web run: workers, the php pool, queues, CPU, network, the generator.

    `said` are the findings so far; a resource that left no numbers is neither cleared nor blamed.
    """
    found = pools(data)
    if not found and data.access is None:
        return []
    known = {finding.id: finding for finding in said}
    each = [*_workers(data, found), *_php(data, found), *_queue(data, found)]
    blamed = [finding for finding in each if finding.severity == "problem"]
    over: list[str] = [finding.brief for finding in blamed]
    free: list[str] = [finding.brief for finding in each if finding.severity == "ok"]
    hosts = set(data.system_hosts)
    mine = [use for use in usage if use.host in hosts]
    for resource in ("cpu", "disk"):
        full = [use for use in mine if use.resource == resource and use.saturated]
        top = busiest(use for use in mine if use.resource == resource)
        name = "CPU" if resource == "cpu" else "disk"
        if full:
            over.append(f"the {name} of {fmt.listed([use.host for use in full])}")
        elif top is not None:
            core = resource == "cpu" and full_core(data, top.host) >= 0.5
            if core:
                over.append(f"one core of {top.host}")
            else:
                free.append(f"{name} at most {fmt.percent(top.peak)} ({top.host})")
    for name, text in (("resource.network", "the network"), ("load.generator", "the generator")):
        finding = known.get(name)
        if finding is not None and finding.severity == "problem":
            over.append(text)
        elif finding is not None and finding.severity == "ok":
            free.append(text.removeprefix("the "))
    if (
        "resource.generator" in known
        and known["resource.generator"].severity == "problem"
        and "the generator" not in over
    ):
        over.append("the generator")
    if not over and not free:
        return each
    evidence: dict[str, Value] = {"full": ", ".join(over) or "none", "free": ", ".join(free) or "none"}
    bound = "only what left numbers is named; full means at or above 90 % in a tenth of the time, or a queue that long"
    if over:
        sentence = f"What ran full: {fmt.listed(over, 8)}."
        sentence += f" There was room in: {fmt.listed(free, 8)}." if free else ""
        return [*each, Finding("server.limit", "resource", "problem", sentence, bound, evidence, "heat")]
    sentence = f"Nothing that was measured ran full: {fmt.listed(free, 8)}."
    return [*each, Finding("server.limit", "resource", "ok", sentence, bound, evidence, "heat")]


def _workers(data: RunData, found: dict[tuple[str, str], list[Labelled]]) -> list[Finding]:
    """httpd: busy workers as a share of all that are there; without an idle one the next request waits."""
    idle = {one.host: one for one in found.get(("httpd", "idle"), [])}
    full: list[tuple[float, float, str, float]] = []
    for one in found.get(("httpd", "busy"), []):
        other = idle.get(one.host)
        if other is None:
            continue
        busy = one.series.between(*data.measured)
        spare = dict(zip(other.series.t.tolist(), other.series.v.tolist(), strict=True))
        pairs = [(b, spare[t]) for t, b in zip(busy.t.tolist(), busy.v.tolist(), strict=True) if t in spare]
        share = np.array([b / (b + i) for b, i in pairs if b + i > 0])
        share = share[np.isfinite(share)]
        if len(share):
            full.append((float((share >= FULL).mean()), float(share.max()), one.host, float(busy.v.max())))
    if not full:
        return []
    time, most, host, busy_most = max(full)
    evidence: dict[str, Value] = {"share_of_time_full": time, "most_busy_share": most, "most_busy": busy_most}
    bound = "mod_status, at the collector's instants; workers that httpd could still start are not in it"
    if time >= FULL_SHARE:
        sentence = (
            f"httpd's workers on {host} were busy at {fmt.percent(FULL)} or more in {fmt.percent(time)} of the time."
        )
        brief = f"httpd's workers ({host})"
        return [
            Finding("server.workers", "resource", "problem", sentence, bound, evidence, "workers", host, None, brief)
        ]
    sentence = f"httpd always had workers to spare: at most {fmt.percent(most)} were busy ({host})."
    brief = f"httpd's workers at most {fmt.percent(most)} ({host})"
    return [Finding("server.workers", "resource", "ok", sentence, bound, evidence, "workers", host, None, brief)]


def _php(data: RunData, found: dict[tuple[str, str], list[Labelled]]) -> list[Finding]:
    """php-fpm: requests that wait for a child, and how often the pool was at its limit."""
    queued = _waiting(data, found.get(("php", "queue"), []))
    reached = 0.0
    for one in found.get(("php", "reached"), []):
        # A counter since php-fpm's start: what it grew by in the measured part counts.
        inside = one.series.between(*data.measured).v
        reached += max(float(inside[-1] - inside[0]), 0.0) if len(inside) > 1 else 0.0
    if queued is None and ("php", "reached") not in found:
        return []
    share, most, host = queued or (0.0, 0.0, found["php", "reached"][0].host)
    evidence: dict[str, Value] = {"share_of_time_queued": share, "longest_queue": most, "max_children_reached": reached}
    bound = (
        "php-fpm's status page, at the collector's instants; the counter of max_children misses nothing between them"
    )
    if share >= FULL_SHARE or reached:
        times = f"; the pool reached its limit of children {fmt.plural(round(reached), 'time')}" if reached else ""
        queue = (
            f"up to {fmt.plural(round(most), 'request')} waited for a child on {host}, in {fmt.percent(share)} of the "
            "time"
            if most
            else "no request was seen waiting"
        )
        sentence = f"php-fpm's pool was too small for the load: {queue}{times}."
        return [
            Finding(
                "server.php", "resource", "problem", sentence, bound, evidence, "workers", host, None, "php-fpm's pool"
            )
        ]
    waited = f"at most {fmt.plural(round(most), 'request')} waited, rarely" if most else "no request was seen waiting"
    sentence = f"php-fpm's pool was large enough: {waited}."
    return [Finding("server.php", "resource", "ok", sentence, bound, evidence, "workers", host, None, "php-fpm's pool")]


def _queue(data: RunData, found: dict[tuple[str, str], list[Labelled]]) -> list[Finding]:
    """HAProxy: requests that wait because every server has as many as it may have."""
    queued = _waiting(data, found.get(("haproxy", "queue"), []))
    if queued is None:
        return []
    share, most, host = queued
    evidence: dict[str, Value] = {"share_of_time_queued": share, "longest_queue": most}
    bound = "HAProxy's statistics, at the collector's instants"
    if share >= FULL_SHARE:
        sentence = (
            f"HAProxy held requests back in {fmt.percent(share)} of the time, up to {fmt.count(most)} at once: the "
            "servers had as many as they may have."
        )
        brief = "the servers' limit of connections (HAProxy's queue)"
        return [Finding("server.queue", "resource", "problem", sentence, bound, evidence, "workers", host, None, brief)]
    sentence = f"HAProxy held hardly any request back: its queue was at most {fmt.count(most)}."
    return [
        Finding("server.queue", "resource", "ok", sentence, bound, evidence, "workers", host, None, "HAProxy's queue")
    ]


def _waiting(data: RunData, series: list[Labelled]) -> tuple[float, float, str] | None:
    """Return the share of the measured instants with a queue, its longest, and where; None without a number."""
    found = []
    for one in series:
        inside = one.series.between(*data.measured).v
        inside = inside[np.isfinite(inside)]
        if len(inside):
            found.append((float((inside > 0).mean()), float(inside.max()), one.host))
    return max(found, default=None)
