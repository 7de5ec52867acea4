"""How every figure looks: type, colours, axes of time, shading, labels.

Colours are Okabe and Ito's (distinct for the colour-blind, and in grey by their lightness). Ink, muted text, rules and
shades are named here once; in the page they become the page's own colours, so that a figure follows its light or dark.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from labtool.analysis import format as fmt
from labtool.analysis.data import Floats, RunData

WIDTH_IN = 11.0
"""A figure's width; at 72 points an inch and the page's width a point is about 1.4 pixels."""
HEAD_IN = 0.66
"""Above the axes, for the title that the PNG carries and the page's heading replaces."""

INK = "#17212b"
MUTED = "#5c6975"
RULE = "#dfe5ea"
SHADE = "#eef1f4"
HOLE = "#c9d1d8"
PAPER = "#ffffff"
ALARM = "#b3261e"

THEME = {INK: "--ink", MUTED: "--muted", RULE: "--rule", SHADE: "--shade", HOLE: "--hole", PAPER: "--paper"}
"""Colours that the page replaces by its own."""

HOST_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#4d4d4d")
LINES = ("-", (0, (5, 1.6)), (0, (1.4, 1.2)), (0, (6, 1.6, 1.4, 1.6)))
"""Line styles: a second sign beside the colour where there are more hosts than colours, or clients on one host."""

FEW_HOSTS = 12
"""Up to so many hosts each gets a line; beyond, quantile bands and the outliers by name."""

LOAD = "#5048a8"
READ = "#8179c0"
"""Of what is no host's: the total that clients wrote, and read."""

RC: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": RULE,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9.5,
    "axes.linewidth": 0.8,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "axes.titley": 1.0,  # where it is anyway; left to itself Matplotlib measures every label first
    "figure.facecolor": PAPER,
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "image.interpolation": "none",
    "legend.fontsize": 9,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.5,
    "lines.solid_capstyle": "round",
    "path.simplify_threshold": 0.4,
    "svg.fonttype": "none",
    "svg.hashsalt": "labtool",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": MUTED,
    "xtick.labelsize": 9,
    "xtick.major.size": 3,
    "xtick.major.width": 0.8,
    "ytick.color": MUTED,
    "ytick.labelsize": 9,
    "ytick.major.size": 0,
}


def prepare() -> None:
    """Set Matplotlib and seaborn up for drawing to files, in the look of the report."""
    import matplotlib as mpl
    import seaborn as sns

    mpl.use("Agg")
    sns.set_theme(style="white", palette=list(HOST_COLOURS), rc=RC)


def host_style(hosts: Sequence[str], host: str) -> dict[str, Any]:
    """Return the colour and line style that a host has in every figure."""
    index = hosts.index(host) if host in hosts else 0
    return {
        "color": HOST_COLOURS[index % len(HOST_COLOURS)],
        "linestyle": LINES[(index // len(HOST_COLOURS)) % len(LINES)],
    }


def host_colour(hosts: Sequence[str], host: str) -> str:
    """Return the colour that a host has in every figure."""
    return str(host_style(hosts, host)["color"])


def time_step(length_s: float, most: int = 9) -> float:
    """Return the distance of ticks on an axis of `length_s` seconds: a round one, at most `most` ticks."""
    for step in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400):
        if length_s / step <= most:
            return float(step)
    return float(86400)


def time_axis(axes: Any, data: RunData, *, label: bool = True, most: int = 9) -> None:
    """Make x the seconds since the window's start, over the whole window.

    Of panels that share x only those at the bottom get ticks: the axis of the others has nothing to show.
    """
    if not axes.xaxis.get_tick_params()["labelbottom"]:
        axes.xaxis.set_visible(False)
        return
    end = max(data.length_s, 1.0)
    axes.set_xlim(0, end)
    ticks = np.arange(0, end * 1.0001, time_step(end, most))
    axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    labels = axes.get_xticklabels()
    if labels and not label:
        # Beside another panel the last label would run into the first one of that panel.
        labels[0].set_horizontalalignment("left")
        if end - ticks[-1] < 0.08 * end:
            labels[-1].set_horizontalalignment("right")
    if label:
        axes.set_xlabel(f"seconds since the start of the window ({fmt.time_of_day(data.origin)} UTC)")


def shade(axes: Any, data: RunData, *, named: bool = True) -> None:
    """Shade what is not part of a steady measurement: the warm-up and every fault, by name."""
    warm = data.measured[0]
    if warm > 0:
        axes.axvspan(0, warm, color=SHADE, linewidth=0, zorder=0)
        if named:
            note(axes, 0, "warm-up", MUTED, ground=SHADE)
    for fault in data.events_of(["fault"]):
        end = fault.end if fault.end is not None else fault.start
        axes.axvspan(
            fault.start, max(end, fault.start + data.length_s / 400), color=ALARM, alpha=0.13, linewidth=0, zorder=0
        )
        axes.axvline(fault.start, color=ALARM, linewidth=1, zorder=1)
        if named:
            note(axes, fault.start, f"{fault.name} {fault.host}".strip(), ALARM)


def holes(axes: Any, found: Sequence[tuple[float, float]], *, named: bool = True) -> None:
    """Hatch the stretches that have no data."""
    for start, end in found:
        axes.axvspan(start, end, facecolor="none", edgecolor=HOLE, hatch="////", linewidth=0, zorder=0)
        if named:
            note(axes, start, "no data", MUTED)


def note(axes: Any, x: float, text: str, colour: str, *, ground: str = PAPER) -> None:
    """Write a small note at the top of a shaded stretch that begins at `x`, on a ground that hides what it covers."""
    axes.annotate(
        text,
        (x, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(3, -3),
        textcoords="offset points",
        fontsize=8,
        color=colour,
        va="top",
        ha="left",
        zorder=5,
        annotation_clip=True,
        bbox={"facecolor": ground, "edgecolor": "none", "alpha": 0.85, "pad": 1.5},
    )


def label_ends(axes: Any, labels: Sequence[tuple[float, str, str]]) -> None:
    """Label lines directly, to the right of the axes: (y of the line's end, text, colour), moved apart if too close."""
    if not labels:
        return
    transform = axes.transData + axes.transAxes.inverted()
    height_pt = axes.get_position().height * axes.figure.get_figheight() * 72
    apart = 11.5 / height_pt
    wanted = sorted(
        ((float(transform.transform((0, y))[1]), text, colour) for y, text, colour in labels), key=lambda one: one[0]
    )
    places = [min(max(y, 0.0), 1.0) for y, _, _ in wanted]
    for i in range(1, len(places)):
        places[i] = max(places[i], places[i - 1] + apart)
    overshoot = places[-1] - 1.02
    if overshoot > 0:
        places[-1] -= overshoot
        for i in range(len(places) - 2, -1, -1):
            places[i] = min(places[i], places[i + 1] - apart)
    for place, (_, text, colour) in zip(places, wanted, strict=True):
        axes.annotate(
            text,
            (1, place),
            xycoords="axes fraction",
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            ha="left",
            color=colour,
            fontsize=9,
            annotation_clip=False,
        )


def log_latency(axes: Any, values: Floats) -> bool:
    """Make y a latency in ms; logarithmic where the values span more than a decade. Return True if it is."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    positive = values[np.isfinite(values) & (values > 0)]
    logarithmic = len(positive) > 0 and positive.max() / positive.min() > 10
    if logarithmic:
        axes.set_yscale("log")
        axes.set_ylim(positive.min() / 1.4, positive.max() * 1.8)
        decades = np.log10(positive.max() / positive.min())
        axes.yaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0) if decades < 3 else (1.0,)))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.set_ylim(0, (positive.max() if len(positive) else 1.0) * 1.15)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: fmt.number(y, 2)))
    return bool(logarithmic)


def latency_across(axes: Any, values: Floats) -> None:
    """Make x a latency in ms; logarithmic where the values span more than a decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    positive = values[np.isfinite(values) & (values > 0)]
    logarithmic = len(positive) > 0 and positive.max() / positive.min() > 10
    if logarithmic:
        axes.set_xscale("log")
        axes.set_xlim(positive.min() / 1.1, positive.max() * 1.1)
        decades = np.log10(positive.max() / positive.min())
        axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0) if decades < 4 else (1.0,)))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.set_xlim(0, (positive.max() if len(positive) else 1.0) * 1.05)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: fmt.number(x, 2)))
    axes.set_xlabel("ms" + (" (logarithmic)" if logarithmic else ""))


def tail(q: Any) -> Any:
    """Return where a share q (0…1) is on a tail axis: each further nine is as far again."""
    return -np.log10(1 - np.asarray(q))


def tail_axis(axes: Any, largest: float, noun: str) -> None:
    """Make x the share of operations that were as fast or faster, logarithmic towards the tail, up to `largest`."""
    end = float(tail(largest))
    ticks = [0.5, 0.9, 0.95, 0.99, 0.999, *(1 - 10.0**-k for k in range(4, 10) if k <= end)]
    axes.set_xticks(tail(ticks), [f"{q * 100:.10g} %" for q in ticks])
    axes.set_xlim(0.2, end + 0.15)
    axes.grid(axis="x")
    axes.set_xlabel(f"share of {noun} that were as fast or faster (logarithmic towards the tail)")


def amount_axis(axes: Any, unit: str, top: float | None = None) -> None:
    """Make y an amount from zero, with ticks as `unit` is read (ratio, bytes/s, count, …)."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    if unit == "ratio":
        formatter = FuncFormatter(lambda y, _: fmt.percent(y, 0))
    elif unit in ("bytes/s", "bytes"):
        formatter = FuncFormatter(lambda y, _: "0" if y == 0 else fmt.value_with_unit(y, unit))
    else:
        formatter = FuncFormatter(lambda y, _: fmt.number(y, 2) if abs(y) < 100 else f"{y:,.0f}")
    axes.yaxis.set_major_formatter(formatter)
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    axes.set_ylim(0, top if top else None)
