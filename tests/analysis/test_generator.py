from __future__ import annotations

import numpy as np
import pytest
from small_requests import answered, requests, stalled, web_run
from small_run import flat, run_data

from labtool.analysis.analyse import analyse


def said(data):
    return {finding.id: finding for finding in analyse(data).findings}["load.generator"]


def hiccups(seconds=20, rate=500):
    """A generator that stands still for 200 ms of every second; the server takes 2 ms of every request."""
    due = np.arange(rate * seconds) / rate
    within = due % 1.0
    late = np.where(within < 0.2, 0.2 - within, 0.0) + 1e-5
    return requests(due, late, np.full(len(due), 0.002))


def full(**changes):
    return {**run_data().signals, "load-0": {"cpu": flat(0.99)}, **changes}


def test_it_kept_its_times():
    rng = np.random.default_rng(2)
    due = np.arange(10_000) / 500
    finding = said(web_run(requests(due, rng.exponential(1e-4, len(due)), np.full(len(due), 0.01))))
    assert finding.severity == "ok" and finding.sentence.startswith("The generator kept its times: 99 of 100")
    assert finding.evidence["late_p99_ms"] == pytest.approx(0.46, rel=0.1)


def test_a_stalled_server_is_not_the_generators_fault():
    finding = said(web_run(stalled()))
    assert finding.severity == "warning"
    assert "because all 10 connections waited for an answer" in finding.sentence
    assert finding.evidence["waited_for_a_connection_share"] > 0.9
    assert finding.evidence["connections_carry_per_s"] == pytest.approx(10 / 0.002, rel=0.1)


def test_a_generator_that_stood_still():
    data = web_run(hiccups())
    finding = said(data)
    assert finding.severity == "problem" and "stood still" in finding.sentence
    assert "The load hosts' CPU was at 30 % at most" in finding.sentence
    assert "the load hosts sent late, so the latencies are theirs" in analyse(data).verdict.sentence


def test_a_generator_that_is_late_now_and_then():
    rng = np.random.default_rng(2)
    due = np.arange(10_000) / 500
    late = np.where(rng.random(len(due)) < 0.02, 0.002, 1e-4)
    finding = said(web_run(requests(due, late, rng.exponential(0.001, len(due)))))
    assert finding.severity == "warning"
    assert "late now and then" in finding.sentence and "1 of 100 by 2 ms or more" in finding.sentence


def test_a_generator_without_cpu():
    finding = said(web_run(hiccups(), signals=full()))
    assert finding.severity == "problem"
    assert "The generator was saturated" in finding.sentence and "the CPU of load-0 was full" in finding.sentence


def test_a_saturated_generator_refuses_the_claim():
    due = np.arange(10_000) / 500
    late, service = answered(due, np.full(len(due), 0.0025), 1)
    data = web_run(requests(due, late, service), length_s=20.0, signals=full())
    verdict = analyse(data).verdict
    assert (verdict.severity, verdict.label) == ("refused", "Load hosts at limit")


def test_too_few_connections_fall_short_and_are_named():
    """One connection, 2.5 ms a request: 400 requests/s are the most, of 500."""
    due = np.arange(10_000) / 500
    late, service = answered(due, np.full(len(due), 0.0025), 1)
    data = web_run(requests(due, late, service), length_s=20.0)
    finding = said(data)
    assert "because the one connection waited" in finding.sentence
    assert finding.evidence["connections_carry_per_s"] == pytest.approx(400, rel=0.01)
    assert analyse(data).load.achieved == pytest.approx(400, rel=0.01)


def test_lateness_that_does_not_matter_is_not_held_against_it():
    due = np.arange(10_000) / 500
    finding = said(web_run(requests(due, np.full(len(due), 0.004), np.full(len(due), 0.2))))
    assert finding.severity == "ok"


def test_requests_that_never_were_sent_are_counted():
    due = np.arange(10_000) / 500
    late = np.where(np.arange(10_000) < 9000, 1e-5, np.nan)
    error = np.where(np.arange(10_000) < 9000, 0, 1).astype(np.uint16)
    finding = said(web_run(requests(due, late, np.full(len(due), 0.01), error=error, errors=("", "unsent"))))
    assert finding.evidence["unsent"] == 1000
