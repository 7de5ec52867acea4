"""What the report's tables say, cell by cell."""

from __future__ import annotations

import numpy as np
import pytest

from labtool.analysis.workload import load_of
from labtool.report import tables
from labtool.report.figures import load as figure
from tests.analysis.small_run import client, record, run_data, summary


@pytest.mark.parametrize(("rate", "text"), [(0.5, "0.5"), (9.96, "9.96"), (10.4, "10"), (1000.0, "1,000"), (None, "–")])
def test_a_small_rate_has_its_digits(rate, text):
    table = tables.clients(run_data(summaries=(summary(offered=rate, rate=rate),)))
    assert [cell.text for cell in table.rows[0][2:4]] == [text, text]


@pytest.mark.parametrize(
    ("starts", "said"),
    [
        ((60.0, 60.0, 60.0), "without the warm-up"),
        ((2.0, 2.0, 2.0), "over its whole life, with the warm-up"),
        ((60.0, 60.0, 2.0), "without the warm-up, which is in what consumers said"),
        ((60.0, 2.0, 60.0), "without the warm-up, which is in what load-0/producer-2 said"),
        ((60.0, 60.0, None), "without the warm-up"),
    ],
)
def test_whose_totals_have_the_warm_up_is_said(starts, said):
    named = (("producer-1", "producer"), ("producer-2", "producer"), ("consumer-1", "consumer"))
    clients = tuple(
        summary(f"load-0/{name}", role, start=start) for (name, role), start in zip(named, starts, strict=True)
    )
    table = tables.clients(run_data(record=record(warmup_s=60.0), summaries=clients))
    assert table.caption == f"What every client said at its end, {said}"
    assert tables.clients(run_data(summaries=clients)).caption.endswith("over its whole life")


@pytest.mark.parametrize(
    ("low", "title"),
    [(0, "Achieved followed offered: "), (1, "Achieved met offered only on average, with 1 dip below 90 %: ")],
)
def test_a_rate_with_a_dip_is_not_called_one_that_followed(low, title):
    rates = np.full(60, 10_000.0)
    rates[10 : 10 + low], rates[20 : 20 + low] = 2_000.0, 18_000.0
    load = load_of(run_data(clients=(client(rates),)), "producer")
    assert figure._title(load, batched=False) == f"{title}10,000 records/s of 10,000 records/s"
    assert figure._title(load, batched=True).startswith("Achieved followed")
