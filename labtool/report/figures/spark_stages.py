"""What the stages of a Spark application spent their time on, what they moved, and how evenly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from labtool.analysis import format as fmt
from labtool.analysis.data import Floats
from labtool.analysis.explained import Explained
from labtool.dataset.run import RunDirectory
from labtool.report import style
from labtool.report.figure import Figure, finish, grid, sheet
from labtool.report.stage_rows import across, left_out, short

SPENT = (
    ("computing", "#0072b2"),
    ("garbage collection", "#cc79a7"),
    ("shuffle wait", "#e69f00"),
    ("shuffle write", "#b8860b"),
    ("waiting, not measured", "#8fa3b3"),
    ("deserialising", "#009e73"),
    ("scheduler and result", "#56b4e9"),
)


def draw(one: Explained, shown: Sequence[int], run: RunDirectory) -> list[Figure]:
    """Draw both, of the stages that have a row."""
    return [*_spent(one, shown, run), *_skew(one, shown, run)]


def _spent(one: Explained, shown: Sequence[int], run: RunDirectory) -> list[Figure]:
    application, tasks = one.application, one.application.tasks
    known = {name: np.nan_to_num(values) for name, values in tasks.seconds.items()}
    sizes = {name: np.nan_to_num(values) for name, values in tasks.bytes.items()}

    def by_stage(values: Floats) -> Floats:
        summed: Floats = np.bincount(tasks.stage, weights=values, minlength=len(application.stages)).astype(np.float64)
        return summed

    time = {name: by_stage(values) for name, values in tasks.spent.items()}
    flows = {
        "read, same host": by_stage(sizes["shuffle_local"]),
        "read, network": by_stage(sizes["shuffle_remote"]),
        "written": by_stage(sizes["shuffle_write"]),
        "spilled to disk": by_stage(sizes["disk_spilled"]),
    }
    run_s = by_stage(known["run"])
    gc = np.divide(by_stage(known["gc"]), run_s, out=np.zeros_like(run_s), where=run_s > 0)
    drawn = sheet(max(0.24 * len(shown), 0.8) + 1.7)
    places = grid(drawn, 1, 3, left=1.75, right=0.35, top=0.42, bottom=1.15, across=0.35, sharey=True)[0]
    labels = [f"{application.stages[i].label}  {short(application.stages[i].name)}" for i in shown]
    at = np.arange(len(shown))
    base = np.zeros(len(shown))
    for name, colour in SPENT:
        values = time[name][shown]
        places[0].barh(at, values, left=base, height=0.68, color=colour, linewidth=0, label=name)
        base = base + values
    flow_colours = ("#9db8ca", "#0072b2", "#009e73", style.ALARM)
    for number, ((name, values), colour) in enumerate(zip(flows.items(), flow_colours, strict=True)):
        places[1].barh(at - 0.255 + 0.17 * number, values[shown], height=0.17, color=colour, linewidth=0, label=name)
    places[2].barh(at, gc[shown], height=0.5, color="#cc79a7", linewidth=0)
    places[0].set_ylim(len(shown) - 0.4, -0.6)
    places[0].set_yticks(at, labels, fontsize=7.5 if len(shown) > 12 else 8.5)
    heads = ("Time of all tasks (s)", "Shuffle and spill", "Garbage collection, of run time")
    units = ("s", "bytes", "ratio")
    for axes, head, unit in zip(places, heads, units, strict=True):
        axes.set_title(head, loc="left", fontsize=9.5, pad=4)
        axes.grid(visible=False)
        axes.grid(axis="x")
        across(axes, unit)
    places[2].set_xlim(0, max(0.1, float(gc[shown].max(initial=0.0)) * 1.15))
    for axes in places[:2]:
        axes.legend(
            loc="upper left",
            bbox_to_anchor=(0, -0.34 / (axes.get_position().height * drawn.get_size_inches()[1])),
            ncols=2,
            fontsize=8,
            borderaxespad=0,
            borderpad=0,
            handlelength=0.9,
            columnspacing=1.0,
        )
    total = {name: float(values.sum()) for name, values in time.items()}
    whole = sum(total.values()) or 1.0
    most = max(total, key=lambda name: total[name])
    title = f"{fmt.percent(total[most] / whole)} of the tasks' time went to {most}"
    spilled = float(flows["spilled to disk"].sum())
    title += f"; {fmt.size(spilled)} were spilled" if spilled else ""
    return [
        finish(
            drawn,
            run,
            name="shuffle",
            title=title,
            subtitle="What tasks spent their time on, what they moved, and garbage collection, by stage",
            caption="Waiting that is not measured: input, spilling, a Python worker, or no free processor. The parts "
            f"overlap a little: writing takes processor time too.{left_out(application, shown)}",
            alt=f"Bars by stage of time spent, shuffled bytes and garbage collection. {title}.",
            data={"stage": [stage.label for stage in application.stages]}
            | {f"{name.replace(', ', '_').replace(' ', '_')}_s": values.tolist() for name, values in time.items()}
            | {f"{name.replace(', ', '_').replace(' ', '_')}_bytes": values.tolist() for name, values in flows.items()}
            | {"gc_share": gc.tolist()},
        )
    ]


def _skew(one: Explained, shown: Sequence[int], run: RunDirectory) -> list[Figure]:
    application, tasks = one.application, one.application.tasks
    by_bytes = bool((np.nan_to_num(tasks.read_bytes) > 0).any())
    amounts = np.nan_to_num(tasks.read_bytes if by_bytes else tasks.records)
    rows = []
    for i in shown:
        mine = application.of_stage(i)
        mine = mine[tasks.ok[mine]]
        values = amounts[mine]
        values = values[values > 0]
        if len(values) > 1:
            rows.append((i, values))
    if not rows:
        return []
    what = "Bytes" if by_bytes else "Records"
    largest = max(float(values.max()) for _, values in rows)
    drawn = sheet(max(0.26 * len(rows), 0.8) + 0.9)
    axes = grid(drawn, left=1.75, right=1.3)[0][0]
    columns: dict[str, list[Any]] = {name: [] for name in ("stage", "tasks", "least", "q25", "median", "q75", "most")}
    worst: tuple[float, int] | None = None
    for y, (i, values) in enumerate(rows):
        least, q25, median, q75, most = np.quantile(values, (0, 0.25, 0.5, 0.75, 1)).tolist()
        axes.plot([least, most], [y, y], color=style.MUTED, linewidth=1, solid_capstyle="butt")
        axes.barh(y, max(q75 - q25, 0.0), left=q25, height=0.5, color=style.LOAD, alpha=0.35, linewidth=0)
        axes.plot([median], [y], marker="|", markersize=10, color=style.INK, markeredgewidth=1.8)
        ratio = most / median
        colour = style.ALARM if ratio >= 3 else style.MUTED
        axes.plot([most], [y], marker="o", markersize=3.5, color=colour)
        axes.annotate(
            f"{fmt.number(ratio, 2)} ×" if ratio >= 1.5 else "",
            (most, y),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=colour,
            annotation_clip=False,
        )
        if worst is None or ratio > worst[0]:
            worst = (ratio, i)
        row = (application.stages[i].label, len(values), least, q25, median, q75, most)
        for name, value in zip(columns, row, strict=True):
            columns[name].append(value)
    _log_across(axes, np.concatenate([values for _, values in rows]), by_bytes=by_bytes)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    labels = [f"{application.stages[i].label}  {short(application.stages[i].name)}" for i, _ in rows]
    axes.set_yticks(range(len(rows)), labels, fontsize=7.5 if len(rows) > 12 else 8.5)
    axes.grid(visible=False)
    axes.grid(axis="x")
    ratio, i = worst or (1.0, 0)
    title = (
        f"The largest task of stage {application.stages[i].label} read {fmt.number(ratio, 2)} times its median"
        if ratio >= 1.5
        else "Every stage's tasks read about as much"
    )
    return [
        finish(
            drawn,
            run,
            name="skew",
            title=title,
            subtitle=f"{what} read by each task, from input and shuffle, by stage (logarithmic)",
            caption="Line: from the least to the most; bar: the middle half; stroke: the median; dot: the largest, and "
            "how many times the median it is."
            f" The largest of all read {fmt.size(largest) if by_bytes else fmt.count(largest) + ' records'}."
            f"{left_out(application, shown)}",
            alt=f"Distribution of what tasks read, by stage. {title}.",
            data=columns,
        )
    ]


def _log_across(axes: Any, values: Floats, *, by_bytes: bool) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_xscale("log")
    axes.set_xlim(float(values.min()) / 1.3, float(values.max()) * 1.3)
    decades = np.log10(values.max() / values.min())
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0) if decades < 2 else (1.0,)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: fmt.size(x) if by_bytes else fmt.count(x)))
