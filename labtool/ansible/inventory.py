"""An Ansible inventory of a lab: as data, as YAML, as a tree. Pure functions, no input or output.

The data are those of Ansible's script protocol (`--list`):
https://docs.ansible.com/ansible/latest/dev_guide/developing_inventory.html#inventory-script-conventions
"""

from __future__ import annotations

import argparse
import functools
import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from labtool import ssh
from labtool.errors import UsageError, unknown
from labtool.ssh import Access
from labtool.topology import Host, Lab

Inventory = Mapping[str, Any]
"""Group name → {hosts, children, vars}, and `_meta` → {hostvars: host name → {variable: value}}."""

INTERPRETER = "/usr/bin/python3"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")
_TEMPLATE = re.compile(r"\{[{%#]")


def of_lab(lab: Lab, access: Access) -> dict[str, Any]:
    """Return the inventory of the hosts of `lab` that run; a host that does not run has no address to offer.

    `UsageError` if a tag holds a template or names one of Ansible's own variables: Ansible would run it here,
    on the controller, and whoever may tag an instance is not by that allowed to do so.
    """
    running = Lab(lab.name, lab.region, lab.running).groups
    groups = dict(running)
    for host in (host for hosts in running.values() for host in hosts):
        for name in host.also:
            groups[name] = (*groups.get(name, ()), host)
    data: dict[str, Any] = {
        "_meta": {"hostvars": {h.name: host_vars(lab.name, h, access) for g in running.values() for h in g}},
        "all": {"children": ["ungrouped", *groups]},
    }
    return data | {name: {"hosts": [host.name for host in hosts]} for name, hosts in groups.items()}


def host_vars(lab: str, host: Host, access: Access) -> dict[str, str | int]:
    """Return the variables Ansible gets for one host."""
    made: dict[str, str | int] = {}
    for name, text in host.vars.items():
        if not _VARIABLE.fullmatch(name) or name.startswith("ansible_"):
            raise UsageError(
                f"host {host.name}: the tag labtool:var:{name} is not a variable that a tag may set",
                "remove the tag; a name is letters, digits and _, and does not begin with ansible_",
            )
        made[name] = int(text) if _INTEGER.fullmatch(text) else text
    made |= {
        "ansible_host": host.address,
        "ansible_user": host.login,
        "ansible_ssh_private_key_file": str(access.key),
        "ansible_ssh_common_args": _ssh_arguments(access, host),
        "ansible_python_interpreter": INTERPRETER,
        "labtool_lab": lab,
        "labtool_group": host.group,
        "labtool_index": host.index,
        "labtool_instance_id": host.instance_id,
        "labtool_private_address": host.private_address,
    }
    for name, value in made.items():
        if isinstance(value, str) and _TEMPLATE.search(value):
            raise UsageError(
                f"host {host.name}: variable {name} holds a template: {value!r}",
                f"correct the tags of instance {host.instance_id}",
            )
    return made


def _ssh_arguments(access: Access, host: Host) -> str:
    if ssh.proxy_command(host):
        return shlex.join(ssh.options(access, host=host))
    return _shared_arguments(access)


@functools.lru_cache
def _shared_arguments(access: Access) -> str:
    """Return the options of every host that SSH reaches at its address: quoted once, not a thousand times."""
    return shlex.join(ssh.options(access))


def as_json(inventory: Inventory) -> str:
    """Return what a script answers to `--list`."""
    return json.dumps(inventory, indent=2)


def one_host(inventory: Inventory, name: str) -> str:
    """Return what a script answers to `--host NAME`."""
    known = inventory["_meta"]["hostvars"]
    if name not in known:
        raise unknown("host", name, known)
    return json.dumps(known[name], indent=2)


def tree(inventory: Inventory) -> dict[str, Any]:
    """Return the same inventory in the nested form that Ansible's YAML and JSON files have."""
    hostvars = inventory.get("_meta", {}).get("hostvars", {})
    written: set[str] = set()

    def group(name: str) -> dict[str, Any]:
        data = inventory.get(name, {})
        body: dict[str, Any] = {}
        if hosts := data.get("hosts"):
            # A host of several groups has its variables written once.
            body["hosts"] = {h: (dict(hostvars.get(h, {})) if h not in written else {}) for h in hosts}
            written.update(hosts)
        if children := _children(inventory, name):
            body["children"] = {child: group(child) for child in children}
        if data.get("vars"):
            body["vars"] = dict(data["vars"])
        return body

    return {"all": group("all")}


def as_yaml(inventory: Inventory) -> str:
    """Return the inventory as a YAML file; what all hosts have in common stands once, under `all: vars`."""
    import yaml

    text: str = yaml.safe_dump(tree(_lifted(inventory)), sort_keys=False, width=1000)
    return text


def as_graph(inventory: Inventory) -> str:
    """Return the tree that `ansible-inventory --graph` prints."""

    def lines(name: str, depth: int) -> list[str]:
        found = ["  |" * depth + f"--@{name}:" if depth else f"@{name}:"]
        for child in _children(inventory, name):
            found += lines(child, depth + 1)
        found += ["  |" * (depth + 1) + f"--{host}" for host in inventory.get(name, {}).get("hosts", ())]
        return found

    return "\n".join(lines("all", 0)) + "\n"


def script_answer(inventory: Inventory, argv: Sequence[str]) -> str:
    """Return what an inventory script prints for `argv`: `--list`, `--host NAME` or `--graph`."""
    parser = argparse.ArgumentParser("inventory", description="The hosts of a lab, for ansible-playbook -i.")
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--list", action="store_true", help="all groups, hosts and variables, as JSON")
    asked.add_argument("--host", metavar="NAME", help="the variables of one host, as JSON")
    asked.add_argument("--graph", action="store_true", help="groups and hosts, as a tree")
    arguments = parser.parse_args(argv)
    if arguments.host is not None:
        return one_host(inventory, arguments.host)
    # Without indentation: json writes that in C, and only Ansible reads it.
    return as_graph(inventory) if arguments.graph else json.dumps(inventory)


def hosts(inventory: Inventory) -> tuple[str, ...]:
    """Return the names of all hosts, each once, in the order of the groups."""
    named: dict[str, None] = {}
    for name in _groups(inventory):
        named |= dict.fromkeys(inventory.get(name, {}).get("hosts", ()))
    named |= dict.fromkeys(inventory.get("_meta", {}).get("hostvars", {}))
    return tuple(named)


def _groups(inventory: Inventory) -> Iterable[str]:
    named = [name for name in inventory if name not in {"_meta", "all", "ungrouped"}]
    return ["all", "ungrouped", *named]


def _children(inventory: Inventory, name: str) -> list[str]:
    """Return a group's children; a group that no other one holds is a child of `all`."""
    stated = list(inventory.get(name, {}).get("children", ()))
    if name != "all":
        return stated
    held = {child for other in inventory if other != "_meta" for child in inventory[other].get("children", ())}
    loose = [other for other in inventory if other not in {"_meta", "all", *held}]
    return [*stated, *loose]


def _lifted(inventory: Inventory) -> Inventory:
    """Move the connection variables that every host has, with one value, to the group `all`."""
    hostvars = inventory.get("_meta", {}).get("hostvars", {})
    if len(hostvars) < 2:
        return inventory
    first = next(iter(hostvars.values()))
    common = {
        key: value
        for key, value in first.items()
        if key.startswith("ansible_") and all(key in v and v[key] == value for v in hostvars.values())
    }
    rest = {host: {k: v for k, v in variables.items() if k not in common} for host, variables in hostvars.items()}
    everyone = inventory.get("all", {})
    return {
        **inventory,
        "_meta": {"hostvars": rest},
        "all": {**everyone, "vars": {**common, **everyone.get("vars", {})}},
    }
