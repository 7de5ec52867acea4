from __future__ import annotations

import math
import sqlite3
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labtool.localcloud.cloudwatch.store import Datum, Metric, Store, weighted_percentile

CPU = Metric("AWS/EC2", "CPUUtilization", (("InstanceId", "i-1"),))
BASE = 1_700_000_040 // 60 * 60


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "metrics.sqlite")
    yield made
    made.close()


def value(metric, when, number, **more):
    return Datum(metric, when, number, number, number, 1.0, values=((number, 1.0),), **more)


points = st.lists(
    st.tuples(st.integers(0, 3599), st.floats(-1e6, 1e6), st.sampled_from([1, 60])), min_size=1, max_size=60
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(points, st.sampled_from([60, 120, 300, 900]), st.integers(0, 10))
def test_reading_is_the_statistics_of_what_was_put(tmp_path_factory, points, period, offset):
    store = Store(tmp_path_factory.mktemp("store") / "metrics.sqlite")
    store.put([value(CPU, BASE + at, number, resolution=step) for at, number, step in points])
    start = BASE + offset * 60
    series = store.read(CPU, start, BASE + 3600, period)
    expected: dict[int, list[float]] = {}
    for at, number, step in points:
        when = BASE + at // step * step
        if when >= start:
            expected.setdefault(start + (when - start) // period * period, []).append(number)
    assert list(series.times) == sorted(expected)
    for index, slot in enumerate(series.times):
        numbers = expected[slot]
        assert series.counts[index] == len(numbers)
        assert series.mins[index] == min(numbers)
        assert series.maxs[index] == max(numbers)
        assert math.isclose(series.sums[index], math.fsum(numbers), rel_tol=1e-9, abs_tol=1e-3)
    store.close()


def test_average_is_sum_by_count(store):
    store.put([Datum(CPU, BASE, 10.0, 1.0, 4.0, 4.0)])
    assert store.read(CPU, BASE, BASE + 60, 60).statistic("Average") == [2.5]


def test_windows_include_their_start_and_not_their_end(store):
    store.put([value(CPU, BASE + 60 * i, float(i)) for i in range(5)])
    assert store.read(CPU, BASE + 60, BASE + 180, 60).times == (BASE + 60, BASE + 120)


def test_metrics_are_kept_apart_by_dimensions_and_unit(store):
    other = Metric("AWS/EC2", "CPUUtilization", (("InstanceId", "i-2"),))
    store.put([value(CPU, BASE, 1.0), value(other, BASE, 2.0), value(CPU, BASE, 5.0, unit="Percent")])
    assert store.read(other, BASE, BASE + 60, 60).sums == (2.0,)
    assert store.read(CPU, BASE, BASE + 60, 60, "Percent").sums == (5.0,)
    assert store.read(CPU, BASE, BASE + 60, 60).counts == (2.0,)


def test_another_process_finds_what_was_stored(tmp_path):
    first = Store(tmp_path / "m.sqlite")
    first.put([value(CPU, BASE, 7.0)])
    second = Store(tmp_path / "m.sqlite")  # the first is not closed: its process was killed
    assert second.read(CPU, BASE, BASE + 60, 60).sums == (7.0,)
    assert second.metrics() == [CPU]


def test_nothing_is_stored_of_a_batch_with_a_wrong_datum(store):
    def batch():
        yield value(CPU, BASE, 1.0)
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        store.put(batch())
    assert store.count() == 0


def test_metrics_are_found_by_name_and_dimension(store):
    disk = Metric("AWS/EC2", "DiskReadOps", (("InstanceId", "i-1"), ("Volume", "v")))
    mine = Metric("mine", "x", ())
    store.put([value(m, BASE, 1.0) for m in (CPU, disk, mine)])
    assert store.metrics("AWS/EC2") == [CPU, disk]
    assert store.metrics(name="x") == [mine]
    assert store.metrics(dimensions=[("Volume", None)]) == [disk]
    assert store.metrics(dimensions=[("InstanceId", "i-2")]) == []
    assert store.metrics(since=BASE + 60) == []


def test_retention_merges_old_points_and_loses_no_sum(store):
    now = BASE + 100 * 86400
    times = [now - 20 * 86400 + 60 * i for i in range(10)] + [now - 4 * 3600 + i for i in range(120)]
    store.put([value(CPU, when, 1.0, resolution=1 if when > now - 86400 else 60) for when in times])
    before = store.read(CPU, BASE, now, 3600)
    store.expire(now)
    after = store.read(CPU, BASE, now, 3600)
    assert sum(after.counts) == sum(before.counts) == 130
    assert store.count() < 10  # from 130 rows: 5-minute points of the old ones, minutes of the young
    store.expire(now)
    assert sum(store.read(CPU, BASE, now, 3600).counts) == 130


def test_the_oldest_points_go_and_metrics_without_any_with_them(store):
    now = BASE + 500 * 86400
    store.put([value(CPU, BASE, 1.0)])
    store.expire(now)
    assert store.count() == 0
    assert store.metrics() == []
    store.put([value(CPU, now, 2.0)])  # and it can come again
    assert store.read(CPU, now, now + 60, 60).sums == () or store.count() == 1


numbers = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50)


@given(numbers, st.floats(0, 100))
def test_percentiles_lie_where_the_definition_says(numbers, rank):
    found = weighted_percentile([(n, 1.0) for n in numbers], rank)
    ordered = sorted(numbers)
    position = (len(ordered) - 1) * rank / 100
    low, high = ordered[math.floor(position)], ordered[math.ceil(position)]
    assert low - 1e-6 <= found <= high + 1e-6
    expected = low + (high - low) * (position - math.floor(position))
    assert math.isclose(found, expected, rel_tol=1e-6, abs_tol=1e-6)


def test_the_median_of_counted_values():
    assert weighted_percentile([(1.0, 3.0), (10.0, 1.0)], 50) == 1.0
    assert weighted_percentile([(1.0, 1.0), (2.0, 1.0)], 50) == statistics.median([1, 2])


def test_percentiles_need_the_single_values(store):
    store.put([Datum(CPU, BASE, 6.0, 1.0, 3.0, 3.0, values=((1.0, 1.0), (2.0, 1.0), (3.0, 1.0)))])
    store.put([value(CPU, BASE, 4.0)])  # added to the same minute: 1, 2, 3, 4
    assert store.percentile(CPU, BASE, BASE + 60, 60, 50) == ([BASE], [2.5])
    store.put([Datum(CPU, BASE + 60, 6.0, 1.0, 3.0, 3.0)])  # a statistic set: who knows
    assert store.percentile(CPU, BASE, BASE + 120, 60, 50)[0] == [BASE]


def test_reading_costs_by_the_window_and_not_by_the_store(store):
    """The plan is a search on the primary key; a scan would read everything."""
    store.put([value(CPU, BASE, 1.0)])
    from labtool.localcloud.cloudwatch import store as module

    connection = sqlite3.connect(store._file)
    for statement, parameters in ((module._READ, 5), (module._READ_SLOTS, 9), (module._READ_SPREADS, 9)):
        plan = " ".join(row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + statement, (0,) * parameters))
        assert "SEARCH datum USING PRIMARY KEY (metric=? AND time>? AND time<?)" in plan
