from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from spark_lines import executor, job_start, line, stage_info, start, task_end, task_start

from labtool.dataset import compressed, spark
from labtool.errors import DataError


def at(milliseconds):
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def tables(tmp_path, *lines, name="app-1", **options):
    (tmp_path / name).write_text("".join(lines))
    return {table: found.to_pylist() for table, found in spark.rows(tmp_path, **options).items()}


def test_every_metric_of_a_task(tmp_path):
    found = tables(
        tmp_path, start(), task_start(0), task_end(0), driver="master-0", names={"198.18.0.5": "worker-0"}
    )["spark_tasks"]  # fmt: skip
    assert found == [
        {
            "application": "app-1", "driver": "master-0", "stage": 0, "attempt": 0, "task": 0, "index": 0, "try": 0,
            "executor": "0", "host": "worker-0", "locality": "PROCESS_LOCAL", "speculative": False, "status": "ok",
            "reason": "", "launched": at(2000), "finished": at(3000), "duration_s": 1.0,
            "scheduler_delay_s": 0.075, "deserialize_s": 0.02, "run_s": 0.9, "result_serialize_s": 0.005,
            "getting_result_s": 0.0, "deserialize_cpu_s": 0.01, "cpu_s": 0.6, "gc_s": 0.05, "fetch_wait_s": 0.07,
            "shuffle_write_s": 0.03, "result_bytes": 1500, "peak_memory_bytes": 4096, "memory_spilled_bytes": 300,
            "disk_spilled_bytes": 100, "input_bytes": 11, "input_records": 12, "output_bytes": 13,
            "output_records": 14, "shuffle_local_bytes": 3000, "shuffle_remote_bytes": 2000,
            "shuffle_remote_to_disk_bytes": 500, "shuffle_local_blocks": 3, "shuffle_remote_blocks": 2,
            "shuffle_records": 40, "remote_requests_s": 0.08, "shuffle_write_bytes": 700, "shuffle_write_records": 7,
        }
    ]  # fmt: skip


def test_fetching_a_large_result_is_a_part_of_its_own(tmp_path):
    (found,) = tables(tmp_path, start(), task_end(0, **{"Getting Result Time": 2950}))["spark_tasks"]
    assert (found["getting_result_s"], found["scheduler_delay_s"]) == (0.05, 0.025)


@pytest.mark.parametrize(
    ("why", "status", "reason"),
    [
        (
            {"Reason": "ExceptionFailure", "Class Name": "java.lang.OutOfMemoryError", "Description": "heap\n at x"},
            "failed",
            "OutOfMemoryError: heap",
        ),
        (
            {
                "Reason": "ExceptionFailure",
                "Class Name": "org.apache.spark.api.python.PythonException",
                "Description": 'Traceback (most recent call last):\n  File "x.py", line 1\n    a\nValueError: no\n\nat',
            },
            "failed",
            "PythonException: ValueError: no",
        ),
        ({"Reason": "TaskKilled", "Kill Reason": "another attempt succeeded"}, "killed", "another attempt succeeded"),
        ({"Reason": "ExecutorLostFailure", "Loss Reason": "worker lost"}, "failed", "ExecutorLostFailure: worker lost"),
        ({"Reason": "FetchFailed", "Message": "Failed to connect"}, "failed", "FetchFailed: Failed to connect"),
        ({"Reason": "TaskResultLost"}, "failed", "TaskResultLost"),
    ],
)
def test_why_a_task_did_not_end_well(tmp_path, why, status, reason):
    (found,) = tables(tmp_path, start(), task_end(0, why=why, metrics=None))["spark_tasks"]
    assert (found["status"], found["reason"], found["duration_s"], found["run_s"]) == (status, reason, 1.0, None)


def test_output_that_went_with_its_executor_is_no_second_task(tmp_path):
    found = tables(tmp_path, start(), task_end(0), task_end(0, why={"Reason": "Resubmitted"}))["spark_tasks"]
    assert [task["status"] for task in found] == ["ok"]


def test_a_task_that_the_log_does_not_see_end(tmp_path):
    found = tables(tmp_path, start(), task_start(0), task_start(1), task_end(1))["spark_tasks"]
    assert {task["task"]: (task["status"], task["finished"]) for task in found} == {
        0: ("running", None),
        1: ("ok", at(3000)),
    }


def test_stages_that_ran_were_skipped_failed_or_are_under_way(tmp_path):
    done = {"Submission Time": 1300, "Completion Time": 1900}
    lines = [
        start(),
        job_start(0, [stage_info(0), stage_info(1, parents=[0])]),
        line("StageSubmitted", **{"Stage Info": stage_info(1, **{"Submission Time": 1300})}),
        line("StageCompleted", **{"Stage Info": stage_info(1, parents=[0], **done, **{"Failure Reason": "lost\nx"})}),
        line("StageSubmitted", **{"Stage Info": stage_info(1, 1, **{"Submission Time": 1950})}),
        line("StageCompleted", **{"Stage Info": stage_info(1, 1, **done)}),
        line("JobEnd", **{"Job ID": 0, "Completion Time": 2000, "Job Result": {"Result": "JobSucceeded"}}),
        job_start(1, [stage_info(2), stage_info(3)], at=2100),
        line("StageSubmitted", **{"Stage Info": stage_info(2, **{"Submission Time": 2200})}),
    ]
    found = tables(tmp_path, *lines)["spark_stages"]
    assert sorted((s["stage"], s["attempt"], s["job"], s["status"], s["reason"]) for s in found) == [
        (0, 0, 0, "skipped", ""),
        (1, 0, 0, "failed", "lost"),
        (1, 1, 0, "ok", ""),
        (2, 0, 1, "running", ""),
        (3, 0, 1, "waiting", ""),
    ]
    first = next(s for s in found if s["attempt"] == 0 and s["stage"] == 1)
    assert (first["parents"], first["rdds"], first["submitted"]) == ("0", "PythonRDD, ShuffledRDD", at(1300))


def test_jobs_with_their_names_batches_and_failures(tmp_path):
    failed = {"Result": "JobFailed", "Exception": {"Message": "Job aborted: no word is bad\nat x"}}
    lines = [
        start(),
        job_start(0, [stage_info(0), stage_info(4)], **{"spark.sql.execution.id": "3", "streaming.sql.batchId": "7"}),
        job_start(1, [stage_info(5)], **{"spark.job.description": "sort"}),
        line("JobEnd", **{"Job ID": 1, "Completion Time": 2000, "Job Result": failed}),
    ]
    first, second = tables(tmp_path, *lines)["spark_jobs"]
    assert (first["name"], first["stages"], first["status"], first["execution"], first["batch"]) == (
        "count at x.py:4", "0,4", "running", 3, 7,
    )  # fmt: skip
    assert (second["name"], second["status"], second["reason"], second["completed"]) == (
        "sort", "failed", "Job aborted: no word is bad", at(2000),
    )  # fmt: skip


def test_executors_that_come_and_go(tmp_path):
    gone = line("ExecutorRemoved", **{"Timestamp": 5000, "Executor ID": "0", "Removed Reason": "worker lost\nx"})
    found = tables(tmp_path, start(), executor(), gone, executor("1", "198.18.0.6", 4, 6000))["spark_executors"]
    assert [(e["executor"], e["host"], e["cores"], e["added"], e["removed"], e["reason"]) for e in found] == [
        ("0", "198.18.0.5", 2, at(1100), at(5000), "worker lost"),
        ("1", "198.18.0.6", 4, at(6000), None, ""),
    ]


def test_an_application_with_its_settings(tmp_path):
    settings = {"Spark Properties": {"spark.master": "spark://m:7077", "spark.task.cpus": "2"}}
    lines = [start(**{"App Attempt ID": "2"}), line("EnvironmentUpdate", **settings)]
    (found,) = tables(tmp_path, *lines, line("ApplicationEnd", Timestamp=9000), driver="m")["spark_applications"]
    assert found == {
        "application": "app-1/2", "driver": "m", "name": "count", "version": "4.0.1", "master": "spark://m:7077",
        "start": at(1000), "end": at(9000), "task_cpus": 2, "events": 4, "broken": 0,
    }  # fmt: skip


def test_a_rolled_log_is_read_in_the_order_of_its_parts(tmp_path):
    log = tmp_path / "eventlog_v2_app-1"
    log.mkdir()
    (log / "appstatus_app-1.inprogress").touch()
    (log / ".events_1_app-1.crc").write_bytes(b"crc")
    for number in (2, 10, 1):
        compressed.write(log / f"x{number}.zst", (start() if number == 1 else task_end(number)).encode())
        (log / f"x{number}.zst").rename(log / f"events_{number}_app-1.zstd")
    assert [part.name for part in spark.parts(log)] == [f"events_{n}_app-1.zstd" for n in (1, 2, 10)]
    found = spark.rows(log)
    assert found["spark_tasks"]["task"].to_pylist() == [2, 10]
    # The history server puts the first parts into one, and may not have removed them yet.
    (log / "events_2_app-1.zstd.compact").write_bytes((log / "events_2_app-1.zstd").read_bytes())
    assert [part.name for part in spark.parts(log)] == ["events_2_app-1.zstd.compact", "events_10_app-1.zstd"]


def test_a_log_that_was_cut_gives_what_is_whole(tmp_path):
    whole = start() + "".join(task_end(number) for number in range(200))
    (tmp_path / "app-1.inprogress").write_text(whole[:-100])
    found = spark.rows(tmp_path)
    assert (found["spark_tasks"].num_rows, found["spark_applications"]["broken"].to_pylist()) == (199, [1])
    compressed.write(tmp_path / "x.zst", whole.encode())
    cut = (tmp_path / "x.zst").read_bytes()
    for length in range(0, len(cut), 97):
        (tmp_path / "app-1.inprogress").write_bytes(cut[:length])
        spark.rows(tmp_path)


def test_a_log_that_was_compressed_again_as_it_was_collected(tmp_path):
    compressed.write(tmp_path / "one.zst", (start() + task_end(0)).encode())
    compressed.write(tmp_path / "app-1.zstd.zst", (tmp_path / "one.zst").read_bytes())
    assert spark.rows(tmp_path)["spark_tasks"].num_rows == 1


def test_all_logs_of_a_run_with_their_drivers_and_the_hosts_names(tmp_path):
    for host in ("master-0", "master-1"):
        log = tmp_path / host / "eventlog" / "eventlog_v2_app-1"
        log.mkdir(parents=True)
        (log / "events_1_app-1").write_text(start() + task_end(0))
        (tmp_path / host / "rest").mkdir()
        (tmp_path / host / "rest" / "app-1.json").write_text("[]")
    run = {"hosts": [{"name": "worker-0", "address": "203.0.113.1", "private_address": "198.18.0.5"}]}
    found = spark.of_run(tmp_path, run)["spark_tasks"]
    assert found.select(["driver", "host"]).to_pylist() == [
        {"driver": "master-0", "host": "worker-0"},
        {"driver": "master-1", "host": "worker-0"},
    ]


def test_nothing_is_a_table_of_no_logs(tmp_path):
    assert spark.rows(tmp_path) == {} and spark.of_run(tmp_path / "none", {}) == {}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"hello\n", "is no event log of Spark"),
        (b"LZ4Block\x16...", "compressed with lz4"),
        (start().encode() + b'{"Event":"SparkListenerTaskEnd","Stage ID":0}\n', r"app-1:3: not as Spark"),
    ],
)
def test_what_is_no_log_is_named(tmp_path, content, said):
    (tmp_path / "app-1").write_bytes(content)
    with pytest.raises(DataError, match=said):
        spark.rows(tmp_path)


def test_memory_is_bound_by_arrow(tmp_path, monkeypatch):
    monkeypatch.setattr(spark, "AT_ONCE", 10)
    found = tables(tmp_path, start(), *(task_end(number) for number in range(35)))
    assert [task["task"] for task in found["spark_tasks"]] == list(range(35))
