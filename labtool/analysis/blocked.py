"""Blocked time: how much sooner an application would have ended at most, had one thing not held its tasks up.

Ousterhout et al., "Making Sense of Performance in Data Analytics Frameworks" (NSDI 2015), 3.1: from each task the time
is taken in which it did nothing but wait for the disk, or the network, and the tasks are put on the same slots again
(`labtool.analysis.reschedule`). It is a bound on what a faster disk or network can give, not a forecast: what waited
for the one may have to wait for another. What is taken (their `task.py`, with today's metrics of Spark):

              told                                    may be
    network   fetch wait                              + getting the result; waiting of a task whose input was remote
    disk      shuffle write; waiting of a task that   + fetch wait, since the other side may have read from its disk;
              reads input, writes output or spills    + waiting of every task
    gc        garbage collection, at most run time    the same
    straggler stragglers that their data do not       every straggler takes its stage's median
              explain take the time of that many data

"Waiting" is run time in which the task's thread had no processor and Spark measured nothing. A Python worker, or a host
with too few processors, makes it too; where there is the one, or the hosts' counters do not exclude the other, it is
not told to be the disk's, but may be.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labtool.analysis.application import Application
from labtool.analysis.data import Flags, Floats
from labtool.analysis.reschedule import Rescheduler, Schedule

STRAGGLES = 1.5
"""A task straggles that takes longer than this times its stage's median (NSDI 2015, 6.1; Spark's speculation, 3.5) …"""
LEAST_EXCESS_S = 0.1
"""… and by this much at least, Spark's spark.speculation.minTaskRuntime: below it is noise."""
FEWEST = 4
"""In a stage of fewer tasks there is no median that means anything."""

NAMES = {
    "network": "an infinitely fast network",
    "disk": "an infinitely fast disk",
    "gc": "no garbage collection",
    "stragglers": "no stragglers",
}


@dataclass(frozen=True)
class WhatIf:
    """What would have been without one thing: `told` takes away what is known to be its, `most` all that may be.

    Lengths are in s, an element of the arrays per stage. Both are scaled from the re-scheduled run to the measured one.
    """

    what: str
    told_s: float
    most_s: float
    stages_told: Floats
    stages_most: Floats


@dataclass(frozen=True)
class Blocked:
    """The answer for an application: `measured_s` took it, `base_s` when re-scheduled with unchanged times."""

    measured_s: float
    base_s: float
    stages_measured: Floats
    stages_base: Floats
    what_ifs: tuple[WhatIf, ...]

    @property
    def error(self) -> float:
        """How far re-scheduling with unchanged times is off, as a share of the measured time; with its sign."""
        return self.base_s / self.measured_s - 1 if self.measured_s > 0 else 0.0

    @property
    def stage_error(self) -> float:
        """The same by stage, without signs: the sum of differences over the sum of times."""
        known = np.isfinite(self.stages_measured) & np.isfinite(self.stages_base)
        total = float(self.stages_measured[known].sum())
        return float(np.abs(self.stages_base - self.stages_measured)[known].sum()) / total if total > 0 else 0.0


def blocked(application: Application, crowded: Collection[int] = (), plan: Rescheduler | None = None) -> Blocked:
    """Return what each of `NAMES` cost at most; `crowded` are stages whose tasks may have waited for a processor."""
    plan = plan or Rescheduler(application)
    measured = plan.measured()
    base = plan.run(application.tasks.duration)
    took, again = application.length, base.length
    scale = took / again if again > 0 else 1.0

    def ran(durations: Floats) -> tuple[float, Floats]:
        made: Schedule = plan.run(durations)
        # A list's order can make shorter tasks end later (Graham's anomalies): that is no cost of what was taken away.
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(base.stage_length > 0, np.minimum(made.stage_length / base.stage_length, 1.0), 1.0)
        return min(made.length, again) * scale, share * measured.stage_length

    found = []
    for what, (told, most) in durations_without(application, crowded).items():
        told_s, stages_told = ran(told)
        most_s, stages_most = ran(most)
        found.append(WhatIf(what, told_s, min(most_s, told_s), stages_told, np.fmin(stages_most, stages_told)))
    return Blocked(took, again, measured.stage_length, base.stage_length, tuple(found))


def durations_without(application: Application, crowded: Collection[int] = ()) -> dict[str, tuple[Floats, Floats]]:
    """Return the tasks' durations (s) without each of `NAMES`: without what is told, and without all it may be."""
    tasks = application.tasks
    known = {name: np.nan_to_num(values) for name, values in tasks.seconds.items()}
    run, waiting = known["run"], np.nan_to_num(tasks.waiting)
    odd = np.array([stage.python or i in crowded for i, stage in enumerate(application.stages)], dtype=np.bool_)
    files = tasks.bytes["input"] + tasks.bytes["output"] + tasks.bytes["disk_spilled"] > 0
    input_remote = tasks.remote & (np.nan_to_num(tasks.bytes["input"]) > 0)
    disk = known["shuffle_write"] + np.where(files & ~odd[tasks.stage], waiting, 0.0)
    removed = {
        "network": (
            known["fetch_wait"],
            known["fetch_wait"] + known["getting_result"] + np.where(input_remote, waiting, 0.0),
        ),
        "disk": (np.minimum(disk, run), np.minimum(known["shuffle_write"] + known["fetch_wait"] + waiting, run)),
        "gc": (np.minimum(known["gc"], run),) * 2,
    }
    whole = tasks.duration
    found = {
        what: (np.maximum(whole - told, 0.0), np.maximum(whole - most, 0.0)) for what, (told, most) in removed.items()
    }
    return found | {"stragglers": without_stragglers(application)}


def without_stragglers(application: Application) -> tuple[Floats, Floats]:
    """Return the durations where stragglers take what their data would take, and where they take the median."""
    tasks = application.tasks
    fair, median = tasks.duration.copy(), tasks.duration.copy()
    for i in range(len(application.stages)):
        mine = application.of_stage(i)
        slow = mine[straggling(application, i)]
        if not len(slow):
            continue
        middle = float(np.median(tasks.duration[mine[tasks.ok[mine]]]))
        median[slow] = middle
        fair[slow] = np.clip(middle * data_ratio(application, i, slow), middle, tasks.duration[slow])
    return fair, median


def straggling(application: Application, position: int) -> Flags:
    """Return which of a stage's tasks (as `of_stage` gives them) straggle by the rule above."""
    tasks = application.tasks
    mine = application.of_stage(position)
    well = tasks.ok[mine]
    if int(well.sum()) < FEWEST:
        return np.zeros(len(mine), dtype=np.bool_)
    middle = float(np.median(tasks.duration[mine][well]))
    took = tasks.duration[mine]
    slow: Flags = well & (took > STRAGGLES * middle) & (took > middle + LEAST_EXCESS_S)
    return slow


def data_ratio(application: Application, position: int, chosen: npt.NDArray[np.intp]) -> Floats:
    """Return how many times the stage's median of data the chosen tasks had, by what they read; 1 where none is known.

    Bytes read where the stage reads any, else records read, else shuffle bytes written.
    """
    tasks = application.tasks
    mine = application.of_stage(position)
    well = mine[tasks.ok[mine]]
    for amounts in (tasks.read_bytes, tasks.records, tasks.bytes["shuffle_write"]):
        known = np.nan_to_num(amounts)
        middle = float(np.median(known[well])) if len(well) else 0.0
        if middle > 0:
            ratio: Floats = known[chosen] / middle
            return ratio
        if float(known[well].max(initial=0.0)) > 0:  # most had none: whoever had some is beyond every ratio
            return np.where(known[chosen] > 0, np.inf, 1.0)
    return np.ones(len(chosen))
