"""The run in one sentence and a few large numbers; a refusal where the data cannot carry the claim."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from labtool.analysis import format as fmt
from labtool.analysis import search
from labtool.analysis.data import WHOLE, RunData
from labtool.analysis.latency import percentiles, whole_milliseconds
from labtool.analysis.model import Finding, Headline, Severity, Verdict
from labtool.analysis.quantiles import STATED, fewest
from labtool.analysis.requests import Felt
from labtool.analysis.resources import RESOURCES, Usage, busiest, system_name
from labtool.analysis.trust import unfinished_stages
from labtool.analysis.workload import DIP, FEWEST_INTERVALS, SHORTFALL, Load, bound_of, clearly_short, dips
from labtool.dataset.run import FROM_THEN_ON

LATE_LINES = 2
"""A tool that is short of processor time writes a line late: so many in a row say nothing of the system."""


def verdict(
    data: RunData,
    load: Load | None,
    found: list[Usage],
    findings: list[Finding],
    felt: Felt | None = None,
    job: Verdict | None = None,
) -> Verdict:
    """Return the verdict: what the run says, and nothing that its data cannot carry.

    `felt` is as for `headlines`, `job` what is said of a Spark application, which counts where nothing else had a rate
    to keep.
    """
    said = {finding.id: finding for finding in findings}
    broken, gone = _broken(data), _gone(data)
    if data.measured_s <= 0 or not (found or load or job):
        reason = broken or "there are no numbers of a measured window"
        return Verdict("refused", "Nothing to say", f"This run says nothing about the system: {reason}.")
    clause = _busiest_clause(found, said)
    if felt is not None and not data.steps and (tail := felt.latency.get("p99")):
        clause = "; ".join(
            (f"99 of 100 requests took {fmt.milliseconds(tail.value)} or less", *([clause] if clause else []))
        )
    if job is not None and _is_job(load):
        result = Verdict(job.severity, job.label, f"{job.sentence} {_sentence(clause)}".strip())
        return _not_whole(result, broken, gone)
    if load is None:
        if data.record.workload:
            why = broken or f"the workload {data.record.workload} left no numbers"
            sentence = f"Nothing can be said about the load: {why}. {_sentence(clause)}"
            return Verdict("refused", "No load measured", sentence.strip())
        sentence = (
            f"{_sentence(clause) or 'The hosts were watched.'} No workload of labtool drove the system, so nothing "
        )
        sentence += "is said about what it can carry."
        return _not_whole(Verdict("note" if not broken and not gone else "warning", "Watched", sentence), broken, gone)
    return _not_whole(_of_load(data, load, clause, said), broken, gone)


def _is_job(load: Load | None) -> bool:
    """Return True where nobody offered a rate: an application does not keep up with its own tasks."""
    return load is None or (load.role == "client" and load.offered is None)


def _of_load(data: RunData, load: Load, clause: str, said: dict[str, Finding]) -> Verdict:
    who = system_name(data)
    tail = f"; {clause}" if clause else ""
    if (found := search.answer(data.steps)) is not None:
        severity, label, sentence = search.conclusion(found, "query" if data.stream else who, load.noun)
        return Verdict(severity, label, f"{sentence} {_sentence(clause)}".strip())
    if kept := said.get("stream.backlog"):
        label = {"ok": "Kept up", "problem": "Fell behind", "note": "Not sure"}.get(kept.severity, "Too few batches")
        lost = f" {said['load.errors'].sentence}" if load.errors and "load.errors" in said else ""
        return Verdict(
            "problem" if lost else kept.severity, label, f"{kept.sentence}{lost} {_sentence(clause)}".strip()
        )
    if load.achieved is None:
        sentence = f"Nothing can be said about the load: the {load.role}s left no rate for the measured part{tail}."
        return Verdict("refused", "No rate", sentence)
    achieved = fmt.rate(load.achieved, load.noun)
    ratio = load.ratio
    if load.offered is None or ratio is None:
        how = "that waited for each answer" if load.closed else "sending as fast as they could"
        sentence = (
            f"The {who} took {achieved} from {fmt.plural(len(load.names), load.role)} {how}"
            f"{tail}. No rate was offered, so it is not said whether one would be kept up with."
        )
        return Verdict("note", "Unthrottled", sentence)
    offered = fmt.rate(load.offered, load.noun)
    failed = load.errors or 0
    if failed and failed >= (load.operations or 0):
        # Whose fault the rest is, nobody can tell from answers that there were not.
        how = said["load.errors"].sentence.partition(": ")[2].rstrip(".") or f"all {fmt.count(failed)} failed"
        return Verdict("problem", "All failed", f"None of the {load.noun} succeeded: {how}.")
    late = said.get("load.generator")
    if load.interval is None and load.intervals < FEWEST_INTERVALS:
        sentence = (
            f"Too few points to say whether the {who} keep up with {offered}: {achieved} in "
            f"{fmt.plural(load.intervals, 'interval')}, and it takes {FEWEST_INTERVALS}{tail}."
        )
        return Verdict("refused", "Too few points", sentence)
    if ratio >= 1 - SHORTFALL:
        but = f", but {fmt.count(failed)} operations failed" if failed else ""
        if late is not None and late.severity == "problem":
            but += f"{' and' if but else ', but'} the load hosts sent late, so the latencies are theirs"
        low = sum(end - start for start, end, _ in dips(load))
        if low > DIP * (load.span[1] - load.span[0]) or _stalled(load, singly=data.requests is not None):
            sentence = (
                f"The {who} kept up with {offered} on average{but}, but for {fmt.duration(low)} of "
                f"{fmt.duration(load.span[1] - load.span[0])} the rate was below 90 % of it{tail}."
            )
            return Verdict("warning", "Kept up on average", sentence)
        sentence = f"The {who} kept up with {offered}{but}{tail}."
        return Verdict("warning" if but else "ok", "Kept up", sentence)
    generator = said.get("resource.generator")
    gap = f"{achieved} of {offered} ({fmt.percent(ratio)})"
    at_limit = generator is not None and generator.severity in ("problem", "warning")
    if at_limit or (late is not None and late.severity == "problem"):
        sentence = (
            f"The load fell short, {gap}, and the load hosts were at their limit: this says nothing about what the "
            f"{who} can carry{tail}."
        )
        return Verdict("refused", "Load hosts at limit", sentence)
    if load.died:
        sentence = (
            f"The load fell short, {gap}, and {len(load.died)} of {fmt.plural(len(load.names), load.role)} failed: "
            f"this says nothing about what the {who} can carry{tail}."
        )
        return Verdict("refused", "Clients failed", sentence)
    if not clearly_short(load):
        sentence = f"Whether the {who} kept up cannot be said: {gap}, with {offered} inside the interval{tail}."
        return Verdict("refused", "Too close to call", sentence)
    system = said.get("resource.system")
    if system is not None and system.severity == "problem":
        sentence = f"The {who} fell short: {gap}{tail}."
    elif (network := said.get("resource.network")) is not None and network.severity == "problem":
        sentence = f"The rate fell short, {gap}, and the network was saturated{tail}."
    elif "trust.machine_full" in said:
        sentence = f"The rate fell short, {gap}{tail}."
    else:
        sentence = f"The rate fell short, {gap}, and nothing that was measured was saturated{tail}."
    return Verdict("problem", "Fell short", sentence)


def _stalled(load: Load, *, singly: bool) -> bool:
    """Return True if the rate once fell to less than half.

    Where requests were not counted singly but by a tool's lines, for so long that it is no line that came late.
    """
    asked = load.asked.v if load.asked is not None else np.full(len(load.over_time), load.offered)
    below = load.over_time.v < 0.5 * asked
    runs = np.split(below, np.flatnonzero(np.diff(below)) + 1)
    longest = max((len(run) for run in runs if len(run) and run[0]), default=0)
    return longest > 0 if singly else longest > LATE_LINES


def _broken(data: RunData) -> str:
    """Return in which stage the run broke, and why, as a clause; '' where it did not."""
    for stage in data.record.stages:
        if stage.outcome in ("failed", "interrupted"):
            was = "failed" if stage.outcome == "failed" else "was interrupted"
            why = f" ({stage.detail.rstrip('.')})" if stage.outcome == "failed" and stage.detail else ""
            return f"its stage “{stage.name}” {was}{why}"
    unfinished = unfinished_stages(data)
    return f"its stage “{unfinished[0]}” never reported an end" if unfinished else ""


def _gone(data: RunData) -> str:
    """Return which hosts went away in the window, as a clause; '' where none did."""
    hosts = sorted({missing.host for missing in data.record.missing if missing.what == FROM_THEN_ON})
    return f"{fmt.listed(hosts)} went away in it" if hosts else ""


def _not_whole(result: Verdict, broken: str, gone: str) -> Verdict:
    """Return the verdict on a run that broke or lost a host: what was well is so of a part only."""
    why = "; ".join(part for part in (broken, gone) if part)
    if not why:
        return result
    if result.severity == "ok":
        result = replace(result, severity="warning", label="Cut short" if broken else "Lost a host")
    return replace(result, sentence=f"{result.sentence} The run is not whole: {why}.")


def _busiest_clause(found: list[Usage], said: dict[str, Finding]) -> str:
    top = busiest(found)
    if full := said.get("trust.machine_full"):
        # What its hosts' counters show is then not what limited them.
        share = float(full.evidence["full"] or 0)
        return f"the machine under the hosts was itself full for {fmt.percent(share)} of the window"
    if top is None:
        return ""
    return f"the busiest resource was the {RESOURCES[top.resource]} of {top.host} at {fmt.percent(top.peak)}"


def _sentence(clause: str) -> str:
    return f"{clause[:1].upper()}{clause[1:]}." if clause else ""


def headlines(
    data: RunData,
    load: Load | None,
    found: list[Usage],
    felt: Felt | None = None,
    job: list[Headline] | None = None,
) -> list[Headline]:
    """Return the four to six large numbers of the first screen.

    `felt` is what single requests took, `job` what a Spark application did, as for `verdict`.
    """
    if job and _is_job(load):
        shown = job
    elif load is None:
        shown = _watched(data, found)
    else:
        felt_as = _percentiles(data, load) if data.requests is None else _of_requests(felt)
        sought = search.answer(data.steps)
        rates = _rates(load) if sought is None else _limits(sought, load.noun)
        shown = [*rates, *felt_as, _errors(load, blind=data.unacknowledged)]
    top = busiest(found)
    if top is not None:
        bound = (
            f"{RESOURCES[top.resource]} of {top.host}, {fmt.span(*top.peak_window)}; {fmt.percent(top.mean)} on average"
        )
        shown.append(
            Headline(
                "busiest", "Busiest resource", fmt.percent(top.peak).removesuffix(" %"), "%", bound, top.peak, "heat"
            )
        )
    else:
        shown.append(Headline("busiest", "Busiest resource", fmt.UNKNOWN, "", "no counters of hosts", None, "heat"))
    return shown


def _rates(load: Load) -> list[Headline]:
    unit = f"{load.noun}/s"
    if load.offered is None:
        how = "none: a closed loop" if load.closed else "none: as fast as they could"
        offered = Headline("offered", "Offered", fmt.UNKNOWN, "", how, None, "load")
    else:
        asked = f"as asked of {fmt.plural(len(load.names), load.role)}"
        offered = Headline("offered", "Offered", fmt.number(load.offered, 4), unit, asked, load.offered, "load")
    if load.achieved is None:
        return [offered, Headline("achieved", "Achieved", fmt.UNKNOWN, "", "no rate was left", None, "load")]
    bound = bound_of(load)
    if load.interval is not None:
        bound = f"± {fmt.number(load.interval.half, 2)} within this run (95 %, {load.interval.n} points)"
    ratio = load.ratio
    short = ratio is not None and ratio < 1 - SHORTFALL
    return [
        offered,
        Headline(
            "achieved",
            "Achieved",
            fmt.number(load.achieved, 4),
            unit,
            bound,
            load.achieved,
            "load",
            "problem" if short else "ok" if ratio is not None else "note",
        ),
    ]


def _percentiles(data: RunData, load: Load) -> list[Headline]:
    known = {percentile.name: percentile for percentile in percentiles(data, load.role)}
    resolution = "in whole ms" if whole_milliseconds(known.values()) else "as printed by the tool"
    shown = []
    for name, label in (("p50", "p50 latency"), ("p99", "p99 latency")):
        found = known.get(name)
        if found is None:
            why = f"the {load.role}s gave none" if known else _why_none(data, load)
            shown.append(Headline(name, label, fmt.UNKNOWN, "", why, None, "latency"))
            continue
        text, _, unit = fmt.milliseconds(found.high).rpartition(" ")
        if len(found.by_client) == 1:
            bound = f"one {load.role}, {resolution}"
        elif found.low == found.high:
            bound = f"the same for all {len(found.by_client)} {load.role}s, {resolution}"
        else:
            bound = f"of all {len(found.by_client)} {load.role}s: {fmt.latency_range(found.low, found.high)}"
        shown.append(Headline(name, label, text, unit, bound, found.high, "percentiles"))
    return shown


def _why_none(data: RunData, load: Load) -> str:
    """Say why no client gave a percentile, which tools give at their end."""
    if not any(np.isfinite(client.latency_avg).any() for client in data.clients if client.role == load.role):
        return "not measured by this workload"
    outcomes = {stage.outcome for stage in data.record.stages}
    broke = "was interrupted" if "interrupted" in outcomes else "failed" if "failed" in outcomes else ""
    if broke:
        return f"the run {broke} before the {load.role}s gave it"
    return f"the {load.role}s gave none"


def _limits(found: search.Answer, noun: str) -> list[Headline]:
    held, failed = found.held, found.failed
    shown = []
    for name, label, step, none in (
        ("held", "Highest rate that held", held, "no step held"),
        ("failed", "Not held at", failed, "no step above it"),
    ):
        if step is None:
            shown.append(Headline(name, label, fmt.UNKNOWN, "", none, None, "steps"))
            continue
        late = "; the load host was late" if step.saturated else ""
        shown.append(
            Headline(
                name,
                label,
                fmt.number(step.offered, 4),
                f"{noun}/s",
                search.values(step) + late,
                step.offered,
                "steps",
            )
        )
    return shown


def _of_requests(felt: Felt | None) -> list[Headline]:
    shown = []
    for name, label in (("p50", "p50 latency"), ("p99", "p99 latency")):
        found = felt.latency.get(name) if felt else None
        if found is None:
            few = f"{felt.n if felt else 0:,} requests are too few: it takes {fewest(dict(STATED)[name]):,}"
            shown.append(Headline(name, label, fmt.UNKNOWN, "", few, None, "latency"))
            continue
        text, _, unit = fmt.milliseconds(found.value).rpartition(" ")
        which = "together" if felt is None or felt.counted_as == WHOLE else felt.counted_as
        bound = f"{fmt.latency_range(found.low, found.high)} (95 %), {fmt.count(found.n)} requests {which}"
        shown.append(Headline(name, label, text, unit, bound, found.value, "percentiles"))
    return shown


def _errors(load: Load, *, blind: bool) -> Headline:
    if load.errors is None:
        why = "acks=0: no broker answers" if blind else "the tool does not say"
        return Headline("errors", "Errors", fmt.UNKNOWN, "", why, None, "load")
    of = f"of {fmt.count(load.operations)} {load.noun}" if load.operations else f"{load.noun} that failed"
    severity: Severity = "problem" if load.errors else "note" if load.died else "ok"
    if load.died:
        of += f" that were told of; {fmt.plural(len(load.died), load.role)} failed"
    return Headline("errors", "Errors", fmt.count(load.errors), "", of, load.errors, "load", severity)


def _watched(data: RunData, found: list[Usage]) -> list[Headline]:
    """What there is to say in numbers when no workload ran."""
    silent = [host for host in data.hosts if not data.signals.get(host)]
    heard = len(data.hosts) - len(silent)
    idle = data.record.not_running
    every = len(data.hosts) + len(idle)
    parts = [f"silent: {fmt.listed(silent, 3)}"] if silent else []
    parts += [f"not running: {fmt.listed(list(idle), 3)}"] if idle else []
    silence = "; ".join(parts) or "all left counters"
    shown = [
        Headline(
            "hosts",
            "Hosts measured",
            str(heard),
            f"of {every}",
            silence if every else "no host is recorded",
            heard,
            "heat",
            "ok" if heard == every > 0 else "problem",
        ),
        Headline(
            "measured",
            "Measured",
            *_split(fmt.duration(data.measured_s)),
            "the window without its warm-up",
            data.measured_s,
        ),
    ]
    for resource in ("memory", "disk"):
        mine = [use for use in found if use.resource == resource]
        if mine:
            top = max(mine, key=lambda use: use.peak)
            shown.append(
                Headline(
                    resource,
                    f"Fullest {RESOURCES[resource]}" if resource == "memory" else "Busiest disk",
                    fmt.percent(top.peak).removesuffix(" %"),
                    "%",
                    f"{top.host}, {fmt.span(*top.peak_window)}",
                    top.peak,
                    "heat",
                )
            )
    flows = [
        (float(np.nanmean(series.v)), host)
        for host in data.hosts
        if len(series := data.signal(host, "net_rx", measured=True))
    ]
    if flows:
        flow, host = max(flows)
        text, _, unit = fmt.size_rate(flow).rpartition(" ")
        shown.append(Headline("network", "Most network in", text, unit, f"{host}, mean over the window", flow, "hosts"))
    return shown


def _split(text: str) -> tuple[str, str]:
    value, _, unit = text.partition(" ")
    return value, unit
