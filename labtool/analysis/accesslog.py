"""The servers' log of a web run: against the clients' own view, who answered how much, and what was slow."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from labtool.analysis import format as fmt
from labtool.analysis.data import AccessLog, Matched, Requests, RunData
from labtool.analysis.failures import WORDS
from labtool.analysis.model import Finding, Severity, Value
from labtool.analysis.quantiles import STATED, carried, rank

AGREE = 0.01
"""Counts that differ by no more than this share agree."""
RESOLUTION_S = 2e-6
"""Client and server both count in whole microseconds, each with its own clock: so much less is no less."""
UNEVEN = 0.10
UNLIKELY = 0.01


def findings(data: RunData) -> list[Finding]:
    """Return what the servers' log says; nothing where there is none."""
    log = data.access
    if log is None or not len(log):
        return []
    said = [*_backends(data, log), *_urls(log)]
    if data.requests is not None:
        said = [*_counts(data.requests, log), *_durations(data.requests, log), *said]
    return said


def _counts(requests: Requests, log: AccessLog) -> list[Finding]:
    """Hold the requests that the clients sent against the lines of the servers' log."""
    if log.matched is not None:
        return [_by_id(log.matched, log)]
    sent = np.isfinite(requests.late)
    if not sent.any():
        return []
    start = float((requests.due[sent] + requests.late[sent]).min())
    end = float((requests.due[sent] + np.nan_to_num(requests.latency[sent])).max())
    inside = (log.t >= start - 0.001) & (log.t <= end)
    claimed, counted = int(sent.sum()), int(inside.sum())
    ours = _status_counts(requests.status[sent & (requests.status > 0)])
    theirs = _status_counts(log.status[inside])
    differ = {
        s: (ours.get(s, 0), theirs.get(s, 0)) for s in ours.keys() | theirs.keys() if ours.get(s) != theirs.get(s)
    }
    off = max([abs(claimed - counted), *(abs(a - b) for a, b in differ.values())])
    evidence: dict[str, Value] = {"sent": claimed, "logged": counted}
    evidence |= {
        f"status_{s}_{side}": n
        for s, pair in sorted(differ.items())
        for side, n in zip(("client", "server"), pair, strict=True)
    }
    bound = f"agreement means within {fmt.percent(AGREE, 0)}; requests had no id, so only totals can be compared"
    pair = f"The clients sent {claimed:,} requests, {log.service}'s log has {counted:,} in the same time"
    if off <= AGREE * claimed:
        statuses = "the statuses agree too" if ours else "no status was told by the clients"
        return [Finding("server.counts", "trust", "ok", f"{pair}; {statuses}.", bound, evidence)]
    unanswered = int((sent & (requests.status == 0)).sum())
    if counted < claimed:
        why = (
            f"{unanswered:,} requests got no answer at the client, and the log may be cut"
            if unanswered
            else "the log may be cut"
        )
    elif counted > claimed:
        why = "retries, or others who asked: health checks, the collector of the status page"
    else:
        changed = fmt.listed([f"{s} ({a:,} and {b:,})" for s, (a, b) in sorted(differ.items())])
        why = f"the statuses differ, at the client and in the log: {changed}"
    sentence = f"{pair}: {abs(claimed - counted):,} apart ({why})."
    return [Finding("server.counts", "trust", "warning", sentence, bound, evidence)]


def _status_counts(values: Any) -> dict[int, int]:
    found, number = np.unique(values, return_counts=True)
    return dict(zip(found.tolist(), number.tolist(), strict=True))


def _by_id(matched: Matched, log: AccessLog) -> Finding:
    missing = matched.sent - matched.logged
    answered = sum(n for how, n in matched.missing if not how)
    evidence: dict[str, Value] = {
        "sent": matched.sent,
        "logged": matched.logged,
        "missing": missing,
        "missing_answered": answered,
        "others": matched.others,
        "came_again": matched.again,
        "status_differs": matched.status_differs,
    }
    bound = f"matched by request id, warm-up included; agreement means within {fmt.percent(AGREE, 0)}"
    pair = f"Of the {matched.sent:,} requests sent {log.service}'s log has {matched.logged:,}"
    said = []
    if missing:
        how = [f"{n:,} {WORDS.get(kind, kind)} at the client" for kind, n in matched.missing if kind]
        if answered:
            where = ""
            if matched.missing_span is not None and len(log):
                first, last = float(log.t.min()), float(log.t.max())
                if matched.missing_span[0] > last - 0.01:
                    where = f": the log ends at {last:,.0f} s"
                elif matched.missing_span[1] < first + 0.01:
                    where = f": the log begins at {first:,.0f} s"
            how.append(f"{answered:,} were answered and are not logged{where or ', so lines are lost'}")
        said.append(f"{missing:,} are missing ({fmt.listed(how)})")
    if matched.again:
        said.append(f"{matched.again:,} came more than once (retries)")
    if matched.status_differs:
        said.append(f"{matched.status_differs:,} have another status at the client than in the log")
    if matched.others:
        names = fmt.listed([f"{n:,} × {name or 'no request line'}" for name, n in matched.others_named])
        said.append(f"{matched.others:,} other lines are no client's ({names})")
    off = max(missing, matched.again, matched.status_differs)
    agree = off <= AGREE * matched.sent
    # What failed before it reached the server cannot be in its log: that is explained.
    severity: Severity = "ok" if agree else "warning"
    sentence = f"{pair}, and the statuses are the same." if not said else f"{pair}: {'; '.join(said)}."
    return Finding("server.counts", "trust", severity, sentence, bound, evidence)


def _durations(requests: Requests, log: AccessLog) -> list[Finding]:
    """The client cannot have seen an answer sooner than the server took to give it."""
    matched = log.matched
    if matched is not None and len(matched.service):
        difference = matched.service - matched.duration
        less = int((difference < -np.maximum(RESOLUTION_S, 1e-6 * matched.duration)).sum())
        half = float(np.median(difference)) * 1000
        n = len(difference)
        evidence: dict[str, Value] = {"pairs": n, "below": less, "median_difference_ms": half}
        bound = f"{n:,} requests matched by id; both count in whole microseconds"
        if not less:
            sentence = (
                f"No request was shorter at the client than in {log.service}'s log; half of them took "
                f"{fmt.milliseconds(half)} longer or less, which is the network and the client."
            )
            return [Finding("server.durations", "trust", "ok", sentence, bound, evidence, "percentiles")]
        worst = float(-difference.min()) * 1000
        sentence = (
            f"{less:,} of {n:,} requests were shorter at the client than in {log.service}'s log, by up to "
            f"{fmt.milliseconds(worst)}: a server logs when the answer's last byte has left it, which can be after the "
            "client has it; more than a millisecond means that one of the two clocks its requests wrongly."
        )
        serious = worst > 1 or less > AGREE * n
        evidence["largest_ms"] = worst
        return [
            Finding(
                "server.durations", "trust", "warning" if serious else "note", sentence, bound, evidence, "percentiles"
            )
        ]
    ours = np.sort(requests.service[requests.good])
    theirs = np.sort(log.duration[np.isfinite(log.duration)])
    ours = ours[np.isfinite(ours)]
    below = []
    compared = []
    for name, q in STATED:
        if carried(len(ours), q) and carried(len(theirs), q):
            client, server = float(ours[rank(len(ours), q) - 1]), float(theirs[rank(len(theirs), q) - 1])
            compared.append(name)
            if client < server - RESOLUTION_S:
                below.append(f"{name} {fmt.milliseconds(client * 1000)} against {fmt.milliseconds(server * 1000)}")
    if not compared:
        return []
    bound = f"quantile by quantile ({fmt.listed(compared, 8)}), since requests had no id"
    if below:
        sentence = f"The clients' service times are below the durations in {log.service}'s log: {fmt.listed(below)}."
        return [Finding("server.durations", "trust", "warning", sentence, bound, {"below": len(below)}, "percentiles")]
    sentence = f"No percentile of the clients' service times is below that of the durations in {log.service}'s log."
    return [Finding("server.durations", "trust", "ok", sentence, bound, {"below": 0}, "percentiles")]


@dataclass(frozen=True)
class Share:
    """What one backend, or one host where no backend is named, answered of the counted requests."""

    name: str
    requests: int
    share: float
    half: float  # of the 95 % interval of the share, as if each request chose by lot
    p50: float | None  # s
    p99: float | None


def shares(data: RunData) -> list[Share]:
    """Return who answered how much in the measured part, by name; none where there was only one."""
    log = data.access
    if log is None or not len(log):
        return []
    start, end = data.measured
    inside = (log.t >= start) & (log.t <= end)
    codes, names = (log.backend, log.backends) if log.service == "haproxy" else (log.host, log.hosts)
    # A balancer's own lines (refused, its status page) name no server.
    known = [code for code, name in enumerate(names) if name and name != "<NOSRV>" and (inside & (codes == code)).any()]
    if len(known) < 2:
        return []
    total = int(np.isin(codes[inside], known).sum())
    found = []
    for code in known:
        mine = log.duration[inside & (codes == code)]
        n = len(mine)
        ordered = np.sort(mine[np.isfinite(mine)])
        at = {q: float(ordered[rank(len(ordered), q) - 1]) for q in (0.5, 0.99) if carried(len(ordered), q)}
        share = n / total
        half = 1.96 * math.sqrt(share * (1 - share) / total)
        found.append(Share(names[code], n, share, half, at.get(0.5), at.get(0.99)))
    return sorted(found, key=lambda one: one.name)


def chi_square(counts: Iterable[int]) -> tuple[float, float]:
    """Return the statistic of Pearson's test that all counts are alike, and its p-value.

    The p-value is exact for two and three counts, else by Wilson and Hilferty's cube root (Proc. Natl. Acad. Sci.
    17(12), 1931), good to 0.005.
    """
    observed = np.asarray(list(counts), dtype=np.float64)
    expected = observed.mean()
    statistic = float(((observed - expected) ** 2 / expected).sum())
    freedom = len(observed) - 1
    if freedom == 1:
        return statistic, math.erfc(math.sqrt(statistic / 2))
    if freedom == 2:
        return statistic, math.exp(-statistic / 2)
    spread = 2 / (9 * freedom)
    z = ((statistic / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)
    return statistic, 0.5 * math.erfc(z / math.sqrt(2))


def between(least: Share, most: Share) -> str:
    """Return two shares in words: "48.1 to 51.9 %", one where they are alike."""
    low, high = f"{least.share * 100:.1f}", fmt.percent(most.share, 1)
    return high if high == f"{low} %" else f"{low} to {high}"


def _backends(data: RunData, log: AccessLog) -> list[Finding]:
    found = shares(data)
    if not found:
        return []
    statistic, p = chi_square(one.requests for one in found)
    even = 1 / len(found)
    least, most = min(found, key=lambda one: one.share), max(found, key=lambda one: one.share)
    off = max(most.share - even, even - least.share) / even
    what = "servers" if log.service == "haproxy" else "fronts"
    evidence: dict[str, Value] = {one.name: one.share for one in found}
    evidence |= {"chi_square": statistic, "p": p}
    chance = f"p = {fmt.number(p, 2)}" if p >= 0.001 else "p < 0.001"
    bound = f"χ² = {fmt.number(statistic)} over {len(found)} {what}, {chance}"
    if p >= UNLIKELY or off <= UNEVEN:
        sentence = f"The {len(found)} {what} shared the requests evenly: {between(least, most)} each."
        return [Finding("server.backends", "resource", "ok", sentence, bound, evidence, "backends")]
    sentence = (
        f"The {len(found)} {what} did not share the requests evenly: {most.name} answered "
        f"{fmt.percent(most.share, 1)}, {least.name} {fmt.percent(least.share, 1)}; even would be "
        f"{fmt.percent(even, 1)}."
    )
    return [Finding("server.backends", "resource", "warning", sentence, bound, evidence, "backends", most.name)]


def _urls(log: AccessLog) -> list[Finding]:
    if not log.urls:
        return []
    everything = sum(one.total_s for one in log.urls)
    top = max(log.urls, key=lambda one: one.total_s)
    ranked = [(one.p99_s, one) for one in log.urls if one.p99_s is not None]
    sentence = (
        f"The servers spent most time on {top.name}: {fmt.duration(top.total_s)} in {fmt.count(top.requests)} requests "
        f"({fmt.percent(top.total_s / everything) if everything else fmt.UNKNOWN} of the listed paths' time)"
    )
    if ranked:
        tail, slow = max(ranked, key=lambda one: one[0])
        which = "which also has the highest p99" if slow is top else f"and the highest p99 is that of {slow.name}"
        sentence += f", {which}, {fmt.milliseconds(tail * 1000)}"
    evidence: dict[str, Value] = {"total_s": top.total_s, "requests": top.requests}
    return [Finding("server.urls", "latency", "note", f"{sentence}.", "as the servers measured it", evidence, "urls")]
