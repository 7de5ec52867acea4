from __future__ import annotations

import threading

import pytest
from fake import VirtualClock

from labtool.cloud import clock, parallel


def test_answers_come_in_the_order_of_the_items():
    assert parallel.each(lambda n: n * n, range(50)) == [n * n for n in range(50)]
    assert parallel.each(lambda n: n, []) == []


def test_after_an_error_nothing_new_is_begun():
    begun, wait = [], threading.Event()

    def work(number):
        begun.append(number)
        if number == 0:
            raise ValueError
        wait.wait(0.2)

    with pytest.raises(ValueError):
        parallel.each(work, range(100), width=2)
    assert len(begun) < 10


def test_a_pace_lets_a_burst_through_and_then_so_many_a_second(monkeypatch):
    virtual = VirtualClock()
    monkeypatch.setattr(clock, "monotonic", virtual.monotonic)
    monkeypatch.setattr(clock, "sleep", virtual.sleep)
    pace = parallel.Pace(5, 10)
    for _ in range(10):
        pace.wait()
    assert virtual.elapsed == 0
    for _ in range(50):
        pace.wait()
    assert virtual.elapsed == pytest.approx(10)
    virtual.sleep(100)
    before = virtual.elapsed
    for _ in range(11):
        pace.wait()
    assert virtual.elapsed - before == pytest.approx(0.2)
