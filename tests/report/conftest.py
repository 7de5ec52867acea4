"""Runs made from a seed, built once for all tests of the report."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "analysis"))
sys.path.insert(0, str(Path(__file__).parent))

import sample_run


@pytest.fixture(scope="session")
def sample_report(tmp_path_factory):
    """A whole run with its report, where an older one had left a figure."""
    from labtool.report.build import build_report

    run = sample_run.build(tmp_path_factory.mktemp("runs"))
    run.figures.mkdir(exist_ok=True)
    (run.figures / sample_run.OLDER).write_bytes(b"")
    build_report(run)
    return run
