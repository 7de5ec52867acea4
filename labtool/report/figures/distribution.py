"""How single requests are distributed: the percentile plot, the CDF, and endpoints beside each other."""

from __future__ import annotations

from typing import Any

import numpy as np

from labtool.analysis import format as fmt
from labtool.analysis.analyse import Analysis
from labtool.analysis.data import RunData
from labtool.analysis.endpoints import differs
from labtool.analysis.quantiles import FEWEST_BEYOND, rank
from labtool.analysis.requests import Felt
from labtool.dataset.run import RunDirectory
from labtool.report import style
from labtool.report.figure import Figure, finish, grid, sheet

POINTS = 300
FEWEST = 20
LOOKS = {"latency": (style.LOAD, style.LINES[0]), "service": (style.HOST_COLOURS[1], style.LINES[1])}
NAMES = {"latency": "latency", "service": "service time"}


def draw(data: RunData, analysis: Analysis, run: RunDirectory) -> list[Figure]:
    """Draw what there is of the three."""
    requests, felt = data.requests, analysis.felt
    if requests is None or felt is None or felt.n < FEWEST:
        return []
    good = requests.good
    ordered = {}
    for name in LOOKS:
        values = getattr(requests, name)[good]
        ordered[name] = np.sort(values[np.isfinite(values)])
    ordered = {name: values for name, values in ordered.items() if len(values) >= FEWEST}
    return [_percentiles(ordered, felt, run), _cdf(ordered, felt, run), *_endpoints(analysis, run)]


def _at(ordered: Any, q: Any) -> Any:
    """Return the q-quantiles in ms, as order statistics."""
    return ordered[np.array([rank(len(ordered), float(one)) - 1 for one in q])].astype(np.float64) * 1000


def _percentiles(ordered: dict[str, Any], felt: Felt, run: RunDirectory) -> Figure:
    drawn = sheet(3.4)
    axes = grid(drawn, right=1.2)[0][0]
    columns: dict[str, list[Any]] = {"measure": [], "share": [], "ms": []}
    labels = []
    largest = 0.9
    for name, values in ordered.items():
        colour, dash = LOOKS[name]
        n = len(values)
        carried = 1 - FEWEST_BEYOND / n
        last = 1 - 1 / n
        largest = max(largest, last)
        q = 1 - np.logspace(np.log10(0.6), np.log10(1 - last), POINTS)
        solid = q <= carried
        y = _at(values, q)
        axes.plot(style.tail(q[solid]), y[solid], color=colour, linestyle=dash, linewidth=1.8)
        axes.plot(style.tail(q[~solid]), y[~solid], color=colour, linestyle=style.LINES[2], linewidth=1)
        for one in getattr(felt, name).values():
            axes.plot(style.tail([one.q, one.q]), [one.low, one.high], color=colour, linewidth=4, alpha=0.3)
            axes.plot(style.tail([one.q]), [one.value], color=colour, marker="o", markersize=5)
        labels.append((float(y[-1]), NAMES[name], colour))
        columns["measure"] += [name] * len(q)
        columns["share"] += q.tolist()
        columns["ms"] += y.tolist()
    style.tail_axis(axes, largest, "requests")
    logarithmic = style.log_latency(axes, np.array(columns["ms"]))
    axes.set_ylabel("ms" + (" (logarithmic)" if logarithmic else ""))
    style.label_ends(axes, labels)
    stated = list(felt.latency.values())
    said = f"{fmt.number(stated[-1].q * 100, 6)} % of the requests took {fmt.milliseconds(stated[-1].value)} or less"
    refused = (
        f" {fmt.listed(felt.refused)} {'is' if len(felt.refused) == 1 else 'are'} refused." if felt.refused else ""
    )
    return finish(
        drawn,
        run,
        name="percentiles",
        title=said,
        subtitle=f"All {felt.n:,} requests that succeeded, {felt.counted_as}; latency from when each was due, "
        "service time from its send",
        caption=(
            "Dots are the percentiles that so many requests carry, bars their 95 % intervals. Dotted, fewer than "
            f"{FEWEST_BEYOND} requests lie beyond: the luck of a few.{refused}"
        ),
        alt=f"Percentile plot with a logarithmic tail axis. {said}.",
        data=columns,
    )


def _cdf(ordered: dict[str, Any], felt: Felt, run: RunDirectory) -> Figure:
    drawn = sheet(2.9)
    axes = grid(drawn, right=1.55, left=0.85)[0][0]
    q = np.concatenate(([0.0], np.linspace(0, 1, POINTS)[1:-1], 1 - np.logspace(-2.5, -4, 20), [1.0]))
    q = np.unique(q)
    columns: dict[str, list[Any]] = {"measure": [], "ms": [], "share": []}
    for name, values in ordered.items():
        colour, dash = LOOKS[name]
        x = _at(values, q)
        axes.plot(x, q, color=colour, linestyle=dash, linewidth=1.8, label=NAMES[name], drawstyle="steps-post")
        columns["measure"] += [name] * len(q)
        columns["ms"] += x.tolist()
        columns["share"] += q.tolist()
    style.latency_across(axes, np.array(columns["ms"]))
    style.amount_axis(axes, "ratio", 1.02)
    axes.set_ylabel("share of requests")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 0.6))
    low, high = (float(_at(ordered["latency"], [share])[0]) for share in (0.05, 0.95))
    title = f"Nine of ten requests took {fmt.latency_range(low, high)}"
    return finish(
        drawn,
        run,
        name="cdf",
        title=title,
        subtitle=f"Cumulative distribution of {felt.n:,} requests that succeeded, {felt.counted_as}",
        caption="The share of requests that took so long or less; the tail is told apart in the percentile plot.",
        alt=f"Cumulative distribution of latency and service time. {title}.",
        data=columns,
    )


def _endpoints(analysis: Analysis, run: RunDirectory) -> list[Figure]:
    shown = [one for one in analysis.compared if one.quantiles]
    if len(shown) < 2:
        return []
    longest = max(len(_short(one.name)) for one in shown)
    drawn = sheet(0.42 * len(shown) + 1.0)
    axes = grid(drawn, left=min(0.5 + 0.082 * longest, 4.0), right=1.2)[0][0]
    columns: dict[str, list[Any]] = {k: [] for k in ("endpoint", "percentile", "ms", "low_ms", "high_ms")}
    looks = {"p50": (style.INK, "o", -0.13), "p99": (style.LOAD, "D", 0.13)}
    for y, one in enumerate(shown):
        for name, found in one.quantiles.items():
            colour, marker, aside = looks[name]
            low, value, high = (x * 1000 for x in (found.low, found.value, found.high))
            axes.plot([low, high], [y + aside, y + aside], color=colour, linewidth=4, alpha=0.3)
            label = name if not any(name in before.quantiles for before in shown[:y]) else None
            axes.plot([value], [y + aside], color=colour, marker=marker, markersize=5.5, linestyle="", label=label)
            for key, cell in zip(columns, (one.name, name, value, low, high), strict=True):
                columns[key].append(cell)
    axes.set_yticks(range(len(shown)), [_short(one.name) for one in shown])
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.grid(visible=True, axis="x")
    style.latency_across(axes, np.array(columns["ms"] + columns["low_ms"] + columns["high_ms"]))
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), borderaxespad=0)
    tails = [one for one in shown if "p99" in one.quantiles]
    rank_by = "p99" if len(tails) > 1 else "p50"
    slow = max(tails if rank_by == "p99" else shown, key=lambda one: one.quantiles[rank_by].value)
    if any(differs(one.ratios[rank_by]) for one in shown if rank_by in one.ratios):
        worst = fmt.milliseconds(slow.quantiles[rank_by].value * 1000)
        title = f"{_short(slow.name)} has the highest {rank_by}, {worst}, of {len(shown)} endpoints"
    else:
        title = f"In {rank_by} no difference between {len(shown)} endpoints is seen within this run"
    return [
        finish(
            drawn,
            run,
            name="endpoints",
            title=title,
            subtitle="Median and 99th percentile of the latency from when a request was due, most frequent first",
            caption="Bars are 95 % intervals within this run; how endpoints differ between runs takes several runs.",
            alt=f"Median and 99th percentile of each endpoint. {title}.",
            data=columns,
        )
    ]


def _short(name: str) -> str:
    return name if len(name) <= 44 else name[:43] + "…"
