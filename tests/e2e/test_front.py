"""Fronts, Kafka and Spark on one host by labtool's own commands: what is posted is learned from, and is measured."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from labtool.dataset import query
from labtool.dataset.run import RunDirectory

pytestmark = [pytest.mark.hosts, pytest.mark.timeout(1500)]
LAB = ("--lab", "front")
QUICK = "-XX:TieredStopAtLevel=1"  # what starts costs half the processor time without the optimising compiler
QUICK_SPARK = " ".join(f"spark.{part}.extraJavaOptions={QUICK}" for part in ("driver", "executor"))
STACK = ("deploy", "front-cluster", "--one-host", *LAB)
FRONT = BROKER = "front-0"
PAGE = "http://127.0.0.1/decision.php"
PATIENCE_S = 180


@pytest.fixture(scope="module")
def deployed(labtool):
    made = labtool.json(*STACK, f"--java-options={QUICK}", "--decider-conf", QUICK_SPARK, timeout=1200)
    yield made
    labtool.run("down", *LAB)


def ask(labtool, method: str, payload: str) -> str:
    """Return what the page answers to a form that is posted from its host: a lab lets only SSH in."""
    line = f"printf '%b' '{payload}' | curl -sS -d method={method} --data-urlencode payload@- {PAGE}"
    return labtool.run("ssh", *LAB, FRONT, line).stdout.strip()


def records(labtool) -> list[dict[str, Any]]:
    """Return what both topics hold, by Kafka's own consumer, which ends when nothing has come for ten seconds."""
    consumer = "timeout 60 kafka-tool console-consumer --from-beginning --timeout-ms 10000 --include 'upload|decision'"
    line = f"{consumer} --bootstrap-server $(hostname -I | cut -d' ' -f1):9092 2>/dev/null"
    lines = labtool.run("ssh", *LAB, BROKER, line, code=None).stdout.splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def test_an_update_is_in_kafka_in_sparks_output_and_in_the_next_decision(labtool, deployed):
    assert deployed["changed"] > 0
    assert deployed["endpoints"]["page"].endswith("/decision.php")
    for decision, reward in (("plain", 1), ("bold", 5)):  # what earned more is answered from then on
        ask(labtool, "update", f"readers\\t{decision}\\t{reward}")
        until = time.monotonic() + PATIENCE_S
        while (answer := ask(labtool, "request", "readers")) != decision and time.monotonic() < until:
            time.sleep(0.5)
        assert answer == decision
    found = records(labtool)
    assert [one["payload"] for one in found if "readers" in one.get("payload", "")] == [
        "readers\tplain\t1",
        "readers\tbold\t5",
    ]
    means = {one["decision"]: one["mean"] for one in found if one.get("group") == "readers"}
    assert means == {"plain": 1, "bold": 5}


def test_a_second_deploy_changes_nothing(labtool, deployed):
    assert labtool.json(*STACK)["changed"] == 0


def test_a_workload_of_kafka_and_spark_runs_on_it_and_its_totals_are_the_brokers(labtool, deployed):
    words = ("--minutes", "0.7", "--warmup", "10", "--rate", "100", "--trigger", "2", "--groups", "4", "--drain", "120")
    labtool.run("run", "kafka-spark-streaming", *LAB, *words, "--conf", QUICK_SPARK, timeout=900)
    run = labtool.folder / "runs/front/latest"
    connection = query.connect(RunDirectory(run))
    counts = connection.sql("select what, claimed, counted from workload_counts").fetchall()
    assert len(counts) == 4 and all(claimed == counted > 0 for _, claimed, counted in counts), counts
    ((sent, failed),) = connection.sql("select count(*), count(*) filter (error <> '') from requests").fetchall()
    assert (sent, failed) == (4200, 0)
    # Each batch with records is a job of two stages in Spark's own event log.
    ((batches, jobs),) = connection.sql(
        "select (select count(*) from stream_batches where rows > 0), (select count(distinct batch) from spark_jobs)"
    ).fetchall()
    assert 0 < batches <= jobs
    said = {one["id"]: one for one in json.loads((run / "summary.json").read_text())["findings"]}
    assert "of each batch" in said["stream.stages"]["sentence"] and "spark.blocked" not in said
    ((brokers,),) = connection.sql("select count(*) from service_metrics where service = 'kafka'").fetchall()
    assert brokers > 0, "the parser of a stack that it provides has read the broker's metrics"
