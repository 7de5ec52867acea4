from __future__ import annotations

from datetime import timedelta

import pytest

from labtool.dataset import build, machine, tables


def test_a_row_a_second_of_the_window(run, began):
    at = began.timestamp()
    lines = [f"{at - 5},100,1000,0", f"{at},100,1200,0", f"{at + 1},250,1400,20", f"{at + 2},450,1600,20"]
    (run.raw / machine.FILE).write_text(
        "\n".join([*lines, f"{at + 2.5},450,1600,20", f"{at + 60},9,9,9", f"{at + 3},4"])
    )
    build.build_tables(run)
    rows = tables.read(run.tables, "machine").to_pylist()
    assert [(row["time"], row["busy"], row["stolen"]) for row in rows] == [
        (began, 0.0, 0.0),
        (began + timedelta(seconds=1), pytest.approx(0.75), pytest.approx(0.1)),
        (began + timedelta(seconds=2), pytest.approx(1.0), 0.0),
    ]


def test_one_that_was_not_recorded_has_no_table(run):
    build.build_tables(run)
    assert not tables.exists(run.tables, "machine")
