"""Did the load happen: offered against achieved, errors."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from labtool.analysis import failures, rounds, search
from labtool.analysis import format as fmt
from labtool.analysis.data import Client, ClientSummary, RunData, Series
from labtool.analysis.model import Finding
from labtool.analysis.rates import total_rate
from labtool.analysis.statistics import Interval, batch_means, mean, round_width

DRIVERS = ("producer", "client", "consumer")
"""Roles that can carry the load, the one that decides first."""

CLOSED = ("http-ab", "http-sequential")
"""Workloads whose clients send the next operation when the last was answered."""

SHORTFALL = 0.01
"""A rate within this share of the offered one counts as kept up with."""
STEADY = 0.02
"""An offered rate that moves by less than this share of itself is one rate."""
DIP = 0.10
"""An interval this share below the offered rate is a dip."""
TOGETHER_S = 10.0
"""Clients that start and end within this many seconds of each other did so together."""
MEMORY_FULL = 0.90
"""From this share of a host's memory on a client that was killed was killed for want of it, as far as one can tell."""
OUT_OF_MEMORY = re.compile(r"out of memory|oom-kill|oom_kill|invoked oom", re.IGNORECASE)
UNTOLD_S = 2.0
"""What the consumer tool read last it does not tell: it prints an interval when a later record has come."""
FEWEST_INTERVALS = 10
"""With fewer intervals no interval of confidence is stated (see statistics.batch_means)."""


@dataclass(frozen=True)
class Load:
    """What the driving clients were asked to do and did, in the measured part of the window."""

    role: str
    noun: str
    names: tuple[str, ...]
    span: tuple[float, float]  # s of the window that the rates below are of
    offered: float | None  # operations/s of all of them
    achieved: float | None
    bytes_rate: float | None
    interval: Interval | None
    intervals: int
    over_time: Series  # achieved by all, at each interval's end; not a number where a client's is missing
    width_s: float
    errors: float | None
    operations: float | None
    early: tuple[str, ...]  # clients that ended long before the others
    asked: Series | None = None  # offered by all at each interval's end, where it changes; else `offered` says it all
    closed: bool = False  # True where each next operation waited for the answer to the last
    died: tuple[str, ...] = ()  # clients that failed: what they did since they last told of it is not known

    @property
    def ratio(self) -> float | None:
        """Achieved ÷ offered; None where either is not known."""
        if self.offered is None or self.achieved is None or self.offered <= 0:
            return None
        return self.achieved / self.offered


def clearly_short(load: Load) -> bool:
    """Return True if the rate fell short by more than its own unsteadiness can explain, or by a tenth in any case.

    What was done in the window is a fact whatever its interval; the interval says whether it would have gone on so.
    """
    ratio = load.ratio
    if ratio is None or load.offered is None or ratio >= 1 - SHORTFALL:
        return False
    return load.interval is None or ratio < 1 - DIP or load.interval.high < load.offered * (1 - SHORTFALL)


def noun_of(role: str) -> str:
    """Return what a client of that role counts."""
    return "records" if role in ("producer", "consumer") else "requests"


def driving_role(data: RunData) -> str | None:
    """Return the role whose rate is the run's rate; None where no client left a number."""
    roles = {client.role for client in data.clients}
    roles |= {summary.role for summary in data.summaries if summary.rate is not None or summary.operations}
    return next((role for role in DRIVERS if role in roles), min(roles, default=None))


def load_of(data: RunData, role: str) -> Load:
    """Return what the clients of `role` were asked to do and did, in the workload's own word for it."""
    load = _load_of(data, role)
    died = tuple(summary.name for summary in data.summaries if summary.role == role and summary.failure)
    # With acks=0 those that were seen are a part of them, and none seen is no zero.
    seen = sum(summary.errors or 0.0 for summary in data.summaries if summary.role == role) or None
    errors = seen if data.unacknowledged and role != "consumer" else load.errors
    return replace(load, noun=data.record.operations or load.noun, died=died, errors=errors)


def _load_of(data: RunData, role: str) -> Load:
    clients = [client for client in data.clients if client.role == role and len(client.end)]
    summaries = [summary for summary in data.summaries if summary.role == role]
    names = tuple(dict.fromkeys([c.name for c in clients] + [s.name for s in summaries]))
    operations = _total(summary.operations for summary in summaries)
    errors = _total(summary.errors for summary in summaries)
    if not clients:
        span = data.measured
        return Load(
            role,
            noun_of(role),
            names,
            span,
            _total(s.offered for s in summaries),
            _total(s.rate for s in summaries),
            _total(s.bytes_rate for s in summaries),
            None,
            0,
            Series(np.empty(0), np.empty(0)),
            1.0,
            errors,
            operations,
            (),
            closed=data.record.workload in CLOSED,
        )
    span, early = _span(clients, data.measured)
    usual = float(np.median(np.concatenate([client.duration for client in clients])))
    width = round_width(max(usual, 1.0))
    over_time = total_rate(clients, *span, width)
    rates = over_time.v[np.isfinite(over_time.v)]
    asked = _asked(clients, span, width)
    offered = _offered(clients, summaries, span)
    achieved = mean(over_time.v)
    if achieved is None and data.requests is not None:
        # A second of requests, or less: no whole step, and a rate all the same.
        achieved = _total(summary.rate for summary in summaries)
    interval = batch_means(over_time.v)
    if offered is not None and asked is not None and len(asked) == len(over_time):
        # Of the very steps that the achieved rate is of: of a ramp the last one is not like the others. What moves with
        # the offered rate is no unsteadiness.
        offered = mean(asked.v[np.isfinite(over_time.v)])
        apart = batch_means(over_time.v - asked.v)
        interval = replace(apart, mean=interval.mean) if apart and interval else None
    if errors is None:
        errors = _total(float(np.nansum(c.errors)) if np.isfinite(c.errors).any() else None for c in clients)
    return Load(
        role=role,
        noun=noun_of(role),
        names=names,
        span=span,
        offered=offered,
        achieved=achieved,
        bytes_rate=mean(total_rate(clients, *span, width, of="bytes_rate").v),
        interval=interval,
        intervals=len(rates),
        over_time=over_time,
        width_s=width,
        errors=errors,
        operations=operations,
        early=early,
        asked=asked,
        closed=data.record.workload in CLOSED
        or (data.requests is not None and not any(np.isfinite(client.offered).any() for client in clients)),
    )


def _total(values: Iterable[float | None]) -> float | None:
    """Return the sum; None where there is nothing, or a part of it is not known."""
    listed = list(values)
    if not listed or any(value is None for value in listed):
        return None
    return float(sum(value for value in listed if value is not None))


def _offered(clients: list[Client], summaries: list[ClientSummary], span: tuple[float, float]) -> float | None:
    asked: dict[str, float | None] = {}
    for client in clients:
        inside = (client.start >= span[0] - 0.5 * client.duration) & (client.end <= span[1] + 0.5 * client.duration)
        asked[client.name] = mean(client.offered[inside] if inside.any() else client.offered)
    for summary in summaries:
        if asked.get(summary.name) is None:
            asked[summary.name] = summary.offered
    return _total(asked.values())


def _asked(clients: list[Client], span: tuple[float, float], width: float) -> Series | None:
    """Return the offered rate over time where it is another in some intervals than in others; None where it is one."""
    values = [client.offered[np.isfinite(client.offered)] for client in clients]
    if all(len(one) == 0 or float(np.ptp(one)) <= STEADY * float(one.max()) for one in values):
        return None
    return total_rate(clients, *span, width, of="offered")


def _span(clients: list[Client], measured: tuple[float, float]) -> tuple[tuple[float, float], tuple[str, ...]]:
    """Return the seconds in which all clients should have been at work, and the names of those that ended early.

    Clients start and end some seconds apart; that is no fall of the rate. One that ends long before the others is.
    """
    starts = [float(client.start[0]) for client in clients]
    ends = [float(client.end[-1]) for client in clients]
    first, last = max(starts), max(ends)
    together = [end for end in ends if last - end <= TOGETHER_S]
    # One that was followed by another had its turn, as the rounds of a benchmark have.
    early = tuple(
        client.name
        for client, end in zip(clients, ends, strict=True)
        if last - end > TOGETHER_S and not any(start >= end - 1.0 for start in starts)
    )
    if first - min(starts) > TOGETHER_S:
        first = min(starts)
    start = min(max(measured[0], first), measured[1])
    return (start, max(start, min(measured[1], *together))), early


def dips(load: Load) -> list[tuple[float, float, float]]:
    """Return (start, end, lowest rate) of every stretch in which the rate was a tenth or more below the offered."""
    if load.offered is None:
        return []
    found: list[tuple[float, float, float]] = []
    asked = load.asked.v if load.asked is not None else np.full(len(load.over_time), load.offered)
    for t, rate, offered in zip(load.over_time.t.tolist(), load.over_time.v.tolist(), asked.tolist(), strict=True):
        if not rate < offered * (1 - DIP):
            continue
        if found and t - load.width_s - found[-1][1] < 0.1 * load.width_s:
            found[-1] = (found[-1][0], t, min(found[-1][2], rate))
        else:
            found.append((t - load.width_s, t, rate))
    return found


def findings(data: RunData) -> list[Finding]:
    """Return what is to be said of load, errors and clients that failed; of load only where a client left a number."""
    role = driving_role(data)
    if role is None:
        return _failed(data)
    load = load_of(data, role)
    blind = data.unacknowledged and role != "consumer"
    errors = _errors(load, blind=blind) if data.requests is None or blind else failures.findings(data.requests)
    # A search goes where the rate no longer holds: that is its answer, and no shortfall.
    rates = search.findings(data) or _rate(load, batched=data.stream is not None)
    found = [*rates, *rounds.findings(data, role), *_failed(data), *_stopped_early(data, load), *errors]
    consumers = "consumer" if role != "consumer" and any(c.role == "consumer" for c in data.clients) else None
    if consumers:
        copies = int(data.record.workload_options.get("subscriptions") or 1)
        found += _consumers(load, load_of(data, consumers), copies)
    return found


def bound_of(load: Load) -> str:
    """Say how far the achieved rate can be off."""
    if load.interval is None:
        if not load.intervals:
            return "no interval: the clients gave only a total"
        return f"no interval: {load.intervals} points are too few (it takes {FEWEST_INTERVALS})"
    half = fmt.number(load.interval.half, 2)
    return f"± {half} within this run (95 %, batch means of {load.interval.n} points)"


def _rate(load: Load, *, batched: bool) -> list[Finding]:
    achieved = load.achieved
    evidence = {
        "offered_per_s": load.offered,
        "achieved_per_s": achieved,
        "half_width_per_s": load.interval.half if load.interval else None,
        "points": load.intervals,
    }
    common = {"bound": bound_of(load), "evidence": evidence, "figure": "load", "window": load.span}
    who = fmt.plural(len(load.names), load.role)
    if achieved is None:
        sentence = f"The {load.role}s left no rate for the measured part of the window."
        return [Finding("load.rate", "load", "refused", sentence, **common)]  # type: ignore[arg-type]
    if load.offered is None:
        how = "each when the last was answered" if load.closed else "as fast as they could"
        sentence = (
            f"{who} did {fmt.rate(achieved, load.noun)}, {how}; no rate was offered, "
            "so nothing is said about keeping up with one."
        )
        return [Finding("load.rate", "load", "note", sentence, **common)]  # type: ignore[arg-type]
    ratio = achieved / load.offered if load.offered else 1.0
    pair = f"{fmt.rate(achieved, load.noun)} of the {fmt.rate(load.offered, load.noun)} offered"
    if ratio >= 1 - SHORTFALL:
        sentence = f"The load happened: {who} did {pair} ({fmt.percent(ratio, 1)})."
        found = [Finding("load.rate", "load", "ok", sentence, **common)]  # type: ignore[arg-type]
    elif clearly_short(load):
        missing = fmt.rate(load.offered - achieved, load.noun)
        sentence = f"The rate fell short: {who} did {pair} ({fmt.percent(ratio, 1)}; {missing} are missing)."
        found = [Finding("load.rate", "load", "problem", sentence, **common)]  # type: ignore[arg-type]
    else:
        sentence = (
            f"{who} did {pair} ({fmt.percent(ratio, 1)}), but the rate moved so much that the offered one "
            "lies within its interval."
        )
        found = [Finding("load.rate", "load", "warning", sentence, **common)]  # type: ignore[arg-type]
    # The results of a streaming query come in batches: between two of them there are none.
    return found if batched else found + _dips(load, ratio)


def _dips(load: Load, ratio: float) -> list[Finding]:
    low = dips(load)
    if not low or ratio < 1 - DIP:
        return []
    deepest = min(low, key=lambda dip: dip[2])
    total = sum(end - start for start, end, _ in low)
    times = "once" if len(low) == 1 else f"{len(low)} times"
    sentence = (
        f"The rate fell below 90 % of the offered {times}, for {fmt.duration(total)} in all; the deepest was "
        f"{fmt.rate(deepest[2], load.noun)} at {fmt.span(deepest[0], deepest[1])}."
    )
    evidence = {"dips": len(low), "seconds": total, "lowest_per_s": deepest[2]}
    return [
        Finding(
            "load.dips",
            "load",
            "warning",
            sentence,
            f"at the tools' resolution of {fmt.duration(load.width_s)}",
            evidence,
            "load",
            window=deepest[:2],
        )
    ]


def _failed(data: RunData) -> list[Finding]:
    """Name the clients that failed, and why; what was asked of them is in the offered rate."""
    said = []
    how: dict[tuple[str, str], list[ClientSummary]] = {}
    for summary in data.summaries:
        if summary.failure:
            how.setdefault((summary.role, summary.failure), []).append(summary)
    for number, ((role, failure), them) in enumerate(how.items(), 1):
        everyone = sum(summary.role == role for summary in data.summaries)
        who = f"{len(them)} of {fmt.plural(everyone, role)} failed" if everyone > 1 else f"The {role} failed"
        sentence = (
            f"{who}: {fmt.listed([one.name for one in them])} {_verb(failure, len(them))}{failure}"
            f"{_memory_of(data, them) if 'SIGKILL' in failure else ''}."
        )
        if offered := _total(one.offered for one in them):
            sentence += f" Of the offered rate {fmt.rate(offered, noun_of(role))} were asked of {_them(them)}."
        evidence = {"failed": len(them), "clients": everyone}
        host = them[0].host if len({one.host for one in them}) == 1 else ""
        said.append(Finding(f"load.failed.{number}", "load", "problem", sentence, "", evidence, "load", host))
    return said


def _verb(failure: str, number: int) -> str:
    return "" if not failure.startswith("killed") else "were " if number > 1 else "was "


def _them(clients: list[ClientSummary]) -> str:
    return "them" if len(clients) > 1 else "it"


def _memory_of(data: RunData, clients: list[ClientSummary]) -> str:
    """Say what is known of the memory of the hosts whose clients were killed."""
    known = []
    for host in dict.fromkeys(client.host for client in clients):
        memory = data.signal(host, "memory").v
        if any(one.host == host and OUT_OF_MEMORY.search(one.message) for one in data.messages):
            known.append(f"the kernel of {host} ran out of memory")
        elif len(memory) and (most := float(np.nanmax(memory))) >= MEMORY_FULL:
            known.append(f"the memory of {host} was up to {fmt.percent(most)} full")
    return f"; {fmt.listed(known)}" if known else ", as the kernel does when memory is full"


def _stopped_early(data: RunData, load: Load) -> list[Finding]:
    found = []
    if load.early:
        sentence = (
            f"{fmt.listed(load.early)} ended more than {TOGETHER_S:.0f} s before the others; "
            "from then on the rate counts it as zero."
        )
        found.append(Finding("load.early", "load", "warning", sentence, figure="load"))
    start, end = data.measured
    covered = load.span[1] - load.span[0]
    if load.intervals and data.measured_s > 0 and covered < 0.9 * data.measured_s:
        sentence = (
            f"The workload covers {fmt.duration(covered)} of the {fmt.duration(end - start)} measured; "
            "the load's numbers are of that part, those of the hosts of the whole."
        )
        evidence = {"covered_s": covered, "measured_s": data.measured_s}
        found.append(
            Finding("load.covered", "load", "warning", sentence, evidence=evidence, figure="load", window=load.span)
        )
    return found


def _errors(load: Load, *, blind: bool = False) -> list[Finding]:
    evidence = {"errors": load.errors, "operations": load.operations}
    if load.errors is None:
        sentence = f"The {load.role}s do not say how many operations failed."
        if blind:
            sentence = (
                f"With acks=0 no broker answers, so the {load.role}s do not learn which of the {load.noun} were lost: "
                "nothing is said about failures."
            )
        return [Finding("load.errors", "load", "refused", sentence, evidence=evidence, figure="load")]
    all_of = f"{fmt.count(load.operations)} {load.noun}" if load.operations else load.noun
    if load.errors:
        sentence = f"{'At least ' if blind else ''}{fmt.count(load.errors)} of {all_of} failed."
        return [Finding("load.errors", "load", "problem", sentence, evidence=evidence, figure="load")]
    if load.died:
        sentence = (
            f"None of the {all_of} that the {load.role}s told of failed; what became of the last ones of "
            f"{fmt.listed(load.died)} is not known."
        )
        return [Finding("load.errors", "load", "note", sentence, evidence=evidence, figure="load")]
    sentence = f"None of the {all_of} failed."
    return [Finding("load.errors", "load", "ok", sentence, evidence=evidence, figure="load")]


def _consumers(producers: Load, consumers: Load, copies: int) -> list[Finding]:
    """Say whether consumers kept up; each record is read `copies` times."""
    if consumers.achieved is None or producers.achieved is None or not producers.achieved:
        return []
    ratio = consumers.achieved / (producers.achieved * copies)
    measured_s = consumers.span[1] - consumers.span[0]
    groups = fmt.plural(len(consumers.names), "consumer")
    evidence = {"consumed_per_s": consumers.achieved, "produced_per_s": producers.achieved, "ratio": ratio}
    behind = ratio < 1 - 2 * SHORTFALL and (1 - ratio) * measured_s > UNTOLD_S
    if behind:
        sentence = (
            f"{groups} read {fmt.rate(consumers.achieved, 'records')}, {fmt.percent(ratio, 1)} of what was written"
            + (f" for {copies} subscriptions" if copies > 1 else "")
            + ": they fell behind."
        )
    else:
        sentence = f"{groups} read {fmt.rate(consumers.achieved, 'records')}: they kept up with the producers."
    return [
        Finding(
            "load.consumers", "load", "warning" if behind else "ok", sentence, bound_of(consumers), evidence, "load"
        )
    ]
