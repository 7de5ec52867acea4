"""Whether a backlog grows, on backlogs whose growth is known."""

from __future__ import annotations

import random

import pytest

from tests.roles.modules import load

backlog = load("playbooks/workloads/files/backlog.py", "backlog")


def noisy(slope, seed, n=40, alike=0.0):
    chance, rest = random.Random(seed), 0.0
    for at in range(n):
        rest = alike * rest + chance.gauss(0, 50)
        yield float(at), 200 + slope * at + rest


@pytest.mark.parametrize("slope", [0.0, 30.0, -10.0])
@pytest.mark.parametrize("alike", [0.0, 0.7])
def test_the_interval_has_the_true_growth_nearly_always(slope, alike):
    inside = 0
    for seed in range(200):
        found = backlog.growth(*zip(*noisy(slope, seed, alike=alike), strict=True))
        inside += found.low <= slope <= found.high
    assert inside >= 176, "19 of 20 where neighbours are independent; a few less where they are alike, as in 40 points"


def test_what_grows_and_what_does_not():
    level = backlog.growth(*zip(*noisy(0, 1), strict=True))
    steep = backlog.growth(*zip(*noisy(100, 1), strict=True))
    assert not level.grows(1000) and steep.grows(1000)
    assert steep.told(1000) and level.told(1000)
    slow = backlog.growth(range(10), [5.0 * at for at in range(10)])
    assert slow.low > 0 and not slow.grows(1000), "995 of 1,000 are done: that is no growth"
    assert slow.grows(100)


def test_too_few_points_say_nothing():
    assert backlog.growth([1, 2, 3, 4], [1, 2, 3, 4]) is None
    assert backlog.growth([1] * 9, range(9)) is None


def test_a_batch_is_a_point_though_its_results_come_one_by_one():
    points = [(1.0, 90.0), (1.02, 50.0), (1.04, 10.0), (2.0, 80.0), (2.03, 12.0)]
    assert backlog.by_batch(points, 0.3) == [(1.04, 10.0), (2.03, 12.0)]


@pytest.mark.parametrize(("freedom", "known"), [(1, 12.706), (2, 4.303), (3, 3.182), (8, 2.306), (30, 2.042)])
def test_students_t(freedom, known):
    assert backlog.t_975(freedom) == pytest.approx(known, rel=0.02)
