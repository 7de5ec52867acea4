"""Each host: a row per resource, a column per host, shared axes; of many hosts the bands and the outliers by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from labtool.analysis import format as fmt
from labtool.analysis.analyse import Analysis
from labtool.analysis.data import RunData, Series
from labtool.analysis.statistics import Bins, bin_width, bins, gaps
from labtool.dataset.run import RunDirectory
from labtool.report import bands, style
from labtool.report.figure import Figure, finish, grid, sheet
from labtool.report.multiples import chunks, name_columns, panels

COLUMNS = 150


@dataclass(frozen=True)
class Row:
    """A row of small multiples: its signals, the first drawn with its range, and what y is."""

    name: str
    unit: str
    signals: tuple[tuple[str, str], ...]  # signal, label
    top: float | None = None


ROWS = (
    Row("CPU", "ratio", (("cpu", "all"), ("cpu_system", "system")), 1.0),
    Row("memory", "ratio", (("memory", "used"),), 1.0),
    Row("disk", "bytes/s", (("disk_write", "write"), ("disk_read", "read"))),
    Row("network", "bytes/s", (("net_rx", "in"), ("net_tx", "out"))),
)


def draw(data: RunData, analysis: Analysis, run: RunDirectory) -> list[Figure]:
    """Draw the hosts: four in a figure, or all of them as bands where there are more than twelve."""
    rows = [row for row in ROWS if any(data.has(signal) for signal, _ in row.signals)]
    if not rows or data.length_s <= 0:
        return []
    if len(data.hosts) > style.FEW_HOSTS:
        return [_bands(data, rows, run)]
    parts = chunks(data.hosts)
    tops = {row.name: row.top or _top(data, row) for row in rows}
    return [
        _multiples(data, analysis, rows, tops, hosts, number, len(parts), run) for number, hosts in enumerate(parts)
    ]


def _binned(data: RunData, series: Series) -> Bins:
    return bins(series, 0.0, data.length_s, bin_width(data.length_s, max(series.step, 1.0), COLUMNS))


def _top(data: RunData, row: Row) -> float:
    """The shared upper end of a row: what the largest bin of any host reaches."""
    most = 0.0
    for host in data.hosts:
        for signal, _ in row.signals:
            series = data.signal(host, signal)
            if len(series):
                most = max(most, float(np.nanmax(_binned(data, series).mean, initial=0.0)))
    return most * 1.25 or 1.0


def _multiples(
    data: RunData,
    analysis: Analysis,
    rows: list[Row],
    tops: dict[str, float],
    hosts: list[str],
    number: int,
    amount: int,
    run: RunDirectory,
) -> Figure:
    drawn, places = panels(len(rows), hosts, alone=amount == 1)
    name_columns(places, data.hosts, hosts)
    columns: dict[str, list[Any]] = {k: [] for k in ("host", "signal", "start_s", "mean", "low", "high")}
    for j, host in enumerate(hosts):
        colour = style.host_colour(data.hosts, host)
        missing = (
            gaps(data.signal(host, "cpu"), 0.0, data.length_s) if data.signals.get(host) else [(0.0, data.length_s)]
        )
        for i, row in enumerate(rows):
            axes = places[i][j]
            style.shade(axes, data, named=i == 0)
            style.holes(axes, missing, named=i == 0)
            for position, (signal, _) in enumerate(row.signals):
                _line(axes, data, host, signal, colour, position, columns)
            style.amount_axis(axes, row.unit, tops[row.name])
            style.time_axis(axes, data, label=False, most=5)
            if j == 0:
                axes.set_ylabel(row.name, color=style.INK)
    title = _title(analysis, hosts, data)
    return finish(
        drawn,
        run,
        name=f"hosts-{number + 1}" if amount > 1 else "hosts",
        title=title,
        subtitle="Solid: CPU in all, disk writes, network in. Dotted: CPU in system, disk reads, network out. "
        "Band: smallest and largest second of a step",
        caption=(
            "CPU is the share of all the host's vCPUs; memory leaves out what the kernel can give back; disk and "
            "network sum the host's devices without loopback."
        ),
        alt=f"Small multiples of {fmt.listed([row.name for row in rows])} over time for {fmt.listed(hosts)}. {title}.",
        data=columns,
        hosts=hosts,
    )


def _line(
    axes: Any, data: RunData, host: str, signal: str, colour: str, position: int, columns: dict[str, list[Any]]
) -> None:
    series = data.signal(host, signal)
    if not len(series):
        return
    binned = _binned(data, series)
    if position == 0:
        axes.fill_between(binned.centre, binned.low, binned.high, color=colour, alpha=0.18, linewidth=0)
    axes.plot(
        binned.centre,
        binned.mean,
        color=colour,
        linewidth=1.4 if position == 0 else 1.1,
        linestyle=style.LINES[2 * position],
    )
    columns["host"] += [host] * len(binned.centre)
    columns["signal"] += [signal] * len(binned.centre)
    columns["start_s"] += (binned.centre - binned.width / 2).tolist()
    for key, values in (("mean", binned.mean), ("low", binned.low), ("high", binned.high)):
        columns[key] += values.tolist()


def _title(analysis: Analysis, hosts: list[str], data: RunData) -> str:
    said = []
    for resource, name in (("cpu", "CPU"), ("memory", "memory")):
        mine = [use for use in analysis.usage if use.host in hosts and use.resource == resource]
        if mine:
            low, high = min(u.mean for u in mine), max(u.mean for u in mine)
            text = (
                fmt.percent(high) if round(low, 2) == round(high, 2) else f"{low * 100:.0f} to {fmt.percent(high, 0)}"
            )
            said.append(f"{name} {text}")
    if not said:
        return f"Resources of {fmt.listed(hosts)}"
    who = fmt.listed(hosts) if len(hosts) < len(data.hosts) else "all hosts"
    return f"On average {who} used {' and '.join(said)}"


def _bands(data: RunData, rows: list[Row], run: RunDirectory) -> Figure:
    """Of many hosts: the median, the middle half and the range over hosts at each time, and the busiest by name."""
    flat = [(row, signal, label) for row in rows for signal, label in row.signals if data.has(signal)]
    flat = [one for one in flat if one[1] != "cpu_system"]
    drawn = sheet(1.35 * len(flat) + 0.6)
    places = grid(drawn, len(flat), 1, left=1.25, right=1.35, down=0.2, sharex=True)
    columns: dict[str, list[Any]] = {k: [] for k in ("signal", "start_s", "lowest", "q25", "median", "q75", "highest")}
    colours: dict[str, str] = {}
    for (row, signal, label), (axes,) in zip(flat, places, strict=True):
        series = {host: one for host in data.hosts if len(one := data.signal(host, signal))}
        style.shade(axes, data, named=axes is places[0][0])
        found = bands.draw(axes, data, series, colours)
        top = row.top or float(np.nanmax(found.quantiles[4], initial=0.0)) * 1.15 or 1.0
        style.amount_axis(axes, row.unit, top)
        axes.set_ylabel(row.name if len(row.signals) < 2 or row.top else f"{row.name} {label}", color=style.INK)
        style.time_axis(axes, data, label=False)
        style.label_ends(axes, found.labels)
        columns["signal"] += [signal] * len(found.centre)
        columns["start_s"] += (found.centre - found.width / 2).tolist()
        for key, values in zip(("lowest", "q25", "median", "q75", "highest"), found.quantiles, strict=True):
            columns[key] += values.tolist()
    places[-1][0].set_xlabel("seconds since the start of the window")
    names = list(colours)
    title = f"{fmt.listed(names)} stand{'s' if len(names) == 1 else ''} apart from the other hosts"
    if not names:
        title = f"All {len(data.hosts)} hosts behave alike"
    return finish(
        drawn,
        run,
        name="hosts",
        title=title,
        subtitle=f"{len(data.hosts)} hosts: median, middle half (dark) and range (light) at each time",
        caption=(
            "A host is named where its mean over the measured part lies further from the middle half than 1.5 times "
            "that half's width, and differs from the median by a tenth."
        ),
        alt=f"Bands over {len(data.hosts)} hosts of each resource over time. {title}.",
        data=columns,
    )
