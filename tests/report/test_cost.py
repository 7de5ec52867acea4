"""The figure of what a trace's lines cost."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from labtool.analysis.analyse import analyse
from labtool.analysis.data import Labelled, Series
from labtool.dataset.run import RunDirectory
from labtool.report import figure, style
from labtool.report.figures import cost, service
from tests.analysis.small_run import run_data

pytestmark = pytest.mark.slow


def drawn(run, **variants):
    found = tuple(
        Labelled(
            "", "trace", f"cost of {name}", "per second", Series(np.arange(1.0, len(values) + 1), np.array(values))
        )
        for name, values in variants.items()
    )
    data = run_data(service=found)
    assert not service.draw(data, analyse(data), run)  # it has a figure of its own
    return cost.draw(data, analyse(data), run)


def test_variants_share_one_figure(tmp_path, monkeypatch):
    monkeypatch.setattr(figure, "PNG_DPI", 40)
    style.prepare()
    run = RunDirectory(tmp_path)
    (made,) = drawn(run, online=[2.0] * 300, local=[1.0, 3.0] * 150)
    assert made.title == "Cost per second: online 2 and local 2 on average"
    with (run.figures / "cost.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert set(rows[0]) == {"start_s", "online_per_s", "local_per_s"}
    # Every second is in one step, whatever the steps' width.
    width = float(rows[1]["start_s"])
    assert sum(float(row["local_per_s"]) for row in rows) * width == pytest.approx(600)


def test_a_run_without_costs_has_none(tmp_path):
    assert drawn(RunDirectory(tmp_path)) == []
