"""A Spark application: what it would have taken, its stages over the hosts' resources, and its tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from labtool.analysis import format as fmt
from labtool.analysis.analyse import Analysis
from labtool.analysis.application import FAILED, Application
from labtool.analysis.blocked import NAMES
from labtool.analysis.data import Floats, RunData
from labtool.analysis.explained import TWICE, Explained, off
from labtool.analysis.resources import RESOURCES, utilisation
from labtool.dataset.run import RunDirectory
from labtool.report import style
from labtool.report.figure import Figure, finish, grid, sheet
from labtool.report.figures import spark_stages, spark_tasks
from labtool.report.stage_rows import across, chosen_stages, edges_of, left_out, legend, seconds, short

STEPS = 400
LINES = 4
"""Of so many hosts each has a line of its own; the panels are low."""
BOUND_BY = {"cpu": "#0072b2", "disk": "#e69f00", "network": "#cc79a7", "": "#8fa3b3"}


def draw(data: RunData, analysis: Analysis, run: RunDirectory) -> list[Figure]:
    """Draw the longest application."""
    if not analysis.explained:
        return []
    one = analysis.explained[0]
    shown = chosen_stages(one.application)
    return [
        *_what_if(one, run),
        *_waterfall(data, one, shown, run),
        *spark_tasks.draw(one, run),
        *spark_stages.draw(one, shown, run),
    ]


def _what_if(one: Explained, run: RunDirectory) -> list[Figure]:
    if not one.trusted:
        return []
    took = one.blocked.measured_s
    rows = [(NAMES[what.what], what.told_s, what.most_s, what.told_s, True) for what in one.blocked.what_ifs]
    rows += [(TWICE[each.change], each.seconds, each.best_s, each.worst_s, False) for each in one.predictions]
    drawn = sheet(0.34 * len(rows) + 1.0)
    axes = grid(drawn, left=2.35, right=1.5)[0][0]
    axes.axvline(took, color=style.INK, linewidth=1.2)
    axes.annotate(
        f"it took {fmt.duration(took)}",
        (took, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(0, 3),
        textcoords="offset points",
        fontsize=8.5,
        ha="center",
        color=style.INK,
    )
    for y, (_, middle, best, worst, bound) in enumerate(rows):
        colour = style.LOAD if bound else style.HOST_COLOURS[2]
        axes.plot([best, worst], [y, y], color=colour, linewidth=6, alpha=0.35, solid_capstyle="butt")
        axes.plot([middle], [y], marker="o", markersize=6, color=colour)
        ends = dict.fromkeys((fmt.duration(best), fmt.duration(worst)))
        axes.annotate(
            " to ".join(ends),
            (1, y),
            xycoords=("axes fraction", "data"),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=style.MUTED,
        )
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks(range(len(rows)), [name for name, *_ in rows])
    axes.grid(visible=False)
    axes.grid(axis="x")
    across(axes, "s")
    axes.set_xlim(0, max([took, *(row[3] for row in rows)]) * 1.04)
    axes.set_xlabel("seconds", loc="left")
    best_of = one.best
    sooner = one.gain(best_of.told_s)
    title = (
        f"With {NAMES[best_of.what]} it would have taken {fmt.duration(best_of.told_s)}, {fmt.percent(sooner)} less"
        if sooner >= 0.01
        else "Neither disk, network, garbage collection nor stragglers are known to have cost it more than 1 %"
    )
    return [
        finish(
            drawn,
            run,
            name="whatif",
            title=title,
            subtitle=f"What {one.application.name} would have taken, re-scheduled on the same slots or twice as many",
            caption="Above, bounds: the dot without what is known to have been spent on it, the bar's left end without "
            "all that may have been. Below, a model's forecast, between its best and worst case. Re-scheduling with "
            f"unchanged times is {off(one.blocked.error)} off.",
            alt=f"What-if times of the application. {title}.",
            data={
                "what": [row[0] for row in rows],
                "seconds": [row[1] for row in rows],
                "best_s": [row[2] for row in rows],
                "worst_s": [row[3] for row in rows],
            },
        )
    ]


def _waterfall(data: RunData, one: Explained, shown: Sequence[int], run: RunDirectory) -> list[Figure]:
    from matplotlib.patches import Patch

    application = one.application
    lo, hi = edges_of(application)
    hosts = [host for host in data.hosts if host in {executor.host for executor in application.executors}]
    panels = [name for name in RESOURCES if name != "memory" and any(len(_series(data, h, name)[0]) for h in hosts)]
    heights = [max(0.2 * len(shown), 0.7), 0.75, *([0.75] * len(panels))]
    drawn = sheet(sum(heights) + 0.3 * (len(heights) - 1) + 0.85)
    rows = grid(drawn, len(heights), left=1.75, right=1.5, bottom=0.55, down=0.3)[:, 0]
    _share_height(drawn, rows, heights)
    bound = {ideal.stage: ideal.bottleneck for ideal in one.ideals}
    top = rows[0]
    for y, i in enumerate(shown):
        stage = application.stages[i]
        end = stage.completed if stage.completed is not None else application.span[1]
        colour = style.ALARM if stage.status == FAILED else BOUND_BY[bound.get(i, "")]
        top.barh(y, max(end - stage.submitted, (hi - lo) / 900), left=stage.submitted, height=0.66, color=colour, lw=0)
        right = end > lo + 0.8 * (hi - lo)
        top.annotate(
            fmt.duration(end - stage.submitted),
            (stage.submitted if right else end, y),
            xytext=(-4 if right else 4, 0),
            textcoords="offset points",
            ha="right" if right else "left",
            va="center",
            fontsize=7.5 if len(shown) > 12 else 8.5,
            color=style.MUTED,
        )
    top.set_ylim(len(shown) - 0.4, -0.6)
    names = [f"{application.stages[i].label}  {short(application.stages[i].name)}" for i in shown]
    top.set_yticks(range(len(shown)), names, fontsize=7.5 if len(shown) > 12 else 8.5)
    top.grid(visible=False)
    top.grid(axis="x")
    top.xaxis.set_tick_params(labelbottom=False)
    _running(rows[1], one, lo, hi)
    for axes, name in zip(rows[2:], panels, strict=True):
        _resource(axes, data, hosts, name, lo, hi)
    for axes in rows[:-1]:
        seconds(axes, None, lo, hi, label=False)
        axes.xaxis.set_tick_params(labelbottom=False)
    seconds(rows[-1], data, lo, hi)
    used = dict.fromkeys(bound.get(i, "") for i in shown)
    handles = [
        Patch(color=BOUND_BY[name], label=f"bound by the {RESOURCES[name]}" if name else "by nothing measured")
        for name in BOUND_BY
        if name in used
    ]
    if any(application.stages[i].status == FAILED for i in shown):
        handles.append(Patch(color=style.ALARM, label="failed"))
    legend(drawn, handles)
    title = _waterfall_title(application)
    return [
        finish(
            drawn,
            run,
            name="waterfall",
            title=title,
            subtitle=f"Stages of {application.name} from submission to end, and below them tasks and hosts",
            caption="A stage's colour is the resource whose ideal time is longest, if that is half of the stage's or "
            f"more. Grey is the number of slots.{left_out(application, shown)}",
            alt=f"Waterfall of {len(shown)} stages over {fmt.duration(application.length)}. {title}.",
            data={
                "stage": [stage.label for stage in application.stages],
                "name": [stage.name for stage in application.stages],
                "job": [stage.job for stage in application.stages],
                "start_s": [stage.submitted for stage in application.stages],
                "end_s": [stage.completed for stage in application.stages],
                "status": [stage.status for stage in application.stages],
                "bound_by": [bound.get(i, "") for i in range(len(application.stages))],
            },
        )
    ]


def _waterfall_title(application: Application) -> str:
    ended = [stage for stage in application.stages if stage.completed is not None]
    if not ended:
        return "No stage ended"
    longest = max(ended, key=lambda stage: (stage.completed or 0.0) - stage.submitted)
    took = (longest.completed or 0.0) - longest.submitted
    return f"Stage {longest.label} took longest, {fmt.duration(took)} of {fmt.duration(application.length)}"


def _share_height(drawn: Any, rows: Sequence[Any], heights: Sequence[float]) -> None:
    """Give each panel its height in inches; `grid` makes them all alike."""
    height = drawn.get_size_inches()[1]
    at = height - style.HEAD_IN - 0.14
    for axes, inches in zip(rows, heights, strict=True):
        box = axes.get_position()
        at -= inches
        axes.set_position((box.x0, at / height, box.width, inches / height))
        at -= 0.3


def _running(axes: Any, one: Explained, lo: float, hi: float) -> None:
    """Draw how many tasks ran, over how many slots there were."""
    tasks = one.application.tasks
    edges = np.linspace(lo, hi, STEPS + 1)
    ended = np.where(np.isfinite(tasks.finished), tasks.finished, hi)
    busy = _overlap(tasks.launched, ended, edges)
    there = _overlap(
        np.array([max(slot.begin, lo) for slot in one.plan.slots]),
        np.array([min(slot.end, hi) for slot in one.plan.slots]),
        edges,
    )
    axes.stairs(there, edges, fill=True, color=style.SHADE, linewidth=0)
    axes.stairs(busy, edges, fill=True, color="#5b7083", linewidth=0)
    axes.set_ylim(0, max(float(there.max(initial=1.0)), float(busy.max(initial=1.0))) * 1.1)
    axes.locator_params(axis="y", nbins=3, integer=True)
    axes.set_ylabel("tasks")


def _overlap(begin: Floats, end: Floats, edges: Floats) -> Floats:
    """Return how many intervals lie in each step, on average over it."""
    # The total length up to each edge, by the sums of those that began and of those that ended before it.
    total = np.zeros(len(edges))
    for sign, times in ((1.0, np.sort(begin)), (-1.0, np.sort(end))):
        sums = np.concatenate(([0.0], np.cumsum(times)))
        number = np.searchsorted(times, edges)
        total += sign * (number * edges - sums[number])
    found: Floats = np.diff(total) / np.diff(edges)
    return found


def _series(data: RunData, host: str, name: str) -> tuple[Any, str]:
    """Return what is drawn of a resource, and its unit: a share, or of a network whose limit is not known its flow."""
    found = utilisation(data, host, name)
    if len(found) or name != "network":
        return found, "ratio"
    return data.signal(host, "net_rx"), "bytes/s"


def _resource(axes: Any, data: RunData, hosts: Sequence[str], name: str, lo: float, hi: float) -> None:
    from labtool.report import bands

    labels, top, unit = [], 0.0, "ratio"
    found = {host: _series(data, host, name) for host in hosts}
    found = {host: pair for host, pair in found.items() if len(pair[0])}
    many = len(found) > LINES
    if many:
        colours: dict[str, str] = {}
        labels += list(bands.draw(axes, data, {host: series for host, (series, _) in found.items()}, colours).labels)
    for host, (series, of) in found.items():
        unit = of
        inside = series.between(lo, hi)
        if not len(inside):
            continue
        top = max(top, float(np.nanmax(inside.v)))
        if not many:
            look = style.host_style(data.hosts, host)
            axes.step(inside.t, inside.v, where="pre", linewidth=1.2, **look)
            labels.append((float(inside.v[-1]), host, str(look["color"])))
    style.amount_axis(axes, unit, 1.05 if unit == "ratio" else top * 1.15 or 1.0)
    axes.locator_params(axis="y", nbins=3)
    axes.set_ylabel({"cpu": "CPU", "disk": "disk", "network": "network in" if unit != "ratio" else "network"}[name])
    seconds(axes, None, lo, hi, label=False)
    style.label_ends(axes, labels)
