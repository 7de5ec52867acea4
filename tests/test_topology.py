from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from labtool.topology import missing_indexes


@given(st.sets(st.integers(0, 40)), st.integers(0, 50))
def test_missing_indexes_fill_up_and_never_collide(existing, count):
    new = missing_indexes(existing, count)
    assert not set(new) & existing
    assert len(new) == max(0, count - len(existing))
    assert new == sorted(set(new))
