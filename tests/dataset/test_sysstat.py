"""A file that sadc wrote in a container under load, decoded, against what sadf itself says in another format."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from labtool.dataset import compressed, sysstat
from labtool.errors import DataError

DATA = Path(__file__).parent / "data" / "sa-20261121T080748Z.zst"
BEGAN = datetime(2026, 11, 21, 8, 7, 48, tzinfo=UTC)
ALWAYS = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "sa-20261121T080748Z"
    path.write_bytes(compressed.read(DATA))
    return path


def series(rows, resource, metric, device=""):
    frame = rows.to_pylist()
    return [
        (row["time"], row["value"])
        for row in frame
        if (row["resource"], row["metric"], row["device"]) == (resource, metric, device)
    ]


def sadf(file):
    done = subprocess.run(["sadf", "-j", "-U", str(file), "--", "-A"], capture_output=True, check=True)
    return json.loads(done.stdout)["sysstat"]["hosts"][0]["statistics"]


def test_every_second_is_there_with_its_units(file):
    rows, problems = sysstat.decode([file], "kafka-1", *ALWAYS)
    assert problems == []
    assert set(rows["host"].to_pylist()) == {"kafka-1"}
    times = sorted(set(rows["time"].to_pylist()))
    assert times == [BEGAN + timedelta(seconds=n) for n in range(1, 10)]
    assert {"cpu", "memory", "disk", "network", "load", "swap", "process"} == set(rows["resource"].to_pylist())
    assert set(rows["unit"].to_pylist()) == {"ratio", "bytes", "bytes/s", "packets/s", "ops/s", "count", "seconds"}
    ratios = [row["value"] for row in rows.to_pylist() if row["unit"] == "ratio"]
    assert min(ratios) >= 0
    assert max(ratios) <= 1.3  # a disk may be said to be busy for a little more than a second


def test_values_are_those_that_sadf_prints_as_json(file):
    rows, _ = sysstat.decode([file], "h", *ALWAYS)
    said = sadf(file)
    cpu = [next(c for c in one["cpu-load"] if c["cpu"] == "1") for one in said]
    assert [v for _, v in series(rows, "cpu", "user", "1")] == pytest.approx([c["usr"] / 100 for c in cpu])
    busy = [v for _, v in series(rows, "cpu", "utilisation", "all")]
    alls = [next(c for c in one["cpu-load"] if c["cpu"] == "all") for one in said]
    expected = [(100 - c["idle"] - c["iowait"] - c["steal"]) / 100 for c in alls]
    assert busy == pytest.approx(expected)
    assert max(busy) > 0.9  # somebody did use the machine: the fixture shows something
    assert min(busy) < 0.2
    disk = [next(d for d in one["disk"] if d["disk-device"] == "vda") for one in said]
    assert [v for _, v in series(rows, "disk", "write_bytes", "vda")] == pytest.approx([d["wkB"] * 1024 for d in disk])
    assert [v for _, v in series(rows, "disk", "await", "vda")] == pytest.approx([d["await"] / 1000 for d in disk])
    eth = [next(n for n in one["network"]["net-dev"] if n["iface"] == "eth0") for one in said]
    assert [v for _, v in series(rows, "network", "rx_bytes", "eth0")] == pytest.approx([n["rxkB"] * 1024 for n in eth])
    assert [v for _, v in series(rows, "memory", "available_bytes")] == [one["memory"]["avail"] * 1024 for one in said]
    assert [v for _, v in series(rows, "load", "run_queue")] == [one["queue"]["runq-sz"] for one in said]


def test_memory_used_is_sysstats_share(file):
    rows, _ = sysstat.decode([file], "h", *ALWAYS)
    said = [one["memory"]["memused-percent"] / 100 for one in sadf(file)]
    assert [v for _, v in series(rows, "memory", "used")] == pytest.approx(said, abs=1e-4)


def test_the_window_is_open_at_its_start_and_closed_at_its_end(file):
    start, end = BEGAN + timedelta(seconds=3), BEGAN + timedelta(seconds=6)
    rows, _ = sysstat.decode([file], "h", start, end)
    assert sorted(set(rows["time"].to_pylist())) == [BEGAN + timedelta(seconds=n) for n in (4, 5, 6)]


def test_files_that_overlap_give_each_second_once(file, tmp_path):
    other = tmp_path / "sa-20261121T080749Z"
    other.write_bytes(file.read_bytes())
    one, _ = sysstat.decode([file], "h", *ALWAYS)
    both, problems = sysstat.decode([file, other], "h", *ALWAYS)
    assert problems == []
    assert both.equals(one)


def test_a_file_cut_anywhere_gives_what_it_holds(file):
    whole, _ = sysstat.decode([file], "h", *ALWAYS)
    content = file.read_bytes()
    seen = set()
    for size in range(0, len(content), 1500):
        file.write_bytes(content[:size])
        rows, problems = sysstat.decode([file], "h", *ALWAYS)
        assert rows.num_rows <= whole.num_rows
        assert rows.num_rows or problems or size < 8000, size
        seen.add(len(set(rows["time"].to_pylist())))
    assert len(seen) > 3


@pytest.mark.parametrize("content", [b"", b"no sadc file at all", bytes(5000)])
def test_what_is_no_sadc_file_is_named(file, content):
    good, _ = sysstat.decode([file], "h", *ALWAYS)
    bad = file.with_name("sa-20261121T090000Z")
    bad.write_bytes(content)
    rows, problems = sysstat.decode([file, bad], "h", *ALWAYS)
    assert rows.num_rows == good.num_rows
    assert len(problems) == 1
    assert "sa-20261121T090000Z cannot be decoded" in problems[0]


def test_without_sadf_the_error_says_how_to_get_it(file, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(DataError, match="sadf") as caught:
        sysstat.decode([file], "h", *ALWAYS)
    assert "install sysstat" in (caught.value.hint or "")


HEADER = b"# hostname;interval;timestamp;IFACE;rxpck/s;txpck/s;rxkB/s;txkB/s;rxcmp/s;txcmp/s;rxmcst/s;%ifutil\n"


def long(text):
    tables = [sysstat._long(*section, "h", *ALWAYS) for section in sysstat._sections(text)]
    return [row for table in tables if table for row in table.to_pylist()]


def test_a_restart_or_a_new_device_in_the_middle_is_no_trouble():
    at = int(BEGAN.timestamp())
    text = (
        HEADER
        + b"h;1;%d;eth0;1.00;2.00;3.00;4.00;0;0;0;0.00\n" % at
        + b"h;-1;%d;LINUX-RESTART\t(2 CPU)\n" % (at + 1)
        + b"h;1;%d;eth0;5.00;6.00;7.00;8.00;0;0;0;0.00\n" % (at + 2)
        + HEADER
        + b"h;1;%d;eth0;9.00;0.00;0.00;0.00;0;0;0;0.00\n" % (at + 3)
        + b"h;1;%d;tun0;1.50;0.00;0.00;0.00;0;0;0;0.00\n" % (at + 3)
    )
    rows = long(text)
    packets = [(row["device"], row["value"]) for row in rows if row["metric"] == "rx_packets"]
    assert packets == [("eth0", 1.0), ("eth0", 5.0), ("eth0", 9.0), ("tun0", 1.5)]
    assert "utilisation" not in {row["metric"] for row in rows}  # the speed is unknown: 0 of it would be a claim


def test_a_known_speed_gives_a_utilisation():
    rows = long(HEADER + b"h;1;%d;eth0;1;2;3;4;0;0;0;12.50\n" % int(BEGAN.timestamp()))
    assert [row["value"] for row in rows if row["metric"] == "utilisation"] == [0.125]


def test_an_unknown_section_and_a_missing_column_are_left_out():
    at = int(BEGAN.timestamp())
    rows = long(
        b"# hostname;interval;timestamp;wonders/s\nh;1;%d;5\n" % at
        + b"# hostname;interval;timestamp;CPU;%%usr;%%idle\nh;1;%d;-1;40.00;60.00\n" % at
    )
    assert {(row["device"], row["metric"], row["value"]) for row in rows} == {
        ("all", "user", 0.4),
        ("all", "idle", 0.6),
    }


@pytest.mark.parametrize("seconds", [-3, 0, 7200])
def test_shift_moves_every_time_and_nothing_else(file, seconds):
    rows, _ = sysstat.decode([file], "h", *ALWAYS)
    moved = sysstat.shift(rows, seconds)
    assert [b - a for a, b in zip(rows["time"].to_pylist(), moved["time"].to_pylist(), strict=True)] == [
        timedelta(seconds=seconds)
    ] * rows.num_rows
    assert moved.drop_columns(["time"]).equals(rows.drop_columns(["time"]))
    assert moved.schema.equals(rows.schema)
