"""The report's tables of what services logged: their files, and the warnings and errors of the window."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from urllib.parse import quote

from labtool.analysis import format as fmt
from labtool.analysis.data import LogFile, RunData
from labtool.report.tables import Cell, Table, amount, tabled

MOST_FILES = 200
MOST_MESSAGES = 8
"""So many of each service are shown, errors before warnings; the table `log_messages` has more."""


def messages(data: RunData) -> Table | None:
    """The first distinct errors and warnings of every service, over all its hosts."""
    rows = []
    for service, mine in groupby(data.messages, key=lambda one: one.service):
        merged: dict[tuple[str, str], list[tuple[float | None, str, int]]] = {}
        for one in mine:  # errors first, and those by their time
            merged.setdefault((one.level, one.message), []).append((one.first, one.host, one.times))
        for (level, message), found in list(merged.items())[:MOST_MESSAGES]:
            first, host, _ = found[0]
            others = sorted({host for _, host, _ in found} - {host})
            where = f"{host} and {fmt.plural(len(others), 'other')}" if others else host
            rows.append(
                (
                    Cell(service),
                    Cell(level, tone="problem" if level == "error" else "warning"),
                    amount(first, fmt.UNKNOWN if first is None else f"{first:,.0f} s".replace("-", "−")),
                    Cell(where, title=", ".join(others)),
                    Cell(f"{sum(times for *_, times in found):,}", sum(times for *_, times in found)),
                    Cell(message),
                )
            )
    columns = ("service", "level", "first at", "host", "times", "message")
    caption = f"The first errors and warnings of the window, of each service {MOST_MESSAGES} at most"
    return tabled("log-messages", caption, columns, rows, (2, 4)) if rows else None


def files(data: RunData) -> tuple[Table, ...]:
    """Every service's log files, those with most errors first: one table a service."""
    found = []
    for service, mine in groupby(data.logs, key=lambda one: one.service):
        logs = sorted(mine, key=lambda one: (-(one.errors or 0), -(one.warnings or 0)))
        count, total = fmt.plural(len(logs), "log"), fmt.size(sum(one.bytes or 0.0 for one in logs))
        told = [
            f"{fmt.plural(n, what)}"
            for what, n in (
                ("error", sum(one.errors or 0 for one in logs)),
                ("warning", sum(one.warnings or 0 for one in logs)),
            )
            if n
        ]
        caption = f"{service}: {count}, {total}; {fmt.listed(told) if told else 'no warning, no error'} in the window"
        caption += f"; the first {MOST_FILES}" if len(logs) > MOST_FILES else ""
        columns = ("host", "log", "size", "lines", "warnings", "errors")
        found.append(tabled(f"logs-{service}", caption, columns, [_row(one) for one in logs[:MOST_FILES]], range(2, 6)))
    return tuple(found)


def _row(one: LogFile) -> tuple[Cell, ...]:
    return (
        Cell(one.host),
        Cell(one.source, href=quote(one.file)),
        amount(one.bytes, fmt.UNKNOWN if one.bytes is None else fmt.size(one.bytes)),
        _number(one.lines),
        _number(one.warnings, "warning"),
        _number(one.errors, "problem"),
    )


def _number(value: int | None, tone: str = "") -> Cell:
    return replace(amount(value, fmt.UNKNOWN if value is None else f"{value:,}"), tone=tone if value else "")
