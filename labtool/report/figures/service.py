"""What the service says of itself: a small panel per metric that moves, a line per host."""

from __future__ import annotations

import numpy as np

from labtool.analysis import format as fmt
from labtool.analysis.analyse import Analysis
from labtool.analysis.data import Labelled, RunData
from labtool.analysis.webserver import of_a_pool
from labtool.dataset import trace
from labtool.dataset.run import RunDirectory
from labtool.report import small
from labtool.report.figure import Figure, finish
from labtool.report.figures.latency import REQUEST_TIME


def metrics(data: RunData) -> dict[tuple[str, str], list[Labelled]]:
    """Return the service's series by (service, metric), in the order of their names."""
    found: dict[tuple[str, str], list[Labelled]] = {}
    for one in data.service:
        if len(one.series):
            found.setdefault((one.source, one.metric), []).append(one)
    return dict(sorted(found.items()))


def moves(series: list[Labelled]) -> bool:
    """Return True if a metric changes on some host."""
    found = [values for one in series if len(values := one.series.v[np.isfinite(one.series.v)])]
    return any(float(np.ptp(values)) > 1e-9 * max(1.0, float(np.abs(values).max())) for values in found)


def worth_drawing(key: tuple[str, str], everything: dict[tuple[str, str], list[Labelled]]) -> bool:
    """Return False for what has a figure of its own, and for what a rate of the same name says better."""
    service, metric = key
    name, _, attribute = metric.rpartition(".")
    if REQUEST_TIME.fullmatch(metric) or of_a_pool(service, metric) or service == trace.SERVICE:
        return False
    return attribute not in ("Count", "CollectionTime", "OneMinuteRate") or (service, f"{name}.Rate") not in everything


def draw(data: RunData, analysis: Analysis, run: RunDirectory) -> list[Figure]:
    """Draw the metrics that move and are not drawn as request times; the rest is in the table."""
    everything = metrics(data)
    moving = {key: s for key, s in everything.items() if worth_drawing(key, everything) and moves(s)}
    if not moving or data.length_s <= 0:
        return []
    shown = dict(list(moving.items())[: small.MOST])
    drawn, columns = small.draw(data, [(_short(metric), series) for (_, metric), series in shown.items()])
    some = "" if len(moving) <= small.MOST else f"; the first {small.MOST} of {len(moving)}"
    services = fmt.listed(sorted({service for service, _ in shown}))
    idle = _steady(everything)
    title = f"{fmt.plural(len(moving), 'metric')} of {services} moved{idle}"
    return [
        finish(
            drawn,
            run,
            name="service",
            title=title,
            subtitle=f"By host{some}; the table has all",
            caption="As the service reports them; a metric that never changed is only in the table.",
            alt=f"Small panels of service metrics over time. {title}.",
            data=columns,
        )
    ]


def _short(metric: str) -> str:
    """Leave out what the unit says, and what does not fit."""
    name = metric.replace(".TotalTimeMs.Rate", " requests").removesuffix(".Rate").removesuffix(".Value")
    text = name.replace("OneMinuteRate", "1-minute mean").replace(".", " ")
    return text if len(text) <= 46 else text[:45] + "…"


def _steady(everything: dict[tuple[str, str], list[Labelled]]) -> str:
    steady = [key[1] for key, series in everything.items() if not moves(series) and worth_drawing(key, everything)]
    return f"; {fmt.listed([_short(m) for m in steady], 2)} never changed" if steady else ""
