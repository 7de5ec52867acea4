"""Puts an application's tasks on its slots again, with other durations: what the job would have taken then.

List scheduling: a task goes to the first slot that is free, in the order in which the tasks were launched (Graham,
"Bounds on multiprocessing timing anomalies", SIAM Journal on Applied Mathematics 17(2), 1969), as Ousterhout et al.
do it per stage ("Making Sense of Performance in Data Analytics Frameworks", NSDI 2015, 3.1). Here all stages are put on
the same slots, so that those that ran beside each other do so again. What was measured and is kept:

- a stage begins after those that it waited for, as long after the last of them as it did; so does a job after the
  jobs before it, which is the driver's own time;
- a stage's first task comes as long after its submission as a slot was free and it did not, and a stage ends as long
  after its last task as it did;
- a slot takes the next task as long after a task's end as it did, in the median of that stage;
- a slot is there from when its executor was added to when it was removed, and takes no task that would end later;
- a task that failed is tried again after it has failed.

Not kept is which executor a task ran on, and why it waited for that one (locality).
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from labtool.analysis.application import Application, Numbers
from labtool.analysis.data import Floats

_JOB, _STAGE, _RETRY, _SLOT, _STAGE_END = range(5)


LATE_S = 0.5
"""A task that went with its executor may end by so much after it, as the driver took both down."""


@dataclass(frozen=True)
class Slot:
    """Room for one task at a time, in s of the window."""

    begin: float = -math.inf
    end: float = math.inf


@dataclass(frozen=True)
class Schedule:
    """When everything ran: an element per task, stage or job of the application, in s; not a number: it did not."""

    start: Floats
    finish: Floats
    stage_start: Floats
    stage_end: Floats
    job_start: Floats
    job_end: Floats

    @property
    def length(self) -> float:
        """From the first job's start to the last one's end."""
        if not len(self.job_end):
            return 0.0
        return float(np.nanmax(self.job_end) - np.nanmin(self.job_start))

    @property
    def stage_length(self) -> Floats:
        """How long each stage took."""
        return self.stage_end - self.stage_start


def lanes(application: Application) -> Numbers:
    """Return for each task which of its executor's slots it was in: the lowest one that was free.

    The driver takes down a task's end after it knows that its slot is free, so that the next task may be launched
    before: where all slots seem taken it had the one that was free next. An executor that the log does not introduce
    has as many slots as it used.
    """
    tasks = application.tasks
    slots = {executor.name: application.slots_of(executor) for executor in application.executors}
    most = [slots.get(name, len(tasks)) for name in tasks.executors]
    finished = np.where(np.isfinite(tasks.finished), tasks.finished, math.inf).tolist()
    found = np.zeros(len(tasks), dtype=np.int32)
    busy: dict[int, list[tuple[float, int]]] = {}
    free: dict[int, list[int]] = {}
    for i, (launched, executor) in enumerate(zip(tasks.launched.tolist(), tasks.executor.tolist(), strict=True)):
        mine, spare = busy.setdefault(executor, []), free.setdefault(executor, [])
        while mine and mine[0][0] <= launched:
            heapq.heappush(spare, heapq.heappop(mine)[1])
        if not spare:
            heapq.heappush(spare, len(mine) if len(mine) < most[executor] else heapq.heappop(mine)[1])
        lane = heapq.heappop(spare)
        heapq.heappush(mine, (finished[i], lane))
        found[i] = lane
    return found


class Rescheduler:
    """What an application's schedule follows from, worked out once."""

    def __init__(self, application: Application) -> None:
        self.application = application
        tasks = application.tasks
        self.scheduled = np.isfinite(tasks.finished)
        self.lanes = lanes(application)
        self._finish = [
            _latest(tasks.finished, application.of_stage(i)[tasks.ok[application.of_stage(i)]])
            for i in range(len(application.stages))
        ]
        self._completed = [
            stage.completed if stage.completed is not None else finish
            for stage, finish in zip(application.stages, self._finish, strict=True)
        ]

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """The slots that were there; of an executor that the log does not introduce as many as it used."""
        application = self.application
        tasks = application.tasks
        used = np.zeros(len(tasks.executors), dtype=np.int32)
        np.maximum.at(used, tasks.executor, self.lanes + 1)
        known = {executor.name for executor in application.executors}
        found = []
        for executor in application.executors:
            end = math.inf if executor.removed is None else executor.removed
            found += [Slot(executor.added, end)] * application.slots_of(executor)
        for name, many in zip(tasks.executors, used.tolist(), strict=True):
            if name not in known:
                found += [Slot()] * many
        return tuple(found)

    @cached_property
    def gaps(self) -> Floats:
        """How long after a task's end its slot took the next one of the stage, by stage: the median, in s.

        It is below 0 where the driver took down ends later than it launched what came after them.
        """
        tasks = self.application.tasks
        order = np.lexsort((tasks.launched, self.lanes, tasks.executor))
        before, after = order[:-1], order[1:]
        same = (
            (tasks.executor[before] == tasks.executor[after])
            & (self.lanes[before] == self.lanes[after])
            & (tasks.stage[before] == tasks.stage[after])
        )
        idle = (tasks.launched[after] - tasks.finished[before])[same]
        stage = tasks.stage[after][same]
        found = np.zeros(len(self.application.stages))
        for i in np.unique(stage[np.isfinite(idle)]).tolist():
            found[i] = float(np.nanmedian(idle[stage == i]))
        return found

    @cached_property
    def retries(self) -> dict[int, int]:
        """For a task that failed: the one that tried the same again."""
        tasks = self.application.tasks
        found: dict[int, int] = {}
        last: dict[tuple[int, int], int] = {}
        for i, pair in enumerate(zip(tasks.stage.tolist(), tasks.index.tolist(), strict=True)):
            before = last.get(pair)
            if before is not None and not tasks.ok[before] and tasks.finished[before] <= tasks.launched[i]:
                found[before] = i
            last[pair] = i
        return found

    @cached_property
    def waits(self) -> list[tuple[tuple[int, ...], float]]:
        """For each stage: which stages it waited for, and how long after the last of them it came; none: its job."""
        stages = self.application.stages
        attempts: dict[int, list[int]] = {}
        for i, stage in enumerate(stages):
            attempts.setdefault(stage.number, []).append(i)
        found = []
        for i, stage in enumerate(stages):
            others = [j for parent in (*stage.parents, stage.number) for j in attempts.get(parent, ()) if j != i]
            before = tuple(j for j in others if (done := self._completed[j]) is not None and done <= stage.submitted)
            last = max((self._completed[j] or 0.0 for j in before), default=self._submitted.get(stage.job, math.inf))
            found.append((before, max(stage.submitted - last, 0.0) if math.isfinite(last) else 0.0))
        return found

    @cached_property
    def sequence(self) -> tuple[list[int], list[int]]:
        """The jobs that ended, in that order; and for each job how many had ended when it came, which it waited for."""
        jobs = self.application.jobs
        order = sorted(
            (i for i, job in enumerate(jobs) if job.completed is not None), key=lambda i: jobs[i].completed or 0
        )
        ended = np.array([jobs[i].completed for i in order], dtype=np.float64)
        return order, np.searchsorted(ended, [job.submitted for job in jobs], "right").tolist()

    @cached_property
    def _submitted(self) -> dict[int, float]:
        return {job.number: job.submitted for job in self.application.jobs}

    @cached_property
    def heads(self) -> Floats:
        """For how long after a stage's submission a slot was free, and its first task did not come yet."""
        tasks = self.application.tasks
        launched = np.sort(tasks.launched)
        finished = np.sort(tasks.finished[self.scheduled])
        found = np.zeros(len(self.application.stages))
        for i, stage in enumerate(self.application.stages):
            mine = self.application.of_stage(i)
            first = float(tasks.launched[mine].min()) if len(mine) else stage.submitted
            if first <= stage.submitted:
                continue
            edges = [
                values[np.searchsorted(values, stage.submitted, "right") : np.searchsorted(values, first)]
                for values in (launched, finished)
            ]
            at = np.concatenate(([stage.submitted], np.unique(np.concatenate(edges)), [first]))
            busy = np.searchsorted(launched, at[:-1], "right") - np.searchsorted(finished, at[:-1], "right")
            there = sum(slot.begin <= stage.submitted < slot.end for slot in self.slots)
            found[i] = float(np.diff(at)[busy < max(there, 1)].sum())
        return found

    def measured(self) -> Schedule:
        """Return the schedule that was."""
        application = self.application
        return Schedule(
            application.tasks.launched,
            application.tasks.finished,
            np.array([stage.submitted for stage in application.stages], dtype=np.float64),
            np.array([np.nan if done is None else done for done in self._completed], dtype=np.float64),
            np.array([job.submitted for job in application.jobs], dtype=np.float64),
            np.array(
                [np.nan if job.completed is None else job.completed for job in application.jobs], dtype=np.float64
            ),
        )

    def run(self, durations: Floats, slots: Sequence[Slot] | None = None) -> Schedule:
        """Return when everything would run with these durations of the tasks (s), on these slots or those there were.

        Tasks that the log does not see end are left out. Where no slot is left for a task, slots are there to the end.
        """
        chosen = self.slots if slots is None else tuple(slots)
        made = _Run(self, durations, chosen).result()
        if np.isnan(made.finish[self.scheduled]).any():
            made = _Run(self, durations, [Slot(slot.begin) for slot in chosen] or [Slot()]).result()
        return made


class _Run:
    """One pass through time."""

    def __init__(self, plan: Rescheduler, durations: Floats, slots: Sequence[Slot]) -> None:
        application = plan.application
        self.plan, self.slots = plan, slots
        self.gaps = plan.gaps.tolist()
        self.took = durations.tolist()
        self.stage_of = application.tasks.stage.tolist()
        self.ok = application.tasks.ok.tolist()
        amount = len(application.tasks)
        self.start, self.finish = [math.nan] * amount, [math.nan] * amount
        stages, jobs = application.stages, application.jobs
        self.stage_start, self.stage_end = [math.nan] * len(stages), [math.nan] * len(stages)
        self.job_start, self.job_end = [math.nan] * len(jobs), [math.nan] * len(jobs)
        self.left = [int(plan.scheduled[application.of_stage(i)].sum()) for i in range(len(stages))]
        self.last = [-math.inf] * len(stages)  # end of the last task that ended well, or of any
        self.events: list[tuple[float, int, int]] = []
        self.later = set(plan.retries.values())
        self.ready: list[int] = []
        self.free: list[int] = []
        place = {job.number: i for i, job in enumerate(jobs)}
        self.job_of = [place.get(stage.job, -1) for stage in stages]
        self.mine: list[list[int]] = [[] for _ in jobs]
        for i, job in enumerate(self.job_of):
            if job >= 0:
                self.mine[job].append(i)
        self.missing = [len(before) for before, _ in plan.waits]
        self.followers: list[list[int]] = [[] for _ in stages]
        for i, (before, _) in enumerate(plan.waits):
            for j in before:
                self.followers[j].append(i)
        self.unfinished = [len(one) for one in self.mine]

    def result(self) -> Schedule:
        self._begin()
        while self.events:
            now, kind, one = heapq.heappop(self.events)
            if kind == _SLOT:
                heapq.heappush(self.free, one)
            elif kind == _RETRY:
                heapq.heappush(self.ready, one)
            elif kind == _JOB:
                self._job(now, one)
            elif kind == _STAGE:
                self._stage(now, one)
            else:
                self._stage_ended(now, one)
            if not self.events or self.events[0][0] > now:
                self._dispatch(now)
        whole = (self.start, self.finish, self.stage_start, self.stage_end, self.job_start, self.job_end)
        return Schedule(*(np.array(values, dtype=np.float64) for values in whole))

    def _begin(self) -> None:
        jobs = self.plan.application.jobs
        self.order, self.after = self.plan.sequence
        self.waiting = deque(sorted(range(len(jobs)), key=lambda i: (self.after[i], jobs[i].submitted)))
        self.done = 0
        self.done_at = -math.inf
        first = min((job.submitted for job in jobs), default=0.0)
        for number, slot in enumerate(self.slots):
            heapq.heappush(self.events, (max(slot.begin, min(first, 0.0)), _SLOT, number))
        for i, job in enumerate(self.job_of):
            if job < 0 and not self.missing[i]:  # a stage of a job that the log does not know
                heapq.heappush(self.events, (self.plan.application.stages[i].submitted, _STAGE, i))
        self._release()

    def _release(self) -> None:
        """Let the jobs go that waited for those that have now ended."""
        jobs = self.plan.application.jobs
        while self.done < len(self.order) and not math.isnan(end := self.job_end[self.order[self.done]]):
            self.done_at = max(self.done_at, end)
            self.done += 1
        while self.waiting and self.after[self.waiting[0]] <= self.done:
            i = self.waiting.popleft()
            if not self.after[i]:
                at = jobs[i].submitted
            else:
                before = jobs[self.order[self.after[i] - 1]].completed or 0.0
                at = self.done_at + jobs[i].submitted - before
            heapq.heappush(self.events, (at, _JOB, i))

    def _job(self, now: float, i: int) -> None:
        job = self.plan.application.jobs[i]
        self.job_start[i] = now
        for stage in self.mine[i]:
            if not self.missing[stage]:
                self._wake(stage)
        if not self.mine[i]:
            self._job_ended(i, now + max((job.completed or job.submitted) - job.submitted, 0.0))

    def _wake(self, i: int) -> None:
        """A stage waits for nothing more but its own delay."""
        before, gap = self.plan.waits[i]
        job = self.job_of[i]
        begun = self.job_start[job] if job >= 0 else self.plan.application.stages[i].submitted
        last = max((self.stage_end[j] for j in before), default=begun)
        heapq.heappush(self.events, (max(last + gap, begun), _STAGE, i))

    def _stage(self, now: float, i: int) -> None:
        self.stage_start[i] = now
        if not self.left[i]:
            stage = self.plan.application.stages[i]
            heapq.heappush(
                self.events, (now + max((stage.completed or stage.submitted) - stage.submitted, 0.0), _STAGE_END, i)
            )
            return
        for task in self.plan.application.of_stage(i).tolist():
            if self.plan.scheduled[task] and task not in self.later:
                heapq.heappush(self.ready, task)

    def _dispatch(self, now: float) -> None:
        while self.ready and self.free:
            slot, task = heapq.heappop(self.free), self.ready[0]
            stage = self.stage_of[task]
            begin = max(now, self.stage_start[stage] + self.plan.heads[stage])
            end = begin + self.took[task]
            if self.slots[slot].end + LATE_S < end:
                continue  # its executor is gone before
            heapq.heappop(self.ready)
            self.start[task], self.finish[task] = begin, end
            heapq.heappush(self.events, (max(end + self.gaps[stage], begin), _SLOT, slot))
            again = self.plan.retries.get(task)
            if again is not None:
                heapq.heappush(self.events, (end, _RETRY, again))
            self.left[stage] -= 1
            self.last[stage] = max(self.last[stage], end if self.ok[task] else -math.inf)
            if not self.left[stage]:
                self._stage_over(stage)

    def _stage_over(self, i: int) -> None:
        """All of a stage's tasks have their times: so has its end."""
        known = self.plan._finish[i]
        last = self.last[i]
        if not math.isfinite(last) or known is None:  # no task of it ended well
            mine = self.plan.application.of_stage(i)
            last = max(self.finish[task] for task in mine.tolist() if self.plan.scheduled[task])
            known = _latest(self.plan.application.tasks.finished, mine)
        completed = self.plan._completed[i]
        tail = max(completed - known, 0.0) if completed is not None and known is not None else 0.0
        heapq.heappush(self.events, (last + tail, _STAGE_END, i))

    def _stage_ended(self, now: float, i: int) -> None:
        self.stage_end[i] = now
        for follower in self.followers[i]:
            self.missing[follower] -= 1
            job = self.job_of[follower]
            if not self.missing[follower] and (job < 0 or not math.isnan(self.job_start[job])):
                self._wake(follower)
        job = self.job_of[i]
        if job < 0:
            return
        self.unfinished[job] -= 1
        if not self.unfinished[job]:
            known = self.plan.application.jobs[job].completed
            ends = [self.plan._completed[j] for j in self.mine[job]]
            last = max((end for end in ends if end is not None), default=known)
            tail = max(known - last, 0.0) if known is not None and last is not None else 0.0
            self._job_ended(job, max(self.stage_end[j] for j in self.mine[job]) + tail)

    def _job_ended(self, i: int, at: float) -> None:
        self.job_end[i] = at
        self._release()


def _latest(finished: Floats, chosen: npt.NDArray[np.intp]) -> float | None:
    mine = finished[chosen]
    mine = mine[np.isfinite(mine)]
    return float(mine.max()) if len(mine) else None
