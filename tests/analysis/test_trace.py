from __future__ import annotations

import numpy as np
import pytest

from labtool.analysis import trace
from labtool.analysis.data import Labelled, Series
from tests.analysis.small_run import run_data


def said(**counts):
    known = {"lines": 100, "replayed": 100, "cut": 0, "left": 0, "broken": 0} | counts
    series = [
        Labelled("", "trace", name, "count", Series(np.array([1.0]), np.array([float(value)])))
        for name, value in known.items()
    ]
    (finding,) = trace.findings(run_data(service=tuple(series)))
    return finding.severity, finding.sentence


@pytest.mark.parametrize(
    ("counts", "severity", "sentence"),
    [
        ({}, "ok", "100 lines of the trace were due in the run; it was replayed to its end."),
        ({"cut": 2000}, "note", "100 lines of the trace were due in the run; 2,000 were due after its end."),
        (
            {"left": 7, "cut": 3, "broken": 1},
            "warning",
            "100 lines of the trace were due in the run; the clients, too slow or stopped, did not come to 7 of them; "
            "3 were due after its end; 1 broken line left out.",
        ),
    ],
)
def test_how_far_a_trace_was_replayed(counts, severity, sentence):
    assert said(**counts) == (severity, sentence)


def test_a_run_without_a_trace():
    assert trace.findings(run_data()) == []
