"""Event logs of real Sparks: what the tables say against what Spark's driver added up by itself."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pyarrow.compute as pc
import pytest

from labtool.dataset import spark

LOGS = Path(__file__).parent / "data" / "spark"

ADDED_UP = {
    "executorRunTime": ("run_s", 1e3),
    "executorCpuTime": ("cpu_s", 1e9),
    "executorDeserializeTime": ("deserialize_s", 1e3),
    "resultSerializationTime": ("result_serialize_s", 1e3),
    "jvmGCTime": ("gc_s", 1e3),
    "resultSize": ("result_bytes", 1),
    "memoryBytesSpilled": ("memory_spilled_bytes", 1),
    "diskBytesSpilled": ("disk_spilled_bytes", 1),
    "input.bytesRead": ("input_bytes", 1),
    "input.recordsRead": ("input_records", 1),
    "output.bytesWritten": ("output_bytes", 1),
    "output.recordsWritten": ("output_records", 1),
    "shuffle.read.localBytesRead": ("shuffle_local_bytes", 1),
    "shuffle.read.remoteBytesRead": ("shuffle_remote_bytes", 1),
    "shuffle.read.fetchWaitTime": ("fetch_wait_s", 1e3),
    "shuffle.read.recordsRead": ("shuffle_records", 1),
    "shuffle.write.bytesWritten": ("shuffle_write_bytes", 1),
    "shuffle.write.writeTime": ("shuffle_write_s", 1e9),
    "shuffle.write.recordsWritten": ("shuffle_write_records", 1),
}
"""What a stage's end says Spark's driver counted, and the column of the tasks that it is the sum of."""


def events(folder):
    for log in spark.logs(folder):
        for part in spark.parts(log):
            with spark.opened(part) as stream:
                for line in stream:
                    if line.endswith(b"}\n"):
                        yield json.loads(line)


@pytest.fixture(scope="module", params=["rolled-4.0", "plain-4.0", "rolled-3.5", "cut-4.0"])
def log(request):
    folder = LOGS / request.param
    return spark.rows(folder), list(events(folder))


def test_the_tasks_of_a_stage_add_up_to_what_the_driver_counted(log):
    tables, found = log
    tasks = tables["spark_tasks"]
    compared = 0
    for event in (event["Stage Info"] for event in found if event["Event"] == "SparkListenerStageCompleted"):
        if "Failure Reason" in event:
            continue
        same = pc.and_(
            pc.equal(tasks["stage"], event["Stage ID"]), pc.equal(tasks["attempt"], event["Stage Attempt ID"])
        )
        mine = tasks.filter(same)
        assert mine.num_rows == event["Number of Tasks"]
        for counted in event["Accumulables"]:
            column = ADDED_UP.get(counted["Name"].removeprefix("internal.metrics."))
            if column:
                total = pc.sum(mine[column[0]]).as_py() * column[1]
                assert total == pytest.approx(int(counted["Value"]), rel=1e-6, abs=0.5), (column[0], event["Stage ID"])
                compared += 1
    assert compared >= 30


def test_every_event_that_is_whole_is_counted(log):
    tables, found = log
    assert tables["spark_applications"]["events"].to_pylist() == [len(found)]
    ended = Counter(event["Task End Reason"]["Reason"] for event in found if event["Event"] == "SparkListenerTaskEnd")
    started = sum(event["Event"] == "SparkListenerTaskStart" for event in found)
    status = Counter(tables["spark_tasks"]["status"].to_pylist())
    assert status["ok"] == ended["Success"] and status["running"] == started - sum(ended.values())
    assert tables["spark_jobs"].num_rows == sum(event["Event"] == "SparkListenerJobStart" for event in found)
    submitted = {
        (event["Stage Info"]["Stage ID"], event["Stage Info"]["Stage Attempt ID"])
        for event in found
        if event["Event"] == "SparkListenerStageSubmitted"
    }
    stages = tables["spark_stages"]
    ran = stages.filter(pc.is_valid(stages["submitted"]))
    assert set(zip(ran["stage"].to_pylist(), ran["attempt"].to_pylist(), strict=True)) == submitted


def test_the_parts_of_a_task_are_its_duration(log):
    tasks = log[0]["spark_tasks"].to_pylist()
    parts = ("scheduler_delay_s", "deserialize_s", "run_s", "result_serialize_s", "getting_result_s")
    for task in tasks:
        if task["status"] == "ok":
            assert sum(task[part] for part in parts) == pytest.approx(task["duration_s"], abs=2e-3)
            assert (task["finished"] - task["launched"]).total_seconds() == pytest.approx(task["duration_s"])


def test_what_each_log_is(log):
    tables, _ = log
    (application,) = tables["spark_applications"].to_pylist()
    failed = [job for job in tables["spark_jobs"].to_pylist() if job["status"] == "failed"]
    python = any("PythonRDD" in stage for stage in tables["spark_stages"]["rdds"].to_pylist())
    assert tables["spark_executors"]["cores"].to_pylist() == [2, 2]
    assert {
        ("skewed-sales", "4.0.1", True): ("", False),
        ("skewed-sales", "4.0.1", False): ("", False),
        ("word-count", "4.0.1", True): ("ValueError: no word is bad", True),
        ("word-count", "3.5.7", True): ("", True),
    }[application["name"], application["version"], application["end"] is not None] == (
        failed[0]["reason"].split("PythonException: ")[-1] if failed else "",
        python,
    )
