"""What `kafka-spark-streaming` starts and sends, from its variables; what makes no sense is refused before that."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleFilterError

FASTEST = 30_000  # records/s that a client sends on a core
SHORTEST = 60  # bytes: what a record says of itself, with the largest numbers
CHECKPOINTS = "/var/lib/spark/streaming"
KAFKA = {"3": "3.4.1", "4": "3.9.0"}  # the clients of each of Spark's versions
POOL = "2.12.0"
TRIED = {"4.0": ("4.0.0", "4.0.0"), "4.3": ("4.2.0", "4.0.0")}
"""By Spark's version those of the connector and its token provider that run on it; of others both are Spark's own."""

Variables = Mapping[str, Any]


def streaming_connector(spark: str, wanted: str = "") -> list[str]:
    """Return the jars of the Kafka connector for a version of Spark; `wanted` is another version of it."""
    series = ".".join(spark.split(".")[:2])
    connector, tokens = (wanted, wanted) if wanted else TRIED.get(series, (spark, spark))
    scala = "2.12" if spark.startswith("3.") else "2.13"
    kafka = KAFKA.get(spark.split(".", maxsplit=1)[0], KAFKA["4"])
    return [
        f"org.apache.spark:spark-sql-kafka-0-10_{scala}:{connector}",
        f"org.apache.spark:spark-token-provider-kafka-0-10_{scala}:{tokens}",
        f"org.apache.kafka:kafka-clients:{kafka}",
        f"org.apache.commons:commons-pool2:{POOL}",
    ]


def streaming_hash(jars: Sequence[str]) -> str:
    """Return a short name of a set of jars."""
    return hashlib.sha256(" ".join(sorted(jars)).encode()).hexdigest()[:12]


def streaming_check(given: Variables, groups: Mapping[str, Sequence[str]]) -> str:
    """Return why it cannot be run, a sentence; '' where it can."""
    lab = given.get("labtool_lab") or "…"
    for group, stack in ((given.get("kafka_broker_group") or "kafka", "kafka-cluster"), *masters(given)):
        if not groups.get(group):
            return f"no host is of the group {group}: labtool deploy {stack} --lab {lab}"
    each = float(given["rate"]) / (len(groups[given.get("load_group") or "load"]) * int(given["producers"]))
    if not given["find_max"] and each > FASTEST:
        return (
            f"{each:,.0f} records/s of one producer cannot be sent: {FASTEST:,} at most, and --producers share the rate"
        )
    if given["find_max"] and (len(groups[given.get("load_group") or "load"]) > 1 or int(given["producers"]) > 1):
        return "--find-max sends by one producer of one load host"
    if float(given["trigger_s"]) > float(given["window_s"]) and float(given["lateness_s"]) == 0:
        return "--lateness 0 with a trigger longer than the window drops what comes in every window's last batch"
    return ""


def masters(given: Variables) -> list[tuple[str, str]]:
    """Return the master's group and the stack that makes it."""
    return [(given.get("spark_master_group") or "spark_master", "spark-cluster")]


def streaming_query_plan(given: Variables, bootstrap: Sequence[str], jars: Sequence[str], name: str) -> dict[str, Any]:
    """Return the plan of files/stream_query.py; `name` is of this run alone, its checkpoint's too."""
    output = f"{given['drive_home']}/output"
    told = {
        "bootstrap": ",".join(bootstrap),
        "topic": given["topic"],
        "results": given["results"],
        "checkpoint": f"file://{CHECKPOINTS}/{name}",
        "progress": f"{output}/query/progress.jsonl",
        "state": f"{output}/query/state.json",
        "stop": f"{output}/stop",
        "trigger": float(given["trigger_s"]),
        "window": float(given["window_s"]),
        "lateness": float(given["lateness_s"]),
        "most": int(given["most"]),
    }
    conf = {
        # Two tasks a core; the checkpoint is on each executor's own disk, so its tasks wait for the one that has it.
        "spark.sql.shuffle.partitions": "{partitions}",
        "spark.locality.wait": "30s",
        "spark.sql.streaming.numRecentProgressUpdates": "1000",
        "spark.sql.streaming.stopTimeout": "10s",
    }
    return {
        "submit": "/usr/local/bin/spark-submit",
        "home": "/opt/spark/current",
        "user": given.get("spark_user") or "spark",
        "name": "labtool-streaming",
        "class": "",
        "application": f"{given['drive_home']}/inputs/streaming.py",
        "arguments": [word for key, value in told.items() for word in (f"--{key}", str(value))],
        "conf": conf | settings_of(str(given["conf"])),
        "jar_folders": [f"/opt/spark-packages/{streaming_hash(jars)}/libs"],
        "output": output,
        "trigger_s": float(given["trigger_s"]),
        "ready_s": 300.0,
        "deadline_s": float(given["seconds"]) + float(given["drain_s"]) + 420,
    }


def settings_of(text: str) -> dict[str, str]:
    """Read `spark.a=b spark.c=d`."""
    found = {}
    for word in text.split():
        key, equals, value = word.partition("=")
        if not equals or not key.startswith("spark."):
            raise AnsibleFilterError(f'--conf: {word!r} is no setting; they are typed as "spark.a=b spark.c=d"')
        found[key] = value
    return found


def streaming_load_plan(
    given: Variables, bootstrap: Sequence[str], brokers: Sequence[str], host: str, hosts: Sequence[str]
) -> dict[str, Any]:
    """Return the plan of files/stream_load.py for load host `host`; `brokers` are the inventory's names of them."""
    return {
        "host": host,
        "host_index": list(hosts).index(host),
        "hosts": len(hosts),
        "clients": int(given["producers"]),
        "bootstrap": ",".join(bootstrap),
        "brokers": dict(zip(bootstrap, brokers, strict=True)),
        "topic": given["topic"],
        "results": given["results"],
        "rate": float(given["rate"]),
        "peak": min(float(given["peak"]), float(FASTEST)),
        "find_max": bool(given["find_max"]),
        "step_s": float(given["step_s"]),
        "precision": float(given["precision"]),
        "groups": int(given["groups"]),
        "record_size": max(int(given["record_size"]), SHORTEST),
        "acks": str(given["acks"]),
        "properties": [word.split("=", 1) for word in str(given["properties"]).split()],
        "trigger_s": float(given["trigger_s"]),
        "window_s": float(given["window_s"]),
        "duration_s": float(given["seconds"]),
        "warmup_s": float(given["warmup_s"]),
        "drain_s": float(given["drain_s"]),
        "timeout_s": 20.0,
    }


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {
            "streaming_check": streaming_check,
            "streaming_connector": streaming_connector,
            "streaming_hash": streaming_hash,
            "streaming_query_plan": streaming_query_plan,
            "streaming_load_plan": streaming_load_plan,
        }
