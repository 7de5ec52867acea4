#!/usr/bin/env python3
"""Make a trace ready to be replayed: read it, sort it by time, and divide it among the clients that replay it.

    trace_prepare.py TRACE OUT --hosts 2 --clients 4 --speed 50 --template decision.json

OUT/parts/<host>/client-<n>.trace.gz gets a client's lines: when each is due in µs after the start, its number, and the
line as it stands in the trace. OUT/trace.json says what was found. Memory is bounded however long the trace is. Needs
only Python's own library (3.11).
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import IO, Any
from zlib import crc32

sys.path.insert(0, str(Path(__file__).resolve().parent))

import trace_template
from trace_lines import SHOWN, Broken, Layout, TraceError, clock, examine, splitter, times
from trace_sort import Line, Order, in_order

BUFFER = 1 << 16  # characters of a part that are compressed at once


@dataclass(frozen=True)
class Asked:
    """What of a trace is replayed, and how fast."""

    speed: Fraction | None = Fraction(1)  # None: as fast as the clients can
    key: str = ""  # the column whose values stay on one client each; '' deals lines out in turn
    limit: int | None = None
    begin: str = ""  # a time as the trace writes it, or +seconds after its first line
    end: str = ""
    duration_s: float | None = None  # what is due later is left out
    skip_bad: bool = False
    cost: str = ""  # a column that is summed for each second of the replay


@dataclass
class Prepared:
    """What was found, and what is replayed."""

    layout: Layout
    order: Order = field(default_factory=Order)
    broken: Broken = field(default_factory=Broken)
    replayed: int = 0
    cut: int = 0  # lines that are due after the run's end
    lasts_s: float = 0.0  # when the last line that is replayed is due
    parts: list[int] = field(default_factory=list)  # lines of each client
    cost: dict[str, list[float]] = field(default_factory=dict)  # by variant, in each second of the replay


def prepare(file: Path, out: list[Path], asked: Asked, layout: Layout, template: trace_template.Template) -> Prepared:
    """Write a trace's lines to the files `out`, by time; `TraceError` where broken lines may not be left out."""
    done = Prepared(layout, parts=[0] * len(out))
    cost = layout.index(asked.cost) if asked.cost else None
    source = times(file, layout, done.broken, _checks(template, cost))
    ordered = in_order(source, done.order, out[0].parent)
    first = next(ordered, None)  # all lines have been read
    if done.broken.count and not asked.skip_bad:
        raise TraceError(_refusal(file, done))
    if first is None:
        raise TraceError(f"{file}: none of its lines can be read: {'; '.join(done.broken.first)}")
    divide, key = splitter(layout.delimiter), layout.index(asked.key) if asked.key else None
    number_of_parts = len(out)
    with ExitStack() as files:
        parts = [files.enter_context(_Part(path)) for path in out]
        for turn, (due_us, number, text) in enumerate(_chosen(first, ordered, asked, done)):
            cells = divide(text) if key is not None or cost is not None else []
            part = crc32(cells[key].encode()) % number_of_parts if key is not None else turn % number_of_parts
            parts[part].add(f"{due_us}\t{number}\t{text}\n")
            done.replayed, done.lasts_s = turn + 1, due_us / 1e6
            if cost is not None:
                _add(done.cost.setdefault(template.variant(number, cells), []), due_us // 10**6, float(cells[cost]))
    done.parts = [part.lines for part in parts]
    if not done.replayed:
        raise TraceError(
            f"{file} has no line between --from and --until: its times are {done.order.first} to {done.order.last} ns"
        )
    return done


def _checks(template: trace_template.Template, cost: int | None) -> Callable[[list[str]], str]:
    """Return what tells what is wrong with a line besides its time."""
    if cost is None:
        return template.fault

    def check(cells: list[str]) -> str:
        try:
            return template.fault(cells) if math.isfinite(float(cells[cost])) else f"{cells[cost]!r} is no cost"
        except ValueError:
            return f"{cells[cost][:40]!r} is no number (--cost)"

    return check


def _add(sums: list[float], second: int, value: float) -> None:
    sums.extend([0.0] * (second + 1 - len(sums)))
    sums[second] += value


def _chosen(first: Line, rest: Iterator[Line], asked: Asked, done: Prepared) -> Iterator[tuple[int, int, str]]:
    """Yield (µs after the start when it is due, number, line) of what is asked for."""
    begin = _moment("--from", asked.begin, done)
    end = _moment("--until", asked.end, done)
    last_us = None if asked.duration_s is None else round(asked.duration_s * 1e6)
    # Whole numbers: a year at a speed of 1/3 is exact to the microsecond.
    up, down = (asked.speed.denominator, asked.speed.numerator * 1000) if asked.speed else (0, 1)
    start: int | None = None
    left = asked.limit
    for at, number, text in itertools.chain([first], rest):
        if begin is not None and at < begin:
            continue
        if (end is not None and at >= end) or left == 0:
            return
        left = None if left is None else left - 1
        start = at if start is None else start
        due_us = (at - start) * up // down
        if last_us is not None and due_us >= last_us:
            done.cut += 1
        else:
            yield due_us, number, text


def _moment(option: str, given: str, done: Prepared) -> int | None:
    """Return a time in ns; `TraceError` for what is neither a time as the trace has nor seconds after its start."""
    if not given:
        return None
    try:
        return done.order.first + clock("s")(given[1:]) if given[0] == "+" else clock(done.layout.unit)(given)
    except ValueError:
        raise TraceError(
            f"{option}: {given!r} is no time as the trace has ({done.layout.unit}), nor +SECONDS after its first line"
        ) from None


class _Part:
    """A client's share."""

    def __init__(self, path: Path) -> None:
        self.lines = 0
        self._file: IO[bytes] = gzip.open(path, "wb", compresslevel=1)  # type: ignore[assignment]  # noqa: SIM115
        self._text: list[str] = []
        self._held = 0

    def __enter__(self) -> _Part:
        return self

    def add(self, text: str) -> None:
        self.lines += 1
        self._text.append(text)
        self._held += len(text)
        if self._held >= BUFFER:
            self._write()

    def _write(self) -> None:
        self._file.write("".join(self._text).encode())
        self._text, self._held = [], 0

    def __exit__(self, *_: object) -> None:
        self._write()
        self._file.close()


def _refusal(file: Path, done: Prepared) -> str:
    whole = done.order.lines + done.broken.count
    more = f"\n  … and {done.broken.count - SHOWN:,} more" if done.broken.count > SHOWN else ""
    return (
        f"{done.broken.count:,} of {whole:,} lines of {file} are broken; `--skip-bad` leaves them out:\n  "
        + "\n  ".join(done.broken.first)
        + more
    )


def sentences(file: Path, asked: Asked, done: Prepared) -> list[str]:
    """Say what was found and what is replayed, for people."""
    layout, order = done.layout, done.order
    name = {"\t": "tabs", " ": "spaces"}.get(layout.delimiter, repr(layout.delimiter))
    column = f"{layout.names[layout.time]!r}" if layout.names else str(layout.time + 1)
    said = [
        f"{file.name}: {order.lines:,} lines of {layout.width} fields between {name}, "
        f"{'with' if layout.names else 'without'} a header",
        f"times are in column {column}, as {layout.unit} ({layout.unit_from})",
        f"{order.out_of_order:,} lines were earlier than the line before: sorted by value"
        if order.out_of_order
        else "it was sorted by time",
    ]
    if done.broken.count:
        said.append(f"{done.broken.count:,} broken lines are left out: " + "; ".join(done.broken.first))
    length_s = (order.last - order.first) / 1e9
    pace = "as fast as the clients can" if asked.speed is None else f"at ×{float(asked.speed):g}"
    said.append(
        f"{done.replayed:,} lines are replayed {pace}"
        + (f", for {done.lasts_s:,.1f} s" if asked.speed is not None else "")
        + f"; the whole trace is {length_s:,.1f} s long"
    )
    if done.cut:
        said.append(f"{done.cut:,} lines are due after the run's end and left out")
    return said


def speed(given: str) -> Fraction | None:
    """Read a speed: a number above 0, or `max` (None)."""
    if given == "max":
        return None
    try:
        value = Fraction(given)
    except (ValueError, ZeroDivisionError):
        value = Fraction(0)
    if value <= 0:
        raise TraceError(f"--speed: {given!r} is neither a number above 0 (50 is fifty times as fast) nor max")
    return value


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--time", default="auto", help="column of the times: name or number")
    parser.add_argument("--unit", default="auto", help="auto, s, ms, us, ns, iso, or a format of strptime")
    parser.add_argument("--delimiter", default="auto", help="auto, tab, comma, semicolon, pipe, space or a character")
    parser.add_argument("--header", default="auto", choices=("auto", "yes", "no"))
    parser.add_argument("--skip-bad", action="store_true", help="leave broken lines out")
    parser.add_argument("--speed", default="1", help="50 is fifty times as fast; max is as fast as the clients can")
    parser.add_argument("--limit", type=int, help="lines, from the first on by time")
    parser.add_argument("--from", dest="begin", default="", help="a time as the trace has, or +SECONDS")
    parser.add_argument("--until", dest="end", default="", help="likewise; that moment is not in it")
    parser.add_argument("--duration", type=float, help="of the run in s: what is due later is left out")
    parser.add_argument("--hosts", type=int, default=1)
    parser.add_argument("--clients", type=int, default=1, help="on each host")
    parser.add_argument("--key", default="", help="column whose values stay on one client each")
    parser.add_argument("--cost", default="", help="column that is summed for each second of the replay")
    parser.add_argument("--template", type=Path, help="how a line becomes a request")
    parser.add_argument("--kind", default="requests", choices=("requests", "messages"), help="what a line becomes")
    return parser.parse_args(given)


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Prepare what the command line asks for, and return what `trace.json` says."""
    asked = Asked(
        speed=speed(given.speed),
        key=given.key,
        limit=given.limit,
        begin=given.begin,
        end=given.end,
        duration_s=given.duration,
        skip_bad=given.skip_bad,
        cost=given.cost,
    )
    if asked.cost and asked.speed is None:
        raise TraceError("--cost is of each second of the trace's time, and --speed max has none: give a number")
    layout = examine(given.trace, delimiter=given.delimiter, header=given.header, time=given.time, unit=given.unit)
    template = trace_template.of(given.template, layout, given.kind)
    out = []
    for host in range(given.hosts):
        folder = given.out / "parts" / str(host)
        folder.mkdir(parents=True, exist_ok=True)
        out += [folder / f"client-{number + 1}.trace.gz" for number in range(given.clients)]
    done = prepare(given.trace, out, asked, layout, template)
    found = {
        "trace": given.trace.name,
        "speed": "max" if asked.speed is None else float(asked.speed),
        **asdict(done),
        "said": sentences(given.trace, asked, done),
    }
    (given.out / "trace.json").write_text(json.dumps(found, indent=2) + "\n")
    return found


def main() -> int:
    """Prepare, and say what was found."""
    try:
        found = run(arguments())
    except TraceError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"the trace's parts cannot be written: {error}", file=sys.stderr)
        return 1
    print("\n".join(found["said"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
