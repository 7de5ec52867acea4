"""Options that follow from a file, and how long a window they make."""

from __future__ import annotations

from dataclasses import replace

import pytest

from labtool import stacks
from labtool.cli import measure
from labtool.errors import DataError, UsageError
from labtool.experiment.settle import Settled, settled
from labtool.topology import Lab

DECLARED = """\
description: it
stack: kafka-cluster
options:
  rate: {type: int, default: 5, min: 1}
  file: {type: str}
  copies: {type: int, default: 3, within: kafka}
"""

SETTLES = """\
from types import SimpleNamespace


def settle(typed, minutes):
    values = {} if "rate" in typed or "file" not in typed else {"rate": int(typed["file"])}
    whence = dict.fromkeys(values, "its file: speed")
    return SimpleNamespace(
        values=values, whence=whence, seconds=120.0, warmup_s=30.0, notes=("a note",), latency="intended"
    )


def check(values):
    if values["rate"] == 13:
        raise ZeroDivisionError
"""


@pytest.fixture
def workload(tmp_path):
    folder = tmp_path / "workloads"
    folder.mkdir()
    (folder / "it.workload.yml").write_text(DECLARED)
    (folder / "it.yml").write_text("---\n")

    def make(code=SETTLES):
        if code:
            (folder / "it.py").write_text(code)
        return stacks.workload("it", tmp_path)

    return make


def test_a_file_fills_in_what_was_not_typed(workload):
    assert settled(workload(), {"file": "7"}).values == {"rate": 7, "file": "7", "copies": 3}
    assert settled(workload(), {"file": "7", "rate": "3"}).values["rate"] == 3
    found = settled(workload(), {})
    assert (found.values["rate"], found.seconds, found.notes, found.latency) == (5, 120.0, ("a note",), "intended")


def test_a_value_that_may_not_be_is_named_as_the_file_calls_it(workload):
    with pytest.raises(UsageError, match=r"its file: speed: 0 is not a whole number, 1 or more"):
        settled(workload(), {"file": "0"})


def test_a_file_that_breaks_is_named(workload):
    with pytest.raises(DataError, match=r"it\.py line \d+: check failed: ZeroDivisionError"):
        settled(workload(), {"rate": "13"})


@pytest.mark.parametrize("name", ["kafka-throughput", "kafka-trace-replay", "kafka-spark-streaming"])
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("linger.ms=5 acks=-1", "--properties acks=-1: another option is for it\n  --acks all"),
        ("bootstrap.servers=a:1", "the clients set bootstrap.servers themselves"),
        ("garbage", "--properties: 'garbage' is no setting"),
    ],
)
def test_settings_of_kafkas_clients_that_have_an_option_are_refused(name, text, told):
    with pytest.raises(UsageError) as refused:
        settled(stacks.workload(name), {"properties": text})
    assert told in str(refused.value)
    assert settled(stacks.workload(name), {"properties": "linger.ms=5"}).values["properties"] == "linger.ms=5"


def test_without_a_file_options_are_as_typed(workload):
    assert settled(workload(""), {"rate": "3"}) == Settled(
        {"rate": 3, "file": None, "copies": 3}, within={"copies": "kafka"}
    )
    assert settled(stacks.workload("kafka-spark-streaming"), {}).latency == "intended", "as it is declared"


@pytest.mark.parametrize("code", ["", SETTLES])
def test_a_default_needs_no_more_hosts_than_its_group_has(workload, lab, code):
    made = workload(code)
    broker, load = lab.hosts

    def copies(*hosts, **typed):
        return settled(made, typed).on(Lab("one", "", hosts)).values["copies"]

    assert copies(broker, broker, load) == 2
    assert copies(broker, broker, load, copies="3") == 3, "as typed, and Kafka says what is wrong with it"
    assert copies(*[broker] * 5) == 3
    assert copies(broker, replace(broker, state="stopped")) == 1
    assert copies(load) == 3, "there is nothing to follow"


@pytest.mark.parametrize("name", ["kafka-throughput", "kafka-trace-replay"])
def test_a_host_of_several_groups_counts_in_each(lab, name):
    front = replace(lab.hosts[0], group="front", also=("kafka", "spark_master"))
    assert settled(stacks.workload(name), {}).on(Lab("one", "", (front,))).values["replication"] == 1


def test_the_window_is_as_typed_else_as_a_file_says(workload):
    made, found = workload(), Settled({"rate": 1}, seconds=120.0, warmup_s=30.0)
    assert measure.window_s(made, found, None, 30.0) == 150, "the warm-up comes before what a file says"
    assert measure.window_s(made, found, 3.0, 30.0) == 180
    assert measure.window_s(made, Settled({}), None, 30.0) == measure.window_s(None, None, None, 0.0) == 300
    assert [measure.warmup_s(found, typed) for typed in (None, 0.0, 7.0)] == [30, 0, 7]
    assert measure.warmup_s(None, None) == measure.warmup_s(Settled({}), None) == 0
