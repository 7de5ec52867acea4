"""Data that the jobs make for themselves: the same for the same seed, however many workers and partitions there are.

A cluster without a shared file system has no folder that every worker reads. So each task makes its own share of the
input, from the numbers of its rows; `--input disk` has it written to the executors' own disks first, and read back,
from the disk: what the kernel still holds of it in memory is dropped before.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as f

MIB = 1 << 20
TRIES = 5
LEVELS = {"memory": StorageLevel.MEMORY_AND_DISK, "disk": StorageLevel.DISK_ONLY}


def arguments(description: str, default_input: str = "generate") -> argparse.Namespace:
    """Read the command line that every job has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--size", type=float, default=64, help="MiB of input")
    parser.add_argument("--partitions", type=int, default=4, help="of the input, and of what is shuffled")
    parser.add_argument("--skew", type=float, default=0.0, help="share of the records that are all alike, 0 to 1")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--iterations", type=int, default=10, help="of jobs that iterate")
    parser.add_argument("--input", choices=["generate", *LEVELS], default=default_input)
    return parser.parse_args()


def session(name: str) -> SparkSession:
    """Return the session; its settings are those of spark-submit."""
    return SparkSession.builder.appName(name).getOrCreate()


def rows(spark: SparkSession, count: int, partitions: int) -> DataFrame:
    """Return so many rows with their number, `id`."""
    return spark.range(0, count, 1, partitions)


def number(seed: int, *of: Column) -> Column:
    """Return 64 random bits, as a number, that follow from the seed and the columns `of`."""
    return f.xxhash64(f.lit(seed), *of)


def uniform(seed: int, *of: Column) -> Column:
    """Return a random number from 0 to 1, which 1 is not, that follows from the seed and the columns `of`."""
    return f.shiftrightunsigned(number(seed, *of), 11) / f.lit(float(1 << 53))


def held(frame: DataFrame, where: str) -> DataFrame:
    """Return the input as it was asked for: made by whoever reads it, or before, and kept in memory or on disk."""
    if where == "generate":
        return frame
    kept = frame.persist(LEVELS[where])
    kept.count()
    if where == "disk":
        forget(frame.sparkSession)
    return kept


def forget(spark: SparkSession) -> None:
    """Have the kernel of every executor's host drop what it holds in memory of the blocks that are on disk.

    It is asked about these files only (posix_fadvise), and they must have been written for that. A barrier's tasks
    all run at once and are spread, so that every executor has one; `SystemExit` where one had none.
    """

    def drop(_: object) -> Iterator[str]:  # it goes to the executors by value: they have no such module
        for folder in os.environ["SPARK_LOCAL_DIRS"].split(","):
            for path in Path(folder).rglob("rdd_*"):
                with path.open("rb+") as file:
                    os.fsync(file.fileno())
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        yield os.environ["SPARK_LOCAL_DIRS"]

    context = spark.sparkContext
    executors = context._jsc.sc().getExecutorMemoryStatus().size() - 1  # the driver is one of them
    for _ in range(TRIES):
        if (
            len(set(context.parallelize(range(executors), executors).barrier().mapPartitions(drop).collect()))
            == executors
        ):
            return
    raise SystemExit(f"not every one of {executors} executors dropped its blocks from memory")


def timed(job: str, given: argparse.Namespace, records: int, record_bytes: int, work: Callable[[], dict]) -> None:
    """Do the work and print one line of JSON: what was done, and how long it took."""
    began = time.time()
    answer = work()
    ended = time.time()
    known = {
        "job": job,
        "records": records,
        "bytes": records * record_bytes,
        "began": began,
        "ended": ended,
        **vars(given),
    }
    print(json.dumps({**known, **answer}), flush=True)
