"""The search against servers whose limit is known, steady and noisy."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.roles.modules import load

find_max = load("playbooks/workloads/files/find_max.py", "find_max")


@given(st.floats(0.5, 50_000), st.floats(0.5, 5_000))
def test_the_answer_is_below_the_limit_and_close(limit, begin):
    search = find_max.Search(begin, 1e6)
    tries = 0
    while (rate := search.next()) is not None:
        search.tell(rate, 0.5 if rate <= limit else 1.5 + rate / limit)
        tries += 1
        assert tries < 80
    assert search.held <= limit < search.failed
    assert search.failed / search.held <= 1.03


def test_one_bad_moment_decides_nothing():
    search = find_max.Search(100, 1e6)
    assert not search.tell(100, 1.4)
    assert search.next() == 100, "it is tried again"
    assert search.tell(100, 0.9) and search.held == 100 and search.failed is None


def test_by_far_is_decided_at_once():
    search = find_max.Search(100, 1e6)
    assert search.tell(100, 10) and search.failed == 100 and search.next() == 50


def test_noise_costs_tries_not_the_answer():
    chance = random.Random(4)
    for limit in (40, 100, 777):
        search = find_max.Search(20, 1e6)
        while (rate := search.next()) is not None:
            hiccup = chance.random() < 0.1
            search.tell(rate, 1.5 if hiccup else 0.4 if rate <= limit else 2.0)
        assert limit / 1.05 < search.held <= limit


def test_nothing_holds():
    search = find_max.Search(1, 1e6)
    while (rate := search.next()) is not None:
        search.tell(rate, math.inf)
    assert search.held is None and search.failed < 0.2


def test_the_most_that_may_be_tried():
    search = find_max.Search(30, 100)
    while (rate := search.next()) is not None:
        search.tell(rate, 0.1)
    assert search.held == 100 and search.failed is None


def test_objectives():
    p99, share, mean = find_max.objectives("p99.9 < 50 ms, errors < 0.1 %, mean <= 2 s")
    assert (p99.q, p99.bound, p99.fewest) == (0.999, 0.05, 10_000)
    assert (share.measure, share.bound, share.fewest) == ("errors", pytest.approx(0.001), 1000)
    assert (mean.measure, mean.bound) == ("mean", 2.0)
    assert find_max.objectives("p999 < 1 s")[0].q == 0.999 and find_max.objectives("p50 < 1 s")[0].q == 0.5


@pytest.mark.parametrize("text", ["p99 50 ms", "p99 < 50", "p99 < 5 %", "errors < 5 ms", "p100 < 1 ms", "", "p0 < 1 s"])
def test_what_is_no_objective_is_named(text):
    with pytest.raises(ValueError, match=r"is no objective|a percentile lies"):
        find_max.objectives(text)


def test_values():
    (p90,) = find_max.objectives("p90 < 1 s")
    latencies = [one / 10 for one in range(1, 11)]
    assert p90.value(latencies, 0) == 0.9
    assert p90.value(latencies, 10) == math.inf, "what failed took forever"
    (share,) = find_max.objectives("errors < 1 %")
    assert share.shown(share.value(latencies, 10)) == 50
    assert find_max.objectives("max < 1 s")[0].value(latencies, 0) == 1.0


def test_steps_are_long_enough_for_their_percentiles():
    wanted = find_max.objectives("p99 < 1 s")
    assert find_max.step_seconds(wanted, 1000, 10, 40) == 10
    assert find_max.step_seconds(wanted, 50, 10, 40) == 20
    assert find_max.step_seconds(wanted, 1, 10, 40) == 40
