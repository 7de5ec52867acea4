"""The stages that a streaming query's batches are made of: which of them, and which resource, sets the rate.

Every micro-batch is a job, or several, of the same stages, so what counts is not one of the thousands of stages but
all that do the same: those at one place of the batch's plan, with the same RDDs. A batch of a trigger's records must
be done within the trigger (Zaharia et al., "Discretized Streams: Fault-Tolerant Streaming Computation at Scale", SOSP
2013, 2.2; Armbrust et al., "Structured Streaming: A Declarative API for Real-Time Applications in Apache Spark", SIGMOD
2018, 6.2), so what takes most of a batch sets the rate that is sustained, and what grows most with its records will.

What a stage waited for is the resource that is full while it runs, by the hosts' counters (Gregg's USE method). Where
none is, its tasks' own metrics say what they spent their time on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from labtool.analysis import format as fmt
from labtool.analysis.application import FAILED, Application, Job, Stage
from labtool.analysis.data import Floats, RunData, Series
from labtool.analysis.explained import failed_tasks, lost
from labtool.analysis.model import Finding, Value, Verdict
from labtool.analysis.resources import RANKED, RESOURCES, utilisation
from labtool.analysis.streaming import Line, counted, line
from labtool.analysis.trust import MACHINE_FULL, machine_share

FULL = 0.8
"""A resource that is in use for this share of a stage's time is what it waits for: queues grow long from there on."""
LEAST_COVERED_S = 3.0
"""Counters of a sample a second say something of short stages only where they cover so much of them together."""

DOES = {
    "state": "keeps the state",
    "shuffled": "reads the shuffle",
    "source": "reads the source",
    "python": "runs Python",
}
"""What a stage does, by the RDDs that it is made of."""


@dataclass(frozen=True)
class Busiest:
    """The resource that was used most while a stage ran: a mean (0…1) over all its runs."""

    host: str
    resource: str
    mean: float


@dataclass(frozen=True)
class BatchStage:
    """A stage that batches have again and again; seconds are means over all batches that count."""

    place: int  # 1, 2, … in the order of a batch
    of: int  # how many stages a batch has
    does: str
    runs: int
    tasks: float  # of a run
    seconds: float  # of a batch, from its submission to its end
    spent: Mapping[str, float]  # share of its tasks' time, by what it went to (Tasks.spent)
    growth: Line | None  # its seconds by the batch's records
    busiest: Busiest | None

    @property
    def name(self) -> str:
        """What sentences and figures call it."""
        return f"stage {self.place} of {self.of}"

    @property
    def record_s(self) -> float | None:
        """What each record more costs it in s; None where that is not known within a half of itself."""
        found = self.growth
        return found.slope if found is not None and 0 <= 2 * found.half < found.slope else None


@dataclass(frozen=True)
class Batched:
    """A streaming application by the stages of its batches; those count that had records while records were sent."""

    application: Application
    batches: int
    seconds: float  # of a batch, mean
    stages: tuple[BatchStage, ...]
    machine_full: bool  # the machine that carries all hosts: their own counters do not show it

    @property
    def driver_s(self) -> float:
        """What of a batch is none of its stages: planning, offsets, the checkpoint, and what lies between stages."""
        return max(self.seconds - sum(stage.seconds for stage in self.stages), 0.0)

    @property
    def longest(self) -> BatchStage:
        """The stage that takes most of a batch."""
        return max(self.stages, key=lambda stage: stage.seconds)

    def share(self, seconds: float) -> float:
        """Return the share of a batch that `seconds` are."""
        return seconds / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True)
class _Spans:
    """The batches that count: when each began and ended, and its records (not a number where nobody said)."""

    start: Floats
    end: Floats
    rows: Floats


def batched(data: RunData) -> Batched | None:
    """Return the longest streaming application by the stages of its batches; None where there is none."""
    application = max((one for one in data.spark if one.streaming), key=lambda one: one.length, default=None)
    if application is None:
        return None
    spans = _spans(data, application)
    place = _batch_of(spans, application.jobs)
    kinds = _kinds(application, place)
    if not kinds:
        return None
    return Batched(
        application,
        len(spans.start),
        float((spans.end - spans.start).mean()),
        tuple(
            _stage(data, application, spans, number, len(kinds), members, place)
            for number, members in enumerate(kinds, 1)
        ),
        data.record.cloud == "local" and (machine_share(data, "cpu_full") or 0.0) >= MACHINE_FULL,
    )


def _spans(data: RunData, application: Application) -> _Spans:
    """Return the batches as Spark's progress tells of them, or else as their jobs do."""
    start, end = counted(data)
    stream = data.stream
    if stream is not None:
        chosen = (stream.rows > 0) & (stream.end > start) & (stream.end <= end)
        return _Spans(stream.start[chosen], stream.end[chosen], stream.rows[chosen])
    jobs: dict[int, list[Job]] = defaultdict(list)
    for job in application.jobs:
        if job.batch is not None and job.completed is not None:
            jobs[job.batch].append(job)
    begun = np.array([min(job.submitted for job in each) for each in jobs.values()])
    ended = np.array([max(job.completed or 0.0 for job in each) for each in jobs.values()])
    inside = (ended > start) & (ended <= end) if end > start else np.ones(len(ended), dtype=np.bool_)
    order = np.argsort(begun[inside], kind="stable")
    begun, ended = begun[inside][order], ended[inside][order]
    return _Spans(begun, ended, np.full(len(begun), np.nan))


def _batch_of(spans: _Spans, jobs: Sequence[Job]) -> dict[int, int]:
    """Return the position of its batch for each job of one that counts, by the job's number."""
    if not len(spans.start):
        return {}
    begun = np.array([job.submitted for job in jobs])
    at = np.searchsorted(spans.start, begun, side="right") - 1
    inside = (at >= 0) & (begun <= spans.end[at])
    return {
        job.number: int(position)
        for job, position, known in zip(jobs, at.tolist(), inside.tolist(), strict=True)
        if known and job.batch is not None
    }


def _kinds(application: Application, place: Mapping[int, int]) -> list[list[int]]:
    """Return the positions of the stages that do the same, in the order in which a batch has them.

    They do the same that are of a batch's first job, or second, …, at the same depth of its plan, with the same RDDs.
    """
    jobs: dict[int, int] = {}
    seen: dict[int, int] = defaultdict(int)
    for job in application.jobs:
        if job.number in place:
            jobs[job.number] = seen[place[job.number]]
            seen[place[job.number]] += 1
    depth: dict[int, int] = {}
    found: dict[tuple[int, int, tuple[str, ...]], list[int]] = defaultdict(list)
    for i, stage in sorted(enumerate(application.stages), key=lambda one: one[1].number):
        depth[stage.number] = 1 + max((depth.get(parent, 0) for parent in stage.parents), default=-1)
        if stage.job in jobs and stage.completed is not None:
            found[jobs[stage.job], depth[stage.number], tuple(sorted(set(stage.rdds.split(", "))))].append(i)
    return [found[key] for key in sorted(found)]


def _stage(
    data: RunData,
    application: Application,
    spans: _Spans,
    number: int,
    of: int,
    members: Sequence[int],
    place: Mapping[int, int],
) -> BatchStage:
    stages = [application.stages[i] for i in members]
    begun = np.array([stage.submitted for stage in stages])
    took = np.array([(stage.completed or 0.0) - stage.submitted for stage in stages])
    whose = [place[stage.job] for stage in stages]
    by_batch = np.bincount(whose, weights=took, minlength=len(spans.start)).astype(np.float64)
    mine = np.concatenate([application.of_stage(i) for i in members])
    known = np.isfinite(spans.rows) & (by_batch > 0)
    return BatchStage(
        number,
        of,
        _does(stages[0], last=number == of),
        len(stages),
        len(mine) / len(stages),
        float(by_batch.sum()) / len(spans.start),
        _spent(application, mine),
        line(spans.rows[known], by_batch[known]),
        _busiest(data, begun, begun + took),
    )


def _does(stage: Stage, *, last: bool) -> str:
    rdds = stage.rdds
    made = [
        DOES[what]
        for what, there in (
            ("source", "DataSourceRDD" in rdds or "Kafka" in rdds),
            ("shuffled", "Shuffled" in rdds and "StateStore" not in rdds),
            ("state", "StateStore" in rdds),
            ("python", stage.python),
        )
        if there
    ]
    return fmt.listed([*made, "writes the results"] if last else made or ["computes"])


def _spent(application: Application, mine: npt.NDArray[np.intp]) -> dict[str, float]:
    sums = {name: float(values[mine].sum()) for name, values in application.tasks.spent.items()}
    whole = sum(sums.values())
    return {name: value / whole if whole > 0 else 0.0 for name, value in sums.items()}


def _busiest(data: RunData, start: Floats, end: Floats) -> Busiest | None:
    """Return the busiest resource of the hosts that do not send, while the stage ran; None without counters."""
    found = []
    for host in data.hosts:
        if host in data.load_hosts:
            continue
        for resource in RANKED:
            mean = mean_during(utilisation(data, host, resource), start, end)
            if mean is not None:
                found.append(Busiest(host, resource, mean))
    return max(found, key=lambda one: one.mean, default=None)


def mean_during(series: Series, start: Floats, end: Floats) -> float | None:
    """Return the mean of a series over many stretches of time, each point weighed by how much of them it covers.

    None where the points cover less than `LEAST_COVERED_S` of them.
    """
    if not len(series) or not len(start):
        return None
    # The time within stretches up to any moment, linear between their ends.
    times = np.concatenate([start, end])
    order = np.argsort(times, kind="stable")
    times = times[order]
    running = np.cumsum(np.concatenate([np.ones(len(start)), -np.ones(len(end))])[order])
    total = np.concatenate([[0.0], np.cumsum(running[:-1] * np.diff(times))])
    weight = np.interp(series.t, times, total) - np.interp(series.t - series.step, times, total)
    weight[~np.isfinite(series.v)] = 0.0
    if weight.sum() < LEAST_COVERED_S:
        return None
    return float(np.nansum(series.v * weight) / weight.sum())


def verdict(found: Batched | None) -> Verdict | None:
    """Return the run in a sentence where a query was all that it was and nobody offered it a rate; None without one."""
    if found is None:
        return None
    name = found.application.name
    failed = [job for job in found.application.jobs if job.status == FAILED]
    if failed:
        why = f": {failed[0].reason.removesuffix('.')}" if failed[0].reason else ""
        return Verdict("problem", "Query failed", f"The streaming query {name} failed in batch {failed[0].batch}{why}.")
    batches = fmt.plural(found.batches, "batch", "batches")
    sentence = f"The streaming query {name} ran {batches} of {fmt.duration(found.seconds)} each; no rate was offered."
    return Verdict("note", "Query ran", sentence)


def findings(found: Batched | None) -> list[Finding]:
    """Return what is to be said of a streaming application; nothing where there is none."""
    if found is None:
        return []
    told = [*lost(found.application), *failed_tasks(found.application)]
    return [_limit(found), *(replace(each, figure="batches") for each in told)]


def _limit(found: Batched) -> Finding:
    stage = found.longest
    share, driver = found.share(stage.seconds), found.share(found.driver_s)
    sentence = (
        f"{stage.name.capitalize()} of each batch ({stage.does}) takes {fmt.percent(share)} of it, "
        f"{fmt.duration(stage.seconds)} of {fmt.duration(found.seconds)}"
    )
    if driver > share:
        sentence = (
            f"Most of each batch, {fmt.percent(driver)} of {fmt.duration(found.seconds)}, is none of its stages' but "
            f"the driver's own; of the stages the longest is {stage.name} ({stage.does}), {fmt.percent(share)}"
        )
    evidence: dict[str, Value] = {
        "batches": found.batches,
        "batch_s": found.seconds,
        "driver_share": driver,
        **{f"stage_{each.place}_share": found.share(each.seconds) for each in found.stages},
        **{f"{name.partition(',')[0].replace(' ', '_')}_share": value for name, value in stage.spent.items()},
    }
    costs = {each.name: cost for each in found.stages if (cost := each.record_s) is not None}
    if costs:
        dearest = max(costs, key=lambda name: costs[name])
        sentence += f"; a record more costs most in {dearest}, {fmt.number(costs[dearest] * 1e6)} µs"
    most = max(stage.spent, key=lambda name: stage.spent[name])
    went = f"{fmt.percent(stage.spent[most])} of its tasks' time went to {most}"
    busy = stage.busiest
    host = ""
    if busy is not None:
        evidence |= {"busiest_mean": busy.mean}
        host = busy.host
    if found.machine_full:
        limit = f"The processors of the machine that carries all hosts were full, and are the limit; {went}."
    elif busy is None:
        limit = f"No host left counters of that time, so no resource is named; {went}."
    elif busy.mean >= FULL:
        what = f"{RESOURCES[busy.resource]} of {busy.host}"
        limit = f"The {what} is the limit: it was {fmt.percent(busy.mean)} busy while that stage ran; {went}."
    else:
        what = f"the {RESOURCES[busy.resource]} of {busy.host}, {fmt.percent(busy.mean)}"
        limit = f"No resource was full while that stage ran (the busiest: {what}); {went}."
    bound = (
        f"by the event log of {found.batches:,} batches with records, means; full is {fmt.percent(FULL)} or more by "
        "the hosts' counters, whose samples of a second have a little of the stages beside them"
    )
    return Finding("stream.stages", "resource", "note", f"{sentence}. {limit}", bound, evidence, "batch-stages", host)
