"""What web hosts logged and recorded: `access_log` from their logs, `service_metrics` from their numbers.

The roles httpd and haproxy say in their configuration what a line of their log has; files/labtool_web.py of the role
web_service writes the numbers, a row a second. Logs have millions of lines: they are read by Arrow, some MiB at a time.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from labtool.dataset import compressed
from labtool.errors import DataError

PIECE = 16 << 20
CHECK_ID = "labtool-check"  # the X-Request-Id of the roles' own questions
NONE = "-"

HTTPD = {
    "start_us": pa.int64(),
    "duration_us": pa.int64(),
    "status": pa.int64(),
    "bytes": pa.int64(),
    "method": pa.string(),
    "path": pa.string(),
    "request_id": pa.string(),
    "client": pa.string(),
    "handler": pa.string(),
}
HAPROXY = {
    "start_us": pa.int64(),
    "end_us": pa.int64(),
    "accepted_s": pa.float64(),
    "status": pa.int64(),
    "bytes": pa.int64(),
    "method": pa.string(),
    "path": pa.string(),
    "request_id": pa.string(),
    "client": pa.string(),
    "server": pa.string(),
    "ended": pa.string(),
    "timers": pa.string(),
    "queues": pa.string(),
    "retries": pa.string(),
}

COUNTERS = (
    "Requests", "Bytes", "MaxChildrenReached", "SlowRequests", "ConnectionErrors", "ResponseErrors", "Retries",
    "Redispatches", "Responses2xx", "Responses4xx", "Responses5xx",
)  # fmt: skip
"""Numbers that only grow: each also becomes a rate, the mean over the time since the row before."""


def parse_logs(logs: Path) -> dict[str, pa.Table]:
    """Return what all hosts under `logs/<host>/` logged and recorded; a line that was cut at the end is left out.

    Lines that are broken are left out and counted, as the metric `BrokenLogLines` of their service. `DataError` names
    the file and the line where a file is not of our roles at all.
    """
    requests: list[pa.Table] = []
    metrics: list[pa.Table] = []
    for folder in sorted(path for path in logs.iterdir() if path.is_dir()):
        for pattern, service, columns, read in LOGS:
            broken, latest = 0, 0
            for file in sorted(folder.glob(f"files/var/log/{pattern}")):
                for piece, lines in pieces(file, columns):
                    broken += lines
                    latest = max(latest, pc.max(piece["start_us"]).as_py() or 0)
                    if piece.num_rows:
                        requests.append(read(piece, folder.name))
            if broken:
                metrics.append(metric([latest], folder.name, service, "BrokenLogLines", "count", [broken]))
        for file in sorted((folder / "metrics/var/log/labtool/web").glob("*-*.csv*")):
            metrics += recorded(file, folder.name)
    found = {"access_log": requests, "service_metrics": metrics}
    return {name: pa.concat_tables(tables) for name, tables in found.items() if tables}


# --- access logs ------------------------------------------------------------------------------------------------------


@contextmanager
def opened(file: Path) -> Iterator[IO[bytes]]:
    """Open a log as bytes, whichever way it was compressed."""
    if file.suffix == ".gz":
        with gzip.open(file) as stream:
            yield stream  # type: ignore[misc]
    else:
        with compressed.reader(file) as stream:
            yield stream


def pieces(file: Path, columns: dict[str, pa.DataType]) -> Iterator[tuple[pa.Table, int]]:
    """Yield a log's lines as tables, and how many lines of each are broken."""
    rest, first = b"", 1
    with opened(file) as stream:
        while read := stream.read(PIECE):
            whole, newline, tail = read.rpartition(b"\n")
            if not newline:
                rest += read
                continue
            piece, rest = rest + whole + newline, tail
            table, broken = lines_of(piece, columns)
            if first == 1 and broken and not table.num_rows:
                found = len(piece.split(b"\n", 1)[0].split(b"\t"))
                raise DataError(
                    f"{file}:1: {found} fields between tabs, expected {len(columns)}",
                    "that log was not written by the role httpd or haproxy",
                )
            first += table.num_rows + broken
            yield table, broken


def lines_of(piece: bytes, columns: dict[str, pa.DataType]) -> tuple[pa.Table, int]:
    """Return whole lines as a table, and how many were broken."""
    other_length = 0

    def skip(line: Any) -> str:
        nonlocal other_length
        other_length += line.actual_columns > 1  # else it is HAProxy's own: a server is down, a worker has stopped
        return "skip"

    def parse(lines: bytes, types: dict[str, pa.DataType]) -> pa.Table:
        nonlocal other_length
        other_length = 0
        return csv.read_csv(
            io.BytesIO(lines),
            csv.ReadOptions(column_names=list(columns)),
            csv.ParseOptions(delimiter="\t", quote_char=False, invalid_row_handler=skip),
            csv.ConvertOptions(column_types=types, null_values=[NONE], strings_can_be_null=False),
        )

    try:
        table = parse(piece, columns)
        return table, other_length
    except pa.ArrowInvalid:
        pass
    # Some field is no number, or no text: look at each line of this piece.
    try:
        texts = parse(piece.decode(errors="replace").encode(), dict.fromkeys(columns, pa.string()))
    except pa.ArrowInvalid:  # nothing in it is a line of a log
        return pa.schema(columns).empty_table(), piece.count(b"\n")
    right = pa.chunked_array([pa.repeat(True, texts.num_rows)])
    for name, kind in columns.items():
        if kind != pa.string():
            pattern = r"^(-|-?\d{1,18})$" if kind == pa.int64() else r"^(-|\d{1,15}(\.\d{1,9})?)$"
            right = pc.and_(right, pc.match_substring_regex(texts[name], pattern))
    broken = texts.num_rows - int(pc.sum(right).as_py() or 0)
    texts = texts.filter(right)
    arrays = [
        texts[name] if kind == pa.string() else number(texts[name], kind) for name, kind in columns.items()
    ]  # fmt: skip
    return pa.table(arrays, schema=pa.schema(columns)), other_length + broken


def number(texts: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Return texts as numbers; '-' is null."""
    return pc.if_else(pc.equal(texts, NONE), pa.scalar(None, pa.string()), texts).cast(kind)


def of_httpd(lines: pa.Table, host: str) -> pa.Table:
    """Return httpd's lines as rows of `access_log`."""
    lines = ours_left_out(lines)
    handler = pc.if_else(pc.match_substring(lines["handler"], "fcgi://"), "php", text(lines["handler"]))
    return rows(lines, host, "httpd", lines["start_us"], lines["duration_us"], handler)


def of_haproxy(lines: pa.Table, host: str) -> pa.Table:
    """Return HAProxy's lines as rows of `access_log`.

    A request that ended before it was read has no start of its own: then it is when its connection was accepted, and
    how long it took is not known.
    """
    lines = ours_left_out(lines)
    accepted = pc.cast(pc.round(pc.multiply(lines["accepted_s"], 1e6)), pa.int64())
    start = pc.coalesce(lines["start_us"], accepted)
    server = pc.list_element(pc.split_pattern(pc.binary_join_element_wise(lines["server"], "", "/"), "/"), 1)
    server = pc.if_else(pc.starts_with(server, "<"), "", server)
    lines = unread_blank(lines)
    return rows(lines, host, "haproxy", start, pc.subtract(lines["end_us"], lines["start_us"]), server)


LOGS: tuple[tuple[str, str, dict[str, pa.DataType], Callable[[pa.Table, str], pa.Table]], ...] = (
    ("apache2/labtool-access.log*", "httpd", HTTPD, of_httpd),
    ("httpd/labtool-access.log*", "httpd", HTTPD, of_httpd),
    ("haproxy/access.log*", "haproxy", HAPROXY, of_haproxy),
)


def unread_blank(lines: pa.Table) -> pa.Table:
    """Return HAProxy's lines with '-' for the method and the path of a request that it could not read."""
    unread = pc.equal(lines["method"], "<BADREQ>")
    for name in ("method", "path"):
        at = lines.schema.get_field_index(name)
        lines = lines.set_column(at, name, pc.if_else(unread, NONE, lines[name]))
    return lines


def ours_left_out(lines: pa.Table) -> pa.Table:
    """Return the lines that are not of the roles' own questions (readiness, health checks)."""
    return lines.filter(pc.not_equal(lines["request_id"], CHECK_ID))


def rows(lines: pa.Table, host: str, service: str, start_us: Any, duration_us: Any, backend: Any) -> pa.Table:
    """Return rows of `access_log`."""
    many = lines.num_rows
    return pa.table(
        {
            "time": start_us.cast(pa.timestamp("us", tz="UTC")),
            "host": pa.repeat(host, many),
            "service": pa.repeat(service, many),
            "duration_s": pc.divide(duration_us.cast(pa.float64()), 1e6),
            "status": lines["status"],
            "bytes": lines["bytes"],
            "method": text(lines["method"]),
            "path": text(lines["path"]),
            "request_id": text(lines["request_id"]),
            "client": text(lines["client"]),
            "backend": backend,
        }
    )


def text(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return texts with '' for '-'."""
    return pc.if_else(pc.equal(values, NONE), "", values)


# --- numbers over time ------------------------------------------------------------------------------------------------


def recorded(file: Path, host: str) -> list[pa.Table]:
    """Return the metrics of one file of a recorder; `DataError` names it where it is none."""
    whole = compressed.read(file).rpartition(b"\n")[0]
    if not whole:
        return []
    if not whole.startswith(b"time,"):
        raise DataError(f"{file}:1: its first column is {whole.split(b',')[0][:40]!r}, expected time")
    try:
        # Row by row (no threads), so that an error has the line's number.
        table = csv.read_csv(io.BytesIO(whole), csv.ReadOptions(use_threads=False))
        values = {name: table[name].cast(pa.float64()).to_numpy() for name in table.column_names}
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"{file}: {error}") from None
    service = file.name.split("-", 1)[0]
    times = (values.pop("time") * 1000).astype("int64")
    found = []
    for name, column in values.items():
        last = name.rpartition(".")[2]
        found.append(metric(times, host, service, name, "bytes" if last == "Bytes" else "count", column))
        if last in COUNTERS and len(times) > 1:
            seconds, grown = np.diff(times) / 1e6, np.diff(column)
            valid = (seconds > 0) & (grown >= 0)  # a service that was started again counts from 0
            rate = np.divide(grown, seconds, out=np.zeros_like(grown), where=seconds > 0)
            unit = "bytes/s" if last == "Bytes" else "operations/s"
            found.append(metric(times[1:][valid], host, service, f"{name}.Rate", unit, rate[valid]))
    return found


def metric(times: Any, host: str, service: str, name: str, unit: str, values: Any) -> pa.Table:
    """Return rows of `service_metrics`; times are µs since 1970."""
    many = len(times)
    return pa.table(
        {
            "time": pa.array(times, pa.int64()).cast(pa.timestamp("us", tz="UTC")),
            "host": pa.repeat(host, many),
            "service": pa.repeat(service, many),
            "metric": pa.repeat(name, many),
            "unit": pa.repeat(unit, many),
            "value": pa.array(values, pa.float64()),
        }
    )
