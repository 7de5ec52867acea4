"""Launching, killed and repeated at every point, against moto."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labtool.cloud import end, find, keys, launch, network, plan, tags
from labtool.errors import CloudError
from labtool.progress import Silent
from labtool.topology import GroupSpec, VarSpec

IMAGE = "ami-12c6146b"  # one that moto knows
VARS = (VarSpec("kafka_node_id", "index", base=1), VarSpec("kafka_cluster_id", "uuid", scope="lab"))
pytestmark = pytest.mark.usefixtures("greeting")


def up(session, *specs, ttl=timedelta(hours=4)):
    return launch.up(session, "one", specs, image=IMAGE, ttl=ttl, progress=Silent(), deadline_s=5)


def test_up_launches_names_and_tags(session):
    lab = up(session, GroupSpec("kafka", 3, "t3.small", VARS), GroupSpec("load", 1, "t3.micro"))
    assert [h.name for h in lab] == ["kafka-0", "kafka-1", "kafka-2", "load-0"]
    assert [h.vars.get("kafka_node_id") for h in lab] == ["1", "2", "3", None]
    assert len({h.vars["kafka_cluster_id"] for h in lab.groups["kafka"]}) == 1
    assert all(h.expires and h.expires > datetime.now(UTC) + timedelta(hours=3) for h in lab)


def test_a_second_up_changes_nothing(session):
    first = up(session, GroupSpec("kafka", 2, "t3.small", VARS))
    assert up(session, GroupSpec("kafka", 2, "t3.small", VARS)) == first


def test_growing_keeps_the_others(session):
    first = up(session, GroupSpec("kafka", 2, "t3.small", VARS))
    second = up(session, GroupSpec("kafka", 4, "t3.small", VARS))
    assert second.hosts[:2] == first.hosts
    assert [h.vars["kafka_node_id"] for h in second] == ["1", "2", "3", "4"]
    assert len({h.vars["kafka_cluster_id"] for h in second}) == 1


def test_a_lost_host_is_replaced_under_its_own_name(session):
    first = up(session, GroupSpec("kafka", 3, "t3.small", VARS))
    session.ec2.terminate_instances(InstanceIds=[first.host("kafka-1").instance_id])
    second = up(session, GroupSpec("kafka", 3, "t3.small", VARS))
    assert [h.name for h in second] == ["kafka-0", "kafka-1", "kafka-2"]
    assert second.host("kafka-1").vars["kafka_node_id"] == "2"
    assert second.host("kafka-1").instance_id != first.host("kafka-1").instance_id


def test_killed_between_launch_and_tags_then_run_again(session, monkeypatch):
    def die(*args):
        raise SystemExit("killed")

    with monkeypatch.context() as patch:
        patch.setattr(launch, "write_tags", die)
        with pytest.raises(SystemExit):
            up(session, GroupSpec("kafka", 3, "t3.small", VARS))
    assert [h.name for h in find.find_lab(session, "one")] == ["kafka-0", "kafka-1", "kafka-2"]
    lab = up(session, GroupSpec("kafka", 3, "t3.small", VARS))
    assert len(lab) == 3
    names = {tags.to_map(i["Tags"])["Name"] for i in find.describe(session, [])}
    assert names == {"kafka-0", "kafka-1", "kafka-2"}


def test_killed_between_the_journal_and_the_call(session, monkeypatch):
    def die(*args):
        raise SystemExit("killed")

    with monkeypatch.context() as patch:
        patch.setattr(launch, "_run", die)
        with pytest.raises(SystemExit):
            up(session, GroupSpec("kafka", 3, "t3.small", VARS))
    assert len(find.find_lab(session, "one")) == 0
    assert len(up(session, GroupSpec("kafka", 3, "t3.small", VARS))) == 3


def test_killed_between_the_call_and_its_answer_launches_nothing_twice(session, monkeypatch):
    real = launch._run

    def run_and_die(*args):
        real(*args)
        raise SystemExit("killed")

    with monkeypatch.context() as patch:
        patch.setattr(launch, "_run", run_and_die)
        with pytest.raises(SystemExit):
            up(session, GroupSpec("kafka", 3, "t3.small", VARS))
    assert len(up(session, GroupSpec("kafka", 3, "t3.small", VARS))) == 3


def test_interrupted_during_the_launch_ends_what_it_launched(session, monkeypatch):
    up(session, GroupSpec("web", 1, "t3.small"))
    real = launch._run

    def run_and_interrupt(*args):
        real(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(launch, "_run", run_and_interrupt)
        with pytest.raises(KeyboardInterrupt):
            up(session, GroupSpec("kafka", 3, "t3.small", VARS))
    assert [h.name for h in find.find_lab(session, "one")] == ["web-0"]


def test_down_ends_everything_and_can_be_repeated(session):
    lab = up(session, GroupSpec("kafka", 2, "t3.small"))
    access = keys.access(session, "one")
    assert access.key.stat().st_mode & 0o777 == 0o600
    assert end.down(session, "one", Silent()) == len(lab)
    assert len(find.find_lab(session, "one")) == 0
    assert network.find_security_group(session, "one") is None
    assert session.ec2.describe_key_pairs()["KeyPairs"] == []
    assert not access.key.exists()
    assert end.down(session, "one", Silent()) == 0


def test_a_foreign_key_pair_is_refused(session, tmp_path, monkeypatch):
    up(session, GroupSpec("kafka", 1, "t3.small"))
    monkeypatch.setenv("LABTOOL_HOME", str(tmp_path))
    with pytest.raises(CloudError, match="made elsewhere"):
        up(session, GroupSpec("kafka", 2, "t3.small"))


def test_stopped_hosts_are_started(session):
    first = up(session, GroupSpec("web", 2, "t3.small"))
    session.ec2.stop_instances(InstanceIds=[h.instance_id for h in first])
    second = up(session, GroupSpec("web", 2, "t3.small"))
    assert [h.instance_id for h in second] == [h.instance_id for h in first]
    assert all(h.running for h in second)


def test_expired_means_every_host_is(session):
    lab = up(session, GroupSpec("web", 1, "t3.small"), ttl=timedelta(hours=1))
    assert end.expired([lab], datetime.now(UTC)) == []
    assert end.expired([lab], datetime.now(UTC) + timedelta(hours=2)) == [lab]


def test_requests_ask_for_what_keeps_a_bill_small():
    launched = plan.Launch("kafka", (0, 2), "t3.small", "token")
    request = plan.run_instances(
        launched,
        "one",
        image=plan.Image("ami-1", "admin", "/dev/xvda"),
        key_name="k",
        security_group="sg-1",
        expires=datetime(2026, 1, 1, tzinfo=UTC),
        owner="me",
        user_data="",
    )
    assert request["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert request["MetadataOptions"]["HttpTokens"] == "required"
    assert request["BlockDeviceMappings"][0]["Ebs"]["DeleteOnTermination"] is True
    assert {t["ResourceType"] for t in request["TagSpecifications"]} == {"instance", "volume"}
    assert request["MinCount"] == request["MaxCount"] == 2


def test_a_refused_launch_is_not_repeated(session, monkeypatch):
    from botocore.exceptions import ClientError

    def refuse(**request):
        answer = {
            "Error": {"Code": "VcpuLimitExceeded", "Message": "no"},
            "ResponseMetadata": {"HTTPStatusCode": 400},
        }
        raise ClientError(answer, "RunInstances")

    with monkeypatch.context() as patch:
        patch.setattr(session.ec2, "run_instances", refuse)
        with pytest.raises(CloudError, match="VcpuLimitExceeded"):
            up(session, GroupSpec("web", 1, "t3.small"))
    assert not (keys.lab_folder(session, "one") / "launch.json").exists()
    assert len(up(session, GroupSpec("web", 1, "t3.small"))) == 1


def test_hosts_that_are_not_shown_yet_are_not_launched_again(session, monkeypatch):
    real = launch._run

    def run_and_die(*args):
        real(*args)
        raise SystemExit("killed")

    with monkeypatch.context() as patch:
        patch.setattr(launch, "_run", run_and_die)
        with pytest.raises(SystemExit):
            up(session, GroupSpec("kafka", 2, "t3.small"))
    describe, looks = find.describe, [0]

    def late(*args):
        looks[0] += 1
        return [] if looks[0] <= 4 else describe(*args)

    started = []
    monkeypatch.setattr(find, "describe", late)
    # moto has no client tokens: the repeated call must not start instances of its own.
    monkeypatch.setattr(launch, "_run", lambda s, request: started.append(request["ClientToken"]))
    lab = up(session, GroupSpec("kafka", 2, "t3.small"))
    assert len(lab) == 2 and len(started) == 1


def test_a_host_that_ends_while_it_starts_is_named(session, monkeypatch):
    from labtool.cloud import wait

    def greet_or_die(host):
        session.ec2.terminate_instances(InstanceIds=[host.instance_id])
        return False

    monkeypatch.setattr(wait, "greets", greet_or_die)
    with pytest.raises(CloudError, match=r"web-0 \((terminated|shutting-down)"):
        up(session, GroupSpec("web", 1, "t3.small"))


def test_stopped_hosts_of_other_groups_are_not_waited_for(session):
    lab = up(session, GroupSpec("db", 1, "t3.small"))
    session.ec2.stop_instances(InstanceIds=[lab.hosts[0].instance_id])
    assert [h.state for h in up(session, GroupSpec("web", 1, "t3.small"))] == ["stopped", "running"]


def test_what_labs_left_without_hosts_is_found(session):
    lab = up(session, GroupSpec("web", 1, "t3.small"))
    assert end.leftover(session) == []
    session.ec2.terminate_instances(InstanceIds=[lab.hosts[0].instance_id])
    assert end.leftover(session) == ["one"]


@given(st.sets(st.integers(0, 200)).map(sorted))
def test_indexes_come_back_from_their_tag(indexes):
    assert tags.parse_indexes(tags.index_text(indexes)) == indexes


def test_a_full_group_fits_a_tag():
    assert tags.index_text(range(99)) == "0-98"
