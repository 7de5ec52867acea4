from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fake import Account, Aws, VirtualClock, install

from labtool.cli import connect as connecting
from labtool.cli.app import run
from labtool.cloud import wait


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
