"""What a run needs besides hosts: a lab, an access, a journal, and a watcher that remembers."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from labtool.dataset.run import RunDirectory, RunRecord
from labtool.experiment.journal import Journal
from labtool.ssh import Access
from labtool.topology import Host, Lab

NOW = datetime(2026, 11, 21, tzinfo=UTC)


class Watcher:
    """Progress that is only remembered."""

    def __init__(self):
        self.said = []

    def stage(self, name):
        self.said.append(name)

    def host(self, name, state, detail=""):
        pass

    def line(self, text):
        self.said.append(text)

    def sample(self, host, **measured):
        pass

    def left(self, seconds):
        pass


@pytest.fixture
def watcher():
    return Watcher()


@pytest.fixture
def lab():
    hosts = [
        Host(f"{group}-0", group, 0, f"i-{group}", "running", "t3.small", address, address, "", "", "admin", NOW)
        for group, address in (("kafka", "198.18.0.4"), ("load", "198.18.0.5"))
    ]
    return Lab("one", "us-east-1", tuple(hosts))


@pytest.fixture
def access():
    return Access(Path("key"), Path("known"), Path("control"))


@pytest.fixture
def journal(tmp_path, watcher):
    directory = RunDirectory.create(tmp_path / "runs", "one", "t", NOW)
    return Journal(directory, RunRecord(name="t", lab="one", cloud="local", region="us-east-1", started=NOW), watcher)
