"""What the page says in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from labtool.analysis.analyse import analyse
from labtool.dataset.run import RunDirectory
from labtool.report import page
from tests.analysis.small_run import run_data


def of(cloud, cost):
    """Return the data of a run of five minutes with this cost record."""
    data = run_data()
    data.record.cloud, data.record.cost = cloud, cost
    return replace(data, length_s=300.0)


@pytest.mark.parametrize(("cloud", "said"), [("aws", "cost"), ("local", "on AWS")])
def test_the_page_says_what_the_window_cost(cloud, said):
    where = dict(page.facts(of(cloud, {"usd_per_hour": 14.4, "usd": 5.0})))["Where"]
    assert where.endswith(f"; {said} $14.40 an hour, $1.20 for the window")


def test_the_page_says_nothing_of_a_cost_that_is_not_known():
    assert "$" not in dict(page.facts(of("aws", {})))["Where"]


def test_the_page_lists_what_a_local_run_would_have_cost(tmp_path):
    data = of("local", {"usd_per_hour": 14.4, "usd": 5.0, "usd_metrics": 0.00023, "without": "", "prices": "there"})
    sections = page.sections(data, analyse(data), {}, RunDirectory(tmp_path))
    (table,) = [table for section in sections for table in section.tables if table.id == "cost"]
    assert [tuple(cell.text for cell in row) for row in table.rows] == [
        ("per hour (would cost on AWS)", "$14.40"),
        ("from the run's start to its end (would cost on AWS)", "$5.00"),
        ("of it for reading CloudWatch (would cost on AWS)", "$0.0002"),
        ("prices of", "there"),
    ]
