"""Fronts, Kafka and Spark on one host by labtool's own commands: what is posted is learned from, and is measured."""

from __future__ import annotations

import json
import time
import urllib.parse
import urllib.request

import pytest

from labtool.dataset import query
from labtool.dataset.run import RunDirectory

pytestmark = [pytest.mark.hosts, pytest.mark.timeout(1500)]
LAB = ("--lab", "front")
STACK = ("deploy", "front-cluster", "--one-host", *LAB)
PATIENCE_S = 180


@pytest.fixture(scope="module")
def deployed(labtool):
    made = labtool.json(*STACK, timeout=1200)
    yield made
    labtool.run("down", *LAB)


def ask(page: str, **fields: str) -> str:
    """Return what the page answers to a form that is posted from outside."""
    form = urllib.parse.urlencode(fields).encode()
    # The page is of the lab, whatever proxy the environment names.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(page, data=form, timeout=20) as answer:
        return answer.read().decode().strip()


def records(labtool, topic: str) -> list[str]:
    """Return what a topic holds, by Kafka's own consumer."""
    line = (
        f"/opt/kafka/current/bin/kafka-console-consumer.sh --bootstrap-server $(hostname -I | cut -d' ' -f1):9092"
        f" --topic {topic} --from-beginning --timeout-ms 5000 2>/dev/null"
    )
    return labtool.run("ssh", *LAB, "front-0", line, code=None).stdout.splitlines()


def test_an_update_is_in_kafka_in_sparks_output_and_in_the_next_decision(labtool, deployed):
    assert deployed["changed"] > 0
    page = deployed["endpoints"]["page"]
    for decision, reward in (("plain", 1), ("bold", 5)):  # what earned more is answered from then on
        ask(page, method="update", payload=f"readers\t{decision}\t{reward}")
        until = time.monotonic() + PATIENCE_S
        while (answer := ask(page, method="request", payload="readers")) != decision and time.monotonic() < until:
            time.sleep(0.5)
        assert answer == decision
    assert [line for line in records(labtool, "upload") if "readers" in line and "bold" in line]
    made = [json.loads(line) for line in records(labtool, "decision")]
    means = {one["decision"]: one["mean"] for one in made if one["group"] == "readers"}
    assert means == {"plain": 1, "bold": 5}


def test_a_second_deploy_changes_nothing(labtool, deployed):
    assert labtool.json(*STACK)["changed"] == 0


def test_a_workload_of_kafka_and_spark_runs_on_it_and_its_totals_are_the_brokers(labtool, deployed):
    words = ("--minutes", "0.7", "--warmup", "10", "--rate", "100", "--trigger", "2", "--groups", "4", "--drain", "120")
    labtool.run("run", "kafka-spark-streaming", *LAB, *words, timeout=900)
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
