"""The countdown's program, and the parser of what it says."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime

import pytest

from labtool import stacks
from labtool.dataset import parsers
from labtool.dataset.schema import TABLES
from labtool.errors import DataError
from tests.roles.modules import ROOT

PARSER = ROOT / "playbooks/workloads/countdown.py"
PROGRAM = ROOT / "playbooks/files/countdown/countdown.py"


@pytest.fixture
def raw(tmp_path):
    def write(text):
        (tmp_path / "countdown").mkdir(exist_ok=True)
        (tmp_path / "countdown/countdown-0.log").write_text(text)
        return tmp_path

    return write


def count(start, begun=1000.0, late=float):
    lines = [f"counting down from {start}, a number every 1 s, at {begun:.6f}"]
    for tick in range(1, start + 1):
        lines.append(f"{start - tick} at {begun + tick + late(tick) / 1000:.6f}, {late(tick):.3f} ms late")
    return "\n".join([*lines, "lift-off", ""])


def parse(raw, run=None):
    return parsers.workload(PARSER, raw, run or {})


def test_the_parser_reads_what_the_program_prints(raw):
    words = [sys.executable, str(PROGRAM), "--from", "12", "--every", "0.01"]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    tables = parse(raw(said))
    assert set(tables) == {"workload_intervals", "workload_summary"}
    for name, rows in tables.items():
        assert all(set(row) == {column.name for column in TABLES[name]} for row in rows)
    (whole,) = tables["workload_summary"]
    assert len(tables["workload_intervals"]) == whole["operations"] == 12
    assert whole["offered_rate"] == 100
    # Numbers are due at fixed times: being late does not add up.
    seconds = (whole["end"] - whole["start"]).total_seconds()
    assert seconds == pytest.approx(0.12 + tables["workload_intervals"][-1]["latency_avg_ms"] / 1000, abs=1e-5)


def test_rates_and_lateness(raw):
    tables = parse(raw(count(20)))
    rows = tables["workload_intervals"]
    assert rows[0]["client"] == "countdown-0/countdown" and rows[0]["role"] == "client"
    assert [row["latency_max_ms"] for row in rows] == [float(tick) for tick in range(1, 21)]
    assert rows[4]["duration_s"] == pytest.approx(1.001)
    (whole,) = tables["workload_summary"]
    assert (whole["p50_ms"], whole["p95_ms"], whole["latency_max_ms"]) == (10.0, 19.0, 20.0)
    assert whole["p99_ms"] is None, "20 numbers have no 99th percentile"
    assert whole["rate"] == pytest.approx(20 / 20.020)
    assert whole["start"] == datetime.fromtimestamp(1000, UTC)


def test_the_last_countdown_counts_and_none_from_before_the_run(raw):
    folder = raw(count(20) + count(5, begun=2000.0))
    assert parse(folder)["workload_summary"][0]["operations"] == 5
    assert parse(folder, {"started": "1970-01-01T00:33:19Z"})["workload_summary"][0]["operations"] == 5
    assert parse(folder, {"started": "1970-01-01T00:33:30Z"}) == {}


def test_one_that_was_cut_has_what_it_counted(raw):
    cut = count(20).splitlines()[:8]
    assert parse(raw("\n".join(cut)))["workload_summary"][0]["operations"] == 7
    assert parse(raw("\n".join([*cut, "ended before zero", ""])))["workload_summary"][0]["operations"] == 7


def test_nothing_said_is_no_table(raw):
    assert parse(raw("\n")) == {}


def test_another_line_is_named(raw):
    with pytest.raises(DataError, match=r"countdown-0\.log:2: no line of countdown\.py: 'Traceback"):
        parse(raw("counting down from 3, a number every 1 s, at 1.000000\nTraceback (most recent call last):\n"))


def test_the_window_is_as_long_as_the_count():
    workload = stacks.workload("countdown")
    assert workload.whole and workload.seconds(workload.values()) == 20
    assert workload.seconds(workload.values({"from": "300"})) == 300
    assert stacks.workload("kafka-throughput").seconds({}) is None
