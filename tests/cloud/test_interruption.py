from __future__ import annotations

import threading
from datetime import timedelta

from labtool.cloud import interruption, launch
from labtool.cloud.request import Options
from labtool.progress import Silent
from labtool.topology import GroupSpec


def lab_of(session, **options):
    return launch.up(
        session,
        "one",
        [GroupSpec("web", 2, "t3.small")],
        image=None,
        ttl=timedelta(hours=4),
        progress=Silent(),
        options=Options(**options),
    )


def test_the_notice_is_seen_before_the_host_goes_and_the_end_after_it(session, aws):
    lab = lab_of(session, spot=True)
    assert interruption.taken_back(session, lab.hosts) == {}
    aws.ec2.interrupt(lab.host("web-1").instance_id)
    assert interruption.taken_back(session, lab.hosts) == {"web-1": "marked-for-termination"}
    assert aws.ec2.instances[lab.host("web-1").instance_id].alive(aws.clock.elapsed)
    aws.pass_time(130)
    assert interruption.taken_back(session, lab.hosts) == {"web-1": "instance-terminated-no-capacity"}


def test_hosts_that_are_not_spot_cost_no_call(session, aws):
    lab = lab_of(session)
    before = len(aws.calls)
    with interruption.watched(session, lab.hosts, lambda host, why: None, every_s=0.01):
        assert interruption.taken_back(session, lab.hosts) == {}
    assert len(aws.calls) == before


def test_each_host_is_told_of_once_and_a_failing_call_is_asked_again(session, aws):
    lab = lab_of(session, spot=True)
    aws.ec2.interrupt(lab.host("web-0").instance_id)
    aws.next_of["DescribeSpotInstanceRequests"] = "not-found"
    told, seen = [], threading.Event()

    def notice(host, why):
        told.append((host, why))
        seen.set()

    with interruption.watched(session, lab.hosts, notice, every_s=0.01):
        assert seen.wait(20)
        threading.Event().wait(0.1)
    assert told == [("web-0", "marked-for-termination")]
