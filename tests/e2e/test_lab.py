"""A lab's life on real hosts: a launch that is killed, more time, a host that cannot be reached, the end."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime

import pytest

pytestmark = [pytest.mark.hosts, pytest.mark.timeout(400)]

LAB = ("--lab", "life")


def test_extend_moves_the_hosts_own_timers(labtool):
    labtool.run("up", "web=2", *LAB, "--ttl", "30m", "--placement", "spread", "--zone", "us-east-1b")
    hosts = labtool.json("status", *LAB)[0]["hosts"]
    assert {host["zone"] for host in hosts} == {"us-east-1b"}
    labtool.run("extend", *LAB, "--ttl", "2h")
    (lab,) = labtool.json("status", *LAB)
    ends = {datetime.fromisoformat(host["expires"]) for host in lab["hosts"]}
    shown = "systemctl show -p NextElapseUSecRealtime --value labtool-expiry.timer"
    told = json.loads(labtool.run("exec", "--json", *LAB, "--", f'date -u -d "$({shown})" +%s').stdout)
    for result in told:
        assert {int(result["output"])} == {int(end.timestamp()) for end in ends}
    assert all(6900 < (end - datetime.now(UTC)).total_seconds() <= 7200 for end in ends)


def test_a_host_that_cannot_be_reached_keeps_its_tag_and_is_named(labtool):
    before = {host["name"]: host["expires"] for host in labtool.json("status", *LAB)[0]["hosts"]}
    # sshd goes, and with it the connection that labtool keeps open.
    labtool.run("exec", *LAB, "--on", "web-1", "--", "sudo systemd-run sh -c 'sleep 1; systemctl stop ssh; pkill sshd'")
    time.sleep(3)
    done = labtool.run("extend", *LAB, "--ttl", "5h", code=1)
    assert "web-1" in done.stderr and "1 host of lab life" in done.stdout
    after = {host["name"]: host["expires"] for host in labtool.json("status", *LAB)[0]["hosts"]}
    assert after["web-1"] == before["web-1"] and after["web-0"] > before["web-0"]


def test_all_that_labs_have_is_shown_and_all_of_it_goes(labtool):
    (lab,) = [each for each in labtool.json("status", "--all") if each["lab"] == "life"]
    kinds = sorted(thing["kind"] for thing in lab["has"])
    assert kinds == ["key pair", "placement group", "security group", "volume", "volume"]
    labtool.run("down", *LAB)
    assert [each for each in labtool.json("status", "--all") if each["lab"] == "life"] == []


def test_killed_in_the_launch_the_next_up_has_each_host_once(labtool):
    process = labtool.start("up", "web=3", *LAB)
    journal = next_file(labtool, "launch.json")
    while "ClientToken" not in journal.read_text():
        time.sleep(0.01)
    process.kill()
    process.wait()
    labtool.run("up", "web=3", *LAB)
    answer = labtool.aws("ec2", "describe-instances", "--filters", "Name=tag:labtool:lab,Values=life")
    alive = [
        json.dumps(sorted((t["Key"], t["Value"]) for t in instance["Tags"] if t["Key"] == "Name"))
        for reservation in answer["Reservations"]
        for instance in reservation["Instances"]
        if instance["State"]["Name"] == "running"
    ]
    assert len(alive) == len(set(alive)) == 3
    labtool.run("down", *LAB)


def next_file(labtool, name):
    """Return the lab's file as soon as it is there."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for found in (labtool.folder / "home").glob(f"labs/*/life/{name}"):
            return found
        time.sleep(0.01)
    raise AssertionError(f"no {name} within a minute")
