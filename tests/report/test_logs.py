from __future__ import annotations

from dataclasses import replace

from small_run import run_data

from labtool.analysis.data import LogFile, LogMessage
from labtool.report import logs


def message(host, level, text, times=1, first=2.0, service="kafka"):
    return LogMessage(host, service, level, text, times, first)


def cells(table):
    return [tuple(cell.text for cell in row) for row in table.rows]


def test_hosts_that_say_the_same_are_one_row():
    said = (
        message("kafka-1", "error", "disk full", 3),
        message("kafka-0", "error", "disk full", 2, 5.0),
        message("kafka-0", "warning", "slow", first=None),
        *(message("web-0", "error", f"e{'x' * n}", service="httpd") for n in range(20)),
    )
    found = cells(logs.messages(replace(run_data(), messages=said)))
    assert found[:2] == [
        ("kafka", "error", "2 s", "kafka-1 and 1 other", "5", "disk full"),
        ("kafka", "warning", "–", "kafka-0", "1", "slow"),
    ]
    assert len(found) == 2 + logs.MOST_MESSAGES
    assert logs.messages(run_data()) is None


def test_every_service_has_a_table_of_its_files_the_worst_first():
    files = (
        LogFile("kafka-0", "kafka", "gc.log", "logs/kafka-0/files/gc.log.zst", 5000.0, 70, 0, 0),
        LogFile("kafka-0", "kafka", "kafka.service", "logs/kafka-0/journal/a b.zst", 1000.0, 9, 1, 2),
        LogFile("spark-0", "spark", "old.gz", "logs/spark-0/files/old.gz", 10.0, None, None, None),
    )
    kafka, spark = logs.files(replace(run_data(), logs=files))
    assert kafka.caption == "kafka: 2 logs, 6 kB; 2 errors and 1 warning in the window"
    assert cells(kafka)[0] == ("kafka-0", "kafka.service", "1 kB", "9", "1", "2")
    assert kafka.rows[0][1].href == "logs/kafka-0/journal/a%20b.zst" and kafka.rows[0][5].tone == "problem"
    assert cells(spark) == [("spark-0", "old.gz", "10 B", "–", "–", "–")]
    assert spark.caption.endswith("no warning, no error in the window")
