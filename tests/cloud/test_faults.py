"""Whatever fails and whenever labtool dies: after `down` nothing is left, and no two hosts ever had one name.

A few of the thousand stories that `benchmarks/faults.py` plays.
"""

from __future__ import annotations

import random

import pytest
from fake import story
from fake.account import install
from fake.aws import FAULTS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

places = st.one_of(st.integers(0, 39), st.sampled_from(story.RISKY))
faults = st.lists(st.tuples(places, st.sampled_from(FAULTS)), max_size=4).map(tuple)
counts = st.integers(1, 3)
ups = st.builds(
    story.Step,
    command=st.just("up"),
    groups=st.dictionaries(st.sampled_from(("kafka", "load", "web")), counts, min_size=1, max_size=2).map(
        lambda groups: tuple(groups.items())
    ),
    faults=faults,
    pause=st.sampled_from((0.0, 1.0, 20.0, 100.0)),
    placement=st.sampled_from((None, "cluster", "spread", "partition")),
    spot=st.booleans(),
)
downs = st.builds(
    story.Step,
    command=st.just("down"),
    groups=st.just(()),
    faults=faults,
    pause=st.sampled_from((0.0, 20.0)),
    placement=st.none(),
    spot=st.just(False),
)
stories = st.builds(
    story.Story,
    steps=st.tuples(st.lists(ups, min_size=1, max_size=2), st.lists(downs, max_size=1)).map(lambda t: (*t[0], *t[1])),
    lag=st.sampled_from((0.0, 3.0, 12.0, 30.0)),
    throttle=st.booleans(),
    no_capacity=st.frozensets(st.sampled_from(("us-east-1a", "us-east-1b", "us-east-1c"))),
    seed=st.integers(0, 1 << 30),
)


@pytest.mark.slow
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(story=stories)
def test_nothing_is_ever_left(account, monkeypatch, story):
    told = tell(account, monkeypatch, story)
    assert told.wrong == [], told.outcomes


CALLS = 65  # of the launch below; half of them are asked again, since the API knows things late


def launch_that_fails_at(call, kind):
    first = story.Step("up", (("kafka", 2),), ((call, kind),), placement="spread")
    return story.Story((first,), lag=30.0, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["crash-after", "timeout-after"])
@pytest.mark.parametrize("call", range(CALLS))
def test_each_call_of_a_launch_may_be_the_last(account, monkeypatch, call, kind):
    """Every call of `up` in turn, with an API that knows things half a minute late, and `down` at once."""
    told = tell(account, monkeypatch, launch_that_fails_at(call, kind))
    assert told.wrong == [], told.outcomes
    assert told.faults[kind] == 1


@pytest.mark.slow
def test_a_launch_has_no_more_calls_than_those(account, monkeypatch):
    told = tell(account, monkeypatch, launch_that_fails_at(CALLS, "crash-after"))
    assert (told.outcomes, told.faults["crash-after"]) == (["done", "done"], 0)


@pytest.mark.slow
def test_stories_do_meet_what_they_are_about(account, monkeypatch):
    """The made-up stories do kill, interrupt and throttle, and some launches succeed."""
    outcomes, faulty = set(), set()
    for seed in range(12):
        told = tell(account, monkeypatch, story.random_story(random.Random(seed)))
        outcomes |= set(told.outcomes)
        faulty |= set(told.faults)
    assert {"done", "killed", "interrupted"} <= outcomes
    assert len(faulty) > len(FAULTS) / 2


def tell(account, monkeypatch, one):
    with monkeypatch.context() as patch:
        return story.tell(account, one, patch.setattr, install)
