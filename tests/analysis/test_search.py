from __future__ import annotations

import numpy as np
import pytest
from small_requests import requests, web_run

from labtool.analysis.analyse import analyse
from labtool.analysis.data import Objective, Step
from labtool.analysis.search import answer, focused


def step(start, rate, p99, **more):
    held = p99 is not None and p99 < 50
    fields = {
        "start": start,
        "end": start + 5.0,
        "offered": rate,
        "operations": rate * 5,
        "errors": 0.0,
        "held": held,
        "saturated": False,
        "too_few": False,
        "objectives": (Objective("p99 < 50 ms", 50.0, p99, "ms"), Objective("errors < 0.1 %", 0.1, 0.0, "%")),
    }
    return Step(**(fields | more))


FOUND = (step(0, 300.0, 12.0), step(5, 600.0, None), step(10, 400.0, 31.0), step(15, 420.0, 66.0))


def run(steps=FOUND):
    """Requests of each step, as fast as its p99 says."""
    due = np.concatenate([one.start + np.arange(one.offered * 5) / one.offered for one in steps])
    took = np.concatenate(
        [np.full(int(one.offered * 5), (one.objectives[0].value or 900) / 1000, dtype=float) for one in steps]
    )
    single = requests(due, np.full(len(due), 1e-5), took)
    return web_run(focused(single, steps), steps=steps, length_s=float(steps[-1].end))


def said(steps=FOUND):
    analysis = analyse(run(steps))
    return analysis, {finding.id: finding for finding in analysis.findings}


def test_the_answer_lies_between_what_held_and_what_did_not():
    analysis, found = said()
    assert found["load.search"].sentence == (
        "The servers held p99 < 50 ms and errors < 0.1 % up to 400 requests/s (p99 31 ms, errors 0 %), and not 420 "
        "requests/s (p99 66 ms, errors 0 %)."
    )
    assert found["load.search"].bound == "the two rates are 5.0 % apart; 4 steps within this run"
    assert (analysis.verdict.severity, analysis.verdict.label) == ("ok", "Highest rate found")
    assert [(h.id, h.value) for h in analysis.headlines[:2]] == [("held", 400.0), ("failed", 420.0)]
    assert "load.rate" not in found and "load.dips" not in found, "going too far is what a search does"


def test_percentiles_are_of_the_step_that_held():
    analysis, found = said()
    assert analysis.felt.n == 2000
    assert analysis.felt.latency["p99"].value == pytest.approx(31, rel=0.01)
    assert "in the step at 400 requests/s" in found["latency.measured"].sentence


def test_a_late_load_host_says_nothing_of_the_servers():
    analysis, _ = said((FOUND[0], FOUND[2], step(15, 420.0, 66.0, saturated=True)))
    assert (analysis.verdict.severity, analysis.verdict.label) == ("refused", "Load hosts at limit")
    assert "at 420 requests/s the load host itself was late: they may hold more" in analysis.verdict.sentence


def test_all_held():
    analysis, _ = said(FOUND[:1])
    assert analysis.verdict.label == "No limit found" and "they may hold more" in analysis.verdict.sentence
    assert analysis.headlines[1].bound == "no step above it"


def test_nothing_held():
    _, found = said((step(0, 300.0, 80.0), step(5, 150.0, 70.0)))
    assert found["load.search"].severity == "problem"
    assert "at 150 requests/s, the lowest that was tried, it was p99 70 ms" in found["load.search"].sentence


def test_a_step_with_too_few_requests_decides_nothing():
    steps = (step(0, 10.0, 20.0, too_few=True), FOUND[2])
    assert answer(steps).held.offered == 400.0
    assert said(steps[:1])[0].verdict.label == "Too few requests"


def test_a_limit_that_is_not_sharp_is_said():
    _, found = said((step(0, 380.0, 70.0), *FOUND))
    assert "At or below that rate 1 step did not hold" in found["load.search"].sentence


def test_a_run_without_a_search_is_left_as_it_is():
    single = requests(np.arange(100) / 10, np.full(100, 1e-5), np.full(100, 0.01))
    assert focused(single, ()) is single and answer(()) is None
