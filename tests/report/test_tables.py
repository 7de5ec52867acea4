"""What the report's tables say, cell by cell."""

from __future__ import annotations

import pytest

from labtool.report import tables
from tests.analysis.small_run import run_data, summary


@pytest.mark.parametrize(("rate", "text"), [(0.5, "0.5"), (9.96, "9.96"), (10.4, "10"), (1000.0, "1,000"), (None, "–")])
def test_a_small_rate_has_its_digits(rate, text):
    table = tables.clients(run_data(summaries=(summary(offered=rate, rate=rate),)))
    assert [cell.text for cell in table.rows[0][2:4]] == [text, text]
