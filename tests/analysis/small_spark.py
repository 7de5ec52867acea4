"""Spark applications in memory, small enough to be worked out by hand."""

from __future__ import annotations

import numpy as np

from labtool.analysis.application import AMOUNTS, SIZES, Application, Executor, Job, Stage, Tasks


def task(
    stage, launched, took, executor="0", index=None, ok=True, speculative=False, remote=False, records=0.0, **more
):
    """A task: amounts by `..._s` without the ending, sizes with `_bytes`."""
    return {
        "stage": stage,
        "launched": launched,
        "took": took,
        "executor": executor,
        "index": index,
        "ok": ok,
        "speculative": speculative,
        "remote": remote,
        "records": records,
        **more,
    }


def tasks_of(rows):
    rows = sorted(rows, key=lambda row: row["launched"])
    executors = tuple(sorted({row["executor"] for row in rows}))
    codes = np.array([executors.index(row["executor"]) for row in rows], dtype=np.int32)

    def column(name, default=0.0):
        return np.array([row.get(name, default) for row in rows], dtype=np.float64)

    launched, took = column("launched"), column("took")
    seconds = {name: column(name) for name in AMOUNTS}
    seconds |= {"duration": took, "run": np.where(column("run") > 0, column("run"), took)}
    return Tasks(
        launched=launched,
        finished=launched + took,
        stage=np.array([row["stage"] for row in rows], dtype=np.int32),
        index=np.array([i if row["index"] is None else row["index"] for i, row in enumerate(rows)], dtype=np.int32),
        executor=codes,
        host=codes,
        ok=np.array([row["ok"] for row in rows]),
        speculative=np.array([row["speculative"] for row in rows]),
        remote=np.array([row["remote"] for row in rows]),
        records=column("records"),
        seconds=seconds,
        bytes={name: column(f"{name}_bytes") for name in SIZES},
        executors=executors,
        hosts=tuple(f"host-{name}" for name in executors),
        ends={i: ("failed", "ExceptionFailure: no") for i, row in enumerate(rows) if not row["ok"]},
    )


def stage(number, submitted, completed, parents=(), job=0, rdds="ShuffledRDD", tasks=1):
    return Stage(number, 0, job, f"stage {number}", rdds, parents, tasks, submitted, completed, "ok", "")


def job(number, submitted, completed, name="collect"):
    return Job(number, name, submitted, completed, "ok", "")


def application(rows, stages=None, jobs=None, executors=(("0", 1),), **changes):
    """One job of one stage with these tasks, unless told otherwise."""
    made = tasks_of(rows)
    end = float(made.finished.max())
    fields = {
        "id": "app-1",
        "name": "word count",
        "driver": "spark-master-0",
        "version": "4.0.1",
        "start": 0.0,
        "end": end + 1,
        "task_cpus": 1,
        "broken": 0,
        "executors": tuple(Executor(name, f"host-{name}", cores, -1.0, None, "") for name, cores in executors),
        "jobs": tuple(jobs or (job(0, 0.0, end),)),
        "stages": tuple(stages or (stage(0, 0.0, end, tasks=len(rows)),)),
        "tasks": made,
    }
    return Application(**(fields | changes))
