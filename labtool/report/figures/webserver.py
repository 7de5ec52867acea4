"""The servers of a web run: workers, children and queues over time, and who answered how much."""

from __future__ import annotations

from typing import Any

from labtool.analysis import accesslog
from labtool.analysis import format as fmt
from labtool.analysis.analyse import Analysis
from labtool.analysis.data import RunData
from labtool.analysis.webserver import pools
from labtool.dataset.run import RunDirectory
from labtool.report import small, style
from labtool.report.figure import Figure, finish, grid, sheet

MOST = 40
WORDS = {
    ("haproxy", "queue"): "HAProxy: requests waiting",
    ("httpd", "busy"): "httpd: busy workers",
    ("httpd", "idle"): "httpd: idle workers",
    ("php", "active"): "PHP: active children",
    ("php", "queue"): "PHP: requests waiting",
    ("php", "reached"): "PHP: times at the limit",
}


def draw(data: RunData, analysis: Analysis, run: RunDirectory) -> list[Figure]:
    """Draw what there is of the two."""
    return [*_workers(data, analysis, run), *_backends(data, analysis, run)]


def _workers(data: RunData, analysis: Analysis, run: RunDirectory) -> list[Figure]:
    found = pools(data)
    if not found or data.length_s <= 0:
        return []
    drawn, columns = small.draw(data, [(title, found[key]) for key, title in WORDS.items() if key in found])
    full = [f for f in analysis.findings if f.id in ("server.workers", "server.php", "server.queue")]
    over = [finding.brief for finding in full if finding.severity == "problem"]
    title = f"{fmt.listed(over)} ran full" if over else "Workers and queues had room"
    title = title[0].upper() + title[1:] if not title.startswith(("httpd", "php")) else title
    return [
        finish(
            drawn,
            run,
            name="workers",
            title=title,
            subtitle="In the order a request meets them, by host",
            caption="As the servers' status pages said at the recorder's instants; a queue between them is not seen.",
            alt=f"Small panels of busy workers, active children and queues over time. {title}.",
            data=columns,
        )
    ]


def _backends(data: RunData, analysis: Analysis, run: RunDirectory) -> list[Figure]:
    found = accesslog.shares(data)
    if not found:
        return []
    # Of very many those that are furthest from even are the ones to see.
    even = 1 / len(found)
    shown = sorted(sorted(found, key=lambda one: -abs(one.share - even))[:MOST], key=lambda one: one.name)
    drawn = sheet(0.34 * len(shown) + 0.95)
    axes = grid(drawn, left=min(0.4 + 0.085 * max(len(one.name) for one in shown), 3.0), right=2.3)[0][0]
    for y, one in enumerate(shown):
        colour = style.host_colour(data.hosts, one.name) if one.name in data.hosts else style.LOAD
        axes.barh(y, one.share, height=0.6, color=colour, alpha=0.75, linewidth=0)
        axes.plot([one.share - one.half, one.share + one.half], [y, y], color=style.INK, linewidth=1.4)
        tail = f", p99 {fmt.milliseconds(one.p99 * 1000)}" if one.p99 is not None else ""
        text = f"{fmt.percent(one.share, 1)}{tail}"
        axes.annotate(
            text, (1, y), xycoords=("axes fraction", "data"), xytext=(6, 0), textcoords="offset points", va="center"
        )
    axes.axvline(even, color=style.INK, linewidth=1.1, linestyle=style.LINES[1])
    axes.annotate(
        "even", (even, 1), xycoords=("data", "axes fraction"), xytext=(3, -1), textcoords="offset points", va="bottom"
    )
    axes.set_yticks(range(len(shown)), [one.name for one in shown])
    axes.set_ylim(len(shown) - 0.5, -0.6)
    axes.grid(visible=False, axis="y")
    _share_axis(axes, max(even, *(one.share + one.half for one in shown)) * 1.08)
    axes.set_xlabel("share of the counted requests", loc="left")
    finding = next((f for f in analysis.findings if f.id == "server.backends"), None)
    least, most = min(found, key=lambda one: one.share), max(found, key=lambda one: one.share)
    verb = "shared the requests evenly" if finding and finding.severity == "ok" else "did not share the requests evenly"
    what = "servers" if data.access and data.access.service == "haproxy" else "fronts"
    title = f"{len(found)} {what} {verb}: {accesslog.between(least, most)}"
    return [
        finish(
            drawn,
            run,
            name="backends",
            title=title,
            subtitle=f"Requests by who answered them, from the log of {data.access.service if data.access else ''}, "
            "without the warm-up",
            caption=(
                "Lines are 95 % intervals, as if each request chose its server by lot; p99 is the duration in the log."
                + (f" The {MOST} furthest from even of {len(found)}." if len(found) > len(shown) else "")
            ),
            alt=f"Bars of the share of requests that each server answered. {title}.",
            data={
                "name": [one.name for one in found],
                "requests": [one.requests for one in found],
                "share": [one.share for one in found],
                "half_width": [one.half for one in found],
                "p50_s": [one.p50 for one in found],
                "p99_s": [one.p99 for one in found],
            },
        )
    ]


def _share_axis(axes: Any, end: float) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.set_xlim(0, end)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: fmt.percent(x, 0 if end > 0.1 else 1)))
