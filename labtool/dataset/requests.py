"""What the drivers of web workloads left, as tables: a row a request, and what follows from them.

    raw/<workload>/<host>/<client>.json               what the client was, and how it ended
    raw/<workload>/<host>/<client>.requests.csv.gz    a line a request (playbooks/workloads/files/http_replay.py)

Times are the load host's, in µs since 1970; endpoints stand as numbers into the client's list of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labtool.errors import DataError

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

LOG = ".requests.csv.gz"
DIGITS = 3  # significant ones of a histogram
LONGEST_US = 3_600_000_000  # that a histogram can hold: an hour
_TYPES = {
    "due_us": "BIGINT",
    "sent_us": "BIGINT",
    "done_us": "BIGINT",
    "status": "BIGINT",
    "error": "VARCHAR",
    "bytes": "BIGINT",
    "endpoint": "INTEGER",
    "id": "VARCHAR",
    "warmup": "BOOLEAN",
}


Amend = Callable[["duckdb.DuckDBPyConnection", Mapping[str, Any]], None]


def parse(raw: Path, workload: str, amend: Amend | None = None) -> dict[str, Any]:
    """Return the tables of a workload's clients; `DataError` names the file that is none of theirs.

    A log that was cut, since its client was killed, gives the lines that are whole. `amend` may change the table `log`
    (client, name, and the columns of the files) before anything is made of it; it is given what the clients said too.
    """
    import duckdb

    described = [(file, _described(file)) for file in sorted((raw / workload).glob("*/*.json"))]
    clients = {_name(file): known for file, known in described if isinstance(known, dict) and "client" in known}
    with duckdb.connect() as base:
        base.execute("SET TimeZone = 'UTC'")
        base.execute(f"CREATE TABLE log (client VARCHAR, name VARCHAR, {_columns()})")
        for name, known in clients.items():
            _read(base, raw / workload / f"{name}{LOG}", name, known)
        if amend is not None:
            amend(base, clients)
        tables: dict[str, Any] = {
            "requests": _requests(base),
            "workload_intervals": _intervals(base, clients),
            "workload_summary": _summaries(base, clients),
            "workload_histograms": _histograms(base),
        }
    return {name: rows for name, rows in tables.items() if (rows if isinstance(rows, list) else rows.num_rows)}


def steps(raw: Path, workload: str) -> list[dict[str, Any]]:
    """Return `workload_steps` of a search for the highest rate: a row for each step and objective of `steps.json`."""
    return [row for file in sorted((raw / workload).glob("*/steps.json")) for row in _steps(file)]


def _steps(file: Path) -> list[dict[str, Any]]:
    try:
        steps = [step for step in json.loads(file.read_text()) if "offered_rate" in step]
        return [
            {
                "start": step["start_us"] / 1e6,
                "end": step["end_us"] / 1e6,
                "offered_rate": step["offered_rate"],
                "operations": step["requests"],
                "errors": step["errors"],
                "objective": one["text"],
                "bound": one["bound"],
                "value": one["value"],
                "unit": one["unit"],
                "held": step["held"],
                "saturated": step["saturated"],
                "too_few": step["too_few"],
            }
            for step in steps
            for one in step["objectives"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} is no list of steps: {error!r}") from None


def _columns() -> str:
    return ", ".join(f"{name} {kind}" for name, kind in _TYPES.items())


def _name(file: Path) -> str:
    return f"{file.parent.name}/{file.stem}"


def _described(file: Path) -> Any:
    try:
        return json.loads(file.read_text())
    except ValueError as error:
        raise DataError(f"{file} is no JSON: {error}", "it was cut or edited by hand") from None


def _read(base: duckdb.DuckDBPyConnection, file: Path, name: str, known: Mapping[str, Any]) -> None:
    """Add a client's log."""
    import duckdb

    if not file.is_file():
        return
    source = _whole(file)
    endpoints = list(known.get("endpoints", []))
    try:
        base.execute(
            f"""
            INSERT INTO log
            SELECT ?, coalesce(list_extract(?::VARCHAR[], endpoint + 1), ''), * FROM read_csv(
                ?, header = true, columns = {_TYPES}, nullstr = '', auto_detect = false, delim = ',', quote = '"'
            )
            """,  # noqa: S608
            [name, endpoints, str(source)],
        )
    except duckdb.Error as error:
        raise DataError(f"{file}: no log of requests: {str(error).splitlines()[0]}") from None
    finally:
        if source != file:
            source.unlink()


def _whole(file: Path) -> Path:
    """Return the file, or, where it was cut, one beside it with the lines that are whole."""
    import gzip
    import zlib

    try:
        with gzip.open(file) as stream:
            while stream.read(1 << 20):
                pass
        return file
    except (EOFError, zlib.error, gzip.BadGzipFile):
        pass
    kept = file.with_name(f".{file.name.removesuffix('.gz')}")
    decompressor = zlib.decompressobj(wbits=31)
    try:
        text = decompressor.decompress(file.read_bytes())
    except zlib.error:
        raise DataError(f"{file} is no gzip file") from None
    kept.write_bytes(text[: text.rfind(b"\n") + 1])
    return kept


def _requests(base: duckdb.DuckDBPyConnection) -> pa.Table:
    return base.sql(
        """
        SELECT make_timestamptz(due_us) AS due, client, name AS endpoint, coalesce(id, '') AS id,
               (sent_us - due_us) / 1e6 AS late_s, (done_us - sent_us) / 1e6 AS service_s,
               (done_us - due_us) / 1e6 AS latency_s, status, coalesce(error, '') AS error, bytes, warmup
        FROM log ORDER BY due_us, client
        """
    ).to_arrow_table()


def _intervals(base: duckdb.DuckDBPyConnection, clients: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each client and second: what succeeded in it, and the latencies of what was due in it.

    Seconds are counted from the client's first request. Latencies are from when a request was due.
    """
    rows = base.execute(
        """
        WITH span AS (SELECT client, min(due_us) AS zero FROM log GROUP BY client),
        due AS (
            SELECT client, (due_us - zero) // 1000000 AS second, count(*) AS offered,
                   avg((done_us - due_us) / 1e3) FILTER (error IS NULL) AS mean,
                   max((done_us - due_us) / 1e3) FILTER (error IS NULL) AS highest,
                   quantile_disc((done_us - due_us) / 1e3, [0.5, 0.9, 0.99]) FILTER (error IS NULL) AS q
            FROM log JOIN span USING (client) GROUP BY ALL
        ), ended AS (
            SELECT client, (done_us - zero) // 1000000 AS second, count(*) FILTER (error IS NULL) AS done,
                   count(error) AS errors, sum(bytes) FILTER (error IS NULL) AS bytes
            FROM log JOIN span USING (client) GROUP BY ALL
        )
        SELECT client, second, zero, coalesce(offered, 0), mean, highest, q, coalesce(done, 0), coalesce(errors, 0),
               coalesce(bytes, 0)
        FROM due FULL JOIN ended USING (client, second) JOIN span USING (client) ORDER BY client, second
        """
    ).fetchall()
    found: list[dict[str, Any]] = []
    for client, second, zero, offered, mean, highest, q, done, errors, size in rows:
        last = found[-1] if found and found[-1]["client"] == client else None
        end_us = zero + (second + 1) * 1_000_000
        if last is not None:  # seconds in which nothing was due and nothing ended are seconds all the same
            while last["time"] < end_us / 1e6 - 1.5:
                last = last | {"time": last["time"] + 1} | dict.fromkeys(_MEASURED, None) | dict.fromkeys(_COUNTED, 0)
                found.append(last)
        p50, p90, p99 = q or (None, None, None)
        found.append(
            {
                "time": end_us / 1e6,
                "duration_s": 1.0,
                "client": client,
                "role": clients[client].get("role", "client"),
                "offered_rate": float(offered) if clients[client].get("loop") == "open" else None,
                "rate": float(done),
                "bytes_rate": float(size),
                "latency_avg_ms": mean,
                "latency_max_ms": highest,
                "p50_ms": p50,
                "p90_ms": p90,
                "p99_ms": p99,
                "errors": errors,
            }
        )
    return found


_MEASURED = ("latency_avg_ms", "latency_max_ms", "p50_ms", "p90_ms", "p99_ms")
_COUNTED = ("rate", "bytes_rate", "errors", "offered_rate")


def _summaries(base: duckdb.DuckDBPyConnection, clients: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each client, of its requests without the warm-up."""
    rows = base.execute(
        """
        SELECT client, min(due_us) AS first, max(done_us) AS last, count(*) AS n, count(error) AS errors,
               sum(bytes) FILTER (error IS NULL) AS bytes,
               avg((done_us - due_us) / 1e3) FILTER (error IS NULL) AS mean,
               max((done_us - due_us) / 1e3) FILTER (error IS NULL) AS highest,
               quantile_disc((done_us - due_us) / 1e3, [0.5, 0.95, 0.99, 0.999]) FILTER (error IS NULL) AS q,
               max(due_us) AS last_due
        FROM log WHERE NOT warmup GROUP BY client ORDER BY client
        """
    ).fetchall()
    found = []
    for client, first, last, n, errors, size, mean, highest, q, last_due in rows:
        known = clients[client]
        seconds = max((last - first) / 1e6, 1e-9)
        spread = (last_due - first) / 1e6
        offered = known.get("offered_rate")
        if offered is None and known.get("loop") == "open" and n > 1 and spread > 0:
            offered = (n - 1) / spread
        p50, p95, p99, p999 = q or (None,) * 4
        found.append(
            {
                "client": client,
                "role": known.get("role", "client"),
                "start": first / 1e6,
                "end": last / 1e6,
                "operations": n,
                "errors": errors,
                "offered_rate": offered,
                "rate": (n - errors) / seconds,
                "bytes_rate": (size or 0) / seconds,
                "latency_avg_ms": mean,
                "latency_max_ms": highest,
                "p50_ms": p50,
                "p95_ms": p95,
                "p99_ms": p99,
                "p999_ms": p999,
            }
        )
    return found


def _histograms(base: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """Return an HdrHistogram of each client's and endpoint's latencies and service times."""
    found = []
    for measure, since in (("latency", "due_us"), ("service", "sent_us")):
        rows = base.execute(
            f"""
            SELECT client, name, greatest(done_us - {since}, 1) AS us, count(*) AS n FROM log
            WHERE error IS NULL AND NOT warmup AND {since} IS NOT NULL GROUP BY ALL ORDER BY client, name, us
            """  # noqa: S608
        ).fetchall()
        groups: dict[tuple[str, str], list[tuple[int, int]]] = {}
        for client, endpoint, us, n in rows:
            groups.setdefault((client, endpoint), []).append((us, n))
        for (client, endpoint), counted in groups.items():
            found.append(
                {
                    "client": client,
                    "endpoint": endpoint,
                    "measure": measure,
                    "operations": sum(n for _, n in counted),
                    "histogram": encoded(counted),
                }
            )
    return found


def encoded(counted: Iterable[tuple[int, int]]) -> str:
    """Return (µs, how often) as an HdrHistogram: V2, compressed, base64."""
    from hdrh.histogram import HdrHistogram

    histogram = HdrHistogram(1, LONGEST_US, DIGITS)
    for us, n in counted:
        histogram.record_value(min(us, LONGEST_US), n)
    text = histogram.encode()
    return text.decode() if isinstance(text, bytes) else str(text)


def decoded(text: str) -> dict[int, int]:
    """Return what `encoded` made as {µs, the highest of its bucket: how often}."""
    from hdrh.histogram import HdrHistogram

    read = HdrHistogram.decode(text)
    found = (
        (index, count) for index, count in enumerate(read.counts) if count
    )  # its own iterators take six times as long
    return {int(read.get_highest_equivalent_value(read.get_value_from_index(index))): count for index, count in found}
