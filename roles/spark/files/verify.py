"""A task on every worker at the same time, a shuffle between them, and a sum that is known.

spark-submit verify.py WORKERS
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from operator import add

from pyspark import BarrierTaskContext, SparkContext


def where(_numbers: Iterator[int]) -> list[str]:
    """Meet the other tasks, and say where all of them run."""
    task = BarrierTaskContext.get()
    task.barrier()
    return [one.address for one in task.getTaskInfos()]


def main() -> None:
    """Print one line of JSON."""
    workers = int(sys.argv[1])
    context = SparkContext()
    executors = context.parallelize(range(workers), workers).barrier().mapPartitions(where).collect()
    numbers = range(1000)
    pairs = context.parallelize(numbers, 2 * workers).map(lambda number: (number % (2 * workers), number))
    found = pairs.reduceByKey(add, workers).values().sum()
    print(json.dumps({"executors": sorted(set(executors)), "sum": found, "expected": sum(numbers)}))
    context.stop()


if __name__ == "__main__":
    main()
