from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import sample_run
from msgspec import structs
from small_run import START

from labtool.analysis.load import load
from labtool.analysis.signals import disks, interfaces
from labtool.dataset import tables
from labtool.dataset.run import RunDirectory


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return sample_run.build(tmp_path_factory.mktemp("runs"), sample_run.Sample(seconds=60, gap=(20.0, 30.0)))


@pytest.fixture
def copy(run, tmp_path):
    """The run, for a test that changes it."""
    return RunDirectory(Path(shutil.copytree(run.path, tmp_path / "run")))


def test_a_whole_run(run):
    data = load(run)
    assert data.hosts == ("kafka-0", "kafka-1", "kafka-2", "load-0")
    assert (data.length_s, data.measured) == (60.0, (30.0, 60.0))
    assert data.load_hosts == ("load-0",) and len(data.system_hosts) == 3
    assert data.signal("kafka-0", "cpu").t.tolist() == [float(s) for s in range(1, 61)]
    assert len(data.signal("kafka-1", "cpu")) == 50
    assert [c.name for c in data.clients] == ["load-0/consumer-1", "load-0/producer-1", "load-0/producer-2"]
    assert data.unreadable == ()


def test_loopback_and_partitions_are_not_counted(run):
    data = load(run)
    assert data.disks["kafka-0"] == ("nvme0n1",)
    assert data.signal("kafka-0", "net_rx").v.max() < 4e6, "lo carries 5 MB/s and must not be in it"
    rows = tables.read(run.tables, "host_metrics").to_pylist()
    disk = [r["value"] for r in rows if (r["host"], r["device"], r["metric"]) == ("kafka-0", "nvme0n1", "write_bytes")]
    assert data.signal("kafka-0", "disk_write").v.tolist() == disk


def test_what_is_null_stays_unknown(run):
    data = load(run)
    consumer = next(s for s in data.summaries if s.role == "consumer")
    assert consumer.p99 is None and consumer.offered is None
    producer = next(c for c in data.clients if c.role == "producer")
    assert producer.p99.tolist() != producer.p99.tolist(), "not a number"


def test_a_run_without_tables(tmp_path):
    run = RunDirectory.create(tmp_path, "demo", "x", START)
    run.write(sample_run.record(sample_run.Sample()))
    data = load(run)
    assert data.signals == {} and data.present == frozenset() and data.unreadable == ()


@pytest.mark.parametrize("table", ["host_metrics", "workload_intervals", "timeline", "service_metrics"])
def test_a_cut_table_is_named_and_the_others_are_read(copy, table):
    file = tables.path(copy.tables, table)
    file.write_bytes(file.read_bytes()[:200])
    data = load(copy)
    assert [missing.what for missing in data.unreadable] == [f"table {table}"]
    assert "clock" in data.present and len(data.clocks) == 12


def test_damaged_pages_are_found_when_they_are_read(copy):
    file = tables.path(copy.tables, "host_metrics")
    content = bytearray(file.read_bytes())
    content[1000:40_000] = bytes(39_000)
    file.write_bytes(content)
    data = load(copy)
    assert [missing.what for missing in data.unreadable] == ["table host_metrics"]
    assert data.signals == {} and data.clients


def test_a_window_that_never_closed_ends_with_its_data(copy):
    record = copy.read()
    copy.write(structs.replace(record, window_end=None, ended=None))
    assert load(copy).length_s == 60.0


def test_devices():
    assert disks(["nvme0n1", "nvme0n1p1", "loop0", "dm-0", ""]) == ("nvme0n1",)
    assert disks(["sda", "sda1", "sdb1"]) == ("sda", "sdb1")
    assert disks(["dm-0"]) == ("dm-0",)
    assert disks(["xvda1"]) == ("xvda1",)
    assert interfaces(["lo", "eth0", "ens5", "veth12", "docker0", ""]) == ("ens5", "eth0")


def test_a_client_begins_with_its_first_operation(copy):
    """A tool's first line comes late: what was done since the first operation was not done since the tool's start."""
    rows = tables.read(copy.tables, "workload_intervals").to_pylist()
    first = next(row for row in rows if row["client"] == "load-0/producer-1")
    summary = next(s for s in load(copy).summaries if s.name == "load-0/producer-1")
    operations = first["rate"] * first["duration_s"]
    first["rate"], first["duration_s"] = operations / 20.0, 20.0
    tables.write(copy.tables, "workload_intervals", rows)
    client = next(c for c in load(copy).clients if c.name == "load-0/producer-1")
    assert client.start[0] == pytest.approx(summary.start)
    assert client.rate[0] * client.duration[0] == pytest.approx(operations)
