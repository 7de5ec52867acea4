from __future__ import annotations

from datetime import timedelta

import pytest

from labtool.cloud import clock
from labtool.cloud.journal import FILE, SETTLED, Journal

REQUEST = {
    "ClientToken": "t",
    "TagSpecifications": [
        {
            "ResourceType": "instance",
            "Tags": [{"Key": "labtool:group", "Value": "web"}, {"Key": "labtool:indexes", "Value": "0-1 4"}],
        }
    ],
}


@pytest.fixture
def at(monkeypatch):
    start = clock.now()

    def go(seconds):
        monkeypatch.setattr(clock, "now", lambda: start + timedelta(seconds=seconds))

    go(0)
    return go


def test_what_is_asked_is_on_disk_before_the_call_and_what_it_made_after_it(tmp_path, at):
    journal = Journal(tmp_path)
    journal.begin()
    call = journal.asking(REQUEST)
    assert [c.request for c in Journal(tmp_path).open] == [REQUEST]
    assert call.hosts == {"web-0", "web-1", "web-4"}
    journal.made(call, ["i-1", "i-2", "i-4"])
    again = Journal(tmp_path)
    assert again.open == [] and again.ids == {"i-1", "i-2", "i-4"}


def test_a_refused_call_is_forgotten_and_a_new_launch_keeps_the_young_ones(tmp_path, at):
    journal = Journal(tmp_path)
    journal.begin()
    journal.drop(journal.asking(REQUEST))
    assert journal.calls == []
    journal.made(journal.asking(REQUEST), ["i-1"])
    at(100)
    journal.begin()
    assert journal.ids == {"i-1"}
    at(1000)
    journal.begin()
    assert journal.ids == set()


def test_it_is_unsure_while_no_group_is_known_and_settled_after_a_minute(tmp_path, at):
    journal = Journal(tmp_path)
    assert journal.settled() and not journal.exists and not journal.unsure
    journal.begin()
    assert Journal(tmp_path).unsure and not Journal(tmp_path).settled()
    journal.uses(group="sg-1")
    journal.uses(placement="p")
    again = Journal(tmp_path)
    assert not again.unsure and again.groups == {"sg-1"} and again.placements == {"p"}
    at(SETTLED.total_seconds() + 1)
    assert Journal(tmp_path).settled()
    journal.forget()
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"launches": [], "requests": []}', '{"touched": 3, "calls": 4}'])
def test_a_file_that_was_cut_means_that_something_may_be_there(tmp_path, at, text):
    (tmp_path / FILE).write_text(text)
    journal = Journal(tmp_path)
    assert journal.unsure and not journal.settled() and journal.calls == []
