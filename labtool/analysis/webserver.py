"""What runs out in a web server: workers, children of PHP, queues; and which resource limits a run."""

from __future__ import annotations

import re

import numpy as np

from labtool.analysis import format as fmt
from labtool.analysis.data import Labelled, RunData
from labtool.analysis.model import Finding, Severity, Value
from labtool.analysis.resources import Usage, busiest, full_core
from labtool.analysis.statistics import gaps

FULL = 0.90
FULL_SHARE = 0.10
"""Full means at or above nine tenths in at least a tenth of the instants, as for the hosts' resources."""

METRICS = {
    ("haproxy", "queue"): re.compile(r"([^.]+\.)?Queue"),  # of a backend; a server's has two names before it
    ("httpd", "busy"): re.compile(r"BusyWorkers"),
    ("httpd", "idle"): re.compile(r"IdleWorkers"),
    ("httpd", "limit"): re.compile(r"MaxWorkers"),
    ("php", "active"): re.compile(r"ActiveProcesses"),
    ("php", "limit"): re.compile(r"MaxProcesses"),
    ("php", "queue"): re.compile(r"ListenQueue"),
    ("php", "reached"): re.compile(r"MaxChildrenReached"),
}
"""What runs out, as the recorder of the role web_service names it, in the order in which a request meets it."""


def of_a_pool(service: str, metric: str) -> bool:
    """Return True for a metric of workers, children or queues."""
    return any(service == known and pattern.fullmatch(metric) for (known, _), pattern in METRICS.items())


def pools(data: RunData) -> dict[tuple[str, str], list[Labelled]]:
    """Return the metrics of workers, children and queues by (service, what), in the order of `METRICS`."""
    found = {}
    for (service, what), pattern in METRICS.items():
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
    if not over and not free:
        return each
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
    evidence: dict[str, Value] = {"full": ", ".join(over) or "none", "free": ", ".join(free) or "none"}
    bound = "only what left numbers is named; full means at or above 90 % in a tenth of the time, or a queue that long"
    if over:
        sentence = f"What ran full: {fmt.listed(over, 8)}."
        sentence += f" There was room in: {fmt.listed(free, 8)}." if free else ""
        return [*each, Finding("server.limit", "resource", "problem", sentence, bound, evidence, "heat")]
    sentence = f"Nothing that was measured ran full: {fmt.listed(free, 8)}."
    return [*each, Finding("server.limit", "resource", "ok", sentence, bound, evidence, "heat")]


def _workers(data: RunData, found: dict[tuple[str, str], list[Labelled]]) -> list[Finding]:
    """httpd: busy workers as a share of all that it may have; without a free one the next request waits."""
    limited = ("httpd", "limit") in found
    of = found.get(("httpd", "limit" if limited else "idle"), [])
    shares = _shares(data, found.get(("httpd", "busy"), []), of, whole=limited)
    if not shares:
        return []
    time, most, host = max(shares)
    silent = sum(
        right - left
        for one in found["httpd", "busy"]
        if one.host == host
        for left, right in gaps(one.series, *data.measured)
    )
    evidence: dict[str, Value] = {"share_of_time_full": time, "most_busy_share": most, "silent_s": silent}
    bound = "mod_status, at the recorder's instants" + (
        "" if limited else "; workers it could still start are not in it"
    )
    quiet = f" For {fmt.duration(silent)} its status page gave no answer, as that of a full server." if silent else ""
    if time >= FULL_SHARE:
        sentence = (
            f"httpd's workers on {host} were busy at {fmt.percent(FULL)} or more in {fmt.percent(time)} of the time."
        )
        brief = f"httpd's workers ({host})"
        return [_said("workers", "problem", sentence + quiet, bound, evidence, host, brief)]
    sentence = f"httpd had workers to spare: at most {fmt.percent(most)} were busy ({host})."
    if time > 0:
        sentence = (
            f"httpd's workers were busy at {fmt.percent(FULL)} or more for moments only, {fmt.percent(time)} of the "
            f"time ({host})."
        )
    brief = f"httpd's workers at most {fmt.percent(most)} ({host})"
    return [_said("workers", "warning" if silent else "ok", sentence + quiet, bound, evidence, host, brief)]


def _shares(
    data: RunData, parts: list[Labelled], others: list[Labelled], *, whole: bool
) -> list[tuple[float, float, str]]:
    """Return, by host, the share of instants at which `parts` were FULL of the whole, the largest share, and the host.

    `others` are the whole, or (not `whole`) what is to be added to make it.
    """
    beside = {one.host: one for one in others}
    found = []
    for one in parts:
        other = beside.get(one.host)
        if other is None:
            continue
        inside = one.series.between(*data.measured)
        at = dict(zip(other.series.t.tolist(), other.series.v.tolist(), strict=True))
        pairs = [(v, at[t]) for t, v in zip(inside.t.tolist(), inside.v.tolist(), strict=True) if t in at]
        share = np.array([v / all_of for v, o in pairs if (all_of := o if whole else v + o) > 0])
        share = share[np.isfinite(share)]
        if len(share):
            found.append((float((share >= FULL).mean()), float(share.max()), one.host))
    return found


def _said(
    what: str, severity: Severity, sentence: str, bound: str, evidence: dict[str, Value], host: str, brief: str
) -> Finding:
    return Finding(f"server.{what}", "resource", severity, sentence, bound, evidence, "workers", host, brief=brief)


def _php(data: RunData, found: dict[tuple[str, str], list[Labelled]]) -> list[Finding]:
    """php-fpm: requests that wait for a child, and how often the pool was at its limit."""
    queued = _waiting(data, found.get(("php", "queue"), []))
    if queued is None:
        return []
    share, most, host = queued
    reached = 0.0
    for one in found.get(("php", "reached"), []):
        # A counter since php-fpm's start: what it grew by in the measured part counts.
        inside = one.series.between(*data.measured).v
        reached += max(float(inside[-1] - inside[0]), 0.0) if len(inside) > 1 else 0.0
    active = _shares(data, found.get(("php", "active"), []), found.get(("php", "limit"), []), whole=True)
    fullest = max((one[1] for one in active), default=None)
    evidence: dict[str, Value] = {
        "share_of_time_queued": share,
        "longest_queue": most,
        "max_children_reached": reached,
        "most_active_share": fullest,
    }
    bound = "php-fpm's status page and socket, at the recorder's instants; a queue between them is not seen"
    used = f", at most {fmt.percent(fullest)} of its children were at work" if fullest is not None else ""
    times = f"; it reached its limit of children {fmt.plural(round(reached), 'time')}" if reached else ""
    waited = (
        f"up to {fmt.plural(round(most), 'request')} waited for a child on {host}, in {fmt.percent(share)} of the time"
    )
    if share >= FULL_SHARE:
        sentence = f"php-fpm's pool was too small for the load: {waited}{used}{times}."
        return [_said("php", "problem", sentence, bound, evidence, host, "php-fpm's pool")]
    if most or reached:
        sentence = f"php-fpm's pool was full now and then: {waited}{used}{times}."
        return [_said("php", "warning", sentence, bound, evidence, host, "php-fpm's pool")]
    if fullest is not None and fullest >= FULL:
        sentence = f"php-fpm's pool just sufficed: no request was seen waiting{used}."
        return [_said("php", "note", sentence, bound, evidence, host, "php-fpm's pool")]
    sentence = f"php-fpm's pool was large enough: no request was seen waiting{used}."
    brief = "php-fpm's pool" + (f" at most {fmt.percent(fullest)}" if fullest is not None else "")
    return [_said("php", "ok", sentence, bound, evidence, host, brief)]


def _queue(data: RunData, found: dict[tuple[str, str], list[Labelled]]) -> list[Finding]:
    """HAProxy: requests that wait because every server has as many as it may have."""
    queued = _waiting(data, found.get(("haproxy", "queue"), []))
    if queued is None:
        return []
    share, most, host = queued
    evidence: dict[str, Value] = {"share_of_time_queued": share, "longest_queue": most}
    bound = "HAProxy's statistics, at the recorder's instants"
    if share >= FULL_SHARE:
        sentence = (
            f"HAProxy held requests back in {fmt.percent(share)} of the time, up to {fmt.count(most)} at once: the "
            "servers had as many as they may have."
        )
        return [
            _said("queue", "problem", sentence, bound, evidence, host, "the servers' limit of connections (a queue)")
        ]
    if most:
        sentence = f"HAProxy held requests back now and then: up to {fmt.count(most)} at once."
        return [_said("queue", "note", sentence, bound, evidence, host, "HAProxy's queue")]
    sentence = "HAProxy held no request back: its queue was empty."
    return [_said("queue", "ok", sentence, bound, evidence, host, "HAProxy's queue")]


def _waiting(data: RunData, series: list[Labelled]) -> tuple[float, float, str] | None:
    """Return the share of the measured instants with a queue, its longest, and where; None without a number."""
    found = []
    for one in series:
        inside = one.series.between(*data.measured).v
        inside = inside[np.isfinite(inside)]
        if len(inside):
            found.append((float((inside > 0).mean()), float(inside.max()), one.host))
    return max(found, default=None)
