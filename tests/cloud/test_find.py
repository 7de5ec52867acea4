"""A lab is asked for beside other work: that begins when the question has left, and is not held up by a refusal."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
from botocore.awsrequest import AWSResponse

from labtool.cloud import find
from labtool.cloud.session import Session, Target
from labtool.errors import CloudError, LabtoolError

NOTHING = b"<DescribeInstancesResponse><requestId>7</requestId><reservationSet/></DescribeInstancesResponse>"


@pytest.fixture
def session():
    return Session(Target("aws", "us-east-1", access_key="x", secret_key="x"))


def test_other_work_goes_on_while_ec2_answers(session):
    answered = Event()

    class Raw:
        def stream(self, **_):
            assert answered.wait(10)
            yield NOTHING

    session.ec2.meta.events.register_last(
        "before-send.ec2.DescribeInstances", lambda request, **_: AWSResponse(request.url, 200, {}, Raw())
    )
    with ThreadPoolExecutor(1) as beside:
        asked = find.asking(session, "one", beside)
        assert not asked.done()
        answered.set()
        with pytest.raises(LabtoolError, match="lab one has no hosts"):
            asked.result(10)


def test_a_question_that_never_leaves_holds_nobody_up(session):
    def refuse(**_):
        raise CloudError("no")

    session.ec2.meta.events.register("before-call.ec2.DescribeInstances", refuse)
    with ThreadPoolExecutor(1) as beside, pytest.raises(CloudError, match="no"):
        find.asking(session, "one", beside).result(10)
