from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from labtool.dataset import query, tables
from labtool.dataset.run import RunDirectory
from labtool.dataset.schema import TABLES
from labtool.errors import DataError


@pytest.fixture
def filled(run, began):
    rows = [{"time": began + timedelta(seconds=n), "host": "a'b", "offset_s": n / 2} for n in range(4)]
    tables.write(run.tables, "clock", rows)
    return run


def test_every_table_is_a_view_and_an_absent_one_is_empty(filled):
    connection = query.connect(filled)
    for name, columns in TABLES.items():
        found = connection.execute(f"select * from {name}")
        assert [column[0] for column in found.description] == [column.name for column in columns]
        assert len(found.fetchall()) == (4 if name == "clock" else 0)


def test_times_are_utc_and_can_be_read_without_a_zone_database(filled, began):
    first, span = query.connect(filled).execute("select min(time), max(time) - min(time) from clock").fetchone()
    assert first == datetime(2026, 11, 21, 8, 7, 48)
    assert span == timedelta(seconds=3)


def test_several_runs_are_told_apart(filled, tmp_path):
    other = RunDirectory(tmp_path / "o'ther")
    tables.write(other.tables, "clock", [{"time": 0, "host": "c"}])
    connection = query.connect_runs({"one": filled, "it's": other})
    assert connection.execute("select run, count(*) from clock group by 1 order by 1").fetchall() == [
        ("it's", 1),
        ("one", 4),
    ]
    with pytest.raises(DataError, match="no run"):
        query.connect_runs({})


def test_a_bad_file_is_named_before_it_is_queried(filled):
    tables.path(filled.tables, "clock").write_bytes(b"cut")
    with pytest.raises(DataError, match=r"clock\.parquet"):
        query.connect(filled)
