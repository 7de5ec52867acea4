from __future__ import annotations

import re
from datetime import timedelta

from labtool.cloud import clock, extend, find, launch, request
from labtool.progress import Silent
from labtool.topology import GroupSpec


def lab_of(session, count=3):
    specs = [GroupSpec("web", count, "t3.small")]
    return launch.up(session, "one", specs, image=None, ttl=timedelta(hours=1), progress=Silent())


def timers(aws):
    """Hosts in the fake: what `set_timer` does to one, or why it cannot."""

    def set_timer(host, expires):
        if host.name == "web-1":
            return "Connection timed out"
        aws.ec2.instances[host.instance_id].data["timer"] = expires.strftime("%Y-%m-%d %H:%M:%S")
        aws.ec2._next = 0.0
        return ""

    return set_timer


def test_the_tag_moves_only_where_the_timer_did(session, aws):
    lab = lab_of(session)
    later = clock.now() + timedelta(hours=5)
    done = extend.extend(session, lab.hosts, later, timers(aws))
    assert done.done == ("web-0", "web-2") and done.failed == {"web-1": "Connection timed out"}
    ends = {host.name: host.expires for host in find.find_lab(session, "one")}
    assert ends["web-0"] == ends["web-2"] == later.replace(microsecond=0)
    assert ends["web-1"] == lab.host("web-1").expires
    aws.pass_time(2 * 3600)
    assert [host.name for host in find.find_lab(session, "one")] == ["web-0", "web-2"]
    aws.pass_time(4 * 3600)
    assert len(find.find_lab(session, "one")) == 0


def test_nobody_is_made_to_end_earlier(session, aws):
    lab = lab_of(session)
    done = extend.extend(session, lab.hosts, clock.now() + timedelta(minutes=20), timers(aws))
    assert done.done == () and done.longer == ("web-0", "web-1", "web-2")
    assert find.find_lab(session, "one") == lab


def test_a_stopped_host_cannot_be_extended_and_is_named(account, session, aws):
    lab = lab_of(session)
    account.stop(lab.host("web-0").instance_id)
    aws.pass_time(30)
    now = find.find_lab(session, "one")
    done = extend.extend(session, now.hosts, clock.now() + timedelta(hours=5), timers(aws))
    assert done.failed["web-0"] == "stopped"


def test_the_timer_is_written_as_at_the_first_boot_and_read_back():
    when = clock.now()
    text = extend.script(when)
    assert request.set_timer(when) in text and request.set_timer(when) in request.user_data(when)
    assert re.search(r"systemctl restart labtool-expiry.timer\n", text)
    assert str(int(when.timestamp())) in text
