from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labtool.analysis.quantiles import STATED, carried, fewest, quantiles, rank, ranks_between, ratio


@given(st.integers(1, 3000), st.sampled_from([q for _, q in STATED]))
def test_a_quantile_is_numpys_order_statistic(n, q):
    values = np.arange(1.0, n + 1)
    assert values[rank(n, q) - 1] == np.quantile(values, q, method="inverted_cdf")


@pytest.mark.parametrize(("name", "q"), STATED)
def test_ten_must_lie_beyond(name, q):
    assert carried(fewest(q), q) and not carried(fewest(q) - 1, q)
    assert name in [found.name for found in quantiles(np.arange(float(fewest(q))))]
    assert name not in [found.name for found in quantiles(np.arange(float(fewest(q) - 1)))]


@pytest.mark.parametrize(("n", "q", "expected"), [(100, 0.5, (40, 61)), (1000, 0.99, (983, 996))])
def test_ranks_as_in_the_tables(n, q, expected):
    """Of 100 values the 40th and the 61st enclose the median (Conover, Practical Nonparametric Statistics)."""
    assert ranks_between(n, q) == pytest.approx(expected, abs=1)


@pytest.mark.parametrize(("n", "q"), [(200, 0.9), (2000, 0.99)])
def test_intervals_hold_the_truth_in_95_of_100(n, q):
    rng = np.random.default_rng(1)
    truth = -np.log(1 - q)
    held = 0
    for _ in range(1000):
        (found,) = quantiles(rng.exponential(1, n), [("q", q)])
        held += found.low <= truth <= found.high
    assert 935 <= held <= 985


def test_what_is_no_number_does_not_count():
    values = np.append(np.arange(100.0), np.full(900, np.nan))
    assert [found.name for found in quantiles(values)] == ["p50", "p90"]


def test_a_ratio_is_found_within_its_interval():
    rng = np.random.default_rng(2)
    times = np.arange(20_000) / 400
    ours, theirs = rng.exponential(0.02, len(times)), rng.exponential(0.01, len(times))
    found = ratio(0.5, (times, ours), (times, theirs))
    assert found.value == pytest.approx(2, rel=0.05)
    assert 1.9 < found.low < 2 < found.high < 2.1


def test_independent_values_have_the_interval_that_theory_says():
    """The median of n exponentials has a relative standard deviation of 1/(ln 2 √n), and a ratio of two √2 of it."""
    rng = np.random.default_rng(3)
    times = np.arange(6000) / 100
    found = ratio(0.5, (times, rng.exponential(1, 6000)), (times, rng.exponential(1, 6000)))
    spread = np.log(found.high / found.low) / (2 * 1.96)
    assert spread == pytest.approx(np.sqrt(2) / (np.log(2) * np.sqrt(6000)), rel=0.3)


def test_a_stall_widens_the_interval_of_a_ratio():
    """One stretch in which everything is slow may be drawn often or not at all."""
    rng = np.random.default_rng(4)
    times = np.arange(20_000) / 400
    even = rng.exponential(0.01, len(times))
    slow = np.where((times > 20) & (times < 21), 1.0, rng.exponential(0.01, len(times)))
    found = ratio(0.99, (times, slow), (times, even))
    assert found.low < 1.5 and found.high > 10


def test_too_short_for_an_interval():
    times = np.arange(900) / 100
    found = ratio(0.5, (times, np.full(900, 2.0)), (times, np.full(900, 1.0)))
    assert (found.value, found.low, found.high) == (2.0, None, None)
