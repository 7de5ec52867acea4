"""Spark applications in memory, as the analysis and the figures read them: times in s since the window's start."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from labtool.analysis.data import Flags, Floats
from labtool.analysis.reader import Reader, records

Numbers = npt.NDArray[np.int32]
OK, FAILED, KILLED, RUNNING = "ok", "failed", "killed", "running"
REMOTE = ("RACK_LOCAL", "ANY")

AMOUNTS = (
    "duration", "scheduler_delay", "deserialize", "run", "result_serialize", "getting_result", "cpu", "gc",
    "fetch_wait", "shuffle_write",
)  # fmt: skip
"""Columns of `spark_tasks` in s, without their `_s`."""
SIZES = (
    "peak_memory", "memory_spilled", "disk_spilled", "input", "output", "shuffle_local", "shuffle_remote",
    "shuffle_remote_to_disk", "shuffle_write",
)  # fmt: skip
"""And in bytes, without their `_bytes`."""


@dataclass(frozen=True)
class Executor:
    """A process that runs tasks; `removed` is None where it stayed to the end."""

    name: str
    host: str
    cores: int
    added: float
    removed: float | None
    reason: str


@dataclass(frozen=True)
class Job:
    """What the driver asked for at once; `completed` is None where the log ends before it."""

    number: int
    name: str
    submitted: float
    completed: float | None
    status: str
    reason: str
    batch: int | None = None  # of a streaming query


@dataclass(frozen=True)
class Stage:
    """A stage that was submitted, one attempt of it; `job` is the first that needed it, -1 where it is not known."""

    number: int
    attempt: int
    job: int
    name: str
    rdds: str
    parents: tuple[int, ...]
    tasks: int
    submitted: float
    completed: float | None
    status: str
    reason: str

    @property
    def label(self) -> str:
        """Its number as figures and sentences name it, with its attempt where that is not the first."""
        return f"{self.number}.{self.attempt}" if self.attempt else str(self.number)

    @property
    def python(self) -> bool:
        """True where Python workers compute for its tasks: their CPU time is in no metric of the task."""
        return "Python" in self.rdds or "InPandas" in self.rdds or "InArrow" in self.rdds


@dataclass(frozen=True)
class Tasks:
    """The tasks of an application: arrays of one length, an element per task, in the order they were launched.

    `stage` is the position in the application's stages, `executor` and `host` in `executors` and `hosts`. Times are
    in s; what a task did not leave is not a number: `finished` of one that the log does not see end, every metric of
    one that failed without.
    """

    launched: Floats
    finished: Floats
    stage: Numbers
    index: Numbers
    executor: Numbers
    host: Numbers
    ok: Flags
    speculative: Flags
    remote: Flags  # its data were on another host
    records: Floats  # read, from input and shuffle
    seconds: Mapping[str, Floats]  # by AMOUNTS
    bytes: Mapping[str, Floats]  # by SIZES
    executors: tuple[str, ...]
    hosts: tuple[str, ...]
    ends: Mapping[int, tuple[str, str]] = field(default_factory=dict)  # of those not ok: (status, reason)

    def __len__(self) -> int:
        return len(self.launched)

    @property
    def duration(self) -> Floats:
        """From the launch to the end, as the driver saw both."""
        return self.seconds["duration"]

    @cached_property
    def read_bytes(self) -> Floats:
        """What each read, from input and shuffle."""
        return self.bytes["input"] + self.bytes["shuffle_local"] + self.bytes["shuffle_remote"]

    @cached_property
    def waiting(self) -> Floats:
        """For how long each was neither on a processor nor in anything that Spark measures (s).

        It may have read input, spilled, waited for a Python worker, or for a processor: run time without CPU time,
        garbage collection, fetch wait and shuffle write.
        """
        known = self.seconds
        rest = known["run"] - known["cpu"] - known["gc"] - known["fetch_wait"] - known["shuffle_write"]
        return np.maximum(rest, 0.0)

    @cached_property
    def spent(self) -> Mapping[str, Floats]:
        """What each spent its time on (s), by name; 0 where it is not known. The parts overlap a little."""
        known = {name: np.nan_to_num(values) for name, values in self.seconds.items()}
        return {
            "computing": known["cpu"],
            "garbage collection": known["gc"],
            "shuffle wait": known["fetch_wait"],
            "shuffle write": known["shuffle_write"],
            "waiting, not measured": np.nan_to_num(self.waiting),
            "deserialising": known["deserialize"],
            "scheduler and result": known["scheduler_delay"] + known["getting_result"] + known["result_serialize"],
        }


@dataclass(frozen=True)
class Application:
    """An application: what it ran, on which executors, and what its log lacks."""

    id: str
    name: str
    driver: str
    version: str
    start: float
    end: float | None  # None where the log ends before it
    task_cpus: int
    broken: int
    executors: tuple[Executor, ...]
    jobs: tuple[Job, ...]
    stages: tuple[Stage, ...]  # those that were submitted, in that order
    tasks: Tasks
    skipped: int = 0  # stages

    @property
    def span(self) -> tuple[float, float]:
        """From the first job's submission to the last thing that is known of a job."""
        last = [job.completed for job in self.jobs if job.completed is not None]
        ended = self.tasks.finished[np.isfinite(self.tasks.finished)]
        last += [float(ended.max())] if len(ended) else []
        first = min((job.submitted for job in self.jobs), default=self.start)
        return first, max(last, default=first)

    @property
    def streaming(self) -> bool:
        """True where most of its jobs are of micro-batches: a query that goes on, not a job with an end."""
        return 2 * sum(job.batch is not None for job in self.jobs) > len(self.jobs)

    @property
    def length(self) -> float:
        """Seconds of that span."""
        first, last = self.span
        return last - first

    def of_stage(self, position: int) -> npt.NDArray[np.intp]:
        """Return the positions of a stage's tasks."""
        return self._of_stage[position]

    @cached_property
    def _of_stage(self) -> list[npt.NDArray[np.intp]]:
        order = np.argsort(self.tasks.stage, kind="stable")
        edges = np.searchsorted(self.tasks.stage[order], np.arange(len(self.stages) + 1))
        return [order[edges[i] : edges[i + 1]] for i in range(len(self.stages))]

    def slots_of(self, executor: Executor) -> int:
        """Return how many tasks an executor runs at once."""
        return max(1, executor.cores // max(self.task_cpus, 1))


def applications(reader: Reader, since: float) -> tuple[Application, ...]:
    """Return the applications of a run that ran anything, the first one first; `since` is the window's start."""
    rows = records(
        reader.query(
            'SELECT application, driver, name, version, epoch("start") - ? AS t0, epoch("end") - ? AS t1, task_cpus,'
            " broken FROM spark_applications ORDER BY t0, application",
            (since, since),
        )
    )
    found = []
    for row in rows:
        stages, skipped = _stages(reader, row["application"], since)
        made = Application(
            id=row["application"],
            name=row["name"] or row["application"],
            driver=row["driver"] or "",
            version=row["version"] or "",
            start=row["t0"] or 0.0,
            end=row["t1"],
            task_cpus=int(row["task_cpus"] or 1),
            broken=int(row["broken"] or 0),
            executors=_executors(reader, row["application"], since),
            jobs=_jobs(reader, row["application"], since),
            stages=stages,
            tasks=_tasks(reader, row["application"], since, stages),
            skipped=skipped,
        )
        if len(made.tasks):
            found.append(made)
    return tuple(found)


def _executors(reader: Reader, application: str, since: float) -> tuple[Executor, ...]:
    rows = reader.query(
        "SELECT executor, host, cores, epoch(added) - ? AS t0, epoch(removed) - ? AS t1, reason"
        " FROM spark_executors WHERE application = ? ORDER BY t0, executor",
        (since, since, application),
    )
    return tuple(
        Executor(
            row["executor"], row["host"] or "", int(row["cores"] or 0), row["t0"] or -math.inf, row["t1"], row["reason"]
        )
        for row in records(rows)
    )


def _jobs(reader: Reader, application: str, since: float) -> tuple[Job, ...]:
    rows = reader.query(
        "SELECT job, name, epoch(submitted) - ? AS t0, epoch(completed) - ? AS t1, status, reason, batch"
        " FROM spark_jobs WHERE application = ? AND submitted IS NOT NULL ORDER BY t0, job",
        (since, since, application),
    )
    return tuple(
        Job(
            int(row["job"]),
            row["name"] or "",
            row["t0"],
            row["t1"],
            row["status"],
            row["reason"] or "",
            None if row["batch"] is None else int(row["batch"]),
        )
        for row in records(rows)
    )


def _stages(reader: Reader, application: str, since: float) -> tuple[tuple[Stage, ...], int]:
    rows = records(
        reader.query(
            "SELECT *, epoch(submitted) - ? AS t0, epoch(completed) - ? AS t1 FROM spark_stages"
            " WHERE application = ? ORDER BY t0, stage, attempt",
            (since, since, application),
        )
    )
    ran = [row for row in rows if row["t0"] is not None]
    return tuple(
        Stage(
            number=int(row["stage"]),
            attempt=int(row["attempt"]),
            job=-1 if row["job"] is None else int(row["job"]),
            name=row["name"] or "",
            rdds=row["rdds"] or "",
            parents=tuple(int(parent) for parent in (row["parents"] or "").split(",") if parent),
            tasks=int(row["tasks"] or 0),
            submitted=row["t0"],
            completed=row["t1"],
            status=row["status"],
            reason=row["reason"] or "",
        )
        for row in ran
    ), sum(row["status"] == "skipped" for row in rows)


def _tasks(reader: Reader, application: str, since: float, stages: tuple[Stage, ...]) -> Tasks:
    seconds = ", ".join(f"{name}_s" for name in AMOUNTS)
    sizes = ", ".join(f"{name}_bytes" for name in SIZES)
    rows = reader.query(
        f"""
        SELECT epoch(launched) - ? AS launched, epoch(finished) - ? AS finished, stage, attempt, "index", executor,
               host, status, reason, speculative, locality, input_records + shuffle_records AS records,
               {seconds}, {sizes}
        FROM spark_tasks WHERE application = ? AND launched IS NOT NULL ORDER BY launched, task
        """,  # noqa: S608 - names of columns
        (since, since, application),
    )
    place = {(stage.number, stage.attempt): i for i, stage in enumerate(stages)}
    pairs = zip(rows["stage"].tolist(), rows["attempt"].tolist(), strict=True)
    stage = np.array([place.get((int(number), int(attempt)), -1) for number, attempt in pairs], dtype=np.int32)
    known = stage >= 0  # a stage without a word of its own cannot be placed
    rows = {name: values[known] for name, values in rows.items()}
    status, reasons = rows["status"].tolist(), rows["reason"].tolist()
    executor, executors = _codes(rows["executor"])
    host, hosts = _codes(rows["host"])
    return Tasks(
        launched=_floats(rows["launched"]),
        finished=_floats(rows["finished"]),
        stage=stage[known],
        index=rows["index"].astype(np.int32),
        executor=executor,
        host=host,
        ok=np.array([one == OK for one in status], dtype=np.bool_),
        speculative=np.array([bool(one) for one in rows["speculative"].tolist()], dtype=np.bool_),
        remote=np.array([one in REMOTE for one in rows["locality"].tolist()], dtype=np.bool_),
        records=_floats(rows["records"]),
        seconds={name: _floats(rows[f"{name}_s"]) for name in AMOUNTS},
        bytes={name: _floats(rows[f"{name}_bytes"]) for name in SIZES},
        executors=executors,
        hosts=hosts,
        ends={i: (one, reasons[i] or "") for i, one in enumerate(status) if one != OK},
    )


def _codes(values: Any) -> tuple[Numbers, tuple[str, ...]]:
    texts = [value or "" for value in values.tolist()]
    names = sorted(set(texts), key=lambda name: (len(name), name))
    place = {name: i for i, name in enumerate(names)}
    return np.array([place[text] for text in texts], dtype=np.int32), tuple(names)


def _floats(values: Any) -> Floats:
    return np.asarray(values, dtype=np.float64)
