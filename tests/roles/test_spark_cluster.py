"""A Spark cluster's life on real hosts: made, grown, asked to work, and to fail."""

from __future__ import annotations

import json

import pytest

from labtool.dataset import parsers
from tests.roles.conftest import MITOGEN, ROOT

pytestmark = [pytest.mark.hosts, pytest.mark.timeout(900)]

DEPLOY = "playbooks/spark-cluster.yml"
JOB = "playbooks/workloads/spark-job.yml"
QUICK = " ".join(f"spark.{part}.extraJavaOptions=-XX:TieredStopAtLevel=1" for part in ("driver", "executor"))


def groups(hosts, workers):
    return {
        "spark_master": {"spark_master-0": (hosts[0], {})},
        "spark_worker": {f"spark_worker-{at}": (host, {}) for at, host in enumerate(hosts[1 : workers + 1])},
    }


def pids(host) -> str:
    return host.run("systemctl show spark-master spark-worker -p MainPID --value").strip()


@pytest.fixture(scope="module")
def cluster(lab_hosts, ansible):
    """A master and a worker, deployed with a sysadmin's plain inventory, then a second worker."""
    hosts = lab_hosts(3)
    ansible.groups(groups(hosts, 1))
    assert ansible.run(DEPLOY, "--check").changed > 0
    first = ansible.run(DEPLOY, "--skip-tags", "verify", strategy=MITOGEN)
    assert all(first.host_tasks(name) <= 30 for name in first.recap), first.recap
    before = [pids(host) for host in hosts[:2]]
    ansible.groups(groups(hosts, 2))
    grown = ansible.run(DEPLOY, strategy=MITOGEN)
    assert f"spark://{hosts[0].address}:7077: 2 workers" in grown.output and "a job ran on each" in grown.output
    assert [pids(host) for host in hosts[:2]] == before, "who was there is left alone"
    assert grown.recap["spark_worker-0"]["changed"] == 1, "it learns the new host's name"
    return hosts


def test_second_run_changes_nothing(cluster, ansible):
    before = [pids(host) for host in cluster]
    assert ansible.run(DEPLOY, "--skip-tags", "verify").changed == 0
    assert [pids(host) for host in cluster] == before
    assert "2 workers" in ansible.run("playbooks/health.yml").output


def test_the_secret_is_for_its_user_alone(cluster):
    secret = cluster[0].run("cat /etc/spark/secret").strip()
    assert len(secret) == 64
    for host in cluster:
        assert host.run("stat -c '%U %a' /etc/spark/spark-defaults.conf").split() == ["spark", "600"]
        assert f"spark.authenticate.secret {secret}" in host.run("cat /etc/spark/spark-defaults.conf")
        told = host.run(
            f"journalctl --no-pager | grep -c {secret}; ps axww -o args | grep -v grep | grep -c {secret}; true"
        )
        assert told.split() == ["0", "0"]


@pytest.fixture(scope="module")
def sorted_run(cluster, ansible, tmp_path_factory):
    raw = tmp_path_factory.mktemp("raw")
    job = {"spark_job_job": "sort", "spark_job_size": 4, "spark_job_skew": 0.2, "spark_job_conf": QUICK}
    ansible.run(JOB, strategy=MITOGEN, labtool_raw=str(raw), **job)
    return raw


def test_a_job_leaves_its_event_log_and_an_independent_count(sorted_run, cluster):
    folder = sorted_run / "spark-job/spark_master-0"
    job = json.loads((folder / "job.json").read_text())
    (app,) = job["applications"]
    assert job["exit_code"] == 0 and job["cause"] == "" and job["cluster"]["workers"] == 2
    assert list(folder.glob(f"eventlog/eventlog_v2_{app}/events_1_{app}.zstd"))
    assert json.loads((folder / "driver.out").read_text().splitlines()[-1])["job"] == "sort"
    tables = parsers.workload(ROOT / "playbooks/workloads/spark-job.py", sorted_run, {})
    assert set(tables["spark_tasks"]["status"].to_pylist()) == {"ok"} and tables["spark_tasks"].num_rows >= 8
    counts = {row["what"]: row for row in tables["workload_counts"]}
    assert all(row["claimed"] == row["counted"] for row in counts.values()), counts
    assert counts["bytes written for shuffles"]["claimed"] > 3 << 20
    secret = cluster[0].run("cat /etc/spark/secret").strip()
    assert not any(secret in path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file())


def test_a_job_that_cannot_run_says_why(cluster, ansible, tmp_path):
    jar = tmp_path / "app.jar"
    jar.write_bytes(b"PK\x05\x06" + bytes(18))  # an archive of nothing
    wanted = {"labtool_raw": str(tmp_path), "spark_job_jar": str(jar), "spark_job_class": "org.example.App"}
    failed = ansible.run(JOB, code=2, strategy=MITOGEN, **wanted)
    assert "class org.example.App is not in app.jar" in failed.output
    job = json.loads((tmp_path / "spark-job/spark_master-0/job.json").read_text())
    assert job["cause"] == "class org.example.App is not in app.jar"
    failed = ansible.run(JOB, code=2, **(wanted | {"spark_job_jar": str(tmp_path / "none.jar")}))
    assert "none.jar is no file" in failed.output
