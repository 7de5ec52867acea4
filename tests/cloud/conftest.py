from __future__ import annotations

import pytest

from labtool.cloud.session import Session, Target


@pytest.fixture
def session(monkeypatch):
    """A session whose API is moto in this process."""
    moto = pytest.importorskip("moto")
    monkeypatch.delenv("LABTOOL_REGION", raising=False)
    monkeypatch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "true")
    with moto.mock_aws():
        yield Session(Target("aws", "us-east-1", caller_cidr="198.51.100.7/32"))


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
