"""Makes a run directory like a real one, from a seed: for tests of analysis and drawing, never a result."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa

from labtool.dataset import tables
from labtool.dataset.run import HostRecord, Missing, RunDirectory, RunRecord, StageRecord

START = datetime(2025, 11, 12, 7, 31, 0, tzinfo=UTC)
OLDER = "gone.png"
"""A figure of an earlier report, which a new one does not have."""


@dataclass(frozen=True)
class Sample:
    """What the run should be like."""

    seed: int = 7
    brokers: int = 3
    load_hosts: int = 1
    producers: int = 2
    seconds: int = 300
    warmup_s: float = 30.0
    offered: float | None = 20_000.0
    capacity: float = 1.0  # achieved ÷ offered, once warm
    broker_cpu: float = 0.62
    load_cpu: float = 0.35
    gap: tuple[float, float] | None = (181.0, 196.0)  # of the second broker
    fault: float | None = None
    cloudwatch_skew: float = 1.0
    errors: int = 0
    outcome: str = "ok"
    workload: bool = True
    cloud: str = "local"
    bandwidth: float | None = None

    @property
    def names(self) -> list[str]:
        kafka = [f"kafka-{i}" for i in range(self.brokers)]
        return kafka + [f"load-{i}" for i in range(self.load_hosts)]


def build(base: Path, sample: Sample | None = None) -> RunDirectory:
    """Write a whole run under `base` and return its directory."""
    sample = sample or Sample()
    run = RunDirectory.create(base, "demo", "kafka-throughput" if sample.workload else "watch", START)
    rng = np.random.default_rng(sample.seed)
    run.write(record(sample))
    shape = _load_shape(sample, rng)
    host_metrics(run, sample, rng, shape)
    if sample.workload:
        workload(run, sample, rng, shape)
        service(run, sample, rng, shape)
    timeline(run, sample)
    tables.write(run.tables, "clock", _clock(sample, rng))
    tables.write(run.tables, "observer", _observer(sample, rng))
    (run.raw / "kafka-throughput").mkdir()
    (run.raw / "kafka-throughput" / "producer-1.out").write_text("100 records sent\n" * 40)
    (run.path / "experiment.yml").write_text("workload: kafka-throughput\n")
    return run


def record(sample: Sample) -> RunRecord:
    end = START + timedelta(seconds=sample.seconds)
    hosts = [
        HostRecord(
            name=name,
            group=name.rsplit("-", 1)[0],
            instance_id=f"i-0{i:016x}",
            instance_type="t3.small" if name.startswith("load") else "t3.medium",
            address=f"198.18.{i // 250}.{10 + i % 240}",
            zone="us-east-1a",
            vcpus=2,
            memory_bytes=2 * 2**30 if name.startswith("load") else 4 * 2**30,
            price_per_hour_usd=0.0208 if name.startswith("load") else 0.0416,
            network_bits_per_s=sample.bandwidth,
        )
        for i, name in enumerate(sample.names)
    ]
    hourly = sum(host.price_per_hour_usd or 0 for host in hosts)
    early = START - timedelta(seconds=70)
    stages = [
        ("launch", -70, -62, "ok"),
        ("deploy", -62, -12, "ok"),
        ("collectors", -12, -2, "ok"),
        ("workload", 0, sample.seconds, sample.outcome),
        ("collect", sample.seconds + 1, sample.seconds + 9, "ok"),
        ("tables", sample.seconds + 9, sample.seconds + 13, "ok"),
    ]
    return RunRecord(
        name="kafka-throughput" if sample.workload else "watch",
        lab="demo",
        cloud=sample.cloud,
        region="us-east-1",
        started=early,
        ended=end + timedelta(seconds=13),
        window_start=START,
        window_end=end,
        warmup_s=sample.warmup_s,
        stack="kafka-cluster",
        stack_options={"brokers": sample.brokers, "controllers": 0, "version": "4.3.0"},
        workload="kafka-throughput" if sample.workload else None,
        workload_options={"rate": sample.offered, "record_size": 100, "acks": "all", "partitions": 6, "replication": 3}
        if sample.workload
        else {},
        hosts=hosts,
        versions={
            "labtool": "0.1.0",
            "python": "3.11.2",
            "ansible-core": "2.19.0",
            "kafka": "4.3.0",
            "java": "17.0.17",
            "kernel": "6.1.0-40-amd64",
            "sysstat": "12.6.1",
        },
        artifacts={"kafka_2.13-4.3.0.tgz": "9c1f" * 32, "log4j-slf4j-impl-2.24.3.jar": "07be" * 32},
        machine={"os": "Debian GNU/Linux 12", "cpus": "2", "memory": "24 GiB"},
        command="labtool profile --minutes 5 --workload kafka-throughput",
        stages=[
            StageRecord(
                name=name,
                start=START + timedelta(seconds=a),
                end=START + timedelta(seconds=b),
                outcome=outcome,
                detail="stopped by ^C" if outcome == "interrupted" else "",
            )
            for name, a, b, outcome in stages
        ],
        missing=[Missing(what="GC log", why="the unit was not configured to write one", host="kafka-2")],
        cost={
            "usd_per_hour": hourly,
            "without": "",
            "prices": "us-east-1, 2025-06",
        },
    )


def _load_shape(sample: Sample, rng: np.random.Generator) -> np.ndarray:
    """The achieved share of the offered rate, second by second."""
    t = np.arange(sample.seconds)
    shape = np.where(t < 6, t / 6, 1.0) * sample.capacity
    shape = shape * (1 + rng.normal(0, 0.006, len(t)))
    if sample.fault is not None:
        shape[(t > sample.fault) & (t < sample.fault + 14)] *= 0.45
    return shape


def _wander(rng: np.random.Generator, n: int, level: float, spread: float, memory: float = 0.9) -> np.ndarray:
    noise = rng.normal(0, spread * math.sqrt(1 - memory**2), n)
    out = np.empty(n)
    out[0] = noise[0]
    for i in range(1, n):
        out[i] = memory * out[i - 1] + noise[i]
    return level + out


def host_metrics(run: RunDirectory, sample: Sample, rng: np.random.Generator, shape: np.ndarray) -> None:
    """Counters at 1 Hz as sysstat's would be, and CloudWatch's periods made from the same truth."""
    n = sample.seconds
    second = np.arange(1, n + 1)
    cloudwatch: list[dict[str, object]] = []
    shared_disk = np.clip(_wander(rng, n, 9e6, 2e6), 0, None) + np.where(second % 30 < 3, 4.5e7, 0)
    with tables.writer(run.tables, "host_metrics") as append:
        for number, name in enumerate(sample.names):
            broker = name.startswith("kafka")
            level = (
                (sample.broker_cpu * (1.18 if number == 1 else 0.93 + 0.02 * (number % 5)))
                if broker
                else sample.load_cpu
            )
            warm = 0.25 * np.exp(-second / 15.0)
            cpu = np.clip(
                _wander(rng, n, level, 0.05) * (0.3 + 0.7 * shape / max(sample.capacity, 0.01)) + warm, 0.01, 1
            )
            system = cpu * np.clip(_wander(rng, n, 0.31, 0.03), 0.1, 0.6)
            iowait = np.clip(_wander(rng, n, 0.015 if broker else 0.002, 0.01), 0, 0.2) * (1 - cpu)
            rate = (sample.offered or 60_000) * shape
            rx = rate * 118 * (1.05 if broker else 0.9) * (1 + rng.normal(0, 0.02, n))
            tx = rate * 118 * (1.0 if broker else 1.1) * (1 + rng.normal(0, 0.02, n))
            memory = np.clip(0.30 + 0.35 * (1 - np.exp(-second / 120)) + _wander(rng, n, 0, 0.003), 0, 0.97)
            write = shared_disk * (1 + rng.normal(0, 0.2, n)) * (1.0 if broker else 0.02)
            columns: list[tuple[str, str, str, str, np.ndarray]] = [
                ("cpu", "all", "utilisation", "ratio", cpu),
                ("cpu", "all", "user", "ratio", cpu - system),
                ("cpu", "all", "system", "ratio", system),
                ("cpu", "all", "iowait", "ratio", iowait),
                ("cpu", "all", "steal", "ratio", np.zeros(n)),
                ("cpu", "all", "idle", "ratio", np.clip(1 - cpu - iowait, 0, 1)),
                ("cpu", "0", "utilisation", "ratio", np.clip(cpu * 1.06, 0, 1)),
                ("cpu", "1", "utilisation", "ratio", np.clip(cpu * 0.94, 0, 1)),
                ("memory", "", "utilisation", "ratio", memory),
                ("memory", "", "used", "ratio", np.clip(memory + 0.2, 0, 1)),
                ("swap", "", "used", "ratio", np.zeros(n)),
                ("disk", "nvme0n1", "utilisation", "ratio", np.clip(write / 9e7, 0, 1)),
                ("disk", "nvme0n1", "read_bytes", "bytes/s", np.clip(_wander(rng, n, 2e4, 1e4), 0, None)),
                ("disk", "nvme0n1", "write_bytes", "bytes/s", np.clip(write, 0, None)),
                ("disk", "nvme0n1", "queue", "count", write / 4e7),
                ("disk", "nvme0n1p1", "write_bytes", "bytes/s", np.clip(write, 0, None)),
                ("network", "eth0", "rx_bytes", "bytes/s", rx),
                ("network", "eth0", "tx_bytes", "bytes/s", tx),
                ("network", "lo", "rx_bytes", "bytes/s", np.full(n, 5e6)),
                ("network", "eth0", "rx_dropped", "packets/s", np.zeros(n)),
                ("load", "", "load1", "count", cpu * 2.4),
                ("load", "", "run_queue", "count", np.round(cpu * 3)),
            ]
            keep = np.ones(n, dtype=bool)
            if sample.gap and number == 1:
                keep = (second <= sample.gap[0]) | (second > sample.gap[1])
            when = np.array([int((START.timestamp() + s) * 1e6) for s in second], dtype="int64")[keep]
            for resource, device, metric, unit, values in columns:
                rows = int(keep.sum())
                append(
                    pa.table(
                        [
                            pa.array(when, pa.timestamp("us", tz="UTC")),
                            pa.repeat(name, rows),
                            pa.repeat(resource, rows),
                            pa.repeat(device, rows),
                            pa.repeat(metric, rows),
                            pa.repeat(unit, rows),
                            pa.array(values[keep].astype("float64")),
                        ],
                        schema=tables.arrow_schema("host_metrics"),
                    )
                )
            cloudwatch += _cloudwatch(sample, name, number, {"cpu": cpu, "rx": rx, "tx": tx, "write": write})
    tables.write(run.tables, "cloudwatch", cloudwatch)


def _cloudwatch(sample: Sample, name: str, number: int, truth: dict[str, np.ndarray]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    metrics = (
        ("AWS/EC2", "CPUUtilization", "Percent", truth["cpu"] * 100 * sample.cloudwatch_skew, False),
        ("AWS/EC2", "NetworkIn", "Bytes", truth["rx"], True),
        ("AWS/EC2", "NetworkOut", "Bytes", truth["tx"], True),
        ("AWS/EC2", "EBSWriteBytes", "Bytes", truth["write"], True),
        ("AWS/EC2", "StatusCheckFailed", "Count", np.zeros(sample.seconds), True),
        ("AWS/EBS", "VolumeWriteBytes", "Bytes", truth["write"], True),
        ("AWS/EBS", "VolumeReadBytes", "Bytes", np.zeros(sample.seconds), True),
        ("Shop", "Orders", "", truth["cpu"] * 7, False),
    )
    for start in range(0, sample.seconds - 59, 60):
        for namespace, metric, unit, values, total in metrics:
            part = values[start : start + 60]
            base = float(part.sum() if total else part.mean())
            for statistic, value in (
                ("Average", base),
                ("Minimum", base),
                ("Maximum", base),
                ("Sum", base),
                ("SampleCount", 1.0),
            ):
                rows.append(
                    {
                        "time": START + timedelta(seconds=start),
                        "host": "" if namespace == "Shop" else name,
                        "instance_id": f"i-0{number:016x}",
                        "dimensions": f"Till={number}" if namespace == "Shop" else "",
                        "namespace": namespace,
                        "metric": metric,
                        "statistic": statistic,
                        "unit": unit,
                        "period_s": 60,
                        "value": value,
                    }
                )
    return rows


def workload(run: RunDirectory, sample: Sample, rng: np.random.Generator, shape: np.ndarray) -> None:
    intervals: list[dict[str, object]] = []
    summary: list[dict[str, object]] = []
    clients = [(f"load-{i % sample.load_hosts}/producer-{i + 1}", "producer") for i in range(sample.producers)]
    clients.append(("load-0/consumer-1", "consumer"))
    offered = sample.offered
    for position, (client, role) in enumerate(clients):
        share = (offered or 60_000.0) / (sample.producers if role == "producer" else 1)
        lag = 0.3 + 0.4 * position
        done = 0.0
        for end in range(5, sample.seconds - 1, 5):
            rate = share * float(shape[end - 5 : end].mean()) * (1 + rng.normal(0, 0.003))
            slow = 1 + 25 * math.exp(-end / 9) + (14 if rng.random() < 0.05 else 0)
            average = float(rng.gamma(9, 0.30)) * (1 + 3 * math.exp(-end / 12))
            if sample.fault is not None and sample.fault < end <= sample.fault + 15:
                slow *= 40
                average *= 30
            done += rate * 5
            latency = role == "producer"
            intervals.append(
                {
                    "time": START + timedelta(seconds=end + lag),
                    "duration_s": 5.0,
                    "client": client,
                    "role": role,
                    "offered_rate": share if offered and role == "producer" else None,
                    "rate": rate,
                    "bytes_rate": rate * 100,
                    "latency_avg_ms": average if latency else None,
                    "latency_max_ms": float(rng.gamma(6, 2.2) * slow + average) if latency else None,
                    "errors": 0,
                }
            )
        producer = role == "producer"
        summary.append(
            {
                "client": client,
                "role": role,
                "start": START + timedelta(seconds=lag),
                "end": START + timedelta(seconds=sample.seconds - 1 + lag),
                "operations": int(done),
                "errors": sample.errors if producer and position == 0 else 0,
                "offered_rate": share if offered and producer else None,
                "rate": done / sample.seconds,
                "bytes_rate": done * 100 / sample.seconds,
                "latency_avg_ms": 3.1 if producer else None,
                "latency_max_ms": 412.0 if producer else None,
                "p50_ms": 2.0 + position if producer else None,
                "p95_ms": 7.0 + position if producer else None,
                "p99_ms": 14.0 + 3 * position if producer else None,
                "p999_ms": 96.0 + 31 * position if producer else None,
            }
        )
    tables.write(run.tables, "workload_intervals", intervals)
    tables.write(run.tables, "workload_summary", summary)


def service(run: RunDirectory, sample: Sample, rng: np.random.Generator, shape: np.ndarray) -> None:
    rows: list[dict[str, object]] = []
    for name in sample.names:
        if not name.startswith("kafka"):
            continue
        for second in range(10, sample.seconds + 1, 10):
            slow = 1 + 5 * math.exp(-second / 20)
            values = {
                "Produce.TotalTimeMs.50thPercentile": ("ms", rng.gamma(8, 0.25) * slow),
                "Produce.TotalTimeMs.95thPercentile": ("ms", rng.gamma(8, 0.9) * slow),
                "Produce.TotalTimeMs.99thPercentile": ("ms", rng.gamma(8, 1.9) * slow),
                "Produce.TotalTimeMs.999thPercentile": ("ms", rng.gamma(8, 9) * slow),
                "BytesInPerSec.Count": ("bytes", (sample.offered or 6e4) * 104 / sample.brokers * second),
                "BytesInPerSec.Rate": ("bytes/s", (sample.offered or 6e4) * 104 / sample.brokers * rng.normal(1, 0.01)),
                "BytesInPerSec.OneMinuteRate": (
                    "bytes/s",
                    (sample.offered or 6e4) * 104 / sample.brokers * (1 - math.exp(-second / 40)),
                ),
                "MessagesInPerSec.Rate": (
                    "operations/s",
                    (sample.offered or 6e4) / sample.brokers * rng.normal(1, 0.01),
                ),
                "RequestHandlerAvgIdlePercent.OneMinuteRate": ("ratio", float(np.clip(rng.normal(0.71, 0.02), 0, 1))),
                "UnderReplicatedPartitions.Value": ("count", 0.0),
                "G1YoungGeneration.Rate": ("ratio", float(rng.gamma(2, 0.002))),
                "Memory.HeapMemoryUsed": ("bytes", 4e8 + 3e8 * ((second * 7 + len(name)) % 60) / 60),
            }
            rows += [
                {
                    "time": START + timedelta(seconds=second),
                    "host": name,
                    "service": "kafka",
                    "metric": metric,
                    "unit": unit,
                    "value": float(value),
                }
                for metric, (unit, value) in values.items()
            ]
    tables.write(run.tables, "service_metrics", rows)


def timeline(run: RunDirectory, sample: Sample) -> None:
    at = lambda s: START + timedelta(seconds=s)  # noqa: E731
    events: list[dict[str, object]] = []
    for host in sample.names:
        events += [
            {"start": at(-70), "end": at(-67), "host": host, "kind": "launch", "name": "launch", "status": "ok"},
            {"start": at(-67), "end": at(-63.5), "host": host, "kind": "boot", "name": "boot", "status": "ok"},
            {"start": at(-63.5), "end": at(-62.6), "host": host, "kind": "ssh", "name": "ssh answers", "status": "ok"},
        ]
    tasks = ["artifact : hand over the archive", "kafka : template server.properties", "kafka : start", "kafka : wait"]
    for i, task in enumerate(tasks):
        for j, host in enumerate(sample.names[: sample.brokers]):
            events.append(
                {
                    "start": at(-60 + 10 * i + j),
                    "end": at(-54 + 10 * i + j),
                    "host": host,
                    "kind": "task",
                    "name": task,
                    "status": "changed",
                }
            )
    for name, a, b in (
        ("launch", -70, -62),
        ("deploy", -62, -12),
        ("collectors", -12, -2),
        ("workload", 0, sample.seconds),
    ):
        events.append({"start": at(a), "end": at(b), "kind": "stage", "name": name, "status": "ok"})
    if sample.workload:
        events.append({"start": at(0), "end": at(sample.warmup_s), "host": "", "kind": "warmup", "name": "warm-up"})
        events.append(
            {
                "start": at(0),
                "end": at(sample.seconds),
                "host": "load-0",
                "kind": "workload",
                "name": "2 producers",
                "status": "ok",
            }
        )
    if sample.fault is not None:
        events.append(
            {
                "start": at(sample.fault),
                "end": at(sample.fault + 14),
                "host": "kafka-1",
                "kind": "fault",
                "name": "kill",
                "detail": "SIGKILL to kafka.service",
            }
        )
    tables.write(run.tables, "timeline", events)
    with run.timeline.open("w") as file:
        for event in events:
            file.write(json.dumps(event, default=str) + "\n")


def _clock(sample: Sample, rng: np.random.Generator) -> list[dict[str, object]]:
    return [
        {
            "time": START + timedelta(seconds=at),
            "host": host,
            "phase": phase,
            "offset_s": float(rng.normal(0, 2e-5)),
            "bound_s": 0.00021,
            "samples": 16,
        }
        for host in sample.names
        for phase, at in (("before", -1), ("during", sample.seconds / 2), ("after", sample.seconds + 1))
    ]


def _observer(sample: Sample, rng: np.random.Generator) -> list[dict[str, object]]:
    return [
        {
            "host": host,
            "window_s": float(sample.seconds),
            "cpu_s": float(0.004 * sample.seconds * rng.uniform(0.8, 1.2)),
            "bytes_written": int(9_000 * sample.seconds),
            "bytes_sent": int(2_100 * sample.seconds),
        }
        for host in sample.names
    ]
