"""CloudWatch's rates, in virtual time."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from labtool.collect.rate import Rate


class Clock:
    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        assert seconds > 0
        self.now += seconds


@given(st.lists(st.tuples(st.integers(0, 100_800), st.floats(0, 2)), max_size=40))
def test_requests_and_points_stay_below_the_rates_and_no_time_is_lost(asked):
    clock = Clock()
    rate = Rate(50, 180_000, monotonic=clock.monotonic, sleep=clock.sleep)
    sent = []
    for points, idle in asked:
        before = clock.now
        rate.wait(points)
        sent.append((clock.now, points, clock.now - before))
        clock.now += idle
    for (at, points, _), (then, _, waited) in itertools.pairwise(sent):
        due = at + max(1 / 50, points / 180_000)
        assert then >= due - 1e-9
        assert waited == 0 or abs(then - due) < 1e-6, "waited longer than it had to"


def test_a_small_pull_does_not_wait():
    clock = Clock()
    Rate(monotonic=clock.monotonic, sleep=clock.sleep).wait(30_000)
    assert clock.now == 100.0
