from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labtool.collect import clock
from labtool.errors import CollectError

DELAYS = st.lists(st.tuples(st.integers(1, 10**9), st.integers(1, 10**9)), min_size=1, max_size=40)


def exchanges(offset_ns, delays, gap_ns=10**7):
    """What a host whose clock is ahead by `offset_ns` answers, when a line takes so long there and so long back."""
    now = 1_795_248_468 * 10**9
    for there, back in delays:
        yield now, now + there + offset_ns, now + there + back
        now += there + back + gap_ns


@given(st.integers(-(10**12), 10**12), DELAYS)
def test_the_true_offset_lies_within_the_bound_which_half_the_fastest_trip_bounds(offset_ns, delays):
    found, bound = clock.intersect(exchanges(offset_ns, delays))
    slack = 1e-9 + abs(offset_ns) * 1e-24
    assert abs(found - offset_ns / 1e9) <= bound + slack
    assert bound <= min(there + back for there, back in delays) / 2e9 + slack


def test_a_clock_that_is_set_meanwhile_fits_nothing():
    before = list(exchanges(0, [(1000, 1000)] * 3))
    after = list(exchanges(10**9, [(1000, 1000)] * 3))
    with pytest.raises(CollectError, match="the clock was set while it was measured"):
        clock.intersect(before + after)


def test_no_exchange_is_no_offset():
    with pytest.raises(CollectError, match="no exchange"):
        clock.intersect([])


# A host whose clock is 90 s ahead: the same loop, told another time.
AHEAD = """exec python3 -c "
import sys, time
for _ in sys.stdin.buffer: print(time.time_ns() + 90 * 10**9, flush=True)"
"""


def test_hosts_are_measured_and_those_that_cannot_be_are_told(access, host, hooks):
    hooks("ahead", AHEAD)
    hooks("gone", "echo 'Connection refused' >&2; exit 255")
    hooks("dumb", "exec sleep 30")
    hooks("odd", "read line; echo hello; exit 0")
    names = ["here", "ahead", "gone", "dumb", "odd"]
    rows, missing = clock.measure(
        access, [*map(host, names), host("off", state="stopped")], "before", exchanges=8, timeout_s=2.0
    )
    found = {row.host: row for row in rows}
    assert set(found) == {"here", "ahead"}
    assert abs(found["here"].offset_s) <= found["here"].bound_s
    assert abs(found["ahead"].offset_s - 90) <= found["ahead"].bound_s
    assert {row.samples for row in rows} == {8}
    assert {row.phase for row in rows} == {"before"}
    assert {one.host: one.why for one in missing} == {
        "gone": "SSH failed: Connection refused",
        "dumb": "no answer within 2 s",
        "odd": "ended with status 0",
        "off": "the host is stopped",
    }
