from __future__ import annotations

import json
from dataclasses import replace

import pytest

from labtool.config import LocalSettings
from labtool.errors import LocalCloudError
from labtool.localcloud import network


def settings(**more):
    return LocalSettings(**{"name": "lab", "subnet": "198.19.0.0/16", **more})


def test_names_come_from_the_clouds_name():
    planned = network.plan(settings())
    assert (planned.name, planned.bridge, planned.table) == ("lab", "lt-lab", "labtool_lab")
    assert planned.gateway == "198.19.0.1"
    longest = network.plan(settings(name="a" * 10))
    assert len(longest.bridge) <= 15  # IFNAMSIZ


@pytest.mark.parametrize("subnet", ["198.18.0.0/15", "198.19.0.0/25"])
def test_a_subnet_that_fits_no_lab_is_refused(subnet):
    with pytest.raises(LocalCloudError, match=r"local\.subnet"):
        network.plan(settings(subnet=subnet))


def test_link_local_is_dropped_before_anything_else_sees_it():
    rules = network.nft_rules(network.plan(settings()))
    assert 'iifname "lt-lab" ip daddr 169.254.0.0/16 counter drop' in rules
    assert "hook prerouting priority raw" in rules  # before NAT could send it elsewhere
    assert 'iifname != { "lt-lab", "lo" } ip daddr 198.19.0.0/16 counter drop' in rules


def test_only_the_metadata_services_port_is_let_through_and_only_to_it():
    rules = network.nft_rules(replace(network.plan(settings()), metadata_port=1234)).splitlines()
    lines = [line.strip() for line in rules]
    asked = 'iifname "lt-lab" ip daddr 169.254.169.254 tcp dport 80'
    drop = 'iifname "lt-lab" ip daddr 169.254.0.0/16 counter drop'
    before = lines.index(f"{asked} counter accept")
    assert lines[before + 1] == drop
    assert f"{asked} dnat ip to 198.19.0.1:1234" in lines
    assert lines.count(drop) == 3  # also where packets that the redirect missed would be forwarded or taken in
    without = network.nft_rules(network.plan(settings()))
    assert "dnat" not in without
    assert "169.254.169.254" not in without


def test_the_same_guard_without_nft():
    rules = network.iptables_rules(replace(network.plan(settings()), metadata_port=1234))
    assert [rule[:2] for rule in rules[:2]] == [["raw", "PREROUTING"], ["nat", "PREROUTING"]]
    assert rules[1][-1] == "198.19.0.1:1234"
    drops = [rule[:2] for rule in rules if "169.254.0.0/16" in rule and rule[-1] == "DROP"]
    assert drops == [["raw", "PREROUTING"], ["mangle", "FORWARD"], ["mangle", "INPUT"]]
    without = network.iptables_rules(network.plan(settings()))
    assert without == rules[2:]


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """A /proc/sys and a record of our own."""
    root = tmp_path / "sys"
    for name, value in (("net/ipv4/ip_forward", 0), ("vm/max_map_count", 65530)):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{value}\n")
    real = network.Path
    monkeypatch.setattr(network, "Path", lambda path: root if path == "/proc/sys" else real(path))
    monkeypatch.setattr(network, "_SHARED", tmp_path / "record.json")
    return lambda: [int((root / name).read_text()) for name in ("net/ipv4/ip_forward", "vm/max_map_count")]


def test_kernel_settings_are_restored_by_the_last_cloud(kernel, tmp_path):
    network._take_kernel_settings("one")
    network._take_kernel_settings("two")
    assert kernel() == [1, 262144]
    network._give_back_kernel_settings("one", others_run=False)
    assert kernel() == [1, 262144]
    network._give_back_kernel_settings("two", others_run=False)
    assert kernel() == [0, 65530]
    assert not (tmp_path / "record.json").exists()


def test_kernel_settings_stay_while_somebody_elses_containers_run(kernel):
    network._take_kernel_settings("one")
    network._give_back_kernel_settings("one", others_run=True)
    assert kernel() == [1, 262144]


def test_what_was_set_already_is_left_alone(kernel, tmp_path):
    (tmp_path / "sys/vm/max_map_count").write_text("1000000\n")
    (tmp_path / "sys/net/ipv4/ip_forward").write_text("1\n")
    network._take_kernel_settings("one")
    assert json.loads((tmp_path / "record.json").read_text())["before"] == {}
    network._give_back_kernel_settings("one", others_run=False)
    assert kernel() == [1, 1000000]


def test_taking_twice_is_taking_once(kernel):
    network._take_kernel_settings("one")
    network._take_kernel_settings("one")  # killed, and started again
    network._give_back_kernel_settings("one", others_run=False)
    assert kernel() == [0, 65530]
