"""Did the load happen: achieved beside offered, over time."""

from __future__ import annotations

from typing import Any

import numpy as np

from labtool.analysis import format as fmt
from labtool.analysis.analyse import Analysis
from labtool.analysis.data import RunData
from labtool.analysis.rates import total_rate
from labtool.analysis.workload import SHORTFALL, Load, dips
from labtool.dataset.run import RunDirectory
from labtool.report import style
from labtool.report.figure import Figure, finish, grid, sheet


def draw(data: RunData, analysis: Analysis, run: RunDirectory) -> list[Figure]:
    """Draw the total rate of the driving clients, the rate they were asked for, and what was read back."""
    load = analysis.load
    if load is None or not load.intervals:
        return []
    drivers = [client for client in data.clients if client.role == load.role]
    readers = [client for client in data.clients if client.role == "consumer"] if load.role != "consumer" else []
    total = total_rate(drivers, 0.0, data.length_s, load.width_s)
    read = total_rate(readers, 0.0, data.length_s, load.width_s) if readers else None

    drawn = sheet(3.3)
    axes = grid(drawn, right=1.35)[0][0]
    style.shade(axes, data)
    labels: list[tuple[float, str, str]] = []
    edges = np.concatenate(([0.0], total.t))
    axes.stairs(total.v, edges, fill=True, color=style.LOAD, alpha=0.14, linewidth=0)
    axes.stairs(total.v, edges, color=style.LOAD, linewidth=1.8, baseline=None)
    _label(labels, total.v, "achieved", style.LOAD)
    columns: dict[str, Any] = {"end_s": total.t, f"achieved_{load.noun}_per_s": total.v}
    if read is not None:
        axes.stairs(read.v, edges, color=style.READ, linewidth=1.3, linestyle=style.LINES[2], baseline=None)
        _label(labels, read.v, "consumed", style.READ)
        columns["consumed_records_per_s"] = read.v
    asked = total_rate(drivers, 0.0, data.length_s, load.width_s, of="offered") if load.asked is not None else None
    if asked is not None:
        axes.stairs(asked.v, edges, color=style.INK, linewidth=1.1, linestyle=style.LINES[1], baseline=None, zorder=3)
        _label(labels, asked.v, "offered", style.INK)
        columns[f"offered_{load.noun}_per_s"] = asked.v
    elif load.offered is not None:
        axes.axhline(load.offered, color=style.INK, linewidth=1.1, linestyle=style.LINES[1], zorder=3)
        labels.append((load.offered, "offered", style.INK))
        columns[f"offered_{load.noun}_per_s"] = np.full(len(total.t), load.offered)
    shown = [one.v for one in (total, read, asked) if one is not None]
    top = max(load.offered or 0.0, *(float(np.nanmax(values, initial=0.0)) for values in shown))
    style.amount_axis(axes, "count", top * 1.16 or 1.0)
    axes.set_ylabel(f"{load.noun} per second")
    style.time_axis(axes, data)
    style.label_ends(axes, labels)
    title = _title(load, batched=data.stream is not None)
    return [
        finish(
            drawn,
            run,
            name="load",
            title=title,
            subtitle=f"Total of {fmt.plural(len(load.names), load.role)} in steps of {fmt.duration(load.width_s)}",
            caption=(
                "Offered are the requests by when they were due, achieved those that succeeded by when their answer "
                "was whole; a step that a client did not fill is left open."
                if data.requests is not None
                else "Rates are the tools' own, summed over clients by the time their intervals overlap; a step in "
                "which a client's interval is missing is left open."
            ),
            alt=f"Line of the rate over {fmt.duration(data.length_s)}. {title}.",
            data=columns,
        )
    ]


def _label(labels: list[tuple[float, str, str]], values: Any, text: str, colour: str) -> None:
    known = values[np.isfinite(values)]
    if len(known):
        labels.append((float(known[-1]), text, colour))


def _title(load: Load, *, batched: bool) -> str:
    if load.achieved is None:
        return "The clients left no rate for the measured part"
    if load.closed:
        return f"The clients did {fmt.rate(load.achieved, load.noun)}, each when the last was answered"
    if load.offered is None:
        return f"The clients did {fmt.rate(load.achieved, load.noun)}; no rate was asked of them"
    pair = f"{fmt.rate(load.achieved, load.noun)} of {fmt.rate(load.offered, load.noun)}"
    ratio = load.ratio or 0.0
    if ratio < 1 - SHORTFALL:
        return f"Achieved fell short of offered: {pair}"
    if not batched and (low := dips(load)):
        return f"Achieved met offered only on average, with {fmt.plural(len(low), 'dip')} below 90 %: {pair}"
    return f"Achieved followed offered: {pair}"
