"""What the figures of a Spark application have in common: which stages have a row, axes, legends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from labtool.analysis import format as fmt
from labtool.analysis.application import Application
from labtool.analysis.data import RunData
from labtool.report import style

MOST_STAGES = 30


def chosen_stages(application: Application) -> list[int]:
    """Return the stages that have a row, in their order: all, or of many the longest."""
    stages = application.stages
    if len(stages) <= MOST_STAGES:
        return list(range(len(stages)))
    last = application.span[1]
    longest = sorted(range(len(stages)), key=lambda i: stages[i].submitted - (stages[i].completed or last))
    return sorted(longest[:MOST_STAGES])


def left_out(application: Application, shown: Sequence[int]) -> str:
    """Say that not all stages have a row, where that is so."""
    left = len(application.stages) - len(shown)
    return f" The {len(shown)} longest stages of {len(application.stages)}." if left else ""


def seconds(axes: Any, data: RunData | None, lo: float, hi: float, *, label: bool = True) -> None:
    """Make x the seconds since the window's start, from `lo` to `hi`."""
    step = style.time_step(hi - lo) if hi - lo > 4 else 0.5 if hi - lo > 1.5 else 0.1
    ticks = np.arange(np.ceil(lo / step) * step, hi + step * 1e-6, step)
    axes.set_xlim(lo, hi)
    axes.set_xticks(ticks, [f"{round(tick, 1):,g}".replace("-", "−") for tick in ticks])
    if label:
        moment = f" ({fmt.time_of_day(data.origin)} UTC)" if data is not None else ""
        axes.set_xlabel(f"seconds since the start of the window{moment}", loc="left")


def edges_of(application: Application) -> tuple[float, float]:
    """Return the ends of an axis of time over the whole application, with a little room."""
    lo, hi = application.span
    room = max((hi - lo) * 0.01, 0.01)
    return lo - room, hi + room


def short(name: str) -> str:
    """A stage's name without where in the program it is: 'collect at /x/y.py:17' → 'collect'."""
    text = name.split(" at ", 1)[0]
    return text if len(text) <= 15 else f"{text[:14]}…"


def legend(drawn: Any, handles: list[Any]) -> None:
    """Put a legend under the axes, at the right."""
    if not handles:
        return
    height = drawn.get_size_inches()[1]
    drawn.legend(
        handles=handles,
        loc="lower right",
        bbox_to_anchor=(1 - 0.2 / style.WIDTH_IN, 0.03 / height),
        ncols=min(len(handles), 7),
        handlelength=1,
        handleheight=0.9,
        columnspacing=1.2,
    )


def across(axes: Any, unit: str) -> None:
    """Make x an amount from zero."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    shown = {
        "s": lambda x, _: fmt.number(x, 2) if x < 100 else f"{x:,.0f}",
        "bytes": lambda x, _: "0" if x == 0 else fmt.size(x),
        "ratio": lambda x, _: fmt.percent(x),
    }[unit]
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(shown))
    axes.set_xlim(0, None)
