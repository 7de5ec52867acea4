"""What happened when: stages of the run and events of every host, as bars over time."""

from __future__ import annotations

from typing import Any

from labtool.analysis import format as fmt
from labtool.analysis.analyse import Analysis
from labtool.analysis.data import Event, RunData
from labtool.dataset.run import RunDirectory
from labtool.report import style
from labtool.report.figure import Figure, finish, grid, sheet

MOST_ROWS = 20
COLOURS = {
    "stage": "#5b7083",
    "launch": "#b7c4cf",
    "boot": "#8fa3b3",
    "ssh": "#6f8798",
    "task": "#56b4e9",
    "workload": "#009e73",
    "warmup": "#e3d7a8",
    "fault": style.ALARM,
    "gap": "#c9d1d8",
    "note": "#cc79a7",
}
FAILED = ("failed", "unreachable")


def draw(data: RunData, analysis: Analysis, run: RunDirectory) -> list[Figure]:
    """Draw the stages and, host by host, what happened on it."""
    events = list(data.events) or _from_stages(data)
    if not events:
        return []
    stages = [event for event in events if event.kind == "stage"]
    others = [event for event in events if not event.host and event.kind != "stage"]
    by_host = {host: [event for event in events if event.host == host] for host in data.hosts}
    hosts = _chosen({host: mine for host, mine in by_host.items() if mine})
    rows = [("stages", stages)] if stages else []
    rows += [("run", others)] if others else []
    rows += [(host, by_host[host]) for host in hosts]
    start = min(event.start for event in events)
    end = max([data.length_s, *(event.end if event.end is not None else event.start for event in events)])
    drawn = sheet(0.33 * len(rows) + 1.15)
    axes = grid(drawn, left=1.05, right=0.25, bottom=0.78)[0][0]
    axes.axvspan(0, data.length_s, color=style.SHADE, linewidth=0, zorder=0)
    style.note(axes, 0, "the window", style.MUTED)
    for y, (_, mine) in enumerate(rows):
        for event in mine:
            _bar(axes, y, event, end - start)
    axes.set_ylim(len(rows) - 0.5, -0.95)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    for label, (name, _) in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_color(style.host_colour(data.hosts, name) if name in data.hosts else style.INK)
    axes.grid(visible=False)
    _time_axis(axes, data, start, end)
    _legend(drawn, {event.kind for _, mine in rows for event in mine if event.kind != "stage"}, events)
    left_out = sum(bool(mine) for mine in by_host.values()) - len(hosts)
    return [
        finish(
            drawn,
            run,
            name="timeline",
            title=_title(stages, events),
            subtitle=f"{fmt.plural(len(events), 'event')}; 0 is the start of the window, {fmt.moment(data.origin)}",
            caption="Times of hosts are in the controller's clock."
            + (f" {left_out} hosts without a failure are left out; the data has all." if left_out > 0 else ""),
            alt=f"Gantt chart of stages and events. {_title(stages, events)}.",
            data={
                "start_s": [e.start for e in events],
                "end_s": [e.end for e in events],
                "host": [e.host for e in events],
                "kind": [e.kind for e in events],
                "name": [e.name for e in events],
                "status": [e.status for e in events],
                "detail": [e.detail for e in events],
            },
        )
    ]


def _from_stages(data: RunData) -> list[Event]:
    """Where there is no timeline, run.json still knows the stages."""
    found = []
    for stage in data.record.stages:
        start = (stage.start - data.origin).total_seconds()
        end = (stage.end - data.origin).total_seconds() if stage.end else None
        found.append(Event(start, end, "", "stage", stage.name, stage.outcome, stage.detail))
    return found


def _chosen(by_host: dict[str, list[Event]]) -> list[str]:
    """Return the hosts to draw: all, or of many those where something failed, and then the slowest."""
    if len(by_host) <= MOST_ROWS:
        return list(by_host)

    def weight(host: str) -> tuple[int, float]:
        mine = by_host[host]
        failures = sum(event.kind == "fault" or event.status in FAILED for event in mine)
        return failures, sum((event.end or event.start) - event.start for event in mine)

    chosen = sorted(by_host, key=weight, reverse=True)[:MOST_ROWS]
    return [host for host in by_host if host in chosen]


def _bar(axes: Any, y: int, event: Event, length: float) -> None:
    failed = event.status in FAILED or event.status == "interrupted"
    colour = style.ALARM if failed else COLOURS.get(event.kind, COLOURS["note"])
    end = event.end if event.end is not None else event.start
    if end - event.start < length / 900:
        axes.plot([event.start], [y], marker="D", markersize=4, color=colour, zorder=4)
        return
    axes.barh(
        y,
        end - event.start,
        left=event.start,
        height=0.62,
        color=colour,
        linewidth=0.6,
        edgecolor=style.PAPER,
        zorder=3,
    )
    text = event.name if event.kind in ("stage", "workload", "fault", "warmup") else ""
    room = (end - event.start) / length * (style.WIDTH_IN - 1.3) * 72
    if text and room > 5.6 * len(text) + 6:
        dark = event.kind in ("warmup", "launch", "gap") and not failed
        axes.annotate(
            text,
            (event.start, y),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            zorder=5,
            color="#1b1b1b" if dark else "#ffffff",
            annotation_clip=True,
        )


def _time_axis(axes: Any, data: RunData, start: float, end: float) -> None:
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    room = (end - start) * 0.005
    axes.set_xlim(start - room, end + room)
    axes.xaxis.set_major_locator(MultipleLocator(style.time_step(end - start)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}".replace("-", "−")))
    axes.set_xlabel("seconds since the start of the window", loc="left")


def _legend(drawn: Any, kinds: set[str], events: list[Event]) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color=colour, label=kind) for kind, colour in COLOURS.items() if kind in kinds]
    if any(event.status in FAILED for event in events):
        handles.append(Patch(color=style.ALARM, label="failed"))
    if handles:
        height = drawn.get_size_inches()[1]
        drawn.legend(
            handles=handles,
            loc="lower right",
            bbox_to_anchor=(1 - 0.2 / style.WIDTH_IN, 0.03 / height),
            ncols=len(handles),
            handlelength=1,
            handleheight=0.9,
            columnspacing=1.3,
        )


def _title(stages: list[Event], events: list[Event]) -> str:
    failed = [event for event in events if event.status in FAILED and event.kind != "stage"]
    if failed:
        first = failed[0]
        where = f" on {first.host}" if first.host else ""
        return f"{fmt.plural(len(failed), 'event')} failed, the first {first.name}{where} at {first.start:,.0f} s"
    ended = [stage for stage in stages if stage.end is not None]
    longest = max(ended, key=lambda stage: (stage.end or 0.0) - stage.start, default=None)
    if longest is None or longest.end is None:
        return "Stages and events of the run"
    before = [stage for stage in ended if stage.name == "deploy"]
    deploy = f"; the deployment took {fmt.duration((before[0].end or 0.0) - before[0].start)}" if before else ""
    return f"The stage “{longest.name}” took longest, {fmt.duration(longest.end - longest.start)}{deploy}"
