"""Numbers and units as people read them: the one place that turns a value into text.

Bytes are decimal (1 MB = 1,000,000 bytes), times of a run are seconds since its window's start. A value that is not
known (None or not a number) is an en dash, never a zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

UNKNOWN = "–"
_DECIMAL = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def known(value: float | None) -> bool:
    """Return True if `value` is a finite number."""
    return value is not None and math.isfinite(value)


def number(value: float | None, digits: int = 3) -> str:
    """Return `value` with at least `digits` significant digits and commas between thousands."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def count(value: float | None) -> str:
    """Return a count: exact below a million, "6.02 million" above."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    for size, word in ((1e9, "billion"), (1e6, "million")):
        if abs(value) >= size:
            return f"{value / size:.3g} {word}"
    return f"{value:,.0f}"


def rate(value: float | None, noun: str) -> str:
    """Return "19,998 records/s"; below 100 with a decimal."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    return f"{value:,.0f} {noun}/s" if abs(value) >= 100 else f"{number(value)} {noun}/s"


def size(value: float | None) -> str:
    """Return bytes in decimal units: "12.3 MB"."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    for factor, prefix in _DECIMAL:
        if abs(value) >= factor * 0.9995:
            return f"{number(value / factor)} {prefix}B"
    return f"{value:,.0f} B"


def size_rate(value: float | None) -> str:
    """Return bytes/s in decimal units: "12.3 MB/s"."""
    text = size(value)
    return text if text == UNKNOWN else text + "/s"


def bits_rate(value: float | None) -> str:
    """Return bits/s in decimal units, as networks are sold: "5 Gbit/s"."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    for factor, prefix in _DECIMAL:
        if abs(value) >= factor * 0.9995:
            return f"{number(value / factor)} {prefix}bit/s"
    return f"{value:,.0f} bit/s"


def percent(ratio: float | None, decimals: int | None = None) -> str:
    """Return a ratio as "83 %": one decimal below 10 %, two below 1 %, unless `decimals` says otherwise."""
    if ratio is None or not math.isfinite(ratio):
        return UNKNOWN
    value = ratio * 100
    if decimals is None:
        magnitude = abs(value)
        decimals = 0 if magnitude >= 9.95 or magnitude == 0 else 1 if magnitude >= 0.95 else 2
    return f"{value:.{decimals}f} %"


def milliseconds(value: float | None) -> str:
    """Return a latency given in ms: "0.42 ms", "12 ms", "1.21 s"."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    return f"{number(value / 1000)} s" if abs(value) >= 1000 else f"{number(value)} ms"


def latency_range(low: float, high: float) -> str:
    """Return two latencies given in ms: "14 to 17 ms", "0.84 to 1.14 s", "2.6 ms to 2 s"; one where they are equal."""
    if low == high:
        return milliseconds(high)
    if low < 100 and high >= 1000:
        return f"{milliseconds(low)} to {milliseconds(high)}"
    return (
        f"{number(low / 1000)} to {number(high / 1000)} s"
        if abs(high) >= 1000
        else f"{number(low)} to {number(high)} ms"
    )


def duration(seconds: float | None) -> str:
    """Return a length of time: "0.8 s", "45 s", "5 min", "1 h 10 min"."""
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    if abs(seconds) < 10:
        return f"{number(round(seconds, 3), 2)} s"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min" + (f" {rest} s" if rest else "")
    hours, minutes = divmod(round(whole / 60), 60)
    return f"{hours} h" + (f" {minutes} min" if minutes else "")


def span(start: float, end: float) -> str:
    """Return a stretch of the window: "120–180 s"."""
    return f"{start:,.0f}–{end:,.0f} s"


def dollars(value: float | None) -> str:
    """Return an amount of US dollars: cents from a dollar up, four decimals below."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    return f"${value:,.2f}" if abs(value) >= 1 or value == 0 else f"${value:.4f}"


def plural(amount: int, noun: str, nouns: str | None = None) -> str:
    """Return "1 host" or "3 hosts"."""
    return f"{amount:,} {noun if amount == 1 else nouns or noun + 's'}"


def listed(items: Sequence[str], most: int = 4) -> str:
    """Return "a, b and c"; beyond `most` the rest is counted: "a, b, c and 9 more"."""
    if not items:
        return "none"
    shown = list(items) if len(items) <= most else [*items[: most - 1], f"{len(items) - most + 1} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def moment(time: datetime) -> str:
    """Return a time of day with its date, UTC: "12 Nov 2025, 07:31:05 UTC"."""
    utc = time.astimezone(UTC)
    return f"{utc.day} {utc:%b %Y, %H:%M:%S} UTC"


def period(start: datetime, end: datetime) -> str:
    """Return "12 Nov 2025, 07:31:00–07:36:00 UTC"; with both dates where they differ."""
    if start.astimezone(UTC).date() != end.astimezone(UTC).date():
        return f"{moment(start)} to {moment(end)}"
    return moment(start).removesuffix(" UTC") + f"–{time_of_day(end)} UTC"


def time_of_day(time: datetime) -> str:
    """Return "07:31:05", UTC."""
    return f"{time.astimezone(UTC):%H:%M:%S}"


def value_with_unit(value: float | None, unit: str) -> str:
    """Return a table's value by the unit of its schema (ratio, bytes, bytes/s, ms, seconds, …)."""
    known_units: dict[str, Callable[[float | None], str]] = {
        "ratio": percent,
        "bytes": size,
        "bytes/s": size_rate,
        "ms": milliseconds,
        "seconds": duration,
        "Percent": lambda v: UNKNOWN if v is None else percent(v / 100),
        "Bytes": size,
    }
    if unit in known_units:
        return known_units[unit](value)
    if value is None or not math.isfinite(value):
        return UNKNOWN
    shown = f"{value:,.0f}" if abs(value) >= 1000 else number(value)
    return shown if unit in ("", "count", "Count", "None") else f"{shown} {unit}"
