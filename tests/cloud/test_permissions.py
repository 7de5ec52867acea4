"""`labtool doctor --cloud aws`: every permission of the policy is tried, and nothing is changed by that."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from fake.policy import Policy, many

from labtool.cloud import permissions

POLICY = json.loads((Path(__file__).parents[2] / "docs" / "aws-policy.json").read_text())
ACTIONS = {action for statement in POLICY["Statement"] for action in many(statement["Action"])}


ON_S3 = {action for action in ACTIONS if action.startswith("s3:")} - {"s3:ListAllMyBuckets"}


def without(action):
    policy = copy.deepcopy(POLICY)
    for statement in policy["Statement"]:
        statement["Action"] = [each for each in many(statement["Action"]) if each != action]
    return Policy(policy)


def answers(session):
    return {each.action: each.answer for each in permissions.look(session)}


def test_what_is_tried_is_what_the_policy_has(session):
    assert set(answers(session)) == ACTIONS


def test_without_a_lab_what_is_allowed_on_a_labs_own_things_is_not_known(session, aws):
    aws.policy = Policy(POLICY)
    found = answers(session)
    on_its_own = next(set(each["Action"]) for each in POLICY["Statement"] if each["Sid"] == "ChangeAndEndWhatIsALabs")
    assert {action for action, answer in found.items() if answer == "unknown"} == on_its_own | ON_S3
    assert set(found.values()) == {"allowed", "unknown"}


@pytest.fixture
def lab(labtool, aws):
    labtool("up", "web=1", "--placement", "cluster", "--type", "m5.large", "--yes")
    aws.calls.clear()
    aws.refused.clear()


def test_with_a_lab_all_is_known_and_nothing_is_changed(session, aws, lab):
    before = aws.ec2.left(), [dict(i.tags(1e9)) for i in aws.ec2.instances.values()]
    aws.policy = Policy(POLICY)
    assert {answer for action, answer in answers(session).items() if action not in ON_S3} == {"allowed"}
    assert (aws.ec2.left(), [dict(i.tags(1e9)) for i in aws.ec2.instances.values()]) == before
    assert all(i.state(aws.clock.elapsed) == "running" for i in aws.ec2.instances.values())


@pytest.mark.slow
@pytest.mark.parametrize("action", sorted(ACTIONS - ON_S3 - {"ec2:DescribeInstances"}))
def test_what_is_missing_is_named_and_nothing_else(session, aws, lab, action):
    aws.policy = without(action)
    # What is made is tagged in the same call, which then is refused too.
    with_it = {"ec2:CreateTags": set(many(POLICY["Statement"][6]["Condition"]["StringEquals"]["ec2:CreateAction"]))}
    more = {f"ec2:{each}" for each in with_it.get(action, ())}
    assert {each for each, answer in answers(session).items() if answer == "denied"} == {action} | more


def test_doctor_tells_it_in_words(labtool, aws, lab, session, monkeypatch):
    monkeypatch.setattr("labtool.cli.connect.connect", lambda chosen, progress, ssh_from=None: session)
    out, _ = labtool("doctor", "--cloud", "aws")
    assert f"{len(ACTIONS - ON_S3)} of {len(ACTIONS)} tried and allowed" in out
    assert "S3 has no dry runs" in out
    aws.policy = without("ec2:TerminateInstances")
    out, _ = labtool("doctor", "--cloud", "aws", code=1)
    assert "MISS  ec2:TerminateInstances: not allowed\n      docs/aws-policy.json has it" in out
