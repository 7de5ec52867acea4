"""Ending labs, and finding what labs left."""

from __future__ import annotations

from datetime import timedelta

import pytest
from fake.promises import Promises

from labtool.cloud import bill, bucket, clock, end, find, launch, leftovers
from labtool.cloud.price import ADDRESS_USD_PER_HOUR, MONITORING_USD_PER_HOUR, SHIPPED
from labtool.errors import CloudError
from labtool.progress import Silent
from labtool.topology import GroupSpec


def up(session, lab="one", *, count=2, hours=4):
    return launch.up(
        session,
        lab,
        [GroupSpec("web", count, "t3.small")],
        image=None,
        ttl=timedelta(hours=hours),
        progress=Silent(),
    )


def down(session, lab="one", **options):
    return end.down(session, lab, Silent(), **options)


def test_down_returns_when_volumes_are_gone_too(session, aws):
    up(session)
    aws.promises = Promises(volume_lag=40, shutting_down=30)
    down(session)
    assert aws.ec2.left() == []


def test_a_volume_that_was_made_to_stay_is_removed(session, aws):
    up(session)
    for volume in aws.ec2.volumes.values():
        volume.data["DeleteOnTermination"] = False
    down(session)
    assert aws.ec2.left() == []
    assert aws.counted()["DeleteVolume"] == 2


def test_other_labs_stay(session, aws):
    up(session, "one")
    up(session, "another")
    down(session, "one")
    assert len(find.find_lab(session, "another")) == 2
    assert [p.id for p in aws.ec2.pairs.values() if p.exists(aws.clock.elapsed)] == ["labtool-another"]


def test_down_from_another_machine_needs_no_journal(session, aws, tmp_path, monkeypatch):
    aws.promises = Promises(lag=10)
    up(session)
    monkeypatch.setenv("LABTOOL_HOME", str(tmp_path))
    down(session)
    assert aws.ec2.left() == []


def test_what_would_not_go_is_named(session, aws):
    up(session)
    aws.promises = Promises(shutting_down=10_000)
    with pytest.raises(CloudError, match="there still are 2 hosts"):
        down(session, deadline_s=60)


def test_one_unknown_instance_does_not_keep_the_others_alive(session, aws):
    ids = [host.instance_id for host in up(session)]
    end.terminate(session, ["i-00000000000000fff", *ids])
    assert not any(i.alive(aws.clock.elapsed) for i in aws.ec2.instances.values())


def test_everything_that_any_lab_has_is_found_with_its_price(session, aws):
    up(session, "one")
    lab = up(session, "two", count=1)
    session.ec2.terminate_instances(InstanceIds=[lab.hosts[0].instance_id])
    for volume in aws.ec2.volumes.values():
        if volume.data["instance"] == lab.hosts[0].instance_id:
            volume.deleted = float("inf")  # it was made to stay
    aws.pass_time(60)
    found = leftovers.find_everything(session)
    assert [each.name for each in found.labs] == ["one"]
    assert found.without_hosts == ("two",)
    assert {thing.kind for thing in found.of("two")} == {"volume", "security group", "key pair"}
    assert leftovers.counted(found.of("one")) == "1 key pair, 1 security group, 2 volumes"
    host = 0.0208 + ADDRESS_USD_PER_HOUR + MONITORING_USD_PER_HOUR
    assert found.price(SHIPPED).usd_per_hour == pytest.approx(2 * host + 3 * 20 * 0.08 / 730)
    assert bill.of_hosts(found.labs[0], SHIPPED).usd_per_hour == pytest.approx(2 * (host + 20 * 0.08 / 730))


def test_a_stopped_host_costs_its_disk(account, session, aws):
    lab = up(session, count=1)
    account.stop(lab.hosts[0].instance_id)
    aws.pass_time(30)
    assert bill.of_hosts(find.find_lab(session, "one"), SHIPPED).usd_per_hour == pytest.approx(20 * 0.08 / 730)


def test_expired_means_every_host_is(session):
    lab = up(session, hours=1)
    assert end.expired([lab], clock.now()) == []
    assert end.expired([lab], clock.now() + timedelta(hours=2)) == [lab]


def test_a_lab_that_is_being_launched_is_not_abandoned(session, aws):
    """Its group and key are there before its first host."""
    up(session, hours=1)
    session.ec2.terminate_instances(InstanceIds=list(aws.ec2.instances))
    aws.pass_time(60)
    found = leftovers.find_everything(session)
    assert found.without_hosts == ("one",)
    assert found.abandoned(clock.now()) == ()
    assert found.abandoned(clock.now() + timedelta(hours=1)) == ("one",)


def test_a_host_whose_own_timer_fails_is_ended_by_the_tag(session, aws):
    up(session, hours=1)
    aws.pass_time(1800)
    lab = launch.up(
        session, "one", [GroupSpec("load", 1, "t3.small")], image=None, ttl=timedelta(hours=4), progress=Silent()
    )
    assert len(lab) == 3
    aws.promises = Promises(hung=frozenset({"web-0"}))
    aws.pass_time(3600)
    now = clock.now()
    labs = find.find_labs(session)
    assert [h.name for h in labs[0]] == ["load-0", "web-0"]
    assert end.expired(labs, now) == []
    assert end.end_expired_hosts(session, labs, now) == ["web-0"]
    aws.pass_time(60)
    assert [h.name for h in find.find_lab(session, "one")] == ["load-0"]


def test_a_bucket_that_is_left_alone_is_shown_and_removed_from_anywhere(session, aws):
    home = bucket.of_lab(session, "one")
    aws.s3.make(home.name, {"labtool:lab": "one"}, ("an archive",))
    aws.s3.make("somebody-elses", {"labtool:lab": "one"})
    found = leftovers.find_everything(session)
    assert found.without_hosts == ("one",) and [thing.id for thing in found.things] == [home.name]
    assert end.known(session, "one") == "one"
    end.down(session, "one", Silent())
    assert set(aws.s3.buckets) == {"somebody-elses"}
