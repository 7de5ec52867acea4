"""The report's tables of Spark applications."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from labtool.analysis import format as fmt
from labtool.analysis.analyse import Analysis
from labtool.analysis.application import FAILED
from labtool.analysis.blocked import NAMES
from labtool.analysis.explained import TWICE, Explained, off
from labtool.analysis.ideal import RESOURCES as MODELLED
from labtool.analysis.microbatch import Batched
from labtool.analysis.resources import RESOURCES
from labtool.report.tables import Cell, Table, amount, tabled

MOST_TASKS = 50
MOST_STAGES = 200


def what_if(one: Explained) -> Table | None:
    """What the application would have taken, by re-scheduling; nothing where that does not give the time back."""
    if not one.trusted:
        return None
    took = one.blocked.measured_s
    rows = [(Cell("as it was"), amount(took, fmt.duration(took)), Cell(""), Cell(""), Cell("measured"))]
    for what in one.blocked.what_ifs:
        rows.append(
            (
                Cell(f"with {NAMES[what.what]}"),
                amount(what.told_s, fmt.duration(what.told_s)),
                amount(what.most_s, fmt.duration(what.most_s)),
                amount(what.told_s, fmt.duration(what.told_s)),
                Cell("a bound: at the least so long"),
            )
        )
    for each in one.predictions:
        rows.append(
            (
                Cell(f"with {TWICE[each.change]}"),
                amount(each.seconds, fmt.duration(each.seconds)),
                amount(each.best_s, fmt.duration(each.best_s)),
                amount(each.worst_s, fmt.duration(each.worst_s)),
                Cell("a forecast"),
            )
        )
    far = off(one.blocked.error)
    caption = f"What it would have taken; re-scheduling with unchanged times is {far} off the measured time"
    found = tabled(
        "whatif", caption, ("what if", "it would take", "at best", "at worst", "what it is"), rows, (1, 2, 3)
    )
    return replace(found, sortable=False)


def stages(one: Explained) -> Table | None:
    """The stages: how long, by what they were bound, what they moved."""
    application, tasks = one.application, one.application.tasks
    ideal = {each.stage: each for each in one.ideals}
    slow = np.bincount([each.stage for each in one.stragglers], minlength=len(application.stages))
    rows = []
    for i, stage in enumerate(application.stages[:MOST_STAGES]):
        mine, known = application.of_stage(i), ideal.get(i)
        took = None if stage.completed is None else stage.completed - stage.submitted
        moved = [
            float(np.nansum(values[mine]))
            for values in (
                tasks.bytes["input"],
                tasks.bytes["shuffle_local"] + tasks.bytes["shuffle_remote"],
                tasks.bytes["shuffle_write"],
                tasks.bytes["disk_spilled"],
            )
        ]
        ideals = [known.of(name) if known else None for name in MODELLED]
        bound = RESOURCES[known.bottleneck] if known and known.bottleneck else fmt.UNKNOWN
        rows.append(
            (
                Cell(stage.label, stage.number + stage.attempt / 100),
                Cell(stage.name.split(" at ", 1)[0], title=stage.name),
                Cell(f"{stage.job}" if stage.job >= 0 else fmt.UNKNOWN, stage.job),
                Cell(fmt.count(len(mine)), len(mine)),
                Cell(stage.status, tone="problem" if stage.status == FAILED else "", title=stage.reason),
                amount(took, fmt.duration(took)),
                *(amount(value, fmt.duration(value)) for value in ideals),
                Cell(bound),
                *(amount(value, fmt.size(value)) for value in moved),
                Cell(fmt.count(int(slow[i])), int(slow[i])),
            )
        )
    columns = (
        "stage", "what", "job", "tasks", "ended", "took", "ideal CPU", "ideal disk", "ideal network", "bound by",
        "input", "shuffle read", "shuffle written", "spilled", "stragglers",
    )  # fmt: skip
    left = len(application.stages) - len(rows)
    more = f"; {left:,} more are in the table spark_stages" if left else ""
    caption = f"Stages of {application.name}; {application.skipped:,} were skipped, as their output was there{more}"
    return tabled("sparkstages", caption, columns, rows, (0, 2, 3, 5, 6, 7, 8, 10, 11, 12, 13, 14)) if rows else None


def slow_tasks(one: Explained) -> Table | None:
    """The slowest of the stragglers, with the cause and its evidence."""
    application, tasks = one.application, one.application.tasks
    rows = []
    for each in one.stragglers[:MOST_TASKS]:
        share = "" if each.share is None else f" ({fmt.percent(each.share, 0)} of it)"
        duration = float(tasks.duration[each.task])
        rows.append(
            (
                Cell(application.stages[each.stage].label, application.stages[each.stage].number),
                Cell(str(int(tasks.index[each.task])), int(tasks.index[each.task])),
                Cell(tasks.hosts[tasks.host[each.task]]),
                Cell(tasks.executors[tasks.executor[each.task]]),
                Cell(f"{tasks.launched[each.task]:,.1f} s", float(tasks.launched[each.task])),
                amount(duration, fmt.duration(duration)),
                amount(each.times, f"{fmt.number(each.times, 2)} ×"),
                Cell(f"{each.cause}{share}"),
                Cell(each.evidence),
            )
        )
    if not rows:
        return None
    many = (
        f"The {len(rows)} slowest of {len(one.stragglers):,} stragglers"
        if len(one.stragglers) > len(rows)
        else "Stragglers"
    )
    columns = ("stage", "index", "host", "executor", "began", "took", "of the median", "cause", "evidence")
    return tabled("stragglers", f"{many}, with what explains them", columns, rows, (0, 1, 4, 5, 6))


def applications(analysis: Analysis) -> Table | None:
    """The applications of the run, where there are several."""
    if len(analysis.explained) < 2:
        return None
    rows = [
        (
            Cell(one.application.name),
            Cell(one.application.id),
            amount(one.application.length, fmt.duration(one.application.length)),
            Cell(fmt.count(len(one.application.jobs)), len(one.application.jobs)),
            Cell(fmt.count(len(one.application.tasks)), len(one.application.tasks)),
            Cell(fmt.count(len(one.stragglers)), len(one.stragglers)),
            amount(abs(one.blocked.error), fmt.percent(abs(one.blocked.error))),
        )
        for one in analysis.explained
    ]
    columns = ("application", "id", "took", "jobs", "tasks", "stragglers", "re-scheduling is off by")
    caption = "The longest applications of the run; the figures are of the first"
    return tabled("applications", caption, columns, rows, range(2, 7))


def of_batches(found: Batched) -> Table:
    """The stages of a streaming query's batches: what each takes of a batch, and on what."""
    rows = []
    for stage in found.stages:
        busy, cost = stage.busiest, stage.record_s
        rows.append(
            (
                Cell(stage.name, stage.place),
                Cell(stage.does),
                Cell(fmt.count(stage.runs), stage.runs),
                amount(stage.seconds, fmt.milliseconds(stage.seconds * 1000)),
                amount(found.share(stage.seconds), fmt.percent(found.share(stage.seconds))),
                amount(cost, fmt.UNKNOWN if cost is None else f"{fmt.number(cost * 1e6)} µs"),
                Cell(f"{RESOURCES[busy.resource]} of {busy.host}" if busy else fmt.UNKNOWN),
                amount(busy.mean if busy else None, fmt.percent(busy.mean if busy else None)),
                *(amount(share, fmt.percent(share)) for share in stage.spent.values()),
            )
        )
    nothing = Cell(fmt.UNKNOWN, -1.0)
    rows.append(
        (
            Cell("between them", len(rows) + 1),
            Cell("the driver: plan, offsets, checkpoint"),
            Cell(fmt.count(found.batches), found.batches),
            amount(found.driver_s, fmt.milliseconds(found.driver_s * 1000)),
            amount(found.share(found.driver_s), fmt.percent(found.share(found.driver_s))),
            nothing,
            Cell(fmt.UNKNOWN),
            *[nothing] * (len(found.stages[0].spent) + 1),
        )
    )
    columns = (
        "of a batch", "what it does", "runs", "takes", "share", "a record more", "busiest meanwhile", "used",
        *found.stages[0].spent,
    )  # fmt: skip
    caption = (
        f"What {found.batches:,} batches with records were made of, on average, and what the stages' tasks spent their "
        "time on"
    )
    return tabled("batchstages", caption, columns, rows, (2, 3, 4, 5, *range(7, len(columns))))
