"""What a Spark application did: its jobs, stages, tasks and executors, and whether Spark's own totals say the same.

Reads `raw/spark-job/<host>/`, as files/spark_job.py leaves it: the event logs, which become the `spark_*` tables, and
what Spark's REST API made of them. The sums over the event log's tasks stand beside those of the API in
`workload_counts`. An event log whose end is missing, as that of a driver that was killed, has what it has.
"""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from labtool.dataset import spark
from labtool.errors import DataError

COUNTED = {
    "bytes of input": (("input_bytes",), "inputBytes"),
    "bytes read from shuffles": (("shuffle_local_bytes", "shuffle_remote_bytes"), "shuffleReadBytes"),
    "bytes written for shuffles": (("shuffle_write_bytes",), "shuffleWriteBytes"),
}
"""What is counted: columns of `spark_tasks`, and what the API calls it."""
ENDED = ("numCompleteTasks", "numFailedTasks", "numKilledTasks")


def parse(raw: Path, run: dict[str, Any]) -> dict[str, Any]:
    """Return the tables; `DataError` names the file that Spark did not write."""
    tables: dict[str, Any] = dict(spark.of_run(raw / "spark-job", run))
    if "spark_tasks" in tables:
        files = sorted((raw / "spark-job").glob("*/rest/*.json"))
        logged = {(row["application"], row["driver"]) for row in tables["spark_applications"].to_pylist()}
        # Totals of some of the applications are none of all tasks.
        if files and len(files) == len(logged):
            tables["workload_counts"] = counts(
                tables["spark_tasks"], [stage for file in files for stage in stages(file)]
            )
    return tables


def stages(file: Path) -> list[dict[str, Any]]:
    """Return the stages that an answer of Spark's REST API tells of."""
    try:
        found: list[dict[str, Any]] = json.loads(file.read_text())["stages"]
    except (ValueError, KeyError) as error:
        raise DataError(f"{file}: no answer of Spark's REST API ({error})", "it was cut or edited by hand") from None
    return found


def counts(tasks: pa.Table, told: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the event log's sums beside those of the REST API; what neither has is left out."""
    ended = pc.sum(pc.is_valid(tasks["finished"])).as_py() or 0
    pairs = {"tasks": (ended, sum(int(stage.get(name, 0)) for stage in told for name in ENDED))}
    for what, (columns, name) in COUNTED.items():
        claimed = sum(pc.sum(tasks[column]).as_py() or 0 for column in columns)
        pairs[what] = (claimed, sum(int(stage.get(name, 0)) for stage in told))
    return [
        {
            "what": what,
            "claimed": claimed,
            "claimed_by": "the tasks in the event log",
            "counted": counted,
            "counted_by": "the stages of Spark's REST API",
        }
        for what, (claimed, counted) in pairs.items()
        if claimed or counted
    ]
