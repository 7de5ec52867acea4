"""Hosts without a network: an `ssh` on PATH that runs the remote line here, as a host called by its address would."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from labtool.dataset.run import HostRecord
from labtool.ssh import Access
from labtool.topology import Host

COLLECT = Path(__file__).parents[2] / "roles" / "collector" / "files" / "labtool-collect"

# The words after "--" are the remote line; before it are the options, "-l", the login and the address.
SSH = """#!/bin/sh
while [ "$1" != -l ]; do shift; done
export HOST_ADDRESS="$3"
hook="{hooks}/$HOST_ADDRESS"
if [ -x "$hook" ]; then exec "$hook" "$5"; fi
exec sh -c "$5"
"""


@pytest.fixture
def access(tmp_path):
    return Access(tmp_path / "key", tmp_path / "known_hosts", tmp_path)


@pytest.fixture
def record():
    """Make hosts as a run remembers them."""

    def make(name: str, instance_type: str = "m5d.large", **more) -> HostRecord:
        instance = f"i-{name}"
        return HostRecord(
            name=name, group="kafka", instance_id=instance, instance_type=instance_type, address=name, zone="", **more
        )

    return make


@pytest.fixture
def host():
    def make(name: str, *, state: str = "running", login: str = "root") -> Host:
        return Host(
            name=name,
            group="kafka",
            index=0,
            instance_id=f"i-{name}",
            state=state,
            instance_type="t3.small",
            address=name,
            private_address="",
            zone="",
            image_id="",
            login=login,
            launched=datetime(2026, 1, 1, tzinfo=UTC),
        )

    return make


@pytest.fixture
def hooks(tmp_path, monkeypatch):
    """A folder: a script there, called like a host, answers instead of the shell. It gets the remote line as $1."""
    folder, programs = tmp_path / "hooks", tmp_path / "bin"
    folder.mkdir()
    programs.mkdir()
    executable(programs / "ssh", SSH.format(hooks=folder))
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    def add(address: str, script: str) -> None:
        executable(folder / address, "#!/bin/sh\n" + script)

    return add


def executable(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture(scope="session")
def collector():
    """The module that labtool-collect is."""
    loader = importlib.machinery.SourceFileLoader("labtool_collect", str(COLLECT))
    spec = importlib.util.spec_from_loader("labtool_collect", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.fixture
def program():
    """Write a program: its path and its text."""
    return executable


@pytest.fixture(scope="session")
def collector_file():
    """Where labtool-collect is in the checkout."""
    return COLLECT
