"""The playbooks as a sysadmin finds them: they parse from any folder, with the example inventory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from labtool import stacks
from tests.roles.modules import ROOT

BIN = Path(sys.executable).parent
PLAYBOOKS = [
    "kafka-cluster.yml",
    "kafka-restart.yml",
    "web.yml",
    "spark-cluster.yml",
    "front-cluster.yml",
    "health.yml",
    "countdown.yml",
    "workloads/kafka-throughput.yml",
    "workloads/countdown.yml",
    "workloads/http-load.yml",
    "workloads/http-sequential.yml",
    "workloads/http-ab.yml",
    "workloads/trace-replay.yml",
    "workloads/kafka-trace-replay.yml",
    "workloads/spark-job.yml",
]


def ansible(program: str, *words: str, cwd: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    done = subprocess.run(
        [str(BIN / program), *words],
        cwd=cwd,
        env={**environment, "PATH": f"{BIN}:{environment['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    """What each playbook would do, listed by one call of Ansible from a folder that has nothing of ours."""
    paths = [str(ROOT / "playbooks" / playbook) for playbook in PLAYBOOKS]
    inventory = str(ROOT / "inventory/example.yml")
    told = ansible(
        "ansible-playbook", "-i", inventory, "--list-tasks", *paths, cwd=tmp_path_factory.mktemp("elsewhere")
    )
    return dict(part.split("\n", 1) for part in told.split("playbook: ")[1:])


@pytest.mark.slow
@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_parses_from_any_folder(playbook, listed):
    assert "play #1" in listed[str(ROOT / "playbooks" / playbook)]


@pytest.mark.slow
def test_group_vars_are_found_beside_the_playbooks(tmp_path):
    words = ["-i", str(ROOT / "inventory/example.yml"), "--list", "--playbook-dir", str(ROOT / "playbooks")]
    hosts = json.loads(ansible("ansible-inventory", *words, cwd=tmp_path))["_meta"]["hostvars"]
    shared = yaml.safe_load((ROOT / "group_vars/all.yml").read_text())
    assert shared.items() <= hosts["kafka-0"].items()
    assert [hosts[f"kafka-{at}"]["kafka_node_id"] for at in range(3)] == [1, 2, 3]


ROLES = [
    "artifact",
    "java",
    "hostnames",
    "kafka",
    "packages",
    "app_service",
    "maven_app",
    "python_app",
    "web_service",
    "httpd",
    "php",
    "haproxy",
    "spark",
]


@pytest.mark.parametrize("role", ROLES)
def test_argument_specs_agree_with_the_defaults(role):
    folder = ROOT / "roles" / role
    described = yaml.safe_load((folder / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    defaults = yaml.safe_load((folder / "defaults/main.yml").read_text())
    assert set(defaults) <= set(described)
    assert all(name.startswith(f"{role}_") for name in described)
    for name, value in defaults.items():
        if "default" in described[name] and "{{" not in str(value):
            assert described[name]["default"] == value, name
    assert (folder / "README.md").is_file() and (folder / "meta/main.yml").is_file()


def test_declarations():
    stack = stacks.stacks()["kafka-cluster"]
    groups = {group.name: group for group in stack.groups(stack.values({"brokers": "5", "controllers": "3"}))}
    assert (groups["kafka"].count, groups["controller"].count) == (5, 3)
    made = {var.name: var for var in groups["kafka"].vars}
    assert (made["kafka_node_id"].make, made["kafka_node_id"].base) == ("index", 1)
    assert (made["kafka_cluster_id"].make, made["kafka_cluster_id"].scope) == ("uuid", "lab")
    assert stack.extra_vars(stack.values()) == {"kafka_version": "4.3.0"}
    workload = stacks.workloads()["kafka-throughput"]
    assert workload.extra_vars(workload.values({"rate": "-1"}))["throughput_rate"] == -1


def test_every_variable_of_a_declaration_is_known_to_its_playbook():
    spec = yaml.safe_load((ROOT / "roles/kafka/meta/argument_specs.yml").read_text())
    known = set(spec["argument_specs"]["main"]["options"])
    assert {one.var for one in stacks.stacks()["kafka-cluster"].options.values() if one.var} <= known
    for workload in ("kafka-throughput", "countdown"):
        play = yaml.safe_load((ROOT / f"playbooks/workloads/{workload}.yml").read_text())[0]
        assert {one.var for one in stacks.workloads()[workload].options.values() if one.var} <= set(play["vars"])


def test_the_stack_web():
    web = stacks.stack("web")
    assert [(group.name, group.count) for group in web.groups(web.values())] == [("web", 1)]
    groups = web.groups(web.values({"fronts": "3", "balancer": "true"}))
    assert [(group.name, group.count) for group in groups] == [("web", 3), ("balancer", 1)]
    known = {"web_php", "web_root"}
    for role in ("httpd", "php", "haproxy"):
        spec = yaml.safe_load((ROOT / "roles" / role / "meta/argument_specs.yml").read_text())
        known |= set(spec["argument_specs"]["main"]["options"])
    assert {one.var for one in web.options.values() if one.var} <= known


def test_the_stack_front_cluster():
    front = stacks.stack("front-cluster")
    assert {group.name: group.count for group in front.groups(front.values())} == {
        "kafka": 3,
        "spark_master": 1,
        "spark_worker": 1,
        "web": 2,
    }
    (one,) = front.groups(front.values({"one_host": "true", "brokers": "5"}))
    assert (one.name, one.count) == ("front", 1)
    assert {var.name for var in one.vars} == {"kafka_node_id", "kafka_cluster_id"}
    text = (ROOT / "playbooks/front-cluster.yml").read_text()
    spec = yaml.safe_load((ROOT / "roles/kafka/meta/argument_specs.yml").read_text())
    kafka = set(spec["argument_specs"]["main"]["options"])
    assert all(option.var in text or option.var in kafka for option in front.options.values() if option.var)
    order = [
        "kafka-cluster.yml",
        "tasks_from: topics",
        "spark-cluster.yml",
        "app_service\n",
        "web.yml",
        "group-manager",
    ]
    assert sorted(order, key=text.index) == order
