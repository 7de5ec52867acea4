"""Count and sum records of a Kafka topic over windows of event time, and write every change to a results topic.

A record's key is its group, its value `client,number,due_us,amount` and what fills it up; event time is `due_us`, when
it should have been sent. Each micro-batch writes a result for every group and window that got records in it:
`{"window": start in µs, "count": so far, "amount": their sum, "last": the highest number among them}`.

Runs until the file `--stop` is there, or the query fails. `--progress` gets what Spark says of each batch
(StreamingQueryProgress, a line of JSON each), `--state` what has become of the query.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f
from pyspark.sql.streaming import StreamingQuery

POLL_S = 0.1
READY = ("Waiting for data to arrive", "Waiting for next trigger")
# What does not answer is an error within a minute, not after several.
CLIENTS = {"kafka.request.timeout.ms": "10000", "kafka.default.api.timeout.ms": "15000"}
PRODUCERS = {"kafka.max.block.ms": "15000", "kafka.delivery.timeout.ms": "20000", "kafka.linger.ms": "0"}


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("bootstrap", "topic", "results", "checkpoint", "progress", "state", "stop"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--trigger", type=float, default=1.0, help="s; 0 begins a batch when the last one ended")
    parser.add_argument("--window", type=float, default=10.0, help="s")
    parser.add_argument("--lateness", type=float, default=10.0, help="s that a record may be behind the newest one")
    parser.add_argument("--most", type=int, default=0, help="records of a batch; 0 is all there are")
    return parser.parse_args()


def results(spark: SparkSession, given: argparse.Namespace) -> DataFrame:
    """Return the stream of results, as the sink wants it: a key and a value."""
    source = spark.readStream.format("kafka").options(**CLIENTS)
    source = source.option("kafka.bootstrap.servers", given.bootstrap).option("subscribe", given.topic)
    source = source.option("startingOffsets", "earliest").option("fetchOffset.numRetries", "1")
    if given.most:
        source = source.option("maxOffsetsPerTrigger", str(given.most))
    parts = f.split(f.col("value").cast("string"), ",")
    records = source.load().select(
        f.col("key").cast("string").alias("group"),
        parts[1].cast("long").alias("number"),
        f.timestamp_micros(parts[2].cast("long")).alias("due"),
        parts[3].cast("long").alias("amount"),
    )
    late, window = (f"{int(seconds * 1000)} milliseconds" for seconds in (given.lateness, given.window))
    counted = (
        records.withWatermark("due", late)
        .groupBy("group", f.window("due", window))
        .agg(f.count("*").alias("count"), f.sum("amount").alias("amount"), f.max("number").alias("last"))
    )
    value = f.to_json(f.struct(f.unix_micros(f.col("window.start")).alias("window"), "count", "amount", "last"))
    return counted.select(f.col("group").alias("key"), value.alias("value"))


def told(query: StreamingQuery, seen: set[str]) -> list[str]:
    """Return what Spark said of batches since the last call, a JSON text each."""
    found = []
    for progress in query.recentProgress:
        # 3.5 gives a mapping, 4.x an object that can say itself.
        known = json.loads(progress.json) if hasattr(progress, "json") else dict(progress)
        if known["timestamp"] not in seen:
            seen.add(known["timestamp"])
            found.append(json.dumps(known))
    return found


def tell(file: Path, **known: object) -> None:
    """Write what has become of the query, whole or not at all."""
    temporary = file.with_suffix(".new")
    temporary.write_text(json.dumps(known) + "\n")
    temporary.replace(file)


def main() -> None:
    """Run the query until it is told to stop, or fails."""
    given = arguments()
    spark = SparkSession.builder.appName("labtool-streaming").getOrCreate()
    state, stop, seen = Path(given.state), Path(given.stop), set()
    sink = results(spark, given).writeStream.queryName("streaming").outputMode("update").format("kafka")
    sink = sink.options(**CLIENTS, **PRODUCERS).option("kafka.bootstrap.servers", given.bootstrap)
    sink = sink.option("topic", given.results).option("checkpointLocation", given.checkpoint)
    query = sink.trigger(processingTime=f"{int(given.trigger * 1000)} milliseconds").start()
    ready = False
    with Path(given.progress).open("a", buffering=1) as log:
        while query.isActive and not stop.exists():
            for line in told(query, seen):
                log.write(line + "\n")
            if not ready and (query.lastProgress is not None or query.status["message"] in READY):
                ready = True
                tell(state, ready=True, failed="", version=spark.version)
            time.sleep(POLL_S)
        failed = query.exception()
        if failed is None:
            query.stop()
        for line in told(query, seen):
            log.write(line + "\n")
    tell(state, ready=ready, failed="" if failed is None else str(failed), version=spark.version)
    spark.stop()
    if failed is not None:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
