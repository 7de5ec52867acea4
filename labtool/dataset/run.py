"""A run's directory: where its files are, and `run.json`, the record of what was done.

runs/<lab>/<UTC time>-<name>/   run.json experiment.yml timeline.jsonl ansible/ logs/ raw/ tables/ report.html
runs/<lab>/latest → the newest
"""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType, field

from labtool import checked
from labtool.checked import RefusedError
from labtool.errors import DataError
from labtool.files import make_folder, write_bytes

CUT = "it was cut or edited by hand"


class Record(Struct, forbid_unknown_fields=True):
    """A part of run.json."""


class HostRecord(Record, kw_only=True):
    """A host as it was during the run."""

    name: str
    group: str
    instance_id: str
    instance_type: str
    address: str
    zone: str
    vcpus: int | None = None
    memory_bytes: int | None = None
    price_per_hour_usd: float | None = None
    private_address: str = ""
    volumes: list[str] = field(default_factory=list)  # ids of those attached
    detailed_monitoring: bool | None = None  # None: not known
    network_bits_per_s: float | None = None  # baseline bandwidth of its type; None: not limited or not known
    network_burst_bits_per_s: float | None = None  # what it may reach for a while


class StageRecord(Record, kw_only=True):
    """One stage: deploy, collectors, workload, collect, tables, report."""

    name: str
    start: datetime
    end: datetime | None = None
    outcome: Literal["ok", "failed", "interrupted", "running"] = "running"
    detail: str = ""


class Missing(Record, kw_only=True):
    """Something the run should have and has not, or cannot be trusted with."""

    what: str
    why: str
    host: str = ""


FROM_THEN_ON = "what it did from some moment on"
"""What is missing of a host that went away in the window."""


class MetricsRecord(Record, kw_only=True):
    """What was asked of CloudWatch besides the metrics of EC2 and EBS."""

    namespaces: list[str] = field(default_factory=list)
    statistics: list[str] = field(default_factory=list)  # besides the usual five: p99, tm90
    period_s: int | UnsetType = UNSET  # of the namespaces above, where CloudWatch still has it; 60 if not given


class RunRecord(Record, kw_only=True):
    """The whole of run.json."""

    format: Literal[1] = 1
    name: str
    lab: str
    cloud: str  # local or aws
    region: str
    started: datetime
    ended: datetime | None = None
    window_start: datetime | None = None  # what is measured, in the controller's clock
    window_end: datetime | None = None
    warmup_s: float = 0.0
    stack: str | None = None
    stack_options: dict[str, Any] = field(default_factory=dict)
    workload: str | None = None
    workload_options: dict[str, Any] = field(default_factory=dict)
    operations: str = ""  # what the workload's operations are called; '': records or requests
    latency: Literal["intended"] | None = None  # what latency counts from; None: not known
    hosts: list[HostRecord] = field(default_factory=list)  # that ran when it began
    not_running: dict[str, str] = field(default_factory=dict)  # the lab's other hosts then, and the state they were in
    versions: dict[str, str] = field(default_factory=dict)  # labtool, python, ansible-core, kafka, kernel …
    artifacts: dict[str, str] = field(default_factory=dict)  # file name → its SHA-512
    machine: dict[str, str] = field(default_factory=dict)  # controller: os, cpus, memory
    metrics: MetricsRecord = field(default_factory=MetricsRecord)
    command: str = ""  # what was typed
    notes: list[str] = field(default_factory=list)  # what of its description was done in another way, a sentence each
    stages: list[StageRecord] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    cost: dict[str, float | str] = field(default_factory=dict)  # usd_per_hour, without, prices: see docs/dataset.md

    @classmethod
    def of(cls, data: dict[str, Any]) -> RunRecord:
        """Return the record that `data` was made of; `RefusedError` if it is none."""
        return checked.convert(data, cls, lax=True)

    def data(self) -> dict[str, Any]:
        """Return it as run.json has it: dicts, lists, texts and numbers."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found


class RunDirectory:
    """The files of one run. Everything in it is derived from raw files or written once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, base: Path, lab: str, name: str, at: datetime) -> RunDirectory:
        """Make `base/<lab>/<time>-<name>/` and point `latest` at it."""
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "run"
        stamp = at.astimezone(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
        path = base / lab / f"{stamp}-{slug}"
        for folder in ("ansible", "logs", "raw", "tables", "figures"):
            make_folder(path / folder, "LABTOOL_RUNS")
        link = base / lab / "latest"
        temporary = base / lab / f".latest-{os.getpid()}"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(path.name)
        temporary.replace(link)
        return cls(path)

    @property
    def ansible(self) -> Path:
        """Playbook output, a file per stage."""
        return self.path / "ansible"

    @property
    def logs(self) -> Path:
        """Logs as collected: `logs/<host>/…`."""
        return self.path / "logs"

    @property
    def raw(self) -> Path:
        """Workload output, sadc files, CloudWatch answers."""
        return self.path / "raw"

    @property
    def tables(self) -> Path:
        """Parquet tables."""
        return self.path / "tables"

    @property
    def figures(self) -> Path:
        """Figures as PNG, with their data."""
        return self.path / "figures"

    @property
    def timeline(self) -> Path:
        """Events, one JSON object a line: the columns of the `timeline` table."""
        return self.path / "timeline.jsonl"

    @property
    def report(self) -> Path:
        """The report."""
        return self.path / "report.html"

    def read(self) -> RunRecord:
        """Read run.json; `DataError` names the file and the key that is wrong."""
        file = self.path / "run.json"
        try:
            return RunRecord.of(json.loads(file.read_bytes()))
        except FileNotFoundError:
            raise DataError(
                f"{self.path} is not a run: it has no run.json", "name a folder under runs/<lab>/"
            ) from None
        except RefusedError as error:
            raise DataError(error.sentence(str(file))[0], CUT) from None
        except ValueError as error:
            raise DataError(f"{file} is no JSON: {error}", CUT) from None

    def write(self, record: RunRecord) -> None:
        """Write run.json as a whole or not at all."""
        write_bytes(self.path / "run.json", msgspec.json.format(checked.encoded(record), indent=2) + b"\n")
