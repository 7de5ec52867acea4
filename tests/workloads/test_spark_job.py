"""Why an application failed, from what Spark 4.3.0 really said, and what the parser makes of a real run."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from labtool.dataset import parsers
from labtool.dataset.schema import TABLES
from labtool.errors import DataError
from tests.roles.modules import ROOT, load

FIXTURES = Path(__file__).parent / "fixtures"
PARSER = ROOT / "playbooks/workloads/spark-job.py"

NO_CLASS = """WARNING: Using incubator modules: jdk.incubator.vector
Error: Failed to load class org.example.App.
26/11/21 20:39:58 INFO ShutdownHookManager: Shutdown hook called
"""
EXECUTOR_MEMORY = """\
26/11/21 20:41:12 WARN TaskSetManager: Lost task 0.0 in stage 0.0 (TID 0) (198.18.16.5 executor 0): \
java.lang.OutOfMemoryError: Java heap space
\tat org.apache.spark.unsafe.types.UTF8String.repeat(UTF8String.java:1110)
26/11/21 20:41:12 ERROR TaskSchedulerImpl: Lost executor 0 on 198.18.16.5: Command exited with code 52
26/11/21 20:41:48 ERROR TaskSchedulerImpl: Lost executor 3 on 198.18.16.6: Command exited with code 52
26/11/21 20:41:48 ERROR TaskSetManager: Task 1 in stage 0.0 failed 4 times; aborting job
26/11/21 20:41:48 INFO TaskSchedulerImpl: Killing all running tasks in stage 0: Job aborted due to stage failure: \
Task 1 in stage 0.0 failed 4 times, most recent failure: Lost task 1.3 in stage 0.0 (TID 6) (198.18.16.6 executor 3)
"""
DRIVER_MEMORY = (
    'Exception in thread "main" java.lang.OutOfMemoryError: Java heap space\n\tat org.example.App.main(A.java)\n'
)
KILLED = EXECUTOR_MEMORY.replace("code 52", "code 137").replace("java.lang.OutOfMemoryError: Java heap space", "x")
WORKER = (
    "26/11/21 20:50:07 ERROR TaskSchedulerImpl: Lost executor 1 on 198.18.16.6: worker lost: 198.18.16.6:7078 gone\n"
)
WAITS = (
    "26/11/21 20:50:07 WARN TaskSchedulerImpl: Initial job has not accepted any resources; check your cluster UI to "
    "ensure that workers are registered and have sufficient resources\n"
)
THROWN = 'Exception in thread "main" java.lang.IllegalStateException: no input\n\tat org.example.App.main(A.java)\n'
PYTHON = """Traceback (most recent call last):
  File "/var/lib/labtool/load/spark-job/inputs/error.py", line 5, in <module>
    spark.sparkContext.parallelize(range(4), 2).map(f).collect()
pyspark.errors.exceptions.captured.PythonException: An exception was thrown from the Python worker:
Traceback (most recent call last):
  File "/var/lib/labtool/load/spark-job/inputs/error.py", line 4, in f
    raise ValueError("row %d is bad" % x)
    ^^^^^^^^^^^^^^^^^^
ValueError: row 2 is bad
"""


@pytest.fixture
def driver(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "playbooks/workloads/files"))
    return load("playbooks/workloads/files/spark_job.py")


def job(driver, **more):
    command = ["spark-submit", "--name", "App", "--class", "org.example.App", "/inputs/app.jar", "in"]
    return driver.Job(**{"name": "App", "command": command, "deadline_s": 60.0, "cluster": {}, "exit_code": 1} | more)


@pytest.mark.parametrize(
    ("said", "printed", "told"),
    [
        (NO_CLASS, "", "class org.example.App is not in app.jar"),
        (
            EXECUTOR_MEMORY,
            "",
            "an executor on 198.18.16.6 ran out of memory (Java heap space): --executor-memory gives it more",
        ),
        (
            DRIVER_MEMORY,
            "",
            "the driver ran out of memory (Java heap space): --conf spark.driver.memory=… gives it more",
        ),
        (
            KILLED,
            "",
            "executor 3 on 198.18.16.6 was lost: it was killed (exit code 137, SIGKILL: by somebody, or by the kernel "
            "for its memory) (Task 1 in stage 0.0 failed 4 times)",
        ),
        (THROWN, "", "it ended with 1: java.lang.IllegalStateException: no input"),
        ("", PYTHON, "it ended with 1: ValueError: row 2 is bad"),
        ("java.lang.ClassNotFoundException: org.x.Y\n", "", "class org.x.Y is not in the application, its packages"),
        ("", "", "it ended with 1"),
    ],
)
def test_the_cause_is_a_sentence(driver, said, printed, told):
    found = driver.cause_of(said, printed, job(driver))
    assert found.startswith(told) and "\n" not in found


def test_one_that_ended_well_has_no_cause_and_its_losses_are_notes(driver):
    assert driver.cause_of(WORKER, "", job(driver, exit_code=0)) == ""
    assert driver.lost_executors(WORKER) == ["executor 1 on 198.18.16.6 was lost: worker lost: 198.18.16.6:7078 gone"]


def test_a_deadline_says_what_it_waited_for(driver):
    late = job(driver, ended_by="deadline", exit_code=143)
    assert driver.cause_of("", "", late) == "it had not ended after 60 s and was ended"
    assert driver.cause_of(WAITS, "", late).endswith("no worker has the cores and the memory that it wants")
    assert driver.cause_of(WORKER, "", late).endswith(
        "executor 1 on 198.18.16.6 was lost: worker lost: 198.18.16.6:7078 gone"
    )
    assert driver.cause_of(WORKER, "", job(driver, ended_by="interruption", exit_code=143)) == ""


def waiting(driver, tmp_path, monkeypatch, program, deadline_s):
    monkeypatch.setattr(driver, "as_user", lambda _user: {"start_new_session": True})
    monkeypatch.setattr(driver, "GRACE_S", 0.2)
    submitted = job(driver, command=["sh", "-c", program], deadline_s=deadline_s)
    return {"output": str(tmp_path), "user": "spark"}, submitted


def test_one_that_does_not_end_is_ended_with_all_that_it_started(driver, tmp_path, monkeypatch):
    program = "trap '' TERM; sleep 60 & echo $!; wait; sleep 60"
    plan, submitted = waiting(driver, tmp_path, monkeypatch, program, 0.3)
    began = time.monotonic()
    before = signal.getsignal(signal.SIGTERM)
    driver.run(plan, submitted, "http://127.0.0.1:1/json/")
    signal.signal(signal.SIGTERM, before)
    assert submitted.ended_by == "deadline" and submitted.exit_code == -signal.SIGKILL
    assert time.monotonic() - began < 5
    child = Path(f"/proc/{(tmp_path / 'driver.out').read_text().strip()}/stat")
    while child.exists() and ") Z " not in child.read_text():  # killed, it may still have to be taken off a processor
        assert time.monotonic() - began < 20
    known = json.loads((tmp_path / "job.json").read_text())
    assert known["started_us"] and known["deadline_s"] == 0.3


def test_what_starts_after_the_application_ends_when_it_is_asked_to(driver, tmp_path, monkeypatch):
    plan, submitted = waiting(driver, tmp_path, monkeypatch, "true", 5)
    before = signal.getsignal(signal.SIGTERM)
    driver.run(plan, submitted, "http://127.0.0.1:1/json/")
    later = subprocess.Popen(["sleep", "60"], start_new_session=True)
    signal.signal(signal.SIGTERM, before)
    driver.end(later)
    assert later.returncode == -signal.SIGTERM


def master(cores=0, worker="ALIVE", **others):
    apps = [{"id": "app-2", "cores": cores}, *({"id": one, "cores": held} for one, held in others.items())]
    return {"activeapps": apps, "workers": [{"state": "DEAD"}, {"state": worker}]}


@pytest.mark.parametrize(
    ("answer", "said", "why"),
    [
        (master(), "", ""),  # between two executors, or it has not begun
        (master(), WAITS, "no worker has the cores and the memory that it wants"),
        (master(other=2), WAITS, ""),  # its turn will come
        (master(worker="DEAD"), "", "every worker was lost"),
        (master(cores=2, worker="DEAD"), "", ""),
        ({"activeapps": [{"id": "app-1", "cores": 0}], "workers": []}, WAITS, ""),  # it is no more of Spark's
    ],
)
def test_one_that_waits_in_vain_is_seen(driver, tmp_path, monkeypatch, answer, said, why):
    (tmp_path / "driver.err").write_text(said)
    monkeypatch.setattr(driver, "ask", lambda *_: answer)
    assert driver.Watch("", ("app-1",), tmp_path / "driver.err").stranded() == why


def test_it_is_given_up_only_after_a_while_in_which_nobody_came_back(driver, tmp_path, monkeypatch):
    now = iter([0.0, 40.0, 50.0, 59.0, 70.0, 118.0, 119.0])
    answers = iter([master(worker="DEAD")] * 2 + [OSError()] + [master(worker="DEAD")] * 4)

    def ask(*_):
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(driver, "ask", ask)
    monkeypatch.setattr(driver.time, "monotonic", lambda: next(now))
    watch = driver.Watch("", (), tmp_path / "driver.err")
    assert [watch.given_up() for _ in range(7)] == [""] * 6 + ["every worker was lost"]


def test_one_that_waits_in_vain_is_ended_and_says_why(driver, tmp_path, monkeypatch):
    plan, submitted = waiting(driver, tmp_path, monkeypatch, "exec sleep 60", 50)
    monkeypatch.setattr(driver, "ask", lambda *_: master(worker="DEAD"))
    monkeypatch.setattr(driver, "LOOK_S", 0.02)
    monkeypatch.setattr(driver, "STRANDED_S", 0.04)
    before = signal.getsignal(signal.SIGTERM)
    driver.run(plan, submitted, "")
    signal.signal(signal.SIGTERM, before)
    assert submitted.ended_by == "stranded" and submitted.exit_code == -signal.SIGTERM
    assert driver.cause_of(WORKER, "", submitted) == (
        "every worker was lost, and so it was ended after 0 s: "
        "executor 1 on 198.18.16.6 was lost: worker lost: 198.18.16.6:7078 gone"
    )


def test_a_cluster_that_cannot_take_it_is_told(driver, tmp_path):
    with pytest.raises(SystemExit, match="is missing: this host is not prepared for Spark"):
        driver.cluster_of(tmp_path / "cluster")
    with pytest.raises(SystemExit, match=r"the master does not answer at http://127\.0\.0\.1:1/json/: "):
        driver.capacity({"master_address": "127.0.0.1", "master_ui_port": "1"})


@pytest.fixture
def raw(tmp_path):
    shutil.copytree(FIXTURES / "spark-job", tmp_path / "spark-job")
    return tmp_path


def parse(raw):
    return parsers.workload(PARSER, raw, {})


def test_a_real_run(raw):
    tables = parse(raw)
    assert tables["spark_tasks"].num_rows == 24 and tables["spark_applications"].num_rows == 1
    assert set(tables["spark_tasks"]["driver"].to_pylist()) == {"spark_master-0"}
    assert {tuple(row) for row in tables["workload_counts"]} == {
        tuple(column.name for column in TABLES["workload_counts"])
    }


def test_the_event_log_agrees_with_the_rest_api(raw):
    found = {row["what"]: (row["claimed"], row["counted"]) for row in parse(raw)["workload_counts"]}
    moved = (33683821, 33683821)
    assert found == {"tasks": (24, 24), "bytes read from shuffles": moved, "bytes written for shuffles": moved}


def test_a_log_that_was_cut_has_what_it_has(raw):
    (log,) = (raw / "spark-job").rglob("events_1_*")
    content = log.read_bytes()
    log.write_bytes(content[: len(content) - 400])
    assert 0 < parse(raw)["spark_tasks"].num_rows <= 24
    shutil.rmtree(log.parents[1])
    assert parse(raw) == {}


def test_a_plain_log_of_one_file_is_read_too(raw):
    (log,) = (raw / "spark-job").rglob("events_1_*")
    plain = subprocess.run(["zstd", "-dqc", str(log)], capture_output=True, check=True).stdout
    shutil.rmtree(log.parent)
    (log.parents[1] / "app-20261121203645-0002").write_bytes(plain)
    assert parse(raw)["spark_tasks"].num_rows == 24


def test_totals_that_are_not_whole_are_not_compared(raw):
    for file in (raw / "spark-job").glob("*/rest/*.json"):
        file.unlink()
    assert "workload_counts" not in parse(raw)


def test_an_answer_that_is_none_is_named(raw):
    (file,) = (raw / "spark-job").glob("*/rest/*.json")
    file.write_text("{}")
    with pytest.raises(DataError, match=r"\.json: no answer of Spark's REST API"):
        parse(raw)
