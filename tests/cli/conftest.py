"""A cloud for the command line: the fake of AWS in virtual time, and an `ssh` that runs here."""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "cloud"))

from fake import Account, Aws, VirtualClock, install

from labtool.cloud.session import Session


@pytest.fixture
def told(capfd):
    """Return a function that runs a command line and returns its exit code, output and errors."""
    from labtool.cli.app import run

    def tell(*words):
        code = run(list(words))
        return (code, *capfd.readouterr())

    return tell


@pytest.fixture(scope="session")
def account():
    return Account()


@pytest.fixture
def aws(account, monkeypatch, tmp_path):
    """AWS as the fake plays it, chosen by the environment; returns a session of it."""
    account.reset(Aws(VirtualClock()))
    install(account.aws, monkeypatch.setattr)
    client = Session.client
    monkeypatch.setattr(Session, "client", lambda self, *which, **more: client(account.session, *which, **more))
    monkeypatch.setenv("LABTOOL_CLOUD", "aws")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return account.session


@pytest.fixture
def kafka(aws):
    """A lab called kafka, of one host."""
    from labtool.cloud import launch
    from labtool.progress import Silent
    from labtool.topology import GroupSpec

    specs = [GroupSpec("kafka", 1, "t3.small")]
    return launch.up(aws, "kafka", specs, image=None, ttl=timedelta(hours=4), progress=Silent())


@pytest.fixture
def here(monkeypatch, tmp_path):
    """An `ssh` and an `scp` that write down their words, and an `ssh` that runs its last one on this machine."""
    folder = tmp_path / "bin"
    folder.mkdir()
    words = tmp_path / "words"
    for name, does in (("ssh", 'for line in "$@"; do :; done\nexec sh -c "$line"'), ("scp", "exit 0")):
        program = folder / name
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >>{words}\n{does}\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return words
