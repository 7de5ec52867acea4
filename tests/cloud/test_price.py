from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from fake import pricing
from fake.promises import Promises
from hypothesis import given
from hypothesis import strategies as st

from labtool.cloud import bill, price_list
from labtool.cloud.price import ADDRESS_USD_PER_HOUR, MONITORING_USD_PER_HOUR, SHIPPED, Prices
from labtool.errors import UsageError
from labtool.topology import Host

BESIDES = ADDRESS_USD_PER_HOUR + MONITORING_USD_PER_HOUR


def test_hosts_their_disks_addresses_and_monitoring_are_added_up():
    found = SHIPPED.of(["t3.medium"] * 3, root_gib=20)
    assert found.usd_per_hour == pytest.approx(3 * (0.0416 + 20 * 0.08 / 730 + 0.005 + 2.1 / 730))
    assert found.unknown == ()


def test_a_host_without_a_public_address_does_not_pay_for_one():
    public, private = (SHIPPED.of(["t3.small"], 0, public=each).usd_per_hour for each in (True, False))
    assert public - private == pytest.approx(0.005)


def test_a_type_without_a_price_is_named_not_guessed():
    found = SHIPPED.of(["t3.small", "x9.huge"], root_gib=0)
    assert found.usd_per_hour == pytest.approx(0.0208 + BESIDES)
    assert "x9.huge: no price known" in str(found)


def test_prices_are_those_of_awss_list(session, aws):
    found = price_list.prices(session, ["t3.small", "x9.new"])
    assert found.of(["t3.small", "x9.new"], 20).usd_per_hour == pytest.approx(
        9.03 + 2 * (20 * pricing.GP3_GIB_MONTH / 730 + BESIDES)
    )
    assert str(found) == f"list prices of us-east-1, {aws.clock.now().date()}"
    assert {call.service for call in aws.calls} == {"pricing"}


def test_the_list_is_asked_once_a_week(session, aws):
    price_list.prices(session, ["t3.small"])
    asked = len(aws.calls)
    first = aws.clock.now().date()
    aws.pass_time(6 * 86400)
    assert price_list.prices(session, ["t3.small", "t3.small"]).dated == first.isoformat()
    assert len(aws.calls) == asked
    aws.pass_time(2 * 86400)
    assert price_list.prices(session, ["t3.small"]).dated == (first + timedelta(days=8)).isoformat()
    assert len(aws.calls) == 2 * asked


def test_what_the_list_does_not_have_has_no_price(session):
    found = price_list.prices(session, ["t3.small", "t3.tiny"]).of(["t3.small", "t3.tiny"], 0)
    assert found.unknown == ("t3.tiny",)
    assert found.usd_per_hour == pytest.approx(0.03 + BESIDES)


@pytest.mark.parametrize("how", ["denied", "unreachable"])
def test_without_the_list_the_table_is_taken_with_its_date(session, aws, how):
    if how == "denied":
        aws.promises = Promises(denied=frozenset({"GetProducts"}))
    else:
        aws.faults = dict.fromkeys(range(99), "unreachable")
    found = price_list.prices(session, ["t3.small"])
    assert found.hourly is SHIPPED.hourly and found.dated == SHIPPED.dated


def test_a_list_that_no_longer_answers_is_taken_as_it_was(session, aws):
    price_list.prices(session, ["t3.small"])
    aws.pass_time(30 * 86400)
    aws.promises = Promises(denied=frozenset({"GetProducts"}))
    assert price_list.prices(session, ["t3.small"]).hourly["t3.small"] == 0.03
    assert price_list.prices(session, ["t3.small", "m5.large"]).hourly is SHIPPED.hourly  # not half of each


def test_a_file_of_prices_that_was_cut_is_read_again_from_the_list(session, aws):
    from labtool import config

    price_list.prices(session, ["t3.small"])
    (file,) = (config.cache() / "prices").iterdir()
    file.write_text(file.read_text()[:-9])
    assert price_list.prices(session, ["t3.small"]).hourly == {"t3.small": 0.03}


def test_another_regions_prices_are_said_to_be_that():
    prices = Prices("us-east-1", "2025-06", {"t3.small": 0.02}, 0.08, where="eu-central-1")
    assert "list prices of us-east-1, 2025-06; eu-central-1 may differ" in str(prices.of(["t3.small"], 0))


def test_nothing_is_asked_where_nothing_is_billed(session, aws, monkeypatch):
    from dataclasses import replace

    monkeypatch.setattr(session, "target", replace(session.target, kind="local"))
    assert price_list.prices(session, ["t3.small"]) is SHIPPED
    assert aws.calls == []


@given(most=st.floats(0.01, 1e4), hours=st.integers(1, 720), count=st.integers(1, 1000), root=st.integers(8, 16384))
def test_hosts_end_before_they_cost_more_than_they_may(most, hours, count, root):
    new = SHIPPED.of(["t3.medium"] * count, root)
    try:
        span = bill.lifetime(new, timedelta(hours=hours), most)
    except UsageError:
        assert new.usd_per_hour * 12 / 60 > most
    else:
        assert timedelta(minutes=10) <= span <= timedelta(hours=hours)
        assert new.usd_per_hour * (span + timedelta(minutes=1)).total_seconds() / 3600 <= most or span == timedelta(
            hours=hours
        )
        assert new.usd_per_hour * span.total_seconds() / 3600 <= most


def test_what_hosts_have_cost_is_by_the_second_and_at_least_a_minute():
    launched = datetime(2026, 1, 1, tzinfo=UTC)
    host = Host("a-0", "a", 0, "i-1", "running", "t3.small", "", "", "", "", "", launched)
    hourly = bill.of_hosts([host], SHIPPED).usd_per_hour
    for lived, paid in ((5, 60), (60, 60), (90, 90), (7200, 7200)):
        cost = bill.spent([host, host], SHIPPED, launched + timedelta(seconds=lived))
        assert cost == pytest.approx(2 * hourly * paid / 3600)


def test_a_limit_cannot_be_held_without_a_price():
    new = SHIPPED.of(["x9.huge"], 0)
    with pytest.raises(UsageError, match=r"no price of x9\.huge"):
        bill.lifetime(new, timedelta(hours=4), 10)
    with pytest.raises(UsageError, match=r"no price of x9\.huge"):
        bill.hold(new, 10)
    bill.hold(new, None)
    assert bill.lifetime(new, timedelta(hours=4), None) == timedelta(hours=4)
