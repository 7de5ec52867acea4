from __future__ import annotations

import json

import pytest

from labtool.dataset import tables, trace
from labtool.errors import DataError

FOUND = {
    "order": {"lines": 9},
    "broken": {"count": 1},
    "replayed": 8,
    "cut": 1,
    "lasts_s": 2.5,
    "cost": {"a": [1.5, 0, 2], "b": [3]},
}


@pytest.fixture
def raw(tmp_path):
    for number, left in ((1, 2), (2, 3)):
        folder = tmp_path / f"trace-replay/load-{number}"
        folder.mkdir(parents=True)
        (folder / "client-1.json").write_text(json.dumps({"start_us": number * 10**6, "trace_left": left}))
    (tmp_path / "trace-replay/trace.json").write_text(json.dumps(FOUND))
    return tmp_path


def test_counts_and_costs(raw):
    rows = trace.parse(raw, "trace-replay")["service_metrics"]
    assert tables.to_arrow("service_metrics", rows).num_rows == len(rows) == 9
    assert {row["metric"]: row["value"] for row in rows[:5]} == {
        "lines": 9, "broken": 1, "replayed": 8, "cut": 1, "left": 5,
    }  # fmt: skip
    assert [(row["time"], row["metric"], row["value"]) for row in rows[5:]] == [
        (2.0, "cost of a", 1.5),
        (3.0, "cost of a", 0.0),
        (4.0, "cost of a", 2.0),
        (2.0, "cost of b", 3.0),
    ]
    assert {row["time"] for row in rows[:5]} == {2.25}


def test_a_run_that_ended_before_it_began_has_none(raw, tmp_path):
    assert trace.parse(tmp_path / "elsewhere", "trace-replay") == {}
    for file in raw.glob("trace-replay/*/client-1.json"):
        file.unlink()
    assert trace.parse(raw, "trace-replay") == {}


@pytest.mark.parametrize("text", ["{", "[]", "{}"])
def test_a_file_that_is_none_is_named(raw, text):
    (raw / "trace-replay/trace.json").write_text(text)
    with pytest.raises(DataError, match=r"trace\.json"):
        trace.parse(raw, "trace-replay")
