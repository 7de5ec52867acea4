"""The conformance suite's cloud: the local one, or AWS with LABTOOL_CONFORMANCE=aws (`make test-aws`)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import clouds


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    """One for each module: where several processes test, its modules may be far from each other."""
    chosen = clouds.aws if os.environ.get("LABTOOL_CONFORMANCE") == "aws" else clouds.local
    yield from chosen(tmp_path_factory.mktemp("conformance"))
