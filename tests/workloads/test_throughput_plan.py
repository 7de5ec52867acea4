"""What kafka-throughput's playbook makes of its variables."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from tests.roles.modules import load

plan = load("playbooks/workloads/filter_plugins/throughput.py", "throughput_filters")


def test_a_topic_alone_has_no_number():
    assert plan.throughput_topics("t", 1) == ["t"]
    assert plan.throughput_topics("t", "3") == ["t-0", "t-1", "t-2"]


def test_settings_are_words():
    assert plan.throughput_settings(" linger.ms=5  a=b=c ") == {"linger.ms": "5", "a": "b=c"}
    assert plan.throughput_settings("") == {}
    with pytest.raises(AnsibleFilterError, match=r"'linger' is no setting"):
        plan.throughput_settings("linger 5")


def test_offsets_of_all_topics_are_kept_apart():
    removed = [{"topic": "t-0", "end_offsets": {"0": 3, "1": 4}}, {"topic": "t-1", "failed": True}]
    assert plan.throughput_offsets(removed) == {"t-0/0": 3, "t-0/1": 4}
    assert set(plan.FilterModule().filters()) == {"throughput_topics", "throughput_settings", "throughput_offsets"}
