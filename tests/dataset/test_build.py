from __future__ import annotations

import json
import shutil
from datetime import timedelta

import pytest

from labtool.dataset import build, clock, tables
from labtool.dataset.clock import Offset
from labtool.dataset.run import StageRecord
from labtool.errors import DataError


def rows(run, name):
    return tables.read(run.tables, name).to_pylist()


def seconds(run, host):
    return sorted({row["time"] for row in rows(run, "host_metrics") if row["host"] == host})


def measured(run, began, host, offset_s, bound_s=0.001, after_s=4):
    clock.append(run.raw, [Offset(began + timedelta(seconds=after_s), host, "before", offset_s, bound_s, 32)])


def test_a_whole_run_lacks_nothing(run, began):
    measured(run, began, "kafka-0", 0.0001)
    event = {"start": began.isoformat(), "end": None, "host": "", "kind": "stage", "name": "workload", "status": "ok"}
    run.timeline.write_text(json.dumps(event) + "\n")
    assert build.build_tables(run) == []
    assert {path.stem for path in run.tables.iterdir()} == {"host_metrics", "clock", "timeline", "observer"}
    for host in ("kafka-0", "kafka-1"):
        assert seconds(run, host) == [began + timedelta(seconds=n) for n in range(1, 10)]
    assert [row["name"] for row in rows(run, "timeline")] == ["workload"]
    assert len(rows(run, "observer")) == 2


def test_it_is_the_same_every_time(run):
    build.build_tables(run)
    before = {path.name: path.read_bytes() for path in run.tables.iterdir()}
    build.build_tables(run)
    assert {path.name: path.read_bytes() for path in run.tables.iterdir()} == before


def test_a_host_without_files_is_missing_and_the_others_stay(run):
    shutil.rmtree(run.raw / "sysstat" / "kafka-0")
    shutil.rmtree(run.logs / "kafka-0")
    said = build.build_tables(run)
    assert [(one.what, one.host, one.why) for one in said] == [
        ("host metrics", "kafka-0", "no file of sadc was collected")
    ]
    assert seconds(run, "kafka-0") == []
    assert len(seconds(run, "kafka-1")) == 9


def test_a_run_with_nothing_at_all_is_still_built(run):
    for folder in (run.raw, run.logs):
        shutil.rmtree(folder)
    said = build.build_tables(run)
    assert {one.host for one in said} == {"kafka-0", "kafka-1"}
    assert list(run.tables.iterdir()) == []


def test_a_file_that_is_no_sadc_file_is_named_beside_the_good(run):
    (run.raw / "sysstat" / "kafka-1" / "sa-20261121T090000Z").write_bytes(b"junk")
    said = build.build_tables(run)
    assert [(one.what, one.host) for one in said] == [("host metrics", "kafka-1")]
    assert "sa-20261121T090000Z cannot be decoded" in said[0].why
    assert len(seconds(run, "kafka-1")) == 9


def test_a_time_without_samples_is_a_gap_in_timeline_and_words(run, began):
    record = run.read()
    record.window_end = began + timedelta(seconds=60)
    run.write(record)
    said = build.build_tables(run)
    assert [one.why for one in said if one.host == "kafka-0"] == ["nothing was recorded for 51 s from 08:07:57 UTC"]
    gaps = [row for row in rows(run, "timeline") if row["kind"] == "gap"]
    assert [(gap["host"], gap["start"], gap["end"]) for gap in gaps] == [
        (host, began + timedelta(seconds=9), began + timedelta(seconds=60)) for host in ("kafka-0", "kafka-1")
    ]


def test_a_window_elsewhere_says_that_no_sample_lies_in_it(run, began):
    record = run.read()
    record.window_start, record.window_end = began + timedelta(hours=1), began + timedelta(hours=2)
    run.write(record)
    assert "no sample lies in the window" in {one.why for one in build.build_tables(run)}


def test_a_host_whose_clock_is_off_is_moved_to_the_controllers(run, began):
    measured(run, began, "kafka-0", 3.2)
    record = run.read()
    record.window_start, record.window_end = began + timedelta(seconds=-3), began + timedelta(seconds=4)
    run.write(record)
    build.build_tables(run)
    # What it wrote at second 1 to 7 happened three seconds earlier.
    assert seconds(run, "kafka-0") == [began + timedelta(seconds=n) for n in range(-2, 5)]
    assert seconds(run, "kafka-1") == [began + timedelta(seconds=n) for n in range(1, 5)]


def test_a_stepped_clock_is_told(run, began):
    measured(run, began, "kafka-0", 0.0, after_s=0)
    measured(run, began, "kafka-0", 5.0, after_s=9)
    assert ("comparable times", "kafka-0") in [(one.what, one.host) for one in build.build_tables(run)]


def test_a_cut_timeline_loses_its_last_line_alone(run, began):
    good = json.dumps({"start": began.isoformat(), "kind": "note", "name": "one", "colour": "unknown keys are left"})
    run.timeline.write_text(f'{good}\n{{"start": 5, "name": 7}}\n["no object"]\n{{"start": "2026-')
    said = build.build_tables(run)
    assert [row["name"] for row in rows(run, "timeline")] == ["one"]
    assert [one.why.split(";")[0] for one in said] == ["3 lines of timeline.jsonl cannot be read"]


PARSER = """
from datetime import datetime, timezone
def parse(raw, run):
    time = datetime(2026, 11, 21, 8, 7, 50, tzinfo=timezone.utc)
    return {"workload_intervals": [{"time": time, "client": "kafka-0/producer-1", "role": "producer", "rate": 5.0}]}
def parse_logs(logs):
    return {"service_metrics": [{"time": 1795248470.5, "host": "kafka-1", "service": "kafka", "value": 1.0}]}
"""


def test_parsers_make_their_tables_in_the_controllers_time(run, began, tmp_path):
    measured(run, began, "kafka-0", 1.5, bound_s=0.01)
    measured(run, began, "kafka-1", 0.001, bound_s=0.01)  # within its bound: it may as well be 0
    file = tmp_path / "p.py"
    file.write_text(PARSER)
    assert build.build_tables(run, workload=file, stacks=[file]) == []
    assert [row["time"] for row in rows(run, "workload_intervals")] == [began + timedelta(seconds=0.5)]
    assert [row["time"] for row in rows(run, "service_metrics")] == [began + timedelta(seconds=2.5)]


ARROW_PARSER = """
import pyarrow as pa
def parse(raw, run):
    names = ["kafka-0/c", "kafka-1/c", "elsewhere"]
    due = pa.array([1795248470000000] * 3, pa.timestamp("us", tz="UTC"))
    return {"requests": pa.table({"due": due, "client": names, "warmup": [False] * 3})}
"""


def test_whole_tables_are_moved_like_rows(run, began, tmp_path):
    measured(run, began, "kafka-0", 1.5, bound_s=0.01)
    file = tmp_path / "p.py"
    file.write_text(ARROW_PARSER)
    said = build.build_tables(run, workload=file)
    assert [one.what for one in said if one.what.startswith("what")] == []
    due = {row["client"]: row["due"] for row in rows(run, "requests")}
    assert due["elsewhere"] - due["kafka-0/c"] == timedelta(seconds=1.5)
    assert due["elsewhere"] == due["kafka-1/c"]
    assert {row["error"] for row in rows(run, "requests")} == {""}, "a text that a parser leaves out is empty"


@pytest.mark.parametrize(
    ("made", "told"),
    [
        ("{'requests': pa.table({'colour': [1]})}", "'colour'"),
        ("{'requests': pa.table({'status': ['x']})}", "column status: expected int64"),
    ],
)
def test_a_wrong_whole_table_is_named(run, tmp_path, made, told):
    file = tmp_path / "p.py"
    file.write_text(f"import pyarrow as pa\ndef parse(raw, run): return {made}\n")
    assert any(told in one.why for one in build.build_tables(run, workload=file))


@pytest.mark.parametrize("text", ["raise OSError", "def parse(raw, run): return {'workload_summary': [{'rate': 'x'}]}"])
def test_a_parser_that_fails_takes_nothing_with_it(run, tmp_path, text):
    good, bad = tmp_path / "good.py", tmp_path / "bad.py"
    good.write_text(PARSER)
    bad.write_text(text)
    said = build.build_tables(run, workload=bad, stacks=[good])
    assert [one.what for one in said] == ["what bad.py makes"]
    assert len(rows(run, "service_metrics")) == 1
    assert not tables.exists(run.tables, "workload_summary")


def test_a_workload_that_says_nothing_is_missing(run):
    record = run.read()
    record.workload = "kafka-throughput"
    run.write(record)
    assert [one.what for one in build.build_tables(run)] == ["workload_intervals"]


def test_the_window_of_an_interrupted_run_is_what_is_known(run, began):
    record = run.read()
    record.window_start = record.window_end = None
    assert build.window(record)[0] == began
    later = began + timedelta(seconds=30)
    record.stages = [StageRecord(name="deploy", start=began, end=later), StageRecord(name="workload", start=later)]
    assert build.window(record) == (began, later)


def test_a_folder_that_is_no_run_is_an_error(tmp_path):
    with pytest.raises(DataError, match="is not a run"):
        build.build_tables(build.RunDirectory(tmp_path))


@pytest.mark.parametrize(
    ("detailed", "said"),
    [
        (True, "detailed monitoring has one every minute,"),
        (False, "basic monitoring has one every 5 minutes,"),
        (None, "every 5 with"),
    ],
)
def test_a_host_without_points_is_told_how_often_there_are_some(run, detailed, said):
    record = run.read()
    for host in record.hosts:
        host.detailed_monitoring = detailed
    run.write(record)
    (run.raw / "cloudwatch").mkdir()
    told = [one.why for one in build.build_tables(run) if one.what == "CloudWatch metrics"]
    assert len(told) == 2 and all(said in why for why in told)
