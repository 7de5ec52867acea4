"""--dry-run says what would be done, and does nothing."""

from __future__ import annotations

import json

import pytest

from labtool import localcloud


@pytest.fixture
def nothing_starts(monkeypatch, tmp_path):
    """A local cloud that does not run, and must not."""

    def start(*_):
        raise AssertionError("a dry run has started the local cloud")

    monkeypatch.setattr(localcloud, "start", start)
    monkeypatch.setenv("LABTOOL_LOCAL_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("LABTOOL_LOCAL_NAME", "dryrun")
    monkeypatch.setenv("LABTOOL_LOCAL_PORT", "4698")
    monkeypatch.setenv("LABTOOL_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def kept(folder):
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() or "labs" in path.parts]


def test_up_plans_against_an_empty_cloud(told, nothing_starts):
    code, out, err = told("up", "web=2", "load=1:t3.large", "--dry-run")
    assert code == 0, err
    assert "would launch web-0, web-1 (t3.small)" in out and "would launch load-0 (t3.large)" in out
    assert "planned as an empty one" in err
    assert kept(nothing_starts) == []


def test_a_killed_local_cloud_is_not_counted_and_said_to_be_there(told, nothing_starts):
    (nothing_starts / "state" / "dryrun").mkdir(parents=True)
    code, _, err = told("up", "web=1", "--dry-run")
    assert code == 0 and "labtool cloud start" in err


def test_deploy_plans_against_an_empty_cloud(told, nothing_starts):
    code, out, err = told("deploy", "kafka-cluster", "--brokers", "5", "--dry-run", "--json")
    assert code == 0, err
    planned = json.loads(out)
    assert [host["name"] for host in planned["launch"]] == [f"kafka-{index}" for index in range(5)]
    assert planned["options"]["brokers"] == 5 and planned["usd_per_hour"] > 0
    assert "ansible-playbook" in planned["command"] and "--forks 5" in planned["command"]
    assert kept(nothing_starts) == []


def test_deploy_tells_people_the_same(told, nothing_starts):
    _, out, _ = told("deploy", "kafka-cluster", "--dry-run")
    assert "would launch kafka-0, kafka-1, kafka-2 (t3.medium)" in out
    assert "then, on them:\n" in out and "kafka-cluster.yml" in out


@pytest.mark.usefixtures("kafka")
def test_what_there_is_is_counted(told, account, aws):
    before = aws.ec2.describe_instances()["Reservations"]
    plan = json.loads(told("up", "kafka=3", "--lab", "kafka", "--dry-run", "--json")[1])
    assert [host["name"] for host in plan["launch"]] == ["kafka-1", "kafka-2"]
    assert told("up", "--lab", "kafka", "--dry-run")[1] == "nothing to launch\n"
    account.stop(before[0]["Instances"][0]["InstanceId"])
    assert json.loads(told("up", "--lab", "kafka", "--dry-run", "--json")[1])["start"] == ["kafka-0"]
    assert len(aws.ec2.describe_instances()["Reservations"]) == 1


def test_a_lifetime_that_is_none_is_refused_in_a_dry_run_too(told, nothing_starts):
    assert told("deploy", "kafka-cluster", "--ttl", "soon", "--dry-run")[0] == 2
