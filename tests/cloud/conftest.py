from __future__ import annotations

import functools
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fake import Account, Aws, VirtualClock, install

from labtool.ansible.result import PlayResult
from labtool.cli import connect as connecting
from labtool.cli import measure
from labtool.cli.app import run
from labtool.cloud import wait
from labtool.collect.gather import Gathered
from labtool.experiment import deploy
from labtool.experiment import gather as gathering
from labtool.experiment import profile as profiling


@pytest.fixture(scope="session")
def account():
    return Account()


@pytest.fixture
def aws(account, monkeypatch):
    """An AWS account of its own in virtual time, behind `session`."""
    account.reset(Aws(VirtualClock()))
    install(account.aws, monkeypatch.setattr)
    return account.aws


@pytest.fixture
def session(account, aws):
    return account.session


@pytest.fixture
def without_hosts(account, aws, monkeypatch, tmp_path):
    """Leave out what a deploy and a profile do with hosts by SSH; returns the hosts of each playbook that was run."""
    played = []

    def play(playbook, hosts, **options):
        played.append(sorted(hosts["_meta"]["hostvars"]))
        return PlayResult(playbook, "ok", {}, (), 0, 0.0, tmp_path / "log")

    def observe(access, hosts, directory):
        if any(host.spot for host in hosts):  # until a look at them was had, as in any longer window
            until = time.monotonic() + 10
            while account.aws.calls[-1].action != "DescribeSpotInstanceRequests" and time.monotonic() < until:
                time.sleep(0.01)
        return []

    def draw(directory, display):
        (directory.path / "summary.json").write_text('{"verdict": {"sentence": "It was measured."}}')

    monkeypatch.setattr(deploy, "run_playbook", play)
    monkeypatch.setattr(profiling, "running_everywhere", lambda *given: [])
    monkeypatch.setattr(profiling.observer, "observe", observe)
    monkeypatch.setattr(
        profiling.interruption, "watched", functools.partial(profiling.interruption.watched, every_s=0.05)
    )
    monkeypatch.setattr(gathering, "measure_clocks", lambda *given: None)
    monkeypatch.setattr(gathering.software, "note", lambda *given: None)
    monkeypatch.setattr(gathering.hosts_files, "gather", lambda *given, **more: Gathered())
    monkeypatch.setattr(measure, "draw", draw)
    return played


@pytest.fixture
def labtool(session, aws, monkeypatch, capfd, tmp_path):
    """Give a command line for AWS; returns its exit code, standard output and standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LABTOOL_CLOUD", "aws")
    monkeypatch.setattr(connecting, "connect", lambda chosen, progress, ssh_from=None: session)
    monkeypatch.setattr("labtool.cli.launching.connect", lambda chosen, progress, ssh_from=None: session)
    monkeypatch.setattr(wait, "greets", lambda host, access: aws.ec2.greets(host.address))

    def given(*words, code=0):
        capfd.readouterr()
        got = run(words)
        said = capfd.readouterr()
        assert got == code, said.err
        return said.out, said.err

    return given
