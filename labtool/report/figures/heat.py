"""What was busy, at a glance: a strip of utilisation over time per host and resource."""

from __future__ import annotations

from typing import Any

import numpy as np

from labtool.analysis import format as fmt
from labtool.analysis.analyse import Analysis
from labtool.analysis.data import RunData, Series
from labtool.analysis.resources import utilisation
from labtool.analysis.statistics import bin_width, bins
from labtool.dataset.run import RunDirectory
from labtool.report import style
from labtool.report.figure import Figure, finish, grid, sheet

COLUMNS = 180
NAMED_ROWS = 40


def draw(data: RunData, analysis: Analysis, run: RunDirectory) -> list[Figure]:
    """Draw the heat map of hosts × resources over time."""
    import matplotlib as mpl
    import seaborn as sns

    panels = {name: rows for name in ("cpu", "disk", "network", "memory") if (rows := _strips(data, name))}
    if not panels or data.length_s <= 0:
        return []
    hosts = list(data.hosts)
    step = max(series.step for rows in panels.values() for series, _ in rows.values())
    width = bin_width(data.length_s, step, COLUMNS)
    row_in = 0.2 if len(hosts) <= 6 else 0.15 if len(hosts) <= 14 else 0.085
    across = 2 if len(hosts) > 6 else 1
    down = -(-len(panels) // across)
    drawn = sheet(down * (row_in * len(hosts) + 0.36) + 0.55)
    places = grid(drawn, down, across, left=1.05, right=1.1, top=0.3, down=0.36, across=1.05, sharex=True).ravel()
    ramp = sns.color_palette("rocket_r", as_cmap=True)
    relative = sns.light_palette(style.LOAD, as_cmap=True)
    columns: dict[str, list[Any]] = {"resource": [], "host": [], "start_s": [], "utilisation": []}
    image = None
    for axes, (name, rows) in zip(places, panels.items(), strict=False):
        values = np.full((len(hosts), max(1, int(np.ceil(data.length_s / width - 1e-9)))), np.nan)
        for host, (series, scale) in rows.items():
            binned = bins(series, 0.0, data.length_s, width)
            values[hosts.index(host)] = binned.mean / scale
            columns["resource"] += [name] * len(binned.centre)
            columns["host"] += [host] * len(binned.centre)
            columns["start_s"] += (binned.centre - width / 2).tolist()
            columns["utilisation"] += (binned.mean / scale).tolist()
        axes.set_facecolor(style.HOLE)
        is_share = next(iter(rows.values()))[1] != 1.0
        drawn_image = axes.imshow(
            np.ma.masked_invalid(values),
            aspect="auto",
            cmap=relative if is_share else ramp,
            vmin=0,
            vmax=1,
            interpolation="none",
            extent=(0, values.shape[1] * width, len(hosts), 0),
        )
        image = image if is_share else drawn_image
        axes.grid(visible=False)
        for y in range(1, len(hosts)):
            axes.axhline(
                y, color=style.PAPER, linewidth=1.2 if len(hosts) <= 14 else 0.3 if len(hosts) <= NAMED_ROWS else 0
            )
        _host_labels(axes, hosts, analysis, name)
        axes.set_title(_heading(name, rows), loc="left", fontsize=9.5, color=style.INK, pad=4)
        style.time_axis(axes, data, label=False, most=9 if across == 1 else 5)
        if data.measured[0] > 0:
            axes.axvline(data.measured[0], color=style.INK, linewidth=0.9, linestyle=style.LINES[2])
    for axes in places[len(panels) :]:
        axes.set_visible(False)
    places[min(len(panels), len(places)) - 1].set_xlabel("seconds since the start of the window")
    height = drawn.get_size_inches()[1]
    bar_axes = drawn.add_axes(
        (1 - 0.85 / style.WIDTH_IN, 0.55 / height, 0.14 / style.WIDTH_IN, min(1.5, height - 1.6) / height)
    )
    bar = drawn.colorbar(image, cax=bar_axes, format=mpl.ticker.FuncFormatter(lambda v, _: fmt.percent(v, 0)))
    bar.outline.set_visible(False)
    bar_axes.tick_params(length=0)
    title = _title(analysis)
    warm = f"; left of the dotted line is the warm-up ({fmt.duration(data.measured[0])})" if data.measured[0] else ""
    return [
        finish(
            drawn,
            run,
            name="heat",
            title=title,
            subtitle=f"Mean utilisation in steps of {fmt.duration(width)}{warm}; grey is no data",
            caption=(
                "CPU: not idle and not waiting. Disk: time with a request under way, the busiest device. Memory: what "
                "the kernel could not give back. Network: share of the type's bandwidth, or of the busiest second seen "
                "where that is not known."
            ),
            alt=f"Heat map of {len(hosts)} hosts by resource over time. {title}.",
            data=columns,
        )
    ]


def _strips(data: RunData, name: str) -> dict[str, tuple[Series, float]]:
    """Return per host the series and what is 100 % of it."""
    found = {host: (utilisation(data, host, name), 1.0) for host in data.hosts}
    found = {host: strip for host, strip in found.items() if len(strip[0])}
    if found or name != "network":
        return found
    flows = {}
    for host in data.hosts:
        rx, tx = data.signal(host, "net_rx"), data.signal(host, "net_tx")
        if len(rx) and len(rx) == len(tx):
            flows[host] = Series(rx.t, np.maximum(rx.v, tx.v))
    most = max((float(series.v.max()) for series in flows.values()), default=0.0)
    return {host: (series, most) for host, series in flows.items()} if most > 0 else {}


def _heading(name: str, rows: dict[str, tuple[Series, float]]) -> str:
    scale = next(iter(rows.values()))[1]
    return {
        "cpu": "CPU",
        "disk": "Disk",
        "memory": "Memory",
        "network": "Network"
        if scale == 1.0
        else f"Network, as a share of the busiest second seen ({fmt.size_rate(scale)})",
    }[name]


def _host_labels(axes: Any, hosts: list[str], analysis: Analysis, resource: str) -> None:
    """Name every host where there is room, else those that were busiest."""
    named = set(hosts)
    if len(hosts) > NAMED_ROWS:
        peaks = sorted((u for u in analysis.usage if u.resource == resource), key=lambda u: -u.peak)
        named = {use.host for use in peaks[:5]}
    ticks = [i + 0.5 for i, host in enumerate(hosts) if host in named]
    axes.set_yticks(ticks, [host for host in hosts if host in named], fontsize=8.5 if len(hosts) <= 14 else 6.5)
    for label in axes.get_yticklabels():
        label.set_color(style.INK)


def _title(analysis: Analysis) -> str:
    top = next((f for f in analysis.findings if f.id == "resource.busiest"), None)
    if top is None or not top.host:
        return "Utilisation of every host and resource"
    return top.sentence.split(", ", 1)[0].removesuffix(".")
