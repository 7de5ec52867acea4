"""Kafka 3.9 with a controller of its own, by the role alone in a sysadmin's own playbook."""

from __future__ import annotations

import pytest

from labtool.dataset import parsers
from tests.roles.conftest import MITOGEN, ROOT

pytestmark = [pytest.mark.hosts, pytest.mark.timeout(400)]

PLAYBOOK = """
- hosts: brokers:quorum
  gather_facts: false
  roles:
    - role: kafka
      vars:
        kafka_broker_hosts: "{{ groups['brokers'] }}"
        kafka_controller_hosts: "{{ groups['quorum'] }}"
"""


def test_isolated_controller(lab_hosts, ansible, tmp_path):
    hosts = lab_hosts(3)
    brokers = {f"broker-{at}": (hosts[at], {"kafka_node_id": at + 1}) for at in (0, 1)}
    ansible.groups(
        {"brokers": brokers, "quorum": {"controller-0": (hosts[2], {"kafka_node_id": 1001})}},
        kafka_version="3.9.2",
        kafka_cluster_id="iJIkuUBvTFCTNYwmX2oFDw",
        kafka_heap_mb=384,
        kafka_java_options="-XX:TieredStopAtLevel=1",
    )
    playbook = ansible.play(PLAYBOOK)
    ansible.run(playbook, strategy=MITOGEN)
    assert ansible.run(playbook).changed == 0
    assert "process.roles=controller\n" in hosts[2].run("cat /etc/kafka/server.properties")
    groups = {"kafka_broker_group": "brokers", "kafka_controller_group": "quorum"}
    verified = ansible.run(ROOT / "playbooks/kafka-cluster.yml", "--tags", "verify,kafka", strategy=MITOGEN, **groups)
    assert f"bootstrap servers: {hosts[0].address}:9092,{hosts[1].address}:9092" in verified.output
    health = ansible.run(ROOT / "playbooks/health.yml", strategy=MITOGEN)
    assert "brokers: 1, 2" in health.output and "leader 1001 of 1001" in health.output
    # Its tools have the options' older names, and no interval but five seconds.
    ansible.run(
        ROOT / "playbooks/workloads/kafka-throughput.yml",
        strategy=MITOGEN,
        kafka_broker_group="brokers",
        load_group="brokers",
        labtool_raw=str(tmp_path),
        labtool_duration_s=12,
        throughput_rate=2000,
        throughput_producers=1,
    )
    tables = parsers.workload(ROOT / "playbooks/workloads/kafka-throughput.py", tmp_path, {})
    sent = {row["client"]: row for row in tables["workload_summary"]}
    assert sent["broker-0/producer-1"]["operations"] == 12000
    assert sent["broker-0/producer-1"]["p999_ms"] is not None
    assert len([row for row in tables["workload_intervals"] if row["client"] == "broker-1/producer-1"]) >= 2
