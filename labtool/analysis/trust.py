"""What cannot be trusted, and what is missing: stages, gaps, clocks, the observer's own cost, shared hardware."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np

from labtool.analysis import format as fmt
from labtool.analysis.data import RunData, Series
from labtool.analysis.model import Finding, Severity
from labtool.analysis.resources import STOLEN, machine_cpus
from labtool.analysis.statistics import gaps

SHORT_S = 60.0
OBSERVER_NOTABLE = 0.02
"""Collectors that use more than this share of a host's CPU are a warning."""
CLOCK_NOTABLE_S = 0.5
"""A clock that may be off by more than half a sampling step shifts a host's curves against the others'."""


def findings(data: RunData) -> list[Finding]:
    """Return everything that limits what the run can say."""
    return [
        *_stages(data),
        *_missing(data),
        *_window(data),
        *_silent_hosts(data),
        *_gaps(data),
        *_faults(data),
        *_counts(data),
        *_shared_machine(data),
        *_machine_full(data),
        *_shared_disk(data),
        *_clocks(data),
        *_observer(data),
    ]


def unfinished_stages(data: RunData) -> list[str]:
    """Return the stages that never ended, as when the controller was killed."""
    # The report is drawn while its own stage still runs.
    return [s.name for s in data.record.stages if s.outcome == "running" and s.name not in ("report", "tables")]


def _stages(data: RunData) -> list[Finding]:
    said = []
    for stage in data.record.stages:
        if stage.outcome not in ("failed", "interrupted"):
            continue
        detail = f": {stage.detail.rstrip('.')}" if stage.detail else ""
        was = "failed" if stage.outcome == "failed" else "was interrupted"
        severity: Severity = "problem" if stage.outcome == "failed" else "warning"
        sentence = f"The stage “{stage.name}” {was}{detail}."
        said.append(Finding(f"stage.{stage.name}", "missing", severity, sentence, figure="timeline"))
    unfinished = unfinished_stages(data)
    if unfinished:
        sentence = f"The run ended without its record being closed: {fmt.listed(unfinished)} never reported an end."
        said.append(Finding("stage.unfinished", "missing", "warning", sentence, figure="timeline"))
    return said


def _missing(data: RunData) -> list[Finding]:
    said = []
    for i, missing in enumerate((*data.record.missing, *data.unreadable)):
        where = f" of {missing.host}" if missing.host and missing.host not in missing.what else ""
        what = missing.what[:1].upper() + missing.what[1:]
        sentence = f"{what}{where}: {missing.why.rstrip('.')}."
        said.append(Finding(f"missing.{i + 1}", "missing", "warning", sentence, host=missing.host))
    return said


def _window(data: RunData) -> list[Finding]:
    if data.length_s <= 0:
        sentence = "No window was measured: the run ended before its first second of measurement."
        return [Finding("window.none", "missing", "problem", sentence)]
    if data.measured_s <= 0:
        sentence = (
            f"All of the window of {fmt.duration(data.length_s)} is warm-up ({fmt.duration(data.record.warmup_s)}): "
            "nothing is left to measure."
        )
        return [Finding("window.warmup", "missing", "problem", sentence)]
    said = []
    if data.measured_s < SHORT_S:
        sentence = (
            f"Only {fmt.duration(data.measured_s)} were measured: too short for a steady state, caches and "
            "compilers may still be warming up."
        )
        said.append(
            Finding(
                "window.short",
                "trust",
                "warning",
                sentence,
                evidence={"measured_s": data.measured_s},
                brief=f"Only {fmt.duration(data.measured_s)} were measured: too short for a steady state.",
            )
        )
    if data.clients and data.record.warmup_s <= 0:
        sentence = "No warm-up was set: the clients' start, cold caches and compilers are in every number."
        said.append(Finding("window.cold", "trust", "note", sentence))
    said.append(
        Finding(
            "window.one",
            "trust",
            "note",
            "This is one run: its intervals say how much a number moved within it, not how much it would differ in "
            "another run.",
            brief="One run: intervals tell how numbers moved within it, not between runs.",
        )
    )
    return said


def _silent_hosts(data: RunData) -> list[Finding]:
    """Name the hosts without counters, unless no host has any, which is said elsewhere, or the reason is known."""
    explained = {missing.host for missing in data.record.missing}
    silent = [host for host in data.hosts if not data.signals.get(host)]
    unexplained = [host for host in silent if host not in explained]
    if not unexplained or len(silent) == len(data.hosts) or data.length_s <= 0:
        return []
    sentence = f"There are no counters of {fmt.listed(unexplained)}, and no reason is recorded."
    host = unexplained[0] if len(unexplained) == 1 else ""
    return [Finding("missing.counters", "missing", "warning", sentence, host=host)]


def _gaps(data: RunData) -> list[Finding]:
    found: dict[str, list[tuple[float, float]]] = {}
    for host in data.hosts:
        series = data.signal(host, "cpu")
        if len(series):
            holes = gaps(series, 0.0, data.length_s)
            if holes:
                found[host] = holes
    if not found:
        return []
    lost = {host: sum(end - start for start, end in holes) for host, holes in found.items()}
    worst = max(lost, key=lambda host: lost[host])
    share = lost[worst] / data.length_s if data.length_s else 0.0
    first = max(found[worst], key=lambda hole: hole[1] - hole[0])
    where = (
        f"{worst} has no counters for {fmt.duration(lost[worst])} of the window (the longest hole: {fmt.span(*first)})"
    )
    others = [host for host in found if host != worst]
    also = f"; there are holes in those of {fmt.listed(others)} too" if others else ""
    severity: Severity = "warning" if share > 0.02 else "note"
    return [
        Finding(
            "gaps",
            "missing",
            severity,
            f"{where}{also}.",
            "a hole is longer than three sampling steps",
            {f"missing_s_{host}": seconds for host, seconds in list(lost.items())[:20]},
            "hosts",
            worst,
            first,
        )
    ]


def _faults(data: RunData) -> list[Finding]:
    faults = data.events_of(["fault"])
    if not faults:
        return []
    named = fmt.listed([f"{f.name}{f' on {f.host}' if f.host else ''} at {f.start:,.0f} s" for f in faults])
    sentence = f"{fmt.plural(len(faults), 'fault')} happened in the window: {named}."
    return [
        Finding(
            "faults",
            "trust",
            "warning",
            sentence,
            figure="timeline",
            window=(faults[0].start, faults[0].end or faults[0].start),
        )
    ]


def _shared_machine(data: RunData) -> list[Finding]:
    """On one machine the hosts' CPUs are the same CPUs."""
    cpus = machine_cpus(data)
    vcpus = sum(host.vcpus or 0 for host in data.record.hosts)
    if data.record.cloud != "local" or not data.record.hosts:
        return []
    if cpus is None or vcpus <= cpus:
        return []
    unknown = [host.name for host in data.record.hosts if not host.vcpus]
    without = f", those of {fmt.listed(unknown)} unknown," if unknown else ""
    sentence = (
        f"The {fmt.plural(len(data.record.hosts), 'host')} with {vcpus} vCPUs in all{without} share one machine of "
        f"{fmt.plural(cpus, 'CPU')}: they slow each other down, and absolute numbers say nothing about separate "
        "machines."
    )
    brief = (
        f"{len(data.record.hosts)} hosts ({vcpus} vCPUs{' or more' if unknown else ''}) share one machine with "
        f"{fmt.plural(cpus, 'CPU')}: absolute numbers do not carry over to separate machines."
    )
    return [
        Finding("trust.shared_machine", "trust", "warning", sentence, "", {"vcpus": vcpus, "cpus": cpus}, brief=brief)
    ]


MACHINE_FULL = 0.1
"""Share of the window from which on a machine without idle time is worth a warning: a tail percentile lies inside."""


def _machine_full(data: RunData) -> list[Finding]:
    """On one machine, say when the machine itself was full: a host's own counters show such waiting as idle time."""
    full = machine_share(data, "cpu_full")
    if data.record.cloud != "local" or full is None or full < MACHINE_FULL:
        return []
    busy, stolen = machine_share(data, "cpu_busy") or 0.0, machine_share(data, "cpu_stolen") or 0.0
    others = f", {fmt.percent(stolen)} taken by the machine's own host" if stolen >= STOLEN else ""
    sentence = (
        f"The machine that carries the hosts had no processor time left for {fmt.percent(full)} of the window "
        f"({fmt.percent(busy)} busy over the whole{others}): the hosts waited for its processors, which their own "
        "counters cannot show; read every rate as a lower and every latency as an upper bound."
    )
    brief = (
        f"The machine under the hosts was full for {fmt.percent(full)} of the window: rates are lower bounds, "
        "latencies upper ones."
    )
    evidence = {"full": full, "threshold": MACHINE_FULL, "busy": busy, "stolen": stolen}
    return [Finding("trust.machine_full", "trust", "warning", sentence, "", evidence, brief=brief)]


def machine_share(data: RunData, name: str) -> float | None:
    """Return `cpu_busy`, `cpu_stolen` or `cpu_full` of the machine (0…1), None where nobody measured it."""
    try:
        return float(data.record.machine[name])
    except (KeyError, ValueError):
        return None


def _shared_disk(data: RunData) -> list[Finding]:
    """On one machine, say where hosts show the same disk: devices of one name whose written bytes run together."""
    if data.record.cloud != "local":
        return []
    same: set[str] = set()
    hosts = [host for host in data.hosts if len(data.signal(host, "disk_write")) >= 10]
    for left, right in pairwise(hosts):
        if data.disks.get(left) == data.disks.get(right) and _run_together(
            data.signal(left, "disk_write"), data.signal(right, "disk_write")
        ):
            same |= {left, right}
    if not same:
        return []
    sentence = (
        f"The disk counters of {fmt.listed(sorted(same))} run together: they are those of one disk "
        "that the hosts share, not each host's own traffic."
    )
    brief = "The hosts' disk counters are those of one shared disk, not each host's own."
    return [Finding("trust.shared_disk", "trust", "warning", sentence, figure="hosts", brief=brief)]


def _run_together(left: Series, right: Series) -> bool:
    """Return True if two hosts' bytes, added up over time, end within a tenth and never part by more than a burst.

    The hosts read one counter at different moments of a second, so that single seconds differ.
    """
    start, end = max(left.t[0], right.t[0]), min(left.t[-1], right.t[-1])
    at = np.arange(start, end, max(left.step, right.step))
    if len(at) < 10:
        return False
    a, b = (
        np.interp(at, one.t, np.cumsum(one.v * np.diff(one.t, prepend=one.t[0] - one.step))) for one in (left, right)
    )
    a, b = a - a[0], b - b[0]
    burst = max(float(left.v.max()), float(right.v.max())) * max(left.step, right.step)
    alike = abs(a[-1] - b[-1]) <= 0.1 * max(a[-1], b[-1])
    return bool(a[-1] > 0 and alike and np.abs(a - b).max() <= 1.25 * burst)


def _clocks(data: RunData) -> list[Finding]:
    if not data.clocks:
        if len(data.hosts) == 0 or data.length_s <= 0:
            return []
        sentence = (
            "The hosts' clocks were not compared with the controller's: how well their curves line up is unknown."
        )
        brief = "Clock offsets were not measured: how well the hosts' curves line up is unknown."
        return [Finding("clock.none", "trust", "note", sentence, brief=brief)]
    said = []
    for host in dict.fromkeys(reading.host for reading in data.clocks):
        mine = [reading for reading in data.clocks if reading.host == host]
        low = max(mine, key=lambda r: r.offset_s - r.bound_s)
        high = min(mine, key=lambda r: r.offset_s + r.bound_s)
        step = (low.offset_s - low.bound_s) - (high.offset_s + high.bound_s)
        if step > 0:
            sentence = (
                f"The clock of {host} moved during the run: between {high.phase} and {low.phase} by at least "
                f"{fmt.milliseconds(step * 1000)}."
            )
            said.append(
                Finding(
                    f"clock.step.{host}",
                    "trust",
                    "warning",
                    sentence,
                    "the bounds of two readings do not meet",
                    {"step_s": step},
                    host=host,
                )
            )
    worst = max(data.clocks, key=lambda reading: abs(reading.offset_s) + reading.bound_s)
    most = abs(worst.offset_s) + worst.bound_s
    without = [host for host in data.hosts if host not in {reading.host for reading in data.clocks}]
    note = f" (not measured: {fmt.listed(without)})" if without else ""
    severity: Severity = "warning" if most > CLOCK_NOTABLE_S else "ok"
    sentence = f"No host's clock was further than {fmt.milliseconds(most * 1000)} from the controller's{note}."
    said.append(
        Finding(
            "clock.bound",
            "trust",
            severity,
            sentence,
            f"offset plus half of the smallest round trip, the worst of {fmt.plural(len(data.clocks), 'reading')}",
            {"bound_s": most, "host": worst.host, "offset_s": worst.offset_s},
            host=worst.host,
        )
    )
    return said


def _counts(data: RunData) -> list[Finding]:
    """Hold what the clients counted against what the system itself did."""
    said = []
    for count in data.counts:
        both = f"{count.counted_by}: {count.counted:,} {count.what}; {count.claimed_by}: {count.claimed:,}"
        both = both[:1].upper() + both[1:]
        severity: Severity = "ok"
        meaning = "the system holds what the clients were told it does"
        if count.counted < count.claimed:
            severity = "problem"
            meaning = f"{count.claimed - count.counted:,} {count.what} were acknowledged and are not there"
        elif count.counted > count.claimed:
            severity = "warning"
            meaning = (
                f"{count.counted - count.claimed:,} {count.what} are there that no client counts: what was sent "
                "again, or arrived though its client saw an error"
            )
        said.append(
            Finding(
                f"counts.{count.what}",
                "trust",
                severity,
                f"{both}: {meaning}.",
                evidence={"claimed": count.claimed, "counted": count.counted},
                figure="load",
            )
        )
    return said


def _observer(data: RunData) -> list[Finding]:
    cores = {
        cost.host: cost.cpu_s / cost.window_s for cost in data.observers if cost.cpu_s is not None and cost.window_s
    }
    if not cores:
        if not data.signals:
            return []
        return [Finding("observer.none", "trust", "note", "What the collectors themselves used was not measured.")]
    worst = max(cores, key=lambda host: cores[host])
    record = data.host_record(worst)
    share = cores[worst] / ((record.vcpus if record else None) or 1)
    written = _known_sum(cost.bytes_written for cost in data.observers)
    sent = _known_sum(cost.bytes_sent for cost in data.observers)
    severity: Severity = "warning" if share > OBSERVER_NOTABLE else "ok"
    sentence = (
        f"Measuring cost at most {fmt.percent(cores[worst])} of one core ({worst}); {fmt.size(written)} were written "
        f"on {fmt.plural(len(cores), 'host')}, {fmt.size(sent)} moved to the controller."
    )
    return [
        Finding(
            "observer.cost",
            "trust",
            severity,
            sentence,
            "CPU time of the collectors' processes in the window",
            {"core_ratio": cores[worst], "host_ratio": share, "bytes_written": written, "bytes_sent": sent},
            host=worst,
        )
    ]


def _known_sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
