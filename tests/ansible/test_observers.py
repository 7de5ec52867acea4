import json
from datetime import UTC, datetime, timedelta

import pytest

from labtool.ansible.events import HostResult, HostStarted, Printed
from labtool.ansible.observers import LogWriter, TimelineWriter
from labtool.dataset.schema import TABLES
from labtool.errors import AnsibleError

NOW = datetime(2026, 1, 1, 12, 0, 0, 250_000, tzinfo=UTC)


def ended(status: str, message: str = "") -> HostResult:
    return HostResult(
        time=NOW + timedelta(seconds=2), host="web-0", task="Start", role="httpd", status=status, message=message,
        start=NOW, duration_s=2,
    )  # fmt: skip


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_log_has_all_output_with_times(tmp_path):
    path = tmp_path / "new" / "log"
    with LogWriter(path) as log:
        log.notice(Printed(time=NOW, text="\r\nTASK [Start] ***"))
        log.notice(Printed(time=NOW, text="   "))
        log.notice(Printed(time=NOW + timedelta(seconds=1), text="fatal: x =>\n  msg: y"))
        assert path.read_text().count("\n") == 3  # nothing waits in a buffer
    with LogWriter(path) as log:
        log.notice(Printed(time=NOW, text="again"))
    assert path.read_text().splitlines() == [
        "12:00:00.250  TASK [Start] ***",
        "12:00:01.250  fatal: x =>",
        "                msg: y",
        "12:00:00.250  again",
    ]


def test_a_full_disk_is_told():
    from pathlib import Path

    with LogWriter(Path("/dev/full")) as log, pytest.raises(AnsibleError, match="cannot be written: No space left"):
        log.notice(Printed(time=NOW, text="x" * 100_000))


def test_a_row_of_the_timeline_has_its_columns(tmp_path):
    path = tmp_path / "timeline.jsonl"
    writer = TimelineWriter(path)
    writer.notice(HostStarted(time=NOW, host="web-0", task="Start"))
    writer.notice(ended("changed", "made"))
    (row,) = rows(path)
    assert list(row) == [column.name for column in TABLES["timeline"]]
    assert row == {
        "start": "2026-01-01T12:00:00.250000+00:00",
        "end": "2026-01-01T12:00:02.250000+00:00",
        "host": "web-0",
        "kind": "task",
        "name": "httpd : Start",
        "status": "changed",
        "detail": "",
    }


def test_statuses_are_those_of_the_schema(tmp_path):
    path = tmp_path / "timeline.jsonl"
    writer = TimelineWriter(path)
    for status in ("ok", "changed", "skipped", "failed", "unreachable", "ignored"):
        writer.notice(ended(status, "why\nmore"))
    assert [(r["status"], r["detail"]) for r in rows(path)] == [
        ("ok", ""),
        ("changed", ""),
        ("skipped", "why"),
        ("failed", "why"),
        ("unreachable", "why"),
        ("ok", "failed, which the play allows: why"),
    ]


def test_an_instant_has_no_end(tmp_path):
    writer = TimelineWriter(tmp_path / "t")
    writer.row(start=NOW, kind="note", name="größer")
    assert rows(tmp_path / "t")[0]["end"] is None
    assert "größer" in (tmp_path / "t").read_text(encoding="utf-8")
