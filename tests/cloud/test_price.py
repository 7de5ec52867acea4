from __future__ import annotations

import pytest

from labtool.cloud import price


def test_hosts_and_their_disks_are_added_up():
    found = price.of(["t3.medium"] * 3, root_gib=20)
    assert found.usd_per_hour == pytest.approx(3 * (0.0416 + 20 * 0.08 / 730))
    assert found.unknown == ()


def test_a_type_without_a_price_is_named_not_guessed():
    found = price.of(["t3.small", "x9.huge"], root_gib=0)
    assert found.usd_per_hour == pytest.approx(0.0208)
    assert "x9.huge: no price known" in str(found)
