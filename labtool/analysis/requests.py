"""How single requests felt: percentiles of all of them together, from when each was due, and what a closed loop hides.

The latency of a request counts from when it was due. Counted from when it really was sent, the time that it waited for
its turn is in no number, and a server that stops for two seconds is seen by the few requests that were under way
instead of by all that were due (coordinated omission; Tene, "How NOT to Measure Latency", 2013).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from labtool.analysis import format as fmt
from labtool.analysis.data import Requests, RunData
from labtool.analysis.model import Finding, Value
from labtool.analysis.quantiles import FEWEST_BEYOND, STATED, Quantile, fewest, quantiles, rank
from labtool.analysis.workload import Load

DIFFERS = 1.10
"""Two ways to count that differ by a tenth or less say the same."""


@dataclass(frozen=True)
class Felt:
    """The times of the counted requests that succeeded, in ms."""

    n: int
    failed: int
    latency: dict[str, Quantile]  # from when it was due
    service: dict[str, Quantile]  # from when it was sent
    slowest: tuple[float, float, str]  # ms, due at s, client
    with_failed: float | None  # p99 in ms if the failed were slower than all others; None where it is one of them
    closed: Quantile | None  # p99 as a closed loop would have said it; None where it cannot be made out
    counted_as: str  # which requests these are, in words
    opened: float | None  # of a closed loop: the p99 with what it did not send, ms

    @property
    def refused(self) -> tuple[str, ...]:
        """The percentiles that so many requests do not carry."""
        return tuple(name for name, _ in STATED if name not in self.latency)


def felt_of(requests: Requests, *, closed: bool) -> Felt | None:
    """Return the percentiles of all requests together; None where none succeeded.

    `closed` says that the clients sent the next request when the last was answered.
    """
    good = requests.good
    if not good.any():
        return None
    latency = requests.latency[good]
    at = int(np.argmax(latency))
    slowest = (
        float(latency[at]) * 1000,
        float(requests.due[good][at]),
        requests.clients[int(requests.client[good][at])],
    )
    n, failed = len(latency), int((requests.counted & ~requests.ok).sum())
    place = rank(n + failed, 0.99)
    return Felt(
        n=n,
        failed=failed,
        latency=_by_name(latency),
        service=_by_name(requests.service[good]),
        slowest=slowest,
        counted_as=requests.counted_as,
        with_failed=float(np.partition(latency, place - 1)[place - 1]) * 1000 if place <= n else None,
        closed=None if closed else _by_name(walked(requests.due[good], latency)).get("p99"),
        opened=_with_unsent(requests) if closed else None,
    )


def _by_name(seconds: Any) -> dict[str, Quantile]:
    return {
        one.name: Quantile(one.name, one.q, one.value * 1000, one.low * 1000, one.high * 1000, one.n)
        for one in quantiles(seconds)
    }


def walked(due: Any, latency: Any) -> Any:
    """Return the latencies that a closed loop would have met: it sends again when the last was answered.

    It walks through the run's own requests: it meets the latency of the request due next, waits for its answer, and
    so on. An estimate: with so few requests the server would have had no queue to work off after a stall.
    """
    order = np.argsort(due)
    due, latency = due[order], latency[order]
    after = np.maximum(np.searchsorted(due, due + latency), np.arange(len(due)) + 1).tolist()
    met = []
    at = 0
    while at < len(after):
        met.append(at)
        at = after[at]
    return latency[met]


def unsent(latency: Any, period: float, most: int) -> Any:
    """Return the latencies of the requests that an open loop would have sent while a closed one waited.

    One every `period` s during each answer that took twice as long or longer (Tene's correction, HdrHistogram's
    `recordValueWithExpectedInterval`); at most `most`, else None.
    """
    extra = np.maximum(np.floor(latency / period).astype(np.int64) - 1, 0)
    if int(extra.sum()) > most:
        return None
    base = np.repeat(latency, extra)
    first = np.repeat(np.cumsum(extra) - extra, extra)
    return base - (np.arange(len(base)) - first + 1) * period


def _with_unsent(requests: Requests) -> float | None:
    """Return the p99 in ms of a closed loop with what it did not send, at the pace it usually had; None if too few."""
    corrected = []
    for code in range(len(requests.clients)):
        mine = requests.good & (requests.client == code)
        if mine.sum() < 2:
            continue
        due = np.sort(requests.due[mine])
        latency = requests.latency[mine].astype(np.float64)
        length = float(due[-1] - due[0])
        # What a client keeps under way is its concurrency (Little's law); each of them has a pace of its own.
        under_way = max(1, round(float(latency.sum()) / length)) if length else 1
        period = under_way * (float(np.median(np.diff(due))) or length / len(due))
        more = unsent(latency, max(period, 1e-6), 10 * len(requests))
        if more is None:
            return None
        corrected += [latency, more]
    if not corrected:
        return None
    ordered = np.concatenate(corrected)
    return float(np.partition(ordered, rank(len(ordered), 0.99) - 1)[rank(len(ordered), 0.99) - 1]) * 1000


def findings(data: RunData, load: Load, felt: Felt | None) -> list[Finding]:
    """Return what is to be said of the latency of single requests."""
    if felt is None:
        sentence = "No counted request succeeded, so there is no latency to speak of."
        return [Finding("latency.none", "latency", "refused", sentence, figure="errors")]
    found = [*_summary(felt), *_tail(felt), _slowest(felt)]
    found.append(_closed(data, felt) if load.closed else _measured(data, felt))
    if not load.closed:
        found += _omission(felt)
    return found + _failed(felt)


def _interval(found: Quantile) -> str:
    return f"{found.name} {fmt.latency_range(found.low, found.high)}"


def _evidence(felt: Felt) -> dict[str, Value]:
    evidence: dict[str, Value] = {"requests": felt.n}
    for measure in ("latency", "service"):
        for name, one in getattr(felt, measure).items():
            evidence[f"{measure}_{name.replace('.', '')}_ms"] = one.value
    return evidence


def _summary(felt: Felt) -> list[Finding]:
    median, tail = felt.latency.get("p50"), felt.latency.get("p99")
    if median is None:
        return []
    sentence = f"Half of the requests took {fmt.milliseconds(median.value)} or less"
    sentence += f", 99 of 100 took {fmt.milliseconds(tail.value)} or less." if tail else "."
    bound = f"95 % by order statistics of {felt.n:,} requests, taken as independent, within this run: " + "; ".join(
        _interval(one) for one in (median, tail) if one
    )
    return [Finding("latency.summary", "latency", "note", sentence, bound, _evidence(felt), "percentiles")]


def _tail(felt: Felt) -> list[Finding]:
    """Refuse the percentiles that the number of requests does not carry."""
    if not felt.refused:
        return []
    first = dict(STATED)[felt.refused[0]]
    sentence = (
        f"{fmt.listed(felt.refused)} {'is' if len(felt.refused) == 1 else 'are'} not stated: {felt.n:,} requests "
        f"succeeded, and {felt.refused[0]} takes {fewest(first):,}."
    )
    return [
        Finding(
            "latency.tail",
            "latency",
            "refused" if "p99" in felt.refused else "note",
            sentence,
            f"at least {FEWEST_BEYOND} requests must lie beyond a percentile",
            {"requests": felt.n, "needed": fewest(first)},
            "percentiles",
        )
    ]


def _slowest(felt: Felt) -> Finding:
    value, at, name = felt.slowest
    sentence = f"The slowest of the requests took {fmt.milliseconds(value)}; it was due at {at:,.1f} s ({name})."
    window = (at, at + value / 1000)
    evidence: dict[str, Value] = {"latency_ms": value}
    return Finding("latency.highest", "latency", "note", sentence, "", evidence, "latency", name.split("/")[0], window)


def _measured(data: RunData, felt: Felt) -> Finding:
    ended = "the append of a result that has it in it" if data.stream else "the last byte of its answer"
    sentence = (
        f"Latency counts from when a request was due to {ended}, so the time it waited for its turn "
        "is in every percentile; service time, from the actual send, is stated beside it. Percentiles are of all "
        f"clients' requests together, {felt.counted_as}."
    )
    evidence: dict[str, Value] = {"requests": felt.n}
    return Finding("latency.measured", "trust", "ok", sentence, evidence=evidence, figure="percentiles")


def _omission(felt: Felt) -> list[Finding]:
    """Say what the same run would have looked like to a tool that counts from the send, or that waits for answers."""
    tail, service = felt.latency.get("p99"), felt.service.get("p99")
    if tail is None or service is None:
        return []
    evidence: dict[str, Value] = {
        "latency_p99_ms": tail.value,
        "service_p99_ms": service.value,
        "closed_loop_p99_ms": felt.closed.value if felt.closed else None,
    }
    due = f"Counted from when it was due, p99 is {fmt.milliseconds(tail.value)}"
    # A closed loop sees neither the wait for a turn nor the requests it did not send.
    least = min((one for one in (service, felt.closed) if one), key=lambda one: one.value)
    if tail.value <= least.value * DIFFERS:
        sentence = f"{due}, and a closed loop (ab, wrk, hey) would have said about the same: nothing was omitted."
        return [Finding("latency.omission", "latency", "ok", sentence, "", evidence, "percentiles")]
    if tail.value > service.value * DIFFERS:
        sentence = (
            f"{due}; counted from the actual send, as a closed loop (ab, wrk, hey) does, it would be "
            f"{fmt.milliseconds(service.value)}. The difference is what requests waited for their turn."
        )
        bound = _interval(tail) + " from when it was due, " + _interval(service) + " from the send"
    else:
        sentence = (
            f"{due}; a closed loop (ab, wrk, hey) would have said about {fmt.milliseconds(least.value)}: it sends "
            "nothing while it waits, so it meets a stall once and not as often as requests were due in it."
        )
        bound = "estimated by a walk through this run's requests, the next one when the last was answered"
    return [Finding("latency.omission", "latency", "note", sentence, bound, evidence, "percentiles")]


def _closed(data: RunData, felt: Felt) -> Finding:
    """Say what a closed loop hides: its rate adapts to the server."""
    who = data.record.workload or "The clients"
    sentence = (
        f"{who} sent the next request only when the last was answered: the rate adapts to the server, a slow server is "
        "asked less often, and the percentiles say nothing about a rate that users would keep up."
    )
    tail = felt.latency.get("p99")
    evidence: dict[str, Value] = {"p99_ms": tail.value if tail else None, "corrected_p99_ms": felt.opened}
    if tail and felt.opened is not None and felt.opened > tail.value * DIFFERS:
        sentence += (
            f" With the requests that it did not send while it waited, p99 would be about "
            f"{fmt.milliseconds(felt.opened)} instead of {fmt.milliseconds(tail.value)}."
        )
    return Finding(
        "latency.measured",
        "trust",
        "warning",
        sentence,
        "what was not sent is estimated at each client's usual pace (HdrHistogram's correction)",
        evidence,
        "percentiles",
        brief="A closed loop: the rate adapts to the server, so a stall is in few requests and the percentiles are "
        "lower bounds of what users would feel. Compare with http-load.",
    )


def _failed(felt: Felt) -> list[Finding]:
    """A percentile of those that succeeded flatters a server that fails: count the failed as slower than all."""
    tail = felt.latency.get("p99")
    if not felt.failed or tail is None:
        return []
    beyond = felt.with_failed is None
    would = "one of them" if beyond else fmt.milliseconds(felt.with_failed)
    sentence = (
        f"The {fmt.count(felt.failed)} requests that failed are in no percentile; counted as slower than all others, "
        f"p99 would be {would}."
    )
    evidence: dict[str, Value] = {"failed": felt.failed, "succeeded": felt.n, "p99_with_failed_ms": felt.with_failed}
    return [
        Finding(
            "latency.failed",
            "trust",
            "warning" if beyond else "note",
            sentence,
            evidence=evidence,
            figure="percentiles",
            brief="Failed requests are in no percentile"
            + (", and there are more than 1 % of them." if beyond else "."),
        )
    ]
