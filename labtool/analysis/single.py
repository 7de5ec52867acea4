"""Reads single requests, a search's steps and the servers' log.

Requests and the log are arrays of 30 and 20 bytes a row; to hold one against the other is left to DuckDB, on disk.
Ten million requests are 0.3 GB in memory, beside DuckDB's own share (`reader.MEMORY`). Nothing is sampled: all that is
said of requests is said of every one of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from labtool.analysis.data import AccessLog, Matched, Objective, Requests, Series, Step, Stream, Url
from labtool.analysis.quantiles import carried, fewest
from labtool.analysis.reader import Reader, records

MOST_NAMES = 200
"""So many endpoints, backends, … keep their name, the most frequent first; all others are one."""
OTHERS = "all others"
MOST_URLS = 10
AROUND_S = 60.0
"""A log may be of days: so much before and after the window still belongs to the run."""
FEWEST_OF_URL = fewest(0.99)
"""A path with fewer requests has no 99th percentile to be ranked by."""


def requests(reader: Reader, since: float) -> Requests | None:
    """Return every request; None where the table is absent or empty."""
    rows = _rows(reader, "requests")
    if not rows:
        return None
    names = {column: _names(reader, "requests", column) for column in ("error", "endpoint", "client")}
    found = reader.arrays(
        f"""
        SELECT epoch(due) - ? AS due,
               coalesce(late_s, 'nan')::FLOAT AS late, coalesce(service_s, 'nan')::FLOAT AS service,
               coalesce(latency_s, 'nan')::FLOAT AS latency, coalesce(status, 0)::USMALLINT AS status,
               {_code("error", names["error"])}, {_code("endpoint", names["endpoint"])},
               {_code("client", names["client"])}, coalesce(warmup, false) AS warmup
        FROM requests {_joins("requests", names)} WHERE due IS NOT NULL
        """,  # noqa: S608
        (since,),
        rows,
        {
            "due": np.float64,
            **dict.fromkeys(("late", "service", "latency"), np.float32),
            **dict.fromkeys(("status", "error", "endpoint", "client"), np.uint16),
            "warmup": np.bool_,
        },
    )
    return Requests(**found, errors=names["error"], endpoints=names["endpoint"], clients=names["client"])


def access_log(reader: Reader, since: float, measured: tuple[float, float]) -> AccessLog | None:
    """Return the log of the servers that the clients talk to, in the run's time; None where there is none."""
    services = reader.query("SELECT DISTINCT service FROM access_log")["service"].tolist()
    if not services:
        return None
    service = "haproxy" if "haproxy" in services else min(services)
    reader.execute(
        f"CREATE TEMP VIEW front_log AS SELECT * FROM access_log WHERE service = {_text(service)}"  # noqa: S608
        f" AND epoch(time) BETWEEN {since - AROUND_S!r} AND {since + measured[1] + AROUND_S!r}"
    )
    names = {column: _names(reader, "front_log", column) for column in ("backend", "host")}
    found = reader.arrays(
        f"""
        SELECT epoch(time) - ? AS t, coalesce(duration_s, 'nan')::FLOAT AS duration,
               coalesce(status, 0)::USMALLINT AS status, {_code("backend", names["backend"])},
               {_code("host", names["host"])}
        FROM front_log {_joins("front_log", names)} WHERE time IS NOT NULL
        """,  # noqa: S608
        (since,),
        _rows(reader, "front_log"),
        {"t": np.float64, "duration": np.float32, **dict.fromkeys(("status", "backend", "host"), np.uint16)},
    )
    return AccessLog(
        service,
        **found,
        backends=names["backend"],
        hosts=names["host"],
        urls=_urls(reader, "httpd" if "httpd" in services else service, since, measured),
        matched=_matched(reader, since),
    )


def steps_of(reader: Reader, since: float) -> tuple[Step, ...]:
    """Return the steps of a search for the highest rate, in their order; none where there was no search."""
    rows = records(
        reader.query(
            'SELECT epoch("start") - ? AS t0, epoch("end") - ? AS t1, offered_rate, operations, errors, objective,'
            " bound, value, unit, held, saturated, too_few FROM workload_steps ORDER BY t0, objective DESC",
            (since, since),
        )
    )
    found: dict[float, Step] = {}
    for row in rows:
        one = Objective(row["objective"], row["bound"], row["value"], row["unit"])
        before = found.get(row["t0"])
        found[row["t0"]] = Step(
            start=row["t0"],
            end=row["t1"],
            offered=row["offered_rate"],
            operations=row["operations"] or 0.0,
            errors=row["errors"] or 0.0,
            held=bool(row["held"]),
            saturated=bool(row["saturated"]),
            too_few=bool(row["too_few"]),
            objectives=(*(before.objectives if before else ()), one),
        )
    return tuple(found.values())


PHASES = ("latest_offset", "get_batch", "query_planning", "wal_commit", "add_batch", "commit_offsets")


def stream_of(reader: Reader, since: float) -> Stream | None:
    """Return the batches of a streaming query; None where there is none."""
    phases = ", ".join(f"{name}_ms::DOUBLE / 1000 AS {name}" for name in PHASES)
    found = reader.query(
        f"""
        SELECT epoch(time) - ? AS start, duration_ms / 1000 AS duration, {phases}, rows::DOUBLE AS rows, input_rate,
               processed_rate, end_offset::DOUBLE AS end_offset, late_rows::DOUBLE AS late_rows, trigger_ms
        FROM stream_batches WHERE duration_ms IS NOT NULL ORDER BY time
        """,  # noqa: S608
        (since,),
    )
    if not len(found["start"]):
        return None
    stored = covered = Series(np.empty(0), np.empty(0))
    if "stream_backlog" in reader.present:
        sql = "SELECT epoch(time) - ? AS t, stored::DOUBLE AS stored, covered::DOUBLE AS covered FROM stream_backlog"
        asked = reader.query(f"{sql} ORDER BY time", (since,))
        stored, covered = Series(asked["t"], asked["stored"]), Series(asked["t"], asked["covered"])
    hosts: list[str] = []
    if "stream_results" in reader.present:
        hosts = reader.query("SELECT min(host) AS host FROM stream_results")["host"].tolist()
    return Stream(
        phases={name: found[name] for name in PHASES},
        trigger_s=float(found["trigger_ms"][0]) / 1000,
        stored=stored,
        covered=covered,
        append_host=(hosts or [""])[0] or "",
        **{
            name: found[name]
            for name in ("start", "duration", "rows", "input_rate", "processed_rate", "end_offset", "late_rows")
        },
    )


def _rows(reader: Reader, table: str) -> int:
    return int(reader.query(f"SELECT count(*) AS n FROM {table}")["n"][0])  # noqa: S608


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _names(reader: Reader, table: str, column: str) -> tuple[str, ...]:
    """Number the texts of a column in a table of their own; return the names by number, the most frequent first.

    Of errors '' (success) is always the first.
    """
    counted = reader.query(
        f"SELECT coalesce({column}, '') AS name, count(*) AS n FROM {table} GROUP BY name"  # noqa: S608
        f" ORDER BY n DESC, name LIMIT {MOST_NAMES + 1}"
    )
    names = counted["name"].tolist()
    if column == "error":
        names = ["", *(name for name in names if name)]
    reader.execute(f"CREATE TEMP TABLE {table}_{column} (name VARCHAR, code USMALLINT)")
    reader.fill(f"INSERT INTO {table}_{column} VALUES (?, ?)", list(zip(names[:MOST_NAMES], range(65_536))))  # noqa: S608, B905
    return tuple(names) if len(names) <= MOST_NAMES else (*names[:MOST_NAMES], OTHERS)


def _code(column: str, names: tuple[str, ...]) -> str:
    return f"coalesce({column}s.code, {len(names) - 1})::USMALLINT AS {column}"


def _joins(table: str, names: dict[str, Any]) -> str:
    return " ".join(
        f"LEFT JOIN {table}_{column} AS {column}s ON {column}s.name = coalesce({table}.{column}, '')"
        for column in names
    )


def _urls(reader: Reader, service: str, since: float, measured: tuple[float, float]) -> tuple[Url, ...]:
    """Return the paths that took most time in all, and those with the highest 99th percentile."""
    rows = reader.query(
        f"""
        WITH paths AS (
            SELECT trim(method || ' ' || split_part(path, '?', 1)) AS name, count(*) AS requests,
                   sum(duration_s) AS total_s, quantile_disc(duration_s, 0.5) AS median_s,
                   quantile_disc(duration_s, 0.99) AS p99_s
            FROM access_log
            WHERE service = ? AND duration_s IS NOT NULL AND epoch(time) - ? BETWEEN ? AND ? GROUP BY name
        )
        SELECT *, row_number() OVER (ORDER BY total_s DESC, name) AS by_total,
               row_number() OVER (ORDER BY requests >= {FEWEST_OF_URL} DESC, p99_s DESC, name) AS by_tail
        FROM paths QUALIFY by_total <= {MOST_URLS} OR (by_tail <= {MOST_URLS} AND requests >= {FEWEST_OF_URL})
        ORDER BY by_total
        """,  # noqa: S608
        (service, since, *measured),
    )
    return tuple(
        Url(
            row["name"],
            int(row["requests"]),
            row["total_s"],
            row["median_s"],
            row["p99_s"] if carried(int(row["requests"]), 0.99) else None,
        )
        for row in records(rows)
    )


def _matched(reader: Reader, since: float) -> Matched | None:
    """Hold requests against `front_log` by their id; None where either has none.

    Ids are compared by a hash of 64 bits: that two of ten million collide has a chance of 3 in a million.
    """
    if "requests" not in reader.present:
        return None
    reader.execute(
        "CREATE TEMP TABLE sent AS SELECT hash(id) AS key, epoch(due) AS due, late_s, service_s, status, error"
        " FROM requests WHERE id <> '' AND late_s IS NOT NULL"
    )
    reader.execute(
        "CREATE TEMP TABLE seen AS SELECT hash(request_id) AS key, count(*) AS n, arg_max(duration_s, time) AS"
        " duration_s, arg_max(status, time) AS status FROM front_log WHERE request_id <> '' GROUP BY key"
    )
    sent, seen = _rows(reader, "sent"), _rows(reader, "seen")
    if not sent or not seen:
        return None
    missing = records(
        reader.query(
            "SELECT CASE WHEN status IS NULL THEN error ELSE '' END AS how, count(*) AS n, min(due) - ? AS first,"
            " max(due) - ? AS last FROM sent ANTI JOIN seen USING (key) GROUP BY how ORDER BY n DESC, how",
            (since, since),
        )
    )
    answered = next((row for row in missing if not row["how"]), None)
    others = records(
        reader.query(
            """
            WITH life AS (
                SELECT min(due + late_s) AS first, max(due + late_s + coalesce(service_s, 0)) AS last FROM sent
            )
            SELECT trim(method || ' ' || split_part(path, '?', 1)) AS name, count(*) AS n
            FROM front_log, life WHERE epoch(time) BETWEEN first - 0.001 AND last
            AND (coalesce(request_id, '') = '' OR hash(request_id) NOT IN (SELECT key FROM sent))
            GROUP BY name ORDER BY n DESC, name
            """
        )
    )
    pairs = reader.arrays(
        "SELECT service_s::FLOAT AS service, seen.duration_s::FLOAT AS duration, sent.status <> seen.status AS differs"
        " FROM sent JOIN seen USING (key) WHERE service_s IS NOT NULL AND seen.duration_s IS NOT NULL"
        " AND sent.status IS NOT NULL AND seen.status IS NOT NULL",
        (),
        sent,
        {"service": np.float32, "duration": np.float32, "differs": np.bool_},
    )
    return Matched(
        sent=sent,
        logged=sent - sum(int(row["n"]) for row in missing),
        missing=tuple((row["how"], int(row["n"])) for row in missing),
        missing_span=(answered["first"], answered["last"]) if answered else None,
        others=sum(int(row["n"]) for row in others),
        others_named=tuple((row["name"], int(row["n"])) for row in others[:3]),
        again=int(reader.query("SELECT coalesce(sum(n - 1), 0) AS n FROM seen SEMI JOIN sent USING (key)")["n"][0]),
        status_differs=int(pairs["differs"].sum()),
        service=pairs["service"],
        duration=pairs["duration"],
    )
