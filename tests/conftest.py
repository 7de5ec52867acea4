"""What all tests share: no network but loopback, no credentials but made-up ones, no files outside tmp_path.

Tests on hosts share one local cloud of their own, beside any other, and `labtool` run as a user runs it. Where several
processes test (`pytest -n 2`), each has its own, and the tests of a module stay together.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from tests.processes import NUMBER

# A full collection goes through all that the libraries have loaded, which stays anyway: a fifth of the tests' time.
gc.set_threshold(20_000, 50, 100)

# That the machine was busy with something else is no failure.
settings.register_profile("labtool", deadline=None)
settings.load_profile("labtool")

# Started in the background, or by nohup, a program ignores these, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


LONGEST = (
    "e2e/test_front", "roles/test_kafka_cluster", "e2e/test_kafka", "roles/test_spark_cluster", "e2e/test_localcloud",
    "e2e/test_web", "roles/test_web", "roles/test_kafka_39", "roles/test_maven_app", "e2e/test_countdown",
)  # fmt: skip
"""Modules of tests on hosts that take minutes: begun last, one of them would keep a process busy beside an idle one."""


def pytest_collection_modifyitems(items):
    """Begin with the modules that take longest."""
    order = {f"tests/{name}.py": number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.nodeid.partition("::")[0], len(LONGEST)))


@pytest.fixture(scope="session")
def _homes(tmp_path_factory):
    """A folder for each test; the few that write there make it."""
    folder = tmp_path_factory.mktemp("homes")
    return (folder / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def _isolated(monkeypatch, _homes, request):
    home = next(_homes)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "LABTOOL_LAB", "LABTOOL_CLOUD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    if request.node.get_closest_marker("hosts") is None:
        monkeypatch.setenv("LABTOOL_HOME", str(home / "state"))
        monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))


class Labtool:
    """The command line, in a folder and environment of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cloud = f"labtest{NUMBER}"
        self.subnet = f"198.19.{16 * NUMBER}.0/20"
        mine = {key: value for key, value in os.environ.items() if not key.startswith(("LABTOOL_", "AWS_"))}
        self.env = {
            **mine,
            "LABTOOL_CLOUD": "local",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "LABTOOL_HOME": str(folder / "home"),
            "LABTOOL_LOCAL_NAME": self.cloud,
            "LABTOOL_LOCAL_SUBNET": self.subnet,
            "LABTOOL_LOCAL_PORT": str(4610 + NUMBER),
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def run(self, *words: str, code: int | None = 0, timeout: float = 420) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "labtool", *words],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        told = f"labtool {' '.join(words)} → {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-6000:]}"
        print(told)
        assert code is None or done.returncode == code, told
        return done

    def json(self, *words: str, **options):
        return json.loads(self.run(*words, "--json", **options).stdout)

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "labtool", *words],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def aws(self, *words: str):
        """Run Amazon's own command-line client against the local endpoint."""
        endpoint = self.run("cloud", "start").stdout
        exported = dict(
            pair.split("=", 1)
            for line in endpoint.splitlines()
            if line.strip().startswith("export ")
            for pair in line.split()[1:]
        )
        done = subprocess.run(
            [str(Path(sys.executable).parent / "aws"), "--output", "json", *words],
            env={**self.env, **exported},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None


@pytest.fixture(scope="session")
def labtool(tmp_path_factory):
    program = Labtool(tmp_path_factory.mktemp("labtool"))
    program.run("cloud", "stop", code=None)  # what a killed test run left
    yield program
    program.run("down", "--all")
    program.run("cloud", "stop")
    left = left_behind(program)
    assert not left, left


def left_behind(program: Labtool) -> list[str]:
    """Return what the tests' local cloud should not have left on this machine."""
    name, subnet = program.cloud, program.subnet.partition("/")[0]

    def out(*words: str) -> str:
        return subprocess.run(words, capture_output=True, text=True, check=False).stdout

    found = [
        f"container {line}" for line in out("podman", "ps", "-a", "--format", "{{.Names}}").split() if name in line
    ]
    found += [
        f"network {line}" for line in out("podman", "network", "ls", "--format", "{{.Name}}").split() if name in line
    ]
    found += [f"link {line}" for line in out("ip", "-o", "link").splitlines() if name in line]
    found += [f"route {line}" for line in out("ip", "route", "show", "table", "all").splitlines() if subnet in line]
    found += [f"rule {line}" for line in out("ip", "rule").splitlines() if name in line]
    found += [f"nft {line}" for line in out("nft", "list", "tables").splitlines() if name in line]
    found += [f"mount {line}" for line in Path("/proc/mounts").read_text().splitlines() if name in line]
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if "labtool.localcloud" in command and name in command:
                found.append(f"process {folder.name}: {command}")
    return found
