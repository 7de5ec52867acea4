from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_requests import requests
from small_run import client, summary

from labtool.analysis.intervals import by_request, interval_width

NAME = "load-0/client-1"


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 30_000), st.integers(0, 2000)), min_size=1, max_size=50))
def test_what_was_due_is_offered_once(milliseconds):
    due, took = np.array(milliseconds, dtype=float).T / 1000
    single = requests(due, np.full(len(due), 1e-4), took)
    (one,), _ = by_request(single, (), (summary(name=NAME, role="client"),))
    assert float((one.offered * one.duration).sum()) == pytest.approx(len(due))
    assert float((one.rate * one.duration).sum()) <= len(due) + 1e-6
    assert (one.duration > 0).all() and (np.diff(one.end) > 0).all()


def test_whoever_named_a_rate_is_an_open_loop_however_punctual():
    single = requests(np.arange(100) / 10, np.zeros(100), np.full(100, 0.01))
    told = summary(name=NAME, role="client", offered=10.0)
    assert by_request(single, (), (told,))[1][0].offered == pytest.approx(10.0)
    assert by_request(single, (), ())[1][0].offered is None


def test_whoever_named_none_is_a_closed_loop_however_late():
    single = requests(np.arange(100) / 10, np.full(100, 1e-5), np.full(100, 0.01))
    told = summary(name=NAME, role="client", offered=None)
    assert by_request(single, (), (told,))[1][0].offered is None
    assert by_request(single, (), ())[1][0].offered == pytest.approx(10.0), "nobody said anything, and it was late"


def test_what_clients_say_beside_their_requests_is_kept():
    single = requests(np.arange(100) / 10, np.zeros(100), np.full(100, 0.01))
    other = client(5.0, name="load-0/consumer-1", role="consumer")
    clients, summaries = by_request(single, (other,), (summary(name=NAME, role="producer", bytes_rate=77.0),))
    assert [(one.name, one.role) for one in clients] == [("load-0/consumer-1", "consumer"), (NAME, "producer")]
    assert summaries[0].bytes_rate == 77.0


@pytest.mark.parametrize(("rate", "seconds", "width"), [(500, 20, 1.0), (10, 600, 10.0), (1, 60, 5.0), (1000, 1, 1.0)])
def test_an_interval_holds_enough_and_there_are_enough_of_them(rate, seconds, width):
    due = np.arange(rate * seconds + 1) / rate
    assert interval_width(requests(due, np.zeros(len(due)), np.zeros(len(due)))) == width
