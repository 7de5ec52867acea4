"""Why a Spark application took the time it took: what is worked out of it, and what is said."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from labtool.analysis import format as fmt
from labtool.analysis.application import FAILED, RUNNING, Application
from labtool.analysis.blocked import NAMES, STRAGGLES, Blocked, WhatIf, blocked
from labtool.analysis.data import RunData
from labtool.analysis.ideal import Ideal, Prediction, crowded_stages, ideals, predictions
from labtool.analysis.model import Finding, Headline, Severity, Value, Verdict
from labtool.analysis.reschedule import Rescheduler
from labtool.analysis.resources import RESOURCES
from labtool.analysis.stragglers import WORDS, Straggler, by_cause, stragglers

MOST = 3
"""So many applications of a run are explained, the longest first."""
CLOSE = 0.05
FAR = 0.20
"""Re-scheduling that is off by more than this carries no claim."""
GC_HIGH = 0.10
"""A share of the tasks' time in garbage collection from which on Spark's tuning guide calls for a look."""
LITTLE = 0.02
TWICE = {
    "cores": "twice the cores",
    "workers": "twice the workers",
    "disk": "twice the disk",
    "network": "twice the network",
}


@dataclass(frozen=True)
class Explained:
    """An application with everything that was worked out of it."""

    application: Application
    plan: Rescheduler
    blocked: Blocked
    stragglers: tuple[Straggler, ...]
    ideals: tuple[Ideal, ...]
    predictions: tuple[Prediction, ...]

    @property
    def trusted(self) -> bool:
        """True where re-scheduling gives the measured time back closely enough to carry a claim."""
        return abs(self.blocked.error) <= FAR

    def gain(self, seconds: float) -> float:
        """Return by which share of its time the application would have ended sooner if it had taken `seconds`."""
        took = self.blocked.measured_s
        return max(1 - seconds / took, 0.0) if took > 0 else 0.0

    @property
    def best(self) -> WhatIf:
        """What would have helped most, by what is told."""
        return min(self.blocked.what_ifs, key=lambda what: what.told_s)


def explain(data: RunData) -> tuple[Explained, ...]:
    """Work out the longest applications of a run, the longest first; streaming ones end when they are told to."""
    found = []
    ending = [application for application in data.spark if not application.streaming]
    for application in sorted(ending, key=lambda one: -one.length)[:MOST]:
        plan = Rescheduler(application)
        ideal = ideals(data, application)
        crowded = crowded_stages(data, application, ideal)
        found.append(
            Explained(
                application,
                plan,
                blocked(application, crowded, plan),
                tuple(stragglers(application)),
                ideal,
                predictions(application, ideal, plan, crowded),
            )
        )
    return tuple(found)


def findings(found: tuple[Explained, ...]) -> list[Finding]:
    """Return what is to be said of every application; where there are several each sentence names its own."""
    said: list[Finding] = []
    for one in found:
        mine = [
            *_jobs(one.application),
            *failed_tasks(one.application),
            *lost(one.application),
            *_rescheduled(one),
            *_blocked(one),
            *_stragglers(one),
            *_bottleneck(one),
            *_twice(one),
            *_memory(one.application),
        ]
        if len(found) > 1:
            name = f"{one.application.name} ({one.application.id})"
            mine = [replace(f, id=f"{f.id}.{one.application.id}", sentence=f"{name}: {f.sentence}") for f in mine]
        said += mine
    return said


def verdict(found: tuple[Explained, ...]) -> Verdict | None:
    """Return the run in a sentence where an application was all that it was; None where none ran."""
    if not found:
        return None
    one = found[0]
    application = one.application
    failed = [job for job in application.jobs if job.status == FAILED]
    if failed:
        why = f": {failed[0].reason}" if failed[0].reason else ""
        sentence = f"{_what(application)} failed in job {failed[0].number}{why}"
        return Verdict("problem", "Job failed", f"{sentence.removesuffix('.')}.")
    if application.end is None or any(job.status == RUNNING for job in application.jobs):
        sentence = f"{_what(application)} had not ended when its log did, after {fmt.duration(application.length)}."
        return Verdict("warning", "Not ended", sentence)
    sentence = f"{_what(application)} took {fmt.duration(application.length)}"
    best = one.best
    if one.trusted and one.gain(best.told_s) >= LITTLE:
        sentence += f"; with {NAMES[best.what]} it would have taken {fmt.duration(best.told_s)}"
    return Verdict("ok", "Job done", f"{sentence}.")


def headlines(found: tuple[Explained, ...]) -> list[Headline]:
    """Return the large numbers of the longest application."""
    if not found:
        return []
    one = found[0]
    application, tasks = one.application, one.application.tasks
    moved = float(np.nansum(tasks.bytes["shuffle_local"]) + np.nansum(tasks.bytes["shuffle_remote"]))
    spilled = float(np.nansum(tasks.bytes["disk_spilled"]))
    bad = sum(status == FAILED for status, _ in tasks.ends.values())
    shown = [
        Headline(
            "took",
            "Time",
            *_split(fmt.duration(application.length)),
            f"{fmt.plural(len(application.jobs), 'job')}, from the first one's start to the last one's end",
            application.length,
            "waterfall",
            "ok",
        ),
        Headline(
            "tasks",
            "Tasks",
            fmt.count(len(tasks)),
            "",
            f"in {fmt.plural(len(application.stages), 'stage')}, {_slots(one)}"
            + (f"; {bad:,} failed" if bad else "; none failed"),
            len(tasks),
            "gantt",
            "warning" if bad else "ok",
        ),
        Headline(
            "shuffle",
            "Shuffled",
            *_split(fmt.size(moved)),
            f"{fmt.size(spilled)} spilled to disk" if spilled else "nothing was spilled",
            moved,
            "shuffle",
        ),
    ]
    best = one.best
    if one.trusted:
        bound = (
            f"with {NAMES[best.what]}, at most {fmt.percent(one.gain(best.most_s))}; re-scheduling is off by "
            f"{off(one.blocked.error)}"
        )
        shown.append(
            Headline(
                "gain",
                "Could end sooner by",
                *_split(fmt.percent(one.gain(best.told_s))),
                bound,
                one.gain(best.told_s),
                "whatif",
            )
        )
    else:
        bound = f"re-scheduling is off by {off(one.blocked.error)}"
        shown.append(Headline("gain", "Could end sooner by", fmt.UNKNOWN, "", bound, None, "whatif"))
    return shown


def off(error: float) -> str:
    """Return by how much re-scheduling is off, as text."""
    return "under 0.1 %" if abs(error) < 0.001 else fmt.percent(abs(error))


def _split(text: str) -> tuple[str, str]:
    value, _, unit = text.partition(" ")
    return value, unit


def _what(application: Application) -> str:
    return f"The Spark application {application.name}"


def _slots(one: Explained) -> str:
    executors = len(one.application.executors)
    return f"{fmt.plural(len(one.plan.slots), 'slot')} of {fmt.plural(executors, 'executor')}"


def _jobs(application: Application) -> list[Finding]:
    tasks, jobs = application.tasks, application.jobs
    failed = [job for job in jobs if job.status == FAILED]
    evidence: dict[str, Value] = {
        "jobs": len(jobs),
        "stages": len(application.stages),
        "stages_skipped": application.skipped,
        "tasks": len(tasks),
        "seconds": application.length,
        "lines_broken": application.broken,
    }
    said = []
    if failed:
        why = f": {failed[0].reason.removesuffix('.')}." if failed[0].reason else "."
        many = f" {fmt.plural(len(failed) - 1, 'other')} failed too." if len(failed) > 1 else ""
        sentence = f"Job {failed[0].number} ({failed[0].name}) failed{why}{many}"
        said.append(Finding("spark.jobs", "load", "problem", sentence, "", evidence, "waterfall"))
    else:
        all_of = f"All {len(jobs):,} jobs" if len(jobs) > 1 else "The job"
        sentence = (
            f"{all_of} ended well: {fmt.plural(len(application.stages), 'stage')} with "
            f"{fmt.plural(len(tasks), 'task')} in {fmt.duration(application.length)}."
        )
        if all(job.status != RUNNING for job in jobs):
            said.append(Finding("spark.jobs", "load", "ok", sentence, "", evidence, "waterfall"))
    if application.end is None:
        cut = f", and {fmt.plural(application.broken, 'line')} of it cannot be read" if application.broken else ""
        sentence = (
            f"The event log of {application.name} ends before the application did{cut}: what ran then is not in it."
        )
        said.append(Finding("spark.log", "missing", "warning", sentence, evidence=evidence, figure="waterfall"))
    return said


def failed_tasks(application: Application) -> list[Finding]:
    """State that tasks failed, though their stages may have ended well."""
    tasks = application.tasks
    ended = [reason for status, reason in tasks.ends.values() if status == FAILED]
    if not ended:
        return []
    sentence = f"{fmt.plural(len(ended), 'task')} failed, the first with {ended[0] or 'no reason given'}."
    evidence: dict[str, Value] = {"failed": len(ended), "tasks": len(tasks)}
    return [Finding("spark.failed_tasks", "load", "warning", sentence, "", evidence, "gantt")]


def lost(application: Application) -> list[Finding]:
    """State which executors went before the last job had ended."""
    last = application.span[1]
    lost = [one for one in application.executors if one.removed is not None and one.removed < last]
    if not lost:
        return []
    first = min(lost, key=lambda one: one.removed or 0.0)
    others = f", and {fmt.plural(len(lost) - 1, 'other')} later" if len(lost) > 1 else ""
    sentence = (
        f"Executor {first.name} on {first.host} was lost at {first.removed or 0.0:,.0f} s ({first.reason}){others}: "
        "what it ran, and what it held of earlier stages, had to be computed again."
    )
    evidence: dict[str, Value] = {"lost": len(lost), "executors": len(application.executors)}
    return [Finding("spark.executors", "load", "warning", sentence, "", evidence, "gantt", first.host)]


def _rescheduled(one: Explained) -> list[Finding]:
    error, stage_error = one.blocked.error, one.blocked.stage_error
    evidence: dict[str, Value] = {
        "measured_s": one.blocked.measured_s,
        "rescheduled_s": one.blocked.base_s,
        "error": error,
        "stage_error": stage_error,
    }
    bound = "list scheduling in launch order on the slots that were there, with the measured gaps of the driver"
    far = f"{off(error)} off ({off(stage_error)} over its stages)"
    if not one.trusted:
        sentence = (
            f"Putting the tasks on their slots again with unchanged times is {far}, so nothing is said of what "
            "would have been."
        )
        return [Finding("spark.rescheduled", "trust", "refused", sentence, bound, evidence, "whatif")]
    severity: Severity = "ok" if abs(error) <= CLOSE else "warning"
    sentence = f"Putting the tasks on their slots again with unchanged times gives the measured time back, {far}."
    return [Finding("spark.rescheduled", "trust", severity, sentence, bound, evidence, "whatif")]


def _blocked(one: Explained) -> list[Finding]:
    if not one.trusted:
        return []
    took = one.blocked.measured_s
    said, evidence = [], {"measured_s": took, "rescheduling_error": one.blocked.error}
    for what in sorted(one.blocked.what_ifs, key=lambda what: what.most_s):
        part = f"{fmt.percent(one.gain(what.most_s))} with {NAMES[what.what]}"
        if what.told_s - what.most_s > LITTLE * took:
            part += f" ({fmt.percent(one.gain(what.told_s))} where only what is known to be its counts)"
        said.append(part)
        evidence |= {f"{what.what}_least_s": what.most_s, f"{what.what}_told_s": what.told_s}
    sentence = f"It would have ended sooner by at most: {'; '.join(said)}."
    bound = (
        "blocked time (NSDI 2015): an upper bound of what each of them can give, by itself; what Spark does not "
        "measure may be the disk's, a Python worker's or a wait for a processor"
    )
    return [Finding("spark.blocked", "resource", "note", sentence, bound, evidence, "whatif")]


def _stragglers(one: Explained) -> list[Finding]:
    tasks = one.application.tasks
    bound = f"slower than {STRAGGLES:g} times the stage's median, and by 0.1 s; a cause explains at least half of it"
    if not one.stragglers:
        sentence = "No task took much longer than the others of its stage."
        return [Finding("spark.stragglers", "resource", "ok", sentence, bound, {"stragglers": 0}, "gantt")]
    excess = sum(each.excess_s for each in one.stragglers)
    total = float(np.nansum(tasks.duration))
    parts = [
        f"{WORDS[cause]} ({fmt.plural(n, 'task')}, {fmt.duration(seconds)})"
        for cause, n, seconds in by_cause(list(one.stragglers))
    ]
    worst = one.stragglers[0]
    host = tasks.hosts[tasks.host[worst.task]]
    detail = f"; {worst.evidence}" if worst.evidence else ""
    many = f"{fmt.plural(len(one.stragglers), 'task')} of {len(tasks):,}"
    slowest = f"The slowest, in stage {one.application.stages[worst.stage].label} on {host}"
    sentence = (
        f"{many} took much longer than the others of their stage, {fmt.duration(excess)} of {fmt.duration(total)} in "
        f"all. What explains it: {fmt.listed(parts, 6)}. {slowest}, took {fmt.number(worst.times, 2)} times the "
        f"median{detail}."
    )
    evidence: dict[str, Value] = {"stragglers": len(one.stragglers), "excess_s": excess, "task_time_s": total}
    evidence |= {f"{cause}_s": seconds for cause, _, seconds in by_cause(list(one.stragglers))}
    span = (float(tasks.launched[worst.task]), float(tasks.finished[worst.task]))
    severity: Severity = "warning" if excess >= 0.1 * total else "note"
    return [Finding("spark.stragglers", "resource", severity, sentence, bound, evidence, "gantt", host, span)]


def _bottleneck(one: Explained) -> list[Finding]:
    if not one.ideals:
        return []
    longest = max(one.ideals, key=lambda ideal: ideal.took_s)
    stage = one.application.stages[longest.stage]
    total = sum(ideal.took_s for ideal in one.ideals)
    by_resource = {
        name: sum(ideal.took_s for ideal in one.ideals if ideal.bottleneck == name) for name in (*RESOURCES, "")
    }
    evidence: dict[str, Value] = {
        "stage": stage.label,
        "took_s": longest.took_s,
        "ideal_cpu_s": longest.cpu_s,
        "ideal_disk_s": longest.disk_s,
        "ideal_network_s": longest.network_s,
        "slots_busy": longest.busy_slots,
    }
    parts = [
        f"{RESOURCES[name]} {fmt.duration(value)}"
        for name in ("cpu", "disk", "network")
        if (value := longest.of(name)) is not None
    ]
    bound = (
        f"ideal times (SOSP 2017) from the hosts' counters, ± {fmt.duration(longest.off_s)}"
        if longest.from_hosts
        else "ideal times (SOSP 2017) from the tasks' own metrics: no Python worker, no disk"
    )
    name = longest.bottleneck
    if not name and not longest.from_hosts:
        sentence = (
            f"What bound the longest stage, {stage.label} ({fmt.duration(longest.took_s)}), cannot be said: its hosts "
            "left no counters for it, and tasks count neither their disk nor what Python computes."
        )
        return [Finding("spark.bottleneck", "resource", "refused", sentence, "", evidence, "waterfall")]
    slots = f"; its slots were busy {fmt.percent(longest.busy_slots)} of the time" if longest.busy_slots < 0.7 else ""
    what = (
        f"was bound by its {RESOURCES[name]}"
        if name
        else "kept none of what was measured busy for half of its time, so that it waited or had too few tasks"
    )
    most = max(by_resource, key=lambda key: by_resource[key])
    share = f"Of the stages' time {fmt.percent(by_resource[most] / total)} was bound by "
    share += f"the {RESOURCES[most]}." if most else "nothing that was measured."
    sentence = (
        f"The longest stage, {stage.label} ({fmt.duration(longest.took_s)}), {what}: ideally it takes "
        f"{fmt.listed(parts)}{slots}. {share}"
    )
    return [Finding("spark.bottleneck", "resource", "note", sentence, bound, evidence, "whatif")]


def _twice(one: Explained) -> list[Finding]:
    if not one.trusted or not one.predictions:
        return []
    parts = []
    for each in one.predictions:
        likely, best, worst = (fmt.duration(value) for value in (each.seconds, each.best_s, each.worst_s))
        between = f" ({best} to {worst})" if best != worst else ""
        parts.append(f"{TWICE[each.change]} {likely}{between}")
    evidence: dict[str, Value] = {f"{each.change}_s": each.seconds for each in one.predictions}
    evidence |= {f"{each.change}_best_s": each.best_s for each in one.predictions}
    evidence |= {f"{each.change}_worst_s": each.worst_s for each in one.predictions}
    sentence = f"Instead of {fmt.duration(one.blocked.measured_s)} it would take, with {fmt.listed(parts, 4)}."
    shared = any(ideal.machine_s is not None for ideal in one.ideals)
    machine = ", nor below what the one machine under all hosts needs" if shared else ""
    bound = f"re-scheduled, and no stage below the ideal times of what is left{machine}; a model, not a measurement"
    return [Finding("spark.twice", "resource", "note", sentence, bound, evidence, "whatif")]


def _memory(application: Application) -> list[Finding]:
    tasks = application.tasks
    run, gc = float(np.nansum(tasks.seconds["run"])), float(np.nansum(tasks.seconds["gc"]))
    spilled = np.nan_to_num(tasks.bytes["disk_spilled"])
    said = []
    if run > 0 and gc >= GC_HIGH * run:
        sentence = (
            f"Garbage collection took {fmt.percent(gc / run)} of the tasks' time: the executors' memory is short."
        )
        found: dict[str, Value] = {"gc_s": gc, "run_s": run}
        said.append(Finding("spark.gc", "resource", "warning", sentence, "as the JVMs count", found, "shuffle"))
    if spilled.sum() > 0:
        stages = sorted({application.stages[i].label for i in tasks.stage[spilled > 0].tolist()}, key=float)
        sentence = (
            f"{fmt.size(float(spilled.sum()))} were spilled to disk in {fmt.plural(int((spilled > 0).sum()), 'task')} "
            f"of stage {fmt.listed(stages)}: their memory was too small for what they sorted or joined."
        )
        found = {"spilled_bytes": float(spilled.sum()), "tasks": int((spilled > 0).sum())}
        said.append(Finding("spark.spill", "resource", "warning", sentence, "", found, "shuffle"))
    return said
