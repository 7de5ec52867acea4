"""A trace's lines: how they are divided into fields, which field says when, and which lines are broken.

A trace is text, a request a line: CSV, TSV or any other one-character delimiter, with a header or without, also
compressed (.gz, .bz2, .xz). A field in quotes may hold the delimiter, not a line break; where the delimiter is a tab,
quotes are characters like any other. Blank lines are no lines. Times are whole nanoseconds, read exactly: no time goes
through a floating-point number. Needs only Python's own library: it is copied to the load hosts.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import itertools
import lzma
import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import IO

SAMPLE = 1000  # lines that are looked at to find delimiter, header and unit
LATEST = 10**20  # ns before and after 1970: three thousand years, in which every time must be
SHOWN = 10  # broken lines that are shown
DELIMITERS = {"tab": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " ", "\\t": "\t"}
PER_UNIT = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}  # nanoseconds
TIME_NAMES = ("timestamp", "time", "ts", "datetime", "@timestamp", "date", "epoch", "unixtime")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DIGITS = re.compile(r"[+-]?\d+")


class TraceError(Exception):
    """What is wrong with a trace or a template, and the way out, in a sentence."""


@dataclass(frozen=True)
class Layout:
    """How a trace's lines are to be read; plain data, so that it can be handed to the load hosts as JSON."""

    delimiter: str
    width: int  # fields a line has
    names: tuple[str, ...]  # of the columns; () without a header
    time: int  # index of the column that says when
    unit: str  # s, ms, us, ns, iso, or a format of strptime
    unit_from: str = "as given"

    def index(self, column: str) -> int:
        """Return the index of a column by its name, or by its number from 1; `TraceError` names those there are."""
        if column in self.names:
            return self.names.index(column)
        if column.isdecimal() and 1 <= int(column) <= self.width:
            return int(column) - 1
        known = ", ".join(self.names) if self.names else "no names, for want of a header"
        raise TraceError(f"there is no column {column!r}: the trace has {self.width} ({known}); a number counts from 1")


@dataclass
class Broken:
    """The lines that could not be read."""

    count: int = 0
    first: list[str] = field(default_factory=list)  # file:number: why: the line's beginning

    def add(self, file: Path, number: int, why: str, line: str) -> None:
        """Count a line, and keep it if it is one of the first."""
        self.count += 1
        if len(self.first) < SHOWN:
            shown = line if len(line) <= 60 else line[:59] + "…"
            self.first.append(f"{file.name}:{number}: {why}: {shown.encode(errors='backslashreplace').decode()!r}")


def lines(file: Path) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, line without its end) of each line that is not blank.

    What is no UTF-8 stays in the text as surrogates, so that the line can be counted as broken.
    """
    with _text(file) as stream:
        try:
            for number, line in enumerate(stream, 1):
                if (text := line.rstrip("\r\n")) and not text.isspace():
                    yield number, text
        except (OSError, EOFError, lzma.LZMAError) as error:
            raise TraceError(f"{file} cannot be read to its end: {error}") from None


def _text(file: Path) -> IO[str]:
    opener: dict[str, Callable[..., IO[bytes]]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}  # type: ignore[dict-item]
    try:
        binary = opener.get(file.suffix, open)(file, "rb")
    except OSError as error:
        raise TraceError(f"{file} cannot be read: {error.strerror or error}") from None
    return io.TextIOWrapper(binary, encoding="utf-8-sig", errors="surrogateescape", newline="\n")


def splitter(delimiter: str) -> Callable[[str], list[str]]:
    """Return the function that divides a line into fields; it raises `ValueError` where quotes are not closed."""
    if delimiter == "\t":
        return lambda line: line.split("\t")

    def split(line: str) -> list[str]:
        if '"' not in line:
            return line.split(delimiter)
        try:
            return next(csv.reader([line], delimiter=delimiter, strict=True))
        except csv.Error as error:
            raise ValueError(f"its quotes do not pair ({error})") from None

    return split


def clock(unit: str) -> Callable[[str], int]:
    """Return the function that reads a time of `unit` as nanoseconds; it raises `ValueError` where there is none.

    A time without a zone, in ISO 8601 or a format of strptime, is taken for UTC.
    """
    if unit in PER_UNIT:
        return _number_clock(PER_UNIT[unit])
    if unit == "iso":
        return lambda text: _since_epoch(datetime.fromisoformat(text.strip()))
    if "%" in unit:
        return lambda text: _since_epoch(datetime.strptime(text.strip(), unit))
    raise TraceError(f"--unit: {unit!r} is no unit; it is auto, s, ms, us, ns, iso or a format as %d/%b/%Y:%H:%M:%S")


def _number_clock(factor: int) -> Callable[[str], int]:
    places = len(str(factor)) - 1

    def read(text: str) -> int:
        if text.isdecimal():
            return int(text) * factor
        whole, point, rest = text.strip().partition(".")
        if _DIGITS.fullmatch(whole) and (not point or rest.isdecimal()):
            # What is finer than a nanosecond is cut.
            part = int(rest[:places].ljust(places, "0") or 0) if rest else 0
            return int(whole) * factor + (-part if whole[0] == "-" else part)
        try:
            value = Decimal(text.strip())
        except InvalidOperation:
            raise ValueError("no number") from None
        if not value.is_finite() or value.adjusted() > 20:
            raise ValueError("no finite number")
        return int(value * factor)

    return read


def _since_epoch(when: datetime) -> int:
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return (when - EPOCH) // timedelta(microseconds=1) * 1000


def examine(
    file: Path, *, delimiter: str = "auto", header: str = "auto", time: str = "auto", unit: str = "auto"
) -> Layout:
    """Find out how a trace is to be read, from its first lines and what is given; `TraceError` if that cannot be."""
    sample = [line for _, line in itertools.islice(lines(file), SAMPLE)]
    if not sample:
        raise TraceError(f"{file} has no lines")
    divide = splitter(delimiter := _delimiter(delimiter, sample))
    rows = [row for line in sample if (row := _divided(divide, line))]
    width = Counter(map(len, rows[1:] or rows)).most_common(1)[0][0]
    first, rows = rows[0], [row for row in rows if len(row) == width]
    names = tuple(name.strip() for name in first)
    if len(names) != width or header == "no":
        names = ()
    elif header == "auto":
        names = names if _is_header(names, rows, time, unit) else ()
    where = Layout(delimiter, width, names, 0, unit)
    index = _time_column(where) if time == "auto" else where.index(time)
    values = [row[index] for row in rows[1 if names else 0 :]]
    if not values:
        raise TraceError(f"{file} has no line besides its header")
    if unit != "auto":
        clock(unit)
        return Layout(delimiter, width, names, index, unit)
    unit, how = _unit(file, values, names[index] if names else str(index + 1))
    return Layout(delimiter, width, names, index, unit, how)


def _delimiter(given: str, sample: list[str]) -> str:
    if given != "auto":
        found = DELIMITERS.get(given, given)
        if len(found) != 1:
            raise TraceError(f"--delimiter: {given!r} is not one character, nor one of {', '.join(DELIMITERS)}")
        return found

    def agreement(delimiter: str) -> tuple[int, int]:
        """Return how many lines have the same number of fields, and that number."""
        divide = splitter(delimiter)
        widths = Counter(len(row) for line in sample if (row := _divided(divide, line)))
        width, agreed = max(widths.items(), key=lambda item: item[1] * (item[0] > 1), default=(1, 0))
        return (agreed, width) if width > 1 else (0, 1)

    # In the order in which one is preferred when they agree as well: a tab is hardly ever part of a text.
    return max(("\t", ",", ";", "|"), key=agreement)


def _divided(divide: Callable[[str], list[str]], line: str) -> list[str]:
    try:
        return divide(line)
    except ValueError:
        return []


def _is_header(names: tuple[str, ...], rows: list[list[str]], time: str, unit: str) -> bool:
    """True where the first line has a name where the second has a time."""
    if time != "auto" and not time.isdecimal():
        return True
    column = _time_column(Layout("", len(names), names, 0, "")) if time == "auto" else int(time) - 1
    if not 0 <= column < len(names) or len(rows) < 2:
        return False
    reads = [_number_clock(1), clock("iso")] if unit == "auto" else [clock(unit)]
    first, second = (any(_readable(read, row[column]) for read in reads) for row in rows[:2])
    return second and not first


def _time_column(where: Layout) -> int:
    lower = [name.lower() for name in where.names]
    return next((lower.index(name) for name in TIME_NAMES if name in lower), 0)


def _unit(file: Path, values: list[str], column: str) -> tuple[str, str]:
    """Return the unit of times, by their form and magnitude, and how it was found."""
    if numbers := [abs(number) for value in values if (number := _decimal(value)) is not None]:
        middle = float(statistics.median(numbers))
        if middle < 1e8:
            return "s", f"{middle:g} is no time since 1970: taken for seconds since some start"
        unit = next((unit for unit, top in (("s", 1e11), ("ms", 1e14), ("us", 1e17)) if middle < top), "ns")
        year = EPOCH.year + middle * PER_UNIT[unit] / 1e9 / (365.25 * 86400)
        return unit, f"{middle:.0f} as {unit} since 1970 is in {year:.0f}"
    if any(_readable(clock("iso"), value) for value in values):
        return "iso", "as ISO 8601 writes it"
    raise TraceError(
        f"{file}: column {column} has no time that can be told by itself ({values[0]!r}); name the column (--time), "
        "or say how its times are written, as --unit '%d/%b/%Y:%H:%M:%S %z'"
    )


def _decimal(text: str) -> Decimal | None:
    try:
        value = Decimal(text.strip())
    except InvalidOperation:
        return None
    return value if value.is_finite() else None


def _readable(read: Callable[[str], int], text: str) -> bool:
    try:
        read(text)
    except ValueError:
        return False
    return True


def times(
    file: Path, layout: Layout, broken: Broken, check: Callable[[list[str]], str] = lambda _: ""
) -> Iterable[tuple[int, int, str]]:
    """Yield (time in ns, number, line) of each whole line, in the file's order; the others are added to `broken`.

    `check` is given a line's fields and returns what is wrong with them, '' where nothing is.
    """
    divide, read = splitter(layout.delimiter), clock(layout.unit)
    width, column = layout.width, layout.time
    source = lines(file)
    if layout.names:
        next(source, None)
    for number, line in source:
        why = ""
        try:
            cells = divide(line)
            if len(cells) != width:
                why = f"{len(cells)} field{'s' * (len(cells) != 1)}, expected {width}"
            elif not line.isascii() and _spoiled(line):
                why = "it is no UTF-8"
            else:
                try:
                    at = read(cells[column])
                    if not -LATEST < at < LATEST:
                        raise ValueError
                except (ValueError, OverflowError):
                    why = f"{cells[column][:40]!r} is no time in {layout.unit}"
                else:
                    why = check(cells)
        except ValueError as error:
            why = str(error)
        if why:
            broken.add(file, number, why, line)
        else:
            yield at, number, line


def _spoiled(line: str) -> bool:
    try:
        line.encode()
    except UnicodeEncodeError:
        return True
    return False
