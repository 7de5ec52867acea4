"""Kafka's metrics, from JmxTool's output through awk to rows."""

from __future__ import annotations

import shutil
import subprocess

import pyarrow as pa
import pytest
import yaml

from labtool.dataset import parsers
from labtool.dataset.schema import TABLES
from labtool.errors import DataError
from tests.roles.modules import FIXTURES, ROOT, load

stack = load("playbooks/kafka-cluster.py", "kafka_cluster_stack")


def awk(text: str) -> list[str]:
    attributes = yaml.safe_load((ROOT / "roles/kafka/vars/main.yml").read_text())["__kafka_jmx_attributes"]
    done = subprocess.run(
        ["awk", "-v", "attributes=" + ",".join(attributes), "-f", ROOT / "roles/kafka/files/kafka-jmx.awk"],
        input=text,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_jmxtools_lines_become_rows():
    header, *rows = awk((FIXTURES / "jmxtool-4.3.0.tsv").read_text())
    assert header.split(",") == [
        "time",
        "G1YoungGeneration.CollectionTime",
        "Memory.HeapMemoryUsed",
        "Produce.TotalTimeMs.50thPercentile",
        "Produce.TotalTimeMs.95thPercentile",
        "Produce.TotalTimeMs.999thPercentile",
        "Produce.TotalTimeMs.99thPercentile",
        "Produce.TotalTimeMs.Count",
        "MessagesInPerSec.Count",
        "MessagesInPerSec.OneMinuteRate",
    ]
    assert len(rows) == 3 - 1 or len(rows) == 3, "the first row waits for the second, the last does not wait"
    assert all(len(row.split(",")) == 10 and float(row.split(",")[2]) > 1e6 for row in rows)
    assert stack.parse_csv([header, *rows], "kafka-0", "made")


def test_a_brokers_file():
    rows = stack.parse_service(FIXTURES / "kafka-jmx.csv", "kafka-0")
    assert all(set(row) == {column.name for column in TABLES["service_metrics"]} for row in rows)
    units = {row["metric"]: row["unit"] for row in rows}
    assert units["Produce.TotalTimeMs.99thPercentile"] == "ms"
    assert units["BytesInPerSec.Rate"] == units["BytesInPerSec.OneMinuteRate"] == "bytes/s"
    assert units["MessagesInPerSec.Rate"] == "operations/s"
    assert units["NetworkProcessorAvgIdlePercent.Value"] == units["G1YoungGeneration.Rate"] == "ratio"
    assert units["Memory.HeapMemoryUsed"] == "bytes"
    assert units["UnderReplicatedPartitions.Value"] == "count"
    assert "RequestHandlerAvgIdlePercent.Count" not in units
    assert all(0 <= row["value"] <= 1 for row in rows if row["unit"] == "ratio")


HEADER = "time,MessagesInPerSec.Count,G1YoungGeneration.CollectionTime"


def values(lines, metric):
    return [row["value"] for row in stack.parse_csv(lines, "h", "f") if row["metric"] == metric]


def test_counts_become_rates_over_the_time_between():
    lines = [HEADER, "1000,100,10", "11000,300,110", "13000,300,110"]
    assert values(lines, "MessagesInPerSec.Rate") == [20.0, 0.0]
    assert values(lines, "G1YoungGeneration.Rate") == [0.01, 0.0]


def test_a_count_that_began_again_gives_no_rate():
    assert values([HEADER, "1000,100,10", "2000,5,1"], "MessagesInPerSec.Rate") == []


def test_a_cut_last_row_is_left_out_and_another_is_named():
    assert values([HEADER, "1000,100,10", "2000,1"], "MessagesInPerSec.Count") == [100.0]
    with pytest.raises(DataError, match=r"f:3: 2 numbers, expected 3"):
        stack.parse_csv([HEADER, "1000,100,10", "2000,1", "3000,1,1"], "h", "f")


def test_not_such_a_file():
    with pytest.raises(DataError, match="expected time"):
        stack.parse_csv(["a,b"], "h", "f")
    assert stack.parse_csv([], "h", "f") == []


def test_collected_logs(tmp_path):
    folder = tmp_path / "kafka-0/metrics/var/log/labtool/kafka-jmx"
    folder.mkdir(parents=True)
    with pa.CompressedOutputStream(pa.OSFile(str(folder / "kafka-jmx-1.csv.zst"), "wb"), "zstd") as out:
        out.write((FIXTURES / "kafka-jmx.csv").read_bytes())
    (tmp_path / "load-0").mkdir()
    shutil.copy(FIXTURES / "kafka-jmx.csv", folder / "kafka-jmx-2.csv")
    tables = parsers.stack(ROOT / "playbooks/kafka-cluster.py", tmp_path)
    assert {row["host"] for row in tables["service_metrics"]} == {"kafka-0"}
    assert parsers.stack(ROOT / "playbooks/kafka-cluster.py", tmp_path / "load-0") == {}
