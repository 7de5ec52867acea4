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


@pytest.mark.usefixtures("nothing_starts")
def test_a_price_that_is_not_known_is_said_to_be(told):
    code, out, _ = told("up", "web=1:x9.huge", "--dry-run")
    assert code == 0 and "price on AWS: an unknown amount (no price of x9.huge)\n" in out
    assert out.endswith("they end themselves after 4h\n") and "$" not in out
    _, out, _ = told("up", "web=1:x9.huge", "load=1", "--dry-run")
    assert "2025-06), without x9.huge: no price known\n" in out
    assert out.endswith("after 4h: $0.12 at most, without x9.huge: no price known\n")


@pytest.mark.parametrize("words", [("up", "web=1"), ("deploy", "kafka-cluster"), ("run", "countdown")])
def test_an_unknown_image_is_refused_where_no_cloud_runs(told, nothing_starts, words):
    code, out, err = told(*words, "--dry-run", "--image", "debian-21")
    assert (code, out) == (2, "") and "unknown image: debian-21\n  did you mean debian-1" in err


@pytest.mark.usefixtures("kafka")
def test_an_image_is_looked_for_where_a_cloud_answers(told, aws):
    words = ("--lab", "kafka", "--dry-run", "--image")
    assert told("up", "kafka=2", *words, "debian-12")[0] == 0
    assert "unknown image: debian-21" in told("up", "kafka=2", *words, "debian-21")[2]
    code, out, err = told("up", "kafka=2", *words, "ami-0123456789abcdef0")
    assert (code, out) == (1, "") and "ami-0123456789abcdef0" in err
    assert told("up", "kafka=1", *words, "ami-0123456789abcdef0")[:2] == (0, "nothing to launch\n")


@pytest.mark.usefixtures("kafka")
def test_no_more_hosts_are_waited_for_than_there_are(told):
    for more in ((), ("--dry-run",)):
        code, out, err = told("up", "--lab", "kafka", "--at-least", "2", *more)
        assert (code, out) == (2, "") and "--at-least 2 is more than the 1 host asked for" in err
