"""Due times follow their rate, whoever sends them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.roles.modules import load

arrivals = load("playbooks/workloads/files/arrivals.py", "arrivals")

profiles = st.builds(
    arrivals.profile,
    st.sampled_from(arrivals.PROFILES),
    st.floats(1, 20),
    st.floats(1, 50),
    st.floats(1, 50),
    st.integers(1, 6),
)


@given(profiles, st.integers(1, 4))
def test_clients_together_send_what_one_would(pieces, of):
    whole = list(arrivals.even(pieces))
    shared = sorted(due for part in range(of) for due in arrivals.even(pieces, part, of))
    assert shared == pytest.approx(whole)
    assert abs(len(whole) - sum(piece.requests for piece in pieces)) <= 1 + 1e-6


@pytest.mark.slow
@given(profiles)
def test_due_times_grow_and_stay_within_the_time(pieces):
    due = list(arrivals.even(pieces))
    assert due == sorted(due) and due[0] == 0 and due[-1] <= pieces[-1].end + 1e-9


def test_a_ramp_has_half_its_requests_late():
    due = list(arrivals.even(arrivals.profile("ramp", 10, 0.0001, 100, 1)))
    assert len(due) == 501
    # The k-th of a rate 10 t is due at sqrt(2 k / 10).
    assert due[200] == pytest.approx(math.sqrt(2 * 200 / 10), abs=0.01)


def test_constant():
    assert list(arrivals.even(arrivals.profile("constant", 1, 4, 9, 1))) == [0, 0.25, 0.5, 0.75]


def test_steps_and_spike():
    steps = arrivals.profile("steps", 10, 10, 50, 5)
    assert [piece.first for piece in steps] == [10, 20, 30, 40, 50]
    spike = arrivals.profile("spike", 10, 10, 50, 1)
    assert arrivals.mean_rate(spike, 0, 10) == pytest.approx(10 * 0.8 + 50 * 0.2)
    assert arrivals.mean_rate(spike, 4.5, 5.5) == 50


def test_points_hold_until_the_next_and_the_end():
    pieces = arrivals.from_points([(0, 10), (2, 0), (4, 5)], 6)
    due = list(arrivals.even(pieces))
    assert len(due) == 30 and not [one for one in due if 2 <= one < 4]
    assert arrivals.from_points([(0, 10), (100, 5)], 6) == [arrivals.Piece(0, 6, 10, 10)]


def test_poisson_is_repeatable_and_has_its_rate():
    pieces = arrivals.profile("constant", 100, 50, 50, 1)
    one = list(arrivals.poisson(pieces, 7))
    assert one == list(arrivals.poisson(pieces, 7)) != list(arrivals.poisson(pieces, 8))
    assert abs(len(one) - 5000) < 4 * math.sqrt(5000)
    shared = [due for part in range(3) for due in arrivals.poisson(pieces, 7, part, 3)]
    assert abs(len(shared) - 5000) < 4 * math.sqrt(5000)


def test_an_unknown_profile():
    with pytest.raises(ValueError, match="'wave' is none of constant, ramp, steps, spike"):
        arrivals.profile("wave", 1, 1, 1, 1)
