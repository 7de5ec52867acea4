"""The decider's window and the check that follows an update, without Spark, Kafka or a host."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.roles.modules import load, load_kafka_utils

window = load("playbooks/files/front/decider/window.py", "front_window")
load_kafka_utils()
following = load("playbooks/library/front_round_trip.py")

REWARDS = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9)), min_size=1, max_size=20)


@given(REWARDS)
def test_the_highest_mean_is_decided(updates):
    kept = window.Window(60)
    for at, (decision, reward) in enumerate(updates):
        kept.take(1000 + at, [window.Sum("g", decision, reward, 1)])
    (made,) = kept.decisions(["g"])
    means = {
        name: sum(reward for one, reward in updates if one == name) / sum(one == name for one, _ in updates)
        for name in {one for one, _ in updates}
    }
    assert made["mean"] == pytest.approx(max(means.values()))
    assert means[made["decision"]] == pytest.approx(made["mean"])


def test_what_is_older_than_the_window_counts_no_more():
    kept = window.Window(60)
    kept.take(1000, [window.Sum("g", "old", 9, 1)])
    kept.take(1059, [window.Sum("g", "new", 1, 1), window.Sum("h", "x", 1, 2)])
    assert [(one["group"], one["decision"]) for one in kept.decisions(["h", "g"])] == [("g", "old"), ("h", "x")]
    kept.take(1060, [window.Sum("g", "new", 2, 1)])
    assert kept.decisions(["g"]) == [{"group": "g", "decision": "new", "mean": 1.5, "updates": 2}]
    kept.take(2000, [])
    assert kept.decisions(["g"]) == [], "a group without an update has no decision"


def test_the_decision_that_is_waited_for():
    made = [b"no json", b"[1]", json.dumps({"group": "g", "decision": "a"}).encode()]
    assert following.decided(made, "g", "a")
    assert not following.decided(made, "g", "b")


def test_a_step_that_is_not_done_is_named():
    with pytest.raises(following.StuckError, match=r"nothing came \(after 0 s\)"):
        following.awaited(lambda: False, 0, lambda: "nothing came")
    with pytest.raises(following.StuckError, match=r"http://127\.0\.0\.1:1/ does not answer"):
        following.post("http://127.0.0.1:1/", method="update")
