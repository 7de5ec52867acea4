"""Makes a web run's directory, from a seed: single requests, the balancer's log, status pages; never a result."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import sample_run
from sample_run import START

from labtool.dataset import tables
from labtool.dataset.run import HostRecord, RunDirectory, RunRecord, StageRecord


@dataclass(frozen=True)
class Web:
    """What the run should be like."""

    seed: int = 11
    fronts: int = 2
    balancer: bool = True
    clients: int = 2
    seconds: int = 60
    warmup_s: float = 5.0
    rate: float = 400.0  # requests/s of all clients
    stall: tuple[float, float] | None = (30.0, 31.5)
    errors: bool = True
    ids: bool = True
    queue: int = 0  # of php-fpm

    @property
    def names(self) -> list[str]:
        front = [f"web-{i}" for i in range(self.fronts)]
        return [*(["balancer-0"] if self.balancer else []), *front, "load-0"]


ENDPOINTS = (("GET /index.php", 0.6, 0.004), ("POST /decide.php", 0.3, 0.007), ("GET /logo.svg", 0.1, 0.0008))


def build(base: Path, web: Web | None = None) -> RunDirectory:
    """Write a whole run under `base` and return its directory."""
    web = web or Web()
    run = RunDirectory.create(base, "demo", "http-load", START)
    rng = np.random.default_rng(web.seed)
    run.write(record(web))
    columns = made(web, rng)
    _requests(run, web, columns)
    _access_log(run, web, columns)
    _hosts(run, web, rng)
    _pools(run, web, rng)
    sample_run.timeline(run, sample_run.Sample(brokers=0, seconds=web.seconds, warmup_s=web.warmup_s))
    return run


def record(web: Web) -> RunRecord:
    end = START + timedelta(seconds=web.seconds)
    hosts = [
        HostRecord(
            name=name,
            group=name.rsplit("-", 1)[0],
            instance_id=f"i-0{i:016x}",
            instance_type="t3.small",
            address=f"198.18.0.{10 + i}",
            zone="us-east-1a",
            vcpus=2,
            memory_bytes=2 * 2**30,
        )
        for i, name in enumerate(web.names)
    ]
    return RunRecord(
        name="http-load",
        lab="demo",
        cloud="local",
        region="us-east-1",
        started=START - timedelta(seconds=30),
        ended=end + timedelta(seconds=5),
        window_start=START,
        window_end=end,
        warmup_s=web.warmup_s,
        stack="web",
        stack_options={"fronts": web.fronts, "balancer": web.balancer},
        workload="http-load",
        workload_options={"rate": web.rate, "url": "/index.php"},
        hosts=hosts,
        versions={"labtool": "0.1.0", "httpd": "2.4.62", "php": "8.2.29"},
        stages=[StageRecord(name="workload", start=START, end=end, outcome="ok")],
    )


def made(web: Web, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Every request's due time, lateness, service time, end and place."""
    n = round(web.rate * web.seconds)
    due = np.arange(n) / web.rate
    endpoint = rng.choice(len(ENDPOINTS), n, p=[share for _, share, _ in ENDPOINTS])
    usual = np.array([took for *_, took in ENDPOINTS])[endpoint]
    server = usual * rng.gamma(8, 1 / 8, n) * (1 + 4 * (rng.random(n) < 0.01))
    late = rng.gamma(2, 4e-5, n)
    if web.stall:
        inside = (due >= web.stall[0]) & (due < web.stall[1])
        server[inside] += web.stall[1] - due[inside]
    error = np.full(n, "", dtype=object)
    status = np.full(n, 200)
    if web.errors:
        down = (due > 40) & (due < 42) & (rng.random(n) < 0.3)
        error[down], status[down] = "status", 503
        gone = (due > 48) & (due < 50) & (rng.random(n) < 0.2)
        error[gone], status[gone] = "timeout", 0
        server[gone] = 3.0
    return {
        "due": due,
        "late": late,
        "server": server,
        "service": server + 2e-4 + rng.gamma(2, 5e-5, n),
        "endpoint": endpoint,
        "error": error,
        "status": status,
        "client": np.arange(n) % web.clients,
        "front": np.arange(n) % web.fronts,
    }


def stamps(seconds: np.ndarray) -> pa.Array:
    return pa.array(((START.timestamp() + seconds) * 1e6).astype("int64"), pa.timestamp("us", tz="UTC"))


def _requests(run: RunDirectory, web: Web, made: dict[str, np.ndarray]) -> None:
    n = len(made["due"])
    table = {
        "due": stamps(made["due"]),
        "client": pa.array([f"load-0/client-{i + 1}" for i in made["client"]]),
        "endpoint": pa.array([ENDPOINTS[i][0] for i in made["endpoint"]]),
        "id": pa.array([f"{i:012x}" if web.ids else "" for i in range(n)]),
        "late_s": pa.array(made["late"]),
        "service_s": pa.array(made["service"]),
        "latency_s": pa.array(made["late"] + made["service"]),
        "status": pa.array(made["status"], mask=made["status"] == 0),
        "error": pa.array(made["error"].tolist()),
        "bytes": pa.array(np.full(n, 512)),
        "warmup": pa.array(made["due"] < web.warmup_s),
    }
    tables.write(run.tables, "requests", pa.table(table, schema=tables.arrow_schema("requests")))


def _access_log(run: RunDirectory, web: Web, made: dict[str, np.ndarray]) -> None:
    n = len(made["due"])
    pieces = []
    for service in ("haproxy", "httpd") if web.balancer else ("httpd",):
        # What timed out never reached the server.
        there = made["status"] != 0
        table = {
            "time": stamps(made["due"] + made["late"] + 1e-4),
            "host": pa.array(
                [f"web-{i}" for i in made["front"]] if service == "httpd" else ["balancer-0"] * n, pa.string()
            ),
            "service": pa.repeat(service, n),
            "duration_s": pa.array(made["server"] * (1.0 if service == "haproxy" else 0.97)),
            "status": pa.array(made["status"]),
            "bytes": pa.array(np.full(n, 512)),
            "method": pa.array([ENDPOINTS[i][0].split()[0] for i in made["endpoint"]]),
            "path": pa.array([f"{ENDPOINTS[e][0].split()[1]}?n={i}" for i, e in enumerate(made["endpoint"])]),
            "request_id": pa.array([f"{i:012x}" if web.ids else "" for i in range(n)]),
            "client": pa.repeat("198.18.0.14", n),
            "backend": pa.array([f"web-{i}" if service == "haproxy" else "php-fpm" for i in made["front"]]),
        }
        pieces.append(pa.table(table, schema=tables.arrow_schema("access_log")).filter(pa.array(there)))
        checks = range(0, web.seconds, 5)
        health = [
            {
                "time": START + timedelta(seconds=s + 0.5),
                "host": "web-0" if service == "httpd" else "balancer-0",
                "service": service,
                "duration_s": 0.0004,
                "status": 200,
                "bytes": 20,
                "method": "GET",
                "path": "/server-status?auto",
                "client": "127.0.0.1",
            }
            for s in checks
        ]
        pieces.append(tables.to_arrow("access_log", health))
    tables.write(run.tables, "access_log", pa.concat_tables(pieces))


def _hosts(run: RunDirectory, web: Web, rng: np.random.Generator) -> None:
    rows = []
    for name in web.names:
        level = {"balancer": 0.2, "web": 0.55, "load": 0.25}[name.rsplit("-", 1)[0]]
        for second in range(1, web.seconds + 1):
            for resource, device, metric, unit, value in (
                ("cpu", "all", "utilisation", "ratio", float(np.clip(rng.normal(level, 0.04), 0, 1))),
                ("memory", "", "utilisation", "ratio", 0.4),
                ("network", "eth0", "rx_bytes", "bytes/s", 4e5),
                ("network", "eth0", "tx_bytes", "bytes/s", 6e5),
            ):
                rows.append(
                    {
                        "time": START + timedelta(seconds=second),
                        "host": name,
                        "resource": resource,
                        "device": device,
                        "metric": metric,
                        "unit": unit,
                        "value": value,
                    }
                )
    tables.write(run.tables, "host_metrics", rows)


def _pools(run: RunDirectory, web: Web, rng: np.random.Generator) -> None:
    rows = []
    for name in web.names:
        kind = name.rsplit("-", 1)[0]
        for second in range(2, web.seconds + 1, 2):
            busy = float(rng.poisson(6))
            stalled = web.stall is not None and web.stall[0] <= second <= web.stall[1] + 0.5
            values = {
                "web": [
                    ("httpd", "BusyWorkers", 60.0 if stalled else busy),
                    ("httpd", "IdleWorkers", 90.0 if stalled else 150 - busy),
                    ("php", "ActiveProcesses", 8.0 if stalled else min(busy, 8)),
                    ("httpd", "MaxWorkers", 150.0),
                    ("php", "MaxProcesses", 8.0),
                    ("php", "ListenQueue", float(web.queue)),
                    ("php", "MaxChildrenReached", float(second if web.queue else 0)),
                ],
                "balancer": [
                    ("haproxy", "fronts.Queue", 12.0 if stalled else 0.0),
                    ("haproxy", "fronts.Sessions", busy),
                ],
            }.get(kind, [])
            rows += [
                {
                    "time": START + timedelta(seconds=second),
                    "host": name,
                    "service": service,
                    "metric": metric,
                    "unit": "count",
                    "value": value,
                }
                for service, metric, value in values
            ]
    tables.write(run.tables, "service_metrics", rows)
