"""Hosts for role tests, and `ansible-playbook` as a sysadmin runs it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from labtool.ansible.command import mitogen_plugins

ROOT = Path(__file__).parents[2]
MITOGEN = "mitogen_linear"


@dataclass(frozen=True)
class LabHost:
    """A host that a test may do with as it likes."""

    name: str
    container: str
    address: str
    user: str
    ssh_args: str
    key: Path

    def run(self, command: str, *, check: bool = True) -> str:
        """Run a shell command as root, by SSH, and return what it printed."""
        done = subprocess.run(
            ["ssh", "-i", str(self.key), *self.ssh_args.split(), f"{self.user}@{self.address}", "sudo sh -s"],
            input=command,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert not check or done.returncode == 0, f"{self.name}: {command}: {done.stderr}{done.stdout}"
        return done.stdout

    def power_off(self) -> None:
        """Let the host die as a machine does that lost its power."""
        subprocess.run(["podman", "kill", self.container], capture_output=True, check=True)


def launched(labtool, lab: str, count: int) -> list[LabHost]:
    """Return so many hosts of a lab."""
    made = labtool.json("up", f"host={count}", "--type", "t3.small", "--lab", lab)
    variables = json.loads(labtool.run("inventory", "--list", "--lab", lab).stdout)["_meta"]["hostvars"]
    return [
        LabHost(
            name=host["instance_id"],
            container=f"{labtool.cloud}-{host['instance_id']}",
            address=host["address"],
            user=variables[host["name"]]["ansible_user"],
            ssh_args=variables[host["name"]]["ansible_ssh_common_args"],
            key=Path(variables[host["name"]]["ansible_ssh_private_key_file"]),
        )
        for host in made
    ]


@pytest.fixture(scope="session")
def one_host(labtool) -> Iterator[LabHost]:
    """One host for all modules whose tests leave it fit for the others."""
    (host,) = launched(labtool, "shared", 1)
    yield host
    labtool.run("down", "--lab", "shared")


@pytest.fixture(scope="module")
def lab_hosts(labtool, request) -> Iterator[Callable[[int], list[LabHost]]]:
    """Return a function that makes so many fresh hosts; all of them go when the module is done."""
    lab = request.module.__name__.rsplit(".", 1)[-1].replace("_", "-")

    yield lambda count: launched(labtool, lab, count)
    labtool.run("down", "--lab", lab)


@dataclass(frozen=True)
class Result:
    """What `ansible-playbook` did."""

    code: int
    output: str
    recap: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def changed(self) -> int:
        return sum(counts["changed"] for counts in self.recap.values())

    def host_tasks(self, host: str) -> int:
        """Tasks of a host, those skipped too."""
        counts = self.recap[host]
        return sum(counts[key] for key in ("ok", "failed", "skipped", "unreachable", "rescued", "ignored"))


class Ansible:
    """Runs playbooks on a plain inventory, which it writes itself."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.inventory = folder / "inventory.yml"

    def groups(self, groups: dict[str, dict[str, tuple[LabHost, dict]]], **variables) -> None:
        """Write the inventory: group → name → host and its variables."""
        content: dict = {"all": {"vars": variables}}
        for group, members in groups.items():
            content[group] = {
                "hosts": {
                    name: {
                        "ansible_host": host.address,
                        "ansible_user": host.user,
                        "ansible_ssh_private_key_file": str(host.key),
                        "ansible_ssh_common_args": host.ssh_args,
                        "ansible_python_interpreter": "/usr/bin/python3",
                        **own,
                    }
                    for name, (host, own) in members.items()
                }
            }
        self.inventory.write_text(yaml.safe_dump(content))

    def play(self, text: str) -> Path:
        """Write a playbook of a sysadmin's own."""
        path = self.folder / "play.yml"
        path.write_text(text)
        return path

    def run(
        self,
        playbook: Path | str,
        *options: str,
        strategy: str = "linear",
        code: int | None = 0,
        cwd: Path = ROOT,
        **variables,
    ) -> Result:
        """Run a playbook; `code` is what it must return, None is whatever."""
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "ANSIBLE_ROLES_PATH": str(ROOT / "roles"),
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_FORCE_COLOR": "0",
            "ANSIBLE_LOCALHOST_WARNING": "0",
        }
        if strategy == MITOGEN:
            environment["ANSIBLE_STRATEGY"] = MITOGEN
            environment["ANSIBLE_STRATEGY_PLUGINS"] = str(mitogen_plugins())
        command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(self.inventory), str(playbook)]
        command += [*options, *(["-e", json.dumps(variables)] if variables else [])]
        done = subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=420, check=False
        )
        output = done.stdout + done.stderr
        print(output[-12000:])
        assert code is None or done.returncode == code, f"returned {done.returncode}:\n{output[-6000:]}"
        recap = {}
        for line in re.findall(r"^(\S+) +: (ok=.*)$", output, re.MULTILINE):
            recap[line[0]] = {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", line[1])}
        return Result(done.returncode, output, recap)


@pytest.fixture(scope="module")
def ansible(tmp_path_factory) -> Ansible:
    return Ansible(tmp_path_factory.mktemp("ansible"))


@pytest.fixture(params=["linear", MITOGEN])
def strategy(request) -> str:
    """Every role is right with both."""
    return request.param
