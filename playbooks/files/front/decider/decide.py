"""Decide for each group of users what did best in the last minute: Spark Structured Streaming between two Kafka topics.

    spark-submit --jars … decide.py --servers 192.0.2.10:9092

Reads updates, `{"time": s, "host": …, "payload": "group\tdecision\treward"}`, in batches of a second. Of each group and
decision the executors add up the rewards of a batch; the driver keeps these sums for the length of the window and
writes, for each group that a batch had updates of, the decision with the highest mean reward, as
`{"group": …, "decision": …, "mean": …, "updates": …, "until": s}`, with the group as the record's key.

Started again it reads the last window once more, and goes on as if it had not been away: nothing else is kept.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f
from window import Sum, Window


def sums_of(batch: DataFrame) -> list[tuple[float, Sum]]:
    """Return a batch's sums, each with when its newest update was made; an update that is none is left out."""
    value = f.col("value").cast("string")
    payload = f.split(f.get_json_object(value, "$.payload"), "\t")
    updates = batch.select(
        f.get_json_object(value, "$.time").cast("double").alias("time"),
        f.get(payload, 0).alias("group"),
        f.get(payload, 1).alias("decision"),
        f.get(payload, 2).cast("double").alias("reward"),
    ).where("time is not null and reward is not null and decision is not null")
    rows = updates.groupBy("group", "decision").agg(
        f.sum("reward").alias("reward"), f.count("*").alias("updates"), f.max("time").alias("until")
    )
    return [(row["until"], Sum(row["group"], row["decision"], row["reward"], row["updates"])) for row in rows.collect()]


def run(spark: SparkSession, arguments: argparse.Namespace) -> None:
    """Decide until somebody ends it."""
    window = Window(arguments.window)

    def decide(batch: DataFrame, _number: int) -> None:
        found = sums_of(batch)
        if not found:
            return
        for until, each in sorted(found):
            window.take(until, [each])
        now = time.time()
        made = [
            (each["group"], json.dumps({**each, "until": now}))
            for each in window.decisions(one.group for _, one in found)
        ]
        frame = spark.createDataFrame(made, "key string, value string")
        frame.write.format("kafka").option("kafka.bootstrap.servers", arguments.servers).option(
            "topic", arguments.decision
        ).save()

    updates = (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", arguments.servers)
        .option("subscribe", arguments.upload)
        .option("startingTimestamp", str(int((time.time() - arguments.window) * 1000)))
        .option("startingOffsetsByTimestampStrategy", "latest")
        .option("failOnDataLoss", "false")
        .load()
    )
    with tempfile.TemporaryDirectory() as folder:
        query = (
            updates.writeStream.foreachBatch(decide)
            .option("checkpointLocation", f"file://{folder}")
            .trigger(processingTime="1 second")
            .start()
        )
        query.awaitTermination()


def main() -> None:
    """Run as a Spark job."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--servers", required=True, help="Kafka's brokers, address:port, by commas")
    parser.add_argument("--upload", default="upload", help="the topic of updates")
    parser.add_argument("--decision", default="decision", help="the topic of decisions")
    parser.add_argument("--window", type=float, default=60.0, help="how long an update counts, in s")
    arguments = parser.parse_args()

    builder = SparkSession.builder.appName("decider").config("spark.sql.shuffle.partitions", 2)
    # What is no number is null, and not the end of the job.
    run(builder.config("spark.sql.ansi.enabled", False).getOrCreate(), arguments)


if __name__ == "__main__":
    main()
