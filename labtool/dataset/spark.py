"""Spark's event logs → tables: applications, executors, jobs, stages, and every task with all of its metrics.

A log is a file, or a folder `eventlog_v2_<application>` of files that were rolled; plain or compressed with zstd, as
Spark 3.5 and 4 write them, and once more as it was collected. It is read line by line: in memory are the tasks that
run at that moment, and the finished ones as Arrow. A log that was cut, since its driver was killed, gives what is
whole. What the metrics mean: Spark's `TaskMetrics`, and https://spark.apache.org/docs/latest/monitoring.html.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from labtool.dataset import tables
from labtool.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

TABLES = ("spark_applications", "spark_executors", "spark_jobs", "spark_stages", "spark_tasks")
AT_ONCE = 4000
"""So many finished tasks are rows in memory before they become Arrow."""
LONGEST_REASON = 500

ROLLED = "eventlog_v2_"
_SINGLE = re.compile(r"(app|application|local|spark)[-_].+")
_PART = re.compile(r"events_(\d+)_.+")
_ZSTD = b"\x28\xb5\x2f\xfd"
_CODECS = {b"LZ4B": "lz4", b"\x82SNA": "snappy", b"ZV\x00\x00": "lzf", b"ZV\x01\x00": "lzf"}
_TRACEBACK = "Traceback (most recent call last):"
_EVENT = re.compile(rb'\{"Event":"(?:org\.apache\.spark\.scheduler\.)?SparkListener(\w+)"')


def of_run(folder: Path, run: Mapping[str, Any]) -> dict[str, pa.Table]:
    """Return the tables of all logs in `folder/<driver's host>/eventlog/`; `run` is run.json, which names the hosts."""
    names = {
        address: host["name"]
        for host in run.get("hosts", ())
        for address in (host.get("address"), host.get("private_address"))
        if address
    }
    return _together(
        [rows(host, driver=host.parent.name, names=names) for host in sorted(folder.glob("*/eventlog")) if logs(host)]
    )


def rows(path: Path, *, driver: str = "", names: Mapping[str, str] | None = None) -> dict[str, pa.Table]:
    """Return the tables of one log, or of all logs anywhere under a folder; one that is empty is left out.

    `driver` is the host that the driver ran on, `names` the hosts' names by their addresses. `DataError` names the
    file that is no event log, or is compressed with what cannot be read.
    """
    return _together([_Log(one, driver, names or {}).read() for one in logs(path)])


def logs(path: Path) -> list[Path]:
    """Return the event logs at or under `path`: files, and folders of rolled ones."""
    if (
        path.is_file()
        or path.name.startswith(ROLLED)
        or any(_PART.fullmatch(one.name) for one in path.glob("events_*"))
    ):
        return [path]
    found = []
    for one in sorted(path.iterdir()) if path.is_dir() else ():
        if one.is_dir():
            found += logs(one)
        elif _SINGLE.fullmatch(one.name):
            found.append(one)
    return found


def parts(log: Path) -> list[Path]:
    """Return the files of a log in the order of their events.

    Of a rolled log that the history server made shorter, a `.compact` file stands for all parts up to its own.
    """
    if log.is_file():
        return [log]
    found = [(int(name[1]), one) for one in log.iterdir() if (name := _PART.fullmatch(one.name))]
    compact = max((number for number, one in found if ".compact" in one.suffixes), default=-1)
    kept = [
        (number, one) for number, one in found if number > compact or (number == compact and ".compact" in one.suffixes)
    ]
    return [one for _, one in sorted(kept)]


@contextmanager
def opened(file: Path) -> Iterator[BinaryIO]:
    """Open a file of a log as bytes, decompressed however often it was compressed with zstd."""
    import pyarrow as pa

    with ExitStack() as stack:
        stream: Any = stack.enter_context(file.open("rb"))
        while (start := stream.peek(4)[:4]) == _ZSTD:
            inner = pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), "zstd")
            stream = io.BufferedReader(stack.enter_context(_Readable(inner)), 1 << 16)
        if codec := _CODECS.get(start):
            raise DataError(
                f"{file} is compressed with {codec}, which is not read",
                "set spark.eventLog.compression.codec to zstd, Spark's default",
            )
        yield stream


class _Readable(io.RawIOBase):
    """A stream of Arrow's, as one that just ends where it was cut."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            piece = self.stream.read(len(buffer))
        except OSError:
            return 0
        buffer[: len(piece)] = piece
        return len(piece)


def _together(found: list[dict[str, pa.Table]]) -> dict[str, pa.Table]:
    import pyarrow as pa

    pieces = {name: [one[name] for one in found if name in one] for name in TABLES}
    made = {name: pa.concat_tables(some) for name, some in pieces.items() if some}
    return {name: table for name, table in made.items() if table.num_rows}


class _Log:
    """The events of one log, while it is read."""

    def __init__(self, log: Path, driver: str, names: Mapping[str, str]) -> None:
        self.log, self.names = log, names
        self.application: dict[str, Any] = {"driver": driver, "task_cpus": 1, "events": 0, "broken": 0}
        self.executors: dict[str, dict[str, Any]] = {}
        self.gone: list[dict[str, Any]] = []  # executors whose id was given again
        self.jobs: dict[int, dict[str, Any]] = {}
        self.stages: dict[tuple[int, int], dict[str, Any]] = {}
        self.running: dict[int, dict[str, Any]] = {}
        self.finished: list[dict[str, Any]] = []
        self.pieces: list[pa.Table] = []

    def read(self) -> dict[str, pa.Table]:
        """Read it to its end and return its tables."""
        import pyarrow as pa

        for file in parts(self.log):
            with opened(file) as stream:
                self._lines(file, stream)
        if not self.application["events"] and self.application["broken"]:
            raise DataError(f"{self.log} is no event log of Spark", "its lines should be JSON with an Event each")
        for task in self.running.values():
            self._done(task | {"status": "running"})
        self._flush()
        self.application.setdefault("application", self.log.name.removeprefix(ROLLED).split(".")[0])
        made = {
            "spark_applications": [self.application] if self.application["events"] else [],
            "spark_executors": self.gone + list(self.executors.values()),
            "spark_jobs": list(self.jobs.values()),
            "spark_stages": list(self.stages.values()),
        }
        found = {name: tables.to_arrow(name, self._marked(one), str(self.log)) for name, one in made.items()}
        found["spark_tasks"] = self._mark(pa.concat_tables(self.pieces))
        return found

    def _marked(self, made: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        return [one | self._which() for one in made]

    def _which(self) -> dict[str, str]:
        return {"application": self.application["application"], "driver": self.application["driver"]}

    def _mark(self, made: pa.Table) -> pa.Table:
        """Fill in whose tasks they are, which the log may say after the first of them."""
        import pyarrow as pa

        for name, value in self._which().items():
            made = made.set_column(made.schema.get_field_index(name), name, pa.repeat(value, made.num_rows))
        return made

    def _lines(self, file: Path, stream: BinaryIO) -> None:
        """Take the events of a file; of those that are of no interest not even the JSON is read."""
        for number, line in enumerate(stream, 1):
            kind = _EVENT.match(line)
            take = getattr(self, f"on_{kind[1].decode()}", None) if kind else None
            if take is None and line.startswith(b'{"Event":') and line.endswith(b"}\n"):
                self.application["events"] += 1
                continue
            try:
                event = json.loads(line)
            except ValueError:
                self.application["broken"] += 1
                continue
            try:
                if take:
                    take(event)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise DataError(f"{file}:{number}: not as Spark 3.5 or 4 writes it: {error!r}") from None
            self.application["events"] += 1

    # --- the application and its executors ----------------------------------------------------------------------------

    def on_LogStart(self, event: dict[str, Any]) -> None:  # noqa: N802 - these are Spark's names
        self.application["version"] = event["Spark Version"]

    def on_ApplicationStart(self, event: dict[str, Any]) -> None:  # noqa: N802
        attempt = event.get("App Attempt ID")
        name = event.get("App ID") or self.log.name
        self.application |= {
            "application": f"{name}/{attempt}" if attempt else name,
            "name": event["App Name"],
            "start": _seconds(event["Timestamp"]),
        }

    def on_ApplicationEnd(self, event: dict[str, Any]) -> None:  # noqa: N802
        self.application["end"] = _seconds(event["Timestamp"])

    def on_EnvironmentUpdate(self, event: dict[str, Any]) -> None:  # noqa: N802
        settings = event["Spark Properties"]
        self.application["master"] = settings.get("spark.master", "")
        self.application["task_cpus"] = int(settings.get("spark.task.cpus", 1))

    def on_ExecutorAdded(self, event: dict[str, Any]) -> None:  # noqa: N802
        name, known = event["Executor ID"], event["Executor Info"]
        if name in self.executors:
            self.gone.append(self.executors[name])
        self.executors[name] = {
            "executor": name,
            "host": self._host(known["Host"]),
            "cores": known["Total Cores"],
            "added": _seconds(event["Timestamp"]),
        }

    def on_ExecutorRemoved(self, event: dict[str, Any]) -> None:  # noqa: N802
        executor = self.executors.setdefault(event["Executor ID"], {"executor": event["Executor ID"]})
        executor |= {"removed": _seconds(event["Timestamp"]), "reason": _first_line(event["Removed Reason"])}

    # --- jobs and stages ----------------------------------------------------------------------------------------------

    def on_JobStart(self, event: dict[str, Any]) -> None:  # noqa: N802
        said = event.get("Properties") or {}
        job = event["Job ID"]
        execution, batch = said.get("spark.sql.execution.id"), said.get("streaming.sql.batchId")
        last: dict[str, Any] = max(event["Stage Infos"], key=lambda stage: stage["Stage ID"], default={})
        self.jobs[job] = {
            "job": job,
            "name": _first_line(said.get("spark.job.description") or last.get("Stage Name") or ""),
            "submitted": _seconds(event["Submission Time"]),
            "status": "running",
            "stages": ",".join(str(stage) for stage in sorted(event["Stage IDs"])),
            "execution": int(execution) if execution else None,
            "batch": int(batch) if batch else None,
        }
        for stage in event["Stage Infos"]:
            self._stage(stage).setdefault("job", job)

    def on_JobEnd(self, event: dict[str, Any]) -> None:  # noqa: N802
        result = event["Job Result"]
        job = self.jobs.setdefault(event["Job ID"], {"job": event["Job ID"]})
        failed = result["Result"] != "JobSucceeded"
        job |= {
            "completed": _seconds(event["Completion Time"]),
            "status": "failed" if failed else "ok",
            "reason": _first_line((result.get("Exception") or {}).get("Message", "")) if failed else "",
        }
        for number in (int(text) for text in job.get("stages", "").split(",") if text):
            stage = self.stages.get((number, 0))
            if stage is not None and stage["status"] == "waiting":
                stage["status"] = "skipped"

    def on_StageSubmitted(self, event: dict[str, Any]) -> None:  # noqa: N802
        self._stage(event["Stage Info"])["status"] = "running"

    def on_StageCompleted(self, event: dict[str, Any]) -> None:  # noqa: N802
        said = event["Stage Info"]
        reason = said.get("Failure Reason")
        self._stage(said).update(
            completed=_seconds(said.get("Completion Time")),
            status="failed" if reason else "ok",
            reason=_first_line(reason or ""),
        )

    def _stage(self, said: dict[str, Any]) -> dict[str, Any]:
        """Return a stage's row, with what the event says of it."""
        number, attempt = said["Stage ID"], said.get("Stage Attempt ID", 0)
        if (number, attempt) not in self.stages:
            first = self.stages.get((number, 0), {})
            self.stages[number, attempt] = {"stage": number, "attempt": attempt, "status": "waiting"} | {
                key: first[key] for key in ("job",) if key in first
            }
        stage = self.stages[number, attempt]
        stage |= {
            "name": said["Stage Name"],
            "rdds": ", ".join(dict.fromkeys(rdd["Name"].strip() for rdd in said.get("RDD Info", ()))),
            "parents": ",".join(str(parent) for parent in said.get("Parent IDs", ())),
            "tasks": said["Number of Tasks"],
        }
        if "Submission Time" in said:
            stage["submitted"] = _seconds(said["Submission Time"])
        return stage

    # --- tasks --------------------------------------------------------------------------------------------------------

    def on_TaskStart(self, event: dict[str, Any]) -> None:  # noqa: N802
        self.running[event["Task Info"]["Task ID"]] = self._task(event)

    def on_TaskEnd(self, event: dict[str, Any]) -> None:  # noqa: N802
        why = event["Task End Reason"]
        if why["Reason"] == "Resubmitted":  # it had ended well before; its executor took the output with it
            return
        self.running.pop(event["Task Info"]["Task ID"], None)
        status = {"Success": "ok", "TaskKilled": "killed"}.get(why["Reason"], "failed")
        task = self._task(event) | {"status": status, "reason": "" if status == "ok" else _why(why)}
        self._done(task | _metrics(event))

    def _task(self, event: dict[str, Any]) -> dict[str, Any]:
        said = event["Task Info"]
        return {
            "stage": event["Stage ID"],
            "attempt": event.get("Stage Attempt ID", 0),
            "task": said["Task ID"],
            "index": said["Index"],
            "try": said["Attempt"],
            "executor": said["Executor ID"],
            "host": self._host(said["Host"]),
            "locality": said["Locality"],
            "speculative": said["Speculative"],
            "launched": _seconds(said["Launch Time"]),
        }

    def _done(self, task: dict[str, Any]) -> None:
        self.finished.append(task)
        if len(self.finished) >= AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        self.pieces.append(tables.to_arrow("spark_tasks", self.finished, str(self.log)))
        self.finished = []

    def _host(self, said: str) -> str:
        return self.names.get(said, said)


def _metrics(event: dict[str, Any]) -> dict[str, Any]:
    """Return what a task that ended did; where it left no metrics, only how long it took.

    The scheduler's delay is what the others leave of the duration, as in Spark's own pages (`AppStatusUtils`).
    """
    info, said = event["Task Info"], event.get("Task Metrics")
    took = (info["Finish Time"] - info["Launch Time"]) / 1000
    found: dict[str, Any] = {"finished": _seconds(info["Finish Time"]), "duration_s": took}
    if not said:
        return found
    read, wrote = said.get("Shuffle Read Metrics") or {}, said.get("Shuffle Write Metrics") or {}
    source, sink = said.get("Input Metrics") or {}, said.get("Output Metrics") or {}
    fetched = info["Getting Result Time"]
    getting = (info["Finish Time"] - fetched) / 1000 if fetched > 0 else 0.0
    parts = {
        "deserialize_s": said["Executor Deserialize Time"] / 1e3,
        "run_s": said["Executor Run Time"] / 1e3,
        "result_serialize_s": said["Result Serialization Time"] / 1e3,
        "getting_result_s": getting,
    }
    return {
        **found,
        **parts,
        "scheduler_delay_s": max(0.0, round(took - sum(parts.values()), 6)),
        "deserialize_cpu_s": said.get("Executor Deserialize CPU Time", 0) / 1e9,
        "cpu_s": said.get("Executor CPU Time", 0) / 1e9,
        "gc_s": said["JVM GC Time"] / 1e3,
        "fetch_wait_s": read.get("Fetch Wait Time", 0) / 1e3,
        "shuffle_write_s": wrote.get("Shuffle Write Time", 0) / 1e9,
        "result_bytes": said["Result Size"],
        "peak_memory_bytes": said.get("Peak Execution Memory", 0),
        "memory_spilled_bytes": said["Memory Bytes Spilled"],
        "disk_spilled_bytes": said["Disk Bytes Spilled"],
        "input_bytes": source.get("Bytes Read", 0),
        "input_records": source.get("Records Read", 0),
        "output_bytes": sink.get("Bytes Written", 0),
        "output_records": sink.get("Records Written", 0),
        "shuffle_local_bytes": read.get("Local Bytes Read", 0),
        "shuffle_remote_bytes": read.get("Remote Bytes Read", 0),
        "shuffle_remote_to_disk_bytes": read.get("Remote Bytes Read To Disk", 0),
        "shuffle_local_blocks": read.get("Local Blocks Fetched", 0),
        "shuffle_remote_blocks": read.get("Remote Blocks Fetched", 0),
        "shuffle_records": read.get("Total Records Read", 0),
        "remote_requests_s": read.get("Remote Requests Duration", 0) / 1e3,
        "shuffle_write_bytes": wrote.get("Shuffle Bytes Written", 0),
        "shuffle_write_records": wrote.get("Shuffle Records Written", 0),
    }


def _why(said: dict[str, Any]) -> str:
    """Return the reason of a task's end in a line."""
    texts = (said.get(key) for key in ("Kill Reason", "Description", "Message", "Loss Reason"))
    text = _first_line(next((text for text in texts if text), ""))
    kind = str(said.get("Class Name") or said["Reason"]).rsplit(".", 1)[-1]
    return text if kind == "TaskKilled" and text else f"{kind}: {text}" if text else kind


def _first_line(text: str) -> str:
    """Return the first line of a text; of a Python traceback, which begins with nothing, its error instead."""
    first, _, rest = text.strip().partition("\n")
    if first.endswith(_TRACEBACK):
        error = next((line for line in rest.splitlines() if line.strip() and not line.startswith(" ")), "")
        first = first.removesuffix(_TRACEBACK) + error
    return first[:LONGEST_REASON]


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None or milliseconds < 0 else milliseconds / 1000
