"""The container engine by its command line: podman, or docker where that is what the machine has.

Containers of one local cloud carry the label `labtool.cloud=<name>`; each is named `<name>-<instance id>`.
"""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labtool.errors import LocalCloudError
from labtool.localcloud import machine

log = logging.getLogger(__name__)

CLOUD_LABEL = "labtool.cloud"
INSTANCE_LABEL = "labtool.instance"


@dataclass(frozen=True)
class ContainerSpec:
    """What is needed to make one host's container."""

    instance_id: str
    image: str
    network: str
    address: str
    hostname: str
    cpus: float
    memory_bytes: int
    seed: Path  # read-only for the host: keys, user data
    out: Path  # what the host leaves for us: how it shut down
    console: Path
    pid_file: Path
    proc: Path | None = None  # lxcfs's mount point


@dataclass(frozen=True)
class Container:
    """A container as the engine reports it."""

    instance_id: str
    id: str
    running: bool
    pid: int  # of its systemd, in the machine's PID namespace; 0 unless running


class Engine:
    """Commands of one engine for one local cloud."""

    def __init__(self, program: str, cloud: str, *, limits: machine.Limits | None = None) -> None:
        self.program = program
        self.cloud = cloud
        self.kind = "docker" if Path(program).name == "docker" else "podman"
        self._limits = limits or machine.limits()
        self._runtime = machine.runtime(self.kind)

    def name(self, instance_id: str) -> str:
        """Return the name of an instance's container."""
        return f"{self.cloud}-{instance_id}"

    # Commands as values, so that they can be tested and shown without being run.

    def create_command(self, spec: ContainerSpec) -> list[str]:
        """Return the command that makes a host and starts it."""
        return [
            self.program,
            *self._runtime_options(),
            "run",
            "--detach",
            "--tty",
            f"--name={self.name(spec.instance_id)}",
            f"--label={CLOUD_LABEL}={self.cloud}",
            f"--label={INSTANCE_LABEL}={spec.instance_id}",
            f"--hostname={spec.hostname}",
            f"--network={spec.network}",
            f"--ip={spec.address}",
            # Fixed by the address: what neighbours remember stays right when an address is used again.
            f"--mac-address={mac_address(spec.address)}",
            f"--cpus={spec.cpus:g}",
            f"--memory={spec.memory_bytes}",
            f"--memory-swap={spec.memory_bytes}",
            f"--ulimit=nofile={self._limits.nofile}:{self._limits.nofile}",
            f"--ulimit=nproc={self._limits.nproc}:{self._limits.nproc}",
            "--pids-limit=-1",
            "--stop-timeout=20",
            f"--volume={spec.seed}:/var/lib/labtool/seed:ro",
            f"--volume={spec.out}:/var/lib/labtool/out",
            *self._kind_options(spec),
            *_proc_options(spec.proc),
            spec.image,
            "/sbin/init",
        ]

    def _runtime_options(self) -> list[str]:
        return [f"--runtime={self._runtime}"] if self._runtime and self.kind == "podman" else []

    def _kind_options(self, spec: ContainerSpec) -> list[str]:
        if self.kind == "podman":
            return [
                "--systemd=always",
                # /etc/hosts stays the host's own file: it can be replaced, and survives a restart.
                "--no-hosts",
                f"--pidfile={spec.pid_file}",
                "--log-driver=k8s-file",
                f"--log-opt=path={spec.console}",
                "--log-opt=max-size=1mb",
                # What a system's own services need and a virtual machine's root has.
                "--cap-add=NET_ADMIN,NET_RAW,AUDIT_WRITE,SYS_PTRACE,SYS_NICE,IPC_LOCK",
            ]
        return [
            "--cgroupns=private",
            "--tmpfs=/run",
            "--tmpfs=/run/lock",
            "--stop-signal=SIGRTMIN+3",
            "--env=container=docker",
            "--security-opt=seccomp=unconfined",
            "--cap-add=SYS_ADMIN",
            "--cap-add=NET_ADMIN",
            "--log-opt=max-size=1m",
        ]

    # Images

    def image_exists(self, tag: str) -> bool:
        """True if the engine has an image of this name."""
        return self._run("image", "inspect", "--format", "{{.Id}}", tag, check=False).returncode == 0

    def import_image(self, archive: Path, tag: str, labels: Mapping[str, str]) -> None:
        """Make an image from a root filesystem's tar archive."""
        changes = [f"--change=LABEL {key}={value}" for key, value in labels.items()]
        if self.kind == "podman":
            changes.append("--change=STOPSIGNAL SIGRTMIN+3")
        self._run("import", *changes, str(archive), tag)

    def images(self, cloud: str | None = None) -> list[str]:
        """Return the tags of all host images, or of those that the local cloud `cloud` built."""
        chosen = [f"--filter=label={CLOUD_LABEL}={cloud}"] if cloud else []
        done = self._run(
            "image", "ls", "--filter=reference=localhost/labtool-host", *chosen, "--format={{.Repository}}:{{.Tag}}"
        )
        return sorted(set(done.stdout.split()))

    def remove_image(self, tag: str) -> None:
        """Remove an image; one that a container still uses stays."""
        self._run("image", "rm", tag, check=False)

    # Containers

    def containers(self) -> list[Container]:
        """Return every container of this local cloud, running or not."""
        listed = self._run("ps", "--all", "--quiet", "--no-trunc", f"--filter=label={CLOUD_LABEL}={self.cloud}")
        ids = listed.stdout.split()
        if not ids:
            return []
        done = self._run("container", "inspect", *ids, check=False)
        return [_container(entry) for entry in json.loads(done.stdout or "[]")]

    def create(self, spec: ContainerSpec) -> None:
        """Make and start a host; one left half-made by an interrupted attempt is replaced."""
        done = self._run(*self.create_command(spec)[1:], check=False)
        if done.returncode != 0 and "already in use" in done.stderr:
            self.remove(spec.instance_id)
            done = self._run(*self.create_command(spec)[1:], check=False)
        if done.returncode != 0:
            log.error("%s: %s", " ".join(self.create_command(spec)), done.stderr.strip())
            raise LocalCloudError(
                f"{self.kind} could not start {spec.instance_id}: {_last_line(done.stderr)}",
                "run `labtool doctor`; the local cloud's log has the whole command",
            )

    def pid(self, instance_id: str, pid_file: Path) -> int:
        """Return the id of a running host's systemd in the machine's PID namespace."""
        if self.kind == "podman":
            return int(pid_file.read_text())  # written anew at each start; asking podman costs 50 ms of CPU
        done = self._run("container", "inspect", "--format", "{{.State.Pid}}", self.name(instance_id))
        return int(done.stdout)

    def start(self, instance_id: str) -> None:
        """Start a stopped host."""
        self._run(*self._runtime_options(), "start", self.name(instance_id))

    def stop(self, instance_id: str, timeout_s: int = 20) -> None:
        """Shut a host down as its systemd does; kill it after `timeout_s` seconds."""
        self._run("stop", "--time", str(timeout_s), self.name(instance_id), check=False)

    def remove(self, *instance_ids: str) -> None:
        """Kill and remove hosts and their disks; one that is gone already is no error."""
        if instance_ids:
            at_once = ["--time", "0"] if self.kind == "podman" else []
            names = [self.name(instance_id) for instance_id in instance_ids]
            self._run("rm", "--force", *at_once, "--volumes", *names, check=False)

    # The network

    def network_exists(self, name: str) -> bool:
        """True if the engine has a network of this name."""
        return self._run("network", "inspect", name, check=False).returncode == 0

    def create_network(self, name: str, *, bridge: str, subnet: str, gateway: str) -> None:
        """Make the lab's network: a bridge of its own, without the engine's DNS."""
        options = [f"--subnet={subnet}", f"--gateway={gateway}", f"--label={CLOUD_LABEL}={self.cloud}"]
        if self.kind == "docker":
            self._run("network", "create", f"--opt=com.docker.network.bridge.name={bridge}", *options, name)
            return
        self._run("network", "create", "--disable-dns", *options, name)
        # Podman before 4.6 cannot be told the bridge's name on its command line, but reads it from its file.
        file = Path("/etc/containers/networks") / f"{name}.json"
        if file.is_file():
            content = json.loads(file.read_text())
            content["network_interface"] = bridge
            file.write_text(json.dumps(content, indent=5))

    def bridge(self, name: str) -> str:
        """Return the name of the network's bridge as the engine knows it."""
        done = self._run("network", "inspect", name)
        entry = json.loads(done.stdout)[0]
        if self.kind == "podman":
            return str(entry["network_interface"])
        return str(entry["Options"]["com.docker.network.bridge.name"])

    def remove_network(self, name: str) -> None:
        """Remove the network; its bridge goes with it."""
        force = ["--force"] if self.kind == "podman" else []
        self._run("network", "rm", *force, name, check=False)

    def others_run(self) -> bool:
        """True if containers that are not of this local cloud run: they need forwarding too."""
        running = set(self._run("ps", "--quiet", "--no-trunc", check=False).stdout.split())
        return bool(running - {container.id for container in self.containers()})

    def _run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [self.program, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if check and done.returncode != 0:
            raise LocalCloudError(
                f"`{self.kind} {' '.join(arguments[:3])} …` failed: {_last_line(done.stderr)}",
                "run `labtool doctor`",
            )
        return done


def find(cloud: str) -> Engine:
    """Return the machine's engine, podman before docker; `LocalCloudError` if there is none."""
    podman = shutil.which("podman")
    if podman:
        return Engine(podman, cloud)
    docker = shutil.which("docker")
    if docker and subprocess.run([docker, "info"], capture_output=True, check=False).returncode == 0:
        return Engine(docker, cloud)
    raise LocalCloudError(
        "the local cloud needs a container engine and found neither podman nor a running docker",
        "sudo apt-get install podman crun runc netavark",
    )


def mac_address(address: str) -> str:
    """Return the hardware address of the host with an IPv4 address; locally administered."""
    return "0a:58:" + ":".join(f"{int(part):02x}" for part in address.split("."))


def _proc_options(proc: Path | None) -> list[str]:
    if proc is None:
        return []
    from labtool.localcloud.lxcfs import PROC_FILES, SYS_FILES

    return [
        # The folder too, as a slave: a new lxcfs after a crash appears in running hosts, see lxcfs.rebind.
        f"--volume={proc}:/var/lib/lxcfs:ro,rslave",
        *(f"--volume={proc}/fs/proc/{name}:/proc/{name}:ro" for name in PROC_FILES),
        *(f"--volume={proc}/fs/sys/{name}:/sys/{name}:ro" for name in SYS_FILES),
    ]


def _container(entry: Mapping[str, Any]) -> Container:
    state = entry["State"]
    return Container(
        instance_id=entry["Config"]["Labels"].get(INSTANCE_LABEL, ""),
        id=entry["Id"],
        running=bool(state["Running"]),
        pid=int(state.get("Pid") or 0) if state["Running"] else 0,
    )


def _last_line(text: str) -> str:
    lines: Sequence[str] = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1] if lines else "no message"
