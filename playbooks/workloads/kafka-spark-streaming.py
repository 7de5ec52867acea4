"""What a run of kafka-spark-streaming left, as tables.

Reads `raw/kafka-spark-streaming/<host>/`: of the load hosts each client's files (labtool.dataset.requests), and of the
first of them results.csv.gz, backlog.csv, reader.json and, of a search, steps.json (files/stream_load.py); of the host
that submitted the query job.json, query/progress.jsonl (files/stream_query.py) and its event log, which becomes the
`spark_*` tables; and `end-offsets.json`, the brokers' own count.

An operation is a record. It is done when a result was appended that has it in it: the first result of its group and
window whose highest number is not below its own (a group's records are of one client, in its order, in one partition).
Its latency is from when it was due, by the client's clock, to that result's append, in whole ms by the clock of the
broker that leads the results topic; both are moved by their measured offsets, where those are known to differ from 0.
A record without a result is an error, `no result`.
"""

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from labtool.dataset import clock, requests, spark
from labtool.errors import DataError
from labtool.experiment.settle import check_settings

WORKLOAD = "kafka-spark-streaming"
PHASES = ("latestOffset", "getBatch", "queryPlanning", "walCommit", "addBatch", "commitOffsets")
COLUMNS = (
    "latest_offset_ms",
    "get_batch_ms",
    "query_planning_ms",
    "wal_commit_ms",
    "add_batch_ms",
    "commit_offsets_ms",
)
RESULT = {"read_us": "BIGINT", "append_us": "BIGINT", "grp": "VARCHAR", "window_us": "BIGINT"}
RESULT |= {"records": "BIGINT", "amount": "BIGINT", "last": "BIGINT"}

Rows = dict[str, Any]

TAKEN = {"acks": "--acks", "request.required.acks": "--acks"}
"""Settings of librdkafka that an option is for."""


def check(values: dict[str, Any]) -> None:
    """Refuse settings that another option is for, and what the clients set themselves."""
    ours = ("bootstrap.servers", "client.id")
    check_settings("--properties", values["properties"], "linger.ms=5 compression.type=lz4", TAKEN, ours)


def parse(raw: Path, run: dict[str, Any]) -> dict[str, Any]:
    """Return the tables; `DataError` names the file that is none of the drivers'."""
    folder = raw / WORKLOAD
    reader = next(iter(sorted(folder.glob("*/reader.json"))), None)
    told = read_json(reader) if reader else {}
    offsets = clock.by_host(clock.read(raw)[0])
    found: dict[str, Any] = {}
    tables = requests.parse(raw, WORKLOAD, partial(amend, found, reader, told, offsets))
    found["stream_batches"] = [row for file in sorted(folder.glob("*/query/progress.jsonl")) for row in batches(file)]
    found["stream_backlog"] = backlog(reader) if reader else []
    found["workload_steps"] = requests.steps(raw, WORKLOAD)
    acknowledged = tables["requests"]["error"].to_pylist() if "requests" in tables else []
    unsent = sum(one not in ("", "no result") for one in acknowledged)
    found["workload_counts"] = counts(
        folder / "end-offsets.json", len(acknowledged) - unsent, found["stream_batches"], told
    )
    found |= spark.of_run(folder, run)
    return tables | {name: rows for name, rows in found.items() if len(rows)}


def read_json(file: Path) -> dict[str, Any]:
    """Return what a file of the drivers says."""
    try:
        known = json.loads(file.read_text())
        if not isinstance(known, dict):
            raise ValueError("no mapping")
    except ValueError as error:
        raise DataError(f"{file} is no account of a driver: {error}", "it was cut or edited by hand") from None
    return known


# Records and their results


def amend(
    found: dict[str, Any],
    reader: Path | None,
    told: Mapping[str, Any],
    offsets: Mapping[str, Sequence[clock.Offset]],
    base: Any,
    clients: Mapping[str, Mapping[str, Any]],
) -> None:
    """Let each record end with its result's append; `found` gets the results."""
    base.execute(f"CREATE TABLE result ({', '.join(f'{name} {kind}' for name, kind in RESULT.items())})")
    if reader is not None and (rows := list(results(reader.with_name("results.csv.gz")))):
        base.register("given", pa.table(list(map(list, zip(*rows, strict=True))), names=list(RESULT)))
        base.execute("INSERT INTO result SELECT * FROM given")
    window_us = int(told.get("window_us") or 1)
    broker = str(told.get("append_clock", ""))
    reads_on = reader.parent.name if reader else ""
    base.execute("CREATE TABLE sender (client VARCHAR, part VARCHAR, groups BIGINT, ahead BIGINT)")
    for name, known in clients.items():
        try:
            row = (name, str(known["part"]), int(known["groups"]))
        except (KeyError, ValueError, TypeError) as error:
            raise DataError(
                f"{name}.json: no account of a client ({error!r})", "it was cut or edited by hand"
            ) from None
        # What the broker's clock said, in the client's: the table's times are moved from that to the controller's.
        ahead_s = ahead(offsets, name.split("/")[0], known) - ahead(offsets, broker, known)
        base.execute("INSERT INTO sender VALUES (?, ?, ?, ?)", [*row, round(ahead_s * 1e6)])
    until = int(told.get("ended_us") or 0)
    base.execute(
        f"""
        CREATE TABLE first AS SELECT grp, window_us, last, min(append_us) AS append_us FROM result GROUP BY ALL;
        CREATE OR REPLACE TABLE log AS
        SELECT log.client, name, due_us, sent_us,
               CASE WHEN error IS NOT NULL THEN done_us WHEN append_us IS NULL THEN greatest(done_us, {until})
                    ELSE append_us + ahead END AS done_us,
               NULL::BIGINT AS status,
               CASE WHEN error IS NULL AND append_us IS NULL THEN 'no result' ELSE error END AS error,
               bytes, endpoint, id, warmup
        FROM (SELECT log.*, part || '-' || (status % groups) AS grp, due_us // {window_us} * {window_us} AS window_us,
                     ahead
              FROM log JOIN sender USING (client)) AS log
        ASOF LEFT JOIN first
        ON log.grp = first.grp AND log.window_us = first.window_us AND log.status <= first.last;
        """  # noqa: S608
    )
    behind = round((ahead(offsets, reads_on, told) - ahead(offsets, broker, told)) * 1e6)
    found["stream_results"] = base.sql(
        f"""
        SELECT make_timestamptz(append_us) AS time, ? AS host, (read_us - append_us - {behind}) / 1e6 AS read_s,
               coalesce(client, '') AS client, grp AS endpoint, make_timestamptz(window_us) AS window, records, amount,
               last
        FROM result LEFT JOIN sender ON split_part(grp, '-', 1) = part ORDER BY append_us, grp
        """,  # noqa: S608
        params=[broker],
    ).to_arrow_table()


def ahead(offsets: Mapping[str, Sequence[clock.Offset]], host: str, known: Mapping[str, Any]) -> float:
    """Return a host's clock minus the controller's at a client's end, in s; 0 where its bound does not exclude that."""
    rows = offsets.get(host, ())
    found = clock.offset_at(rows, datetime.fromtimestamp(float(known.get("ended_us") or 0) / 1e6, UTC))
    return found if abs(found) > min((row.bound_s for row in rows), default=0.0) else 0.0


def results(file: Path) -> Iterator[tuple[Any, ...]]:
    """Yield the results; of a file that was cut those that are whole."""
    try:
        with gzip.open(file, "rt") as lines:
            next(lines, None)
            for number, line in enumerate(lines, 2):
                cells = line.rstrip("\n").split(",")
                try:
                    yield (int(cells[0]), int(cells[1]), cells[2], *(int(cell) for cell in cells[3:7]))
                except (ValueError, IndexError):
                    if line.endswith("\n"):
                        raise DataError(f"{file}:{number}: {line[:80]!r} is no result") from None
    except (EOFError, FileNotFoundError, gzip.BadGzipFile):
        return


def backlog(reader: Path) -> list[Rows]:
    """Return how many records the topic had over time, and how many of them were in results."""
    file = reader.with_name("backlog.csv")
    rows = []
    for line in file.read_text().splitlines()[1:] if file.exists() else []:
        cells = line.split(",")
        if len(cells) == 3 and all(cell.isdigit() for cell in cells):
            time_us, stored, covered = map(int, cells)
            rows.append({"time": time_us / 1e6, "host": reader.parent.name, "stored": stored, "covered": covered})
    return rows


# Batches


def batches(file: Path) -> Iterator[Rows]:
    """Yield a row for each batch that Spark told of; the last line may be cut."""
    trigger_s = float(read_json(file.parents[1] / "job.json").get("trigger_s") or 0)
    lines = file.read_text().splitlines()
    for number, line in enumerate(lines, 1):
        try:
            yield batch(json.loads(line), file.parents[1].name, trigger_s)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if number < len(lines):
                raise DataError(f"{file}:{number}: no progress of a query ({error!r})") from None


def batch(progress: Rows, host: str, trigger_s: float) -> Rows:
    """Read a StreamingQueryProgress."""
    took, states = progress["durationMs"], progress.get("stateOperators", [])
    ends = [
        source.get(name) or {}
        for source in progress["sources"]
        for name in ("startOffset", "endOffset", "latestOffset")
    ]
    start, end, latest = (total(ends[at::3]) for at in range(3))
    written = progress.get("sink", {}).get("numOutputRows", -1)
    return {
        "time": progress["timestamp"],
        "host": host,
        "query": progress.get("name") or "",
        "batch": progress["batchId"],
        "trigger_ms": trigger_s * 1000,
        "duration_ms": took["triggerExecution"],
        **{column: took.get(phase) for column, phase in zip(COLUMNS, PHASES, strict=True)},
        "rows": progress["numInputRows"],
        "input_rate": rate(progress.get("inputRowsPerSecond")),
        "processed_rate": rate(progress.get("processedRowsPerSecond")),
        "start_offset": start,
        "end_offset": end,
        "latest_offset": latest,
        "late_rows": sum(state.get("numRowsDroppedByWatermark", 0) for state in states),
        "state_rows": sum(state.get("numRowsTotal", 0) for state in states),
        "results": written if written >= 0 else None,
    }


def total(offsets: list[Any]) -> int:
    """Return the sum of all partitions' offsets; Spark's mapping of them is a text in older versions."""
    known = [json.loads(one) if isinstance(one, str) else one for one in offsets]
    return sum(int(offset) for topics in known for parts in topics.values() for offset in parts.values())


def rate(value: Any) -> float | None:
    """Return a rate; Spark writes one that it cannot work out as a text, or leaves it out."""
    return float(value) if isinstance(value, int | float) else None


def counts(file: Path, acknowledged: int, found: list[Rows], told: Mapping[str, Any]) -> list[Rows]:
    """Return what clients, Spark and its results count beside what the brokers do; nothing where those are silent."""
    if not file.exists():
        return []
    try:
        records, given = (
            sum(int(count) for count in parts.values()) if parts else 0
            for parts in json.loads(file.read_text()).values()
        )
    except (ValueError, AttributeError, TypeError):
        raise DataError(f"{file}: expected a number of records for each partition of both topics") from None
    claims = [
        ("records", acknowledged, "the producers' acknowledged sends", records, "the topic's end offsets"),
        ("records", sum(row["rows"] for row in found), "the batches' input rows", records, "the topic's end offsets"),
        ("records", told.get("covered"), "the counts of all windows", records, "the topic's end offsets"),
        ("results", told.get("results"), "the results that were read", given, "the results topic's end offsets"),
    ]
    names = ("what", "claimed", "claimed_by", "counted", "counted_by")
    return [dict(zip(names, row, strict=True)) for row in claims if row[1] is not None and row[3]]
