import importlib.util
import os
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labtool import content
from labtool.ansible import command
from labtool.errors import AnsibleError

HOSTS = {"_meta": {"hostvars": {}}, "web": {"hosts": ["web-0", "web-1", "web-2"]}}


@pytest.fixture
def playbook(tmp_path):
    path = tmp_path / "my site.yml"
    path.write_text("[]")
    return path


def test_what_a_call_is_made_of(playbook):
    made = command.build(
        playbook, HOSTS, extra_vars={"path": Path("/x"), "n": 3, "on": True, "list": (1, Path("/y"))},
        tags=["a", "b"], limit="web-0", check=True, environ={},
    )  # fmt: skip
    assert made.hosts == ("web-0", "web-1", "web-2")
    assert made.extra_vars == {"path": "/x", "n": 3, "on": True, "list": [1, "/y"]}
    assert made.forks == 3
    assert made.options == ("--forks", "3", "--limit", "web-0", "--tags", "a,b", "--check")


def test_it_can_be_read_as_a_shells_command_and_hides_secrets(playbook):
    made = command.build(
        playbook,
        HOSTS,
        extra_vars={"db_password": "hunter2", "api_token": "t0ken", "bypass": "it's", "n": 3},
        environ={},
    )
    text = made.shell("hosts.yml")
    # It is signed: whoever has it can fetch.
    assert "X-Amz" not in command.build(playbook, HOSTS, extra_vars={"artifact_url": "X-Amz"}, environ={}).shell()
    assert "hunter2" not in text
    assert "t0ken" not in text
    words = shlex.split(text.replace("\\\n", " "))
    assert words[words.index("ansible-playbook") + 1 :] == [
        "-i", "hosts.yml", "--forks", "3", "-e", "db_password='(hidden)'", "-e", "api_token='(hidden)'",
        "-e", "bypass='it'\"'\"'s'", "-e", '{"n": 3}', str(playbook),
    ]  # fmt: skip
    assert "ANSIBLE_STRATEGY=mitogen_linear" in words


@pytest.mark.parametrize("strategy", ["mitogen", "linear"])
def test_the_environment(strategy):
    env = command.environment(strategy, {"PATH": "/usr/bin", "ANSIBLE_ROLES_PATH": "/mine"})
    assert env["ANSIBLE_PIPELINING"] == "1"
    assert env["ANSIBLE_HOST_KEY_CHECKING"] == "1"
    assert env["ANSIBLE_ROLES_PATH"] == f"/mine:{content.root() / 'roles'}"
    assert env["PATH"].endswith(":/usr/bin")
    assert (Path(env["PATH"].split(":")[0]) / "ansible-playbook").exists()
    assert env["ANSIBLE_STRATEGY"] == {"mitogen": "mitogen_linear", "linear": "linear"}[strategy]
    if strategy == "mitogen":
        assert (Path(env["ANSIBLE_STRATEGY_PLUGINS"]) / "mitogen_linear.py").is_file()
    else:
        assert "ANSIBLE_STRATEGY_PLUGINS" not in env


def test_mitogen_notices_a_host_that_went_silently_as_soon_as_ssh_does(playbook):
    inventory = HOSTS | {"all": {"vars": {"mitogen_ssh_compression": True}}}
    variables = command.build(playbook, inventory, environ={}).inventory["all"]["vars"]
    assert variables["mitogen_ssh_keepalive_interval"] * variables["mitogen_ssh_keepalive_count"] == 30
    assert variables["mitogen_ssh_compression"] is True  # the inventory's own word holds
    assert command.build(playbook, inventory, strategy="linear", environ={}).inventory == inventory


def test_the_users_settings_hold_but_for_those_that_would_harm():
    theirs = {
        "ANSIBLE_TIMEOUT": "60",
        "ANSIBLE_CONFIG": "/mine/ansible.cfg",
        "ANSIBLE_PIPELINING": "0",
        "ANSIBLE_HOST_KEY_CHECKING": "False",
        "ANSIBLE_STDOUT_CALLBACK": "json",
        "ANSIBLE_STRATEGY": "free",
        "JOB_ID": "not a number",
        "AD_HOC_COMMAND_ID": "1",
    }
    env = theirs | command.environment("linear", theirs)
    assert env["ANSIBLE_TIMEOUT"] == "60"
    assert env["ANSIBLE_CONFIG"] == "/mine/ansible.cfg"
    assert env["ANSIBLE_PIPELINING"] == "0"
    assert env["ANSIBLE_HOST_KEY_CHECKING"] == "1"
    assert env["ANSIBLE_STDOUT_CALLBACK"] == "default"
    assert env["ANSIBLE_STRATEGY"] == "linear"
    assert env["JOB_ID"] == env["AD_HOC_COMMAND_ID"] == ""


@given(st.integers(0, 5000), st.integers(1, 256))
def test_forks(hosts, cores):
    forks = command.forks_for(hosts, cores)
    assert 1 <= forks <= 50
    assert forks <= max(hosts, 1)
    assert forks <= 10 * cores
    assert forks in {1, hosts, 10 * cores, 50}


def test_forks_that_are_asked_for(playbook):
    assert command.build(playbook, HOSTS, forks=1, environ={"ANSIBLE_FORKS": "7"}).forks == 1
    assert command.build(playbook, HOSTS, environ={"ANSIBLE_FORKS": "7"}).forks == 7
    assert command.build(playbook, HOSTS, environ={"ANSIBLE_FORKS": "many"}).forks == min(3, 10 * os.cpu_count())


def test_without_mitogen_there_is_a_way_out(playbook, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ansible_mitogen" else find(name))
    with pytest.raises(AnsibleError, match="mitogen is not installed") as error:
        command.build(playbook, HOSTS, environ={})
    assert "--strategy linear" in error.value.hint
    assert command.build(playbook, HOSTS, strategy="linear", environ={}).env["ANSIBLE_STRATEGY"] == "linear"
