"""A type that the region does not have is told before anything is made."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from labtool.cloud import instance_types
from labtool.errors import UsageError


def test_types_that_there_are_pass(session):
    instance_types.check(session, ["t3.small", "m5.large", "t3.small"])
    instance_types.check(session, [])


@pytest.mark.parametrize(
    ("typed", "meant"), [("t3.smal", "t3.small"), ("m5large", "m5.large"), ("t3.Medium", "t3.med")]
)
def test_a_typing_error_is_told_with_the_nearest(session, typed, meant):
    with pytest.raises(UsageError, match=rf"us-east-1 has no instance type {typed}\n.*{meant}") as told:
        instance_types.check(session, ["t3.small", typed])
    assert told.value.exit_code == 2


def test_even_nonsense_has_nearest_names_and_they_are_few(session):
    with pytest.raises(UsageError) as told:
        instance_types.check(session, ["t9.bogus"])
    assert told.value.hint is not None and told.value.hint.count(".") == instance_types.NEAREST + 1


def test_who_may_not_list_them_may_still_launch(session, monkeypatch):
    def deny(**_):
        raise ClientError({"Error": {"Code": "UnauthorizedOperation", "Message": "no"}}, "DescribeInstanceTypes")

    monkeypatch.setattr(session.ec2, "describe_instance_types", deny)
    instance_types.check(session, ["t9.bogus"])
