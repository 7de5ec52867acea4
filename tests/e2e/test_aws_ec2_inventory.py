"""The inventories that are passed to Ansible, against the local cloud: amazon.aws' plugin as it is, and the script."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
INVENTORY = ROOT / "inventory" / "labtool.aws_ec2.yml"
SCRIPT = ROOT / "inventory" / "labtool.py"
LAB = ("--lab", "plugin")
OURS = {"ansible_ssh_private_key_file", "ansible_ssh_common_args"}  # of this user's files, which a tag does not know


def plain(value):
    """Return a value without the mark that Ansible writes around what came from outside."""
    return value["__ansible_unsafe"] if isinstance(value, dict) and "__ansible_unsafe" in value else value


@pytest.fixture(scope="module")
def collections():
    fetched = [sys.executable, ROOT / "tools" / "amazon_aws.py"]
    return subprocess.run(fetched, capture_output=True, text=True, check=True, cwd=ROOT).stdout.strip()


@pytest.fixture
def both(labtool, collections):
    labtool.run("up", "kafka=2", "load=1", *LAB, "--ttl", "30m")
    hosts = {host["name"]: host for host in labtool.json("status", *LAB)[0]["hosts"]}
    tags = ("Key=labtool:var:kafka_node_id,Value=7", 'Key=labtool:also,Value="load,web"')
    labtool.aws("ec2", "create-tags", "--resources", hosts["kafka-1"]["instance_id"], "--tags", *tags)
    labtool.run("up", "other=1", "--lab", "plugin-other", "--ttl", "30m")
    endpoint = [line.split()[1:] for line in labtool.run("cloud", "start").stdout.splitlines() if "export" in line]
    environment = {
        **labtool.env,
        **dict(pair.split("=", 1) for line in endpoint for pair in line),
        "LABTOOL_LAB": "plugin",
        "ANSIBLE_COLLECTIONS_PATH": collections,
    }

    def ansible(program, *words):
        command = [str(Path(sys.executable).parent / program), *map(str, words)]
        done = subprocess.run(
            command, cwd=labtool.folder, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr or done.stdout
        return done

    try:
        listed = ansible("ansible-inventory", "-i", INVENTORY, "--list")
        answers = ansible(
            "ansible", "-i", SCRIPT, "kafka,load", "-m", "ansible.builtin.command", "-a", "hostname", "-o"
        )
        ours = json.loads(labtool.run("inventory", "--list", *LAB).stdout)
        yield json.loads(listed.stdout), ours, listed.stderr, answers.stdout
    finally:
        labtool.run("down", "--yes", *LAB)
        labtool.run("down", "--yes", "--lab", "plugin-other")


@pytest.mark.hosts
def test_the_plugin_gives_the_groups_and_variables_of_labtool_and_the_script_its_hosts(both):
    theirs, ours, said, answers = both
    assert sorted(line.partition(" ")[0] for line in answers.splitlines()) == ["kafka-0", "kafka-1", "load-0"]
    assert answers.count("rc=0") == 3
    assert "reserved name" not in said
    groups = {name: sorted(group["hosts"]) for name, group in ours.items() if name not in ("_meta", "all")}
    assert groups == {"kafka": ["kafka-0", "kafka-1"], "load": ["kafka-1", "load-0"], "web": ["kafka-1"]}
    found = {name: sorted(group["hosts"]) for name, group in theirs.items() if "hosts" in group}
    assert found.pop("aws_ec2") == ["kafka-0", "kafka-1", "load-0"], "the plugin's own group, of all"
    assert found == groups
    for host, variables in ours["_meta"]["hostvars"].items():
        seen = {key: plain(value) for key, value in theirs["_meta"]["hostvars"][host].items()}
        expected = {key: value for key, value in variables.items() if key not in OURS}
        assert {key: seen.get(key) for key in expected} == expected
        assert ("kafka_node_id" in seen) == (host == "kafka-1")


def test_every_variable_that_a_stack_keeps_in_tags_is_composed():
    composed = yaml.safe_load(INVENTORY.read_text())["compose"]
    kept = {
        name
        for file in (ROOT / "playbooks").glob("*.stack.yml")
        for group in yaml.safe_load(file.read_text())["groups"].values()
        for name in group.get("vars", {})
    }
    assert kept and kept <= composed.keys()
