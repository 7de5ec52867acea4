"""A cloud for the command line: moto in this process, with hosts that greet at once and an `ssh` that runs here."""

from __future__ import annotations

import functools
import os
from datetime import timedelta

import pytest

IMAGE = "ami-12c6146b"  # one of moto's own
CONSOLE = (
    "boot\n-----BEGIN SSH HOST KEY KEYS-----\n"
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ root@host\n-----END SSH HOST KEY KEYS-----\n"
)


@pytest.fixture
def told(capfd):
    """Return a function that runs a command line and returns its exit code, output and errors."""
    from labtool.cli.app import run

    def tell(*words):
        code = run(list(words))
        return (code, *capfd.readouterr())

    return tell


@functools.cache
def _boto():
    """One for all tests: it reads the services' models, and EC2's is 2 MB."""
    import boto3

    return boto3.Session(region_name="us-east-1")


@pytest.fixture
def aws(monkeypatch, tmp_path):
    """AWS as moto plays it, chosen by the environment; returns a session of it."""
    moto = pytest.importorskip("moto")
    from moto.ec2.models import amis

    from labtool.cloud import keys, wait
    from labtool.cloud.session import Session, Target

    monkeypatch.setattr(amis, "AMIS", [image for image in amis.AMIS if image["ami_id"] == IMAGE])
    monkeypatch.setenv("MOTO_AMIS_PATH", "")
    monkeypatch.setenv("LABTOOL_CLOUD", "aws")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(wait, "greets", lambda host: True)
    monkeypatch.setattr(keys, "console_output", lambda session, identity: CONSOLE)
    monkeypatch.chdir(tmp_path)
    shared = _boto()
    monkeypatch.setattr("boto3.Session", lambda **_: shared)
    with moto.mock_aws():
        yield Session(Target("aws", "us-east-1", caller_cidr="198.51.100.7/32"))


@pytest.fixture
def kafka(aws):
    """A lab called kafka, of one host."""
    from labtool.cloud import launch
    from labtool.progress import Silent
    from labtool.topology import GroupSpec

    specs = [GroupSpec("kafka", 1, "t3.small")]
    return launch.up(aws, "kafka", specs, image=IMAGE, ttl=timedelta(hours=4), progress=Silent(), deadline_s=5)


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
