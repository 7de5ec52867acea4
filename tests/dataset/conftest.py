"""A run's directory as a finished collection leaves it, from a file that sadc wrote on a real host."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from labtool.dataset import compressed
from labtool.dataset.run import HostRecord, RunDirectory, RunRecord

SADC = Path(__file__).parent / "data" / "sa-20261121T080748Z.zst"
BEGAN = datetime(2026, 11, 21, 8, 7, 48, tzinfo=UTC)


def manifest_of(**changes):
    """What labtool-collect says at the end of a window of 9 s that it was asked for 1 s later."""
    return {
        "format": 1,
        "since": BEGAN.timestamp(),
        "until": BEGAN.timestamp() + 9,
        "made": BEGAN.timestamp() + 12,
        "host": "kafka-0",
        "kernel": "6.1",
        "machine": "x86_64",
        "vcpus": 2,
        "memory_bytes": 2 << 30,
        "sysstat": "12.6.1",
        "files": [
            {
                "kind": "sysstat",
                "service": "collector",
                "source": "/var/log/labtool/sysstat/sa-20261121T080748Z",
                "member": "sysstat/sa-20261121T080748Z.zst",
                "bytes": 24000,
            }
        ],
        "problems": [],
        "cost": {
            "time": BEGAN.timestamp() + 10,
            "since": BEGAN.timestamp() - 90,
            "cpu_s": 0.5,
            "from": "processes",
            "processes": 3,
            "files": {"/var/log/labtool/sysstat/sa-20261121T080748Z": 24000},
        },
        "gather": {"cpu_s": 0.1, "elapsed_s": 0.2, "bytes": 3000},
    } | changes


def add_host(run: RunDirectory, host: str, **changes) -> None:
    sysstat = run.raw / "sysstat" / host
    sysstat.mkdir(parents=True)
    (sysstat / "sa-20261121T080748Z").write_bytes(compressed.read(SADC))
    (run.logs / host).mkdir(parents=True)
    (run.logs / host / "manifest.json").write_text(json.dumps(manifest_of(host=host, **changes)))


@pytest.fixture
def began():
    return BEGAN


@pytest.fixture
def manifest():
    return manifest_of


@pytest.fixture
def run(tmp_path):
    directory = RunDirectory.create(tmp_path / "runs", "lab", "test", BEGAN)
    hosts = [
        HostRecord(name=name, group="kafka", instance_id=f"i-{name}", instance_type="t3.small", address="", zone="a")
        for name in ("kafka-0", "kafka-1")
    ]
    directory.write(
        RunRecord(
            name="test",
            lab="lab",
            cloud="local",
            region="us-east-1",
            started=BEGAN,
            window_start=BEGAN,
            window_end=BEGAN + timedelta(seconds=9),
            hosts=hosts,
        )
    )
    for host in hosts:
        add_host(directory, host.name)
    return directory
