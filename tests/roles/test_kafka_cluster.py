"""A cluster's life on real hosts: made, grown, restarted, damaged, driven."""

from __future__ import annotations

import json

import pytest

from labtool.dataset import parsers
from tests.roles.conftest import MITOGEN, ROOT

pytestmark = [pytest.mark.hosts, pytest.mark.timeout(600)]

CLUSTER = "iJIkuUBvTFCTNYwmX2oFDw"
DEPLOY = "playbooks/kafka-cluster.yml"
# A broker that starts costs half the processor time without the optimising compiler.
SMALL = {"kafka_cluster_id": CLUSTER, "kafka_heap_mb": 384, "kafka_java_options": "-XX:TieredStopAtLevel=1"}


def brokers(hosts):
    return {f"kafka-{at}": (host, {"kafka_node_id": at + 1}) for at, host in enumerate(hosts)}


def pid(host) -> str:
    return host.run("systemctl show kafka -p MainPID --value").strip()


def meta(host) -> str:
    return host.run("cat /var/lib/kafka/data/meta.properties")


@pytest.fixture(scope="module")
def cluster(lab_hosts, ansible):
    """Three brokers of the default version, deployed with a sysadmin's plain inventory."""
    hosts = lab_hosts(4)
    ansible.groups({"kafka": brokers(hosts[:3])}, **SMALL)
    checked = ansible.run(DEPLOY, "--check")
    assert checked.changed > 0
    first = ansible.run(DEPLOY, strategy=MITOGEN)
    assert f"bootstrap servers: {hosts[0].address}:9092" in first.output
    assert all(first.host_tasks(name) <= 40 for name in first.recap), first.recap
    return hosts


def test_second_run_changes_nothing(cluster, ansible, strategy):
    before = [pid(host) for host in cluster[:3]]
    assert ansible.run(DEPLOY, strategy=strategy).changed == 0
    assert [pid(host) for host in cluster[:3]] == before


def test_from_any_folder(cluster, ansible, tmp_path):
    result = ansible.run(ROOT / "playbooks/health.yml", cwd=tmp_path)
    assert "brokers: 1, 2, 3" in result.output and "healthy" in result.output


def test_units_and_what_they_leave(cluster):
    host = cluster[0]
    assert host.run("systemctl show kafka -p User,Restart --value").split() == ["no", "kafka"]
    assert "labtool.slice" in host.run("systemctl show kafka-jmx -p ControlGroup --value")
    declared = host.run("cat /etc/labtool/logs.d/kafka.conf")
    assert "unit kafka.service" in declared and "metrics jmx /var/log/labtool/kafka-jmx/*.csv" in declared
    assert "metadata-quorum" in host.run("kafka-tool 2>&1", check=False)
    listening = host.run("ss -Hltn 'sport = :9999'")
    assert "127.0.0.1" in listening and "0.0.0.0" not in listening


def test_growth_leaves_the_others_alone(cluster, ansible):
    before = [(pid(host), meta(host)) for host in cluster[:3]]
    ansible.groups({"kafka": brokers(cluster)}, **SMALL)
    result = ansible.run(DEPLOY, strategy=MITOGEN)
    assert f"{cluster[3].address}:9092" in result.output
    assert [(pid(host), meta(host)) for host in cluster[:3]] == before
    assert "process.roles=broker\n" in cluster[3].run("cat /etc/kafka/server.properties")
    assert "brokers: 1, 2, 3, 4" in ansible.run("playbooks/health.yml").output


def test_changed_configuration_restarts_that_node_alone(cluster, ansible):
    changed = brokers(cluster)
    changed["kafka-3"][1]["kafka_settings"] = {"num.io.threads": 9}
    ansible.groups({"kafka": changed}, **SMALL)
    before = [pid(host) for host in cluster]
    ansible.run(DEPLOY, strategy=MITOGEN)
    after = [pid(host) for host in cluster]
    assert [old != new for old, new in zip(before, after, strict=True)] == [False, False, False, True]


def test_rolling_restart_keeps_the_active_controller_for_last(cluster, ansible):
    before = [pid(host) for host in cluster]
    leader = ansible.run("playbooks/health.yml").output.split("leader ")[1].split()[0]
    result = ansible.run("playbooks/kafka-restart.yml", strategy=MITOGEN)
    assert all(pid(host) != old for host, old in zip(cluster, before, strict=True))
    order = [
        line.split("[")[1].split("]")[0]
        for line in result.output.split("Restart this node while its cluster is whole")[1:]
        for line in line.splitlines()
        if line.startswith("changed: [")
    ]
    assert order[0] == "kafka-3", "the one that is only a broker goes first"
    assert order[-1] == f"kafka-{int(leader) - 1}"


def test_data_of_another_cluster_is_not_formatted_over(cluster, ansible):
    ansible.groups({"kafka": brokers(cluster)}, **(SMALL | {"kafka_cluster_id": "AAAAAAAAQACAAAAAAAAAAA"}))
    before = meta(cluster[0])
    result = ansible.run(DEPLOY, strategy=MITOGEN, code=2)
    assert all(result.recap[f"kafka-{at}"]["failed"] for at in range(3))
    assert "changed: [kafka-0]" not in result.output.split("TASK [kafka : ", 1)[1], (
        "it stops before it touches anything"
    )
    assert f"cluster.id is {CLUSTER}, not AAAAAAAAQACAAAAAAAAAAA" in result.output
    assert meta(cluster[0]) == before
    ansible.groups({"kafka": brokers(cluster)}, **SMALL)


def test_workload(cluster, ansible, tmp_path):
    ansible.groups({"kafka": brokers(cluster), "load": {"load-0": (cluster[3], {})}}, **SMALL)
    ansible.run(
        "playbooks/workloads/kafka-throughput.yml",
        strategy=MITOGEN,
        labtool_raw=str(tmp_path),
        labtool_duration_s=8,
        labtool_warmup_s=4,  # a worker's first records can be seconds late on a full machine
        throughput_client="worker",
        throughput_topics=2,
        throughput_subscriptions=2,
        throughput_producers=1,
        throughput_keys="round-robin",
        throughput_consumer_properties="auto.offset.reset=earliest enable.auto.commit=false",
        throughput_rate=2000,
    )
    described = json.loads((tmp_path / "kafka-throughput/load-0/worker.json").read_text())
    assert described["rate"] == 2000 and described["exit_code"] == 0
    tables = parsers.workload(ROOT / "playbooks/workloads/kafka-throughput.py", tmp_path, {})
    producers, consumers = tables["workload_summary"]
    assert producers["errors"] == 0 and producers["p99_ms"] > 0 and consumers["p99_ms"] > 0
    (count,) = tables["workload_counts"]
    # What is still due when the time is over is not sent.
    assert 10_000 < count["claimed"] == count["counted"] <= 16_000
    assert 0 < producers["operations"] < count["claimed"], "the warm-up is left out"
    heard = [json.loads(line) for line in (tmp_path / "kafka-throughput/load-0/worker.jsonl").open()]
    assert sum(line["received"] for line in heard) == 2 * count["counted"], "each subscription has all of them"
    assert "0 topics" not in ansible.run("playbooks/health.yml").output  # the consumers' offsets stay
    assert "labtool-throughput" not in cluster[0].run("ls /var/lib/kafka/data | grep -v delete")


def test_a_stopped_broker_is_named_and_the_next_run_repairs(cluster, ansible):
    cluster[1].run("systemctl kill -s KILL kafka; sleep 1; systemctl is-active kafka || true")
    sick = ansible.run("playbooks/health.yml", code=2)
    assert "broker 2: " in sick.output or "brokers not registered: 2" in sick.output
    ansible.run(DEPLOY, strategy=MITOGEN)
    assert "healthy" in ansible.run("playbooks/health.yml").output


def test_a_broker_that_cannot_start_shows_its_journal(cluster, ansible):
    broken = brokers(cluster)
    broken["kafka-3"][1]["kafka_settings"] = {"num.io.threads": "none"}
    ansible.groups({"kafka": broken}, **SMALL)
    result = ansible.run(DEPLOY, strategy=MITOGEN, code=None)
    assert result.code != 0
    assert "Its last lines" in result.output and "num.io.threads" in result.output
    ansible.groups({"kafka": brokers(cluster)}, **SMALL)
    ansible.run(DEPLOY, strategy=MITOGEN)


def test_a_dead_host_does_not_stop_the_others(cluster, ansible):
    cluster[3].power_off()
    result = ansible.run(DEPLOY, strategy=MITOGEN, code=None)
    assert result.code != 0
    assert result.recap["kafka-3"]["unreachable"] == 1
    assert all(result.recap[f"kafka-{at}"]["unreachable"] == 0 for at in range(3))
    assert "The cluster works without kafka-3" in result.output
