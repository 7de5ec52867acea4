"""A dozen hosts at once. Fifty, with the collector on each, are benchmarks/fifty_hosts.py's."""

from __future__ import annotations

from pathlib import Path

import pytest

from labtool.localcloud import network

pytestmark = [pytest.mark.hosts, pytest.mark.timeout(400)]

HOSTS = 12
LAB = "dozen"


def test_a_dozen_hosts_come_up_with_room_for_fifty(labtool):
    try:
        hosts = labtool.json("up", f"n={HOSTS}", "--type", "t3.nano", "--lab", LAB)
        assert sorted(host["name"] for host in hosts) == sorted(f"n-{index}" for index in range(HOSTS))
        assert len({host["address"] for host in hosts}) == HOSTS
        for name in ("fs/inotify/max_user_instances", "net/ipv4/neigh/default/gc_thresh3"):
            assert int((Path("/proc/sys") / name).read_text()) >= network.KERNEL_SETTINGS[name]
        said = labtool.run("exec", "--lab", LAB, "--", "systemctl is-active sshd systemd-logind || systemctl --failed")
        assert said.stdout.count("active") >= 2 * HOSTS
        assert "inactive" not in said.stdout
    finally:
        labtool.run("down", "--lab", LAB, "--yes")
