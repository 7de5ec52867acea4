from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_requests import answered, closed_loop, one_server, requests, stalled, web_run
from small_run import record

from labtool.analysis.analyse import analyse
from labtool.analysis.requests import felt_of, unsent, walked

CLOSED = record(workload="http-sequential", stack="web")


def said(data):
    return {finding.id: finding for finding in analyse(data).findings}


def test_the_stall():
    """500 requests/s for 20 s, one stall of 2 s: the true p99 is 1,821 ms; tools that count from the send say 10."""
    analysis = analyse(web_run(stalled()))
    found = {finding.id: finding for finding in analysis.findings}
    assert analysis.felt.latency["p99"].value == pytest.approx(1821, rel=0.02)
    evidence = found["latency.omission"].evidence
    assert evidence["latency_p99_ms"] == pytest.approx(1821, rel=0.02)
    assert evidence["service_p99_ms"] < 10
    assert "as a closed loop (ab, wrk, hey) does, it would be 2.5" in found["latency.omission"].sentence
    p99 = next(h for h in analysis.headlines if h.id == "p99")
    assert p99.value == pytest.approx(1821, rel=0.02) and p99.text == "1.82"
    assert found["load.dips"].window == pytest.approx((9.0, 11.0))


def test_a_stall_without_a_limit_of_connections_is_still_not_what_a_closed_loop_says():
    """All are sent in time: service time is latency, and the walk shows what waiting would have hidden."""
    found = said(web_run(stalled(connections=5000)))["latency.omission"]
    assert found.evidence["service_p99_ms"] == pytest.approx(1821, rel=0.02)
    assert found.evidence["closed_loop_p99_ms"] < 10
    assert "it sends nothing while it waits" in found.sentence


def test_a_closed_loop_says_what_it_hides():
    found = said(web_run(closed_loop(), record=CLOSED, offered=False))
    finding = found["latency.measured"]
    assert finding.severity == "warning" and "the rate adapts to the server" in finding.sentence
    assert finding.evidence["p99_ms"] < 3
    assert finding.evidence["corrected_p99_ms"] == pytest.approx(1821, rel=0.02)
    assert "latency.omission" not in found and "load.generator" not in found
    assert "each when the last was answered" in found["load.rate"].sentence


def test_a_closed_loop_offers_nothing():
    analysis = analyse(web_run(closed_loop(), record=CLOSED, offered=False))
    assert analysis.load.closed and analysis.load.offered is None
    assert analysis.headlines[0].bound == "none: a closed loop"
    assert "from 1 client that waited for each answer" in analysis.verdict.sentence


def test_a_closed_loop_of_less_than_a_second_has_a_rate():
    single = closed_loop(seconds=0.8, stall=(5.0, 5.0))
    analysis = analyse(web_run(single, record=CLOSED, offered=False, length_s=0.8))
    assert analysis.load.achieved == pytest.approx(500, rel=0.02)
    assert analysis.verdict.label == "Unthrottled"


def test_nothing_was_omitted_where_nothing_stalled():
    rng = np.random.default_rng(1)
    due = np.arange(10_000) / 500
    finding = said(web_run(requests(due, np.full(len(due), 1e-5), rng.uniform(0.001, 0.0018, len(due)))))
    assert finding["latency.omission"].severity == "ok"


def test_a_queue_has_the_latency_that_theory_says():
    """M/D/1 at 0.6: the mean wait is ρ/(2(1 − ρ)) services (Pollaczek and Khinchine)."""
    single = one_server(60, 0.01, 300)
    felt = felt_of(single, closed=False)
    assert float(single.latency.mean()) * 1000 == pytest.approx(10 * (1 + 0.6 / (2 * 0.4)), rel=0.05)
    # Half of all wait less than about one service; the median is 10 ms and some.
    assert 10 < felt.latency["p50"].value < 20 < felt.latency["p99"].value < 80


def test_percentiles_are_of_all_clients_together():
    """A client with few requests weighs what it did; the mean of two p99 would be 505 ms."""
    service = np.append(np.full(9900, 0.01), np.full(100, 1.0))
    client = np.append(np.zeros(9900), np.ones(100)).astype(np.uint16)
    due = np.concatenate((np.arange(9900) / 500, np.arange(100) / 5))
    single = requests(due, np.zeros(10_000) + 1e-5, service, client=client, clients=("load-0/a", "load-1/b"))
    assert felt_of(single, closed=False).latency["p99"].value == pytest.approx(10, rel=0.01)


def test_what_the_number_does_not_carry_is_refused():
    due = np.arange(900) / 30
    found = said(web_run(requests(due, np.full(900, 1e-5), np.full(900, 0.004))))
    assert found["latency.tail"].severity == "refused"
    assert found["latency.tail"].sentence == (
        "p99, p99.9 and p99.99 are not stated: 900 requests succeeded, and p99 takes 1,000."
    )
    analysis = analyse(web_run(requests(due, np.full(900, 1e-5), np.full(900, 0.004))))
    p99 = next(h for h in analysis.headlines if h.id == "p99")
    assert p99.value is None and p99.bound == "900 requests are too few: it takes 1,000"


def test_the_warmup_is_in_no_percentile():
    due = np.arange(10_000) / 500
    service = np.where(due < 5, 2.0, 0.01)
    single = requests(due, np.full(len(due), 1e-5), service, warmup=due < 5)
    felt = felt_of(single, closed=False)
    assert felt.n == 7500 and felt.slowest[0] == pytest.approx(10, rel=0.01)


def test_failed_requests_flatter_the_percentiles():
    due = np.arange(10_000) / 500
    error = np.where(np.arange(10_000) % 50 == 0, 1, 0).astype(np.uint16)
    found = said(web_run(requests(due, np.full(len(due), 1e-5), np.full(len(due), 0.01), error=error)))
    assert found["latency.failed"].severity == "warning"
    assert "p99 would be one of them" in found["latency.failed"].sentence
    few = np.where(np.arange(10_000) % 1000 == 0, 1, 0).astype(np.uint16)
    found = said(web_run(requests(due, np.full(len(due), 1e-5), np.full(len(due), 0.01), error=few)))
    assert "p99 would be 10 ms" in found["latency.failed"].sentence


def test_nothing_succeeded():
    due = np.arange(100) / 5
    gone = np.ones(100, dtype=np.uint16)
    single = requests(due, np.full(100, 1e-5), np.full(100, 3.0), error=gone, status=np.zeros(100, dtype=np.uint16))
    found = said(web_run(single))
    assert found["latency.none"].severity == "refused"
    assert "100 of 100 requests failed (100 %): 100 timed out" in found["load.errors"].sentence
    verdict = analyse(web_run(single)).verdict
    assert (verdict.label, verdict.sentence) == ("All failed", "None of the requests succeeded: 100 timed out.")


def test_the_walk_meets_each_stall_once():
    due = np.arange(0, 10, 0.01)
    latency = np.where((due >= 5) & (due < 6), 6 - due, 0.005)
    met = walked(due, latency)
    assert (met > 0.5).sum() == 1 and len(met) == 901


def test_what_was_not_sent_is_counted_from_when_it_would_have_been_due():
    assert unsent(np.array([1.0, 0.1]), 0.25, 100).tolist() == [0.75, 0.5, 0.25]
    assert unsent(np.array([1e6]), 1e-3, 100) is None


def test_errors_are_told_by_kind_and_time():
    due = np.arange(10_000) / 500
    error = np.zeros(10_000, dtype=np.uint16)
    error[5000:5100], error[7000] = 1, 2
    status = np.where(error > 0, 0, 200).astype(np.uint16)
    single = requests(due, np.full(len(due), 1e-5), np.full(len(due), 0.01), error=error, status=status)
    finding = said(web_run(single))["load.errors"]
    assert finding.sentence == (
        "101 of 10,000 requests failed (1.0 %): 100 timed out and 1 were refused. Nine of ten of them ended at 10–11 s."
    )
    assert (finding.evidence["timeout"], finding.evidence["refused"]) == (100, 1)


def test_latency_counts_from_the_intended_send():
    assert "from when a request was due" in said(web_run(stalled()))["latency.measured"].sentence


def test_offered_and_achieved_are_of_requests():
    error = np.where(np.arange(10_000) % 2 == 0, 1, 0).astype(np.uint16)
    due = np.arange(10_000) / 500
    analysis = analyse(web_run(requests(due, np.full(len(due), 1e-5), np.full(len(due), 0.001), error=error)))
    assert analysis.load.offered == pytest.approx(500, rel=0.001)
    assert analysis.load.achieved == pytest.approx(250, rel=0.001)
    assert analysis.verdict.label == "Fell short"


def test_a_ramp_that_is_followed_is_no_dip():
    due = np.sqrt(np.arange(20_000) / 10)  # 20 more requests/s every second
    late, service = answered(due, np.full(len(due), 0.001), 100)
    analysis = analyse(web_run(requests(due, late, service)))
    assert analysis.load.asked is not None
    assert analysis.load.ratio == pytest.approx(1, abs=0.01)
    assert "load.dips" not in {finding.id for finding in analysis.findings}


def test_endpoints_are_compared_within_the_run():
    rng = np.random.default_rng(6)
    due = np.arange(20_000) / 500
    which = (np.arange(20_000) % 3 == 0).astype(np.uint16)
    service = rng.exponential(0.01, 20_000) * (1 + which)
    single = requests(due, np.full(20_000, 1e-5), service, endpoint=which, endpoints=("method=a", "method=b"))
    analysis = analyse(web_run(single))
    finding = next(f for f in analysis.findings if f.id == "latency.endpoints")
    assert finding.evidence["p50_ratio_low"] < 2 < finding.evidence["p50_ratio_high"]
    assert finding.sentence.startswith("The two endpoints compared: method=b has p50 1")
    assert "within this one run" in finding.sentence


def test_equal_endpoints_show_no_difference():
    rng = np.random.default_rng(8)
    due = np.arange(20_000) / 500
    which = rng.integers(0, 2, 20_000).astype(np.uint16)
    single = requests(
        due, np.full(20_000, 1e-5), rng.exponential(0.01, 20_000), endpoint=which, endpoints=("GET /a", "GET /b")
    )
    finding = next(f for f in analyse(web_run(single)).findings if f.id == "latency.endpoints")
    assert "no difference is seen" in finding.sentence


def test_one_request_and_none():
    one = requests([0.5], [1e-5], [0.01])
    assert said(web_run(one))["latency.tail"].severity == "refused"
    lost = replace(one, latency=np.array([np.nan], dtype=np.float32), late=np.array([np.nan], dtype=np.float32))
    assert said(web_run(lost))["latency.none"].severity == "refused"
