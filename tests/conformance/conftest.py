"""One cloud for the conformance suite: the local one, or AWS with LABTOOL_CONFORMANCE=aws (`make test-aws`)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import clouds


@pytest.fixture(scope="session")
def cloud(tmp_path_factory):
    chosen = clouds.aws if os.environ.get("LABTOOL_CONFORMANCE") == "aws" else clouds.local
    yield from chosen(tmp_path_factory.mktemp("conformance"))
