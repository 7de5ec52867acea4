"""What a replayed trace's lines cost, second by second: a line for each endpoint or method."""

from __future__ import annotations

import numpy as np

from labtool.analysis import format as fmt
from labtool.analysis.analyse import Analysis
from labtool.analysis.data import Floats, RunData, Series
from labtool.analysis.statistics import bin_width
from labtool.dataset.run import RunDirectory
from labtool.dataset.trace import COST, SERVICE
from labtool.report import style
from labtool.report.figure import Figure, finish, grid, sheet

STEPS = 150
MOST = len(style.HOST_COLOURS)


def draw(data: RunData, analysis: Analysis, run: RunDirectory) -> list[Figure]:
    """Draw the costs; nothing where no trace had any."""
    found = {
        one.metric.removeprefix(COST): one.series
        for one in data.service
        if one.source == SERVICE and one.metric.startswith(COST) and len(one.series)
    }
    if not found or data.length_s <= 0:
        return []
    dearest = sorted(found, key=lambda name: -float(found[name].v.sum()))[:MOST]
    width = bin_width(data.length_s, 1.0, STEPS)
    last = max(float(found[name].t[-1]) for name in dearest)
    edges: Floats = np.arange(int(np.ceil(last / width - 1e-9)) + 1, dtype=np.float64) * width
    drawn = sheet(3.0)
    axes = grid(drawn, right=1.45)[0][0]
    style.shade(axes, data)
    labels, columns = [], {"start_s": edges[:-1].tolist()}
    for name, colour in zip(dearest, style.HOST_COLOURS, strict=False):
        values = in_steps(found[name], edges) / width
        axes.stairs(values, edges, baseline=None, color=colour, linewidth=1.5)
        labels.append((float(values[-1]), name, colour))
        columns[f"{name}_per_s"] = values.tolist()
    style.amount_axis(axes, "count", max(max(values) for values in list(columns.values())[1:]) * 1.1 or 1.0)
    axes.set_ylabel("cost per second")
    style.time_axis(axes, data)
    style.label_ends(axes, labels)
    means = [f"{name} {fmt.number(float(found[name].v.mean()), 3)}" for name in dearest]
    title = f"Cost per second: {fmt.listed(means)} on average"
    some = "" if len(found) <= MOST else f"; the {MOST} dearest of {len(found)}"
    return [
        finish(
            drawn,
            run,
            name="cost",
            title=title,
            subtitle=f"The sum over the trace's lines that were due, in steps of {fmt.duration(width)}{some}",
            caption="As the trace says, by when a line was due, whether or not its request was answered.",
            alt=f"Lines of cost per second over {fmt.duration(data.length_s)}. {title}.",
            data=columns,
        )
    ]


def in_steps(series: Series, edges: Floats) -> Floats:
    """Return the sum of the values in each step; a point covers the second before it."""
    summed, _ = np.histogram(series.t - 0.5, edges, weights=series.v)
    return np.asarray(summed, dtype=np.float64)
