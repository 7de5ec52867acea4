"""A small panel per metric, a line per host: for metrics of which nobody knows beforehand what they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from labtool.analysis.data import Labelled, RunData
from labtool.report import bands, style
from labtool.report.figure import grid, sheet

ACROSS = 3
MOST = 12


def draw(data: RunData, shown: Sequence[tuple[str, Sequence[Labelled]]]) -> tuple[Any, dict[str, list[Any]]]:
    """Return a figure with a panel for each (title, series), and its data as columns; at most `MOST` are legible."""
    across = min(ACROSS, len(shown))
    rows = -(-len(shown) // across)
    drawn = sheet(rows * 1.85 + 0.75)
    places = grid(drawn, rows, across, left=0.85, right=0.25, top=0.34, across=0.85, down=0.52).ravel()
    colours: dict[str, str] = {}
    columns: dict[str, list[Any]] = {"metric": [], "host": [], "time_s": [], "value": [], "unit": []}
    for axes, (title, series) in zip(places, shown, strict=False):
        style.shade(axes, data, named=False)
        many = len(series) > style.FEW_HOSTS
        if many:
            bands.draw(axes, data, {one.host: one.series for one in series}, colours)
        for one in series:
            if not many:
                axes.plot(one.series.t, one.series.v, linewidth=1.2, **_look(data, one.host))
            columns["metric"] += [one.metric] * len(one.series)
            columns["host"] += [one.host] * len(one.series)
            columns["time_s"] += one.series.t.tolist()
            columns["value"] += one.series.v.tolist()
            columns["unit"] += [one.unit] * len(one.series)
        unit = series[0].unit
        top = max(float(np.nanmax(one.series.v, initial=0.0)) for one in series) * 1.15
        style.amount_axis(axes, unit, 1.0 if unit == "ratio" and 0.5 < top <= 1.15 else top or 1.0)
        axes.set_title(title, loc="left", fontsize=9, color=style.INK, pad=4)
        if unit not in ("ratio", "bytes", "bytes/s", "count", ""):
            axes.set_ylabel(unit, fontsize=8.5)
        style.time_axis(axes, data, label=False, most=5)
    for axes in places[len(shown) :]:
        axes.set_visible(False)
    named = {one.host for _, series in shown for one in series}
    hosts = [host for host in data.hosts if host in named] + ["no host named"] * ("" in named)
    if len(hosts) <= style.FEW_HOSTS:
        _legend(drawn, {host: _look(data, host) for host in hosts})
    else:
        _legend(drawn, {"median": {"color": style.INK}} | {host: {"color": c} for host, c in colours.items()})
    places[(rows - 1) * across].set_xlabel("seconds since the start of the window", loc="left")
    return drawn, columns


def _look(data: RunData, host: str) -> dict[str, Any]:
    return style.host_style(data.hosts, host) if host in data.hosts else {"color": style.INK}


def _legend(drawn: Any, looks: dict[str, dict[str, Any]]) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], linewidth=2, label=name, **look) for name, look in looks.items()]
    height = drawn.get_size_inches()[1]
    drawn.legend(
        handles=handles,
        loc="lower right",
        bbox_to_anchor=(1 - 0.2 / style.WIDTH_IN, 0.02 / height),
        ncols=min(len(looks), 8),
        handlelength=1.4,
        columnspacing=1.4,
    )
