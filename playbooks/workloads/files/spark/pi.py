"""Estimate pi by points in a square: processors and nothing else. A point counts as 16 bytes, two numbers."""

from __future__ import annotations

import math

from generated import MIB, arguments, held, rows, session, timed, uniform
from pyspark.sql import functions as f

POINT_BYTES = 16


def main() -> None:
    """Count the points within the circle, and hold the estimate against pi."""
    given = arguments(__doc__)
    spark = session("labtool-pi")
    count = max(int(given.size * MIB / POINT_BYTES), 1)
    x, y = (uniform(given.seed, f.col("id"), f.lit(axis)) for axis in "xy")
    points = rows(spark, count, given.partitions).select(x.alias("x"), y.alias("y"))

    def work() -> dict:
        within = f.when(f.col("x") * f.col("x") + f.col("y") * f.col("y") < 1, 1).otherwise(0)
        (inside,) = held(points, given.input).agg(f.sum(within)).first()
        estimate = 4 * inside / count
        # Of a true estimate one in 10^15 is eight standard deviations off.
        if abs(estimate - math.pi) > 8 * math.sqrt(math.pi * (4 - math.pi) / count):
            raise SystemExit(f"pi is not {estimate}")
        return {"pi": estimate}

    timed("pi", given, count, POINT_BYTES, work)
    spark.stop()


if __name__ == "__main__":
    main()
