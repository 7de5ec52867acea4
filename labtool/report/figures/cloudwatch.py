"""CloudWatch beside the hosts' own counters: as steps over its periods, on the counters' line."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from labtool.analysis import format as fmt
from labtool.analysis.analyse import Analysis
from labtool.analysis.cloudwatch import NAMESPACE, PAIRS, Pair, converted, find
from labtool.analysis.data import Labelled, RunData, Series
from labtool.analysis.statistics import bin_width, bins
from labtool.dataset.run import RunDirectory
from labtool.report import small, style
from labtool.report.figure import Figure, finish, grid, sheet
from labtool.report.multiples import chunks, name_columns, panels


def draw(data: RunData, analysis: Analysis, run: RunDirectory) -> list[Figure]:
    """Draw every host's metrics that both count, and those that only CloudWatch has."""
    return _both(data, analysis, run) + _only(data, run)


def _both(data: RunData, analysis: Analysis, run: RunDirectory) -> list[Figure]:
    """Draw the metrics that both count; for many hosts a point per host and period."""
    hosts = [h for h in data.hosts if any(find(data, h, pair) for pair in PAIRS)]
    if not hosts or data.length_s <= 0:
        return []
    if len(hosts) > style.FEW_HOSTS:
        return [_scatter(data, analysis, run)] if analysis.comparisons else []
    parts = chunks(hosts)
    tops = {pair.metric: _top(data, pair, hosts) for pair in PAIRS}
    return [_steps(data, analysis, part, number, len(parts), tops, run) for number, part in enumerate(parts)]


SUMMED = {"Bytes": "bytes/s", "Count": "/s"}
"""CloudWatch's units of what is counted in a period, and the unit of its rate."""


def _only(data: RunData, run: RunDirectory) -> list[Figure]:
    """Draw the metrics of volumes and other namespaces that move: what is counted as a rate, the rest as averages."""
    found: dict[tuple[str, str], list[Labelled]] = {}
    for one in data.cloudwatch:
        if (
            one.source == NAMESPACE
            or not len(one.series)
            or one.statistic != ("Sum" if one.unit in SUMMED else "Average")
        ):
            continue
        found.setdefault((one.source, one.metric), []).append(_over_time(one))
    moving = {key: series for key, series in found.items() if any(np.any(one.series.v != 0) for one in series)}
    if not moving or data.length_s <= 0:
        return []
    shown = dict(list(moving.items())[: small.MOST])
    drawn, columns = small.draw(data, [(metric, series) for (_, metric), series in shown.items()])
    names = fmt.listed(sorted({source for source, _ in moving}))
    more = "" if len(moving) <= small.MOST else f"; the first {small.MOST} of {len(moving)}"
    idle = len(found) - len(moving)
    zero = f"; {fmt.plural(idle, 'other')} stayed at 0" if idle else ""
    title = f"{fmt.plural(len(moving), 'metric')} that only CloudWatch has, of {names}{zero}"
    return [
        finish(
            drawn,
            run,
            name="cloudwatch-only",
            title=title,
            subtitle=f"By host{more}; the table cloudwatch has all of them, with every statistic",
            caption="What CloudWatch counts is drawn as a rate over its period, anything else as its average.",
            alt=f"Small panels of CloudWatch metrics over time. {title}.",
            data=columns,
        )
    ]


def _over_time(one: Labelled) -> Labelled:
    """Return the series with each value in the middle of its period, what was counted as a rate."""
    middle = one.series.t + one.period_s / 2
    if one.unit not in SUMMED:
        return replace(one, series=Series(middle, one.series.v))
    return replace(one, unit=SUMMED[one.unit], series=Series(middle, one.series.v / one.period_s))


def _top(data: RunData, pair: Pair, hosts: list[str]) -> float:
    if pair.unit == "ratio":
        return 1.0
    most = 0.0
    for host in hosts:
        found, own = find(data, host, pair), data.signal(host, pair.signal)
        if found is not None:
            most = max(most, float(np.max(converted(pair, found).v, initial=0.0)))
        if len(own):
            most = max(most, float(np.nanmax(_own(data, host, pair).mean, initial=0.0)))
    return most * 1.25 or 1.0


def _own(data: RunData, host: str, pair: Pair) -> Any:
    series = data.signal(host, pair.signal)
    return bins(series, 0.0, data.length_s, bin_width(data.length_s, max(series.step, 1.0), 120))


def _steps(
    data: RunData,
    analysis: Analysis,
    hosts: list[str],
    number: int,
    amount: int,
    tops: dict[str, float],
    run: RunDirectory,
) -> Figure:
    pairs = [pair for pair in PAIRS if any(find(data, host, pair) for host in hosts)]
    drawn, places = panels(len(pairs), hosts, alone=amount == 1)
    name_columns(places, data.hosts, hosts)
    columns: dict[str, list[Any]] = {k: [] for k in ("host", "metric", "source", "start_s", "end_s", "value")}
    for j, host in enumerate(hosts):
        colour = style.host_colour(data.hosts, host)
        for i, pair in enumerate(pairs):
            axes = places[i][j]
            style.shade(axes, data, named=i == 0)
            if len(data.signal(host, pair.signal)):
                own = _own(data, host, pair)
                axes.plot(own.centre, own.mean, color=colour, linewidth=1.1, alpha=0.75)
                _add(columns, host, pair, "host", own.centre - own.width / 2, own.centre + own.width / 2, own.mean)
            found = find(data, host, pair)
            if found is not None:
                theirs = converted(pair, found)
                ends = theirs.t + found.period_s
                x = np.column_stack([theirs.t, ends, ends]).ravel()
                y = np.column_stack([theirs.v, theirs.v, theirs.v]).ravel()
                joined = np.append(np.abs(theirs.t[1:] - ends[:-1]) < 1.0, False)
                y[2::3] = np.where(joined, y[2::3], np.nan)
                axes.plot(x, y, color=style.INK, linewidth=1.8, solid_capstyle="butt")
                _add(columns, host, pair, "CloudWatch", theirs.t, ends, theirs.v)
            style.amount_axis(axes, pair.unit, tops[pair.metric])
            if j == 0:
                axes.set_ylabel(pair.name, color=style.INK)
            style.time_axis(axes, data, label=False, most=5)
    title = _title(analysis, hosts, data)
    return finish(
        drawn,
        run,
        name=f"cloudwatch-{number + 1}",
        title=title,
        subtitle="Dark steps: CloudWatch, over its periods. Coloured line: the host's own counter",
        caption=(
            "Network is CloudWatch's sum divided by the period. A period that reaches over the window's edge is drawn "
            "as far as the window goes."
        ),
        alt=f"CloudWatch and own counters over time for {fmt.listed(hosts)}. {title}.",
        data=columns,
    )


def _add(columns: dict[str, list[Any]], host: str, pair: Pair, source: str, start: Any, end: Any, values: Any) -> None:
    amount = len(values)
    for key, value in (("host", host), ("metric", pair.metric), ("source", source)):
        columns[key] += [value] * amount
    columns["start_s"] += start.tolist()
    columns["end_s"] += end.tolist()
    columns["value"] += values.tolist()


def _title(analysis: Analysis, hosts: list[str], data: RunData) -> str:
    mine = [one for one in analysis.comparisons if one.host in hosts]
    if not mine:
        return "CloudWatch and the hosts' own counters cannot be compared: no period lies whole within the window"
    off = [f"{one.pair.name} of {one.host}" for one in mine if not one.agrees]
    if off:
        return f"CloudWatch disagrees with the host on {fmt.listed(off)}"
    who = "the hosts" if set(hosts) >= {one.host for one in analysis.comparisons} else fmt.listed(hosts)
    return f"CloudWatch and {who} agree in {_share(mine)} periods"


def _share(mine: list[Any]) -> str:
    periods = sum(len(one.periods) for one in mine)
    outside = sum(len(one.disagreeing) for one in mine)
    return f"all {periods}" if not outside else f"{periods - outside} of {periods}"


def _scatter(data: RunData, analysis: Analysis, run: RunDirectory) -> Figure:
    """For many hosts: every period of every host, CloudWatch's value over the host's own."""
    pairs = [pair for pair in PAIRS if any(one.pair == pair for one in analysis.comparisons)]
    drawn = sheet(3.6)
    places = grid(drawn, 1, len(pairs), left=0.85, right=0.3, across=0.85, top=0.3)[0]
    columns: dict[str, list[Any]] = {
        k: [] for k in ("host", "metric", "start_s", "own", "cloudwatch", "tolerance", "agrees")
    }
    for axes, pair in zip(places, pairs, strict=True):
        mine = [(one.host, p) for one in analysis.comparisons if one.pair == pair for p in one.periods]
        own, theirs = np.array([p.inside for _, p in mine]), np.array([p.outside for _, p in mine])
        good = np.array([p.agrees for _, p in mine])
        top = 1.0 if pair.unit == "ratio" else float(max(own.max(), theirs.max())) * 1.1 or 1.0
        axes.plot([0, top], [0, top], color=style.MUTED, linewidth=1)
        axes.scatter(own[good], theirs[good], s=9, color=style.LOAD, alpha=0.4, linewidth=0, rasterized=True)
        axes.scatter(own[~good], theirs[~good], s=22, color=style.HOST_COLOURS[1], marker="x", linewidth=1.2)
        style.amount_axis(axes, pair.unit, top)
        axes.set_xlim(0, top)
        axes.xaxis.set_major_formatter(axes.yaxis.get_major_formatter())
        axes.locator_params(axis="x", nbins=4)
        axes.set_title(pair.name, loc="left", fontsize=9.5, color=style.INK)
        axes.set_xlabel("the host's own counter")
        for host, period in mine:
            for key, value in zip(
                columns,
                (host, pair.metric, period.start, period.inside, period.outside, period.tolerance, period.agrees),
                strict=True,
            ):
                columns[key].append(value)
    places[0].set_ylabel("CloudWatch")
    title = _title(analysis, [str(h) for h in data.hosts], data)
    return finish(
        drawn,
        run,
        name="cloudwatch-1",
        title=title,
        subtitle="A point per host and period; on the line both say the same, crosses lie outside the tolerance",
        caption="Network is CloudWatch's sum divided by the period; the table beneath names the hosts.",
        alt=f"Scatter of CloudWatch's values over the hosts' own. {title}.",
        data=columns,
    )
