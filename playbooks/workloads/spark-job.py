"""What a Spark application did: its own tables, and rows of `workload_intervals`, `…_summary` and `…_counts`.

Reads `raw/spark-job/<host>/`, as files/spark_job.py leaves it: job.json, the event logs (which become the `spark_*`
tables), and what Spark's own REST API made of those. An operation is a task that ended; its latency is the time from
its launch to its end, and its bytes are those that it read, of its input and of shuffles. Times are the driver's.

The sums over the event log's tasks stand beside those of the REST API in `workload_counts`. An event log whose end is
missing, as that of a driver that was killed, has what it has.
"""

import json
import math
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from labtool.dataset import spark
from labtool.errors import DataError

FEWEST = {"p50_ms": (0.5, 1), "p95_ms": (0.95, 20), "p99_ms": (0.99, 100), "p999_ms": (0.999, 1000)}
"""Percentiles, and how many tasks it takes for one to be more than the longest of them."""

COLUMNS = ("driver", "launched", "finished", "status", "input_bytes", "shuffle_write_bytes")
SHUFFLED = ("shuffle_local_bytes", "shuffle_remote_bytes")

Rows = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Task:
    """A task that ended."""

    launched: float  # s since 1970
    ended: float
    failed: bool
    input_bytes: int
    read_bytes: int  # from shuffles
    written_bytes: int  # for shuffles

    @property
    def ms(self) -> float:
        """How long it took."""
        return (self.ended - self.launched) * 1000


def parse(raw: Path, run: dict[str, Any]) -> dict[str, Any]:
    """Return the tables' rows; `DataError` names the file that is none of the driver's."""
    tables: Rows = {"workload_intervals": [], "workload_summary": [], "workload_counts": []}
    logged = spark.of_run(raw / "spark-job", run)
    tasks_of = tasks_by_driver(logged)
    for file in sorted((raw / "spark-job").glob("*/job.json")):
        try:
            job = json.loads(file.read_text())
            started, ended = job["started_us"] / 1e6, job["ended_us"] / 1e6
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{file}: no account of a job ({error})", "it was cut or edited by hand") from None
        if not started:
            continue  # it was ended before it began
        client = f"{file.parent.name}/driver"
        tasks = tasks_of.get(file.parent.name, [])
        ended = ended or (tasks[-1].ended if tasks else started)
        tables["workload_intervals"] += intervals(client, tasks, started, ended)
        tables["workload_summary"].append(summary(client, tasks, started, ended, bool(job.get("cause"))))
        tables["workload_counts"] += counts(tasks, sorted((file.parent / "rest").glob("*.json")), job)
    return {name: rows for name, rows in tables.items() if rows} | logged


def tasks_by_driver(logged: dict[str, Any]) -> dict[str, list[Task]]:
    """Return the tasks that ended, by the host of their driver, in the order of their ends."""
    found: dict[str, list[Task]] = defaultdict(list)
    table = logged.get("spark_tasks")
    rows = table.select([*COLUMNS, *SHUFFLED]).to_pylist() if table is not None else []
    for row in rows:
        if row["finished"] is not None:
            found[row["driver"]].append(
                Task(
                    launched=row["launched"].timestamp(),
                    ended=row["finished"].timestamp(),
                    failed=row["status"] != "ok",
                    input_bytes=row["input_bytes"] or 0,
                    read_bytes=sum(row[name] or 0 for name in SHUFFLED),
                    written_bytes=row["shuffle_write_bytes"] or 0,
                )
            )
    return {driver: sorted(tasks, key=lambda task: task.ended) for driver, tasks in found.items()}


def intervals(client: str, tasks: list[Task], started: float, ended: float) -> list[dict[str, Any]]:
    """Return a row for each second from the submission to the end: the tasks that ended in it."""
    by_second: dict[int, list[Task]] = defaultdict(list)
    for task in tasks:
        by_second[max(int(task.ended - started), 0)].append(task)
    rows = []
    for second in range(math.ceil(ended - started)):
        mine = by_second.get(second, [])
        until = min(started + second + 1, ended)
        seconds = max(until - started - second, 1e-3)
        rows.append(
            {
                "time": datetime.fromtimestamp(until, UTC),
                "duration_s": seconds,
                "client": client,
                "role": "client",
                "offered_rate": None,
                "rate": len(mine) / seconds,
                "bytes_rate": sum(task.input_bytes + task.read_bytes for task in mine) / seconds,
                "latency_avg_ms": sum(task.ms for task in mine) / len(mine) if mine else None,
                "latency_max_ms": max((task.ms for task in mine), default=None),
                "p50_ms": None,
                "p90_ms": None,
                "p99_ms": None,
                "errors": sum(task.failed for task in mine),
            }
        )
    return rows


def summary(client: str, tasks: list[Task], started: float, ended: float, failed: bool) -> dict[str, Any]:
    """Return the row of the whole application; one that failed without a failed task counts as one error."""
    took = sorted(task.ms for task in tasks)
    seconds = max(ended - started, 1e-3)
    errors = sum(task.failed for task in tasks)
    return {
        "client": client,
        "role": "client",
        "start": datetime.fromtimestamp(started, UTC),
        "end": datetime.fromtimestamp(ended, UTC),
        "operations": len(tasks),
        "errors": errors or int(failed),
        "offered_rate": None,
        "rate": len(tasks) / seconds,
        "bytes_rate": sum(task.input_bytes + task.read_bytes for task in tasks) / seconds,
        "latency_avg_ms": sum(took) / len(took) if took else None,
        "latency_max_ms": took[-1] if took else None,
        # The shortest time that at least a share q of the tasks did not exceed (nearest rank).
        **{name: took[math.ceil(q * len(took)) - 1] if len(took) >= n else None for name, (q, n) in FEWEST.items()},
    }


def counts(tasks: list[Task], files: list[Path], job: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the event log's sums beside the REST API's, where that told of every application."""
    if not files or len(files) < len(job.get("applications", [])):
        return []
    stages = []
    for file in files:
        try:
            stages += json.loads(file.read_text())["stages"]
        except (ValueError, KeyError) as error:
            raise DataError(
                f"{file}: no answer of Spark's REST API ({error})", "it was cut or edited by hand"
            ) from None
    pairs = {
        "tasks": (len(tasks), ("numCompleteTasks", "numFailedTasks", "numKilledTasks")),
        "bytes of input": (sum(task.input_bytes for task in tasks), ("inputBytes",)),
        "bytes read from shuffles": (sum(task.read_bytes for task in tasks), ("shuffleReadBytes",)),
        "bytes written for shuffles": (sum(task.written_bytes for task in tasks), ("shuffleWriteBytes",)),
    }
    return [
        {
            "what": what,
            "claimed": claimed,
            "claimed_by": "the tasks in the event log",
            "counted": sum(int(stage.get(name, 0)) for stage in stages for name in names),
            "counted_by": "the stages of Spark's REST API",
        }
        for what, (claimed, names) in pairs.items()
        if claimed or what == "tasks" or any(stage.get(name) for stage in stages for name in names)
    ]
