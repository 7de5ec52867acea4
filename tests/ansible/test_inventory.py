import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labtool.ansible import inventory
from labtool.errors import UsageError
from labtool.ssh import Access
from labtool.topology import Host, Lab

ACCESS = Access(Path("/keys/a lab/id"), Path("/keys/a lab/known_hosts"), Path("/run/cm"))
BIN = Path(sys.executable).parent


def host(group: str, index: int, *, state: str = "running", **variables: str) -> Host:
    return Host(
        name=f"{group}-{index}",
        group=group,
        index=index,
        instance_id=f"i-{index:017x}",
        state=state,
        instance_type="t3.small",
        address=f"198.18.0.{10 + index}",
        private_address=f"198.18.0.{10 + index}",
        zone="us-east-1a",
        image_id="ami-1",
        login="admin",
        launched=datetime(2026, 1, 1, tzinfo=UTC),
        vars=variables,
    )


def lab(*hosts: Host) -> Lab:
    return Lab("demo", "us-east-1", hosts)


@pytest.fixture
def demo() -> dict:
    return inventory.of_lab(
        lab(
            host("kafka", 0, kafka_node_id="1", kafka_cluster_id="0QAD-_x"),
            host("kafka", 1, kafka_node_id="2", kafka_cluster_id="0QAD-_x"),
            host("load", 0),
        ),
        ACCESS,
    )


def test_a_host_that_is_all_of_a_system_is_in_each_of_its_groups():
    front = replace(host("front", 0, kafka_node_id="1"), also=("kafka", "web"))
    made = inventory.of_lab(lab(host("web", 1), front, host("load", 0)), ACCESS)
    assert made["kafka"]["hosts"] == made["front"]["hosts"] == ["front-0"]
    assert made["web"]["hosts"] == ["web-1", "front-0"]
    assert made["_meta"]["hostvars"]["front-0"]["labtool_group"] == "front"


def read_by_ansible(path: Path) -> dict[str, dict]:
    """What Ansible itself understands: host → its variables, groups included."""
    from ansible.inventory.manager import InventoryManager
    from ansible.parsing.dataloader import DataLoader

    manager = InventoryManager(loader=DataLoader(), sources=[str(path)])
    found = {}
    for each in manager.get_hosts():
        variables = dict(manager.groups["all"].vars)
        for group in each.get_groups():
            variables |= group.vars
        variables |= each.vars
        variables.pop("inventory_file", None), variables.pop("inventory_dir", None)
        groups = sorted(g.name for g in each.get_groups() if g.name not in {"all", "ungrouped"})
        found[each.name] = {"groups": groups, "vars": json.loads(json.dumps(variables))}
    return found


def test_hosts_have_the_variables_that_ssh_needs(demo):
    variables = demo["_meta"]["hostvars"]["kafka-1"]
    assert variables["ansible_host"] == "198.18.0.11"
    assert variables["ansible_user"] == "admin"
    assert variables["labtool_index"] == 1
    assert variables["labtool_group"] == "kafka"
    assert variables["kafka_node_id"] == 2
    assert variables["kafka_cluster_id"] == "0QAD-_x"
    assert "StrictHostKeyChecking=yes" in variables["ansible_ssh_common_args"]
    assert "'UserKnownHostsFile=/keys/a lab/known_hosts'" in variables["ansible_ssh_common_args"]


def test_only_running_hosts_are_offered():
    data = inventory.of_lab(lab(host("kafka", 0), host("kafka", 1, state="stopped")), ACCESS)
    assert data["kafka"]["hosts"] == ["kafka-0"]
    assert inventory.hosts(data) == ("kafka-0",)


def test_an_empty_lab_is_an_empty_inventory():
    data = inventory.of_lab(lab(), ACCESS)
    assert inventory.hosts(data) == ()
    assert inventory.tree(data) == {"all": {"children": {"ungrouped": {}}}}


def test_integers_stay_integers_and_what_only_looks_like_one_stays_text():
    variables = inventory.host_vars("demo", host("a", 0, n="12", zero="0", padded="007", minus="-3", v="4.3"), ACCESS)
    assert [variables[k] for k in ("n", "zero", "padded", "minus", "v")] == [12, 0, "007", -3, "4.3"]


def test_labtools_own_variables_win_over_tags():
    assert inventory.host_vars("demo", host("a", 3, labtool_index="9"), ACCESS)["labtool_index"] == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x", "{{ lookup('pipe', 'id') }}"),
        ("x", "{% if 1 %}a{% endif %}"),
        ("ansible_connection", "local"),
        ("not a name", "1"),
    ],
)
def test_a_tag_cannot_make_ansible_run_something_on_the_controller(name, value):
    with pytest.raises(UsageError, match="host a-0"):
        inventory.host_vars("demo", host("a", 0, **{name: value}), ACCESS)


def test_script_protocol(demo):
    listed = json.loads(inventory.script_answer(demo, ["--list"]))
    assert listed == demo
    one = json.loads(inventory.script_answer(demo, ["--host", "load-0"]))
    assert one == demo["_meta"]["hostvars"]["load-0"]
    with pytest.raises(UsageError, match="unknown host: kafka-9") as error:
        inventory.script_answer(demo, ["--host", "kafka-9"])
    assert "kafka-1" in error.value.hint


@pytest.mark.slow
def test_graph_is_what_ansible_inventory_draws(demo, tmp_path):
    demo["stores"] = {"children": ["kafka"]}
    script = tmp_path / "source"
    script.write_text(f"#!/bin/sh\ncat <<'EOF'\n{inventory.as_json(demo)}\nEOF\n")
    script.chmod(0o755)
    drawn = subprocess.run(
        [BIN / "ansible-inventory", "-i", script, "--graph"], capture_output=True, text=True, check=True
    ).stdout
    assert inventory.as_graph(demo) == drawn


def test_connection_options_stand_once_in_text(demo):
    assert inventory.as_yaml(demo).count("StrictHostKeyChecking") == 1


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_text_forms_say_what_the_data_say(demo, tmp_path, form):
    path = tmp_path / f"hosts.{form}"
    path.write_text(
        {
            "yaml": inventory.as_yaml,
            "json": lambda data: json.dumps(inventory.tree(data)),
        }[form](demo)
    )
    expected = {
        name: {"groups": [name.rsplit("-", 1)[0]], "vars": variables}
        for name, variables in demo["_meta"]["hostvars"].items()
    }
    assert read_by_ansible(path) == expected


values = st.one_of(
    st.integers(-(10**12), 10**12),
    st.booleans(),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=20),
    st.sampled_from(
        ["None", "True", "12", "007", "a b", "a=b", "#x", "'", '"', "\\", "[1, 2]", " x ", "%C", "a\nb", ""]
    ),
)


@pytest.mark.slow
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(st.sampled_from(["v", "w", "ansible_x"]), values), min_size=1, max_size=3))
def test_every_value_survives_yaml(tmp_path, variables):
    data = {
        "_meta": {"hostvars": {f"h{i}": v for i, v in enumerate(variables)}},
        "all": {"children": ["ungrouped", "g"]},
        "g": {"hosts": [f"h{i}" for i in range(len(variables))]},
    }
    expected = {f"h{i}": {"groups": ["g"], "vars": v} for i, v in enumerate(variables)}
    path = tmp_path / "hosts.yml"
    path.write_text(inventory.as_yaml(data), encoding="utf-8")
    assert read_by_ansible(path) == expected
