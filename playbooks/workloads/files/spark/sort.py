"""Sort generated records of 104 bytes by their key, as TeraSort does; all of them go over the network once.

With `--skew 0.3` that share of the records has one and the same key: they all end up in one partition.
"""

from __future__ import annotations

from generated import MIB, arguments, held, number, rows, session, timed, uniform
from pyspark.sql import functions as f

RECORD_BYTES = 104  # a key of 8 bytes, and six times 16 characters that LZ4 cannot make shorter


def main() -> None:
    """Make, sort, and let each record go where it is sorted."""
    given = arguments(__doc__)
    spark = session("labtool-sort")
    count = max(int(given.size * MIB / RECORD_BYTES), 1)
    unlike = number(given.seed, f.col("id"), f.lit("key"))
    key = f.when(uniform(given.seed, f.col("id"), f.lit("hot")) < given.skew, f.lit(0)).otherwise(unlike)
    payload = f.concat(*(f.lpad(f.hex(number(given.seed, f.col("id"), f.lit(part))), 16, "0") for part in range(6)))
    records = rows(spark, count, given.partitions).select(key.alias("key"), payload.alias("payload"))

    def work() -> dict:
        held(records, given.input).sort("key").write.format("noop").mode("overwrite").save()
        return {}

    timed("sort", given, count, RECORD_BYTES, work)
    spark.stop()


if __name__ == "__main__":
    main()
