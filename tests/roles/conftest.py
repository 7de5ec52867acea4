"""Hosts for role tests, and `ansible-playbook` as a sysadmin runs it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
NETWORK, SUBNET = "labroles", "198.19.64"
MITOGEN = "mitogen_linear"


@dataclass(frozen=True)
class LabHost:
    """A host that a test may do with as it likes."""

    name: str
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
        podman("kill", self.name)


def podman(*words: str, check: bool = True) -> str:
    done = subprocess.run(["podman", *words], capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"podman {' '.join(words)}: {done.stderr}"
    return done.stdout.strip()


class Hosts:
    """Makes hosts by plain podman from the local cloud's image."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made = 0
        self.image = next(
            iter(podman("image", "ls", "--filter", "reference=localhost/labtool-host", "--format", "{{.Id}}").split()),
            None,
        )
        if self.image is None:
            pytest.skip("there is no host image yet: .venv/bin/python -m labtool.localcloud prepare")
        self.key = folder / "key"
        keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", ""]
        subprocess.run([*keygen, "-f", str(self.key)], check=True)
        self.remove()
        podman("network", "create", f"--subnet={SUBNET}.0/24", f"--gateway={SUBNET}.1", "--disable-dns", NETWORK)
        bridge = podman("network", "inspect", NETWORK, "--format", "{{.NetworkInterface}}")
        drop = f'iifname "{bridge}" ip daddr 169.254.0.0/16 drop'
        rules = (
            f"add table inet {NETWORK}; add chain inet {NETWORK} pre {{ type filter hook prerouting priority -300; }};"
        )
        subprocess.run(["nft", f"{rules} add rule inet {NETWORK} pre {drop}"], check=True)
        subprocess.run(["sysctl", "-qw", "net.ipv4.ip_forward=1"], check=True)

    def make(self, count: int) -> list[LabHost]:
        hosts = [self._start() for _ in range(count)]
        deadline = time.monotonic() + 60
        for host in hosts:
            while "up" not in host.run("echo up", check=False):
                assert time.monotonic() < deadline, f"{host.name} does not answer SSH"
                time.sleep(0.3)
        return hosts

    def _start(self) -> LabHost:
        self.made += 1
        name, address = f"{NETWORK}-{self.made}", f"{SUBNET}.{10 + self.made}"
        seed = self.folder / name
        (seed / "out").mkdir(parents=True)
        host_key = seed / "ssh_host_ed25519_key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(host_key)], check=True)
        (seed / "authorized_keys").write_text(self.key.with_suffix(".pub").read_text())
        known = self.folder / "known_hosts"
        with known.open("a") as file:
            file.write(f"{address} {' '.join(host_key.with_suffix('.pub').read_text().split()[:2])}\n")
        podman(
            *["--runtime=runc", "run", "-d", "-t", "--name", name, "--label", f"test={NETWORK}", "--hostname", name],
            *["--network", NETWORK, "--ip", address, "--cpus", "2", "--memory", "2g", "--memory-swap", "2g"],
            *["--ulimit", "nofile=20000:20000", "--ulimit", "nproc=32000:32000", "--pids-limit=-1"],
            *["--volume", f"{seed}:/var/lib/labtool/seed:ro", "--volume", f"{seed}/out:/var/lib/labtool/out"],
            *["--systemd=always", "--no-hosts", "--stop-timeout=2"],
            *["--cap-add=NET_ADMIN,NET_RAW,AUDIT_WRITE,SYS_PTRACE,SYS_NICE,IPC_LOCK", str(self.image), "/sbin/init"],
        )
        options = f"-o UserKnownHostsFile={known} -o StrictHostKeyChecking=yes -o ConnectTimeout=5 -o LogLevel=ERROR"
        return LabHost(name, address, "admin", options, self.key)

    def remove(self) -> None:
        left = podman("ps", "-aq", "--filter", f"label=test={NETWORK}").split()
        if left:
            podman("rm", "-f", "-t", "0", *left)
        podman("network", "rm", "-f", NETWORK, check=False)
        subprocess.run(["nft", "delete", "table", "inet", NETWORK], capture_output=True, check=False)


@pytest.fixture(scope="module")
def lab_hosts(tmp_path_factory) -> Iterator[Callable[[int], list[LabHost]]]:
    """Return a function that makes so many fresh hosts; all of them go when the module is done."""
    hosts = Hosts(tmp_path_factory.mktemp("hosts"))
    yield hosts.make
    hosts.remove()


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
            import ansible_mitogen

            environment["ANSIBLE_STRATEGY"] = MITOGEN
            environment["ANSIBLE_STRATEGY_PLUGINS"] = str(Path(ansible_mitogen.__file__).parent / "plugins/strategy")
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
