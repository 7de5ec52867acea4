from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from labtool.dataset import clock
from labtool.dataset.clock import Offset

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


def offset(minutes, offset_s, bound_s=0.001, host="a"):
    return Offset(NOON + timedelta(minutes=minutes), host, "during", offset_s, bound_s, 32)


def test_what_is_appended_is_read_in_order(tmp_path):
    later, sooner = offset(5, 0.25), offset(-5, -0.5, host="b")
    clock.append(tmp_path, [later])
    clock.append(tmp_path, [sooner])
    assert clock.read(tmp_path) == ([sooner, later], [])
    assert clock.latest([later, sooner, offset(9, 0.75)]) == {"a": 0.75, "b": -0.5}


def test_a_cut_line_is_said_and_the_others_stay(tmp_path):
    clock.append(tmp_path, [offset(0, 1.0)])
    with (tmp_path / clock.FILE).open("a") as file:
        file.write('{"time": "2026-07')
    rows, missing = clock.read(tmp_path)
    assert rows == [offset(0, 1.0)]
    assert [one.why.split(":")[0] for one in missing] == ["clock.jsonl line 2"]


def test_the_nearest_measurement_counts():
    rows = [offset(0, 1.0), offset(10, 2.0)]
    assert clock.offset_at(rows, NOON + timedelta(minutes=4)) == 1.0
    assert clock.offset_at(rows, NOON + timedelta(minutes=6)) == 2.0
    assert clock.offset_at([], NOON) == 0.0


def test_a_step_is_told_with_its_size_and_host():
    said = clock.steps([offset(0, 0.0), offset(30, 2.0), offset(0, 0.0, host="b"), offset(30, 0.0001, host="b")])
    assert [(one.host, one.why) for one in said] == [
        ("a", "its clock was set by about +2.000 s between 12:00:00 and 12:30:00 UTC")
    ]


@given(
    st.floats(-100, 100),
    st.floats(-0.9e-4, 0.9e-4),
    st.lists(st.tuples(st.floats(0, 60), st.floats(-1, 1), st.floats(0, 0.1)), min_size=2, max_size=6),
)
def test_a_clock_that_only_drifts_is_no_step(start, drift, measured):
    # Whatever the bounds, the measured middle is off by at most the bound.
    rows = [
        offset(minutes, start + drift * minutes * 60 + share * bound, bound + 1e-9)
        for minutes, share, bound in measured
    ]
    assert clock.steps(rows) == []


@given(st.floats(0, 60), st.floats(0, 60), st.floats(1e-3, 100), st.booleans())
def test_a_step_beyond_bounds_and_drift_is_always_seen(first, second, size, ahead):
    allowed = 0.002 + clock.DRIFT * abs(second - first) * 60
    moved = (allowed + size) * (1 if ahead else -1)
    early, late = sorted((first, second))
    if early < late:
        assert len(clock.steps([offset(late, moved), offset(early, 0.0)])) == 1
