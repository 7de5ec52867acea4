"""CloudWatch's statistics of single values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labtool.localcloud.cloudwatch.extended import statistic

TEN = [(float(value), 1.0) for value in range(1, 11)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("p0", 1.0),
        ("p50", 5.5),
        ("p100", 10.0),
        ("tm90", 5.0),  # without the tenth
        ("TM(10%:90%)", 5.5),
        ("TM(:50%)", 3.0),
        ("TM(2:5)", 4.0),  # 3, 4 and 5
        ("IQM", 5.5),
        ("tc90", 9.0),
        ("ts90", 45.0),
        ("TS(80%:)", 19.0),
        ("TC(2:5)", 3.0),
        ("TC(20:)", 0.0),
        ("WM(2:5)", (2 + 2 + 3 + 4 + 6 * 5) / 10),
        ("PR(:3)", 30.0),
        ("PR(3:)", 70.0),
    ],
)
def test_of_one_to_ten(name, value):
    assert statistic(name)(TEN) == pytest.approx(value)


def test_a_mean_of_nothing_is_none():
    assert statistic("TM(20:)")(TEN) is None


@pytest.mark.parametrize("name", ["tm101", "Average", "TM(90%:10%)", "PR(2%:98%)", "median", "p", "q50"])
def test_what_is_no_statistic(name):
    assert statistic(name) is None


values = st.lists(st.tuples(st.floats(0, 1e6), st.integers(1, 50)), min_size=1, max_size=30)


@given(values, st.integers(1, 100))
def test_sum_is_mean_times_count_and_all_is_the_mean(pairs, share):
    made = {kind: statistic(f"{kind}{share}")(pairs) for kind in ("tm", "tc", "ts")}
    assert made["ts"] == pytest.approx(made["tm"] * made["tc"], rel=1e-9, abs=1e-6)
    mean = sum(value * count for value, count in pairs) / sum(count for _, count in pairs)
    assert statistic("tm100")(pairs) == pytest.approx(mean, rel=1e-9, abs=1e-6)
    low, high = min(pairs)[0], max(pairs)[0]
    assert low - 1e-6 <= statistic(f"wm{share}")(pairs) <= high + 1e-6
    assert statistic("TM(:)")(pairs) == pytest.approx(mean, rel=1e-9, abs=1e-6)
