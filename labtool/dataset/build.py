"""Make all tables of a run from its raw files: no hosts, no cloud, the same result every time.

Every table is made by itself. What one of them lacks is a `Missing`; it stops neither the table nor the others.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labtool.dataset import clock, cloudwatch, logs, machine, observer, parsers, sysstat, tables
from labtool.dataset.run import Missing, RunDirectory, RunRecord
from labtool.dataset.schema import TABLES
from labtool.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

GAP_SAMPLES = 5
"""This many samples missing in a row are a gap: one or two are a busy host's."""


MONITORING = {
    True: "detailed monitoring has one every minute",
    False: "basic monitoring has one every 5 minutes",
    None: "there is one every minute, or every 5 with basic monitoring",
}
"""How often CloudWatch has a point of a host, by its `detailed_monitoring`."""


@dataclass(frozen=True)
class Gap:
    """A time in which a host recorded nothing."""

    host: str
    start: datetime
    end: datetime

    @property
    def seconds(self) -> float:
        """Its length."""
        return (self.end - self.start).total_seconds()


@dataclass(frozen=True)
class Source:
    """What all tables are made of."""

    directory: RunDirectory
    record: RunRecord
    start: datetime
    end: datetime
    offsets: Mapping[str, Sequence[clock.Offset]]  # by host

    def offset(self, host: str, when: datetime) -> float:
        """Return a host's clock offset in s; 0 where its bound does not exclude that."""
        rows = self.offsets.get(host, ())
        found = clock.offset_at(rows, when)
        bound = min((row.bound_s for row in rows), default=0.0)
        return found if abs(found) > bound else 0.0


def build_tables(
    directory: RunDirectory, *, workload: Path | None = None, stacks: Sequence[Path] = ()
) -> list[Missing]:
    """Replace every table of the run by one made from its files; return what is missing or cannot be trusted.

    `workload` and `stacks` are the files of their parsers (`labtool.dataset.parsers`), where they have one.
    `DataError` only where run.json itself cannot be read. A table that would be empty is removed.
    """
    record = directory.read()
    offsets, missing = clock.read(directory.raw)
    start, end = window(record)
    source = Source(directory, record, start, end, clock.by_host(offsets))
    missing += clock.steps(offsets)
    tables.write(directory.tables, "clock", (asdict(row) for row in offsets))

    gaps, found = _host_metrics(source)
    missing += found
    events, found = _timeline(directory.timeline)
    missing += found
    events += [
        {"start": gap.start, "end": gap.end, "host": gap.host, "kind": "gap", "name": "no host metrics"} for gap in gaps
    ]
    tables.write(directory.tables, "timeline", events, "timeline.jsonl")
    missing += _cloudwatch(source)
    rows, found = observer.rows(directory.logs, directory.raw, start, end)
    missing += found
    tables.write(directory.tables, "observer", rows)
    tables.write(directory.tables, "machine", machine.rows(directory.raw, start, end))
    missing += _logs(source)
    missing += _parsed(source, workload, stacks)
    return missing


def window(record: RunRecord) -> tuple[datetime, datetime]:
    """Return the measured window; of a run that was interrupted, what is known of it."""
    start = record.window_start or record.started
    ends = [record.window_end, record.ended, max((s.end for s in record.stages if s.end), default=None)]
    end = next((one for one in ends if one and one > start), datetime.now(UTC))
    return start, end


def _host_metrics(source: Source) -> tuple[list[Gap], list[Missing]]:
    raw = source.directory.raw / "sysstat"
    hosts = sorted({host.name for host in source.record.hosts} | {path.name for path in _folders(raw)})
    gaps: list[Gap] = []
    missing: list[Missing] = []

    def decode(host: str) -> tuple[str, pa.Table, list[str]]:
        files = sorted((raw / host).glob("sa-*")) if (raw / host).is_dir() else []
        middle = source.start + (source.end - source.start) / 2
        moved = round(source.offset(host, middle))
        ahead = timedelta(seconds=moved)
        rows, problems = sysstat.decode(files, host, source.start + ahead, source.end + ahead)
        return host, sysstat.shift(rows, -moved), problems if files else ["no file of sadc was collected"]

    # Two at a time per processor: sadf runs beside what reads it, and few tables are in memory at once.
    with (
        tables.writer(source.directory.tables, "host_metrics") as append,
        ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool,
    ):
        step = 2 * (os.cpu_count() or 1)
        for first in range(0, len(hosts), step):
            for host, rows, problems in pool.map(decode, hosts[first : first + step]):
                append(rows)
                missing += [Missing(what="host metrics", host=host, why=why) for why in problems]
                if not problems and not rows.num_rows:
                    missing.append(Missing(what="host metrics", host=host, why="no sample lies in the window"))
                found = _gaps(host, rows, source.start, source.end)
                gaps += found
                missing += [
                    Missing(
                        what="host metrics",
                        host=host,
                        why=f"nothing was recorded for {gap.seconds:.0f} s from {gap.start:%H:%M:%S} UTC",
                    )
                    for gap in found
                ]
    return gaps, missing


def _gaps(host: str, rows: pa.Table, start: datetime, end: datetime) -> list[Gap]:
    """Return the times between samples that are much longer than usual, at the window's edges too."""
    import numpy as np
    import pyarrow.compute as pc

    if not rows.num_rows:
        return []
    every = np.unique(rows.filter(pc.equal(rows["resource"], "load"))["time"].to_numpy()).astype("datetime64[us]")
    if not len(every):
        return []
    seen = [moment.item().replace(tzinfo=UTC) for moment in every]
    usual = float(np.median(np.diff(every) / np.timedelta64(1, "s"))) if len(every) > 1 else 1.0
    limit = GAP_SAMPLES * max(usual, 1.0)
    return [
        Gap(host, before, after)
        for before, after in pairwise([start, *seen, end])
        if (after - before).total_seconds() > limit
    ]


def _timeline(file: Path) -> tuple[list[dict[str, Any]], list[Missing]]:
    if not file.is_file():
        return [], []
    known = {column.name for column in TABLES["timeline"]}
    rows: list[dict[str, Any]] = []
    bad: list[str] = []
    for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1):
        try:
            found = json.loads(line)
            row = {key: value for key, value in found.items() if key in known}
            # Like a table's own check, but line by line: one that was cut must not take the others with it.
            if tables.instant(row.get("start")) is None:
                raise ValueError("it has no start")
            tables.instant(row.get("end"))
            if wrong := next((key for key in known - {"start", "end"} if not isinstance(row.get(key, ""), str)), None):
                raise ValueError(f"{wrong} is no text")
            rows.append(row)
        except (ValueError, TypeError, AttributeError) as error:
            bad.append(f"line {number}: {error}")
    if not bad:
        return rows, []
    return rows, [Missing(what="events", why=f"{len(bad)} lines of {file.name} cannot be read; {bad[0]}")]


def _cloudwatch(source: Source) -> list[Missing]:
    found, missing = cloudwatch.table(source.directory.raw, source.start, source.end)
    tables.write(source.directory.tables, "cloudwatch", found)
    if (source.directory.raw / cloudwatch.FOLDER).is_dir():
        seen = set(found["host"].unique().to_pylist())
        missing += [
            Missing(
                what="CloudWatch metrics",
                host=host.name,
                why=f"no point lies in the window: {MONITORING[host.detailed_monitoring]}, and points take minutes",
            )
            for host in source.record.hosts
            if host.name not in seen
        ]
    return missing


def _logs(source: Source) -> list[Missing]:
    middle = source.start + (source.end - source.start) / 2
    ahead = {host: source.offset(host, middle) for host in source.offsets}
    files, messages, missing = logs.rows(source.directory.logs, source.start, source.end, ahead)
    tables.write(source.directory.tables, "logs", files)
    tables.write(source.directory.tables, "log_messages", messages)
    return missing


def _parsed(source: Source, workload: Path | None, stacks: Sequence[Path]) -> list[Missing]:
    """Make the tables of the workload's and the stacks' parsers."""
    directory = source.directory
    calls: list[tuple[Path, Callable[[], parsers.Tables]]] = []
    if workload:
        run = source.record.data()
        calls.append((workload, lambda: parsers.workload(workload, directory.raw, run)))
    calls += [(stack, partial(parsers.stack, stack, directory.logs)) for stack in stacks]
    made: dict[str, list[pa.Table]] = {name: [] for name in parsers.PRODUCED}
    missing: list[Missing] = []
    for file, call in calls:
        try:
            for name, found in call().items():
                made[name].append(_in_our_clock(name, found, source, str(file)))
        except DataError as error:
            missing.append(Missing(what=f"what {file.name} makes", why=error.message))
    for name, pieces in made.items():
        with tables.writer(directory.tables, name) as append:
            for piece in pieces:
                append(piece)
    told = made["workload_intervals"] + made["spark_tasks"]
    if source.record.workload and not any(piece.num_rows for piece in told):
        missing.append(Missing(what="workload_intervals", why="the workload's output says nothing over time"))
    return missing


def _in_our_clock(name: str, found: parsers.Rows | pa.Table, source: Source, file: str) -> pa.Table:
    """Return what a parser made as table `name`, its times moved from its hosts' clocks to the controller's."""
    import pyarrow as pa

    if isinstance(found, pa.Table):
        return _shifted(tables.checked(name, found, file), source)
    return tables.to_arrow(name, _moved(name, found, source), file)


_WHOSE = ("driver", "host", "client")
"""Columns that say whose clock a row's times are of, the first one that is there."""


def _shifted(table: pa.Table, source: Source) -> pa.Table:
    """Move the times of a whole table, host by host, each by its offset in the middle of the window."""
    import pyarrow as pa
    import pyarrow.compute as pc

    middle = source.start + (source.end - source.start) / 2
    known = {host: moved for host in source.offsets if (moved := round(source.offset(host, middle) * 1e6))}
    column = next((name for name in _WHOSE if name in table.column_names), None)
    if not known or column is None:
        return table
    names = pc.list_element(pc.split_pattern(pc.fill_null(table[column], ""), "/", max_splits=1), 0)
    ahead = pa.chunked_array([[known.get(name, 0) for name in names.unique().to_pylist()]], pa.duration("us")).take(
        pc.index_in(names, names.unique())
    )
    for number, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            table = table.set_column(number, field, pc.subtract(table[field.name], ahead))
    return table


def _moved(name: str, rows: Iterable[dict[str, Any]], source: Source) -> Iterator[dict[str, Any]]:
    """Move a parser's times from its host's clock to the controller's."""
    times = [column.name for column in TABLES[name] if column.type == "timestamp"]
    for row in rows:
        host = str(next((row[name] for name in _WHOSE if row.get(name)), "")).split("/", 1)[0]
        if host not in source.offsets:
            yield row
            continue
        moved = dict(row)
        for column in times:
            try:
                when = tables.instant(row.get(column))
            except (TypeError, ValueError):
                continue  # said where the table is made, with the row's number
            if when:
                moved[column] = when - timedelta(seconds=source.offset(host, when))
        yield moved


def _folders(path: Path) -> list[Path]:
    return [one for one in path.iterdir() if one.is_dir() and not one.name.startswith(".")] if path.is_dir() else []
