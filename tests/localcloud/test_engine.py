from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from labtool.errors import LocalCloudError
from labtool.localcloud import engine, machine
from labtool.localcloud.engine import ContainerSpec, Engine

SPEC = ContainerSpec(
    instance_id="i-1",
    image="localhost/labtool-host:abc",
    network="lab",
    address="198.18.0.9",
    hostname="ip-198-18-0-9",
    cpus=2,
    memory_bytes=2 << 30,
    seed=Path("/s/seed"),
    out=Path("/s/out"),
    console=Path("/s/console.log"),
    pid_file=Path("/s/pid"),
    proc=Path("/s/lxcfs"),
)
LIMITS = machine.Limits(nofile=20_000, nproc=32_000)


@pytest.fixture
def hybrid(monkeypatch):
    monkeypatch.setattr(machine, "runtime", lambda _engine: "/usr/sbin/runc")


def test_a_host_gets_its_address_shape_and_proc(hybrid):
    command = Engine("/usr/bin/podman", "lab", limits=LIMITS).create_command(SPEC)
    for expected in (
        "--runtime=/usr/sbin/runc",
        "--name=lab-i-1",
        "--label=labtool.cloud=lab",
        "--ip=198.18.0.9",
        "--mac-address=0a:58:c6:12:00:09",
        "--hostname=ip-198-18-0-9",
        "--cpus=2",
        f"--memory={2 << 30}",
        f"--memory-swap={2 << 30}",
        "--ulimit=nofile=20000:20000",
        "--ulimit=nproc=32000:32000",
        "--systemd=always",
        "--volume=/s/seed:/var/lib/labtool/seed:ro",
        "--volume=/s/lxcfs/fs/proc/meminfo:/proc/meminfo:ro",
        "--volume=/s/lxcfs:/var/lib/lxcfs:ro,rslave",
    ):
        assert expected in command
    assert command[-2:] == ["localhost/labtool-host:abc", "/sbin/init"]
    assert not any("privileged" in word for word in command)


def test_without_lxcfs_proc_is_the_machines(hybrid):
    from dataclasses import replace

    command = Engine("/usr/bin/podman", "lab", limits=LIMITS).create_command(replace(SPEC, proc=None))
    assert not any("lxcfs" in word for word in command)


def test_docker_has_its_own_options(hybrid):
    command = Engine("/usr/bin/docker", "lab", limits=LIMITS).create_command(SPEC)
    assert "--stop-signal=SIGRTMIN+3" in command
    assert not any(word.startswith(("--runtime", "--systemd", "--no-hosts", "--pidfile")) for word in command)


@pytest.mark.parametrize(("kind", "wanted"), [("v2", None), ("hybrid", "/usr/sbin/runc"), ("v1", "/usr/sbin/runc")])
def test_runc_where_crun_refuses(monkeypatch, kind, wanted):
    monkeypatch.setattr(machine.shutil, "which", lambda _name: "/usr/sbin/runc")
    assert machine.runtime("podman", kind) == wanted
    assert machine.runtime("docker", kind) is None


@pytest.mark.parametrize(("files", "kind"), [(["cgroup.controllers"], "v2"), (["unified/"], "hybrid"), ([], "v1")])
def test_kinds_of_cgroups(tmp_path, files, kind):
    for name in files:
        target = tmp_path / name.rstrip("/")
        target.mkdir() if name.endswith("/") else target.touch()
    assert machine.cgroup_kind(tmp_path) == kind


def test_limits_stay_below_the_callers(monkeypatch):
    monkeypatch.setattr(machine.resource, "getrlimit", lambda _which: (100, 20_000))
    assert machine.limits() == machine.Limits(nofile=20_000, nproc=6_666)
    monkeypatch.setattr(machine.resource, "getrlimit", lambda _which: (100, machine.resource.RLIM_INFINITY))
    assert machine.limits() == machine.Limits(nofile=1_048_576, nproc=32_000)


def script(folder: Path, name: str, text: str) -> str:
    """An engine that is a shell script."""
    program = folder / name
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return str(program)


def test_what_the_engine_reports_is_read(tmp_path):
    entries = [
        {"Id": "a", "Config": {"Labels": {"labtool.instance": "i-1"}}, "State": {"Running": True, "Pid": 42}},
        {"Id": "b", "Config": {"Labels": {"labtool.instance": "i-2"}}, "State": {"Running": False, "Pid": 0}},
    ]
    (tmp_path / "answer").write_text(json.dumps(entries))
    program = script(tmp_path, "podman", f"case $1 in ps) echo a b;; container) cat {tmp_path}/answer;; esac")
    found = Engine(program, "lab").containers()
    assert [(c.instance_id, c.running, c.pid) for c in found] == [("i-1", True, 42), ("i-2", False, 0)]


def test_a_half_made_container_is_replaced(tmp_path):
    program = script(
        tmp_path,
        "podman",
        f'echo "$@" >>{tmp_path}/log\n'
        f'case "$*" in rm*) touch {tmp_path}/removed;; *run*) '
        f'[ -e {tmp_path}/removed ] || {{ echo "Error: the name is already in use" >&2; exit 125; }};; esac',
    )
    Engine(program, "lab").create(SPEC)
    assert [line.split()[0] for line in (tmp_path / "log").read_text().splitlines() if "rm" in line] == ["rm"]


def test_a_refusal_names_the_instance_and_the_last_words(tmp_path):
    program = script(tmp_path, "podman", "echo chatter >&2; echo 'Error: no space left on device' >&2; exit 125")
    with pytest.raises(LocalCloudError, match="i-1: Error: no space left on device"):
        Engine(program, "lab").create(SPEC)


def test_no_engine_is_said_with_the_command_that_mends_it(monkeypatch):
    monkeypatch.setattr(engine.shutil, "which", lambda _name: None)
    with pytest.raises(LocalCloudError) as caught:
        engine.find("lab")
    assert "apt-get install podman" in caught.value.hint


def test_docker_without_its_daemon_is_no_engine(tmp_path, monkeypatch):
    docker = script(tmp_path, "docker", "exit 1")
    monkeypatch.setattr(engine.shutil, "which", lambda name: docker if name == "docker" else None)
    with pytest.raises(LocalCloudError):
        engine.find("lab")
    script(tmp_path, "docker", "exit 0")
    assert engine.find("lab").kind == "docker"
