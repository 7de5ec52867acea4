"""Makes the directory of a run of spark-job: an event log of a real Spark, and hosts' counters from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np

from labtool.dataset import spark, tables
from labtool.dataset.run import HostRecord, RunDirectory, RunRecord, StageRecord

LOGS = Path(__file__).parent.parent / "dataset" / "data" / "spark"


@dataclass(frozen=True)
class Spark:
    """What the run should be like."""

    log: str = "rolled-4.0"
    seed: int = 5
    cpu: float = 0.6
    disk: float = 0.2
    counters: bool = True


HOSTS = ("spark_master-0", "spark_worker-0")


def build(base: Path, made: Spark | None = None) -> RunDirectory:
    """Write a whole run under `base` and return its directory; the log's hosts are all `spark_worker-0`."""
    made = made or Spark()
    found = spark.rows(LOGS / made.log, driver=HOSTS[0], names={"localhost": HOSTS[1]})
    start = found["spark_jobs"]["submitted"][0].as_py() - timedelta(seconds=2)
    end = max(time for time in found["spark_tasks"]["finished"].to_pylist() if time) + timedelta(seconds=1)
    run = RunDirectory.create(base, "demo", "spark-job", start)
    hosts = [
        HostRecord(
            name=name,
            group=name.rsplit("-", 1)[0],
            instance_id=f"i-{i}",
            instance_type="t3.medium",
            address=f"198.18.0.{10 + i}",
            zone="us-east-1a",
            vcpus=2,
            memory_bytes=4 * 2**30,
            network_bits_per_s=1e9,
        )
        for i, name in enumerate(HOSTS)
    ]
    run.write(
        RunRecord(
            name="spark-job",
            lab="demo",
            cloud="local",
            region="us-east-1",
            started=start - timedelta(seconds=20),
            ended=end + timedelta(seconds=5),
            window_start=start,
            window_end=end,
            stack="spark-cluster",
            workload="spark-job",
            workload_options={"job": "sql_job.py"},
            hosts=hosts,
            versions={"labtool": "0.1.0", "spark": "4.0.1"},
            stages=[StageRecord(name="workload", start=start, end=end, outcome="ok")],
        )
    )
    for name, table in found.items():
        tables.write(run.tables, name, table)
    if made.counters:
        tables.write(run.tables, "host_metrics", _counters(made, start, round((end - start).total_seconds())))
    return run


def _counters(made: Spark, start, seconds: int):
    rng = np.random.default_rng(made.seed)
    for name in HOSTS:
        level = made.cpu if name == HOSTS[1] else 0.1
        for second in range(1, seconds + 2):
            for resource, device, metric, unit, value in (
                ("cpu", "all", "utilisation", "ratio", float(np.clip(rng.normal(level, 0.03), 0, 1))),
                ("disk", "sda", "utilisation", "ratio", float(np.clip(rng.normal(made.disk, 0.03), 0, 1))),
                ("memory", "", "utilisation", "ratio", 0.6),
                ("network", "eth0", "rx_bytes", "bytes/s", 2e6),
                ("network", "eth0", "tx_bytes", "bytes/s", 2e6),
            ):
                yield {
                    "time": start + timedelta(seconds=second),
                    "host": name,
                    "resource": resource,
                    "device": device,
                    "metric": metric,
                    "unit": unit,
                    "value": value,
                }
