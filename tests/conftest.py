"""What all tests share: no network but loopback, no credentials but made-up ones, no files outside tmp_path."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _isolated(monkeypatch, tmp_path_factory, request):
    home = tmp_path_factory.mktemp("home")
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "LABTOOL_LAB", "LABTOOL_CLOUD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    if request.node.get_closest_marker("hosts") is None:
        monkeypatch.setenv("LABTOOL_HOME", str(home / "state"))
        monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
