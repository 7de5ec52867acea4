"""Many hosts in one panel: the median, the middle half and the range over hosts, and by name those that stand apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from labtool.analysis.data import Floats, RunData, Series
from labtool.analysis.statistics import bin_width, bins, mean
from labtool.report import style

STEPS = 200
OUTLIERS = 3
FEWEST = 5


@dataclass(frozen=True)
class Bands:
    """What was drawn: quantiles over hosts (lowest, 25 %, median, 75 %, highest) at each step, and the outliers."""

    centre: Floats
    width: float
    quantiles: Floats  # 5 × steps
    outliers: tuple[str, ...]
    labels: tuple[tuple[float, str, str], ...]


def draw(axes: Any, data: RunData, series: Mapping[str, Series], colours: dict[str, str]) -> Bands:
    """Draw the bands of a signal over hosts; `colours` keeps the colour of an outlier from one panel to the next."""
    step = max((one.step for one in series.values()), default=1.0)
    width = bin_width(data.length_s, step, STEPS)
    means = {host: bins(one, 0.0, data.length_s, width).mean for host, one in series.items()}
    centre = bins(next(iter(series.values())), 0.0, data.length_s, width).centre
    stacked = np.array(list(means.values()))
    known = np.isfinite(stacked).any(axis=0)
    quantiles = np.full((5, len(centre)), np.nan)
    quantiles[:, known] = np.nanquantile(stacked[:, known], (0, 0.25, 0.5, 0.75, 1), axis=0)
    axes.fill_between(centre, quantiles[0], quantiles[4], color=style.MUTED, alpha=0.14, linewidth=0)
    axes.fill_between(centre, quantiles[1], quantiles[3], color=style.MUTED, alpha=0.30, linewidth=0)
    axes.plot(centre, quantiles[2], color=style.INK, linewidth=1.5)
    labels = [(_last(quantiles[2]), "median", style.INK)]
    apart = outliers(data, series)
    for host in apart:
        colour = colours.setdefault(host, style.HOST_COLOURS[len(colours) % len(style.HOST_COLOURS)])
        axes.plot(centre, means[host], color=colour, linewidth=1.2)
        labels.append((_last(means[host]), host, colour))
    return Bands(centre, width, quantiles, tuple(apart), tuple(labels))


def _last(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known[-1]) if len(known) else 0.0


def outliers(data: RunData, series: Mapping[str, Series]) -> list[str]:
    """Return the hosts whose mean stands apart by Tukey's fences, the furthest first, at most three.

    Further from the middle half than 1.5 times its width (Tukey, Exploratory Data Analysis, 1977), and a tenth away
    from the median, since hosts that are all but equal have fences that mean nothing.
    """
    means = {host: value for host, one in series.items() if (value := mean(one.between(*data.measured).v)) is not None}
    if len(means) < FEWEST:
        return []
    low, median, high = np.quantile(list(means.values()), (0.25, 0.5, 0.75))
    fence = 1.5 * (high - low)
    apart = {
        host: abs(value - median)
        for host, value in means.items()
        if (value > high + fence or value < low - fence) and abs(value - median) > 0.1 * abs(median)
    }
    return sorted(apart, key=lambda host: -apart[host])[:OUTLIERS]
