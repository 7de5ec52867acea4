from __future__ import annotations

import pytest
from small_spark import application, task

from labtool.analysis.stragglers import UNEXPLAINED, by_cause, stragglers

USUAL = {"cpu": 1.0, "input_bytes": 1e6, "records": 100.0}


def found(slow, *, others=USUAL, usual=8, executors=(("0", 1),), **app):
    rows = [task(0, float(i), 1.0, **others) for i in range(usual)] + slow
    return stragglers(application(rows, executors=executors, **app))


@pytest.mark.parametrize(
    ("more", "cause", "share"),
    [
        ({"input_bytes": 3.5e6}, "data", 0.625),
        ({"gc": 3.0}, "gc", 0.75),
        ({"fetch_wait": 3.0}, "shuffle wait", 0.75),
        ({"shuffle_write": 2.5}, "shuffle write", 0.625),
        ({"scheduler_delay": 1.5, "getting_result": 1.5}, "scheduler", 0.75),
        ({"deserialize": 4.0}, "deserialise", 1.0),
        ({"disk_spilled_bytes": 5e6}, "spill", None),
        ({"remote": True}, "locality", None),
        ({"cpu": 4.0}, "computing", None),
        ({}, UNEXPLAINED, None),
    ],
)
def test_a_cause_explains_at_least_half_of_the_excess(more, cause, share):
    (one,) = found([task(0, 8.0, 5.0, **(USUAL | more))])
    assert (one.cause, one.excess_s, one.times) == (cause, pytest.approx(4.0), pytest.approx(5.0))
    assert one.share == (None if share is None else pytest.approx(share))


def test_less_than_half_explains_nothing():
    (one,) = found([task(0, 8.0, 5.0, **(USUAL | {"gc": 1.9}))])
    assert one.cause == UNEXPLAINED


def test_more_data_come_before_what_more_data_bring():
    (one,) = found([task(0, 8.0, 5.0, **(USUAL | {"input_bytes": 4e6, "gc": 4.0}))])
    assert one.cause == "data" and one.evidence == "read 4 MB, the median task 1 MB"


def test_without_bytes_records_tell():
    usual = {"cpu": 1.0, "records": 100.0}
    (one,) = found([task(0, 8.0, 5.0, cpu=5.0, records=500.0)], others=usual)
    assert one.cause == "data" and one.evidence == "read 500 records, the median task 100 records"


def test_the_first_tasks_of_every_executor():
    rows = [task(0, 0.0, 3.0, name, **USUAL) for name in ("0", "1")]
    rows += [task(0, 3.0 + i, 1.0, name, **USUAL) for i in range(5) for name in ("0", "1")]
    one, other = stragglers(application(rows, executors=(("0", 1), ("1", 1))))
    assert one.cause == other.cause == "first wave"
    assert one.evidence == "the first tasks of all executors took 3 times as long as the others"


def test_a_slow_host_is_one_whose_other_tasks_are_slow_too():
    rows = [task(0, float(i), 1.0, "0", **USUAL) for i in range(9)]
    rows += [task(0, 2.0 * i, 1.4, "1", **USUAL) for i in range(4)] + [task(0, 9.0, 3.0, "1", **USUAL)]
    (one,) = stragglers(application(rows, executors=(("0", 1), ("1", 1))))
    assert one.cause == "slow host"
    assert one.evidence == "other tasks of host-1 took 1.4 times as long as those of the other hosts"


def test_causes_are_told_by_what_they_cost():
    slow = [task(0, 8.0, 5.0, **(USUAL | {"gc": 4.0})), task(0, 13.0, 8.0, **USUAL)]
    assert by_cause(found(slow)) == [("gc", 1, pytest.approx(4.0)), (UNEXPLAINED, 1, pytest.approx(7.0))]


def test_tasks_that_are_alike_have_none():
    assert found([]) == []
