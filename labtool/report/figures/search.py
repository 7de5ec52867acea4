"""The steps of a search for the highest rate that holds: what each objective was at each rate."""

from __future__ import annotations

from typing import Any

import numpy as np

from labtool.analysis.analyse import Analysis
from labtool.analysis.data import RunData, Step
from labtool.analysis.search import answer, conclusion, noun_of
from labtool.dataset.run import RunDirectory
from labtool.report import style
from labtool.report.figure import Figure, finish, grid, sheet

MOST = 3


def draw(data: RunData, analysis: Analysis, run: RunDirectory) -> list[Figure]:
    """Draw a panel an objective; nothing where there was no search."""
    found = answer(data.steps)
    names = list(dict.fromkeys(one.text for step in data.steps for one in step.objectives))
    if found is None or not names:
        return []
    shown = names[:MOST]
    drawn = sheet(2.9)
    panels = grid(drawn, 1, len(shown), right=1.6, top=0.34, across=0.75)[0]
    columns: dict[str, list[Any]] = {
        k: [] for k in ("start_s", "end_s", "offered_per_s", "objective", "value", "unit", "held", "saturated")
    }
    for axes, name in zip(panels, shown, strict=True):
        _panel(axes, data, name, first=axes is panels[0])
        axes.set_title(name, loc="left", color=style.INK, fontsize=9.5, pad=4)
    for step in data.steps:
        for one in step.objectives:
            row = (step.start, step.end, step.offered, one.text, one.value, one.unit, step.held, step.saturated)
            for key, cell in zip(columns, row, strict=True):
                columns[key].append(cell)
    _legend(panels[-1], sorted({_kind(step) for step in data.steps}))
    noun = noun_of(data)
    _, label, _ = conclusion(found, "servers", noun)
    title = label
    if found.held is not None and found.failed is not None:
        title = f"{label}: {found.held.offered:,.4g} {noun}/s held, {found.failed.offered:,.4g} did not"
    elif found.held is not None:
        title = f"{label}: {found.held.offered:,.4g} {noun}/s, the highest tried, held"
    return [
        finish(
            drawn,
            run,
            name="steps",
            title=title,
            subtitle="What each objective was in each step of the search, by the rate that was offered",
            caption=(
                "A step holds where all objectives do; the dashed line is the bound, and what was too slow to tell is "
                "at the top. Latency and errors elsewhere in this report are of the highest step that held."
            ),
            alt=f"Points of each objective over the offered rate. {title}.",
            data=columns,
        )
    ]


LOOKS = (
    ("held", "#009e73", "o"),
    ("not held", style.ALARM, "x"),
    ("load host late", style.HOST_COLOURS[4], "s"),
    ("too few requests", style.MUTED, "+"),
)


def _kind(step: Step) -> int:
    return 3 if step.too_few else 0 if step.held else 2 if step.saturated else 1


def _panel(axes: Any, data: RunData, name: str, *, first: bool) -> None:
    points = [
        (step.offered, one.value, _kind(step), one)
        for step in data.steps
        for one in step.objectives
        if one.text == name
    ]
    bound, unit = points[0][3].bound, points[0][3].unit
    known = [value for _, value, _, _ in points if value is not None]
    values = np.array([*known, bound])
    if unit in ("ms", "s"):
        logarithmic = style.log_latency(axes, values)
    else:
        logarithmic = False
        style.amount_axis(axes, "count", float(values.max()) * 1.2 or 1.0)
    axes.axhline(bound, color=style.INK, linewidth=1.1, linestyle=style.LINES[1])
    top = axes.get_ylim()[1]
    for kind, (_, colour, marker) in enumerate(LOOKS):
        mine = [(x, top if y is None else y) for x, y, k, _ in points if k == kind]
        if mine:
            axes.plot(*zip(*mine, strict=True), linestyle="", marker=marker, markersize=6, color=colour, clip_on=False)
    axes.set_xlim(0, max(x for x, *_ in points) * 1.08)
    axes.set_ylabel(unit + (" (logarithmic)" if logarithmic else ""))
    if first:
        axes.set_xlabel(f"{noun_of(data)} per second offered", loc="left")


def _legend(axes: Any, kinds: list[int]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], linestyle="", marker=marker, markersize=6, color=colour, label=label)
        for label, colour, marker in (LOOKS[kind] for kind in kinds)
    ]
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2)
