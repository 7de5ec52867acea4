"""Lloyd's algorithm on generated points around eight centres: the same input again and again, kept in memory.

With `--skew 0.3` that share of the points is around the first centre.
"""

from __future__ import annotations

from functools import reduce
from operator import add

from generated import MIB, arguments, held, number, rows, session, timed, uniform
from pyspark.sql import Column
from pyspark.sql import functions as f

DIMENSIONS, CENTRES = 8, 8
POINT_BYTES = 8 * DIMENSIONS
AXES = [f"x{axis}" for axis in range(DIMENSIONS)]


def distance(centre: list[float]) -> Column:
    """Return the square of a point's distance from a centre."""
    return reduce(add, ((f.col(axis) - at) * (f.col(axis) - at) for axis, at in zip(AXES, centre, strict=True)))


def main() -> None:
    """Make points, then move the centres to the middle of the points that are nearest to each."""
    given = arguments(__doc__, default_input="memory")
    spark = session("labtool-kmeans")
    count = max(int(given.size * MIB / POINT_BYTES), CENTRES)
    unlike = f.pmod(number(given.seed, f.col("id"), f.lit("cluster")), f.lit(CENTRES))
    hot = uniform(given.seed, f.col("id"), f.lit("hot")) < given.skew
    cluster = f.when(hot, f.lit(0)).otherwise(unlike).alias("cluster")
    coordinates = [
        (100 * uniform(given.seed, f.col("cluster"), f.lit(axis)) + 10 * uniform(given.seed, f.col("id"), f.lit(axis)))
        for axis in AXES
    ]
    named = [coordinate.alias(axis) for coordinate, axis in zip(coordinates, AXES, strict=True)]
    points = rows(spark, count, given.partitions).select("id", cluster).select(*named)

    def work() -> dict:
        source = held(points, given.input)
        centres = [list(row) for row in source.take(CENTRES)]
        cost = 0.0
        for _ in range(given.iterations):
            far = source.select(*AXES, *(distance(centre).alias(f"d{at}") for at, centre in enumerate(centres)))
            cost_of = f.least(*(f.col(f"d{at}") for at in range(CENTRES))).alias("cost")
            near = far.select(*AXES, *(f"d{at}" for at in range(CENTRES)), cost_of)
            nearest = f.coalesce(*(f.when(f.col(f"d{at}") == f.col("cost"), at) for at in range(CENTRES)))
            found = near.groupBy(nearest).agg(f.sum("cost"), *(f.avg(axis) for axis in AXES)).collect()
            cost = sum(row[1] for row in found)
            for row in found:
                centres[row[0]] = list(row[2:])
        return {"cost": cost / count}

    timed("kmeans", given, count, POINT_BYTES, work)
    spark.stop()


if __name__ == "__main__":
    main()
