"""How results are printed: tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any


def data(value: Any) -> None:
    """Print `value` as JSON."""
    print(json.dumps(value, indent=2, default=str))


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under a header, columns as wide as they need to be."""
    lines = [list(header), *[["" if cell is None else str(cell) for cell in row] for row in rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    for number, line in enumerate(lines):
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        print(f"\033[1m{text}\033[0m" if number == 0 and sys.stdout.isatty() else text)


def duration(span: timedelta) -> str:
    """Write a span as people say it: 45 s, 12 min, 3 h 20 min, 2 d 4 h."""
    seconds = int(span.total_seconds())
    if seconds < 0:
        return "over"
    if seconds < 60:
        return f"{seconds} s"
    minutes = seconds // 60
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def ago(moment: datetime) -> str:
    """Write how long ago `moment` was."""
    return duration(datetime.now(UTC) - moment)


def left(moment: datetime | None) -> str:
    """Write how long it is until `moment`."""
    return "never" if moment is None else duration(moment - datetime.now(UTC))
