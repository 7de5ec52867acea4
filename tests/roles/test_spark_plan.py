"""Who is what in a Spark cluster, and how much of a host each part gets."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import given
from hypothesis import strategies as st

from tests.roles.modules import load

spark = load("roles/spark/filter_plugins/spark.py")
MIB = 1024


def host(number, memory_mb=4 * MIB, cores=2, **more):
    state = {"memory_mb": memory_mb, "cores": cores}
    return {"labtool_private_address": f"198.18.0.{number}", "spark_state": state, **more}


def plan(hosts, name, master="m", workers=("a", "b"), history=False, **mine):
    return spark.spark_plan(hosts, name, master, list(workers), history, 256, mine)


@pytest.fixture
def hosts():
    return {"m": host(1, 2 * MIB), "a": host(2), "b": host(3, 8 * MIB, 4), "load": host(4)}


def test_each_host_is_what_it_is_named(hosts):
    assert [plan(hosts, name)["roles"] for name in hosts] == [["master"], ["worker"], ["worker"], []]
    assert plan(hosts, "m", history=True)["roles"] == ["master", "history"]
    assert plan(hosts, "m", workers=["m"])["roles"] == ["master", "worker"]
    assert plan(hosts, "load")["master_address"] == "198.18.0.1"


def test_executors_get_what_the_smallest_worker_offers(hosts):
    small, large = plan(hosts, "a"), plan(hosts, "b")
    assert (small["cores"], large["cores"]) == (2, 4)
    # 4,096 MiB less the system's 256, the worker's 384 and 384 beside the heap.
    assert small["memory_mb"] == 3072
    assert {plan(hosts, name)["executor_mb"] for name in hosts} == {3072}
    del hosts["a"]["spark_state"]
    assert plan(hosts, "m")["executor_mb"] == large["memory_mb"], "a host that is not in this play is not known"


def test_what_is_set_wins(hosts):
    hosts["a"]["spark_worker_memory_mb"] = "700"
    assert plan(hosts, "a")["memory_mb"] == plan(hosts, "m")["executor_mb"] == 700
    mine = plan(hosts, "b", cores="3", memory_mb="900", address="10.0.0.9")
    assert (mine["cores"], mine["memory_mb"], mine["address"]) == (3, 900, "10.0.0.9")


def test_a_name_that_is_no_host_is_refused(hosts):
    with pytest.raises(AnsibleFilterError, match="spark_master_host is 'x', which is no host"):
        plan(hosts, "a", master="x")
    with pytest.raises(AnsibleFilterError, match="spark_worker_hosts names 'y'"):
        plan(hosts, "a", workers=["a", "y"])


@given(st.integers(2 * MIB, 1024 * MIB), st.booleans(), st.booleans())
def test_a_host_is_never_given_more_than_it_has(memory_mb, alone, history):
    hosts = {"m": host(1, memory_mb)}
    found = plan(hosts, "m", workers=["m"] if alone else [], history=history)
    heaps = [found["driver_mb"], found["memory_mb"]] if alone else [found["driver_mb"]]
    daemons = len(found["roles"]) * (256 + spark.BESIDE_HEAP_MB)
    used = sum(heaps) + daemons + spark.SYSTEM_MB + spark.OVERHEAD_MB * len(heaps)
    assert min(heaps) >= spark.LEAST_MB
    assert used <= memory_mb or min(heaps) == spark.LEAST_MB


def test_properties_are_one_line_each():
    text = spark.spark_properties({"spark.a": True, "spark.b": 7, "spark.c": "x\\y\nz"})
    assert text == "spark.a true\nspark.b 7\nspark.c x\\\\y\\nz\n"
