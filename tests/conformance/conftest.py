"""One cloud for the conformance suite: the local one, or AWS with LABTOOL_CONFORMANCE=aws (`make test-aws`)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import clouds

_using: list[Iterator[clouds.Cloud]] = []


@pytest.fixture(scope="session")
def cloud(tmp_path_factory):
    chosen = clouds.aws if os.environ.get("LABTOOL_CONFORMANCE") == "aws" else clouds.local
    _using.append(chosen(tmp_path_factory.mktemp("conformance")))
    return next(_using[0])


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(nextitem):
    """End the cloud after the last test of this folder: those that follow need the machine, and it costs."""
    if nextitem is None or not nextitem.path.is_relative_to(Path(__file__).parent):
        while _using:
            for _ in _using.pop():
                raise AssertionError("a cloud is given once")
