"""What the service says of itself: a small panel per metric that moves, a line per host."""

from __future__ import annotations

from typing import Any

import numpy as np

from labtool.analysis import format as fmt
from labtool.analysis.analyse import Analysis
from labtool.analysis.data import Labelled, RunData
from labtool.dataset.run import RunDirectory
from labtool.report import bands, style
from labtool.report.figure import Figure, finish, grid, sheet
from labtool.report.figures.latency import REQUEST_TIME

ACROSS = 3
MOST = 12


def metrics(data: RunData) -> dict[tuple[str, str], list[Labelled]]:
    """Return the service's series by (service, metric), in the order of their names."""
    found: dict[tuple[str, str], list[Labelled]] = {}
    for one in data.service:
        if len(one.series):
            found.setdefault((one.source, one.metric), []).append(one)
    return dict(sorted(found.items()))


def moves(series: list[Labelled]) -> bool:
    """Return True if a metric changes on some host."""
    found = [values for one in series if len(values := one.series.v[np.isfinite(one.series.v)])]
    return any(float(np.ptp(values)) > 1e-9 * max(1.0, float(np.abs(values).max())) for values in found)


def worth_drawing(key: tuple[str, str], everything: dict[tuple[str, str], list[Labelled]]) -> bool:
    """Return False for request times, which have a figure, and for what a rate of the same name says better."""
    service, metric = key
    name, _, attribute = metric.rpartition(".")
    if REQUEST_TIME.fullmatch(metric):
        return False
    return attribute not in ("Count", "CollectionTime", "OneMinuteRate") or (service, f"{name}.Rate") not in everything


def draw(data: RunData, analysis: Analysis, run: RunDirectory) -> list[Figure]:
    """Draw the metrics that move and are not drawn as request times; the rest is in the table."""
    everything = metrics(data)
    moving = {key: s for key, s in everything.items() if worth_drawing(key, everything) and moves(s)}
    if not moving or data.length_s <= 0:
        return []
    shown = dict(list(moving.items())[:MOST])
    across = min(ACROSS, len(shown))
    rows = -(-len(shown) // across)
    drawn = sheet(rows * 1.85 + 0.75)
    places = grid(drawn, rows, across, left=0.85, right=0.25, top=0.34, across=0.85, down=0.52).ravel()
    colours: dict[str, str] = {}
    columns: dict[str, list[Any]] = {"metric": [], "host": [], "time_s": [], "value": [], "unit": []}
    for axes, ((_, metric), series) in zip(places, shown.items(), strict=False):
        style.shade(axes, data, named=False)
        many = len(series) > style.FEW_HOSTS
        if many:
            bands.draw(axes, data, {one.host: one.series for one in series}, colours)
        for one in series:
            if not many:
                axes.plot(one.series.t, one.series.v, linewidth=1.2, **style.host_style(data.hosts, one.host))
            columns["metric"] += [metric] * len(one.series)
            columns["host"] += [one.host] * len(one.series)
            columns["time_s"] += one.series.t.tolist()
            columns["value"] += one.series.v.tolist()
            columns["unit"] += [one.unit] * len(one.series)
        unit = series[0].unit
        top = max(float(np.nanmax(one.series.v, initial=0.0)) for one in series) * 1.15
        style.amount_axis(axes, unit, 1.0 if unit == "ratio" and 0.5 < top <= 1.15 else top or 1.0)
        axes.set_title(_short(metric), loc="left", fontsize=9, color=style.INK, pad=4)
        if unit not in ("ratio", "bytes", "bytes/s", "count", ""):
            axes.set_ylabel(unit, fontsize=8.5)
        style.time_axis(axes, data, label=False, most=5)
    for axes in places[len(shown) :]:
        axes.set_visible(False)
    hosts = [h for h in data.hosts if any(one.host == h for series in shown.values() for one in series)]
    if len(hosts) <= style.FEW_HOSTS:
        _legend(drawn, {host: style.host_style(data.hosts, host) for host in hosts})
    else:
        _legend(drawn, {"median": {"color": style.INK}} | {host: {"color": c} for host, c in colours.items()})
    places[(rows - 1) * across].set_xlabel("seconds since the start of the window", loc="left")
    some = "" if len(moving) <= MOST else f"; the first {MOST} of {len(moving)}"
    services = fmt.listed(sorted({service for service, _ in shown}))
    idle = _steady(everything)
    title = f"{fmt.plural(len(moving), 'metric')} of {services} moved{idle}"
    return [
        finish(
            drawn,
            run,
            name="service",
            title=title,
            subtitle=f"By host{some}; the table has all",
            caption="As the service reports them; a metric that never changed is only in the table.",
            alt=f"Small panels of service metrics over time. {title}.",
            data=columns,
        )
    ]


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


def _short(metric: str) -> str:
    """Leave out what the unit says, and what does not fit."""
    name = metric.replace(".TotalTimeMs.Rate", " requests").removesuffix(".Rate").removesuffix(".Value")
    text = name.replace("OneMinuteRate", "1-minute mean").replace(".", " ")
    return text if len(text) <= 46 else text[:45] + "…"


def _steady(everything: dict[tuple[str, str], list[Labelled]]) -> str:
    steady = [key[1] for key, series in everything.items() if not moves(series) and worth_drawing(key, everything)]
    return f"; {fmt.listed([_short(m) for m in steady], 2)} never changed" if steady else ""
