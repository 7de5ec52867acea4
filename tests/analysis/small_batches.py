"""A streaming query in memory, whose stages' times are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.analysis.small_spark import application, job, stage, task

SOURCE, STATE = "MapPartitionsRDD, DataSourceRDD", "ShuffledRowRDD, StateStoreRDD, MapPartitionsRDD"
N = 30


def query(first=0.2, second=0.3, each=1e-4, rows=None, every=1.0, n=N):
    """A batch a second: 0.1 s of the driver, a stage that reads (dearer with records), one that keeps the state.

    Of the second stage's task a quarter is CPU and the rest is waiting. Spark names RDDs in any order.
    """
    rows = np.full(n, 1000.0) if rows is None else rows
    tasks, stages, jobs = [], [], []
    for i in range(n):
        at, took = i * every + 0.1, first + each * rows[i]
        state = STATE if i % 2 else "StateStoreRDD, MapPartitionsRDD, ShuffledRowRDD"
        stages += [
            stage(2 * i, at, at + took, job=i, rdds=SOURCE),
            stage(2 * i + 1, at + took, at + took + second, parents=(2 * i,), job=i, rdds=state),
        ]
        tasks += [
            task(2 * i, at, took, cpu=took),
            task(2 * i + 1, at + took, second, cpu=second / 4),
        ]
        jobs.append(replace(job(i, at, at + took + second), batch=i))
    return application(tasks, stages, jobs, name="streaming")
