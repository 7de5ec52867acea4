"""What spark-job submits: from its options to spark-submit's command line."""

from __future__ import annotations

import itertools
import zipfile
from pathlib import Path

import pytest
from ansible.errors import AnsibleFilterError

from labtool import stacks
from tests.roles.modules import ROOT, load

planned = load("playbooks/workloads/filter_plugins/spark_job.py")


@pytest.fixture
def driver(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "playbooks/workloads/files"))
    return load("playbooks/workloads/files/spark_job.py")


def given(**more):
    fixed = {"playbook_dir": str(ROOT / "playbooks/workloads"), "drive_home": "/var/lib/x", "spark_job_seconds": 60}
    return fixed | {f"spark_job_{key}": value for key, value in more.items()}


@pytest.fixture
def jar(tmp_path):
    with zipfile.ZipFile(tmp_path / "app.jar", "w") as made:
        made.writestr("org/example/App.class", b"")
    return str(tmp_path / "app.jar")


def test_a_job_of_ours_is_what_is_submitted_where_nothing_else_is_named():
    plan = planned.spark_job_plan(given(size=8.0, skew=0.0, seed=1, iterations=10))
    assert plan["application"] == "/var/lib/x/inputs/wordcount.py" and plan["name"] == "labtool-wordcount"
    assert plan["arguments"][:4] == ["--partitions", "{partitions}", "--size", "8.0"]
    inputs = planned.spark_job_inputs(given(job="sort"))
    assert set(inputs) == {"sort.py", "generated.py"} and all(Path(path).is_file() for path in inputs.values())


def test_every_job_that_can_be_named_is_there():
    choices = stacks.workload("spark-job").options["job"].choices
    assert choices == planned.OURS
    assert all((ROOT / "playbooks/workloads/files/spark" / f"{job}.py").is_file() for job in choices)


def test_the_command_line_of_a_jar(driver, jar):
    asked = given(jar=jar, args="in 'a b'", conf='spark.a=1 "spark.b=x y"', executor_memory_mb=900, cores=3)
    plan = planned.spark_job_plan(asked | {"spark_job_class": "org.example.App"}) | {"output": "/var/lib/x/output"}
    command = driver.command_of(plan, {"cores": 4})
    assert command[0] == "/usr/local/bin/spark-submit"
    assert command[-3:] == ["/var/lib/x/inputs/app.jar", "in", "a b"]
    confs = {word for flag, word in itertools.pairwise(command) if flag == "--conf"}
    assert {"spark.a=1", "spark.b=x y", "spark.executor.memory=900m", "spark.cores.max=3"} <= confs
    assert "spark.eventLog.dir=file:///var/lib/x/output/eventlog" in confs
    assert not any("adaptive" in conf for conf in confs), "what somebody else wrote is run as it is"
    assert command[command.index("--class") + 1] == "org.example.App"


def test_two_partitions_for_each_core_where_nothing_is_said(driver):
    plan = planned.spark_job_plan(given(job="sort")) | {"output": "/o"}
    command = driver.command_of(plan, {"cores": 4})
    assert command[command.index("--partitions") + 1] == "8" and "spark.sql.shuffle.partitions=8" in command
    plan = planned.spark_job_plan(given(job="sort", partitions=5)) | {"output": "/o"}
    command = driver.command_of(plan, {"cores": 4})
    assert command[command.index("--partitions") + 1] == "5" and "spark.sql.shuffle.partitions=5" in command


def test_beside_another_application_executors_take_the_memory_that_is_left(driver):
    known = {"cores": 4, "others": ["front-decider"], "free_mb": 1024}
    plan = planned.spark_job_plan(given(job="sort")) | {"output": "/o"}
    assert "spark.executor.memory=1024m" in driver.command_of(plan, known)
    assert not [word for word in driver.command_of(plan, known | {"others": []}) if "executor.memory" in word]
    own = planned.spark_job_plan(given(job="sort", executor_memory_mb=600)) | {"output": "/o"}
    found = [word for word in driver.command_of(own, known) if "executor.memory" in word]
    assert found == ["spark.executor.memory=600m"], "what was asked for comes first"
    full = driver.command_of(plan, known | {"free_mb": 100})
    assert not [word for word in full if "executor.memory" in word], "it waits for the other one to end"


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"jar": "/nowhere/app.jar"}, "--jar: /nowhere/app.jar is no file"),
        ({"jar": __file__}, "is no jar: it is no zip archive"),
        ({"job": "sort", "file": __file__}, "spark-job got --job and --file: it submits one of them"),
        ({"job": "sortt"}, "there is no job 'sortt' of labtool's own; there are wordcount, sort"),
        ({"file": __file__, "class": "A"}, "--class is of a jar"),
        ({"conf": "a=b"}, "--conf: 'a=b' is no setting"),
        ({"conf": "spark.a"}, "--conf: 'spark.a' is no setting"),
        ({"file": __file__, "args": "'a"}, "--args .*No closing quotation"),
        ({"packages": "org.example:lib"}, "--packages: 'org.example:lib' is not group:artifact:version"),
    ],
)
def test_what_cannot_be_submitted_is_refused_before_anything_starts(asked, told):
    with pytest.raises(AnsibleFilterError, match=told):
        planned.spark_job_plan(given(**asked))


def test_packages_are_named_by_what_they_are():
    two = planned.spark_job_packages("g:b:1, g:a:1")
    assert two == ["g:b:1", "g:a:1"]
    assert planned.spark_job_hash(two) == planned.spark_job_hash(two[::-1]) != planned.spark_job_hash(two[:1])
    plan = planned.spark_job_plan(given(packages="g:b:1,g:a:1"))
    assert plan["jar_folders"] == [f"/opt/spark-packages/{planned.spark_job_hash(two)}/libs"]


def test_jars_that_spark_has_are_not_handed_over_again(driver, tmp_path):
    for name in ("spark/scala-library-2.13.18.jar", "libs/scala-library-2.13.15.jar", "libs/kafka-clients-3.9.0.jar"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = driver.further_jars([str(tmp_path / "libs")], tmp_path / "spark")
    assert found == [str(tmp_path / "libs/kafka-clients-3.9.0.jar")]
