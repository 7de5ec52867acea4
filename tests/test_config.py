from __future__ import annotations

import pytest

from labtool import config
from labtool.errors import ConfigError


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


def test_flags_beat_environment_beats_file(tmp_path, monkeypatch):
    (tmp_path / "labtool.toml").write_text('lab = "file"\nregion = "eu-west-1"\nttl = "2h"\n')
    monkeypatch.setenv("LABTOOL_LAB", "environment")
    monkeypatch.setenv("LABTOOL_REGION", "eu-central-1")
    found = config.load({"lab": "flag", "cloud": None})
    assert (found.lab, found.region, found.ttl, found.cloud) == ("flag", "eu-central-1", "2h", "local")


def test_a_parents_file_applies(tmp_path):
    (tmp_path / "labtool.toml").write_text('lab = "above"\n')
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert config.load(start=below).lab == "above"


def test_an_unknown_key_names_the_file_and_the_nearest(tmp_path):
    (tmp_path / "labtool.toml").write_text('regoin = "eu-west-1"\n')
    with pytest.raises(ConfigError) as told:
        config.load()
    assert "labtool.toml" in str(told.value) and "region" in str(told.value)


def test_a_section_of_one_source_keeps_the_others(tmp_path, monkeypatch):
    (tmp_path / "labtool.toml").write_text("[local]\nport = 4700\n")
    monkeypatch.setenv("LABTOOL_LOCAL_NAME", "mine")
    local = config.load().local
    assert (local.port, local.name) == (4700, "mine")


def test_a_wrong_value_is_told_with_its_source_its_path_and_what_it_may_be(tmp_path, monkeypatch):
    (tmp_path / "labtool.toml").write_text('[local]\nname = "My-Cloud"\n')
    monkeypatch.setenv("LABTOOL_LOCAL_PORT", "80")
    with pytest.raises(ConfigError) as told:
        config.load({"local": {"name": "mine"}})
    assert told.value.message == "environment: local.port: must be a whole number from 1024 to 65535 (it is '80')"
    monkeypatch.delenv("LABTOOL_LOCAL_PORT")
    with pytest.raises(ConfigError) as told:
        config.load()
    assert told.value.message == (
        f"{tmp_path}/labtool.toml: local.name: must be up to 10 lower-case letters and digits, a letter first "
        "(it is 'My-Cloud')"
    )
    (tmp_path / "labtool.toml").write_text("[local]\nprot = 4700\n")
    with pytest.raises(ConfigError) as told:
        config.load()
    assert str(told.value) == f"{tmp_path}/labtool.toml: local: unknown setting: prot\n  did you mean port?"


@pytest.mark.parametrize(("text", "spot"), [("yes", True), ("ON", True), ("1", True), ("no", False), ("false", False)])
def test_a_switch_of_the_environment_is_written_as_people_write_it(monkeypatch, text, spot):
    monkeypatch.setenv("LABTOOL_AWS_SPOT", text)
    assert config.load().aws.spot is spot
    monkeypatch.setenv("LABTOOL_AWS_SPOT", "perhaps")
    with pytest.raises(ConfigError, match=r"environment: aws\.spot: must be true or false \(it is 'perhaps'\)"):
        config.load()


@pytest.mark.parametrize("subnet", ["10.0.0.0/16", "192.0.2.0/24", "198.18.0.0/14", "fd00::/64", "nonsense"])
def test_hosts_live_in_the_benchmark_network_only(monkeypatch, subnet):
    monkeypatch.setenv("LABTOOL_LOCAL_SUBNET", subnet)
    with pytest.raises(ConfigError, match=r"environment: local\.subnet"):
        config.load()


def test_broken_toml_names_the_file(tmp_path):
    (tmp_path / "labtool.toml").write_text("lab = \n")
    with pytest.raises(ConfigError, match=r"labtool\.toml"):
        config.load()


@pytest.mark.parametrize(
    "jump", ["bastion", "me@bastion.example.org:2222", "a,b@c", "ssh://me@b:22", "[fd00::1]:22", "none"]
)
def test_a_jump_host_is_a_setting_of_every_source(tmp_path, monkeypatch, jump):
    assert config.load().proxy_jump is None
    (tmp_path / "labtool.toml").write_text(f'proxy_jump = "{jump}"\n')
    assert config.load().proxy_jump == jump
    monkeypatch.setenv("LABTOOL_PROXY_JUMP", "environment")
    assert config.load().proxy_jump == "environment"
    assert config.load({"proxy_jump": jump}).proxy_jump == jump


@pytest.mark.parametrize("jump", ["-oProxyCommand=x", "a b", "a;b", "$(x)", "a,", ",a", "a\nb", ""])
def test_what_ssh_would_read_as_more_than_a_host_is_none(jump):
    with pytest.raises(ConfigError, match=r"command line: proxy_jump: must be \[user@\]host"):
        config.load({"proxy_jump": jump})


def test_how_hosts_are_launched_has_a_section_of_its_own(tmp_path, monkeypatch):
    (tmp_path / "labtool.toml").write_text('[aws]\nzones = ["us-east-1b"]\nspot = true\n')
    monkeypatch.setenv("LABTOOL_AWS_ROOT_GIB", "40")
    found = config.load({"aws": {"placement": "spread"}}).aws
    assert (found.zones, found.spot, found.root_gib, found.placement) == (("us-east-1b",), True, 40, "spread")
    monkeypatch.setenv("LABTOOL_AWS_ZONES", "a, b c")
    assert config.load().aws.zones == ("a", "b", "c")


@pytest.mark.parametrize(
    ("text", "names"),
    [("root_gib = 4", "aws.root_gib"), ('placement = "near"', "aws.placement"), ("zone = 3", "zones")],
)
def test_a_wrong_launch_setting_is_named(tmp_path, text, names):
    (tmp_path / "labtool.toml").write_text(f"[aws]\n{text}\n")
    with pytest.raises(ConfigError) as told:
        config.load()
    assert "labtool.toml" in str(told.value) and names in str(told.value)
