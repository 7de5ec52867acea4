"""The packet filter follows EC2's state; nft itself is a recorder here."""

from __future__ import annotations

import subprocess
import threading

import pytest

from labtool.config import LocalSettings
from labtool.errors import LocalCloudError
from labtool.localcloud import firewall, network
from labtool.localcloud.ec2_backend import LabEC2Backend, Template, ami_id

NET = network.plan(LocalSettings(name="lab", subnet="198.19.240.0/24"))


class Nft:
    """Stands in for `subprocess.run`."""

    def __init__(self):
        self.scripts, self.refuses, self.gone = [], False, False

    def __call__(self, command, input=None, **_):
        if "--check" in command:
            return subprocess.CompletedProcess(command, 0, "", "")
        if "list" in command:
            return subprocess.CompletedProcess(command, 1 if self.gone else 0, "", "")
        if self.refuses:
            return subprocess.CompletedProcess(command, 1, "", "Error: no\n")
        self.scripts.append(input)
        return subprocess.CompletedProcess(command, 0, "", "")


@pytest.fixture
def nft(monkeypatch, tmp_path):
    made = Nft()
    monkeypatch.setattr(firewall.subprocess, "run", made)
    monkeypatch.setattr(firewall, "lacking", lambda: "")
    monkeypatch.setattr(firewall, "_load_br_netfilter", lambda: True)
    monkeypatch.setattr(firewall, "port_of", lambda pid: f"veth{pid}" if pid else None)
    real = firewall.Path
    monkeypatch.setattr(firewall, "Path", lambda path: tmp_path / "nf" if "nf_call" in str(path) else real(path))
    return made


@pytest.fixture
def ec2():
    return LabEC2Backend(Template("198.19.240.0/24", "debian-12", "admin"))


def launch(ec2):
    asked = {"instance_type": "t3.small", "is_instance_type_default": False, "region_name": "us-east-1"}
    return ec2.run_instances(ami_id("debian-12"), 1, None, [], **asked).instances[0]


def started(ec2):
    made = firewall.Firewall(NET, ec2, threading.RLock())
    made.start()
    return made


def test_a_host_is_admitted_with_its_port(nft, ec2, tmp_path):
    wall, instance = started(ec2), launch(ec2)
    wall.refresh()
    assert f"{instance.private_ip} : goto" in nft.scripts[-1]
    assert "veth" not in nft.scripts[-1]
    wall.attached({instance.id: 7})
    assert f'"veth7" . {instance.private_ip}' in nft.scripts[-1]
    assert (tmp_path / "nf").read_text() == "1\n"
    wall.detached(instance.id)
    assert "veth7" not in nft.scripts[-1]


def test_a_ports_name_that_is_used_again_is_the_new_hosts(nft, ec2):
    wall, first, second = started(ec2), launch(ec2), launch(ec2)
    wall.attached({first.id: 7})
    wall.attached({second.id: 7})
    assert f'"veth7" . {second.private_ip}' in nft.scripts[-1]
    assert f'"veth7" . {first.private_ip}' not in nft.scripts[-1]


def test_a_host_that_ended_as_it_began_is_no_error(nft, ec2):
    wall, instance = started(ec2), launch(ec2)
    wall.attached({instance.id: 0})
    assert "veth" not in nft.scripts[-1]


def test_nothing_new_is_nothing_to_do(nft, ec2):
    wall = started(ec2)
    for _ in range(3):
        wall.refresh()
    assert len(nft.scripts) == 1


def test_what_was_flushed_is_put_back(nft, ec2):
    wall = started(ec2)
    wall.refresh()
    assert not wall.keep()
    nft.gone = True
    assert wall.keep()
    assert len(nft.scripts) == 2
    assert nft.scripts[0] == nft.scripts[1]


def test_a_refusal_is_told_and_tried_again(nft, ec2):
    wall = started(ec2)
    nft.refuses = True
    with pytest.raises(LocalCloudError, match="Error: no"):
        wall.refresh()
    nft.refuses = False
    wall.refresh()
    assert len(nft.scripts) == 1


def test_a_machine_that_cannot_says_so(nft, ec2, monkeypatch, caplog):
    monkeypatch.setattr(firewall, "lacking", lambda: "nft")
    wall = started(ec2)
    wall.attached({launch(ec2).id: 7})
    assert not wall.enforced
    assert nft.scripts == []
    assert "NOT enforced: nft is missing" in caplog.text


def test_calls_at_the_same_time_share_the_work(nft, ec2):
    wall = started(ec2)
    with wall._lock:  # the first to compute waits; the others queue behind it
        threads = [threading.Thread(target=wall.refresh) for _ in range(10)]
        for thread in threads:
            thread.start()
    for thread in threads:
        thread.join(5)
    assert not any(thread.is_alive() for thread in threads)
    assert len(nft.scripts) == 1


@pytest.mark.parametrize(
    ("missing", "mend"), [("nft", "nftables"), ("the kernel's br_netfilter", "modprobe br_netfilter"), ("", "")]
)
def test_the_doctor_says_what_is_not_enforced(monkeypatch, settings, missing, mend):
    from labtool.localcloud import requirements

    monkeypatch.setattr(firewall, "lacking", lambda: missing)
    check = next(check for check in requirements.checks(settings) if check.name == "security groups")
    assert (check.ok, check.needed) == (not missing, False)
    assert mend in check.mend
    assert missing in check.detail


def test_what_a_machine_lacks(monkeypatch, tmp_path):
    monkeypatch.setattr(firewall, "_program", lambda _: None)
    assert firewall.lacking() == "nft"
    monkeypatch.setattr(firewall, "_program", lambda name: f"/usr/sbin/{name}")
    monkeypatch.setattr(firewall, "_LOADED", tmp_path / "absent")
    monkeypatch.setattr(firewall, "_loadable", lambda _: False)
    assert firewall.lacking() == "the kernel's br_netfilter"
    monkeypatch.setattr(firewall, "_loadable", lambda _: True)
    assert firewall.lacking() == ""


def test_a_machine_without_modprobe_loads_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(firewall, "_program", lambda _: None)
    monkeypatch.setattr(firewall, "_LOADED", tmp_path / "absent")
    assert not firewall._loadable("br_netfilter")
    assert not firewall._load_br_netfilter()
