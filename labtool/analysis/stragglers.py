"""Which tasks ran much longer than the others of their stage, and why, as far as their metrics tell.

A task straggles that took more than 1.5 times its stage's median and 0.1 s more than it (`labtool.analysis.blocked`).
Its excess is what it took beyond that median. A cause explains it if at least half of the excess is the cause's; the
order is that of Ousterhout et al. ("Making Sense of Performance in Data Analytics Frameworks", NSDI 2015, 6.2), what
Spark measured before what is concluded. A straggler that nothing explains stays unexplained.

    data            it read (or wrote) so many more bytes or records; at the median's pace they take that much longer
    gc              garbage collection of its JVM beyond the median's
    shuffle wait    blocked for shuffle data of others beyond the median's
    shuffle write   blocked writing shuffle data beyond the median's
    scheduler       sending it out, and fetching its result, beyond the median's
    deserialise     of the task in the executor beyond the median's
    spill           it spilled to disk, and half of the stage's tasks did not
    locality        its data were on another host, and those of half of the stage's tasks were not
    first wave      among the first tasks of its executor, one a slot, and these took 1.5 times as long as the others
    slow host       the other tasks of its host took 1.3 times as long as those of others, three of each at least
    computing       more CPU time than the median, though not for more data
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from labtool.analysis import format as fmt
from labtool.analysis.application import Application
from labtool.analysis.blocked import data_ratio, straggling
from labtool.analysis.data import Flags, Floats

EXPLAINS = 0.5
SLOW_HOST = 1.3
OF_A_HOST = 3
UNEXPLAINED = "unexplained"

MEASURED = {
    "gc": ("gc",),
    "shuffle wait": ("fetch_wait",),
    "shuffle write": ("shuffle_write",),
    "scheduler": ("scheduler_delay", "getting_result", "result_serialize"),
    "deserialise": ("deserialize",),
}
CAUSES = ("data", *MEASURED, "spill", "locality", "first wave", "slow host", "computing", UNEXPLAINED)
WORDS = {
    "data": "more data",
    "gc": "garbage collection",
    "shuffle wait": "a wait for shuffle data",
    "shuffle write": "a slow shuffle write",
    "scheduler": "the scheduler or a large result",
    "deserialise": "slow deserialising",
    "spill": "spilling to disk",
    "locality": "data on another host",
    "first wave": "being the first of their executor",
    "slow host": "a slow host",
    "computing": "more computing for no more data",
    UNEXPLAINED: "nothing that was measured",
}


@dataclass(frozen=True)
class Straggler:
    """A slow task: `excess_s` beyond the stage's median, of which `share` is the cause's, and the numbers behind it."""

    task: int  # positions in the application's tasks and stages
    stage: int
    excess_s: float
    times: float  # the median
    cause: str
    share: float | None  # None where the cause is concluded rather than measured
    evidence: str


def stragglers(application: Application) -> list[Straggler]:
    """Return every straggler, the one with the largest excess first."""
    found: list[Straggler] = []
    first = first_wave(application)
    for i in range(len(application.stages)):
        mine = application.of_stage(i)
        slow = mine[straggling(application, i)]
        if len(slow):
            found += _of_stage(application, i, slow, first)
    return sorted(found, key=lambda one: -one.excess_s)


def first_wave(application: Application) -> Flags:
    """Return which tasks were the first in the slots of their executor, whose code had then not been compiled."""
    tasks = application.tasks
    slots = {executor.name: application.slots_of(executor) for executor in application.executors}
    found = np.zeros(len(tasks), dtype=np.bool_)
    for code, name in enumerate(tasks.executors):
        mine = np.flatnonzero(tasks.executor == code)
        found[mine[: slots.get(name, 1)]] = True
    return found


def _of_stage(application: Application, i: int, slow: npt.NDArray[np.intp], first: Flags) -> list[Straggler]:
    tasks = application.tasks
    mine = application.of_stage(i)
    well = mine[tasks.ok[mine]]
    middle = float(np.median(tasks.duration[well]))
    ratios = data_ratio(application, i, slow)
    medians = {name: float(np.nanmedian(values[well])) for name, values in tasks.seconds.items()}
    found = []
    for task, ratio in zip(slow.tolist(), ratios.tolist(), strict=True):
        excess = float(tasks.duration[task]) - middle
        shares = {"data": (ratio - 1) * middle / excess}
        for cause, names in MEASURED.items():
            beyond = sum(float(np.nan_to_num(tasks.seconds[name][task])) - medians[name] for name in names)
            shares[cause] = beyond / excess
        # What Spark measured: the one that explains most, data first, since more data also means more of all others.
        measured = "data" if shares["data"] >= EXPLAINS else max(shares, key=lambda cause: shares[cause])
        if shares[measured] >= EXPLAINS:
            evidence = _measured(application, i, task, measured, well)
            cause, share = measured, min(shares[measured], 1.0)
            found.append(Straggler(task, i, excess, excess / middle + 1, cause, share, evidence))
            continue
        cause, evidence = _concluded(application, task, well, first, medians, excess)
        found.append(Straggler(task, i, excess, excess / middle + 1, cause, None, evidence))
    return found


def _measured(application: Application, i: int, task: int, cause: str, well: npt.NDArray[np.intp]) -> str:
    tasks = application.tasks
    if cause != "data":
        names = MEASURED[cause]
        mine = sum(float(np.nan_to_num(tasks.seconds[name][task])) for name in names)
        usual = sum(float(np.nanmedian(tasks.seconds[name][well])) for name in names)
        return f"{fmt.duration(mine)} of it, the median task {fmt.duration(usual)}"
    for what, amounts, show in (
        ("read", tasks.read_bytes, fmt.size),
        ("read", tasks.records, lambda n: f"{fmt.count(n)} records"),
        ("wrote", tasks.bytes["shuffle_write"], fmt.size),
    ):
        known = np.nan_to_num(amounts)
        if float(known[well].max(initial=0.0)) > 0:
            return f"{what} {show(float(known[task]))}, the median task {show(float(np.median(known[well])))}"
    return ""


def _concluded(
    application: Application,
    task: int,
    well: npt.NDArray[np.intp],
    first: Flags,
    medians: dict[str, float],
    excess: float,
) -> tuple[str, str]:
    tasks = application.tasks
    spilled = np.nan_to_num(tasks.bytes["disk_spilled"])
    if spilled[task] > 0 and np.median(spilled[well]) == 0:
        return "spill", f"spilled {fmt.size(float(spilled[task]))}, the median task nothing"
    if tasks.remote[task] and tasks.remote[well].mean() < 0.5:
        return (
            "locality",
            f"{fmt.percent(float(1 - tasks.remote[well].mean()))} of the stage's tasks had their data near",
        )
    if first[task] and (said := _times(tasks.duration[well[first[well]]], tasks.duration[well[~first[well]]], 1.5)):
        return "first wave", f"the first tasks of all executors took {said} the others"
    others = well[well != task]
    same = tasks.host[others] == tasks.host[task]
    if min(int(same.sum()), int((~same).sum())) >= OF_A_HOST and (
        said := _times(tasks.duration[others[same]], tasks.duration[others[~same]], SLOW_HOST)
    ):
        return "slow host", f"other tasks of {tasks.hosts[tasks.host[task]]} took {said} those of the other hosts"
    cpu = float(np.nan_to_num(tasks.seconds["cpu"][task])) - medians["cpu"]
    if cpu >= EXPLAINS * excess:
        usual = fmt.duration(medians["cpu"])
        return "computing", f"CPU time {fmt.duration(cpu + medians['cpu'])}, the median task {usual}"
    idle = float(np.nan_to_num(tasks.waiting[task]))
    if idle >= EXPLAINS * excess:
        return UNEXPLAINED, f"its thread had no processor for {fmt.duration(idle)}, and Spark does not say why"
    return UNEXPLAINED, ""


def _times(some: Floats, others: Floats, least: float) -> str:
    """Say how many times the others' median that of some is; '' where that is less than `least`."""
    if not len(some) or not len(others) or (usual := float(np.median(others))) <= 0:
        return ""
    times = float(np.median(some)) / usual
    return f"{fmt.number(times, 2)} times as long as" if times >= least else ""


def by_cause(found: list[Straggler]) -> list[tuple[str, int, float]]:
    """Return (cause, how many, excess in s of all), the largest excess first; the unexplained last."""
    number = Counter(one.cause for one in found)
    excess = {cause: sum(one.excess_s for one in found if one.cause == cause) for cause in number}
    order = sorted(number, key=lambda cause: (cause == UNEXPLAINED, -excess[cause]))
    return [(cause, number[cause], excess[cause]) for cause in order]
