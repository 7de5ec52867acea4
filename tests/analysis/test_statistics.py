from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labtool.analysis.data import Series
from labtool.analysis.statistics import (
    FEWEST_BATCHES,
    batch_means,
    bin_width,
    bins,
    busiest_stretch,
    gaps,
    longest_stretch_above,
    quantile,
    share_above,
    t_975,
)

values = st.lists(st.floats(0, 1e6, allow_subnormal=False), min_size=1, max_size=300)


def series(numbers, step=1.0):
    return Series(np.arange(1, len(numbers) + 1) * step, np.array(numbers, dtype=float))


def test_students_t_of_tables():
    assert t_975(1) == pytest.approx(12.706)
    assert t_975(9) == pytest.approx(2.262)
    assert t_975(60) == pytest.approx(2.000, abs=1e-3)
    assert t_975(10_000) == pytest.approx(1.960, abs=1e-3)
    with pytest.raises(ValueError):
        t_975(0)


def test_an_interval_needs_ten_values():
    assert batch_means(np.arange(2 * FEWEST_BATCHES - 1, dtype=float)) is None
    assert batch_means(np.full(50, np.nan)) is None
    found = batch_means(np.ones(10))
    assert (found.mean, found.half, found.batches) == (1.0, 0.0, 5)


def test_batch_means_cover_the_truth_of_an_autocorrelated_series():
    rng = np.random.default_rng(3)
    inside = naive = 0
    for _ in range(300):
        noise = rng.normal(size=400)
        x = np.empty(400)
        x[0] = noise[0]
        for i in range(1, 400):
            x[i] = 0.7 * x[i - 1] + noise[i]
        found = batch_means(x)
        inside += found.low <= 0 <= found.high
        half = 1.96 * x.std(ddof=1) / 20
        naive += abs(x.mean()) <= half
    assert inside / 300 > 0.88, "nominal 95 %"
    assert naive / 300 < 0.75, "values taken as independent would claim far too much"


@given(values)
def test_the_mean_lies_within_its_interval(numbers):
    found = batch_means(np.array(numbers))
    if found is not None:
        assert found.low <= found.mean <= found.high
        assert found.mean == pytest.approx(np.mean(numbers))


@given(values, st.floats(1, 50))
def test_the_busiest_stretch_is_no_less_busy_than_the_whole(numbers, length):
    mean, start, end = busiest_stretch(series(numbers), length)
    assert min(numbers) - 1e-6 <= mean <= max(numbers) + 1e-6
    assert 0 <= start < end <= len(numbers)
    if len(numbers) <= length:
        assert mean == pytest.approx(np.mean(numbers))


def test_the_busiest_stretch_is_found():
    numbers = [0.1] * 100 + [0.9] * 60 + [0.1] * 100
    mean, start, end = busiest_stretch(series(numbers), 60)
    assert (mean, start, end) == (pytest.approx(0.9), 100, 160)


def test_a_stretch_with_a_hole_does_not_count():
    t = np.concatenate([np.arange(1, 101), np.arange(200, 205), np.arange(300, 401)]).astype(float)
    v = np.where((t >= 200) & (t < 210), 1.0, 0.5)
    mean, _, _ = busiest_stretch(Series(t, v), 60)
    assert mean == pytest.approx(0.5), "five points are no busy minute"


def test_gaps_are_named_and_jitter_is_none():
    t = np.concatenate([np.arange(1, 101), np.arange(121, 301)]).astype(float)
    assert gaps(Series(t, t), 0, 300) == [(100.0, 120.0)]
    assert gaps(Series(t + np.where(t % 2, 0.2, -0.2), t), 0, 300)[0][0] == pytest.approx(99.8, abs=0.5)
    assert gaps(Series(np.array([]), np.array([])), 0, 10) == [(0, 10)]
    assert gaps(series([1.0] * 200), 0, 300) == [(200.0, 300.0)]
    assert gaps(series([1.0] * 300), 0, 300) == []


@given(values, st.sampled_from([1.0, 2.0, 5.0, 60.0]))
def test_bins_lose_no_point(numbers, width):
    one = series(numbers)
    found = bins(one, 0, len(numbers), width)
    number = np.array([np.sum((one.t > c - width / 2) & (one.t <= c + width / 2)) for c in found.centre])
    assert number.sum() == len(numbers)
    assert np.nansum(found.mean * number) == pytest.approx(sum(numbers), rel=1e-9, abs=1e-6)
    assert np.nanmin(found.low) == min(numbers)
    assert np.nanmax(found.high) == max(numbers)


def test_a_bin_without_a_point_is_unknown():
    found = bins(Series(np.array([1.0, 9.0]), np.array([3.0, 4.0])), 0, 10, 5)
    assert found.mean.tolist() == [3.0, 4.0]
    assert np.isnan(bins(Series(np.array([1.0]), np.array([3.0])), 0, 10, 5).mean[1])


def test_bin_widths_are_round_and_no_finer_than_the_data():
    assert bin_width(300, 1, 360) == 2
    assert bin_width(1800, 1, 150) == 15
    assert bin_width(1800, 60, 150) == 60
    assert bin_width(86400 * 7, 1, 100) == 7200


def test_shares_and_stretches():
    one = series([0.5, 0.95, 0.95, 0.2, 0.95, np.nan])
    assert share_above(one, 0.9) == pytest.approx(3 / 5)
    assert longest_stretch_above(one, 0.9) == 2
    assert quantile(np.array([1.0, np.nan, 3.0]), 0.5) == 2.0
    assert quantile(np.array([np.nan]), 0.5) is None
