from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labtool.dataset import tables
from labtool.dataset.schema import TABLES
from labtool.errors import DataError, UsageError

NOW = datetime(2026, 7, 1, 12, 0, 0, 250_000, tzinfo=UTC)

VALUES = {
    "timestamp": st.datetimes(
        datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.sampled_from([UTC, timezone(timedelta(hours=5.5))])
    ),
    "string": st.text(st.characters(exclude_categories=["Cs"])),
    "double": st.none() | st.floats(allow_nan=False),
    "int64": st.none() | st.integers(-(2**53), 2**53),
    "bool": st.booleans(),
}


def rows_of(name):
    return st.lists(st.fixed_dictionaries({column.name: VALUES[column.type] for column in TABLES[name]}), max_size=8)


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_what_is_written_is_read(name, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    rows = data.draw(rows_of(name))
    assert tables.write(folder, name, rows) == len(rows)
    assert tables.exists(folder, name) == bool(rows)
    assert tables.read(folder, name).to_pylist() == rows


def test_an_empty_table_takes_the_old_one_away(tmp_path):
    tables.write(tmp_path, "observer", [{"host": "a"}])
    tables.write(tmp_path, "observer", [])
    assert list(tmp_path.iterdir()) == []
    assert tables.read(tmp_path, "observer").num_rows == 0


@pytest.mark.parametrize(
    "time", [NOW, "2026-07-01T12:00:00.250000+00:00", "2026-07-01T14:00:00.25+02:00", NOW.timestamp()]
)
def test_a_time_comes_in_three_forms(time):
    table = tables.to_arrow("clock", [{"time": time, "host": "h"}])
    assert table["time"].to_pylist() == [NOW]
    assert table["phase"].to_pylist() == [""]
    assert table["offset_s"].to_pylist() == [None]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"time": NOW, "host": 5}, "column host: expected string"),
        ({"time": datetime(2026, 7, 1), "host": "h"}, "a time without a zone"),
        ({"time": NOW, "host": "h", "samples": 1.5}, "column samples: expected int64"),
        ({"time": NOW, "host": "h", "samples": True}, "column samples: expected int64"),
        ({"time": NOW, "host": "h", "offset_s": "0.1"}, "column offset_s: expected double"),
        ({"time": NOW, "hots": "h"}, "a column 'hots' that the table does not know"),
        ({"host": "h"}, "row 1 of table clock has no time"),
    ],
)
def test_a_wrong_row_is_named(row, told):
    good = {"time": NOW, "host": "h"}
    with pytest.raises(DataError) as caught:
        tables.to_arrow("clock", [good, row], "parser.py")
    assert told in caught.value.message
    assert caught.value.message.startswith("parser.py: row 1")


def test_an_unknown_table_or_column_gives_the_nearest(tmp_path):
    with pytest.raises(UsageError, match="unknown table: host_metric") as caught:
        tables.read(tmp_path, "host_metric")
    assert "host_metrics" in (caught.value.hint or "")
    with pytest.raises(UsageError, match="column"):
        tables.read(tmp_path, "clock", only=["offset"])


def test_some_columns_alone(tmp_path):
    tables.write(tmp_path, "clock", [{"time": NOW, "host": "h", "offset_s": 0.5}])
    assert tables.read(tmp_path, "clock", only=["host", "offset_s"]).to_pylist() == [{"host": "h", "offset_s": 0.5}]


def test_a_bad_file_is_named(tmp_path):
    file = tables.path(tmp_path, "clock")
    file.write_bytes(b"PAR1 cut")
    with pytest.raises(DataError, match="no Parquet file, or was cut"):
        tables.read(tmp_path, "clock")
    pq.write_table(pa.table({"time": [1]}), file)
    with pytest.raises(DataError, match=r"column time: expected timestamp\[us, tz=UTC\], found int64"):
        tables.read(tmp_path, "clock")
    pq.write_table(tables.arrow_schema("clock").empty_table().drop_columns(["host"]), file)
    with pytest.raises(DataError, match="column host"):
        tables.read(tmp_path, "clock")


def test_a_table_whose_writing_fails_leaves_the_old_one(tmp_path):
    tables.write(tmp_path, "observer", [{"host": "old"}])
    with pytest.raises(RuntimeError), tables.writer(tmp_path, "observer") as append:
        append(tables.to_arrow("observer", [{"host": "new"}]))
        raise RuntimeError
    assert tables.read(tmp_path, "observer", only=["host"]).to_pylist() == [{"host": "old"}]
    assert [path.name for path in tmp_path.iterdir()] == ["observer.parquet"]
