"""Runs in memory, small enough to be read in a test."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
from msgspec import structs

from labtool.analysis.data import Client, ClientSummary, RunData, Series
from labtool.dataset.run import HostRecord, RunRecord

START = datetime(2025, 11, 12, 7, 31, tzinfo=UTC)


def record(**changes):
    hosts = [
        HostRecord(
            name=name,
            group=name.split("-")[0],
            instance_id=f"i-{i}",
            instance_type="t3.medium",
            address=f"198.18.0.{i}",
            zone="a",
            vcpus=2,
        )
        for i, name in enumerate(("kafka-0", "kafka-1", "load-0"))
    ]
    base = RunRecord(
        name="r",
        lab="demo",
        cloud="aws",
        region="us-east-1",
        started=START,
        window_start=START,
        workload="kafka-throughput",
        stack="kafka-cluster",
        hosts=hosts,
    )
    return structs.replace(base, **changes)


def flat(value, seconds=300, step=1.0):
    t = np.arange(step, seconds + step / 2, step)
    return Series(t, np.full(len(t), float(value)))


def client(
    rate, *, seconds=300, name="load-0/producer-1", role="producer", offered=10_000.0, width=5.0, start=0.0, **more
):
    end = np.arange(start + width, seconds + width / 2, width)
    none = np.full(len(end), np.nan)
    rates = np.full(len(end), float(rate)) if np.isscalar(rate) else np.asarray(rate, dtype=float)
    fields = {
        "name": name,
        "role": role,
        "end": end,
        "duration": np.full(len(end), width),
        "offered": np.full(len(end), np.nan if offered is None else offered),
        "rate": rates,
        "bytes_rate": rates * 100,
        "latency_avg": none,
        "latency_max": none,
        "p50": none,
        "p90": none,
        "p99": none,
        "errors": none,
    }
    return Client(**(fields | more))


def summary(name="load-0/producer-1", role="producer", **more):
    fields = {
        "name": name,
        "role": role,
        "start": 0.0,
        "end": 300.0,
        "operations": 3_000_000.0,
        "errors": 0.0,
        "offered": 10_000.0,
        "rate": 10_000.0,
        "bytes_rate": 1e6,
        "latency_avg": 3.0,
        "latency_max": 200.0,
        "p50": 2.0,
        "p95": 7.0,
        "p99": 14.0,
        "p999": 90.0,
    }
    return ClientSummary(**(fields | more))


def run_data(**changes):
    """Two brokers at 60 and 70 %, a load host at 30 %, a producer that does what it is asked."""
    busy = {"kafka-0": 0.6, "kafka-1": 0.7, "load-0": 0.3}
    signals = {host: {"cpu": flat(level), "net_rx": flat(1e6), "net_tx": flat(2e6)} for host, level in busy.items()}
    base = RunData(
        record=record(),
        origin=START,
        length_s=300.0,
        hosts=tuple(busy),
        signals=signals,
        clients=(client(10_000.0),),
        summaries=(summary(),),
    )
    return replace(base, **changes)
