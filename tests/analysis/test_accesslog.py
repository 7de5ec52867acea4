from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_requests import requests, web_run

from labtool.analysis import accesslog
from labtool.analysis.accesslog import chi_square, shares
from labtool.analysis.data import AccessLog, Matched, Url


def log(n=10_000, seconds=20, **more):
    """A log of as many lines as there were requests, by two servers in turn."""
    fields = {
        "service": "haproxy",
        "t": np.arange(n) / n * seconds,
        "duration": np.full(n, 0.009, dtype=np.float32),
        "status": np.full(n, 200, dtype=np.uint16),
        "backend": (np.arange(n) % 2).astype(np.uint16),
        "host": np.zeros(n, dtype=np.uint16),
        "backends": ("web-0", "web-1"),
        "hosts": ("balancer-0",),
    }
    return AccessLog(**(fields | more))


def matched(**more):
    pairs = np.full(10_000, 0.01, dtype=np.float32)
    fields = {
        "sent": 10_000,
        "logged": 10_000,
        "missing": (),
        "missing_span": None,
        "others": 0,
        "others_named": (),
        "again": 0,
        "status_differs": 0,
        "service": pairs,
        "duration": pairs - np.float32(0.001),
    }
    return Matched(**(fields | more))


def said(access, single=None):
    due = np.arange(10_000) / 500
    single = single or requests(due, np.full(len(due), 1e-5), np.full(len(due), 0.01))
    return {finding.id: finding for finding in accesslog.findings(web_run(single, access=access))}


def test_both_sides_agree():
    found = said(log(matched=matched()))
    assert found["server.counts"].sentence == (
        "Of the 10,000 requests sent haproxy's log has 10,000, and the statuses are the same."
    )
    assert {found[name].severity for name in ("server.counts", "server.durations", "server.backends")} == {"ok"}
    assert "half of them took 1 ms longer or less" in found["server.durations"].sentence


def test_what_is_missing_is_counted_on_its_side_with_the_reason():
    access = log(
        matched=matched(
            logged=9700,
            missing=(("timeout", 200), ("refused", 60), ("", 40)),
            missing_span=(25.0, 26.0),
            again=7,
            others=33,
            others_named=(("GET /health", 30), ("OPTIONS *", 3)),
        )
    )
    finding = said(access)["server.counts"]
    assert finding.severity == "warning"
    for part in (
        "300 are missing (200 timed out at the client, 60 were refused at the client and 40 were answered and are not",
        "the log ends at 20 s",
        "7 came more than once (retries)",
        "33 other lines are no client's (30 × GET /health and 3 × OPTIONS *)",
    ):
        assert part in finding.sentence
    assert finding.evidence["missing"] == 300 and finding.evidence["missing_answered"] == 40


def test_a_hundredth_missing_still_agrees_and_is_still_said():
    finding = said(log(matched=matched(logged=9950, missing=(("timeout", 50),))))["server.counts"]
    assert finding.severity == "ok" and "50 are missing (50 timed out at the client)" in finding.sentence


def test_without_ids_totals_and_statuses_are_compared():
    found = said(log())
    assert found["server.counts"].severity == "ok" and "the statuses agree too" in found["server.counts"].sentence
    status = np.where(np.arange(10_000) < 500, 503, 200).astype(np.uint16)
    finding = said(log(status=status))["server.counts"]
    assert finding.severity == "warning"
    assert "the statuses differ, at the client and in the log: 200 (10,000 and 9,500) and 503 (0 and 500)" in (
        finding.sentence
    )


def test_a_cut_log_is_told_from_others_who_asked():
    cut = log()
    half = replace(cut, **{name: getattr(cut, name)[:5000] for name in ("t", "duration", "status", "backend", "host")})
    assert "5,000 apart (the log may be cut)" in said(half)["server.counts"].sentence
    twice = log(n=12_000)
    assert "health checks" in said(twice)["server.counts"].sentence


def test_a_client_cannot_be_faster_than_the_server():
    pairs = np.full(10_000, 0.01, dtype=np.float32)
    finding = said(log(matched=matched(service=pairs, duration=pairs + np.float32(0.004))))["server.durations"]
    assert finding.severity == "warning" and finding.evidence["below"] == 10_000
    few = pairs.copy()
    few[:5] += np.float32(0.0001)
    finding = said(log(matched=matched(service=pairs, duration=few)))["server.durations"]
    assert finding.severity == "note" and finding.evidence["below"] == 5


def test_without_ids_percentiles_are_compared():
    assert said(log())["server.durations"].severity == "ok"
    finding = said(log(duration=np.full(10_000, 0.02, dtype=np.float32)))["server.durations"]
    assert finding.severity == "warning" and "p50 10 ms against 20 ms" in finding.sentence


def test_uneven_shares_are_named():
    backend = np.where(np.arange(10_000) % 3 == 0, 1, 0).astype(np.uint16)
    finding = said(log(backend=backend))["server.backends"]
    assert finding.severity == "warning" and finding.host == "web-0"
    assert "web-0 answered 66.7 %, web-1 33.3 %; even would be 50.0 %" in finding.sentence
    assert "p < 0.001" in finding.bound


def test_a_difference_of_no_matter_is_even_however_sure():
    backend = (np.random.default_rng(1).random(1_000_000) < 0.51).astype(np.uint16)
    finding = said(log(n=1_000_000, backend=backend))["server.backends"]
    assert finding.evidence["p"] < 1e-6 and finding.severity == "ok"


def test_fronts_without_a_balancer_are_shares_of_hosts():
    access = log(service="httpd", host=(np.arange(10_000) % 2).astype(np.uint16), hosts=("web-0", "web-1"))
    due = np.arange(10_000) / 500
    data = web_run(requests(due, np.full(len(due), 1e-5), np.full(len(due), 0.01)), access=access)
    assert [(one.name, one.requests) for one in shares(data)] == [("web-0", 5000), ("web-1", 5000)]
    assert shares(data)[0].half == pytest.approx(0.0098, abs=1e-4)


@given(st.lists(st.integers(1, 2000), min_size=2, max_size=12))
def test_a_share_less_even_is_less_likely(counts):
    statistic, p = chi_square(counts)
    assert 0 <= p <= 1
    worse = [*counts[:-1], max(counts) * 3 + 100]
    if statistic < chi_square(worse)[0]:
        assert chi_square(worse)[1] <= p


@pytest.mark.parametrize(
    ("counts", "p"), [([40, 60], 0.0455), ([20, 30, 40], 0.0357), ([90, 110, 100, 105, 95], 0.6446)]
)
def test_chi_square_as_in_the_tables(counts, p):
    assert chi_square(counts)[1] == pytest.approx(p, abs=0.005)


def test_the_slow_urls_are_named():
    urls = (
        Url("GET /a", 9000, 90.0, 0.01, 0.02),
        Url("GET /b", 1000, 30.0, 0.02, 0.4),
        Url("GET /c", 9, 20.0, 2, None),
    )
    sentence = said(log(urls=urls, matched=matched()))["server.urls"].sentence
    assert sentence == (
        "The servers spent most time on GET /a: 90 s in 9,000 requests (64 % of the listed paths' time), and the "
        "highest p99 is that of GET /b, 400 ms."
    )


def test_no_log_is_nothing_to_complain_of():
    assert said(None) == {} and said(log(n=0)) == {}
