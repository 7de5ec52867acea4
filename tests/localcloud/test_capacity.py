"""What a number of hosts would need of this machine."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labtool import localcloud
from labtool.cli import connect
from labtool.config import LocalSettings, Settings
from labtool.errors import LocalCloudError
from labtool.localcloud import capacity, network
from labtool.progress import Silent

LAPTOP = capacity.Room(
    memory=8 << 30,
    disk=100 << 30,
    processors=2,
    addresses=251,
    inotify=16_384,
    neighbours=65_536,
    processes=32_000,
    terminals=4096,
)


def lacking(room, hosts, running=0):
    return {check.name for check in capacity.compare(room, hosts, running) if not check.ok}


def test_fifty_hosts_fit_on_a_laptop():
    assert not lacking(LAPTOP, 50)


def test_the_kernels_own_limits_are_too_low_for_fifty():
    """128 inotify instances and 1,024 neighbours are Linux's defaults: the local cloud raises them."""
    assert lacking(replace(LAPTOP, inotify=128, neighbours=1024), 50) == {"inotify instances", "neighbour entries"}


def test_what_runs_already_counts_for_what_is_shared_but_has_its_memory():
    assert "addresses" in lacking(LAPTOP, 200, running=60)
    assert "addresses" not in lacking(LAPTOP, 200)
    small = replace(LAPTOP, memory=2 << 30)
    assert "memory of hosts" not in lacking(small, 10, running=100)
    assert "memory of hosts" in lacking(small, 110)


@given(
    st.integers(1, 2000), st.integers(0, 500), st.integers(0, 64 << 30), st.integers(0, 1 << 40), st.integers(1, 20_000)
)
def test_fewer_hosts_never_need_more(hosts, running, memory, disk, inotify):
    room = replace(LAPTOP, memory=memory, disk=disk, inotify=inotify)
    assert lacking(room, hosts, running) <= lacking(room, hosts + 1, running)
    assert lacking(room, hosts, running) <= lacking(room, hosts, running + 1)


def test_a_limit_that_root_raises_counts_as_raised(tmp_path, monkeypatch):
    for name, value in (
        ("kernel/pid_max", 32768),
        ("kernel/pty/max", 4096),
        ("kernel/pty/nr", 6),
        *((name, 1) for name in network.KERNEL_SETTINGS),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{value}\n")
    monkeypatch.setattr(capacity, "_SYS", tmp_path)
    monkeypatch.setattr(capacity.os, "geteuid", lambda: 0)
    seen = capacity.look(LocalSettings(subnet="198.18.4.0/24"))
    assert (seen.addresses, seen.terminals) == (251, 4090)
    assert seen.inotify == network.KERNEL_SETTINGS["fs/inotify/max_user_instances"]
    monkeypatch.setattr(capacity.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(capacity.shutil, "which", lambda _name: None)
    assert capacity.look(LocalSettings(subnet="198.18.4.0/24")).inotify == 1


def test_up_refuses_before_it_starts_what_the_machine_cannot_carry(monkeypatch):
    monkeypatch.setattr(connect, "_running", lambda _chosen: 0)
    monkeypatch.setattr(capacity, "look", lambda _settings: replace(LAPTOP, memory=1 << 30))
    with pytest.raises(LocalCloudError, match=r"no room for 50 more hosts: memory of hosts: .* of 1\.0 GiB") as refused:
        connect.make_room(Settings(), 50, Silent())
    assert "there is room for 12" in str(refused.value)
    connect.make_room(Settings(), 12, Silent())
    connect.make_room(Settings(cloud="aws"), 5000, Silent())


def test_up_says_what_will_be_scarce_and_goes_on(monkeypatch):
    told = []

    class Heard(Silent):
        def line(self, text):
            told.append(text)

    monkeypatch.setattr(connect, "_running", lambda _chosen: 0)
    monkeypatch.setattr(capacity, "look", lambda _settings: replace(LAPTOP, disk=1 << 30))
    connect.make_room(Settings(), 10, Heard())
    assert len(told) == 1 and told[0].startswith("disk of hosts: 10 hosts take up to 2.9 GiB of 1.0 GiB free")


def test_doctor_tells_it_for_a_number(monkeypatch, capsys):
    from labtool.cli.app import run

    monkeypatch.setattr(localcloud, "checks", lambda _settings: [])
    monkeypatch.setattr(connect, "_running", lambda _chosen: 0)
    monkeypatch.setattr(capacity, "look", lambda _settings: replace(LAPTOP, inotify=128))
    assert run(["doctor", "--hosts", "50"]) == 1
    assert "MISS  inotify instances: 300 of 128" in capsys.readouterr().out
    assert run(["doctor", "--hosts", "20"]) == 0
