"""What kafka-spark-streaming starts and sends, and what it says of a query that failed."""

from __future__ import annotations

import itertools

import pytest
from ansible.errors import AnsibleFilterError

from labtool import stacks
from tests.roles.modules import ROOT, load

planned = load("playbooks/workloads/filter_plugins/streaming.py")
GROUPS = {"kafka": ["kafka-0"], "spark_master": ["spark_master-0"], "load": ["load-0"]}


@pytest.fixture
def query(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "playbooks/workloads/files"))
    return load("playbooks/workloads/files/stream_query.py")


@pytest.fixture
def sender(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "playbooks/workloads/files"))
    return load("playbooks/workloads/files/stream_load.py")


def given(**more):
    """What the playbook makes of the options' defaults."""
    options = stacks.workload("kafka-spark-streaming").values()
    return {
        **{
            name: options[name] for name in ("rate", "find_max", "peak", "groups", "acks", "properties", "most", "conf")
        },
        **{f"{name}_s": options[name] for name in ("trigger", "window", "lateness", "step", "drain")},
        **{name: options[name] for name in ("precision", "record_size", "producers")},
        **{"topic": "in", "results": "out", "seconds": 60, "warmup_s": 5, "drive_home": "/var/lib/x"},
        **more,
    }


def test_the_query_is_submitted_with_its_options():
    plan = planned.streaming_query_plan(given(conf="spark.cores.max=1"), ["10.0.0.1:9092"], ["g:a:1"], "now")
    words = dict(itertools.pairwise(plan["arguments"]))
    assert words["--bootstrap"] == "10.0.0.1:9092" and words["--trigger"] == "1.0" and words["--window"] == "10.0"
    assert words["--checkpoint"] == "file:///var/lib/spark/streaming/now"
    assert plan["conf"]["spark.cores.max"] == "1" and plan["application"].endswith("/streaming.py")
    with pytest.raises(AnsibleFilterError, match="--conf: 'a' is no setting"):
        planned.streaming_query_plan(given(conf="a"), [], [], "now")


def test_the_load_is_divided_among_hosts():
    plan = planned.streaming_load_plan(given(), ["10.0.0.1:9092"], ["kafka-0"], "load-1", ["load-0", "load-1"])
    assert (plan["host_index"], plan["hosts"], plan["brokers"]) == (1, 2, {"10.0.0.1:9092": "kafka-0"})
    assert plan["record_size"] == 100 and plan["window_s"] == 10


@pytest.mark.parametrize(
    ("groups", "asked", "told"),
    [
        (GROUPS, {}, ""),
        (GROUPS | {"kafka": []}, {}, "labtool deploy kafka-cluster --lab …"),
        (GROUPS | {"spark_master": []}, {"labtool_lab": "l"}, "labtool deploy spark-cluster --lab l"),
        (GROUPS, {"rate": 50_000.0}, "--producers share the rate"),
        (GROUPS | {"load": ["a", "b"]}, {"find_max": True}, "one producer of one load host"),
    ],
)
def test_what_cannot_be_run_is_refused(groups, asked, told):
    why = planned.streaming_check(given(**asked), groups)
    assert told in why and bool(why) == bool(told)


def test_the_connector_of_a_version_of_spark():
    assert "org.apache.spark:spark-sql-kafka-0-10_2.13:4.2.0" in planned.streaming_connector("4.3.0")
    assert "org.apache.spark:spark-token-provider-kafka-0-10_2.13:4.0.0" in planned.streaming_connector("4.3.0")
    assert planned.streaming_connector("3.5.6")[0].endswith("_2.12:3.5.6"), "of others it is Spark's own"
    assert planned.streaming_connector("4.3.0", "4.3.1")[0].endswith("_2.13:4.3.1")
    two = planned.streaming_connector("4.0.1"), planned.streaming_connector("4.3.0")
    assert planned.streaming_hash(two[0]) != planned.streaming_hash(two[1])


def test_the_connector_is_no_library_that_spark_has(query, tmp_path):
    for folder, names in {
        "libs": [f"{jar.split(':')[1]}-{jar.split(':')[2]}.jar" for jar in planned.streaming_connector("4.3.0")],
        "jars": ["spark-sql_2.13-4.3.0.jar", "spark-streaming_2.13-4.3.0.jar", "commons-pool-1.5.4.jar"],
    }.items():
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).touch()
    found = query.spark_job.further_jars([str(tmp_path / "libs")], tmp_path / "jars")
    assert len(found) == 4


FAILED = """[STREAM_FAILED] Query [id = 7c13f1f3, runId = 1ddc76dd] terminated with exception: Timed out waiting for a \
node assignment. Call: describeTopics SQLSTATE: XXKST
=== Streaming Query ===
Identifier: streaming [id = 7c13f1f3]"""


def test_why_a_query_failed(query):
    job = query.Job("x", [], 10.0, {})
    said = query.cause_of(FAILED, "", job)
    assert said == "the query failed: Timed out waiting for a node assignment. Call: describeTopics"
    aborted = "Job aborted due to stage failure: Task 0 in stage 3.0 failed 4 times"
    log = "Caused by: org.apache.kafka.common.errors.TimeoutException: no leader\n"
    silent = "the query failed as the brokers did not answer in time: TimeoutException: no leader"
    assert query.cause_of(aborted, log, job) == silent
    log = "Caused by: java.io.IOException: no room\n"
    assert query.cause_of(aborted, log, job) == "the query failed: IOException: no room"


def test_clients_share_a_rate_and_miss_nothing(sender):
    parts = [list(sender.evenly(10, 0, 2, part, 3)) for part in range(3)]
    assert sorted(itertools.chain(*parts)) == [number / 10 for number in range(20)]


def seen(growth, apart=1.0, n=30):
    return [(at * apart, 100.0 + growth * at * apart) for at in range(n)]


def test_a_step_holds_where_its_backlog_stays_and_batches_keep_their_trigger(sender):
    plan = {"trigger_s": 1.0}

    def step(points):
        return sender.judge(points, 5.0, 1.0).step(plan, 1000.0, False)

    assert step(seen(0))["held"]
    fell = step(seen(200))
    assert (
        not fell["held"] and fell["excess"] == pytest.approx(20) and fell["objectives"][0]["value"] == pytest.approx(20)
    )
    slow = step(seen(0, apart=1.4))
    assert not slow["held"] and slow["objectives"][1]["value"] == pytest.approx(1.4)
    assert step(seen(0, n=3))["too_few"]


def test_no_trigger_is_no_bound_of_batches(sender):
    step = sender.judge(seen(0, apart=4.0), 0.0, 0.0).step({"trigger_s": 0.0}, 1000.0, False)
    assert step["held"] and len(step["objectives"]) == 1


@pytest.mark.parametrize(
    ("heard", "answered", "results", "why"),
    [
        (1, 1, 5, ""),
        (100, 1, 0, ""),
        (160, 1, 0, "no result came for 150 s, with 40 records waiting for theirs"),
        (61, 1, 5, "no result came for 60 s, with 40 records waiting for theirs"),
        (61, 58, 5, "the brokers (b:9092) have not answered for 58 s"),
        (1, 61, 5, "the brokers (b:9092) have not answered for 61 s"),
    ],
)
def test_why_there_is_nothing_to_wait_for(sender, monkeypatch, heard, answered, results, why):
    monkeypatch.setattr(sender.Reader, "__post_init__", lambda _: None)
    monkeypatch.setattr(sender.time, "monotonic", lambda: 1000.0)
    plan = {"bootstrap": "b:9092", "trigger_s": 1.0}
    reader = sender.Reader(
        plan, covered=10, stored=50, results=results, heard=1000.0 - heard, answered=1000.0 - answered
    )
    assert reader.why_over() == why
