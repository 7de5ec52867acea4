"""Single requests over time: how long they took, which failed, how late they were sent."""

from __future__ import annotations

from typing import Any

import numpy as np

from labtool.analysis import format as fmt
from labtool.analysis.analyse import Analysis
from labtool.analysis.data import Flags, Floats, RunData
from labtool.analysis.failures import WORDS, kinds
from labtool.analysis.quantiles import rank
from labtool.analysis.statistics import bin_width
from labtool.dataset.run import RunDirectory
from labtool.report import style
from labtool.report.figure import Figure, finish, grid, sheet

STEPS = 150
PER_STEP = 100
"""A step holds about so many requests, unless there are few: a p99 of less is the slowest of them."""
MOST_MARKS = 400
MOST_KINDS = 6
RANKS = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "slowest": 1.0}


def draw(data: RunData, analysis: Analysis, run: RunDirectory) -> list[Figure]:
    """Draw what there is of the three."""
    if data.requests is None or not len(data.requests) or data.length_s <= 0:
        return []
    return [*_errors(data, run), *_late(data, analysis, run), *_latency(data, analysis, run)]


def edges_of(data: RunData, width: float) -> Floats:
    """Return the edges of steps of `width` s over the whole window."""
    amount = max(1, int(np.ceil(data.length_s / width - 1e-9)))
    return np.asarray(np.arange(amount + 1) * width, dtype=np.float64)


def step_width(data: RunData) -> float:
    """Return a round width (s) of steps that are not too many, and hold enough requests each."""
    number = len(data.requests) if data.requests is not None else 0
    enough = min(PER_STEP * data.length_s / max(number, 1), data.length_s / 10)
    return bin_width(data.length_s, max(enough, 0.5), STEPS)


def over_time(times: Floats, values: Any, edges: Floats, ranks: dict[str, float]) -> dict[str, Floats]:
    """Return the quantiles of the values of every step; not a number where a step has none."""
    step = np.searchsorted(edges, times, side="right") - 1
    inside = (step >= 0) & (step < len(edges) - 1) & np.isfinite(values)
    # Of small integers a stable sort is a radix sort: linear.
    place = step[inside].astype(np.uint16)
    ordered = values[inside][np.argsort(place, kind="stable")]
    ends = np.cumsum(np.bincount(place, minlength=len(edges) - 1))
    found = {name: np.full(len(edges) - 1, np.nan) for name in ranks}
    for i, (start, end) in enumerate(zip(np.append(0, ends[:-1]).tolist(), ends.tolist(), strict=True)):
        if end == start:
            continue
        wanted = [rank(end - start, q) - 1 for q in ranks.values()]
        part = np.partition(ordered[start:end], sorted(set(wanted)))
        for name, at in zip(ranks, wanted, strict=True):
            found[name][i] = part[at]
    return found


def _latency(data: RunData, analysis: Analysis, run: RunDirectory) -> list[Figure]:
    requests, felt = data.requests, analysis.felt
    if requests is None or felt is None:
        return []
    width = step_width(data)
    edges = edges_of(data, width)
    shown = requests.ok & np.isfinite(requests.latency)
    found = {
        name: values * 1000
        for name, values in over_time(requests.due[shown], requests.latency[shown], edges, RANKS).items()
    }
    drawn = sheet(3.7)
    axes = grid(drawn, right=1.1)[0][0]
    style.shade(axes, data)
    axes.stairs(found["p99"], edges, baseline=found["p90"], fill=True, color=style.LOAD, alpha=0.16, linewidth=0)
    axes.stairs(found["p90"], edges, baseline=found["p50"], fill=True, color=style.LOAD, alpha=0.34, linewidth=0)
    axes.stairs(found["p99"], edges, baseline=None, color=style.LOAD, linewidth=1.4)
    axes.stairs(found["p50"], edges, baseline=None, color=style.INK, linewidth=1.6)
    axes.stairs(found["slowest"], edges, baseline=None, color=style.MUTED, linewidth=0.9, linestyle=style.LINES[2])
    colours = {"p50": style.INK, "p90": style.LOAD, "p99": style.LOAD, "slowest": style.MUTED}
    labels = [(_last(values), name, colours[name]) for name, values in found.items()]
    everything = [np.concatenate(list(found.values()))]
    failed = ~requests.ok
    marked = _marks(data, failed)
    if len(marked[0]):
        axes.plot(*marked, linestyle="", marker="x", markersize=4.5, color=style.ALARM, markeredgewidth=1.1, zorder=4)
        everything.append(marked[1])
        labels.append((float(marked[1][-1]), "failed", style.ALARM))
    logarithmic = style.log_latency(axes, np.concatenate(everything))
    axes.set_ylabel("latency in ms" + (" (logarithmic)" if logarithmic else ""))
    style.time_axis(axes, data)
    style.label_ends(axes, labels)
    failures = int(failed.sum())
    few = len(requests) / max(len(edges) - 1, 1)
    title = _latency_title(analysis)
    return [
        finish(
            drawn,
            run,
            name="latency",
            title=title,
            subtitle=f"From when a request was due to the last byte of its answer, by when it was due, in steps of "
            f"{fmt.duration(width)}",
            caption=(
                "Of all clients' requests together: median (black), 90th and 99th percentile (bands), slowest (dotted) "
                "of those that succeeded."
                + (f" A step's p99 is of about {fmt.count(few)} requests." if few < 1000 else "")
                + (
                    f" Crosses are failed requests{_some(failures, len(marked[0]))}, at the time they took to fail."
                    if failures
                    else ""
                )
            ),
            alt=f"Percentile bands of the latency over {fmt.duration(data.length_s)}. {title}.",
            data={"start_s": edges[:-1].tolist()}
            | {f"{name.replace('slowest', 'max')}_ms": values.tolist() for name, values in found.items()}
            | {"failed": np.histogram(requests.due[failed], edges)[0].tolist()},
        )
    ]


def _some(all_of: int, shown: int) -> str:
    return f" ({shown:,} of {all_of:,}, evenly chosen)" if shown < all_of else ""


def _marks(data: RunData, failed: Flags) -> tuple[Floats, Floats]:
    """Return when failed requests were due (s) and how long they took to fail (ms), evenly chosen where many."""
    requests = data.requests
    if requests is None:
        return np.empty(0), np.empty(0)
    known = np.flatnonzero(failed & np.isfinite(requests.latency) & (requests.latency > 0))
    known = known[np.argsort(requests.due[known], kind="stable")]
    chosen = known[np.linspace(0, len(known) - 1, min(len(known), MOST_MARKS)).astype(np.int64)]
    return requests.due[chosen], requests.latency[chosen].astype(np.float64) * 1000


def _last(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known[-1]) if len(known) else 0.0


def _latency_title(analysis: Analysis) -> str:
    felt = analysis.felt
    if felt is None:
        return "Latency over time"
    value, at, _ = felt.slowest
    median = felt.latency.get("p50")
    half = f"Half of the requests took {fmt.milliseconds(median.value)} or less; the" if median else "The"
    return f"{half} slowest, due at {at:,.0f} s, took {fmt.milliseconds(value)}"


def _errors(data: RunData, run: RunDirectory) -> list[Figure]:
    requests = data.requests
    if requests is None or requests.ok.all():
        return []
    width = step_width(data)
    edges = edges_of(data, width)
    failed = ~requests.ok
    ended = requests.due + np.nan_to_num(requests.latency)
    known = [name for name, _ in kinds(requests)] or sorted({requests.errors[code] for code in requests.error[failed]})
    groups = [(name, [requests.errors.index(name)]) for name in known[:MOST_KINDS]]
    rest = [code for code, name in enumerate(requests.errors) if code and name not in known[:MOST_KINDS]]
    if np.isin(requests.error, rest).any():
        groups.append(("others", rest))
    drawn = sheet(2.6)
    axes = grid(drawn, right=1.1)[0][0]
    style.shade(axes, data)
    base = np.zeros(len(edges) - 1)
    columns: dict[str, Any] = {"start_s": edges[:-1].tolist()}
    for number, (name, codes) in enumerate(groups):
        rate = np.histogram(ended[np.isin(requests.error, codes)], edges)[0] / width
        colour = style.HOST_COLOURS[(number + 1) % len(style.HOST_COLOURS)]
        axes.stairs(
            base + rate,
            edges,
            baseline=base,
            fill=True,
            color=colour,
            alpha=0.85,
            linewidth=0,
            label=LABELS.get(name, name),
        )
        base = base + rate
        columns[f"{name}_per_s"] = rate.tolist()
    style.amount_axis(axes, "count", float(base.max()) * 1.16 or 1.0)
    axes.set_ylabel("failed requests per second")
    style.time_axis(axes, data)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), borderaxespad=0, handlelength=1, handleheight=0.9)
    total = int((failed & requests.counted).sum())
    at = float(edges[int(np.argmax(base))])
    title = (
        f"{fmt.count(total)} requests failed, the most at {fmt.span(at, at + width)}; most of them "
        f"{WORDS.get(known[0], f'ended as “{known[0]}”')}"
        if total
        else "Requests failed during the warm-up only"
    )
    return [
        finish(
            drawn,
            run,
            name="errors",
            title=title,
            subtitle=f"By kind, as the clients saw them, when they failed; in steps of {fmt.duration(width)}",
            caption="The kinds are stacked. A failed request is in no percentile and does not count as achieved.",
            alt=f"Failed requests per second over {fmt.duration(data.length_s)}, by kind. {title}.",
            data=columns,
        )
    ]


def _late(data: RunData, analysis: Analysis, run: RunDirectory) -> list[Figure]:
    """Lateness beside the service time; nothing of a closed loop, in which nothing can be late."""
    requests, lateness = data.requests, analysis.lateness
    if requests is None or lateness is None:
        return []
    width = step_width(data)
    edges = edges_of(data, width)
    sent = np.isfinite(requests.late)
    ranks = {name: q for name, q in RANKS.items() if name != "p90"}
    late = {
        name: np.maximum(values * 1000, FLOOR_MS)
        for name, values in over_time(requests.due[sent], requests.late[sent], edges, ranks).items()
    }
    shown = requests.ok & np.isfinite(requests.service)
    served = over_time(requests.due[shown], requests.service[shown], edges, {"p50": 0.5})["p50"] * 1000
    drawn = sheet(3.0)
    axes = grid(drawn, right=1.45)[0][0]
    style.shade(axes, data)
    axes.stairs(late["p99"], edges, baseline=late["p50"], fill=True, color=LATE, alpha=0.2, linewidth=0)
    axes.stairs(late["p50"], edges, baseline=None, color=LATE, linewidth=1.6)
    axes.stairs(late["slowest"], edges, baseline=None, color=LATE, linewidth=0.9, linestyle=style.LINES[2])
    axes.stairs(served, edges, baseline=None, color=style.INK, linewidth=1.2, linestyle=style.LINES[1])
    logarithmic = style.log_latency(axes, np.concatenate([*late.values(), served]))
    axes.set_ylabel("ms" + (" (logarithmic)" if logarithmic else ""))
    style.time_axis(axes, data)
    names = {"p50": "late, p50", "p99": "late, p99", "slowest": "latest"}
    labels = [(_last(values), names[name], LATE) for name, values in late.items()]
    style.label_ends(axes, [*labels, (_last(served), "service, p50", style.INK)])
    title = f"99 of 100 requests were sent within {fmt.milliseconds(max(lateness.p99 * 1000, FLOOR_MS))} of when due"
    return [
        finish(
            drawn,
            run,
            name="late",
            title=title,
            subtitle="How late requests were sent, by when they were due, beside the median service time; in steps of "
            f"{fmt.duration(width)}",
            caption=(
                "Late sends with an ordinary service time are the generator's doing, or the answer to a stall just "
                f"before. Less than {FLOOR_MS:g} ms is drawn as that."
            ),
            alt=f"Lateness of sends over {fmt.duration(data.length_s)}. {title}.",
            data={"start_s": edges[:-1].tolist()}
            | {f"late_{name.replace('slowest', 'max')}_ms": values.tolist() for name, values in late.items()}
            | {"service_p50_ms": served.tolist()},
        )
    ]


LABELS = {"status": "error status"}
FLOOR_MS = 0.01
LATE = style.HOST_COLOURS[1]
