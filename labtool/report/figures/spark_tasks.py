"""Every task of a Spark application, by executor and slot, stragglers by their cause."""

from __future__ import annotations

from typing import Any

import numpy as np

from labtool.analysis import format as fmt
from labtool.analysis.application import FAILED
from labtool.analysis.data import Floats
from labtool.analysis.explained import Explained
from labtool.analysis.stragglers import CAUSES, UNEXPLAINED, WORDS
from labtool.dataset.run import RunDirectory
from labtool.report import style
from labtool.report.figure import Figure, finish, grid, sheet
from labtool.report.stage_rows import edges_of, legend, seconds

MOST_LANES = 48
VECTORS = 1500
"""Beyond so many tasks they are drawn as pixels: as shapes they would make the page heavy."""

CAUSE_COLOURS = {
    "data": "#d55e00",
    "gc": "#cc79a7",
    "shuffle wait": "#e69f00",
    "shuffle write": "#b8860b",
    "scheduler": "#56b4e9",
    "deserialise": "#009e73",
    "spill": "#8c564b",
    "locality": "#6a3d9a",
    "first wave": "#00767a",
    "slow host": "#0072b2",
    "computing": "#7a5195",
    UNEXPLAINED: "#4d4d4d",
}
ORDINARY = ("#c3d3de", "#a9bfcd")
"""Tasks of one stage and of the next one."""


def draw(one: Explained, run: RunDirectory) -> list[Figure]:
    """Draw the Gantt chart of all tasks."""
    from matplotlib.patches import Patch

    application, tasks = one.application, one.application.tasks
    lo, hi = edges_of(application)
    cause = {each.task: each.cause for each in one.stragglers}
    rows, hidden = _rows(one, cause)
    base, total = {}, 0.0
    for executor, lanes in rows:
        base[executor] = total
        total += lanes + 0.5
    drawn = sheet(min(max(0.16 * total, 0.9), 6.2) + 1.0)
    axes = grid(drawn, left=1.75, right=0.3, bottom=0.8)[0][0]
    shown = np.isin(tasks.executor, list(base))
    kinds = _kinds(one, cause)
    ended = np.where(np.isfinite(tasks.finished), tasks.finished, hi)
    y = np.array([base.get(code, 0.0) for code in tasks.executor.tolist()]) + one.plan.lanes.astype(np.float64)
    for name, colour in _colours().items():
        mine = np.flatnonzero(shown & (kinds == name))
        if len(mine):
            # Even the shortest is seen: as wide as a third of a point.
            width = np.maximum(ended[mine] - tasks.launched[mine], (hi - lo) / 2000)
            _bars(axes, tasks.launched[mine], width, y[mine], colour, raster=int(shown.sum()) > VECTORS)
    axes.set_ylim(total - 0.4, -0.5)
    lo_hi = [(base[executor] + (lanes - 1) / 2, tasks.executors[executor]) for executor, lanes in rows]
    host = {executor.name: executor.host for executor in application.executors}
    labels = [f"{host.get(name, '')} · {name}".strip(" ·") for _, name in lo_hi]
    axes.set_yticks([at for at, _ in lo_hi], labels, fontsize=8.5 if len(rows) <= 16 else 6.5)
    axes.grid(visible=False)
    axes.grid(axis="x")
    seconds(axes, None, lo, hi)
    present = [name for name in _colours() if (kinds[shown] == name).any()]
    names = {"even": "tasks of a stage", "odd": "of the next one"}
    legend(drawn, [Patch(color=_colours()[name], label=names.get(name, name)) for name in present])
    title = _gantt_title(one)
    more = f" {hidden} more executors, without stragglers or with fewer, are left out." if hidden else ""
    return [
        finish(
            drawn,
            run,
            name="gantt",
            title=title,
            subtitle=f"{len(tasks):,} tasks by executor and slot; stragglers by their cause",
            caption="A row is a slot of an executor, from the launch of a task to its end as the driver saw them; "
            f"empty is idle.{more} The data has all.",
            alt=f"Gantt chart of {len(tasks):,} tasks on {len(rows)} executors. {title}.",
            data={
                "stage": [application.stages[i].label for i in tasks.stage.tolist()],
                "index": tasks.index.tolist(),
                "executor": [tasks.executors[i] for i in tasks.executor.tolist()],
                "host": [tasks.hosts[i] for i in tasks.host.tolist()],
                "slot": one.plan.lanes.tolist(),
                "start_s": tasks.launched.tolist(),
                "end_s": tasks.finished.tolist(),
                "status": [tasks.ends.get(i, ("ok", ""))[0] for i in range(len(tasks))],
                "straggles_by": [cause.get(i, "") for i in range(len(tasks))],
            },
        )
    ]


def _colours() -> dict[str, str]:
    """What a task can be, the one that is drawn over the others last."""
    return (
        {"even": ORDINARY[0], "odd": ORDINARY[1], "killed": "#b8a9c9"}
        | {cause: CAUSE_COLOURS[cause] for cause in CAUSES}
        | {FAILED: style.ALARM}
    )


def _kinds(one: Explained, cause: dict[int, str]) -> Any:
    tasks = one.application.tasks
    kinds = np.where(tasks.stage % 2 == 0, "even", "odd").astype(object)
    for i, name in cause.items():
        kinds[i] = name
    for i, (status, _) in tasks.ends.items():
        if status in (FAILED, "killed"):
            kinds[i] = status
    return kinds


def _rows(one: Explained, cause: dict[int, str]) -> tuple[list[tuple[int, int]], int]:
    """Return (executor, lanes) of those that are drawn, and how many are not: of many those with the most to see."""
    tasks = one.application.tasks
    lanes = np.zeros(len(tasks.executors), dtype=np.int64)
    np.maximum.at(lanes, tasks.executor, one.plan.lanes + 1)
    notable = np.zeros(len(tasks.executors))
    for i in [*cause, *tasks.ends]:
        notable[tasks.executor[i]] += 1
    order = sorted(range(len(lanes)), key=lambda i: -notable[i]) if lanes.sum() > MOST_LANES else range(len(lanes))
    kept: list[int] = []
    room = MOST_LANES
    for i in order:
        if lanes[i] <= room or not kept:
            kept.append(i)
            room -= int(lanes[i])
    return [(i, int(lanes[i])) for i in sorted(kept)], len(lanes) - len(kept)


def _bars(axes: Any, left: Floats, width: Floats, y: Floats, colour: str, *, raster: bool) -> None:
    from matplotlib.collections import PolyCollection

    right, low, high = left + width, y - 0.42, y + 0.42
    corners: Any = np.stack(
        [np.stack([left, low], 1), np.stack([right, low], 1), np.stack([right, high], 1), np.stack([left, high], 1)], 1
    )
    edge = {"edgecolors": style.PAPER, "linewidths": 0.25} if not raster else {"linewidths": 0}
    axes.add_collection(PolyCollection(corners, facecolors=colour, rasterized=raster, **edge))


def _gantt_title(one: Explained) -> str:
    if not one.stragglers:
        return "No task straggled"
    causes = [each.cause for each in one.stragglers]
    most = max(set(causes), key=causes.count)
    why = "without a cause that was measured" if most == UNEXPLAINED else f"because of {WORDS[most]}"
    if len(causes) == 1:
        return f"One task straggled, {why}"
    return f"{fmt.plural(len(causes), 'task')} straggled, most of them {why}"
