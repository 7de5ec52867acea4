"""What is counted of a log, on lines that services really wrote."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from labtool.dataset import build, clock, compressed, logs, tables
from labtool.dataset.clock import Offset

SPARK = "26/11/21 08:07:50 WARN NetworkClient: [Producer clientId=producer-1] Connection to node 1 could not be made."
KAFKA = "2026-11-21T08:07:51.604000+0000 ip-198-18-0-4 java[182]: 2026-11-21T08:07:51,599 ERROR [BrokerServer id=1] no"
HTTPD = "[Sat Nov 21 08:07:52.123456 2026] [proxy:error] [pid 12:tid 7] [client 198.18.0.5:1] AH00126: no backend"
PHP = "[21-Nov-2026 08:07:53] WARNING: [pool www] server reached pm.max_children"
KILLED = "2026-11-21T08:07:54.9+0000 ip-198-18-0-4 systemd[1]: kafka.service: Main process exited, code=killed, 9/KILL"
MEMORY = "2026-11-21T08:07:54.9+0000 ip-198-18-0-4 kernel: Out of memory: Killed process 182 (java)"
HARMLESS = (
    "26/11/21 08:07:50 INFO Executor: the last ERROR of it was none",
    '198.18.0.5 - - [21/Nov/2026:08:07:50 +0000] "GET /ERROR?level=WARN HTTP/1.1" 200 5',
    "2026-11-21T08:07:54.9+0000 ip-198-18-0-4 app[5]: the plan was: Main process exited, code=killed",
    "ERRORS and WARNINGS are words",
    "x" * 400 + " ERROR far behind",
)


@pytest.mark.parametrize(
    ("line", "level", "said"),
    [
        (SPARK, "warning", "NetworkClient: [Producer clientId=producer-1] Connection"),
        (KAFKA, "error", "[BrokerServer id=1] no"),
        (HTTPD, "error", "AH00126: no backend"),
        (PHP, "warning", "[pool www] server reached"),
        (KILLED, "error", "kafka.service: Main process exited"),
        (MEMORY, "error", "Out of memory: Killed process 182"),
        ("[WARNING]  (1) : Server web/a is DOWN", "warning", "(1) : Server web/a is DOWN"),
        ("Caused by: x\n"[:-1], None, None),
    ],
)
def test_a_line_has_the_level_that_its_service_gave_it(line, level, said):
    found = logs.grade(line)
    assert (found is None) == (level is None)
    if found:
        assert found[0] == level and found[1].startswith(said)


@pytest.mark.parametrize("line", HARMLESS)
def test_a_word_within_what_is_said_is_no_level(line):
    assert logs.grade(line) is None


@pytest.mark.parametrize(
    ("line", "second"),
    [(SPARK, 50), (KAFKA, 51.604), (HTTPD, 52.123456), (PHP, 53), ("2026-11-21 10:07:50,5 +0200 x", None), ("x", None)],
)
def test_the_time_of_a_line(line, second):
    found = logs.time_of(line)
    if second is not None:
        assert found == datetime(2026, 11, 21, 8, 7, tzinfo=UTC) + timedelta(seconds=second)
    else:
        assert found is None or found.hour == 10


def write(run, host, manifest, texts, kind="file"):
    files = [
        {"kind": kind, "service": service, "source": f"/log/{name}", "member": f"files/{name}.zst", "bytes": len(text)}
        for (service, name), text in texts.items()
    ]
    (run.logs / host / "files").mkdir()
    for (_, name), text in texts.items():
        if text:
            compressed.write(run.logs / host / "files" / f"{name}.zst", text.encode())
    (run.logs / host / "manifest.json").write_text(json.dumps(manifest(host=host, files=files)))


def test_files_and_messages_of_the_window(run, manifest, began, monkeypatch):
    monkeypatch.setattr(logs, "BLOCK", 64)  # lines lie across blocks
    early = SPARK.replace("08:07:50", "07:00:00")
    again = SPARK.replace("node 1 ", "node 23 ").replace(":50", ":49")
    text = "\n".join([early, "WARNING: no time", SPARK, *HARMLESS, again, "26/11/21 08:07:51 ERROR Utils: Aborting"])
    write(run, "kafka-0", manifest, {("spark", "stderr"): text, ("spark", "stdout"): ""})
    build.build_tables(run)
    stderr, stdout = tables.read(run.tables, "logs").to_pylist()
    assert stderr | {"host": ""} == {
        "host": "",
        "service": "spark",
        "source": "/log/stderr",
        "file": "logs/kafka-0/files/stderr.zst",
        "bytes": len(text),
        "lines": 10,
        "warnings": 3,  # not the one from an hour before
        "errors": 1,
    }
    assert (stdout["file"], stdout["lines"], stdout["errors"]) == ("", 0, 0)
    said = tables.read(run.tables, "log_messages").to_pylist()
    assert [(one["level"], one["times"], one["first"]) for one in said] == [
        ("warning", 1, None),
        ("warning", 2, began + timedelta(seconds=1)),
        ("error", 1, began + timedelta(seconds=3)),
    ]
    assert "node 23" in said[1]["message"]  # the first one's words


def test_times_are_moved_to_the_controllers_clock(run, manifest, began):
    clock.append(run.raw, [Offset(began + timedelta(seconds=4), "kafka-0", "before", 100.0, 0.001, 32)])
    write(run, "kafka-0", manifest, {("spark", "stderr"): f"{SPARK}\n{SPARK.replace('08:07:50', '08:09:30')}\n"})
    build.build_tables(run)
    (said,) = tables.read(run.tables, "log_messages").to_pylist()
    assert (said["times"], said["first"]) == (1, began + timedelta(seconds=2))


def test_what_was_packed_is_named_and_what_was_cut_is_said(run, manifest):
    write(run, "kafka-0", manifest, {("spark", "events"): "x" * 1000, ("spark", "old"): "ERROR x"})
    folder = run.logs / "kafka-0" / "files"
    folder.joinpath("events.zst").write_bytes(folder.joinpath("events.zst").read_bytes()[:-9])
    path = run.logs / "kafka-0" / "manifest.json"
    (folder / "old.zst").rename(folder / "old.gz")
    path.write_text(path.read_text().replace("files/old.zst", "files/old.gz"))
    missing = build.build_tables(run)
    assert [(one.what, one.host) for one in missing if "log" in one.what] == [("the log /log/events", "kafka-0")]
    found = tables.read(run.tables, "logs").to_pylist()
    assert [(one["bytes"], one["lines"]) for one in found] == [(1000, None), (7, None)]
    assert not tables.exists(run.tables, "log_messages")
