from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest

from labtool.analysis import format as fmt


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (fmt.number(19998.4), "19,998"),
        (fmt.number(0.02551), "0.0255"),
        (fmt.number(12.30), "12.3"),
        (fmt.number(0), "0"),
        (fmt.number(-3.14159), "-3.14"),
        (fmt.count(999_999), "999,999"),
        (fmt.count(6_020_000), "6.02 million"),
        (fmt.rate(19_998.4, "records"), "19,998 records/s"),
        (fmt.rate(12.34, "requests"), "12.3 requests/s"),
        (fmt.size(0), "0 B"),
        (fmt.size(999), "999 B"),
        (fmt.size(12_345_678), "12.3 MB"),
        (fmt.size_rate(999_990), "1 MB/s"),
        (fmt.bits_rate(5e9), "5 Gbit/s"),
        (fmt.percent(0.8312), "83 %"),
        (fmt.percent(0.0442), "4.4 %"),
        (fmt.percent(0.0031), "0.31 %"),
        (fmt.percent(0), "0 %"),
        (fmt.percent(1), "100 %"),
        (fmt.milliseconds(0.4213), "0.421 ms"),
        (fmt.milliseconds(1210), "1.21 s"),
        (fmt.duration(0.83), "0.83 s"),
        (fmt.duration(45), "45 s"),
        (fmt.duration(300), "5 min"),
        (fmt.duration(270), "4 min 30 s"),
        (fmt.duration(4200), "1 h 10 min"),
        (fmt.span(120, 180), "120–180 s"),
        (fmt.dollars(0.0121), "$0.0121"),
        (fmt.dollars(12.3), "$12.30"),
        (fmt.plural(1, "host"), "1 host"),
        (fmt.plural(3, "host"), "3 hosts"),
        (fmt.listed(["a"]), "a"),
        (fmt.listed(["a", "b"]), "a and b"),
        (fmt.listed(list("abcdefgh")), "a, b, c and 5 more"),
        (fmt.listed([]), "none"),
        (fmt.value_with_unit(0.5, "ratio"), "50 %"),
        (fmt.value_with_unit(1234.0, "operations/s"), "1,234 operations/s"),
        (fmt.value_with_unit(3.0, "count"), "3"),
    ],
)
def test_numbers_are_written_as_people_read_them(text, expected):
    assert text == expected


@pytest.mark.parametrize(
    "function",
    [fmt.number, fmt.count, fmt.size, fmt.size_rate, fmt.percent, fmt.milliseconds, fmt.duration, fmt.dollars],
)
def test_what_is_not_known_is_never_a_zero(function):
    assert fmt.latency_range(837, 1140) == "0.837 to 1.14 s" and fmt.latency_range(3, 3) == "3 ms"
    assert fmt.latency_range(2.6, 2000) == "2.6 ms to 2 s"
    for unknown in (None, math.nan, math.inf):
        assert function(unknown) == fmt.UNKNOWN


def test_times_are_utc():
    start = datetime(2025, 11, 12, 23, 59, 30, tzinfo=UTC)
    assert fmt.moment(start) == "12 Nov 2025, 23:59:30 UTC"
    assert fmt.period(start, start + timedelta(seconds=20)) == "12 Nov 2025, 23:59:30–23:59:50 UTC"
    assert "13 Nov" in fmt.period(start, start + timedelta(minutes=2))
