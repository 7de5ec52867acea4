"""A streaming query: its batches by their phases, its rates, and its backlog, over time."""

from __future__ import annotations

from typing import Any

import numpy as np

from labtool.analysis import format as fmt
from labtool.analysis.analyse import Analysis
from labtool.analysis.data import RunData, Stream
from labtool.analysis.streaming import (
    PHASES,
    Kept,
    backlog_at_ends,
    backlog_over_time,
    counted,
    kept_up,
    phase_times,
)
from labtool.dataset.run import RunDirectory
from labtool.report import style
from labtool.report.figure import Figure, finish, grid, sheet

OTHER = "all else"
COLOURS = {
    "latest_offset": "#56b4e9",
    "get_batch": "#cc79a7",
    "query_planning": "#009e73",
    "wal_commit": "#e69f00",
    "add_batch": "#0072b2",
    "commit_offsets": "#d55e00",
    OTHER: style.HOLE,
}
ENDED = "#009e73"


def draw(data: RunData, analysis: Analysis, run: RunDirectory) -> list[Figure]:
    """Draw what there is of the three; nothing where there was no query."""
    stream = data.stream
    if stream is None or data.length_s <= 0:
        return []
    offered = analysis.load.offered if analysis.load else None
    kept = kept_up(data, offered)
    return [
        *_batches(data, stream, kept, run),
        *_rates(data, stream, offered, run),
        *_backlog(data, stream, kept, run),
    ]


def _batches(data: RunData, stream: Stream, kept: Kept | None, run: RunDirectory) -> list[Figure]:
    drawn = sheet(3.6)
    axes = grid(drawn, right=1.6)[0][0]
    style.shade(axes, data)
    parts = {name: np.nan_to_num(values) for name, values in stream.phases.items()}
    parts[OTHER] = np.maximum(stream.duration - sum(parts.values()), 0.0)
    # A batch is as wide as it took: what is white between two of them is waiting for the trigger.
    width = np.maximum(stream.duration, data.length_s / 1500)
    base = np.zeros(len(stream.start))
    for name, values in parts.items():
        axes.bar(
            stream.start, values, width, bottom=base, align="edge", color=COLOURS[name], edgecolor="none", linewidth=0
        )
        base = base + values
    if stream.trigger_s:
        axes.axhline(stream.trigger_s, color=style.INK, linewidth=1.1, linestyle=style.LINES[1], zorder=3)
    # The first batch compiles the query and is many times as long as any other: the axis is of those that count.
    start, end = counted(data)
    inside = (stream.end > start) & (stream.start < end)
    usual = stream.duration[inside] if inside.any() else stream.duration
    top = max(float(usual.max()), stream.trigger_s) * 1.15
    style.amount_axis(axes, "count", top)
    for x, took in zip(stream.start[stream.duration > top], stream.duration[stream.duration > top], strict=True):
        axes.annotate(
            fmt.duration(float(took)),
            (x, 0.9),
            xycoords=("data", "axes fraction"),
            xytext=(3, 0),
            textcoords="offset points",
            fontsize=8,
            color="white",
            va="top",
        )
    axes.set_ylabel("seconds")
    style.time_axis(axes, data)
    _legend(axes, {(PHASES.get(name) or name): COLOURS[name] for name in reversed(parts)}, stream.trigger_s)
    columns: dict[str, Any] = {"start_s": stream.start, "duration_s": stream.duration, "rows": stream.rows}
    columns |= {f"{name.replace(' ', '_')}_s": values for name, values in parts.items()}
    shares = phase_times(stream, start, end)
    title = "No batch with records ended while records were sent"
    if kept is not None and shares:
        first = next(iter(shares))
        title = f"Batches took {fmt.duration(kept.duration_s)} in the middle"
        if stream.trigger_s:
            title += f" of the trigger's {fmt.duration(stream.trigger_s)}"
        title += f", {fmt.percent(shares[first])} of it {PHASES[first]}"
    return [
        finish(
            drawn,
            run,
            name="batches",
            title=title,
            subtitle="Each micro-batch where it began, as high and as wide as it took, by Spark's own phases",
            caption=(
                "The dashed line is the trigger: a batch above it makes the next one late. What is higher than the "
                "axis has its time written on it; the first batches compile the query."
            ),
            alt=f"Stacked bars of the phases of {len(stream.start)} batches over time. {title}.",
            data=columns,
        )
    ]


def _legend(axes: Any, colours: dict[str, str], trigger_s: float) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Patch(color=colour, label=name, linewidth=0) for name, colour in colours.items()]
    if trigger_s:
        handles.append(Line2D([], [], color=style.INK, linewidth=1.1, linestyle=style.LINES[1], label="trigger"))
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), borderaxespad=0.2, handlelength=1.4)


def _rates(data: RunData, stream: Stream, offered: float | None, run: RunDirectory) -> list[Figure]:
    known = (stream.rows > 0) & np.isfinite(stream.input_rate) & np.isfinite(stream.processed_rate)
    if not known.any():
        return []
    drawn = sheet(2.9)
    axes = grid(drawn, right=1.35)[0][0]
    style.shade(axes, data)
    at, came, done = stream.start[known], stream.input_rate[known], stream.processed_rate[known]
    columns: dict[str, Any] = {"start_s": at, "input_records_per_s": came, "processed_records_per_s": done}
    looks = {"input": (came, style.LOAD, "o"), "processed": (done, ENDED, "s")}
    labels = []
    for name, (values, colour, marker) in looks.items():
        axes.plot(at, values, color=colour, marker=marker, markersize=3, linewidth=1.3)
        labels.append((float(values[-1]), name, colour))
    if offered:
        axes.axhline(offered, color=style.INK, linewidth=1.1, linestyle=style.LINES[1], zorder=3)
        labels.append((offered, "offered", style.INK))
    # What was left lying while the query compiled comes all at once: the axis is of the usual.
    top = max(float(np.quantile(np.concatenate([came, done]), 0.97)), offered or 0.0) * 1.25
    style.amount_axis(axes, "count", top or 1.0)
    axes.set_ylabel("records per second")
    style.time_axis(axes, data)
    style.label_ends(axes, labels)
    start, end = counted(data)
    inside = (at >= start) & (at <= end)
    title = "What came in and what batches could process"
    if inside.any():
        middle, most = float(np.median(came[inside])), float(np.median(done[inside]))
        title = f"Batches processed {fmt.rate(most, 'records')} while they ran, {fmt.rate(middle, 'records')} came in"
    return [
        finish(
            drawn,
            run,
            name="stream-rates",
            title=title,
            subtitle="A point per batch with records; Spark's own input and processed rates",
            caption=(
                "Input counts from the batch before it, processed while the batch ran: processed is above input where "
                "the query has time left, and meets it where it has none."
            ),
            alt=f"Lines of the input and the processed rate of each batch over time. {title}.",
            data=columns,
        )
    ]


def _backlog(data: RunData, stream: Stream, kept: Kept | None, run: RunDirectory) -> list[Figure]:
    over_time = backlog_over_time(stream)
    if not len(over_time):
        return []
    drawn = sheet(2.9)
    axes = grid(drawn, right=1.6)[0][0]
    style.shade(axes, data)
    ends = backlog_at_ends(stream)
    axes.plot(over_time.t, over_time.v, color=style.LOAD, linewidth=1.2)
    axes.fill_between(over_time.t, over_time.v, color=style.LOAD, alpha=0.12, linewidth=0)
    axes.plot(ends.t, ends.v, linestyle="", marker="o", markersize=3.5, color=ENDED)
    labels = [(float(over_time.v[-1]), "backlog", style.LOAD)]
    if len(ends):
        labels.append((float(ends.v[-1]), "where batches ended", ENDED))
    title = "Too few batches to say whether the backlog grew"
    if kept is not None and kept.growth is not None:
        line, span = kept.growth, kept.backlog.t[[0, -1]]
        axes.plot(span, line.level + line.slope * span, color=style.ALARM if kept.grows else style.INK, linewidth=1.6)
        rate = fmt.rate(line.slope, "records")
        title = f"The backlog grew by {rate}" if kept.grows else "The backlog did not grow while records were sent"
        title += f" (95 % interval {fmt.number(line.low)} to {fmt.number(line.high)})"
    style.amount_axis(axes, "count", float(np.nanmax(over_time.v, initial=0.0)) * 1.15 or 1.0)
    axes.set_ylabel("records")
    columns: dict[str, Any] = {"time_s": over_time.t, "backlog_records": over_time.v}
    if len(stream.covered):
        columns["without_a_result_records"] = stream.stored.v - stream.covered.v
    style.time_axis(axes, data)
    style.label_ends(axes, labels)
    return [
        finish(
            drawn,
            run,
            name="backlog",
            title=title,
            subtitle="The topic's end offsets minus what batches that had ended had read",
            caption=(
                "Between batches a backlog grows whatever the query does; points are where batches ended, and the line "
                "through them is what is tested against zero."
            ),
            alt=f"Line of the backlog over time, with a point at the end of each batch. {title}.",
            data=columns,
        )
    ]
