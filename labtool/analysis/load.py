"""Reads a run's directory into memory: run.json and the Parquet tables, absent or broken ones included.

A table that is absent is nothing to complain of (it had nothing to say); one that cannot be read becomes a `Missing`
and the rest goes on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np

from labtool.analysis import signals
from labtool.analysis.application import applications
from labtool.analysis.data import (
    EMPTY,
    Client,
    ClientSummary,
    ClockReading,
    Count,
    Event,
    Floats,
    Labelled,
    LogFile,
    LogMessage,
    ObserverCost,
    RunData,
    Series,
)
from labtool.analysis.intervals import by_request
from labtool.analysis.reader import Reader, records, runs
from labtool.analysis.search import focused
from labtool.analysis.single import access_log, requests, steps_of, stream_of
from labtool.dataset import schema
from labtool.dataset.run import RunDirectory, RunRecord


def load(directory: RunDirectory) -> RunData:
    """Read a run; `DataError` if it has no readable run.json, anything else absent is left out and said."""
    record = directory.read()
    reader = Reader(directory)
    origin, length = _window(record, reader)
    since = origin.timestamp()
    clients = reader.attempt("workload_intervals", lambda: _clients(reader, since, length)) or ()
    summaries = reader.attempt("workload_summary", lambda: _summaries(reader, since)) or ()
    counts = reader.attempt("workload_counts", lambda: _counts(reader)) or ()
    single = reader.attempt("requests", lambda: requests(reader, since))
    steps = reader.attempt("workload_steps", lambda: steps_of(reader, since)) or ()
    stream = reader.attempt("stream_batches", lambda: stream_of(reader, since))
    measured = (min(max(record.warmup_s, 0.0), length), length)
    access = reader.attempt("access_log", lambda: access_log(reader, since, measured))
    cloudwatch = reader.attempt("cloudwatch", lambda: _cloudwatch(reader, since)) or ()
    service = reader.attempt("service_metrics", lambda: _service(reader, since, length)) or ()
    events = reader.attempt("timeline", lambda: _events(reader, since)) or ()
    clocks = reader.attempt("clock", lambda: _clocks(reader, since)) or ()
    observers = reader.attempt("observer", lambda: _observers(reader)) or ()
    machine = reader.attempt("machine", lambda: _machine(reader, since)) or EMPTY
    logs = reader.attempt("logs", lambda: _logs(reader)) or ()
    messages = reader.attempt("log_messages", lambda: _messages(reader, since)) or ()
    spark = reader.attempt("spark_tasks", lambda: applications(reader, since)) or ()
    found, disks = reader.attempt("host_metrics", lambda: _signals(reader, since, length)) or ({}, {})
    reader.close()
    clients = tuple(_trimmed(client, summaries) for client in clients)
    if single is not None and len(single):
        single = focused(single, steps, record.operations or "requests")
        clients, summaries = by_request(single, clients, summaries)
    return RunData(
        record=record,
        origin=origin,
        length_s=length,
        hosts=_hosts(record, found),
        signals=found,
        disks=disks,
        machine=machine,
        cloudwatch=cloudwatch,
        service=service,
        clients=clients,
        summaries=summaries,
        counts=counts,
        requests=single,
        access=access,
        steps=steps,
        stream=stream,
        events=events,
        clocks=clocks,
        observers=observers,
        logs=logs,
        messages=messages,
        spark=spark,
        present=frozenset(reader.present),
        unreadable=tuple(reader.unreadable),
    )


def _window(record: RunRecord, reader: Reader) -> tuple[datetime, float]:
    """Return the window's start and length; an interrupted run's window ends with its last data."""
    origin = (record.window_start or record.started).astimezone(UTC)
    end = record.window_end or (record.ended if record.window_start else None)
    if end is None:
        ends = [
            latest
            for table in ("host_metrics", "workload_intervals", "requests")
            if (latest := reader.attempt(table, partial(_latest, reader, table))) is not None
        ]
        return origin, max(0.0, max(ends, default=0.0) - origin.timestamp())
    return origin, max(0.0, (end - origin).total_seconds())


def _latest(reader: Reader, table: str) -> float | None:
    column = schema.TABLES[table][0].name
    value = reader.query(f"SELECT max(epoch({column})) AS t FROM {table}")["t"][0]  # noqa: S608
    return float(value) if value is not None and math.isfinite(value) else None


def _hosts(record: RunRecord, found: Iterable[str]) -> tuple[str, ...]:
    named = [host.name for host in record.hosts]
    return tuple(named + sorted(set(found) - set(named)))


def _signals(
    reader: Reader, since: float, length: float
) -> tuple[dict[str, dict[str, Series]], dict[str, tuple[str, ...]]]:
    listed = reader.query("SELECT DISTINCT host, resource, device, metric FROM host_metrics")
    series = list(
        zip(
            *(listed[column].tolist() for column in ("host", "resource", "device", "metric")),
            strict=True,
        )
    )
    wanted, disks = _wanted(series)
    if not wanted:
        return {}, disks
    hosts = sorted({host for host, *_ in wanted})
    reader.execute(
        "CREATE TEMP TABLE wanted (host VARCHAR, resource VARCHAR, device VARCHAR, metric VARCHAR,"
        " host_id INTEGER, signal_id INTEGER)"
    )
    number = {signal.name: i for i, signal in enumerate(signals.SIGNALS)}
    reader.fill(
        "INSERT INTO wanted VALUES (?, ?, ?, ?, ?, ?)",
        [(h, r, d, m, hosts.index(h), number[signal]) for h, r, d, m, signal in wanted],
    )
    sums = ", ".join(str(i) for i, signal in enumerate(signals.SIGNALS) if signal.combine == "sum")
    rows = reader.query(
        f"""
        SELECT host_id, signal_id, epoch(time) - ? AS t,
               CASE WHEN signal_id IN ({sums}) THEN sum(value) ELSE max(value) END AS v
        FROM host_metrics JOIN wanted USING (host, resource, device, metric)
        WHERE epoch(time) > ? AND epoch(time) <= ? AND isfinite(value)
        GROUP BY host_id, signal_id, time ORDER BY host_id, signal_id, t
        """,  # noqa: S608
        (since, since, since + length + 0.5),
    )
    found: dict[str, dict[str, Series]] = {}
    for host_id, signal_id, part in runs(rows["host_id"], rows["signal_id"]):
        name = signals.SIGNALS[signal_id].name
        found.setdefault(hosts[host_id], {})[name] = Series(_floats(rows["t"][part]), _floats(rows["v"][part]))
    for known in found.values():
        _derive_cpu(known)
    return found, disks


def _wanted(
    series: list[tuple[str, str, str, str]],
) -> tuple[list[tuple[str, str, str, str, str]], dict[str, tuple[str, ...]]]:
    """Choose the rows of `host_metrics` that make up the signals: (host, resource, device, metric, signal)."""
    devices: dict[tuple[str, str], set[str]] = {}
    known = set(series)
    for host, resource, device, _ in series:
        devices.setdefault((host, resource), set()).add(device)
    chosen = []
    disks: dict[str, tuple[str, ...]] = {}
    for (host, resource), names in devices.items():
        allowed = {
            "all": tuple({"all", ""} & names),
            "cores": tuple(name for name in names if name.isdigit()),
            "disks": signals.disks(names) if resource == "disk" else (),
            "interfaces": signals.interfaces(names) if resource == "network" else (),
            "any": tuple(names),
        }
        if resource == "disk":
            disks[host] = signals.disks(names)
        for signal in signals.SIGNALS:
            if signal.resource != resource:
                continue
            metrics = [
                metric
                for metric in signal.metrics
                if any((host, resource, device, metric) in known for device in allowed[signal.devices])
            ]
            for metric in metrics if signal.combine == "sum" else metrics[:1]:
                chosen += [
                    (host, resource, device, metric, signal.name)
                    for device in allowed[signal.devices]
                    if (host, resource, device, metric) in known
                ]
    return chosen, disks


def _derive_cpu(known: dict[str, Series]) -> None:
    """Where a source gives no utilisation it is what is neither idle nor waiting for a disk."""
    if "cpu" in known or "cpu_idle" not in known:
        return
    idle = known["cpu_idle"]
    waiting = known.get("cpu_iowait")
    same = waiting is not None and len(waiting) == len(idle)
    known["cpu"] = Series(idle.t, np.clip(1.0 - idle.v - (waiting.v if same and waiting else 0.0), 0.0, 1.0))


def _floats(values: Any) -> Floats:
    return np.asarray(values, dtype=np.float64)


def _clients(reader: Reader, since: float, length: float) -> tuple[Client, ...]:
    rows = reader.query(
        "SELECT *, epoch(time) - ? AS t FROM workload_intervals WHERE t <= ? ORDER BY client, role, t",
        (since, length + 60.0),
    )
    found = []
    names, roles = rows["client"].tolist(), rows["role"].tolist()
    numbers = {pair: i for i, pair in enumerate(dict.fromkeys(zip(names, roles, strict=True)))}
    codes = np.array([numbers[pair] for pair in zip(names, roles, strict=True)], dtype=np.int64)
    for code, _, part in runs(codes, np.zeros_like(codes)):
        name, role = list(numbers)[code]
        column = {key: _floats(rows[key][part]) for key in rows if key not in ("client", "role", "time")}
        found.append(
            Client(
                name=name,
                role=role,
                end=column["t"],
                duration=column["duration_s"],
                offered=column["offered_rate"],
                rate=column["rate"],
                bytes_rate=column["bytes_rate"],
                latency_avg=column["latency_avg_ms"],
                latency_max=column["latency_max_ms"],
                p50=column["p50_ms"],
                p90=column["p90_ms"],
                p99=column["p99_ms"],
                errors=column["errors"],
            )
        )
    return tuple(found)


def _trimmed(client: Client, summaries: tuple[ClientSummary, ...]) -> Client:
    """Begin a client's first interval with its first operation, where its summary knows that.

    A tool prints its first line some time after it was started; until its first operation it had not yet begun.
    """
    first = next((s.start for s in summaries if (s.name, s.role) == (client.name, client.role)), None)
    if first is None or not len(client.end) or not client.start[0] < first < client.end[0]:
        return client
    scale = client.duration[:1] / (client.end[:1] - first)

    def scaled(rates: Floats) -> Floats:
        return np.concatenate((rates[:1] * scale, rates[1:]))

    duration = np.concatenate((client.end[:1] - first, client.duration[1:]))
    return replace(client, duration=duration, rate=scaled(client.rate), bytes_rate=scaled(client.bytes_rate))


def _summaries(reader: Reader, since: float) -> tuple[ClientSummary, ...]:
    rows = reader.query(
        'SELECT *, epoch("start") - ? AS t0, epoch("end") - ? AS t1 FROM workload_summary ORDER BY client, role',
        (since, since),
    )
    return tuple(
        ClientSummary(
            name=row["client"],
            role=row["role"],
            start=row["t0"],
            end=row["t1"],
            operations=row["operations"],
            errors=row["errors"],
            offered=row["offered_rate"],
            rate=row["rate"],
            bytes_rate=row["bytes_rate"],
            latency_avg=row["latency_avg_ms"],
            latency_max=row["latency_max_ms"],
            p50=row["p50_ms"],
            p95=row["p95_ms"],
            p99=row["p99_ms"],
            p999=row["p999_ms"],
            failure=row["failure"] or "",
        )
        for row in records({name: values for name, values in rows.items() if name not in ("start", "end")})
    )


def _counts(reader: Reader) -> tuple[Count, ...]:
    rows = reader.query("SELECT what, claimed, claimed_by, counted, counted_by FROM workload_counts ORDER BY what")
    return tuple(Count(**row) for row in records(rows))


def _labelled(reader: Reader, sql: str, parameters: Iterable[object]) -> tuple[Labelled, ...]:
    """Build series from rows ordered by (series number `n`, `t`) with the series' columns beside."""
    rows = reader.query(sql, parameters)
    found = []
    for _, _, part in runs(rows["n"], np.zeros_like(rows["n"])):
        first = part.start
        found.append(
            Labelled(
                host=str(rows["host"][first] or ""),
                source=str(rows["source"][first] or ""),
                metric=str(rows["metric"][first]),
                unit=str(rows["unit"][first] or ""),
                series=Series(_floats(rows["t"][part]), _floats(rows["value"][part])),
                statistic=str(rows["statistic"][first]),
                period_s=float(rows["period_s"][first]),
            )
        )
    return tuple(found)


def _cloudwatch(reader: Reader, since: float) -> tuple[Labelled, ...]:
    return _labelled(
        reader,
        """
        SELECT dense_rank() OVER (ORDER BY namespace, metric, dimensions, host, statistic, period_s) AS n, host,
               namespace AS source, metric, coalesce(unit, '') AS unit, statistic, period_s,
               epoch(time) - ? AS t, value
        FROM cloudwatch ORDER BY n, t
        """,
        (since,),
    )


def _service(reader: Reader, since: float, length: float) -> tuple[Labelled, ...]:
    return _labelled(
        reader,
        """
        SELECT dense_rank() OVER (ORDER BY service, metric, host) AS n, host, service AS source, metric,
               coalesce(unit, '') AS unit, '' AS statistic, 0 AS period_s, epoch(time) - ? AS t, value
        FROM service_metrics WHERE t >= 0 AND t <= ? ORDER BY n, t
        """,
        (since, length + 0.5),
    )


def _events(reader: Reader, since: float) -> tuple[Event, ...]:
    rows = reader.query(
        'SELECT epoch("start") - ? AS t0, epoch("end") - ? AS t1, host, kind, name, status, detail'
        " FROM timeline ORDER BY t0",
        (since, since),
    )
    return tuple(
        Event(
            start=row["t0"],
            end=row["t1"],
            host=row["host"] or "",
            kind=row["kind"] or "",
            name=row["name"] or "",
            status=row["status"] or "",
            detail=row["detail"] or "",
        )
        for row in records(rows)
        if row["t0"] is not None
    )


def _clocks(reader: Reader, since: float) -> tuple[ClockReading, ...]:
    rows = reader.query(
        "SELECT epoch(time) - ? AS t, host, phase, offset_s, bound_s, samples FROM clock ORDER BY host, t",
        (since,),
    )
    return tuple(
        ClockReading(row["t"], row["host"], row["phase"], row["offset_s"], row["bound_s"], int(row["samples"] or 0))
        for row in records(rows)
        if row["offset_s"] is not None and row["bound_s"] is not None
    )


def _observers(reader: Reader) -> tuple[ObserverCost, ...]:
    rows = reader.query("SELECT * FROM observer ORDER BY host")
    return tuple(
        ObserverCost(
            host=row["host"],
            window_s=row["window_s"] or 0.0,
            cpu_s=row["cpu_s"],
            bytes_written=row["bytes_written"],
            bytes_sent=row["bytes_sent"],
        )
        for row in records(rows)
    )


def _machine(reader: Reader, since: float) -> Series:
    rows = reader.query("SELECT epoch(time) - ? AS t, busy AS v FROM machine ORDER BY t", (since,))
    return Series(_floats(rows["t"]), _floats(rows["v"]))


def _logs(reader: Reader) -> tuple[LogFile, ...]:
    def whole(value: float | None) -> int | None:
        return None if value is None else int(value)

    rows = reader.query("SELECT * FROM logs ORDER BY service, host, source")
    return tuple(
        LogFile(
            host=row["host"],
            service=row["service"],
            source=row["source"],
            file=row["file"],
            bytes=row["bytes"],
            lines=whole(row["lines"]),
            warnings=whole(row["warnings"]),
            errors=whole(row["errors"]),
        )
        for row in records(rows)
    )


def _messages(reader: Reader, since: float) -> tuple[LogMessage, ...]:
    rows = reader.query(
        'SELECT host, service, level, message, times, epoch("first") - ? AS "first" FROM log_messages'
        ' ORDER BY service, level, "first" NULLS LAST, host, message',
        (since,),
    )
    return tuple(LogMessage(**(row | {"times": int(row["times"])})) for row in records(rows))
