from __future__ import annotations

import numpy as np
import pytest
from small_run import client, record, run_data, summary

from labtool.analysis.analyse import analyse
from labtool.analysis.statistics import t_975

RATES = (980.0, 1000.0, 1020.0, 1010.0, 990.0)


def rounds(rates=RATES, apart=30.0):
    """Five rounds of `ab`, one after another, each 29 s long."""
    names = [f"load-0/round-{i + 1:02}" for i in range(len(rates))]
    clients = tuple(
        client(rate, name=name, role="client", offered=None, width=1.0, start=i * apart, seconds=i * apart + 29)
        for i, (name, rate) in enumerate(zip(names, rates, strict=True))
    )
    summaries = tuple(
        summary(
            name=name, role="client", offered=None, rate=rate, start=i * apart, end=i * apart + 29, latency_avg=5.0 + i
        )
        for i, (name, rate) in enumerate(zip(names, rates, strict=True))
    )
    data = run_data(
        record=record(workload="http-ab", stack="web"), clients=clients, summaries=summaries, length_s=150.0
    )
    return {finding.id: finding for finding in analyse(data).findings}


def test_the_mean_of_rounds_has_an_interval_over_rounds():
    finding = rounds()["load.rounds"]
    half = t_975(4) * np.std(RATES, ddof=1) / np.sqrt(5)
    assert finding.evidence["rate_per_s"] == 1000.0
    assert finding.evidence["rate_per_s_half_width"] == pytest.approx(half)
    assert finding.sentence.startswith(
        "Over 5 rounds, one after another: 1,000 requests/s (± 20) and a mean latency of 7"
    )


def test_a_round_that_is_followed_by_another_did_not_end_early():
    assert "load.early" not in rounds()


def test_ab_says_what_it_hides():
    finding = rounds()["latency.measured"]
    assert finding.severity == "warning"
    assert "http-ab sends the next request when the last was answered, and counts from the send" in finding.sentence


def test_clients_that_run_together_are_no_rounds():
    assert "load.rounds" not in rounds(apart=1.0)
