"""Small multiples of hosts: a column per host, at most four in a figure, all figures of the same scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from labtool.report import style
from labtool.report.figure import grid, sheet

AT_ONCE = 4
ROW_IN = 1.18
_LEFT_IN = 1.0
_RIGHT_IN = 0.2
_ACROSS_IN = 0.16


def chunks(hosts: Sequence[str]) -> list[list[str]]:
    """Split hosts into figures of at most four columns, as even as can be."""
    amount = -(-len(hosts) // AT_ONCE)
    size, larger = divmod(len(hosts), max(amount, 1))
    found, at = [], 0
    for number in range(amount):
        end = at + size + (number < larger)
        found.append(list(hosts[at:end]))
        at = end
    return found


def panels(rows: int, hosts: Sequence[str], *, alone: bool) -> tuple[Any, Any]:
    """Return a figure and its axes (rows × hosts) with shared scales.

    Where the figure is not `alone` its columns are as wide as those of the others, whose hosts may be more.
    """
    column = (style.WIDTH_IN - _LEFT_IN - _RIGHT_IN - _ACROSS_IN * (AT_ONCE - 1)) / AT_ONCE
    spare = 0.0 if alone else (AT_ONCE - len(hosts)) * (column + _ACROSS_IN)
    drawn = sheet(ROW_IN * rows + 0.75)
    places = grid(
        drawn,
        rows,
        len(hosts),
        left=_LEFT_IN,
        right=_RIGHT_IN + spare,
        top=0.3,
        across=_ACROSS_IN,
        down=0.16,
        sharex=True,
        sharey="row",
    )
    places[-1][0].set_xlabel("seconds since the start of the window", loc="left")
    return drawn, places


def name_columns(places: Any, data_hosts: Sequence[str], hosts: Sequence[str]) -> None:
    """Write every host's name over its column, in its colour."""
    for axes, host in zip(places[0], hosts, strict=True):
        colour = style.host_colour(data_hosts, host)
        axes.set_title(host, loc="left", color=colour, fontweight="bold", fontsize=10, pad=5)
