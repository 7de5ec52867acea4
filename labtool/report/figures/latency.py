"""How the load felt: latency over time, the percentile plot, and the servers' own request times."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import numpy as np

from labtool.analysis import format as fmt
from labtool.analysis.analyse import Analysis
from labtool.analysis.data import Client, Floats, RunData
from labtool.analysis.latency import percentiles
from labtool.dataset.run import RunDirectory
from labtool.report import bands, style
from labtool.report.figure import Figure, finish, grid, sheet

FEW_CLIENTS = 6
MOST_INTERVALS = 120
REQUEST_TIME = re.compile(r"(?P<what>.*\.?TotalTimeMs)\.(?P<rank>50|75|95|98|99|999)thPercentile")
_RANKS = {"50": "p50", "75": "p75", "95": "p95", "98": "p98", "99": "p99", "999": "p99.9"}


def draw(data: RunData, analysis: Analysis, run: RunDirectory) -> list[Figure]:
    """Draw what there is of the three; where single requests were left, they are drawn instead."""
    if data.requests is not None:
        return _request_times(data, run)
    return [*_over_time(data, analysis, run), *_percentiles(data, analysis, run), *_request_times(data, run)]


def _measures(client: Client) -> dict[str, Any]:
    found = {"mean": client.latency_avg, "p50": client.p50, "p99": client.p99, "slowest": client.latency_max}
    return {name: values for name, values in found.items() if np.isfinite(values).any()}


def _over_time(data: RunData, analysis: Analysis, run: RunDirectory) -> list[Figure]:
    load = analysis.load
    clients = [c for c in data.clients if load and c.role == load.role and _measures(c)]
    if load is None or not clients:
        return []
    title = _time_title(analysis, clients)
    clients, merged = _merged(clients)
    steps = f"{merged} intervals merged: mean of means, largest of the others" if merged > 1 else "interval by interval"
    drawn = sheet(3.7)
    axes = grid(drawn, right=1.75)[0][0]
    style.shade(axes, data)
    columns: dict[str, list[Any]] = {"client": [], "end_s": [], "measure": [], "latency_ms": []}
    everything = []
    labels: list[tuple[float, str, str]] = []
    if len(clients) <= FEW_CLIENTS:
        for client in clients:
            colour = style.host_colour(data.hosts, client.host)
            same_host = [c.name for c in clients if c.host == client.host]
            dash = style.LINES[same_host.index(client.name) % len(style.LINES)]
            for name, values in _measures(client).items():
                everything.append(values)
                _step(axes, client, values, name, colour, dash)
                last = values[np.isfinite(values)][-1]
                short = client.name.split("/", 1)[-1]
                labels.append((float(last), f"{name}, {short}" if len(clients) > 1 else name, colour))
                _rows(columns, client, name, values)
    else:
        for name in _measures(clients[0]):
            values = np.concatenate([getattr(c, _ATTRIBUTE[name]) for c in clients])
            everything.append(values)
            ends = np.concatenate([c.end for c in clients])
            width = float(np.median(np.concatenate([c.duration for c in clients])))
            index = np.floor(ends / width).astype(int)
            at = np.unique(index)
            bands = np.array([np.nanquantile(values[index == i], (0.0, 0.5, 1.0)) for i in at])
            colour = style.LOAD if name == "mean" else style.HOST_COLOURS[1]
            axes.fill_between(at * width, bands[:, 0], bands[:, 2], color=colour, alpha=0.18, linewidth=0, step="pre")
            axes.step(at * width, bands[:, 1], color=colour, where="pre")
            labels.append((float(bands[-1, 1]), f"{name}, middle client", colour))
            for client in clients:
                _rows(columns, client, name, getattr(client, _ATTRIBUTE[name]))
    logarithmic = style.log_latency(axes, np.concatenate(everything))
    axes.set_ylabel("latency in ms" + (" (logarithmic)" if logarithmic else ""))
    style.time_axis(axes, data)
    style.label_ends(axes, labels)
    return [
        finish(
            drawn,
            run,
            name="latency",
            title=title,
            subtitle=f"As {fmt.plural(len(clients), load.role)} printed it, {steps}",
            caption=(
                "A mean and a slowest operation per interval and client, where the tool prints no percentile; the "
                "report never averages them over clients."
                if all(not np.isfinite(c.p99).any() for c in clients)
                else "Each client's own numbers per interval; the report never averages percentiles over clients."
            ),
            alt=f"Latency of {fmt.plural(len(clients), load.role)} over {fmt.duration(data.length_s)}. {title}.",
            data=columns,
        )
    ]


def _merged(clients: list[Client]) -> tuple[list[Client], int]:
    """Merge so many neighbouring intervals that the lines stay readable; return the clients and how many became one.

    A mean is weighted by the operations it is of; of the slowest and of percentiles the largest is kept, which is an
    upper bound of the percentile of the merged intervals.
    """
    each = -(-max(len(client.end) for client in clients) // MOST_INTERVALS)
    if each < 2:
        return clients, 1
    return [_merge(client, each) for client in clients], each


def _merge(client: Client, each: int) -> Client:
    # Counted anew after every hole, which must stay one.
    hole = np.concatenate(([True], client.start[1:] - client.end[:-1] >= 0.5 * client.duration[1:]))
    place = np.arange(len(hole)) - np.maximum.accumulate(np.where(hole, np.arange(len(hole)), 0))
    starts = np.flatnonzero(place % each == 0)
    lasts = np.append(starts[1:], len(hole)) - 1
    weight = client.rate * client.duration
    weight = np.where(np.isfinite(client.latency_avg) & np.isfinite(weight), weight, 0.0)
    total = np.add.reduceat(weight, starts)
    summed = np.add.reduceat(np.where(weight > 0, client.latency_avg * weight, 0.0), starts)

    def largest(values: Floats) -> Floats:
        found: Floats = np.fmax.reduceat(values, starts)
        return found

    return replace(
        client,
        end=client.end[lasts],
        duration=client.end[lasts] - client.start[starts],
        latency_avg=np.where(total > 0, summed / np.maximum(total, 1e-12), np.nan),
        latency_max=largest(client.latency_max),
        p50=largest(client.p50),
        p99=largest(client.p99),
    )


_ATTRIBUTE = {"mean": "latency_avg", "p50": "p50", "p99": "p99", "slowest": "latency_max"}


def _step(axes: Any, client: Client, values: Any, name: str, colour: str, dash: Any) -> None:
    """Draw a client's measure as a level over each interval; intervals that do not join leave a gap."""
    x = np.column_stack([client.start, client.end, client.end]).ravel()
    y = np.column_stack([values, values, values]).ravel()
    joined = np.append(client.start[1:] - client.end[:-1] < 0.5 * client.duration[1:], False)
    y[2::3] = np.where(joined, y[2::3], np.nan)
    strength = 1.0 if name in ("mean", "p99") else 0.8
    axes.plot(x, y, color=colour, linestyle=dash, alpha=strength, linewidth=1.9 if name in ("mean", "p99") else 1.0)


def _rows(columns: dict[str, list[Any]], client: Client, name: str, values: Any) -> None:
    columns["client"] += [client.name] * len(values)
    columns["end_s"] += client.end.tolist()
    columns["measure"] += [name] * len(values)
    columns["latency_ms"] += values.tolist()


def _time_title(analysis: Analysis, clients: list[Client]) -> str:
    load = analysis.load
    start, end = load.span if load else (0.0, 0.0)
    means = np.concatenate([c.latency_avg[(c.start >= start - 0.5) & (c.end <= end + 0.5)] for c in clients])
    means = means[np.isfinite(means)]
    slowest = next((f for f in analysis.findings if f.id == "latency.highest"), None)
    said = []
    if len(means):
        low, high = float(np.min(means)), float(np.max(means))
        said.append(f"Mean latency went from {fmt.latency_range(float(f'{low:.2g}'), float(f'{high:.2g}'))}")
    if slowest is not None and slowest.window is not None:
        value = slowest.evidence["latency_ms"]
        text = fmt.milliseconds(float(value)) if isinstance(value, float) else fmt.UNKNOWN
        said.append(f"the slowest took {text} at {fmt.span(*slowest.window)}")
    title = "; ".join(said) or "Latency over time"
    return title[0].upper() + title[1:]


def _percentiles(data: RunData, analysis: Analysis, run: RunDirectory) -> list[Figure]:
    load = analysis.load
    found = percentiles(data, load.role) if load else []
    if load is None or len(found) < 2:
        return []
    names = list(dict.fromkeys(name for one in found for name, _ in one.by_client))
    drawn = sheet(3.2)
    axes = grid(drawn, right=1.5)[0][0]
    columns: dict[str, list[Any]] = {"client": [], "share": [], "latency_ms": []}
    everything: list[float] = []
    labels = []
    for name in names:
        points = [(one.q, dict(one.by_client)[name]) for one in found if name in dict(one.by_client)]
        summary = next(s for s in data.summaries if s.name == name)
        if summary.latency_max is not None and summary.operations and summary.operations > 1000:
            points.append((1 - 1 / summary.operations, summary.latency_max))
        host = name.split("/", 1)[0]
        colour = style.host_colour(data.hosts, host)
        same_host = [other for other in names if other.split("/", 1)[0] == host]
        dash = style.LINES[same_host.index(name) % len(style.LINES)]
        x = [-math.log10(1 - q) for q, _ in points]
        y = [value for _, value in points]
        printed = len([q for q, _ in points if q <= found[-1].q])
        if len(names) <= FEW_CLIENTS:
            axes.plot(x[:printed], y[:printed], color=colour, linestyle=dash, marker="o", markersize=5)
            axes.plot(x[printed - 1 :], y[printed - 1 :], color=colour, linestyle=style.LINES[2], linewidth=1)
            axes.plot(
                x[printed:], y[printed:], color=colour, marker="o", markersize=5.5, fillstyle="none", linestyle=""
            )
            labels.append((y[-1], name.split("/", 1)[-1], colour))
        else:
            axes.plot(x, y, color=style.LOAD, alpha=0.35, linewidth=1)
        everything += y
        columns["client"] += [name] * len(points)
        columns["share"] += [q for q, _ in points]
        columns["latency_ms"] += y
    style.tail_axis(axes, max(columns["share"]), "operations")
    logarithmic = style.log_latency(axes, np.array(everything))
    axes.set_ylabel("latency in ms" + (" (logarithmic)" if logarithmic else ""))
    style.label_ends(axes, labels)
    tail = found[-1]
    printed_names = ", ".join(one.name.replace("p999", "p99.9") for one in found)
    title = f"{_share(tail.q)} took {fmt.milliseconds(tail.high)} or less"
    title += " with every client" if len(tail.by_client) > 1 else ""
    last = " and the slowest operation" if any(share > tail.q for share in columns["share"]) else ""
    return [
        finish(
            drawn,
            run,
            name="percentiles",
            title=title,
            subtitle=f"{printed_names}{last}, as each client printed them",
            caption=(
                "Between the points the lines only guide the eye; the last point is the slowest operation. For all "
                "clients together a percentile lies between the lowest and the highest line."
                if len(names) > 1
                else "Between the points the line only guides the eye; the ring is the slowest operation."
            ),
            alt=f"Percentile plot with a logarithmic tail axis. {title}.",
            data=columns,
        )
    ]


def _share(q: float) -> str:
    return {0.5: "Half", 0.95: "95 of 100", 0.99: "99 of 100", 0.999: "999 of 1,000"}.get(q, f"{q * 100:g} %")


def _request_times(data: RunData, run: RunDirectory) -> list[Figure]:
    found: dict[str, dict[str, list[Any]]] = {}
    for one in data.service:
        match = REQUEST_TIME.fullmatch(one.metric)
        if match and len(one.series):
            found.setdefault(match["what"], {}).setdefault(match["rank"], []).append(one)
    if not found:
        return []
    what = "Produce.TotalTimeMs" if "Produce.TotalTimeMs" in found else min(found)
    ranks = [rank for rank in _RANKS if rank in found[what]]
    drawn = sheet(2.9)
    panels = grid(drawn, 1, len(ranks), right=1.0, top=0.34, across=0.16, sharey=True)[0]
    columns: dict[str, list[Any]] = {"host": [], "time_s": [], "percentile": [], "latency_ms": []}
    every = np.concatenate([one.series.v for rank in ranks for one in found[what][rank]])
    worst = (0.0, "", "")
    colours: dict[str, str] = {}
    logarithmic = False
    for axes, rank in zip(panels, ranks, strict=True):
        style.shade(axes, data, named=axes is panels[0])
        labels: list[tuple[float, str, str]] = []
        several = {one.host: one.series for one in found[what][rank]}
        many = len(several) > style.FEW_HOSTS
        if many:
            labels += bands.draw(axes, data, several, colours).labels
        for one in found[what][rank]:
            if not many:
                width = 1.4 if len(one.series) < 100 else 0.8
                axes.plot(one.series.t, one.series.v, linewidth=width, **style.host_style(data.hosts, one.host))
                labels.append((float(one.series.v[-1]), one.host, style.host_colour(data.hosts, one.host)))
            after = one.series.between(*data.measured).v
            if len(after) and float(after.max()) > worst[0]:
                worst = (float(after.max()), one.host, _RANKS[rank])
            columns["host"] += [one.host] * len(one.series)
            columns["time_s"] += one.series.t.tolist()
            columns["percentile"] += [_RANKS[rank]] * len(one.series)
            columns["latency_ms"] += one.series.v.tolist()
        logarithmic = style.log_latency(axes, every)
        style.time_axis(axes, data, label=False, most=4)
        axes.set_title(_RANKS[rank], loc="left", color=style.INK, fontsize=9.5, pad=4)
        if axes is panels[-1]:
            style.label_ends(axes, labels)
    panels[0].set_ylabel("ms" + (" (logarithmic)" if logarithmic else ""))
    panels[0].set_xlabel("seconds since the start of the window")
    kind = what.split(".", 1)[0].lower()
    title = f"Inside the brokers a {kind} request's {worst[2]} reached {fmt.milliseconds(worst[0])} on {worst[1]}"
    return [
        finish(
            drawn,
            run,
            name="requests",
            title=title,
            subtitle=f"{what} by host, percentiles as the service computes them",
            caption=(
                "The service's percentiles are over its own sliding sample, not over an interval: a peak fades slowly, "
                "and percentiles of several hosts are never averaged."
            ),
            alt=f"Request time percentiles of each host over time. {title}.",
            data=columns,
        )
    ]
