from __future__ import annotations

import functools

import pytest

from labtool.cloud.session import Session, Target

IMAGE = "ami-12c6146b"  # one of moto's own
TARGET = Target("aws", "us-east-1", caller_cidr="198.51.100.7/32")


@functools.cache
def _boto():
    """One for all tests: it reads the services' models, and EC2's is 2 MB."""
    session = Session(TARGET)
    session.client("ec2")
    return session._boto


@pytest.fixture
def session(monkeypatch):
    """A session whose API is moto in this process."""
    moto = pytest.importorskip("moto")
    from moto.ec2.models import amis

    # moto makes its 1,300 images anew for each test; with a list of our own it makes those alone.
    monkeypatch.setattr(amis, "AMIS", [image for image in amis.AMIS if image["ami_id"] == IMAGE])
    monkeypatch.setenv("MOTO_AMIS_PATH", "")
    monkeypatch.delenv("LABTOOL_REGION", raising=False)
    with moto.mock_aws():
        yield Session(TARGET, _boto=_boto())


@pytest.fixture
def greeting(monkeypatch):
    """Every host greets at once and shows a host key: what moto has no hosts for."""
    from labtool.cloud import keys, wait

    console = (
        "boot\n-----BEGIN SSH HOST KEY KEYS-----\n"
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ root@host\n-----END SSH HOST KEY KEYS-----\n"
    )
    monkeypatch.setattr(wait, "greets", lambda host: True)
    monkeypatch.setattr(keys, "console_output", lambda session, identity: console)
