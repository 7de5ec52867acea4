"""Who is broker and controller: stable ids, and a quorum that a growing cluster leaves alone."""

from __future__ import annotations

import base64
import uuid

import pytest
from ansible.errors import AnsibleFilterError
from hypothesis import given
from hypothesis import strategies as st

from tests.roles.modules import load

kafka = load("roles/kafka/filter_plugins/kafka.py", "role_kafka_filters")
CLUSTER = "iJIkuUBvTFCTNYwmX2oFDw"


def hosts(count, first=1, prefix="kafka", **variables):
    return {
        f"{prefix}-{at}": {
            "kafka_node_id": first + at,
            "kafka_cluster_id": CLUSTER,
            "ansible_host": f"198.18.0.{first + at}",
            **variables,
        }
        for at in range(count)
    }


def formatted(hostvars, quorum):
    for variables in hostvars.values():
        variables["kafka_state"] = {"formatted": True, "quorum": quorum}
    return hostvars


@given(st.uuids(), st.integers(0, 10_000))
def test_directory_ids_are_what_kafka_accepts(cluster, node):
    text = base64.urlsafe_b64encode(cluster.bytes).decode()[:22]
    if text.startswith("-"):
        return
    made = kafka.kafka_directory_id(text, node)
    assert len(made) == 22 and not made.startswith("-")
    assert uuid.UUID(bytes=base64.urlsafe_b64decode(made + "==")).int >= 100
    assert made == kafka.kafka_directory_id(text, node)
    assert made != kafka.kafka_directory_id(text, node + 1)


@pytest.mark.parametrize("bad", ["", "short", CLUSTER + "x", "-" + CLUSTER[1:], "a/b+" + CLUSTER[4:], None, 5])
def test_cluster_id_that_is_none(bad):
    with pytest.raises(AnsibleFilterError, match="22 characters"):
        kafka.kafka_directory_id(bad, 1)


@pytest.mark.parametrize(("count", "controllers"), [(1, [1]), (2, [1]), (3, [1, 2, 3]), (5, [1, 2, 3])])
def test_combined_controllers_of_a_new_cluster(count, controllers):
    found = hosts(count)
    plan = kafka.kafka_plan(found, list(found))
    assert [one["node_id"] for one in plan["controllers"]] == controllers == plan["quorum"]
    assert [host for host, roles in plan["roles"].items() if "controller" in roles] == [
        f"kafka-{node - 1}" for node in controllers
    ]


def test_isolated_controllers():
    found = hosts(3) | hosts(3, first=1001, prefix="controller")
    plan = kafka.kafka_plan(found, ["kafka-0", "kafka-1", "kafka-2"], [f"controller-{at}" for at in range(3)])
    assert plan["roles"] == {f"kafka-{at}": ["broker"] for at in range(3)} | {
        f"controller-{at}": ["controller"] for at in range(3)
    }
    assert plan["quorum"] == [1001, 1002, 1003]


@given(st.integers(1, 6), st.integers(0, 6))
def test_growth_leaves_quorum_and_ids_alone(before, more):
    old = hosts(before)
    first = kafka.kafka_plan(old, list(old))
    grown = formatted(old, first["quorum"]) | hosts(more, first=before + 1, prefix="new")
    second = kafka.kafka_plan(grown, list(grown))
    assert second["quorum"] == first["quorum"]
    assert second["controllers"] == first["controllers"]
    assert {host: second["roles"][host] for host in first["roles"]} == first["roles"]
    assert all(second["roles"][f"new-{at}"] == ["broker"] for at in range(more))


def test_order_of_hosts_does_not_matter():
    found = hosts(4)
    assert kafka.kafka_plan(found, list(found)) == kafka.kafka_plan(found, list(reversed(list(found))))


def test_replaced_controller_gets_its_directory_id_back():
    old = hosts(3)
    first = kafka.kafka_plan(old, list(old))
    formatted(old, first["quorum"])
    old["kafka-1"] = {**old["kafka-1"], "ansible_host": "198.18.0.77"}
    del old["kafka-1"]["kafka_state"]
    second = kafka.kafka_plan(old, list(old))
    assert [one["directory_id"] for one in second["controllers"]] == [
        one["directory_id"] for one in first["controllers"]
    ]
    assert second["controllers"][1]["address"] == "198.18.0.77"


def test_growing_the_isolated_quorum_is_refused_by_name():
    found = formatted(hosts(2) | hosts(1, first=1001, prefix="controller"), [1001])
    found |= hosts(1, first=1002, prefix="late")
    with pytest.raises(AnsibleFilterError, match="late-0"):
        kafka.kafka_plan(found, ["kafka-0", "kafka-1"], ["controller-0", "late-0"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kafka_node_id": 1}, "kafka-0 and kafka-1 both have kafka_node_id 1"),
        ({"kafka_node_id": None}, "kafka-1 has no kafka_node_id"),
        ({"kafka_cluster_id": None}, "kafka-1 has no kafka_cluster_id"),
        ({"kafka_cluster_id": "AAAAAAAAQACAAAAAAAAAAA"}, "different kafka_cluster_id"),
    ],
)
def test_wrong_data_is_named(change, message):
    found = hosts(2)
    found["kafka-1"] |= change
    with pytest.raises(AnsibleFilterError, match=message):
        kafka.kafka_plan(found, list(found))


def test_hosts_that_remember_different_quorums():
    found = formatted(hosts(2), [1])
    found["kafka-1"]["kafka_state"]["quorum"] = [2]
    with pytest.raises(AnsibleFilterError, match="remember different quorums"):
        kafka.kafka_plan(found, list(found))


def made_with(release, version):
    """The plan for `version` of a cluster that was made with `release`, and which a host without records joins."""
    found = formatted(hosts(2), [1])
    for variables in found.values():
        variables["kafka_state"]["release"] = release
    found |= hosts(1, first=3, prefix="late")
    return kafka.kafka_plan(found, list(found), (), version)


def test_a_cluster_is_not_given_a_kafka_that_cannot_read_it():
    assert made_with("", "4.2.0")["release"] == "4.2.0"
    assert made_with("3.9.1", "4.3.0")["release"] == "3.9.1", "an upgrade leaves the metadata as they were made"
    assert made_with("4.3.1", "4.3.0")["release"] == "4.3.1", "releases that differ in the last number share them"
    assert made_with("4.9.0", "4.10.0")["release"] == "4.9.0"
    with pytest.raises(AnsibleFilterError, match=r"made with Kafka 4\.3\.0, whose metadata Kafka 3\.9\.1 cannot read"):
        made_with("4.3.0", "3.9.1")


def test_address_prefers_what_was_set():
    variables = {"ansible_host": "a", "ansible_facts": {"default_ipv4": {"address": "b"}}}
    assert kafka.address_of({"ansible_host": "a"}, "h") == "a"
    assert kafka.address_of(variables, "h") == "b"
    assert kafka.address_of({"ansible_host": "a", "kafka_state": {"address": "e"}}, "h") == "e"
    assert kafka.address_of(variables | {"kafka_state": {"address": "e"}}, "h") == "b"
    assert kafka.address_of(variables | {"labtool_private_address": "c"}, "h") == "c"
    assert kafka.address_of(variables | {"labtool_private_address": "c", "kafka_address": "d"}, "h") == "d"
    assert kafka.address_of({}, "h") == "h"


def test_restart_order_ends_with_the_active_controller():
    found = hosts(5)
    plan = kafka.kafka_plan(found, list(found))
    for host, variables in found.items():
        variables |= {"kafka_plan": plan, "kafka_ready": {"leader": 2}, "kafka_started": {"stale": host != "kafka-4"}}
    assert kafka.kafka_restart_order(list(found), found) == ["kafka-3", "kafka-0", "kafka-2", "kafka-1"]
    assert kafka.kafka_restart_order(list(found), found, stale_only=False)[0] == "kafka-3"
    assert kafka.kafka_restart_order([], found) == []


def test_answering_leaves_out_those_that_failed():
    found = hosts(3)
    found["kafka-0"]["kafka_ready"] = {"leader": -1}
    found["kafka-1"]["kafka_ready"] = {"failed": True, "msg": "it stopped"}
    plan = kafka.kafka_plan(found, list(found))
    assert kafka.kafka_answering(plan["brokers"], found) == [1]


def test_a_node_that_ran_already_has_answered_when_it_was_to_be_started():
    found = hosts(4)
    plan = kafka.kafka_plan(found, list(found))
    for variables in found.values():
        variables |= {"kafka_plan": plan, "kafka_started": {"stale": True, "leader": 3}}
    found["kafka-1"]["kafka_ready"] = {"failed": True, "msg": "it stopped"}
    found["kafka-3"]["kafka_started"] = {"stale": True}
    assert kafka.kafka_answering(plan["brokers"], found) == [1, 3]
    assert kafka.kafka_restart_order(["kafka-0", "kafka-2"], found) == ["kafka-0", "kafka-2"]
    found["kafka-0"]["kafka_started"] = {"stale": True, "leader": 1}
    del found["kafka-2"]["kafka_started"]["leader"]
    assert kafka.kafka_restart_order(["kafka-0", "kafka-2"], found) == ["kafka-2", "kafka-0"]
