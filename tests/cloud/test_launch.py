"""Launching, growing, killed and repeated, against the fake of AWS."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest
from fake import Crash
from fake.promises import Promises
from hypothesis import given
from hypothesis import strategies as st

from labtool.cloud import clock, end, find, keys, launch, plan, request, tags
from labtool.cloud.journal import Journal
from labtool.errors import CloudError
from labtool.progress import Silent
from labtool.topology import GroupSpec, VarSpec

IMAGE = "debian-12"
VARS = (VarSpec("kafka_node_id", "index", base=1), VarSpec("kafka_cluster_id", "uuid", scope="lab"))
KAFKA = GroupSpec("kafka", 3, "t3.small", VARS)


def up(session, *specs, ttl=timedelta(hours=4), progress=None, **options):
    return launch.up(session, "one", specs, image=IMAGE, ttl=ttl, progress=progress or Silent(), **options)


def down(session):
    return end.down(session, "one", Silent())


def fault(aws, action, kind):
    """Let the next call of `action` fail."""
    aws.next_of[action] = kind


def test_up_launches_names_and_tags(session):
    lab = up(session, KAFKA, GroupSpec("load", 1, "t3.micro"))
    assert [h.name for h in lab] == ["kafka-0", "kafka-1", "kafka-2", "load-0"]
    assert [h.vars.get("kafka_node_id") for h in lab] == ["1", "2", "3", None]
    assert len({h.vars["kafka_cluster_id"] for h in lab.groups["kafka"]}) == 1
    assert all(h.expires and h.expires > clock.now() + timedelta(hours=3) for h in lab)


def test_the_other_groups_of_a_host_are_in_its_tags(session):
    front = GroupSpec("front", 1, "t3.small")
    up(session, front)
    lab = up(session, replace(front, also=("kafka", "web")))
    assert lab.host("front-0").also == ("kafka", "web") == find.find_lab(session, "one").host("front-0").also


def test_one_launch_call_a_group(session, aws):
    up(session, KAFKA, GroupSpec("load", 2, "t3.micro"))
    assert aws.counted()["RunInstances"] == 2


def test_a_second_up_changes_nothing(session, aws):
    first = up(session, KAFKA)
    before = dict(aws.counted())
    assert up(session, KAFKA) == first
    changed = {a for a, n in aws.counted().items() if n != before.get(a, 0)}
    assert all(action.startswith("Describe") for action in changed)


def test_growing_keeps_the_others(session):
    first = up(session, GroupSpec("kafka", 2, "t3.small", VARS))
    second = up(session, GroupSpec("kafka", 4, "t3.small", VARS))
    assert second.hosts[:2] == first.hosts
    assert [h.vars["kafka_node_id"] for h in second] == ["1", "2", "3", "4"]
    assert len({h.vars["kafka_cluster_id"] for h in second}) == 1


def test_a_lost_host_is_replaced_under_its_own_name(session, aws):
    first = up(session, KAFKA)
    session.ec2.terminate_instances(InstanceIds=[first.host("kafka-1").instance_id])
    aws.pass_time(60)
    second = up(session, KAFKA)
    assert [h.name for h in second] == ["kafka-0", "kafka-1", "kafka-2"]
    assert second.host("kafka-1").vars["kafka_node_id"] == "2"
    assert second.host("kafka-1").instance_id != first.host("kafka-1").instance_id


@pytest.mark.parametrize("kind", ["crash", "crash-after"])
@pytest.mark.parametrize("action", ["CreateSecurityGroup", "ImportKeyPair", "RunInstances", "CreateTags"])
@pytest.mark.parametrize("lag", [0.0, 20.0])
def test_killed_at_a_call_then_run_again(session, aws, action, kind, lag):
    aws.promises = Promises(lag=lag)
    fault(aws, action, kind)
    with pytest.raises(Crash):
        up(session, KAFKA)
    aws.revive()
    lab = up(session, KAFKA)
    assert [h.name for h in lab] == ["kafka-0", "kafka-1", "kafka-2"]
    assert len(aws.ec2.instances) == 3
    assert len({h.vars["kafka_cluster_id"] for h in lab}) == 1


@pytest.mark.parametrize("kind", ["timeout", "timeout-after", "error", "error-after", "throttle", "unreachable"])
def test_a_launch_whose_answer_is_lost_is_asked_again_and_made_once(session, aws, kind):
    fault(aws, "RunInstances", kind)
    assert len(up(session, KAFKA)) == 3
    assert len(aws.ec2.instances) == 3
    asked = [c.parameters["ClientToken"] for c in aws.calls if c.action == "RunInstances"]
    assert len(asked) == 2 and len(set(asked)) == 1


def test_an_instance_nobody_knows_yet_is_waited_for(session, aws):
    aws.promises = Promises(lag=25.0)
    assert len(up(session, KAFKA)) == 3
    assert len(up(session, KAFKA)) == 3
    assert len(aws.ec2.instances) == 3


@pytest.mark.parametrize("kind", ["interrupt", "interrupt-after"])
@pytest.mark.parametrize("action", ["RunInstances", "CreateTags"])
def test_interrupted_during_the_launch_ends_what_it_launched(session, aws, action, kind):
    aws.promises = Promises(lag=5.0)
    up(session, GroupSpec("web", 1, "t3.small"))
    aws.pass_time(60)
    fault(aws, action, kind)
    with pytest.raises(KeyboardInterrupt):
        up(session, KAFKA)
    aws.pass_time(60)
    assert [h.name for h in find.find_lab(session, "one")] == ["web-0"]
    assert [h.name for h in up(session, GroupSpec("web", 1, "t3.small"))] == ["web-0"]


def test_a_refused_launch_is_not_repeated(session, aws):
    aws.promises = Promises(vcpus=4)
    with pytest.raises(CloudError, match="VcpuLimitExceeded"):
        up(session, KAFKA)
    assert Journal(keys.lab_folder(session, "one")).open == []
    assert aws.counted()["RunInstances"] == 1


def test_a_refused_group_does_not_make_another_forgotten(session, aws):
    """One group is launched and its answer lost, the other is refused: the first must not be launched twice."""
    aws.promises = Promises(vcpus=6)
    fault(aws, "RunInstances", "timeout-after")
    with pytest.raises(CloudError, match="VcpuLimitExceeded"):
        up(session, KAFKA, GroupSpec("load", 1, "t3.small"))
    assert len(up(session, KAFKA)) == len(aws.ec2.instances) == 3


def test_without_permission_the_call_is_named(session, aws):
    aws.promises = Promises(denied=frozenset({"RunInstances"}))
    with pytest.raises(CloudError, match="UnauthorizedOperation") as caught:
        up(session, KAFKA)
    assert "policy" in caught.value.hint


def test_down_ends_everything_and_can_be_repeated(session, aws):
    lab = up(session, KAFKA)
    access = keys.access(session, "one")
    assert access.key.stat().st_mode & 0o777 == 0o600
    assert down(session) == len(lab)
    assert aws.ec2.left() == []
    assert not access.key.exists()
    assert down(session) == 0


def test_a_foreign_key_pair_is_refused(session, aws, tmp_path, monkeypatch):
    up(session, GroupSpec("kafka", 1, "t3.small"))
    monkeypatch.setenv("LABTOOL_HOME", str(tmp_path))
    with pytest.raises(CloudError, match="made elsewhere"):
        up(session, GroupSpec("kafka", 2, "t3.small"))


def test_stopped_hosts_are_started(account, session, aws):
    first = up(session, GroupSpec("web", 2, "t3.small"))
    account.stop(*(h.instance_id for h in first))
    second = up(session, GroupSpec("web", 2, "t3.small"))
    assert [h.instance_id for h in second] == [h.instance_id for h in first]
    assert all(h.running for h in second)


def test_stopped_hosts_of_other_groups_are_not_waited_for(account, session, aws):
    lab = up(session, GroupSpec("db", 1, "t3.small"))
    account.stop(lab.hosts[0].instance_id)
    aws.pass_time(20)
    assert [h.state for h in up(session, GroupSpec("web", 1, "t3.small"))] == ["stopped", "running"]


def test_a_host_that_ends_while_it_starts_is_named(session, aws):
    aws.promises = Promises(boot=1000)
    aws.clock.sleep(0)
    real = aws.ec2.greets

    def greet_or_die(address):
        for instance in aws.ec2.instances.values():
            aws.ec2.end(instance, "Server.InternalError: it broke")
        return real(address)

    aws.ec2.greets = greet_or_die
    with pytest.raises(CloudError, match=r"web-0 \((terminated|shutting-down): Server.InternalError"):
        up(session, GroupSpec("web", 1, "t3.small"))


@pytest.mark.slow
def test_without_the_stragglers(session, aws):
    aws.promises = Promises(silent=frozenset({"kafka-1"}))
    lab = up(session, KAFKA, at_least=2)
    assert [h.name for h in lab] == ["kafka-0", "kafka-2"]
    assert aws.clock.elapsed < 120
    with pytest.raises(CloudError, match=r"not ready after 600 s: kafka-1 \(running\)"):
        up(session, KAFKA)


class Told:
    """Progress that is remembered with its time; a state that is told again is told once."""

    def __init__(self, now):
        self.now, self.stages, self.hosts, self.lines = now, {}, [], []

    def stage(self, name):
        self.stages[name] = self.now()

    def host(self, name, state, detail=""):
        if [told[1:3] for told in self.hosts if told[1] == name][-1:] != [(name, state)]:
            self.hosts.append((self.now(), name, state, detail))

    def line(self, text):
        self.lines.append((self.now(), text))

    def of(self, name):
        return [(state, detail) for _, each, state, detail in self.hosts if each == name]

    def when(self, name):
        return {state: at for at, each, state, _ in self.hosts if each == name}


def test_each_host_is_told_from_requested_to_ready_when_it_gets_there_and_a_straggler_never_is(session, aws):
    # A launch takes so long that each group comes up later than the one before.
    aws.promises = Promises(launch_latency=15.0, pending=25.0, silent=frozenset({"web-1"}))
    told = Told(clock.monotonic)
    groups = [GroupSpec(name, count, "t3.small") for name, count in (("web", 2), ("db", 1), ("load", 1))]
    lab = up(session, *groups, progress=told, at_least=3)
    assert [host.name for host in lab] == ["db-0", "load-0", "web-0"]
    for host in lab:
        assert told.of(host.name) == [
            ("requested", "t3.small"),
            ("pending", "us-east-1a"),
            ("running", "waiting for SSH"),
            ("ssh", "waiting for its host key on the console"),
            ("ready", host.address),
        ]
    assert [state for state, _ in told.of("web-1")] == ["requested", "pending", "running"]
    assert list(told.stages) == ["launch", "wait for SSH"]
    assert [name for _, name, state, _ in told.hosts if state == "ready"] == ["web-0", "db-0", "load-0"]
    assert {state for _, _, state, _ in told.hosts[:4]} == {"requested"}, "all are, before the first is launched"

    began = told.stages["wait for SSH"]
    real = {instance.tags(clock.monotonic())["Name"]: instance for instance in aws.ec2.instances.values()}
    for host in lab:
        at, instance = told.when(host.name), real[host.name]
        greets = instance.started + aws.promises.boot
        assert instance.created <= at["pending"] < instance.created + 16
        assert 0 <= at["running"] - max(began, instance.started) < 3
        assert 0 <= at["ssh"] - max(began, greets) < 3
        assert 0 <= at["ready"] - (greets + aws.promises.console) < 10
    last = max(at for at, _, state, _ in told.hosts if state == "ready")
    ((left, line),) = told.lines
    assert line == "going on without web-1: they stay in the lab, and cost what they cost"
    assert left - last >= 30 and left - last == pytest.approx(last - began, abs=4), "as long again as the others took"


def test_a_host_that_ran_is_not_told_to_be_pending_by_an_older_answer(session, aws):
    aws.promises = Promises(lag=20.0, pending=25.0)
    told = Told(clock.monotonic)
    for host in up(session, KAFKA, progress=told):
        assert [state for state, _ in told.of(host.name)] == ["requested", "pending", "running", "ssh", "ready"]


def test_requests_ask_for_what_keeps_a_bill_small(session, aws):
    up(session, GroupSpec("kafka", 2, "t3.small"))
    asked = next(call.parameters for call in aws.calls if call.action == "RunInstances")
    assert asked["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert asked["MetadataOptions"]["HttpTokens"] == "required"
    assert asked["BlockDeviceMappings"][0]["Ebs"] == {
        "VolumeType": "gp3", "VolumeSize": 20, "Encrypted": True, "DeleteOnTermination": True,
    }  # fmt: skip
    assert {t["ResourceType"] for t in asked["TagSpecifications"]} == {"instance", "volume"}
    assert asked["MinCount"] == asked["MaxCount"] == 2
    assert asked["Monitoring"] == {"Enabled": True}


def test_hosts_end_themselves_though_labtool_never_runs_again(session, aws):
    up(session, KAFKA, ttl=timedelta(hours=1))
    aws.pass_time(3500)
    assert len(find.find_lab(session, "one")) == 3
    aws.pass_time(200)
    assert len(find.find_lab(session, "one")) == 0
    assert [left for left in aws.ec2.left() if left.startswith(("i-", "vol-"))] == []


@pytest.mark.slow
@given(st.sets(st.integers(0, 200)).map(sorted))
def test_indexes_come_back_from_their_tag(indexes):
    assert tags.parse_indexes(tags.index_text(indexes)) == indexes


def test_a_full_group_fits_a_tag():
    assert tags.index_text(range(99)) == "0-98"
    assert tags.fitting(range(1000)) == [tuple(range(1000))]


@given(st.sets(st.integers(0, 2000), max_size=400).map(sorted))
def test_indexes_are_divided_into_parts_that_fit_a_tag(indexes):
    parts = tags.fitting(indexes)
    assert [index for part in parts for index in part] == indexes
    texts = [tags.index_text(part) for part in parts]
    assert all(0 < len(text) <= 256 for text in texts)
    for text, following in pairwise(texts):
        assert len(f"{text} {following.split()[0]}") > 256  # no call more than is needed


def test_indexes_fill_a_tag_to_its_last_character():
    indexes = [1, *range(10, 160, 2)]
    assert len(tags.index_text(indexes)) == 256
    assert tags.fitting(indexes) == [tuple(indexes)]
    assert tags.fitting([*indexes, 1000]) == [tuple(indexes), (1000,)]


SCATTERED = GroupSpec("web", 160, "t3.small")


@pytest.fixture
def scattered(session, aws):
    """A lab that has lost every second host of many: the indexes of the lost do not fit one tag."""
    lab = up(session, SCATTERED)
    lost = [host for host in lab if host.index % 2]
    assert len(tags.index_text([host.index for host in lost])) > 256
    session.ec2.terminate_instances(InstanceIds=[host.instance_id for host in lost])
    aws.pass_time(60)
    return [host for host in lab if host not in lost]


def whole_again(lab, kept, aws):
    assert [host.name for host in lab] == [f"web-{index}" for index in range(160)]
    assert {host.instance_id for host in kept} <= {host.instance_id for host in lab}
    assert len(aws.ec2.instances) == 160 + 80


def test_scattered_hosts_are_replaced_under_their_own_names(session, aws, scattered):
    whole_again(up(session, SCATTERED), scattered, aws)
    asked = [call.parameters for call in aws.calls if call.action == "RunInstances"]
    assert [each["MaxCount"] for each in asked] == [160, 78, 2]
    assert len({each["ClientToken"] for each in asked}) == 3


@pytest.mark.parametrize("kind", ["crash", "crash-after"])
@pytest.mark.parametrize("number", [2, 3])
def test_killed_while_it_replaces_scattered_hosts_then_run_again(session, aws, scattered, number, kind):
    handle = aws.handle

    def handled(service, operation, sent):
        if operation.name == "RunInstances" and aws.counted()["RunInstances"] == number - 1:
            aws.next_of["RunInstances"] = kind
        return handle(service, operation, sent)

    aws.handle = handled
    with pytest.raises(Crash):
        up(session, SCATTERED)
    aws.handle = handle
    aws.revive()
    whole_again(up(session, SCATTERED), scattered, aws)


def test_tokens_change_with_lab_group_launch_and_attempt():
    one = plan.Launch("kafka", (0,), "t3.small", "first")
    tokens = [
        plan.client_token("a", one, 0),
        plan.client_token("b", one, 0),
        plan.client_token("a", one, 1),
        plan.client_token("a", plan.Launch("kafka", (0,), "t3.small", "second"), 0),
        plan.client_token("a", plan.Launch("load", (0,), "t3.small", "first"), 0),
        plan.client_token("a", plan.Launch("kafka", (1,), "t3.small", "first"), 0),
    ]
    assert len(set(tokens)) == 6 and all(len(token) <= 64 for token in tokens)
    assert request.ROOT_GIB == 20


def test_a_call_that_was_carried_out_and_is_then_refused_is_not_made_elsewhere(session, aws):
    """The answer is lost, and asked again EC2 says that there is no room: what was made must not be made twice."""
    aws.next_of["RunInstances"] = "error-after"
    handle = aws.handle

    def handled(service, operation, sent):
        answer = handle(service, operation, sent)
        if operation.name == "RunInstances" and aws.counted()["RunInstances"] == 1:
            aws.next_of["RunInstances"] = "capacity"
        return answer

    aws.handle = handled
    lab = up(session, KAFKA)
    assert len(lab) == len(aws.ec2.instances) == 3
    assert {host.zone for host in lab} == {"us-east-1a"}
